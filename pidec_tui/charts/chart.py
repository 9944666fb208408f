"""Curves and axes -> rows of text with roles. Pure: the same input gives the same rows, with no screen in sight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .braille import DOTS_X, DOTS_Y, cells_of_dots, dots_of_spans, text_of_cells
from .envelope import Envelope, Floats, Points, columns_of, envelope
from .series import Axes, Curve
from .ticks import linear_ticks, log_ticks, number

MARKER = "●"
LEAST_WIDTH, LEAST_HEIGHT = 12, 3
LEAST_PLOT = 2  # cells that are left for the curve beside the labels


class Span(NamedTuple):
    """A stretch of one row. `role` is "", "axis", "label" or "curve0", "curve1", ... in the order of the curves."""

    text: str
    role: str


@dataclass(frozen=True)
class _YAxis:
    low: float
    high: float
    ticks: list[float]
    labels: list[str]

    def rows(self, values: Floats, height: int) -> Floats:
        """Row of dots of each value, 0 at the top; NaN stays NaN."""
        rows: Floats = np.floor((self.high - values) / (self.high - self.low) * (height - 1) + 0.5)
        return rows


def draw(curves: Sequence[Curve], width: int, height: int, axes: Axes | None = None) -> list[list[Span]]:
    """Draw curves into `height` rows of exactly `width` cells.

    Where curves share a cell, its colour is that of the last of them. Without any number to draw, the rows say so.
    """
    axes = axes or Axes()
    data = [_points(curve, axes) for curve in curves]
    if width < LEAST_WIDTH or height < LEAST_HEIGHT or not any(len(points.ys) for points in data):
        return empty(width, height, "no numbers yet")

    x_low, x_high = _x_range(data, axes)
    y_axis = _y_axis([points.ys for points in data if len(points.ys)], axes, height)
    axis_rows = 2 if height >= 6 else 1
    plot_height = height - axis_rows
    gutter = max([axes.label_width, *(len(label) for label in y_axis.labels)]) + 2
    names = _end_labels(curves, data, y_axis, plot_height) if len(curves) > 1 else {}
    right = min(max((len(name) for name, _ in names.values()), default=-1) + 1, width // 4)
    plot_width = width - gutter - right
    if plot_width < LEAST_PLOT:
        return empty(width, height, "no room for its numbers")

    envelopes = [envelope(points, x_low, x_high, plot_width * DOTS_X) for points in data]
    cells, owner = _raster(envelopes, y_axis, plot_width, plot_height)
    lines = [list(line) for line in text_of_cells(cells)]
    _put_markers(lines, owner, curves, data, envelopes, y_axis, (x_low, x_high))

    tick_rows = {
        _cell_row(y_axis, tick, plot_height): label for tick, label in zip(y_axis.ticks, y_axis.labels, strict=True)
    }
    rows = []
    for row, line in enumerate(lines):
        label = tick_rows.get(row)
        spans = [Span(f"{label or '':>{gutter - 2}} ", "label"), Span("┤" if label else "│", "axis")]
        spans += _runs(line, owner[row])
        if right:
            name, index = names.get(row, ("", 0))
            spans.append(Span(f" {name[: right - 1]:<{right - 1}}", f"curve{index}"))
        rows.append(spans)
    rows += _x_axis(x_low, x_high, axes.x_unit, gutter, plot_width, right, axis_rows)
    return rows


def empty(width: int, height: int, text: str) -> list[list[Span]]:
    """Rows of blanks with `text` in the middle."""
    blank = [Span(" " * width, "")]
    rows = [list(blank) for _ in range(height)]
    if height and width:
        rows[(height - 1) // 2] = [Span(text[:width].center(width), "label")]
    return rows


def as_text(rows: Sequence[Sequence[Span]]) -> str:
    """The rows without their roles, for tests and for a plain terminal."""
    return "\n".join("".join(span.text for span in row).rstrip() for row in rows)


def _points(curve: Curve, axes: Axes) -> Points:
    if not len(curve.xs):
        return Points(np.empty(0), np.empty(0), None)
    xs, ys = np.frombuffer(curve.xs), np.frombuffer(curve.ys)
    if axes.log_y:
        with np.errstate(divide="ignore", invalid="ignore"):
            ys = np.log10(np.where(ys > 0, ys, np.nan))
    return Points.of(xs, ys, axes.x_low, axes.x_high)


def _x_range(data: list[Points], axes: Axes) -> tuple[float, float]:
    low = axes.x_low if axes.x_low is not None else min(float(p.xs[0]) for p in data if len(p.xs))
    high = axes.x_high if axes.x_high is not None else max(float(p.xs[-1]) for p in data if len(p.xs))
    return low, high


def _y_axis(parts: list[Floats], axes: Axes, height: int) -> _YAxis:
    """Ends, ticks and labels; for a logarithmic axis ends and ticks are exponents of ten."""
    low, high = min(float(ys.min()) for ys in parts), max(float(ys.max()) for ys in parts)
    most = max(2, min(6, height // 3 + 1))
    if axes.percent:
        low, high = min(low, 0.0), max(high, 1.0)
        ticks = linear_ticks(low, high, most)
        return _YAxis(low, high, ticks, [f"{number(tick * 100)}%" for tick in ticks])
    if axes.from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high == low:
        pad = (0.15 if axes.log_y else abs(low) * 0.1) or 1.0
        low, high = low - pad, high + pad
    else:
        pad = (high - low) * 0.04
        low, high = (low if axes.from_zero and low == 0 else low - pad), high + pad
    if axes.log_y:
        values = log_ticks(10**low, 10**high, most)
        return _YAxis(low, high, [math.log10(v) for v in values if v > 0], _labels([v for v in values if v > 0]))
    ticks = linear_ticks(low, high, most)
    return _YAxis(low, high, ticks, _labels(ticks))


def _labels(ticks: list[float]) -> list[str]:
    """As few digits as keep the labels apart."""
    for digits in range(2, 9):
        labels = [number(tick, digits) for tick in ticks]
        if len(set(labels)) == len(labels):
            return labels
    return [repr(tick) for tick in ticks]


def _cell_row(y_axis: _YAxis, value: float, plot_height: int) -> int:
    return int(y_axis.rows(np.array([value]), plot_height * DOTS_Y)[0]) // DOTS_Y


def _end_labels(
    curves: Sequence[Curve], data: list[Points], y_axis: _YAxis, plot_height: int
) -> dict[int, tuple[str, int]]:
    """Row -> (name, index) of the curves, each as near to its last value as the others leave room."""
    taken: dict[int, tuple[str, int]] = {}
    for index, (curve, points) in enumerate(zip(curves, data, strict=True)):
        if not len(points.ys):
            continue
        wish = _cell_row(y_axis, float(points.ys[-1]), plot_height)
        free = [row for row in range(plot_height) if row not in taken]
        if free:
            taken[min(free, key=lambda row: abs(row - wish))] = (curve.name, index)
    return taken


def _raster(
    envelopes: list[Envelope], y_axis: _YAxis, width: int, height: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(height, width) braille patterns, and the index of the curve each cell belongs to (-1: none)."""
    cells = np.zeros((height, width), dtype=np.uint8)
    owner = np.full((height, width), -1)
    for index, shape in enumerate(envelopes):
        top = y_axis.rows(shape.high, height * DOTS_Y)
        bottom = y_axis.rows(shape.low, height * DOTS_Y)
        own = cells_of_dots(dots_of_spans(top, bottom, height * DOTS_Y))
        cells |= own
        owner[own > 0] = index
    return cells, owner


