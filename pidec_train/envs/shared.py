"""Memory that the parent and its workers see alike: what a vector environment's step reads and writes.

It has no name in the file system (Linux's memfd, handed to the workers as an open file), so nothing is left behind
by a process that is killed.
"""

from __future__ import annotations

import math
import mmap
import os
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALIGN = 64  # bytes: no two arrays share a cache line


@dataclass(frozen=True)
class Sizes:
    """What the shapes of the arrays follow from."""

    num_envs: int
    obs_horizon: int
    obs_dim: int
    act_horizon: int
    act_dim: int


@dataclass(frozen=True)
class Shared:
    """One row per environment; only one side at a time touches a row.

    Attributes:
        active: bool; which environments a request speaks of.
        seeds: int64; of each one's next reset; negative: none is given.
        actions: (act_horizon, act_dim) float32 a row.
        observations: (obs_horizon, obs_dim) float32; the newest history.
        final_obs: as `observations`; with autoreset, of the episode that is over.
        frames: (act_horizon, obs_dim) float32; the observation after each executed step of the last chunk.
        rewards: float32; terminated, truncated, success, success_at_end: bool; env_steps, episode_steps: int64; as in
            `WorkerVectorEnv.step`.
    """

    active: NDArray[Any]
    seeds: NDArray[Any]
    actions: NDArray[Any]
    observations: NDArray[Any]
    final_obs: NDArray[Any]
    frames: NDArray[Any]
    rewards: NDArray[Any]
    terminated: NDArray[Any]
    truncated: NDArray[Any]
    success: NDArray[Any]
    success_at_end: NDArray[Any]
    env_steps: NDArray[Any]
    episode_steps: NDArray[Any]


def open_memory() -> int:
    """A file descriptor of empty anonymous memory, to be passed to workers; close it when it is mapped."""
    return os.memfd_create("pidec-environments")


def map_memory(fd: int, sizes: Sizes) -> Shared:
    """The arrays in the memory behind `fd`, which grows to hold them; zero at first. `fd` may be closed after.

    Raises:
        OSError: the machine has no memory for them.
    """
    history, frames = (sizes.obs_horizon, sizes.obs_dim), (sizes.act_horizon, sizes.obs_dim)
    of_row: dict[str, tuple[tuple[int, ...], type]] = {
        "seeds": ((), np.int64),
        "actions": ((sizes.act_horizon, sizes.act_dim), np.float32),
        "observations": (history, np.float32),
        "final_obs": (history, np.float32),
        "frames": (frames, np.float32),
        "rewards": ((), np.float32),
        "env_steps": ((), np.int64),
        "episode_steps": ((), np.int64),
    }
    places: dict[str, tuple[tuple[int, ...], np.dtype[Any], int]] = {}
    end = 0
    for field in fields(Shared):
        row, kind = of_row.get(field.name, ((), np.bool_))
        dtype: np.dtype[Any] = np.dtype(kind)
        shape = (sizes.num_envs, *row)
        places[field.name] = (shape, dtype, end)
        end += -(-math.prod(shape) * dtype.itemsize // _ALIGN) * _ALIGN
    os.ftruncate(fd, end)  # by whoever comes first; the others find it as long as that
    memory = mmap.mmap(fd, end)
    return Shared(**{name: np.ndarray(shape, dtype, memory, offset) for name, (shape, dtype, offset) in places.items()})
