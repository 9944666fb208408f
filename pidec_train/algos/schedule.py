"""Learning rate and EMA decay as functions of the iteration, without state; and both as device scalars."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

MAX_DECAY = 0.9999


def warmup_cosine(done: int, warmup_steps: int, total_iters: int) -> float:
    """Factor on the peak learning rate for the iteration after `done` finished ones (diffusers' "cosine").

    Linear warm-up, then half a cosine down to 0.
    """
    if done < warmup_steps:
        return done / max(1, warmup_steps)
    progress = (done - warmup_steps) / max(1, total_iters - warmup_steps)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


def ema_decay(updates: int) -> float:
    """Decay of the `updates`-th update: 0 at the first, then min((1 + s)/(10 + s), 0.9999) with s = updates - 1.

    That is diffusers' `EMAModel` without warm-up, which ignores the `power` that upstream passes.
    """
    s = updates - 1
    return 0.0 if s <= 0 else min((1 + s) / (10 + s), MAX_DECAY)


class DeviceSchedule:
    """Values of a function of the iteration, on the device before they are needed.

    A captured step may take no number from the host: it would stay what it was at the capture. Values are worked out
    and copied some thousands at a time, because such a copy waits for the device.

    Args:
        function: of the iteration, the first being 1.
    """

    CHUNK = 8192

    def __init__(self, function: Callable[[int], float], device: torch.device) -> None:
        self._function, self._device = function, device
        self._first, self._values = 0, torch.empty(0)

    def take(self, first: int, count: int) -> Tensor:
        """Values of iterations first … first + count - 1; (count,) float32."""
        start = first - self._first
        if start < 0 or start + count > len(self._values):
            self._first, start = first, 0
            values = [self._function(first + i) for i in range(max(count, self.CHUNK))]
            self._values = torch.tensor(values, dtype=torch.float32, device=self._device)
        return self._values[start : start + count]
