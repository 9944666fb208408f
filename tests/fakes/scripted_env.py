"""An environment whose every right answer is known by arithmetic. No simulator, no torch."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from pidec_train.envs.wrappers import ChunkedEnv

FACTORY = f"{__name__}:make_scripted"
OBS_DIM, ACT_DIM = 4, 2


def observation(seed: int, step: int, pushed: float = 0.0) -> NDArray[Any]:
    """After `step` env steps of the episode from `seed` whose actions add up to `pushed`; exact in float32."""
    return np.array([seed >> 16, seed & 0xFFFF, step, pushed], np.float32)


class ScriptedEnv(gym.Env[Any, Any]):
    """Observations tell seed, step and the sum of all actions; actions are within ±1.

    Args:
        succeed_at, fail_at: env steps after which an episode is a success (a failure); the seed chooses: entry
            seed % length; 0: never. Success lasts for one step, failure is the environment's own termination.
        crash_at: env step in which the process ends with exit code 3 and the words "the scripted end"; 0: never.
        reset_seconds: how long a reset takes.
    """

    def __init__(
        self, succeed_at: Sequence[int], fail_at: Sequence[int] = (0,), crash_at: int = 0, reset_seconds: float = 0.0
    ) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float32)
        self.action_space = gym.spaces.Box(-1, 1, (ACT_DIM,), np.float32)
        self._succeed_at, self._fail_at, self._crash_at = succeed_at, fail_at, crash_at
        self._reset_seconds = reset_seconds
        self._seed, self._step, self._pushed = 0, 0, 0.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[Any], dict[str, Any]]:
        time.sleep(self._reset_seconds)
        assert seed is not None
        self._seed, self._step, self._pushed = seed, 0, 0.0
        return observation(seed, 0), {}

    def step(self, action: NDArray[Any]) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        self._step += 1
        self._pushed += float(action.sum())
        if self._step == self._crash_at:
            print("the scripted end", file=sys.stderr, flush=True)
            os._exit(3)
        success, failure = (self._step == steps[self._seed % len(steps)] for steps in (self._succeed_at, self._fail_at))
        return observation(self._seed, self._step, self._pushed), 0.0, failure, False, {"success": success}


def make_scripted(*, obs_horizon: int, max_episode_steps: int, **script: Any) -> ChunkedEnv:
    return ChunkedEnv(ScriptedEnv(**script), obs_horizon, max_episode_steps)
