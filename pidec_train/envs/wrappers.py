"""One environment as a policy sees it: a short history of observations in, a chunk of actions out."""

from __future__ import annotations

from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ..protocol.errors import RunFailed


class ChunkedEnv(gym.Wrapper):
    """Observation history, action chunks and a sparse reward around one unbatched numpy environment.

    Observations are (obs_horizon, obs_dim) float32, oldest first; at reset the first one is repeated. `step` takes
    (n, act_dim), clips it to the bounds and executes it until the episode is over or the chunk's end. The reward is 1
    for each step whose state is a success. The episode is over at success (or failure, where a task has one) or, as
    truncation, after `max_episode_steps` env steps.
    """

    def __init__(self, env: gym.Env[Any, Any], obs_horizon: int, max_episode_steps: int) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, gym.spaces.Box) and isinstance(env.action_space, gym.spaces.Box)
        self.obs_horizon = obs_horizon
        self.max_episode_steps = max_episode_steps
        low, high = (np.broadcast_to(bound, (obs_horizon, *space.shape)) for bound in (space.low, space.high))
        self.observation_space = gym.spaces.Box(low, high, dtype=np.float32)
        self._low, self._high = env.action_space.low, env.action_space.high
        self._frames: deque[NDArray[Any]] = deque(maxlen=obs_horizon)
        self._steps = 0
        self._success = False
        self._over = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start an episode. The same seed gives the same start, whatever happened before."""
        observation, _ = self.env.reset(seed=seed, options=options)
        self._frames.extend([np.array(observation, np.float32)] * self.obs_horizon)
        self._steps, self._success, self._over = 0, False, False
        return self._history(), self._info(False, 0)

    def step(self, action: NDArray[Any]) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Execute a chunk of actions, (n, act_dim), in the environment's own units.

        Returns:
            observation (obs_horizon, obs_dim), sum of rewards, terminated, truncated, info with `success` (so far in
            this episode), `success_at_end` (at the last executed step), `env_steps` (executed in this call),
            `episode_steps` (so far in this episode) and `frames`: the observation (obs_dim,) after each of this call's.

        Raises:
            RunFailed: an action is not finite (the policy has diverged; sapien would crash).
            RuntimeError: the episode is over; reset first.
        """
        if self._over:
            raise RuntimeError("the episode is over: reset() comes before step()")
        chunk = np.asarray(action, np.float32).reshape(-1, self._low.shape[0])
        if not np.isfinite(chunk).all():
            raise RunFailed(
                "the policy gave an action that is not finite", "Its weights have diverged: use an earlier checkpoint."
            )
        total, success, terminated, truncated = 0.0, False, False, False
        frames: list[NDArray[Any]] = []
        for single in np.clip(chunk, self._low, self._high):
            observation, _, ended, _, info = self.env.step(single)
            frames.append(np.array(observation, np.float32))  # a copy: an environment may reuse its array
            self._steps += 1
            success = bool(info.get("success", False))
            self._success |= success
            total += float(success)
            terminated = bool(ended) or success
            truncated = self._steps >= self.max_episode_steps
            if terminated or truncated:
                self._over = True
                break
        self._frames.extend(frames)
        info = {**self._info(success, len(frames)), "episode_steps": self._steps, "frames": frames}
        return self._history(), total, terminated, truncated, info

    def _history(self) -> NDArray[Any]:
        return np.stack(self._frames)

    def _info(self, success_now: bool, env_steps: int) -> dict[str, Any]:
        return {"success": self._success, "success_at_end": success_now, "env_steps": env_steps}
