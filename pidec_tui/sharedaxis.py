"""The one x axis of several runs: what it may count, where it ends, how a place on it is said. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .charts.series import KINDS, Axes, XKind, XUnit
from .charts.ticks import number
from .charts.window import rounded_end
from .runtraces import RunTrace

UNITS: dict[XKind, str] = {"env steps": "env step", "since start": "since start", "clock": "time"}
X_UNITS: dict[XKind, XUnit] = {"since start": "duration", "clock": "clock"}


def kinds_of(runs: Sequence[RunTrace]) -> list[XKind]:
    """What the axis may count: env steps only where all runs tell them."""
    counted = bool(runs) and all(run.env_steps is not None for run in runs)
    return [kind for kind in KINDS if kind != "env steps" or counted]


def ends_of(runs: Sequence[RunTrace], kind: XKind) -> tuple[float, float]:
    """The ends of the axis: of all metrics of all runs, so that every chart has the same."""
    low, high = [], []
    for run in runs:
        for name, curve in run.curves.items():
            if len(curve.xs):
                first, last = run.ends(name, kind)
                low.append(first)
                high.append(last)
    if not low:
        return 0.0, 1.0
    start = min(low) if kind == "clock" else min(0.0, *low)
    return start, rounded_end(start, max(high) if max(high) > start else start + 1.0)


def carried(xs: Sequence[float | None], runs: Sequence[RunTrace], before: XKind, after: XKind) -> list[float | None]:
    """Where these x lie on another axis, by the first run's longest curve."""
    import numpy as np

    clock = runs[0].longest() if runs else None
    if clock is None or not len(clock.xs):
        return list(xs)
    steps = clock.xs.tolist()
    old, new = (runs[0].places(steps, kind) for kind in (before, after))
    return [None if x is None else float(np.interp(x, old, new)) for x in xs]


def said(x: float, kind: XKind, span: tuple[float, float]) -> str:
    """One x as the title says it, as exact as this stretch of the axis needs."""
    if kind in X_UNITS:
        from .charts.readings import x_text

        return x_text(x, Axes(x_kind=X_UNITS[kind], x_low=span[0], x_high=span[1]))
    return f"{x:,.0f}" if abs(x) >= 100 else number(x, 4)
