"""The chart as text: what stands on the screen, cell by cell."""

from __future__ import annotations

import math
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pidec_tui.charts.chart import as_text, draw
from pidec_tui.charts.envelope import envelope
from pidec_tui.charts.points import Points
from pidec_tui.charts.series import Axes, Curve, Series
from pidec_tui.charts.ticks import linear_ticks, log_ticks, number


def lines(*curves: Curve, width: int = 40, height: int = 8, axes: Axes | None = None) -> list[str]:
    return as_text(draw(curves, width, height, axes)).split("\n")


def test_a_line_from_corner_to_corner() -> None:
    """Lost: the shape of every curve."""
    rows = lines(Series((i, float(i)) for i in range(101)).curve(), axes=Axes("iteration"))
    assert rows == [
        "100 ┤                              ⢀⣠⠤⠴⠒",
        "    │                        ⣀⡤⠤⠖⠚⠉⠉",
        "    │                 ⢀⣀⡤⠴⠒⠋⠉⠁",
        " 50 ┤          ⢀⣀⣠⠤⠖⠚⠉⠉",
        "    │    ⣀⣀⡤⠴⠒⠚⠉",
        "  0 ┤⠤⠖⠒⠋⠁",
        "    └┬────────────────┬─────────────────",
        "     0               50        iteration",
    ]


def test_an_empty_chart_says_so() -> None:
    """Lost: an empty rectangle that looks like a fault."""
    assert lines(height=3) == ["", "             no numbers yet", ""]
    assert lines(Series([(1, math.nan)]).curve(), height=3)[1].strip() == "no numbers yet"


def test_a_single_point_is_visible() -> None:
    """Lost: the first evaluation, alone for hours, would not be seen."""
    assert sum(row.count("●") for row in lines(Series([(10, 3.0)]).curve())) == 1


def test_a_gap_at_nan_is_not_bridged() -> None:
    """Lost: a run that diverged for a while looks as if nothing had happened."""
    whole = Series((i, 1.0) for i in range(100))
    torn = Series((i, None if 40 <= i < 60 else 1.0) for i in range(100))
    blanks = [max(row[6:].strip().count(" ") for row in lines(s.curve())[:6]) for s in (whole, torn)]
    assert blanks[0] == 0 and blanks[1] >= 5


def test_points_between_gaps_stay_visible() -> None:
    """Lost: an evaluation between two broken ones."""
    rows = lines(Series([(0, 1.0), (1, None), (2, 2.0), (3, None), (4, 1.0)]).curve())
    assert sum(row.count("●") for row in rows) == 3


def test_markers_stand_at_every_point_up_to_both_edges() -> None:
    """Lost: the newest evaluation, at the right edge, where everybody looks."""
    rows = lines(Series((i, i / 5) for i in range(6)).curve(markers=True), axes=Axes(percent=True))
    marks = sorted(column for row in rows for column, cell in enumerate(row) if cell == "●")
    assert len(marks) == 6 and marks[0] == rows[0].index("┤") + 1 and marks[-1] == 39


@pytest.mark.parametrize("axes", [Axes(), Axes(from_zero=True)])
def test_nothing_but_zeros_has_no_room_for_less_than_nothing(axes: Axes) -> None:
    """Lost: trust in a chart whose axis says that a share of time, or a load, may be below zero."""
    rows = lines(Series([(0, 0.0), (10, 0.0)]).curve(""), axes=axes)
    assert any(row.lstrip().startswith("0 ┤") for row in rows) and not any("-" in row for row in rows)


def test_a_log_axis_shows_decades_and_leaves_out_what_is_not_positive() -> None:
    """Lost: a loss that falls through three decades looks flat after the first."""
    rows = lines(Series((i, 10.0 ** -(i / 25)) for i in range(101)).curve(), height=12, axes=Axes(log_y=True))
    labels = [row.split("┤")[0].strip() for row in rows if "┤" in row]
    assert labels[0] == "1" and labels[-1] == "1e-4" and "0.01" in labels
    assert lines(Series([(1, 0.0), (2, -1.0)]).curve(), axes=Axes(log_y=True), height=3)[1].strip() == "no numbers yet"


