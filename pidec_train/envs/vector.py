"""Many environments in worker processes behind gymnasium's VectorEnv.

Each worker holds several environments. Numbers travel through shared memory; the pipe carries who does what next.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from ..protocol.errors import PidecError
from . import headless
from .shared import Shared, Sizes, map_memory, open_memory
from .workers import Worker, close_all

MAKE_ENV = "pidec_train.envs.make:make_env"
_NO_SEED = -1


class WorkerVectorEnv(VectorEnv):
    """`num_envs` environments, several per worker. Imports neither mani_skill nor sapien in the calling process.

    Without `autoreset`, nothing is reset unless asked: reset those that are over with
    `reset(seed=[...], options={"reset_mask": mask})`. With it, `step` gives the first observation of the next episode
    for those that are over (gymnasium's SAME_STEP), and infos["final_obs"] the last one of the episode before. Never
    NEXT_STEP: its step without an action, from one episode into the next, would end up in a replay buffer.

    `step` is `step_async` and `step_wait`, `step_wait` is `step_results` and `start_obs`. Workers step all their
    environments first and reset those that are over after, so what lies between the two costs no time while they reset.

    Args:
        act_horizon: length of the action chunks.
        num_workers: None: as many as there are cores.
        env_kwargs: arguments of the factory; `obs_horizon` must be among them.
        factory: "package.module:function" that gives one `ChunkedEnv`.

    Raises:
        PidecError: see `make_env`.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        act_horizon: int,
        num_workers: int | None,
        env_kwargs: dict[str, Any],
        autoreset: bool = False,
        factory: str = MAKE_ENV,
    ) -> None:
        if num_envs < 1:
            raise PidecError(f"num_envs {num_envs} must be at least 1")
        self.num_envs, self.autoreset = num_envs, autoreset
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP if autoreset else AutoresetMode.DISABLED}
        self.closed = False
        self._workers: list[Worker] = []
        self._pending: tuple[str, list[Worker]] = ("", [])  # what comes next, and from whom
        self._seed, self._episodes = 0, np.zeros(num_envs, np.int64)  # with autoreset
        if factory == MAKE_ENV:
            headless.has_render_device()  # asked once here, inherited by every worker
        count = min(num_envs, num_workers or _cores())
        # Environment i lives in worker i % count: those that are still busy late in an evaluation stay spread.
        self._envs_of = [np.arange(first, num_envs, count) for first in range(count)]
        memory = open_memory()
        try:
            for number, envs in enumerate(self._envs_of):
                kwargs = {"factory": factory, "envs": envs.tolist(), "env_kwargs": env_kwargs, "memory": memory}
                name = f"simulator worker {number}"
                self._workers.append(Worker(f"{__name__}:EnvServer", name, kwargs, pass_fds=[memory]))
            self.task = self._ask(self._workers, "describe")[0]
            sizes = Sizes(num_envs, env_kwargs["obs_horizon"], self.task.obs_dim, act_horizon, self.task.act_dim)
            self._shared = map_memory(memory, sizes)
            self._ask(self._workers, "share", sizes)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(memory)
        low, high = (np.tile(bound, (act_horizon, 1)) for bound in (self.task.action_low, self.task.action_high))
        history = (sizes.obs_horizon, sizes.obs_dim)
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, history, np.float32)
        self.single_action_space = gym.spaces.Box(low, high, dtype=np.float32)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start episodes: in all environments, or without autoreset in those of options["reset_mask"] (num_envs,) bool.

        Args:
            seed: without autoreset: one per environment (those outside the mask are not looked at), or one number s
                for s, s+1, … With autoreset: one number s (0 or more) for all episodes to come: the n-th one of
                environment i starts from a seed that follows from (s, i, n), whatever the number of workers.
            options: with autoreset, "episodes" (num_envs,): n of each environment's first episode; default 0.

        Returns:
            observations (num_envs, obs_horizon, obs_dim), infos: `success`, `success_at_end`, `env_steps`
            and with autoreset `episodes`, as in `step`.
        """
        options = options or {}
        self._expect("")
        mask = np.asarray(options.get("reset_mask", np.ones(self.num_envs, bool)), bool)
        if mask.shape != (self.num_envs,):
            raise ValueError(f"{self.num_envs} environments need as long a mask, not {mask.shape}")
        shared = self._shared
        if self.autoreset:
            if not isinstance(seed, (int, np.integer)) or seed < 0 or not mask.all():
                raise ValueError(f"with autoreset, all environments start from one number of 0 or more, not {seed}")
            self._seed = int(seed)
            self._episodes = np.array(options.get("episodes", np.zeros(self.num_envs)), np.int64)
            self._give_seeds(mask)
        else:
            shared.seeds[mask] = _seeds(seed, self.num_envs)[mask]
        shared.active[:] = mask
        for values in (shared.success, shared.success_at_end, shared.terminated, shared.truncated):
            values[mask] = False
        shared.env_steps[:], shared.episode_steps[mask] = 0, 0
        self._ask(self._with(mask), "reset")
        if self.autoreset:
            self._episodes += 1
            self._give_seeds(mask)
        return shared.observations.copy(), self._infos()

    def step(
        self, actions: NDArray[Any], active: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Execute a chunk of actions in the active environments.

        Args:
            actions: (num_envs, act_horizon, act_dim).
            active: (num_envs,) bool; None: all. The others return their last observation, reward 0, not over.

        Returns:
            observations (num_envs, obs_horizon, obs_dim); rewards (the chunk's sum), terminated, truncated (each
            (num_envs,)), of the episode that the actions belonged to; and infos of that episode:
            `success` (at any time so far), `success_at_end` (at the last step), `env_steps` (in this call),
            `episode_steps` (so far), `frames` (num_envs, act_horizon, obs_dim): the observation after each of this
            call's env steps, as many rows as there were. With autoreset also `final_obs` (num_envs, obs_horizon,
            obs_dim): the last observation where `_final_obs` (num_envs,) bool says that the episode is over, else 0;
            and `episodes` (num_envs,): how many each environment has begun, the new ones too.

        Raises:
            RunFailed: an action is not finite; a worker failed or died (it says which and with what last words).
        """
        self.step_async(actions, active)
        return self.step_wait()

    def step_async(self, actions: NDArray[Any], active: NDArray[Any] | None = None) -> None:
        """Begin a `step`: `actions` are copied, nothing is waited for. Raises as `step` does."""
        self._expect("")
        shared = self._shared
        if np.shape(actions) != shared.actions.shape:
            raise ValueError(f"actions must be {shared.actions.shape}, not {np.shape(actions)}")
        if self.autoreset:
            begun = shared.terminated | shared.truncated
            for values in (shared.success, shared.success_at_end, shared.episode_steps):
                values[begun] = 0
        shared.actions[:] = actions
        shared.active[:] = True if active is None else active
        for values in (shared.rewards, shared.terminated, shared.truncated, shared.env_steps):
            values[:] = 0
        workers = self._with(shared.active)
        self._send(workers, "step", self.autoreset)
        self._pending = ("results", workers)

    def step_results(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """What `step` returns but for the observations, as soon as it is there. `start_obs` must follow."""
        self._receive(self._expect("results"))
        shared, infos = self._shared, self._infos()
        infos["episode_steps"], infos["frames"] = shared.episode_steps.copy(), shared.frames.copy()
        over = shared.terminated | shared.truncated
        self._pending = ("observations", self._with(over) if self.autoreset else [])
        if self.autoreset:
            self._episodes[over] += 1
            infos["episodes"] = self._episodes.copy()  # with those that begin now
            infos["_final_obs"] = over
            infos["final_obs"] = np.where(over[:, None, None], shared.final_obs, np.float32(0))
        return shared.rewards.copy(), shared.terminated.copy(), shared.truncated.copy(), infos

    def start_obs(self) -> NDArray[Any]:
        """The observations (num_envs, obs_horizon, obs_dim) to act on next, when all resets are done."""
        self._receive(self._expect("observations"))
        self._pending = ("", [])
        if self.autoreset:  # only now: the workers have read those before
            self._give_seeds(self._shared.terminated | self._shared.truncated)
        return self._shared.observations.copy()

    def step_wait(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """What `step` returns, for the `step_async` before."""
        rewards, terminated, truncated, infos = self.step_results()
        return self.start_obs(), rewards, terminated, truncated, infos

    def check_sizes(self, obs_dim: int, act_dim: int) -> None:
        """Raises:
        PidecError: a policy of these sizes is of another task.
        """
        for name, ours, theirs in (("obs_dim", obs_dim, self.task.obs_dim), ("act_dim", act_dim, self.task.act_dim)):
            if ours != theirs:
                raise PidecError(
                    f"the demos or the checkpoint have {name} {ours}, but {self.task.env_id} with control mode "
                    f"{self.task.control_mode} has {name} {theirs}",
                    "Were they made with this task, in this version of ManiSkill?",
                )

    def memory(self) -> int:
        """Bytes of memory that the workers hold at the moment (resident set size)."""
        return sum(_resident(worker.pid) for worker in self._workers)

    def close_extras(self, **kwargs: Any) -> None:
        close_all(self._workers)
        self._workers = []

    def _expect(self, what: str) -> list[Worker]:
        """The workers that owe an answer, if `what` is the next thing to come."""
        if not self._workers:
            raise RuntimeError("the vector environment is closed")
        pending, workers = self._pending
        if pending != what:
            raise RuntimeError(f"{pending or 'nothing'} of a step is under way, not {what or 'nothing'}")
        return workers

    def _with(self, mask: NDArray[Any]) -> list[Worker]:
        """The workers that hold at least one of these environments."""
        return [worker for worker, envs in zip(self._workers, self._envs_of, strict=True) if mask[envs].any()]

    def _ask(self, workers: list[Worker], method: str, *arguments: Any) -> list[Any]:
        self._send(workers, method, *arguments)
        return self._receive(workers)

    def _send(self, workers: list[Worker], method: str, *arguments: Any) -> None:
        try:
            for worker in workers:
                worker.send(method, *arguments)
        except BaseException:  # as below
            self.close()
            raise

    def _receive(self, workers: list[Worker]) -> list[Any]:
        try:
            return [worker.receive() for worker in workers]
        except BaseException:  # answers are still under way: the workers cannot be used any more
            self.close()
            raise

    def _give_seeds(self, mask: NDArray[Any]) -> None:
        """With autoreset: of the next episode of each of these environments, a number below 2^31."""
        for i in np.flatnonzero(mask):
            sequence = np.random.SeedSequence((self._seed, int(i), int(self._episodes[i])))
            self._shared.seeds[i] = sequence.generate_state(1)[0] >> 1

    def _infos(self) -> dict[str, Any]:
        names = ("success", "success_at_end", "env_steps")
        infos: dict[str, Any] = {name: getattr(self._shared, name).copy() for name in names}
        if self.autoreset:
            infos["episodes"] = self._episodes.copy()
        return infos


class EnvServer:
    """The worker's side: some environments of one task.

    Args:
        envs: which rows of the shared arrays are theirs.
        memory: file descriptor of the shared memory.
    """

    _shared: Shared  # from `share` on

    def __init__(self, factory: str, envs: list[int], env_kwargs: dict[str, Any], memory: int) -> None:
        self._factory, self._kwargs, self._memory = factory, env_kwargs, memory
        module, _, function = factory.partition(":")
        make = getattr(importlib.import_module(module), function)
        self._envs = {i: make(**env_kwargs) for i in envs}
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other (twice as slow, measured)
        # ManiSkill collects garbage at every rebuild of a scene, which scans all of torch: 133 of 154 ms a reset.
        gc.collect()
        gc.freeze()

    def describe(self) -> Any:
        from .make import describe

        env_id, control_mode = (self._kwargs.get(key, self._factory) for key in ("env_id", "control_mode"))
        return describe(next(iter(self._envs.values())), env_id, control_mode)

    def share(self, sizes: Sizes) -> None:
        self._shared = map_memory(self._memory, sizes)
        os.close(self._memory)

    def reset(self) -> None:
        """Those that are active, from their seeds."""
        for i, env in self._envs.items():
            if self._shared.active[i]:
                self._reset(i, env)

    def step(self, autoreset: bool) -> Iterator[None]:
        """A chunk of those that are active; then, if asked, the next episode of those whose episode is over.

        Answers when all have stepped, and again when all are reset, if there are any to reset.
        """
        shared, over = self._shared, []
        for i, env in self._envs.items():
            if not shared.active[i]:
                continue
            observation, shared.rewards[i], shared.terminated[i], shared.truncated[i], info = env.step(
                shared.actions[i]
            )
            shared.observations[i] = shared.final_obs[i] = observation
            shared.frames[i, : info["env_steps"]] = info["frames"]
            for name in ("success", "success_at_end", "env_steps", "episode_steps"):
                getattr(shared, name)[i] = info[name]
            if shared.terminated[i] or shared.truncated[i]:
                over.append(i)
        yield
        if autoreset and over:
            for i in over:
                self._reset(i, self._envs[i])
            yield

    def _reset(self, i: int, env: gym.Env[Any, Any]) -> None:
        seed = int(self._shared.seeds[i])
        self._shared.observations[i] = env.reset(seed=None if seed == _NO_SEED else seed)[0]


def _seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> NDArray[Any]:
    """One per environment, as `reset` without autoreset understands it."""
    if isinstance(seed, (int, np.integer)):
        return int(seed) + np.arange(num_envs)
    if seed is None:
        return np.full(num_envs, _NO_SEED)
    if len(seed) != num_envs:
        raise ValueError(f"{num_envs} environments need as many seeds, not {len(seed)}")
    return np.array([_NO_SEED if one is None else one for one in seed])


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:  # it is gone: the next step says so
        return 0


def _cores() -> int:
    return len(os.sched_getaffinity(0))
