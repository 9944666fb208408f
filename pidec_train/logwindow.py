"""What is measured between two rows of metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .protocol import metric_names as names


def is_log_step(iteration: int, start: int, log_freq: int) -> bool:
    """Multiples of `log_freq`; before the first of them also 1, 2, 5, 10, 20, 50, … after the start.

    So a curve appears within seconds on any machine, whatever the frequency.
    """
    if iteration % log_freq == 0:
        return True
    done = iteration - start
    if done >= log_freq:
        return False
    while done % 10 == 0:
        done //= 10
    return done in (1, 2, 5)


@dataclass(frozen=True)
class Row:
    """A row of metrics whose losses are still on their way from the device.

    Attributes:
        iteration: of the last loss.
        metrics: all but the loss.
    """

    iteration: int
    metrics: dict[str, float]
    _losses: Tensor
    _skipped: Tensor
    _arrived: Any  # torch.cuda.Event, or None on a CPU

    def is_there(self) -> bool:
        """Whether `losses` would not wait."""
        return self._arrived is None or bool(self._arrived.query())

    def losses(self) -> Tensor:
        """Loss of each iteration since the row before, (n,); waits for the device."""
        if self._arrived:
            self._arrived.synchronize()
        return self._losses

    def skipped(self) -> int:
        """Updates left out since the start of this process; after `losses`."""
        return int(self._skipped)


class LogWindow:
    """Losses, rate and time shares since the last row. Losses are kept on the device and read once per row."""

    def __init__(self, device: torch.device) -> None:
        self._history = torch.zeros(1024, device=device)
        self.restart()

    def restart(self) -> None:
        self._count = 0
        self._data_seconds = 0.0
        self._waited = {names.TIME_EVAL_WAIT_RATIO: 0.0, names.TIME_SAVE_WAIT_RATIO: 0.0}
        self._began = time.perf_counter()

    def add(self, losses: Tensor, data_seconds: float) -> None:
        """Some iterations: their losses (n,) on the device, and how long their batches took."""
        end = self._count + len(losses)
        if end > len(self._history):
            self._history = torch.cat((self._history, torch.zeros_like(self._history)))
        self._history[self._count : end].copy_(losses)
        self._count = end
        self._data_seconds += data_seconds

    @contextmanager
    def waiting(self, ratio: str) -> Iterator[None]:
        """Around time that is no training; `ratio` is the metric that counts it (see `waits`)."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._waited[ratio] += time.perf_counter() - began

    def waits(self) -> dict[str, float]:
        """Shares of the time since the last row."""
        elapsed = max(time.perf_counter() - self._began, 1e-9)
        return {ratio: seconds / elapsed for ratio, seconds in self._waited.items()}

    def row(self, iteration: int, lr: float, skipped: Tensor) -> Row:
        """What has come together; asks for the losses without waiting for them. Then `restart`."""
        elapsed = max(time.perf_counter() - self._began, 1e-9)
        training = max(elapsed - sum(self._waited.values()), 1e-9)
        metrics = {
            names.TRAIN_LR: lr,
            names.ITERS_PER_MIN: self._count / training * 60,
            names.TIME_DATA_RATIO: self._data_seconds / elapsed,
            **self.waits(),
        }
        losses = self._history[: self._count]
        arrived: Any = None
        if losses.is_cuda:
            losses, skipped = _to_host(losses), _to_host(skipped)
            arrived = torch.cuda.current_stream().record_event()
        else:
            losses, skipped = losses.clone(), skipped.clone()
        return Row(iteration, metrics, losses, skipped, arrived)


def _to_host(tensor: Tensor) -> Tensor:
    """Copy under way to page-locked memory: does not wait."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