def test_several_curves_carry_their_names() -> None:
    """Lost: which line is which, where colours are not seen."""
    up, down = Series((i, float(i)) for i in range(50)), Series((i, 50.0 - i) for i in range(50))
    rows = lines(up.curve("once"), down.curve("at end"), width=50)
    assert rows[0].endswith("once") and any(row.endswith("at end") for row in rows[3:6])


def test_every_row_has_the_width_that_was_asked_for() -> None:
    """Lost: rows that are too long push the next pane away."""
    curve = Series((i * 977, math.sin(i)) for i in range(300)).curve("a", markers=True)
    for width, height in ((12, 3), (40, 5), (41, 6), (120, 30)):
        for row in draw([curve, curve], width, height, Axes("iteration")):
            assert sum(len(span.text) for span in row) == width


def test_a_spike_of_one_point_in_a_hundred_thousand_is_seen() -> None:
    """Lost: a collapse that lasted one row, which a mean or every n-th point would hide."""
    curve = Series((i, 500.0 if i == 61_234 else 1.0) for i in range(100_000)).curve()
    top = lines(curve, width=60, height=10)[:3]
    assert any(cell.strip() and cell not in "┤│" for row in top for cell in row.split("┤")[-1])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=200), st.integers(2, 60))
def test_the_envelope_holds_every_point(values: list[float | None], columns: int) -> None:
    """Lost: points that the chart drops. Every finite point lies within its column's span."""
    ys = np.array([math.nan if v is None else v for v in values])
    xs = np.arange(len(ys), dtype=float)
    shape = envelope(Points.of(xs, ys), 0.0, float(max(len(ys) - 1, 1)), columns)
    span = max(len(ys) - 1, 1)
    for x, y in zip(xs, ys, strict=True):
        if not math.isnan(y):
            # A point on the very edge of two columns may stand in either: rounding decides.
            near = {math.floor(x * (columns - 1) / span + half) for half in (0.5 - 1e-9, 0.5 + 1e-9)}
            assert any(shape.low[at] <= y <= shape.high[at] for at in near if at < columns)


def test_series_keep_order_and_the_later_word_counts() -> None:
    """Lost: after a resume the curve runs back and forth over itself."""
    series = Series([(1, 1.0), (2, 2.0), (3, 3.0)])
    series.extend([(2, 20.0), (2.5, 25.0), (4, math.inf)])
    assert list(series.xs) == [1, 2, 2.5, 3, 4]
    assert list(series.ys)[:4] == [1, 20, 25, 3] and math.isnan(series.ys[4]) and series.last() == 3


def test_a_curve_is_not_changed_by_later_points() -> None:
    """Lost: a thread that writes while the screen draws."""
    series = Series([(1, 1.0)])
    curve = series.curve()
    series.add(2, 2.0)
    assert curve.xs == array("d", [1.0])


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0, 1, 3, [0, 0.5, 1]),
        (0, 1_000_000, 6, [0, 2e5, 4e5, 6e5, 8e5, 1e6]),
        (-3, 3, 4, [-2, 0, 2]),
        (941, 952, 4, [945, 950]),
        (5, 5, 3, [5]),
        (1e-9, 3e-9, 3, [1e-9, 2e-9, 3e-9]),
    ],
)
def test_ticks_are_round_and_not_too_many(low: float, high: float, most: int, expected: list[float]) -> None:
    """Lost: labels like 0.30000000000000004, or so many that they run into each other."""
    assert linear_ticks(low, high, most) == pytest.approx(expected)


@given(st.floats(1e-8, 1e8), st.floats(1.0001, 1e6), st.integers(2, 8))
@settings(max_examples=60, deadline=None)
def test_log_ticks_lie_within_the_axis(low: float, factor: float, most: int) -> None:
    """Lost: ticks beside the axis."""
    ticks = log_ticks(low, low * factor, most)
    assert 1 <= len(ticks) <= most + 1
    assert all(low * 0.999 <= tick <= low * factor * 1.001 for tick in ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (948, "948"),
        (1250, "1.25k"),
        (999.6, "1k"),
        (1e6, "1M"),
        (0.031, "0.031"),
        (3.1e-5, "3.1e-5"),
        (-2500, "-2.5k"),
        (math.nan, "-"),
        (12_345_678, "12.3M"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    """Lost: axis labels that eat the chart."""
    assert number(value) == text
