"""Evaluation in a process of its own, on a saved checkpoint, while training goes on.

The process holds the simulators (in processes of their own) from the first evaluation to the last. One evaluation at
a time; of those that wait, the newest wins. A simulator that crashes costs one evaluation, never the training.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .checkpoint import load_policy
from .envs.workers import Worker, WorkerDied, tell
from .evaluate import EvalResult, run_episodes
from .protocol.errors import PidecError
from .stopping import StopRequest

NICENESS = 5  # on a machine with few cores, the trainer keeps its own; much more, and others would starve it
MAX_FAILURES = 2  # in a row; then an evaluation is given up
# Without an episode that ended: a simulator hangs, and the last evaluation would keep the GPU for ever.
SILENCE_SECONDS = 3600.0
_LOOK_SECONDS = 0.05  # `poll` looks no more often than this: it is called in every iteration
_WAIT_SECONDS = 0.1  # how soon `wait` notices a stop request
_SERVER = f"{__name__}:EvalServer"


@dataclass(frozen=True)
class Begun:
    """An evaluation has begun."""

    step: int
    path: Path
    episodes: int


@dataclass(frozen=True)
class Progress:
    """`over` of its `episodes` are over (none again after a failure)."""

    step: int
    over: int
    episodes: int


@dataclass(frozen=True)
class Failed:
    """The process failed and will be started anew; `step` (None: nothing was asked of it) is evaluated again."""

    step: int | None
    error: str


@dataclass(frozen=True)
class Finished:
    """An evaluation is over, or given up.

    Attributes:
        result: None if it was given up.
        error: why it was given up, in one line; else "".
        seconds: wall clock since it began, with what a failed attempt cost.
    """

    step: int
    path: Path
    result: EvalResult | None
    error: str
    seconds: float


Note = Begun | Progress | Failed | Finished


@dataclass
class _Task:
    step: int
    path: Path
    stock: bool = False
    keep_seeds: tuple[int, ...] = ()
    began: float | None = None


class EvaluationBeside:
    """Evaluates checkpoints beside the training. The process is started at once: it takes seconds to be ready.

    Nothing here blocks but `wait`. Call `poll` and `check` now and then, and `close` at the end.

    Args:
        env_id, control_mode, max_episode_steps: the task.
        obs_dim, act_dim, obs_horizon, act_horizon: of the policy.
        num_envs: simulators at once.
        num_episodes, base_seed: see `run_episodes`.
        device: where the policy runs in the other process, "cpu" or "cuda".
        env_backend: simulators of all evaluations that are not asked for on ManiSkill's own.

    Raises:
        PidecError: ManiSkill is not installed.
    """

    def __init__(
        self,
        *,
        env_id: str,
        control_mode: str,
        obs_dim: int,
        act_dim: int,
        obs_horizon: int,
        act_horizon: int,
        num_envs: int,
        num_episodes: int,
        max_episode_steps: int | None,
        base_seed: int,
        device: str,
        env_backend: str = "stock",
    ) -> None:
        if importlib.util.find_spec("mani_skill") is None:
            raise PidecError("evaluation needs ManiSkill, which is not installed", "Install it, or use --eval-freq 0.")
        self._kwargs: dict[str, Any] = {
            "env_id": env_id,
            "control_mode": control_mode,
            "obs_dim": obs_dim,
            "act_dim": act_dim,
            "obs_horizon": obs_horizon,
            "act_horizon": act_horizon,
            "num_envs": num_envs,
            "num_episodes": num_episodes,
            "max_episode_steps": max_episode_steps,
            "base_seed": base_seed,
            "device": device,
            "env_backend": env_backend,
        }
        self._num_episodes = num_episodes
        self._running: _Task | None = None  # begun; stays over a restart of the process
        self._waiting: _Task | None = None
        self._worker: Worker | None = None
        self._asked = ""  # what the process works on: "start", "evaluate" or nothing
        self._was_up = False
        self._failures = 0  # in a row
        self._refusal: PidecError | None = None
        self._looked = 0.0
        self._heard = time.monotonic()  # when the process last gave a sign of life, or was given work
        self._start()

    @property
    def busy(self) -> bool:
        """Whether an evaluation runs or waits."""
        return bool(self._running or self._waiting)

    @property
    def works(self) -> bool:
        """Whether the process takes its share of the machine: it evaluates, or starts its simulators."""
        return bool(self._asked)

    def check(self) -> None:
        """Raises:
        PidecError: the task does not exist or cannot be made, or its sizes are not the policy's (`poll` finds out).
        """
        if self._refusal:
            raise self._refusal

    def request(self, path: Path, step: int, *, stock: bool = False, keep_seeds: Sequence[int] = ()) -> int | None:
        """Evaluate the averaged weights of this checkpoint, as soon as the process is free.

        Args:
            stock: in ManiSkill's own simulators, whatever `env_backend` says.
            keep_seeds: episodes to keep for watching besides the first failed and the first successful one.

        Returns:
            Step of the one that waited and will not be evaluated because of this newer one; None: none did.
        """
        replaced, self._waiting = self._waiting, _Task(step, path, stock, tuple(keep_seeds))
        return replaced.step if replaced else None

    def poll(self) -> list[Note]:
        """What has happened since the last call, oldest first."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return []
        self._looked = time.monotonic()
        return self._look()

    def wait(self, stop: StopRequest, what: str = "") -> Iterator[Note]:
        """Go on until nothing runs or waits; gives what `poll` gives, as it happens.

        Args:
            what: is left behind by a stop (see `StopRequest.check`).

        Raises:
            PidecError: see `check`.
            Stopped: `stop` was requested.
        """
        while self.busy:
            stop.check(what)
            self.check()
            yield from self._look()
            if self._worker and self._asked:
                self._worker.has_answer(_WAIT_SECONDS)

    def close(self) -> None:
        """End the process and its simulators, in the middle of an episode too. Drops what runs and waits."""
        if self._worker:
            self._worker.close()
        self._worker, self._asked, self._running, self._waiting = None, "", None, None

    def _start(self) -> list[Note]:
        try:
            self._worker = Worker(_SERVER, "evaluation process", self._kwargs)
        except OSError as error:  # such as no memory for another process
            return self._fail(WorkerDied(f"the evaluation process cannot be started: {error}"), "start")
        return self._ask("start")

    def _ask(self, method: str, *arguments: Any) -> list[Note]:
        assert self._worker
        try:
            self._worker.send(method, *arguments)
        except WorkerDied as error:
            return self._fail(error, method)
        self._asked, self._heard = method, time.monotonic()
        return []

    def _look(self) -> list[Note]:
        notes: list[Note] = []
        if self._refusal:
            return notes
        if self._worker is None and self.busy:
            notes += self._start()
        if self._worker and self._asked:
            if self._worker.has_answer():
                notes += self._hear()
            elif self._running and self._worker.told:
                notes.append(Progress(self._running.step, self._worker.told[-1], self._num_episodes))
                self._worker.told.clear()
                self._heard = time.monotonic()
            elif time.monotonic() - self._heard > SILENCE_SECONDS:
                silence = f"no episode has ended for {SILENCE_SECONDS / 60:.0f} minutes"
                notes += self._fail(WorkerDied(f"the evaluation process hangs: {silence}"), self._asked)
        if self._worker and not self._asked:
            notes += self._give_work()
        return notes

    def _give_work(self) -> list[Note]:
        notes: list[Note] = []
        if self._running is None and self._waiting:
            self._running, self._waiting = self._waiting, None
            self._running.began = time.monotonic()
            notes.append(Begun(self._running.step, self._running.path, self._num_episodes))
        if self._running:
            task = self._running
            notes += self._ask("evaluate", str(task.path), task.stock, task.keep_seeds)
        return notes

    def _hear(self) -> list[Note]:
        assert self._worker
        asked, self._asked = self._asked, ""
        self._worker.told.clear()
        try:
            answer = self._worker.receive()
        except PidecError as error:
            return self._fail(error, asked)
        if asked == "start":
            self._was_up = True
            return []
        assert self._running
        task, self._running, self._failures = self._running, None, 0
        return [Finished(task.step, task.path, answer, "", _seconds(task))]

    def _fail(self, error: PidecError, asked: str) -> list[Note]:
        """The process is dead or of unknown state: it is started anew when there is something to do."""
        if self._worker:
            self._worker.close()
        self._worker, self._asked = None, ""
        if asked == "start" and not self._was_up and not isinstance(error, WorkerDied):
            self._refusal = error  # this task cannot be evaluated: better said now than after a night
            return []
        self._failures += 1
        task = self._running or self._waiting
        if task is None or self._failures < MAX_FAILURES:
            return [Failed(task.step if task else None, error.line())]
        self._failures = 0
        if self._running:
            self._running = None
        else:
            self._waiting = None
        return [Finished(task.step, task.path, None, error.line(), _seconds(task))]


