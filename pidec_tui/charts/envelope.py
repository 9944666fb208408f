"""Many points -> for each column of dots the span that the curve covers there. Linear in points, by numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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


def envelope(xs: Floats, ys: Floats, x_low: float, x_high: float, columns: int) -> Envelope:
    """The envelope of the points (xs, ys), joined by lines except across NaN.

    Args:
        xs: (N,) ascending.
        ys: (N,) NaN makes a gap.
        x_low, x_high: the axis; points outside are left out.
        columns: how many columns of dots the axis has.
    """
    low = np.full(columns, np.nan)
    high = np.full(columns, np.nan)
    finite = np.isfinite(ys) & (xs >= x_low) & (xs <= x_high)
    if not finite.any():
        return Envelope(low, high, np.empty((0, 2)))
    piece = np.cumsum(~finite)[finite]  # points with the same number have no gap between them
    ys = ys[finite]
    at = columns_of(xs[finite], x_low, x_high, columns)

    starts = np.flatnonzero(np.diff(at, prepend=-1))  # first point of each column that has any
    used = at[starts]
    low[used] = np.minimum.reduceat(ys, starts)
    high[used] = np.maximum.reduceat(ys, starts)

    ends = np.append(starts[1:], len(ys)) - 1
    joined = piece[ends[:-1]] == piece[starts[1:]]
    _draw_lines(low, high, used, ys[starts], ys[ends], joined)

    size = np.bincount(piece - piece[0])[piece - piece[0]]
    alone = size == 1
    return Envelope(low, high, np.column_stack([at[alone], ys[alone]]))


def _draw_lines(low: Floats, high: Floats, used: NDArray[np.int64], first: Floats, last: Floats,
                joined: NDArray[np.bool_]) -> None:
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
