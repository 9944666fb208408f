"""A running average that knows gaps. Pure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_BLOCK = 64
_NEGLIGIBLE = math.log(1e-17)


def ema(ys: Floats, weight: float) -> Floats:
    """(N,) exponential moving average: each value counts `weight` times as much as the one after it.

    It begins at the first value and not at 0 (the weights of what is there add up to 1, as in TensorBoard and W&B).
    NaN stays NaN and does not enter the average, which goes on behind it.

    Args:
        weight: at least 0, below 1; 0 changes nothing.
    """
    if weight <= 0:
        return ys
    finite = np.isfinite(ys)
    if not finite.all():
        smooth = np.full(len(ys), np.nan)
        smooth[finite] = _ema(ys[finite], weight)
        return smooth
    return _ema(ys, weight)


def _ema(ys: Floats, weight: float) -> Floats:
    """In blocks, each by one product of matrices: a Python step for every value would take ten times as long."""
    count = len(ys)
    if not count:
        return ys
    blocks = np.zeros((-(-count // _BLOCK), _BLOCK))
    blocks.reshape(-1)[:count] = ys
    powers = weight ** np.arange(_BLOCK + 1)
    age = np.arange(_BLOCK)[:, None] - np.arange(_BLOCK)[None, :]
    kernel = np.where(age >= 0, powers[np.maximum(age, 0)], 0.0) * (1 - weight)
    blocks = blocks @ kernel.T
    carried, before = 0.0, []
    for last in blocks[:, -1].tolist():
        before.append(carried)
        carried = last + powers[-1] * carried
    blocks += np.array(before)[:, None] * powers[1:]
    whole: Floats = blocks.reshape(-1)[:count]
    early = min(count, math.ceil(_NEGLIGIBLE / math.log(weight)))  # behind it, the weights add up to 1
    whole[:early] /= 1 - weight ** np.arange(1, early + 1)
    within: Floats = np.clip(whole, ys.min(), ys.max())  # as an average lies, but for rounding: a constant stays one
    return within