def _seconds(task: _Task) -> float:
    return 0.0 if task.began is None else time.monotonic() - task.began


class EvalServer:
    """The process's side: simulators that stay, and a policy for each request.

    Args: see `EvaluationBeside`.

    Raises:
        PidecError: see `make_vector_env`, `WorkerVectorEnv.check_sizes`.
    """

    def __init__(
        self, *, obs_dim: int, act_dim: int, num_episodes: int, base_seed: int, device: str, **task: Any
    ) -> None:
        os.nice(NICENESS)  # the simulators' processes inherit it
        torch.set_num_threads(1)
        self._num_episodes, self._base_seed, self._device = num_episodes, base_seed, device
        self._sizes, self._task, self._backend = (obs_dim, act_dim), task, ""
        self._env: Any = None
        self._simulators(task["env_backend"])

    def _simulators(self, backend: str) -> Any:
        """Those of this kind; the others go, there is memory for one kind at a time."""
        from .envs.make import make_vector_env  # needs gymnasium: training without evaluation does not

        if self._backend != backend:
            if self._backend:
                self._env.close()
            self._backend = ""  # until there are others
            self._env = make_vector_env(**{**self._task, "env_backend": backend})
            self._env.check_sizes(*self._sizes)
            self._backend = backend
        return self._env

    def start(self) -> None:
        """Nothing: being here is all."""

    def evaluate(self, path: str, stock: bool, keep_seeds: Sequence[int]) -> EvalResult:
        """Episodes with the averaged weights in `path`; tells how many are over."""
        return run_episodes(
            load_policy(path, "ema_agent", self._device),
            self._simulators("stock" if stock else self._task["env_backend"]),
            num_episodes=self._num_episodes,
            base_seed=self._base_seed,
            keep_seeds=keep_seeds,
            progress=tell,
        )
