"""Collecting: all simulators take one decision step, and what they gave goes into the replay buffer."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .data.replay_buffer import Transitions
from .decorator_learner import DecoratorLearner
from .envs.make import make_vector_env
from .envs.vector import WorkerVectorEnv
from .metrics import MetricWriter
from .protocol import metric_names as names
from .protocol.config import DecoratorConfig
from .protocol.errors import RunFailed
from .stopping import StopRequest
from .time_shares import TimeShares

AT_ONCE = 32  # updates between two looks at whether the run shall stop
RECENT = 50  # finished episodes that the training success is about


class Rollouts:
    """The simulators of a run, and where they are.

    Args:
        config: of the run.
        control_mode: of the task.
        obs_horizon: of the base policy.
        writer: hears which simulators are used where that is not plain.

    Attributes:
        env: the simulators.
        backend: "fast" or "stock".
        recent: (success, env steps) of the last finished episodes.
        env_steps: simulator steps since `read`.
        on: share of simulators with the residual on, one entry a decision step since `read`.

    Raises:
        PidecError: see `make_vector_env`.
    """

    def __init__(self, config: DecoratorConfig, control_mode: str, obs_horizon: int, writer: MetricWriter) -> None:
        self.config, self.control_mode = config, control_mode
        self.backend = _backend(config, control_mode, writer)
        self.env: WorkerVectorEnv = make_vector_env(
            config.env_id,
            config.num_envs,
            control_mode=control_mode,
            obs_horizon=obs_horizon,
            act_horizon=config.act_horizon,
            max_episode_steps=config.max_episode_steps,
            num_workers=config.num_workers or _workers(config),
            autoreset=True,
            env_backend=self.backend,
        )
        self.time = TimeShares(
            lost=(names.TIME_SAVE_WAIT_RATIO, names.TIME_EVAL_WAIT_RATIO),
            spent=(names.TIME_ENV_WAIT_RATIO, names.TIME_UPDATE_RATIO),
        )
        self.recent: deque[tuple[bool, int]] = deque(maxlen=RECENT)
        self.env_steps = 0
        self.on: list[Tensor] = []
        self._obs_seq: NDArray[np.float32] = np.zeros(0, np.float32)
        self._base = torch.zeros(0)
        self._pool = ThreadPoolExecutor(1, "updates")

    def begin(self, learner: DecoratorLearner) -> None:
        """Start an episode in every simulator: those that come after the ones that the run has begun already."""
        self._obs_seq, infos = self.env.reset(seed=self.config.seed, options={"episodes": learner.episodes})
        learner.episodes = infos["episodes"]
        self._base = learner.acting.base_actions(_tensor(self._obs_seq, learner.device))

    def round(self, learner: DecoratorLearner, stop: StopRequest | None = None) -> None:
        """Decision steps up to the next multiple of `training_freq`, and the updates that belong to them.

        Where a dead simulator, or a `stop` that presses, ended it before that, the next call does the rest. Raises as
        `step` does.
        """
        steps, updates = self.config.training_freq // self.config.num_envs, self.config.updates_per_round
        begun = learner.step % self.config.training_freq // self.config.num_envs
        if begun == 0 and learner.owed:
            self._catch_up(learner, stop)
            return
        done = updates * begun // steps if self.config.overlap and learner.learns else 0
        for number in range(begun, steps):
            if stop and stop.presses:
                return
            beside = 0
            if self.config.overlap and learner.learns:
                beside = updates * (number + 1) // steps - updates * number // steps
            done += beside
            try:
                self.step(learner, updates=beside)
            except RunFailed:
                if number == steps - 1 and learner.learns:
                    learner.owed = updates - done
                raise
        if learner.learns:  # with `overlap`, those of the round in which learning starts
            learner.owed = updates - done
            self._catch_up(learner, stop)

    def _catch_up(self, learner: DecoratorLearner, stop: StopRequest | None) -> None:
        """The updates that are left of a round; none where a run goes on without the transitions they were about."""
        if not learner.learns:
            learner.owed = 0
        while learner.owed and not (stop and stop.presses):
            some = min(learner.owed, AT_ONCE)
            self._update(learner, some)
            learner.owed -= some

    def step(self, learner: DecoratorLearner, *, updates: int = 0) -> None:
        """One decision step of all simulators; `updates` are done while they step and the base policy acts.

        Raises:
            RunFailed: a simulator died, or an action was not finite.
        """
        obs = learner.see(_tensor(self._obs_seq[:, -1], learner.device))
        choice = learner.choose(obs, self._base)
        residual = choice.residual.clone()  # the next choice overwrites it
        self.on.append(choice.on.mean())
        shape = (self.config.num_envs, self.config.act_horizon, -1)
        self.env.step_async(choice.actions.view(shape).cpu().numpy())
        with self._updating_beside(learner, updates):
            with self.time.measure(names.TIME_ENV_WAIT_RATIO):
                rewards, terminated, truncated, infos = self.env.step_results()
                starts = self.env.start_obs()
            over = terminated | truncated
            # Where an episode is over, `starts` holds the next one's: what came after the action is its last frames.
            after = np.where(over[:, None, None], infos["final_obs"], starts)
            next_base, start_base = self._base_actions(learner, after, starts, over, self._stops(terminated, truncated))
        learner.remember(
            Transitions(
                obs=obs,
                next_obs=learner.see(_tensor(after[:, -1], learner.device)),
                residual=residual,
                base=self._base,
                next_base=next_base,
                # Negative until success: with a bootstrap at truncation this works best (upstream).
                reward=_tensor(rewards, learner.device) - 1.0,
                stop=_tensor(self._stops(terminated, truncated), learner.device),
            )
        )
        self._obs_seq, self._base = starts, start_base
        learner.episodes = infos["episodes"]
        self._count(infos, over)

    def _stops(self, terminated: NDArray[np.bool_], truncated: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Where the value of what comes after does not count."""
        how = self.config.bootstrap_at_done
        if how == "never":
            return terminated | truncated
        return np.zeros_like(terminated) if how == "always" else terminated

    def _base_actions(
        self,
        learner: DecoratorLearner,
        after: NDArray[np.float32],
        starts: NDArray[np.float32],
        over: NDArray[np.bool_],
        stops: NDArray[np.bool_],
    ) -> tuple[Tensor, Tensor]:
        """Base actions for the replay buffer (at `after`), and those to execute next (at `starts`), in one batch."""
        count = len(after)
        if not learner.needs_next_base:
            chosen = learner.acting.base_actions(_tensor(starts, learner.device))
            return torch.zeros_like(chosen), chosen
        if not self.config.reuse_base_action:
            both = learner.acting.base_actions(_tensor(np.concatenate((after, starts)), learner.device))
            return both[:count], both[count:]
        # What the replay buffer has for the next observation is executed, but where another episode has begun.
        apart = np.flatnonzero(over & ~stops)
        both = learner.acting.base_actions(_tensor(np.concatenate((starts, after[apart])), learner.device))
        next_base = both[:count].clone()
        next_base[torch.from_numpy(apart).to(next_base.device)] = both[count:]
        return next_base, both[:count]

    def _count(self, infos: dict[str, NDArray[np.int64]], over: NDArray[np.bool_]) -> None:
        self.env_steps += int(infos["env_steps"].sum())
        for i in np.flatnonzero(over):
            self.recent.append((bool(infos["success"][i]), int(infos["episode_steps"][i])))

    def read(self) -> tuple[int, float]:
        """Env steps and mean share of residuals switched on since the last call."""
        steps, on = self.env_steps, float(torch.stack(self.on).mean()) if self.on else 0.0
        self.env_steps = 0
        self.on.clear()
        return steps, on

    @contextlib.contextmanager
    def _updating_beside(self, learner: DecoratorLearner, updates: int) -> Iterator[None]:
        """So many updates, done when the block ends: on a CPU by a thread, which works on another core than the block.

        Both draw from generators of their own, and neither touches what the other changes: the outcome is the same as
        one after the other. On CUDA updates are only asked for, which takes no thread.
        """
        if not updates:
            yield
            return
        if learner.device.type == "cuda":
            self._update(learner, updates)
            yield
            return
        done = self._pool.submit(self._update, learner, updates)
        try:
            yield
        finally:
            done.result()

    def _update(self, learner: DecoratorLearner, updates: int) -> None:
        with self.time.measure(names.TIME_UPDATE_RATIO):
            learner.update(updates)

    def close(self) -> None:
        self._pool.shutdown()
        self.env.close()


def _workers(config: DecoratorConfig) -> int:
    """One per core; with `overlap` the updates keep one busy."""
    cores = len(os.sched_getaffinity(0))
    return max(1, cores - 1) if config.overlap else cores


def _backend(config: DecoratorConfig, control_mode: str, writer: MetricWriter) -> str:
    """The simulators to use; says aloud where there are no fast ones."""
    if config.env_backend != "auto":
        return config.env_backend
    from .envs.fast_panda import has_fast

    if has_fast(config.env_id, control_mode):
        return "fast"
    writer.say(f"{config.env_id} with {control_mode} has no fast simulator: using ManiSkill's own, which is slower")
    return "stock"


def _tensor(array: NDArray[np.generic], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device, non_blocking=True)
