"""Many points -> for each column of dots the span that the curve covers there. Linear in points, by numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .points import Floats, Points


@dataclass(frozen=True)
class Envelope:
    """What a curve covers.

    Attributes:
        low: (columns,) lowest value in each column, line included; NaN where the curve is not.
        high: (columns,) highest value.
        lonely: (n, 2) column and value of the points that no line joins to another.
    """

    low: Floats
    high: Floats
    lonely: Floats


def columns_of(xs: Floats, x_low: float, x_high: float, columns: int) -> NDArray[np.int64]:
    """(N,) column of each x, the ends of the axis in the first and last column."""
    scale = (columns - 1) / (x_high - x_low) if x_high > x_low else 0.0
    at: NDArray[np.int64] = np.floor((xs - x_low) * scale + 0.5).astype(np.int64)
    return at


def envelope(points: Points, x_low: float, x_high: float, columns: int) -> Envelope:
    """The envelope of points within [x_low, x_high], joined by lines except across gaps.

    Args:
        columns: how many columns of dots the axis has.
    """
    low, high = np.full(columns, np.nan), np.full(columns, np.nan)
    xs, ys, piece = points.xs, points.ys, points.piece
    if not len(ys):
        return Envelope(low, high, np.empty((0, 2)))
    starts, used = _columns_with_points(xs, x_low, x_high, columns)
    low[used] = np.minimum.reduceat(ys, starts)
    high[used] = np.maximum.reduceat(ys, starts)

    ends = np.append(starts[1:], len(ys)) - 1
    joined = np.ones(len(starts) - 1, dtype=bool) if piece is None else piece[ends[:-1]] == piece[starts[1:]]
    _draw_lines(low, high, used, ys[starts], ys[ends], joined)
    return Envelope(low, high, _lonely(points, x_low, x_high, columns))


def _columns_with_points(
    xs: Floats, x_low: float, x_high: float, columns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index of the first point of each column that has any, and those columns. By bisection, as x ascends: looking at
    every point would cost more than all the rest."""
    if not x_high > x_low:
        return np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    edges = x_low + (np.arange(columns) - 0.5) * (x_high - x_low) / (columns - 1)
    first = np.append(np.searchsorted(xs, edges, "left"), len(xs))
    first[0] = 0
    used = np.flatnonzero(np.diff(first))
    return first[used], used


def _lonely(points: Points, x_low: float, x_high: float, columns: int) -> Floats:
    """(n, 2) column and value of the points that are a piece of their own."""
    if points.piece is None:
        alone = np.full(len(points.ys), len(points.ys) == 1)
    else:
        number = points.piece - points.piece[0]
        alone = np.bincount(number)[number] == 1
    return np.column_stack([columns_of(points.xs[alone], x_low, x_high, columns), points.ys[alone]])


def _draw_lines(
    low: Floats, high: Floats, used: NDArray[np.int64], first: Floats, last: Floats, joined: NDArray[np.bool_]
) -> None:
    """Widen the columns' spans, in place, by the lines that join one used column to the next.

    A line from column a to column b covers, in each column between, the values it takes from half a column before
    to half a column after; so neighbouring spans touch and the curve has no holes.
    """
    left, right = used[:-1][joined], used[1:][joined]
    if not len(left):
        return
    start, end = last[:-1][joined], first[1:][joined]
    length = right - left + 1
    line = np.repeat(np.arange(len(left)), length)
    offset = np.arange(len(line)) - np.repeat(np.cumsum(length) - length, length)
    steps = (right - left)[line]
    slope = (end - start)[line] / steps
    before = start[line] + slope * np.maximum(offset - 0.5, 0)
    after = start[line] + slope * np.minimum(offset + 0.5, steps)
    column = left[line] + offset
    # A column can be the end of one line and the start of the next: fmin.at counts both, and passes over NaN.
    np.fmin.at(low, column, np.minimum(before, after))
    np.fmax.at(high, column, np.maximum(before, after))
