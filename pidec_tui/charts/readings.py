"""What a chart's title says in numbers: last, best, change; or the values at the cursor. Pure."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .points import Floats
from .series import Axes, Curve
from .spans import cut
from .ticks import number
from .timeticks import duration_label, moment_label

SECONDS_BELOW = 1200.0  # a stretch of time that is shorter is told with seconds: its columns are some seconds each

Part = tuple[str, Literal["name", "value", "label"]]  # text, and how it is shown


@dataclass(frozen=True)
class Reading:
    """Numbers of one curve within the window; None where there is none.

    Attributes:
        last, last_x: the newest value and where it was.
        best, best_x: the best value and where it was; None also where neither end is better.
        since: what the change counts from: the value at the cursor, else the first in the window.
    """

    last: float | None = None
    best: float | None = None
    best_x: float | None = None
    since: float | None = None
    last_x: float | None = None


def reading_of(curve: Curve, axes: Axes, better: str) -> Reading:
    """Args: better: "up", "down", or "" where neither end is."""
    xs = np.frombuffer(curve.xs) if len(curve.xs) else np.empty(0)
    ys = np.frombuffer(curve.ys) if len(curve.xs) else np.empty(0)
    shown = np.isfinite(ys)
    if axes.x_low is not None:
        shown &= xs >= axes.x_low
    if axes.x_high is not None:
        shown &= xs <= axes.x_high
    xs, ys = xs[shown], ys[shown]
    if not len(ys):
        return Reading()
    at = {"up": int(np.argmax(ys)), "down": int(np.argmin(ys))}.get(better)
    since = ys[0] if axes.cursor is None else ys[_nearest(xs, axes.cursor)]
    best, best_x = (None, None) if at is None else (float(ys[at]), float(xs[at]))
    return Reading(float(ys[-1]), best, best_x, float(since), float(xs[-1]))


def value_at(curve: Curve, x: float) -> float | None:
    """The value of the point nearest to `x`; NaN where that is a gap, None without points."""
    return curve.ys[_nearest(curve.xs, x)] if len(curve.xs) else None


def _nearest(xs: Sequence[float] | Floats, x: float) -> int:
    at = bisect_left(xs, x)
    return at - 1 if at == len(xs) or (at and x - xs[at - 1] <= xs[at] - x) else at


def title_parts(name: str, curves: Sequence[Curve], axes: Axes, better: str, width: int) -> list[Part]:
    """The title as far as it fits into `width` cells: name, values (at the cursor, else the last ones), then, where
    the chart has one curve or one that is told apart by its marks, best and change."""
    pieces: list[list[Part]] = [[(name, "name")]]
    told = next((curve for curve in curves if curve.markers), curves[0] if curves else None)
    single = len({curve.tone for curve in curves}) <= 1  # one run
    shown = [told] if single and axes.cursor is None and told is not None else list(curves)
    for curve in shown:
        value = reading_of(curve, axes, "").last if axes.cursor is None else value_at(curve, axes.cursor)
        if value is not None:
            label = f"{curve.name} " if len(shown) > 1 and curve.name else ""
            pieces.append([(f"  {label}", "label"), (value_text(value, axes), "value"), *_against(curve, curves, axes)])
    if told is not None and single:
        reading = reading_of(told, axes, better)
        if reading.best is not None and reading.best_x is not None:
            at = f" @{x_text(reading.best_x, axes)}"
            pieces.append([("  best ", "label"), (value_text(reading.best, axes), "value"), (at, "label")])
        if reading.last is not None and reading.since is not None and len(told.xs) > 1:
            pieces.append([("  Δ ", "label"), (change_text(reading.since, reading.last, axes), "value")])
    return _fitting(pieces, width)


def _against(curve: Curve, curves: Sequence[Curve], axes: Axes) -> list[Part]:
    """The change from the baseline to this run, at the cursor, else where this run is now: a run that is half through
    is held against what the baseline had by then. Empty where there is no baseline, or none of this metric."""
    baseline = next((each for each in curves if each.reference and _metric(each) == _metric(curve)), None)
    if curve.reference or baseline is None:
        return []
    if axes.cursor is None:
        reading = reading_of(curve, axes, "")
        now, x = reading.last, reading.last_x
    else:
        now, x = value_at(curve, axes.cursor), axes.cursor
    before = None if x is None else value_at(baseline, x)
    if now is None or before is None or not math.isfinite(now) or not math.isfinite(before):
        return []
    return [(f" Δ {change_text(before, now, axes)}", "label")]


def _metric(curve: Curve) -> str:
    """What is behind the letter of its run."""
    return curve.name.partition(" ")[2]


def _fitting(pieces: list[list[Part]], width: int) -> list[Part]:
    (name, role), room = pieces[0][0], width
    parts: list[Part] = [(cut(name, width), role)]
    room -= len(parts[0][0])
    for piece in pieces[1:]:
        length = sum(len(text) for text, _ in piece)
        if length > room:
            break
        parts += piece
        room -= length
    return parts


def value_text(value: float, axes: Axes) -> str:
    if math.isnan(value):
        return "NaN"
    return f"{number(value * 100)}%" if axes.percent else number(value)


def change_text(before: float, now: float, axes: Axes) -> str:
    """Percentage points of shares; of other numbers the change in percent, where that means something."""
    if axes.percent:
        return f"{(now - before) * 100:+.0f} pp"
    if before == 0 or before * now < 0 or abs(now) > 100 * abs(before):
        return f"{'+' if now >= before else ''}{number(now - before)}"
    return f"{100 * (now - before) / abs(before):+.{1 if abs(now - before) < 0.1 * abs(before) else 0}f}%"


def _close(axes: Axes) -> bool:
    """Whether minutes are too coarse to tell two places on the axis apart."""
    return axes.x_low is not None and axes.x_high is not None and axes.x_high - axes.x_low < SECONDS_BELOW


def x_text(x: float, axes: Axes) -> str:
    """One x as a reader would say it."""
    if axes.x_kind == "duration":
        return duration_label(x, 60.0)
    if axes.x_kind == "clock":
        return moment_label(x, time.time(), seconds=_close(axes))
    return number(x)
