"""What is measured between two rows of metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

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


class LogWindow:
    """Mean loss, rate and time shares since the last row. Reads the loss off the device once per row."""

    def __init__(self, device: torch.device) -> None:
        self._loss = torch.zeros((), device=device, dtype=torch.float64)
        self.last_loss_is_finite = True
        self.restart()

    def restart(self) -> None:
        self._loss.zero_()
        self._iterations = 0
        self._data_seconds = self._wait_seconds = 0.0
        self._began = time.perf_counter()

    def add(self, loss: Tensor, data_seconds: float) -> None:
        """One iteration: its loss (on the device) and how long its batch took."""
        self._loss += loss
        self._data_seconds += data_seconds
        self._iterations += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around time that is no training."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._wait_seconds += time.perf_counter() - began

    def row(self, lr: float) -> dict[str, float]:
        loss = float(self._loss) / self._iterations
        self.last_loss_is_finite = math.isfinite(loss)
        elapsed = max(time.perf_counter() - self._began, 1e-9)
        training = max(elapsed - self._wait_seconds, 1e-9)
        return {
            names.TRAIN_LOSS: loss,
            names.TRAIN_LR: lr,
            names.ITERS_PER_MIN: self._iterations / training * 60,
            names.TIME_DATA_RATIO: self._data_seconds / elapsed,
            names.TIME_EVAL_WAIT_RATIO: self._wait_seconds / elapsed,
        }
