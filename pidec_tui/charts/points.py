"""A curve -> the numbers of it that a chart shows: tidy, within the window, in pieces."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import series
from .series import Axes, Curve

Floats = NDArray[np.float64]
MOST, LEAST = 1e200, 1e-200  # of a value; beyond, the sums and powers that an axis needs are no numbers any more
_NONE = np.empty(0)


@dataclass(frozen=True, eq=False)
class Points:
    """The numbers of a curve.

    Attributes:
        xs, ys: (N,) ascending x; without NaN and infinities.
        piece: (N,) points with different numbers have a gap between them; None: there is no gap.
    """

    xs: Floats
    ys: Floats
    piece: NDArray[np.int64] | None

    @classmethod
    def of(cls, xs: Floats, ys: Floats, low: float | None = None, high: float | None = None) -> Points:
        """Leave out what is no number, and what lies outside [low, high]; a line that leaves the window ends at its
        edge."""
        start = 0 if low is None else int(np.searchsorted(xs, low, "left"))
        end = len(xs) if high is None else int(np.searchsorted(xs, high, "right"))
        inner, values = xs[start:end], ys[start:end]
        before, after = _edge(xs, ys, start, low), _edge(xs, ys, end, high)
        if before is not None:
            inner, values = np.concatenate([[low], inner]), np.concatenate([[before], values])
        if after is not None:
            inner, values = np.concatenate([inner, [high]]), np.concatenate([values, [after]])
        finite = np.isfinite(values)
        if finite.all():
            return cls(inner, values, None)
        return cls(inner[finite], values[finite], np.cumsum(~finite)[finite])


def _edge(xs: Floats, ys: Floats, behind: int, x: float | None) -> float | None:
    """The value at the window's edge of the line that crosses it in front of point `behind`; None: none does."""
    if x is None or not 0 < behind < len(xs):
        return None
    left, right = behind - 1, behind
    if not (np.isfinite(ys[left]) and np.isfinite(ys[right])) or not xs[left] < x < xs[right]:
        return None
    share = (x - xs[left]) / (xs[right] - xs[left])
    return float(ys[left] + share * (ys[right] - ys[left]))


def numbers(values: series.Floats, *, log_y: bool = False) -> Floats:
    """(N,) the values as the y axis measures them: what is as good as infinite is none; logarithms for a log axis."""
    ys: Floats = np.frombuffer(values) if len(values) else _NONE
    size = np.abs(ys)
    if len(ys) and not (float(np.nanmax(size, initial=0.0)) <= MOST and not (size < LEAST).any()):
        ys = np.where(size <= MOST, np.where(size < LEAST, 0.0, ys), np.nan)
    if log_y:
        with np.errstate(divide="ignore", invalid="ignore"):
            ys = np.log10(np.where(ys > 0, ys, np.nan))
    return ys


def doubles(values: Floats) -> series.Floats:
    """Numbers as curves hold them."""
    made = array("d")
    made.frombytes(np.ascontiguousarray(values, dtype=np.float64).tobytes())
    return made


def points_of(curve: Curve, axes: Axes, ys: Floats | None = None) -> Points:
    """What is visible of a curve; `ys` in place of its own values, as the axis measures them."""
    if not len(curve.xs):
        return Points(_NONE, _NONE, None)
    xs = np.frombuffer(curve.xs)
    ys = numbers(curve.ys, log_y=axes.log_y) if ys is None else ys
    return Points.of(xs, ys, axes.x_low, axes.x_high)


def nans_of(curve: Curve, axes: Axes) -> Floats:
    """(n,) x of the values that were no numbers, within the window."""
    if not len(curve.xs):
        return _NONE
    xs = np.frombuffer(curve.xs)
    gone = np.isnan(np.frombuffer(curve.ys))
    return xs[gone & _within(xs, axes)] if gone.any() else _NONE


def marked(curve: Curve, axes: Axes) -> tuple[Floats, Floats]:
    """(n,) x and y of the points themselves within the window, as the axis measures them."""
    if not len(curve.xs):
        return _NONE, _NONE
    xs, ys = np.frombuffer(curve.xs), numbers(curve.ys, log_y=axes.log_y)
    shown = np.isfinite(ys) & _within(xs, axes)
    return xs[shown], ys[shown]


def intervals_of(curve: Curve, axes: Axes) -> tuple[Floats, Floats, Floats]:
    """(n,) x, low and high end of the intervals within the window, as the axis measures them."""
    if curve.lows is None or curve.highs is None or not len(curve.xs):
        return _NONE, _NONE, _NONE
    xs = np.frombuffer(curve.xs)
    lows, highs = numbers(curve.lows, log_y=axes.log_y), numbers(curve.highs, log_y=axes.log_y)
    shown = np.isfinite(lows) & np.isfinite(highs) & _within(xs, axes)
    return xs[shown], lows[shown], highs[shown]


def _within(xs: Floats, axes: Axes) -> NDArray[np.bool_]:
    shown: NDArray[np.bool_] = np.ones(len(xs), dtype=bool)
    if axes.x_low is not None:
        shown &= xs >= axes.x_low
    if axes.x_high is not None:
        shown &= xs <= axes.x_high
    return shown
