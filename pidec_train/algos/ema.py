"""Exponential moving average of weights, as upstream really runs it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MAX_DECAY = 0.9999


def ema_decay(updates: int) -> float:
    """Decay of the `updates`-th update: 0 at the first, then min((1 + s)/(10 + s), 0.9999) with s = updates - 1.

    That is diffusers' `EMAModel` without warm-up, which ignores the `power` that upstream passes.
    """
    s = updates - 1
    return 0.0 if s <= 0 else min((1 + s) / (10 + s), MAX_DECAY)


@torch.no_grad()
def ema_update(averaged: Sequence[Tensor], weights: Sequence[Tensor], updates: int) -> None:
    """Move `averaged` towards `weights`, in place; one kernel call for all of them."""
    torch._foreach_lerp_(list(averaged), list(weights), 1.0 - ema_decay(updates))
