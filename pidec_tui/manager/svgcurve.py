"""A curve as a piece of SVG that needs nothing else: for pages that people keep and send. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 20, 8, 24
_COLUMNS = 480  # a screen shows no more; what falls into one column is drawn as its mean, over a band of its extremes
_LEAST = 1e-290  # less apart is not to be told apart: what a decay comes to before it is 0 has no tenth part any more
_MANY, _SHORT = 30, 7  # marks that are drawn through the curve; the height of each where they are more

Point = tuple[float, float | None]  # step, value; None: it was no number


@dataclass(frozen=True)
class Bar:
    """A measured share with its interval."""

    x: float
    low: float
    value: float
    high: float


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def curve(
    points: Sequence[Point],
    *,
    bars: Sequence[Bar] = (),
    marks: Sequence[tuple[float, str]] = (),
    resumes: Sequence[tuple[float, str]] = (),
    log: bool = False,
    span: tuple[float, float] | None = None,
    from_zero: bool = False,
) -> str:
    """An SVG element. A value that was no number interrupts the line.

    Args:
        points: by x.
        bars: drawn as dots with their intervals, in the line's stead.
        marks: x with what happened there, as vertical lines; where they are many, short ones at the bottom.
        resumes: the same, always drawn whole.
        log: a logarithmic y axis, where all values allow one.
        span: ends of the x axis; None: the points'.
        from_zero: the y axis begins at 0.
    """
    log = log and all(value is None or value > 0 for _, value in points)
    if log:
        points = [(x, None if value is None else math.log10(value)) for x, value in points]
    numbers = [value for _, value in points if value is not None]
    if not numbers:
        return "<p>no value that is a number</p>"
    heights = [*numbers, *(edge for bar in bars for edge in (bar.low, bar.high))]
    xs = _Scale(*_spread(*(span or (points[0][0], points[-1][0]))), _LEFT, WIDTH - _RIGHT)
    low = 0.0 if from_zero else min(heights)
    ys = _Scale(*_spread(low, max(heights), 0.04), HEIGHT - _BOTTOM, _TOP)
    top = HEIGHT - _BOTTOM - _SHORT if len(marks) > _MANY else _TOP
    parts = [*_axes(xs, ys, log), *_marks(marks, xs, top), *_marks(resumes, xs, _TOP)]
    parts += _bars(bars, xs, ys) if bars else _line(points, xs, ys)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


def _spread(low: float, high: float, margin: float = 0.0) -> tuple[float, float]:
    if high - low < _LEAST:
        return (low - 0.1 * abs(low), low + 0.1 * abs(low)) if abs(low) > _LEAST else (0.0, 1.0)
    return low - margin * (high - low), high + margin * (high - low)


def _axes(xs: _Scale, ys: _Scale, log: bool) -> Iterator[str]:
    for value, at in _decades(ys.low, ys.high) if log else [(tick, tick) for tick in _ticks(ys.low, ys.high, 4)]:
        y = ys(at)
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>'
        yield f'<text class="y" x="{_LEFT - 6}" y="{y + 4:.1f}">{_short(value)}</text>'
    for value in _ticks(xs.low, xs.high, 5):
        yield f'<text class="x" x="{xs(value):.1f}" y="{HEIGHT - 6}">{_short(value)}</text>'


def _marks(marks: Sequence[tuple[float, str]], xs: _Scale, top: float) -> Iterator[str]:
    for x, text in marks:
        if xs.low <= x <= xs.high:
            line = f'<path class="mark" d="M{xs(x):.1f} {top}V{HEIGHT - _BOTTOM}"/>'
            yield f"<g><title>{escape(text)}</title>{line}</g>"


def _bars(bars: Sequence[Bar], xs: _Scale, ys: _Scale) -> Iterator[str]:
    for bar in bars:
        x = f"{xs(bar.x):.1f}"
        told = f"step {bar.x:,.0f}: {bar.value:.3g} ({bar.low:.3g} to {bar.high:.3g})"
        yield (
            f'<g><title>{told}</title><path class="bar" d="M{x} {ys(bar.low):.1f}V{ys(bar.high):.1f}"/>'
            f'<circle class="dot" cx="{x}" cy="{ys(bar.value):.1f}" r="3"/></g>'
        )


def _line(points: Sequence[Point], xs: _Scale, ys: _Scale) -> Iterator[str]:
    for stretch in _stretches(points):
        columns = _columns(stretch, xs)
        if len(columns) == 1:
            x, _, middle, _ = columns[0]
            yield f'<circle class="dot" cx="{x:.1f}" cy="{ys(middle):.1f}" r="2.5"/>'
            continue
        if any(low < high for _, low, _, high in columns):
            above = " ".join(f"{x:.1f},{ys(high):.1f}" for x, _, _, high in columns)
            below = " ".join(f"{x:.1f},{ys(low):.1f}" for x, low, _, _ in reversed(columns))
            yield f'<polygon class="band" points="{above} {below}"/>'
        middles = " ".join(f"{x:.1f},{ys(middle):.1f}" for x, _, middle, _ in columns)
        yield f'<polyline class="line" points="{middles}"/>'


def _stretches(points: Sequence[Point]) -> Iterator[list[tuple[float, float]]]:
    """The points between two that were no number."""
    stretch: list[tuple[float, float]] = []
    for x, value in points:
        if value is not None:
            stretch.append((x, value))
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _columns(stretch: Sequence[tuple[float, float]], xs: _Scale) -> list[tuple[float, float, float, float]]:
    """(x, lowest, mean, highest) of each column that has a point."""
    columns: dict[int, list[tuple[float, float]]] = {}
    for step, value in stretch:
        x = xs(step)
        columns.setdefault(int((x - xs.start) / (xs.end - xs.start) * _COLUMNS), []).append((x, value))
    found = []
    for inside in columns.values():
        values = [value for _, value in inside]
        found.append((inside[len(inside) // 2][0], min(values), math.fsum(values) / len(values), max(values)))
    return found


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers within [low, high], about `most`."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _decades(low: float, high: float) -> list[tuple[float, float]]:
    """1, 2, 5, 10 … within powers of ten `low` and `high`, with their logarithms; 1, 10 … where those are many."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    ticks = [(factor * 10.0**power, factor) for power in powers for factor in (1, 2, 5)]
    inside = [(tick, factor) for tick, factor in ticks if tick and low <= math.log10(tick) <= high]
    whole = [(tick, factor) for tick, factor in inside if factor == 1]
    return [(tick, math.log10(tick)) for tick, _ in (whole if len(inside) > 7 and whole else inside)]


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.3g}"