def _put_markers(
    lines: list[list[str]],
    owner: NDArray[np.int64],
    curves: Sequence[Curve],
    data: list[Points],
    envelopes: list[Envelope],
    y_axis: _YAxis,
    x_range: tuple[float, float],
) -> None:
    """Dots, in place: every point of a curve that asks for them, and points that no line makes visible."""
    height, columns = len(lines), len(lines[0]) * DOTS_X
    for index, (curve, points, shape) in enumerate(zip(curves, data, envelopes, strict=True)):
        at, values = shape.lonely[:, 0], shape.lonely[:, 1]
        if curve.markers:
            at, values = columns_of(points.xs, *x_range, columns).astype(float), points.ys
        spots = np.column_stack([y_axis.rows(values, height * DOTS_Y) // DOTS_Y, at // DOTS_X]).astype(int)
        for row, column in np.unique(spots, axis=0).tolist() if len(spots) else []:
            if 0 <= row < height:
                lines[row][column] = MARKER
                owner[row, column] = index


def _runs(line: list[str], owner: NDArray[np.int64]) -> list[Span]:
    """One row of cells as spans of one colour each."""
    starts = np.flatnonzero(np.diff(owner, prepend=owner[0] - 1)).tolist()
    return [
        Span("".join(line[start:end]), f"curve{owner[start]}" if owner[start] >= 0 else "")
        for start, end in zip(starts, [*starts[1:], len(line)], strict=True)
    ]


def _x_axis(low: float, high: float, unit: str, gutter: int, width: int, right: int, rows: int) -> list[list[Span]]:
    """The axis line (with two rows) and its labels."""
    ticks = linear_ticks(low, high, max(2, width // 8))
    columns = columns_of(np.array(ticks), low, high, width).tolist()
    labels = list(zip(columns, _labels(ticks), strict=True))
    whole = gutter + width + right
    placed = _place(labels, gutter, whole - len(unit) - 1 if unit else whole)
    if len(placed) < 2 <= len(labels):  # numbers before words, where there is no room for both
        unit, placed = "", _place(labels, gutter, whole)
    text, line = [" "] * whole, ["─"] * width
    for start, column, label in placed:
        text[start : start + len(label)] = label
        line[column] = "┬"
    text[whole - len(unit) :] = unit
    label_row = [Span("".join(text), "label")]
    if rows == 1:
        return [label_row]
    return [[Span(" " * (gutter - 1), ""), Span("└" + "".join(line), "axis"), Span(" " * right, "")], label_row]


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
