"""What a chart is drawn from: growing series, frozen curves, axes. No numpy here: the first paint goes without."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Floats: TypeAlias = "array[float]"  # doubles
XKind: TypeAlias = Literal["step", "env steps", "since start", "clock"]
XUnit: TypeAlias = Literal["number", "clock", "duration"]
KINDS: tuple[XKind, ...] = ("step", "env steps", "since start", "clock")
SMOOTHS = (0.0, 0.6, 0.9, 0.97, 0.99)


@dataclass(frozen=True, eq=False)
class Curve:
    """One line of a chart, as it is drawn. Its arrays never change; `same` compares them by identity, which costs
    nothing, however long they are.

    Attributes:
        name: shown beside the line where a chart has several.
        xs: ascending; doubles.
        ys: as many; NaN makes a gap.
        markers: draw every point as a mark (few points, each of which counts).
        times: as many; unix seconds. None: not known.
        lows, highs: as many; the interval around each point, NaN where there is none: a bar through a mark, a faded
            band around a line.
        tone: which of the colours and marks it gets; None: by its place among the curves.
        reference: the baseline that the others are told against: its line is dashed.
    """

    name: str
    xs: Floats
    ys: Floats
    markers: bool = False
    times: Floats | None = None
    lows: Floats | None = None
    highs: Floats | None = None
    tone: int | None = None
    reference: bool = False

    def named(self, name: str, *, markers: bool = False) -> Curve:
        """The same points under another name."""
        return replace(self, name=name, markers=markers)

    def last(self) -> float | None:
        """The newest value that is a number."""
        return next((y for y in reversed(self.ys) if y == y), None)

    def same(self, other: Curve) -> bool:
        """Whether the other one would be drawn just like this one, for all that is quick to see."""
        ours, theirs = vars(self), vars(other)
        return all(ours[key] is theirs[key] or (key not in _ARRAYS and ours[key] == theirs[key]) for key in ours)


_ARRAYS = {"xs", "ys", "times", "lows", "highs"}


@dataclass(frozen=True)
class Mark:
    """A vertical line: a checkpoint was written at `x`, or the run went on from there after a stop."""

    x: float
    kind: Literal["checkpoint", "resume"]


@dataclass(frozen=True)
class Axes:
    """How to draw the axes, and what else there is to see.

    Attributes:
        x_unit: stands at the right end under the x axis ("iteration").
        x_kind: what x is: a number, unix seconds ("clock"), or seconds since some beginning ("duration").
        log_y: logarithmic; values that are not positive become gaps.
        from_zero: the y axis starts at 0, so that a small change does not look like a large one.
        percent: the values are shares; the y axis goes from 0 to 1 and is labelled in percent.
        x_low, x_high: fixed ends of the x axis; None: the data's.
        label_width: least cells for the labels of the y axis, so that charts one above the other line up.
        smooth: weight of the running average that is drawn over a faded band of what was logged; 0: no average.
        clip: leave outliers out of the y axis; an arrow at the edge shows where they are.
        cursor: x of a vertical line.
        marks: other vertical lines.
        nan_marks: a cross at the bottom wherever a value was not a number.
    """

    x_unit: str = ""
    x_kind: XUnit = "number"
    log_y: bool = False
    from_zero: bool = False
    percent: bool = False
    x_low: float | None = None
    x_high: float | None = None
    label_width: int = 0
    smooth: float = 0.0
    clip: bool = False
    cursor: float | None = None
    marks: tuple[Mark, ...] = ()
    nan_marks: bool = True


class Series:
    """Points that arrive one after the other, kept in the order of x.

    A point at an x that is there already replaces it (where two attempts speak of one step, the later one counts); a
    point before the last one is put in its place.
    """

    def __init__(self, points: Iterable[tuple[float, float | None]] = ()) -> None:
        self.xs: Floats = array("d")
        self.ys: Floats = array("d")
        self.extend(points)

    def __len__(self) -> int:
        return len(self.xs)

    def add(self, x: float, y: float | None) -> None:
        """Add a point; None and infinities become NaN, a gap."""
        value = y if y is not None and math.isfinite(y) else math.nan
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
