"""The y axis of a chart and the labels of both: which numbers stand where."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .envelope import columns_of
from .series import Axes
from .ticks import linear_ticks, log_ticks, number
from .timeticks import time_ticks

Floats = NDArray[np.float64]


_SAMPLE = 4096
_ROUNDING = 1e-9  # of a number: less apart are not two values, but one whose running average was rounded


@dataclass(frozen=True)
class YAxis:
    """Ends, ticks and labels; for a logarithmic axis ends and ticks are exponents of ten."""

    low: float
    high: float
    ticks: list[float]
    labels: list[str]

    def rows(self, values: Floats, height: int) -> Floats:
        """Row of dots of each value, 0 at the top; NaN stays NaN."""
        rows: Floats = np.floor((self.high - values) / (self.high - self.low) * (height - 1) + 0.5)
        return rows


def y_axis(parts: list[Floats], axes: Axes, height: int) -> YAxis:
    """The axis that holds all these numbers, none of the parts empty."""
    low, high = min(float(ys.min()) for ys in parts), max(float(ys.max()) for ys in parts)
    if axes.clip:
        low, high = _without_outliers(np.concatenate(parts), low, high)
    most = max(2, min(6, height // 3 + 1))
    if axes.percent and not axes.log_y:
        low, high = min(low, 0.0), max(high, 1.0)
        ticks = linear_ticks(low, high, most)
        return YAxis(low, high, ticks, [f"{number(tick * 100)}%" for tick in ticks])
    from_zero = axes.from_zero and not axes.log_y and not axes.clip
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high == 0 and not axes.log_y:  # a wait that never was: no room for less than nothing
        high = 1.0
    elif high - low <= _ROUNDING * max(abs(low), abs(high)):
        pad = (0.15 if axes.log_y else abs(low) * 0.1) or 1.0
        low, high = low - pad, high + pad
    else:
        pad = (high - low) * 0.04
        low, high = (low if from_zero and low == 0 else low - pad), high + pad
    if axes.log_y:
        values = [value for value in log_ticks(10**low, 10**high, most) if value > 0]
        factor, unit = (100, "%") if axes.percent else (1, "")
        labels = [label + unit for label in labels_of([value * factor for value in values])]
        return YAxis(low, high, [math.log10(value) for value in values], labels)
    ticks = linear_ticks(low, high, most)
    return YAxis(low, high, ticks, labels_of(ticks))


def _without_outliers(values: Floats, low: float, high: float) -> tuple[float, float]:
    """The extremes of what is no outlier: no further than half as far again from the middle 90 % as these reach."""
    some = values[:: max(len(values) // _SAMPLE, 1)]  # as good for these two, and sorted in no time
    inner_low, inner_high = (float(value) for value in np.percentile(some, (5, 95)))
    reach = (inner_high - inner_low) / 2
    if reach <= 0:
        return low, high
    kept = values[(values >= inner_low - reach) & (values <= inner_high + reach)]
    return float(kept.min()), float(kept.max())


def labels_of(ticks: list[float]) -> list[str]:
    """As few digits as keep the labels apart."""
    for digits in range(2, 9):
        labels = [number(tick, digits) for tick in ticks]
        if len(set(labels)) == len(labels):
            return labels
    return [repr(tick) for tick in ticks]


def x_labels(low: float, high: float, axes: Axes, width: int) -> list[tuple[int, str]]:
    """(column, label) of the ticks of an x axis that is `width` cells wide."""
    most = max(2, width // 8)
    if axes.x_kind == "number":
        ticks = linear_ticks(low, high, most)
        labels = labels_of(ticks)
    else:
        ticks, labels = time_ticks(low, high, most, clock=axes.x_kind == "clock")
    return list(zip(columns_of(np.array(ticks), low, high, width).tolist(), labels, strict=True))
