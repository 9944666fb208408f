"""Curves and axes -> rows of text with roles. Pure: the same input gives the same rows, with no screen in sight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .braille import DOTS_X
from .envelope import Envelope, envelope
from .layers import MARKERS, TONES, Plot
from .points import Floats, Points, intervals_of, marked, nans_of, numbers, points_of
from .scales import YAxis, x_labels, y_axis
from .series import Axes, Curve
from .series import Floats as Doubles
from .smooth import ema
from .spans import Rows, Span, empty

MARKER = MARKERS[0]
LEAST_WIDTH, LEAST_HEIGHT = 12, 3
LEAST_PLOT = 2  # cells that are left for the curve beside the labels
_MOST_LINES = 0.25  # of the columns; more checkpoints than this stand on the axis alone


@dataclass(frozen=True)
class Frame:
    """Where the plot lies in a picture: from cell `left`, `width` cells wide, from `x_low` to `x_high`."""

    left: int
    width: int
    x_low: float
    x_high: float

    def x_at(self, cell: float) -> float:
        """The x in the middle of a cell, counted from the picture's left edge; the nearest end outside the plot."""
        share = (cell - self.left + 0.25) / max(self.width - 0.5, 1)
        return self.x_low + min(max(share, 0.0), 1.0) * (self.x_high - self.x_low)


@dataclass(frozen=True)
class _Layer:
    """A curve, made ready: its line, the band behind it (two edges), the numbers that the y axis must hold."""

    curve: Curve
    tone: int
    line: Points
    band: tuple[Points, Points] | None
    bars: tuple[Floats, Floats, Floats]
    torn: bool  # whether there may be values that are no numbers

    def heights(self) -> list[Floats]:
        edges = [edge.ys for edge in dict.fromkeys(self.band or ())]
        return [ys for ys in (self.line.ys, *edges, self.bars[1], self.bars[2]) if len(ys)]


def draw(curves: Sequence[Curve], width: int, height: int, axes: Axes | None = None) -> Rows:
    """Draw curves into `height` rows of exactly `width` cells.

    Where curves share a cell, its colour is that of the last of them. Without any number to draw, the rows say so.
    """
    return picture(curves, width, height, axes)[0]


