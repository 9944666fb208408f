"""Several runs of one metric as one line: their mean, in a band from the lowest to the highest. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from .points import Floats, doubles
from .series import Curve


def mean_and_band(curves: Sequence[Curve], name: str, *, tone: int | None = None, most: int | None = None) -> Curve:
    """The mean of the curves at every x that any of them has, with the extremes as its interval.

    Between its own points a curve counts by the line between them; before its first and behind its last one, and across
    a gap, it does not count. So the mean of runs of different lengths goes on with those that go on.

    Args:
        curves: of one metric; empty ones count for nothing.
        name, tone: of the result.
        most: points of the result. Where each curve has its own x, all of them would be the product of both numbers.
    """
    curves = [curve for curve in curves if len(curve.xs)]
    if not curves:
        return Curve(name, array("d"), array("d"), tone=tone)
    xs = np.unique(np.concatenate([np.frombuffer(curve.xs) for curve in curves]))
    if most is not None and len(xs) > most:
        xs = xs[np.linspace(0, len(xs) - 1, most).astype(np.int64)]
    values = np.stack([_at(curve, xs) for curve in curves])  # (curves, N)
    there = np.isfinite(values)
    count = there.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, values, 0.0).sum(axis=0) / count  # NaN where none counts
    lows = np.where(count > 0, np.where(there, values, np.inf).min(axis=0), np.nan)
    highs = np.where(count > 0, np.where(there, values, -np.inf).max(axis=0), np.nan)
    return Curve(name, doubles(xs), doubles(mean), lows=doubles(lows), highs=doubles(highs), tone=tone)


def _at(curve: Curve, xs: Floats) -> Floats:
    """(N,) values of a curve at `xs`; NaN where it has none."""
    own, ys = np.frombuffer(curve.xs), np.frombuffer(curve.ys)
    # A NaN at either end of a line makes numpy's interpolation NaN on all of it: that is the gap.
    values: Floats = np.interp(xs, own, ys, left=np.nan, right=np.nan)
    return values
