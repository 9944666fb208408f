"""Many environments in worker processes behind gymnasium's VectorEnv."""

from __future__ import annotations

import gc
import os
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from ..protocol.errors import PidecError
from . import headless
from .workers import Worker, close_all


class WorkerVectorEnv(VectorEnv):
    """`num_envs` environments, several per worker, without autoreset.

    Nothing is reset unless asked, because a sparse-reward episode's start and end must stay what they were when
    transitions are stored: reset those that are over with `reset(seed=[...], options={"reset_mask": mask})`.
    Imports neither mani_skill nor sapien in the calling process.

    Args:
        act_horizon: length of the action chunks.
        num_workers: None: as many as there are cores.
        env_kwargs: arguments of `make_env`.

    Raises:
        PidecError: see `make_env`.
    """

    def __init__(self, num_envs: int, *, act_horizon: int, num_workers: int | None, env_kwargs: dict[str, Any]) -> None:
        if num_envs < 1:
            raise PidecError(f"num_envs {num_envs} must be at least 1")
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED}
        self.closed = False
        self._workers: list[Worker] = []
        headless.has_render_device()  # asked once here, inherited by every worker
        count = min(num_envs, num_workers or _cores())
        # Environment i lives in worker i % count: those that are still busy late in an evaluation stay spread.
        self._envs_of = [np.arange(first, num_envs, count) for first in range(count)]
        try:
            for number, envs in enumerate(self._envs_of):
                kwargs = {"num_envs": len(envs), "env_kwargs": env_kwargs}
                self._workers.append(Worker(f"{__name__}:EnvServer", f"simulator worker {number}", kwargs))
            for worker in self._workers:
                worker.send("describe")
            descriptions = [
                worker.receive() for worker in self._workers
            ]  # all of them: an answer left over is mixed up
            self.task = descriptions[0]
        except BaseException:
            self.close()
            raise
        self.single_observation_space = gym.spaces.Box(
            -np.inf, np.inf, (env_kwargs["obs_horizon"], self.task.obs_dim), np.float32
        )
        low, high = (np.tile(bound, (act_horizon, 1)) for bound in (self.task.action_low, self.task.action_high))
        self.single_action_space = gym.spaces.Box(low, high, dtype=np.float32)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self._observations = np.zeros((num_envs, *self.single_observation_space.shape), np.float32)
        self._success = np.zeros(num_envs, bool)
        self._success_at_end = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start episodes: in all environments, or in those of options["reset_mask"] (num_envs,) bool.

        Args:
            seed: one per environment (those outside the mask are not looked at), or one number s for s, s+1, …

        Returns:
            observations (num_envs, obs_horizon, obs_dim), infos as `step` gives them.
        """
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)), bool)
        if seed is None:
            seeds: list[int | None] = [None] * self.num_envs
        elif isinstance(seed, (int, np.integer)):
            seeds = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = [None if one is None else int(one) for one in seed]
        if len(seeds) != self.num_envs or mask.shape != (self.num_envs,):
            raise ValueError(f"{self.num_envs} environments need as many seeds ({len(seeds)}) and a mask {mask.shape}")
        for index, answer in self._exchange(mask, "reset", seeds):
            self._observations[index], self._success[index], self._success_at_end[index] = answer, False, False
        return self._observations.copy(), self._infos(np.zeros(self.num_envs, np.int64))

    def step(
        self, actions: NDArray[Any], active: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Execute a chunk of actions in the active environments.

        Args:
            actions: (num_envs, act_horizon, act_dim).
            active: (num_envs,) bool; None: all. The others return their last observation, reward 0, not over.

        Returns:
            observations (num_envs, obs_horizon, obs_dim), rewards, terminated, truncated (each (num_envs,)), and
            infos: `success` (so far in the episode), `success_at_end` (at the last step), `env_steps` (in this call).

        Raises:
            RunFailed: an action is not finite; a worker failed or died (it says which and with what last words).
        """
        actions = np.asarray(actions, np.float32)
        if actions.shape[:1] != (self.num_envs,) or actions.ndim != 3:
            raise ValueError(f"actions must be ({self.num_envs}, act_horizon, act_dim), not {actions.shape}")
        mask = np.ones(self.num_envs, bool) if active is None else np.asarray(active, bool)
        rewards = np.zeros(self.num_envs, np.float32)
        terminated, truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        env_steps = np.zeros(self.num_envs, np.int64)
        for index, answer in self._exchange(mask, "step", actions):
            self._observations[index], rewards[index], terminated[index], truncated[index], info = answer
            self._success[index], self._success_at_end[index] = info["success"], info["success_at_end"]
            env_steps[index] = info["env_steps"]
        return self._observations.copy(), rewards, terminated, truncated, self._infos(env_steps)

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

    def close_extras(self, **kwargs: Any) -> None:
        close_all(self._workers)
        self._workers = []

    def _exchange(self, mask: NDArray[Any], method: str, argument: Any) -> list[tuple[int, Any]]:
        """Send each worker its share of `argument`, then collect (environment, answer). A failure ends all workers."""
        if not self._workers:
            raise RuntimeError("the vector environment is closed")
        shares = [envs[mask[envs]] for envs in self._envs_of]
        answers: list[tuple[int, Any]] = []
        try:
            for number, share in enumerate(shares):
                if len(share):
                    local = share // len(self._workers)
                    self._workers[number].send(method, local.tolist(), [argument[i] for i in share])
            for number, share in enumerate(shares):
                if len(share):
                    answers += zip(share.tolist(), self._workers[number].receive(), strict=True)
        except BaseException:  # answers are still under way: the workers cannot be used any more
            self.close()
            raise
        return answers

    def _infos(self, env_steps: NDArray[Any]) -> dict[str, Any]:
        return {
            "success": self._success.copy(),
            "success_at_end": self._success_at_end.copy(),
            "env_steps": env_steps,
        }


class EnvServer:
    """The worker's side: some environments of one task."""

    def __init__(self, num_envs: int, env_kwargs: dict[str, Any]) -> None:
        import torch

        from .make import make_env

        torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other (twice as slow, measured)
        self._kwargs = env_kwargs
        self._envs = [make_env(**env_kwargs) for _ in range(num_envs)]
        # ManiSkill collects garbage at every rebuild of a scene, which scans all of torch: 133 of 154 ms a reset.
        gc.collect()
        gc.freeze()

    def describe(self) -> Any:
        from .make import describe

        return describe(self._envs[0], self._kwargs["env_id"], self._kwargs["control_mode"])

    def reset(self, envs: list[int], seeds: list[int | None]) -> list[NDArray[Any]]:
        return [self._envs[i].reset(seed=seed)[0] for i, seed in zip(envs, seeds, strict=True)]

    def step(self, envs: list[int], chunks: list[NDArray[Any]]) -> list[tuple[Any, ...]]:
        return [self._envs[i].step(chunk) for i, chunk in zip(envs, chunks, strict=True)]


def _cores() -> int:
    return len(os.sched_getaffinity(0))