def picture(curves: Sequence[Curve], width: int, height: int, axes: Axes | None = None) -> tuple[Rows, Frame | None]:
    """The same, and where its plot lies; None: there is none."""
    axes = axes or Axes()
    layers = [_layer(index, curve, axes) for index, curve in enumerate(curves)]
    heights = [ys for layer in layers for ys in layer.heights()]
    if width < LEAST_WIDTH or height < LEAST_HEIGHT or not heights:
        zoomed = any(np.isfinite(numbers(curve.ys, log_y=axes.log_y)).any() for curve in curves)
        return empty(width, height, "no numbers in this stretch" if zoomed else "no numbers yet"), None

    scale = y_axis(heights, axes, height)
    axis_rows = 2 if height >= 6 else 1
    gutter = max([axes.label_width, *(len(label) for label in scale.labels)]) + 2
    right = min(max((len(curve.name) for curve in curves), default=-1) + 1, width // 4) if len(curves) > 1 else 0
    plot_width = width - gutter - right
    if plot_width < LEAST_PLOT:
        return empty(width, height, "no room for its numbers"), None

    plot = Plot(plot_width, height - axis_rows, scale, *_x_range(layers, axes))
    on_axis = _fill(plot, layers, axes)
    names = _end_labels(layers, plot) if len(curves) > 1 else {}
    rows = _with_labels(plot, scale, gutter, names, right)
    rows += _x_axis(plot, axes, gutter, right, axis_rows, on_axis)
    return rows, Frame(gutter, plot_width, plot.x_low, plot.x_high)


def as_text(rows: Sequence[Sequence[Span]]) -> str:
    """The rows without their roles, for tests and for a plain terminal."""
    return "\n".join("".join(span.text for span in row).rstrip() for row in rows)


def _layer(index: int, curve: Curve, axes: Axes) -> _Layer:
    """With smoothing the line is the average, and the band what was logged; a group's band is its interval."""
    tone = (index if curve.tone is None else curve.tone) % TONES
    logged = points_of(curve, axes)
    none = np.empty(0)
    if curve.markers:
        return _Layer(curve, tone, logged, None, intervals_of(curve, axes), True)
    band, line = None, logged
    if axes.smooth > 0 and len(curve.xs):
        line = points_of(curve, axes, _smooth(curve.ys, axes))
        band = (logged, logged)
    if curve.lows is not None and curve.highs is not None and len(curve.xs):
        low, high = (points_of(curve, axes, _smooth(edge, axes)) for edge in (curve.lows, curve.highs))
        band = (low, high)
    return _Layer(curve, tone, line, band, (none, none, none), logged.piece is not None or not len(logged.ys))


def _smooth(values: Doubles, axes: Axes) -> Floats:
    """The average is of the values, not of their logarithms."""
    smooth = ema(numbers(values), axes.smooth)
    if axes.log_y:
        with np.errstate(divide="ignore", invalid="ignore"):
            smooth = np.log10(np.where(smooth > 0, smooth, np.nan))
    return smooth


def _x_range(layers: list[_Layer], axes: Axes) -> tuple[float, float]:
    some = [layer.line for layer in layers if len(layer.line.xs)]
    low = axes.x_low if axes.x_low is not None else min(float(points.xs[0]) for points in some)
    high = axes.x_high if axes.x_high is not None else max(float(points.xs[-1]) for points in some)
    return low, high


def _fill(plot: Plot, layers: list[_Layer], axes: Axes) -> dict[int, tuple[str, str]]:
    """All that stands in the plot; gives what belongs on the axis below: column -> (character, role)."""

    def shape(points: Points) -> Envelope:
        return envelope(points, plot.x_low, plot.x_high, plot.width * DOTS_X)

    lines = {f"curve{layer.tone}" for layer in layers}
    shapes = [shape(layer.line) for layer in layers]
    for layer in layers:
        if layer.band is not None:
            low, high = layer.band
            below = shape(low)
            above = below if high is low else shape(high)
            plot.band(below.low, above.high, f"band{layer.tone}")
    for layer, drawn in zip(layers, shapes, strict=True):
        plot.line(dashed(drawn) if layer.curve.reference else drawn, f"curve{layer.tone}", lines)
    for layer, drawn in zip(layers, shapes, strict=True):
        marker, role = MARKERS[layer.tone if layer.curve.tone is not None else 0], f"curve{layer.tone}"
        if axes.clip:
            plot.arrows(drawn, role)
        if layer.curve.markers:
            plot.bars(*layer.bars, role)
            plot.marks(*marked(layer.curve, axes), marker, role)
        elif len(drawn.lonely):
            plot.marks(*_spots(plot, drawn.lonely), marker, role)
        if axes.nan_marks and layer.torn:
            plot.crosses(nans_of(layer.curve, axes))
    return _thin(plot, axes)


def dashed(shape: Envelope) -> Envelope:
    """Three cells of a line, then two without: a baseline is told apart without colour."""
    gap = np.arange(len(shape.low)) // DOTS_X % 5 > 2
    return replace(shape, low=np.where(gap, np.nan, shape.low), high=np.where(gap, np.nan, shape.high))


def _spots(plot: Plot, lonely: Floats) -> tuple[Floats, Floats]:
    """Columns of dots back to x."""
    steps = max(plot.width * DOTS_X - 1, 1)
    return plot.x_low + lonely[:, 0] / steps * (plot.x_high - plot.x_low), lonely[:, 1]


def _thin(plot: Plot, axes: Axes) -> dict[int, tuple[str, str]]:
    """Cursor, resumes and checkpoints: lines behind the curves, and their feet on the axis."""
    feet: dict[int, tuple[str, str]] = {}
    shown = [mark for mark in axes.marks if plot.x_low <= mark.x <= plot.x_high]
    if axes.cursor is not None and plot.x_low <= axes.cursor <= plot.x_high:
        feet.update(dict.fromkeys(plot.upright([axes.cursor], "│", "cursor"), ("╂", "cursor")))
    resumes = plot.upright([mark.x for mark in shown if mark.kind == "resume"], "╎", "resume")
    for column in resumes:
        feet.setdefault(column, ("↻", "resume"))
    saved = [mark.x for mark in shown if mark.kind == "checkpoint"]
    few = len(saved) <= max(1, plot.width * _MOST_LINES)
    columns = plot.upright(saved, "┊", "checkpoint") if few else plot.columns(saved)
    for column in columns:
        feet.setdefault(column, ("◇", "checkpoint"))
    return feet


def _end_labels(layers: list[_Layer], plot: Plot) -> dict[int, tuple[str, int]]:
    """Row -> (name, tone) of the curves, each as near to its last value as the others leave room."""
    taken: dict[int, tuple[str, int]] = {}
    for layer in layers:
        free = [row for row in range(plot.height) if row not in taken]
        if not len(layer.line.ys) or not free:
            continue
        wish = plot.row_of(float(layer.line.ys[-1]))
        taken[min(free, key=lambda row: abs(row - wish))] = (layer.curve.name, layer.tone)
    return taken


def _with_labels(plot: Plot, scale: YAxis, gutter: int, names: dict[int, tuple[str, int]], right: int) -> Rows:
    """The plot between the labels of its y axis and the names of its curves."""
    ticks = {plot.row_of(tick): label for tick, label in zip(scale.ticks, scale.labels, strict=True)}
    rows = []
    for row, stretches in enumerate(plot.rows()):
        label = ticks.get(row)
        spans = [Span(f"{label or '':>{gutter - 2}} ", "label"), Span("┤" if label else "│", "axis")]
        spans += [Span(text, role) for text, role in stretches]
        if right:
            name, tone = names.get(row, ("", 0))
            spans.append(Span(f" {name[: right - 1]:<{right - 1}}", f"curve{tone}"))
        rows.append(spans)
    return rows


def _x_axis(plot: Plot, axes: Axes, gutter: int, right: int, rows: int, feet: dict[int, tuple[str, str]]) -> Rows:
    """The axis line (with two rows) and its labels. Ticks show between checkpoints, however dense those are."""
    unit, labels = axes.x_unit, x_labels(plot.x_low, plot.x_high, axes, plot.width)
    whole = gutter + plot.width + right
    placed = _place(labels, gutter, whole - len(unit) - 1 if unit else whole)
    if len(placed) < 2 <= len(labels):  # numbers before words, where there is no room for both
        unit, placed = "", _place(labels, gutter, whole)
    text, line = [" "] * whole, [("─", "axis")] * plot.width
    for start, column, label in placed:
        text[start : start + len(label)] = label
        line[column] = ("┬", "axis")
    crowded = sum(foot[1] == "checkpoint" for foot in feet.values()) > plot.width * _MOST_LINES
    for column, foot in feet.items():
        if not (crowded and foot[1] == "checkpoint" and line[column][0] == "┬"):
            line[column] = foot
    text[whole - len(unit) :] = unit
    label_row = [Span("".join(text), "label")]
    if rows == 1:
        return [label_row]
    spans = [Span(" " * (gutter - 1), ""), Span("└", "axis")]
    for character, role in line:
        if spans[-1].role == role:
            spans[-1] = Span(spans[-1].text + character, role)
        else:
            spans.append(Span(character, role))
    return [[*spans, Span(" " * right, "")], label_row]


def _place(labels: list[tuple[int, str]], gutter: int, end: int) -> list[tuple[int, int, str]]:
    """(start, column, label) of those labels that fit between the last one and `end`, each under its column."""
    placed: list[tuple[int, int, str]] = []
    free = 0
    for column, label in labels:
        start = max(gutter + column - len(label) // 2, 0)
        if start >= free and start + len(label) <= end:
            placed.append((start, column, label))
            free = start + len(label) + 1
    return placed
