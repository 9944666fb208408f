"""Transitions for replay, on the training device; and their copy on disk, for a run that is resumed.

A transition is one row of float32: observation, next observation, residual, base action, base action at the next
observation, reward, stop. One gather then fetches a whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..protocol.errors import PidecError


@dataclass(frozen=True)
class Transitions:
    """A batch of B transitions.

    Attributes:
        obs, next_obs: (B, obs_dim), the newest frame alone. The next one is that before a reset.
        residual, base, next_base: (B, chunk_dim), in the environment's units; the residual unscaled.
        reward: (B,), of the whole chunk.
        stop: (B,), 1 where nothing is bootstrapped from `next_obs`.
    """

    obs: Tensor
    next_obs: Tensor
    residual: Tensor
    base: Tensor
    next_base: Tensor
    reward: Tensor
    stop: Tensor

    def rows(self) -> Tensor:
        """(B, width)."""
        parts = (self.obs, self.next_obs, self.residual, self.base, self.next_base)
        return torch.cat((*parts, self.reward[:, None], self.stop[:, None]), dim=1)


class ReplayBuffer:
    """A ring of the last `capacity` transitions.

    Args:
        capacity: transitions.
        obs_dim, chunk_dim: sizes of one observation and one action chunk.
        device: where it lives.

    Attributes:
        added: transitions since the start; the next one goes to row `added % capacity`.
        size: how many rows are filled, as a float64 scalar on the device: a captured update reads it there.

    Raises:
        PidecError: it does not fit into the memory that is free.
    """

    def __init__(self, capacity: int, obs_dim: int, chunk_dim: int, device: torch.device) -> None:
        self.capacity, self._sizes = capacity, [obs_dim, obs_dim, chunk_dim, chunk_dim, chunk_dim, 1, 1]
        self.width = sum(self._sizes)
        _check_memory(capacity, self.width, device)
        self.added = 0
        self.size = torch.zeros((), dtype=torch.float64, device=device)
        self._rows = torch.empty(capacity, self.width, device=device)

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, transitions: Transitions) -> None:
        """Put them behind the newest; the oldest go."""
        self.put(transitions.rows())

    def put(self, rows: Tensor) -> None:
        """As `add`, for rows (B, width)."""
        for part in torch.split(rows, self.capacity):
            start = self.added % self.capacity
            fits = min(len(part), self.capacity - start)
            self._rows[start : start + fits].copy_(part[:fits])
            self._rows[: len(part) - fits].copy_(part[fits:])
            self.added += len(part)
        self.size.fill_(len(self))

    def sample(self, count: int, generator: torch.Generator) -> Transitions:
        """`count` transitions, drawn evenly with replacement. Nothing here is read by the host."""
        # float64: a float32 has 16.8 M steps, too few to be even over millions of rows.
        drawn = torch.rand(count, generator=generator, device=self._rows.device, dtype=torch.float64)
        rows = self._rows.index_select(0, (drawn * self.size).long())
        obs, next_obs, residual, base, next_base, reward, stop = torch.split(rows, self._sizes, dim=1)
        return Transitions(obs, next_obs, residual, base, next_base, reward.squeeze(1), stop.squeeze(1))

    def since(self, added: int) -> Iterator[tuple[int, Tensor]]:
        """Rows of the transitions number `added` and later that are still there, as (first row, rows on the CPU)."""
        number = max(added, self.added - self.capacity)
        while number < self.added:
            start = number % self.capacity
            count = min(self.added - number, self.capacity - start, _PIECE)
            yield start, self._rows[start : start + count].cpu()
            number += count


_PIECE = 1 << 16  # rows that are read or written at a time


class BufferFile:
    """The replay buffer's rows on disk, in their places. Only new rows are written; reading is by memory map.

    Written by `pwrite`, not through a map: a full disk is then an error and not a SIGBUS that ends the process.

    Args:
        path: the file; created if missing.
        width: numbers per row.

    Attributes:
        written: transitions that are in the file, counted as `ReplayBuffer.added`.
    """

    def __init__(self, path: Path, width: int) -> None:
        self._path, self._width = path, width
        self.written = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def save(self, buffer: ReplayBuffer) -> None:
        """Bring the file up to date. The transitions are on the disk when this returns.

        Raises:
            OSError: the disk is full; the file has its old length again, so that a checkpoint may have the room. The
                next call tries the same rows again.
        """
        length = os.fstat(self._fd).st_size
        try:
            for first, rows in buffer.since(self.written):
                data, offset = memoryview(rows.numpy().tobytes()), first * self._width * 4
                while data:
                    done = os.pwrite(self._fd, data, offset)
                    data, offset = data[done:], offset + done
        except OSError:
            os.ftruncate(self._fd, length)
            raise
        os.fsync(self._fd)
        self.written = buffer.added

    def load(self, buffer: ReplayBuffer, added: int) -> bool:
        """Fill an empty `buffer` with what it held after `added` transitions. False if the file is too short."""
        filled = min(added, buffer.capacity)
        if os.fstat(self._fd).st_size < filled * self._width * 4:
            return False
        if filled:
            rows = np.memmap(self._path, np.float32, "r", shape=(filled, self._width))
            for start in range(0, filled, _PIECE):
                buffer.put(torch.from_numpy(np.array(rows[start : start + _PIECE])))
        buffer.added = self.written = added
        return True

    def close(self) -> None:
        os.close(self._fd)


def _check_memory(capacity: int, width: int, device: torch.device) -> None:
    wanted = capacity * width * 4
    free, where = _free_memory(device)
    if wanted > free:
        raise PidecError(
            f"a replay buffer of {capacity:,} transitions takes {wanted:,} bytes ({width} numbers each), but only "
            f"{free:,} bytes of {where} are free",
            f"Use --buffer-size {max(1, int(0.8 * free) // (width * 4))} or less.",
        )


def _free_memory(device: torch.device) -> tuple[int, str]:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0], "GPU memory"
    import psutil

    return int(psutil.virtual_memory().available), "memory"
