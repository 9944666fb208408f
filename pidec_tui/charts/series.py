"""What a chart is drawn from: growing series, frozen curves, axes. No numpy here: the first paint goes without."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace

MOST, LEAST = 1e200, 1e-200  # of a value; beyond, the sums and powers that an axis needs are no numbers any more


@dataclass(frozen=True)
class Curve:
    """One line of a chart, as it is drawn.

    Attributes:
        name: shown beside the line where a chart has several.
        xs: ascending; doubles.
        ys: as many; NaN makes a gap.
        markers: draw every point as a dot (few points, each of which counts).
    """

    name: str
    xs: array[float]
    ys: array[float]
    markers: bool = False

    def named(self, name: str, *, markers: bool = False) -> Curve:
        """The same points under another name."""
        return replace(self, name=name, markers=markers)


@dataclass(frozen=True)
class Axes:
    """How to draw the axes.

    Attributes:
        x_unit: stands at the right end under the x axis ("iteration").
        log_y: logarithmic; values that are not positive become gaps.
        from_zero: the y axis starts at 0, so that a small change does not look like a large one.
        percent: the values are shares; the y axis goes from 0 to 1 and is labelled in percent.
        x_low, x_high: fixed ends of the x axis; None: the data's.
        label_width: least cells for the labels of the y axis, so that charts one above the other line up.
    """

    x_unit: str = ""
    log_y: bool = False
    from_zero: bool = False
    percent: bool = False
    x_low: float | None = None
    x_high: float | None = None
    label_width: int = 0


class Series:
    """Points that arrive one after the other, kept in the order of x.

    A point at an x that is there already replaces it (where two attempts speak of one step, the later one counts); a
    point before the last one is put in its place.
    """

    def __init__(self, points: Iterable[tuple[float, float | None]] = ()) -> None:
        self.xs: array[float] = array("d")
        self.ys: array[float] = array("d")
        self.extend(points)

    def __len__(self) -> int:
        return len(self.xs)

    def add(self, x: float, y: float | None) -> None:
        """Add a point; None, infinities and what is as good as infinite become NaN, a gap."""
        value = math.nan if y is None or not abs(y) <= MOST else y if abs(y) >= LEAST else 0.0
        if not self.xs or x > self.xs[-1]:
            self.xs.append(x)
            self.ys.append(value)
            return
        at = bisect_left(self.xs, x)
        if self.xs[at] == x:
            self.ys[at] = value
        else:
            self.xs.insert(at, x)
            self.ys.insert(at, value)

    def extend(self, points: Iterable[tuple[float, float | None]]) -> None:
        for x, y in points:
            self.add(x, y)

    def curve(self, name: str = "", *, markers: bool = False) -> Curve:
        """A copy that no later point changes: safe to hand to another thread."""
        return Curve(name, self.xs[:], self.ys[:], markers)

    def last(self) -> float | None:
        """The newest value that is a number, None if there is none."""
        return next((y for y in reversed(self.ys) if not math.isnan(y)), None)
