"""The pure parts of the charts: windows, axes, averages, groups, layers, titles."""

from __future__ import annotations

import math
import time
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pidec_tui.charts.chart import as_text, draw, picture
from pidec_tui.charts.group import mean_and_band
from pidec_tui.charts.layout import arranged, capacity
from pidec_tui.charts.points import Points
from pidec_tui.charts.readings import change_text, reading_of, title_parts, value_at
from pidec_tui.charts.series import Axes, Curve, Mark, Series
from pidec_tui.charts.smooth import ema
from pidec_tui.charts.timeticks import duration_label, moment_label, time_ticks
from pidec_tui.charts.window import Window, rounded_end
from pidec_tui.charts.xaxis import along, env_steps_of
from pidec_tui.plans import every_plan
from pidec_tui.runtraces import with_intervals
from pidec_tui.sharedaxis import said
from pidec_tui.words import wilson

WHOLE = (0.0, 1000.0)
Values = list[float]


def curve(xs: Values, ys: Values, *, times: Values | None = None, **more: object) -> Curve:
    return Curve("c", array("d", xs), array("d", ys), times=array("d", times) if times else None, **more)  # type: ignore


def rows(*curves: Curve, width: int = 40, height: int = 10, axes: Axes | None = None) -> list[str]:
    return as_text(draw(curves, width, height, axes)).split("\n")


# --- windows


def test_zoom_keeps_what_it_is_about_and_follows_the_end_of_a_live_run() -> None:
    """Lost: the bend that one zooms in on slides out of sight; the newest values, too."""
    closer = Window().zoomed(WHOLE, 0.5, 250.0)
    assert closer.span(WHOLE) == (125.0, 625.0), "a quarter from the left before and after"
    newest = Window().zoomed(WHOLE, 0.1)
    assert newest.span(WHOLE) == (900.0, 1000.0) and newest.span((0.0, 1200.0)) == (1100.0, 1200.0)
    assert newest.zoomed(WHOLE, 100.0) == Window()


def test_panning_stops_at_the_ends() -> None:
    """Lost: a blank screen far to the right of the run."""
    window = Window().zoomed(WHOLE, 0.2)
    assert window.panned(WHOLE, -0.5).span(WHOLE) == (700.0, 900.0)
    assert window.panned(WHOLE, -99.0).span(WHOLE) == (0.0, 200.0)
    assert window.panned(WHOLE, -0.5).panned(WHOLE, 99.0) == window
    assert Window().panned(WHOLE, 1.0) == Window()
    assert window.showing(WHOLE, 500.0).span(WHOLE) == (500.0, 700.0) and window.showing(WHOLE, 900.0) == window


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(-5, 1005)), max_size=12))
@settings(max_examples=50, deadline=None)
def test_no_zoom_leaves_the_whole(moves: list[tuple[float, float]]) -> None:
    """Lost: keys that end in an axis from nowhere to nowhere."""
    window = Window()
    for factor, about in moves:
        window = window.zoomed(WHOLE, factor, about).panned(WHOLE, (about - 500) / 300)
        low, high = window.span(WHOLE)
        assert -1e-6 <= low < high <= 1000 + 1e-6


def test_the_axis_ends_a_little_behind_the_run_and_stays_there() -> None:
    """Lost: all charts drawn anew with every row of a live run."""
    ends = {rounded_end(0.0, float(step)) for step in range(600_000, 610_000, 100)}
    assert len(ends) <= 3 and all(end >= 600_000 for end in ends) and max(ends) <= 610_000 * 1.02
    assert rounded_end(0.0, 600.0) == 600.0 and rounded_end(5.0, 5.0) == 5.0


# --- axes


def test_time_since_the_start_and_time_of_day() -> None:
    """Lost: a curve that runs back and forth, because a resumed run said some steps again, later."""
    resumed = curve([10, 20, 30, 40], [1, 2, 3, 4], times=[1000, 5000, 2000, 5100])
    since = along(resumed, "since start", began=900.0)
    assert list(since.xs) == [100, 1100, 4100, 4200] and list(since.ys) == [1, 3, 2, 4]
    assert list(along(resumed, "clock").xs) == [1000, 2000, 5000, 5100]
    assert along(resumed, "step") is resumed


def test_env_steps_come_from_the_two_rates_or_from_a_metric_of_that_name() -> None:
    """Lost: comparing a decorator with a run that counts simulator steps."""
    steps = [500.0, 1000.0, 1500.0]
    rates = {
        "throughput/iters_per_min": curve(steps, [100, math.nan, 50]),
        "throughput/env_steps_per_min": curve(steps, [400, 380, 150]),
    }
    counted = env_steps_of(rates)
    assert counted is not None and list(counted.xs) == [0, 500, 1000, 1500]
    assert list(counted.ys) == [0, 2000, 3750, 5250], "4 a step, 3.5 where it is not known, 3"
    assert list(along(curve([750.0], [1.0]), "env steps", env_steps=counted).xs) == [2875]
    own = env_steps_of({"own/env_steps": curve([1, 2, 3], [16, math.nan, 48])})
    assert own is not None and list(own.ys) == [16, 48]
    assert env_steps_of({"train/loss": rates["throughput/iters_per_min"]}) is None


@pytest.mark.parametrize(
    ("low", "high", "clock", "expected"),
    [
        (0, 40_000, False, ["0", "3h", "6h", "9h"]),
        (0, 90, False, ["0", "30s", "1m", "1m30"]),
        (1_790_000_000, 1_790_030_000, True, ["15:00", "18:00", "21:00"]),
        (1_789_900_000, 1_790_200_000, True, ["21 Sep", "22 Sep", "23 Sep"]),
        (1e300, 2e300, True, ["-"]),
    ],
)
def test_ticks_of_time_are_round(low: float, high: float, clock: bool, expected: list[str]) -> None:
    """Lost: an axis of 1.79G seconds; the dashboard, to a clock that went mad."""
    ticks, labels = time_ticks(low, high, 5, clock=clock)
    assert labels == expected and len(ticks) == len(labels)


def test_durations() -> None:
    words = [duration_label(s, 60) for s in (0, 59, 61, 3600, 5400, 86_400, 190_000, -61)]
    assert words == ["0", "59s", "1m01", "1h", "1h30", "1d", "2d4h", "-1m01"] and duration_label(0.25, 0.01) == "0.25s"


# --- averages and groups


def test_the_running_average_is_what_a_loop_would_give() -> None:
    """Lost: a smooth curve that is not the average of what was logged. Reference: the plain recursion."""
    ys = np.sin(np.arange(777)) + np.arange(777) / 100
    ys[100:140] = np.nan
    expected, total, weight = [], 0.0, 0.0
    for y in ys:
        if not math.isnan(y):
            total, weight = 0.9 * total + 0.1 * y, 0.9 * weight + 0.1
        expected.append(math.nan if math.isnan(y) else total / weight)
    np.testing.assert_allclose(ema(ys, 0.9), expected, rtol=1e-9)
    assert ema(ys, 0.0) is ys and len(ema(np.empty(0), 0.9)) == 0


def test_a_group_is_its_mean_in_a_band_of_its_extremes() -> None:
    """Lost: three seeds as one line with its spread."""
    group = mean_and_band(
        [curve([0, 10, 20], [0, 10, 20]), curve([0, 20], [4, 24]), curve([0, 5, 10], [2, math.nan, 2]), curve([], [])],
        "seeds",
    )
    assert group.lows is not None and group.highs is not None and group.name == "seeds"
    assert list(group.xs) == [0, 5, 10, 20]
    assert list(group.ys) == [2, 7, pytest.approx(26 / 3), 22] and list(group.lows) == [0, 5, 2, 20]
    assert list(group.highs) == [4, 9, 14, 24]
    roles = {span.role for row in draw([group], 40, 10) for span in row}
    assert {"curve0", "band0"} <= roles and not len(mean_and_band([], "none").xs)


def test_the_band_is_drawn_thinner_than_the_line_and_behind_it() -> None:
    """Lost: the average and what it is the average of, where colours are not seen."""
    noisy = Series((i, (i % 2) * 10.0) for i in range(200)).curve()
    spans = [span for row in draw([noisy], 60, 12, Axes(smooth=0.97)) for span in row]
    band = "".join(span.text for span in spans if span.role == "band0")
    assert band and sum(bin(ord(cell) - 0x2800).count("1") for cell in band) <= 4 * len(band)
    assert any(span.role == "curve0" for span in spans)


# --- layers


def test_a_window_cuts_lines_at_its_edges() -> None:
    """Lost: when zoomed in between two points, the line that joins them."""
    points = Points.of(np.array([0.0, 10.0, 20.0]), np.array([0.0, 10.0, 0.0]), 4.0, 16.0)
    assert points.xs.tolist() == [4, 10, 16] and points.ys.tolist() == [4, 10, 4]
    between = Points.of(np.array([0.0, 10.0]), np.array([0.0, 10.0]), 4.0, 6.0)
    assert between.ys.tolist() == [4, 6]
    torn = Points.of(np.array([0.0, 10.0]), np.array([0.0, math.nan]), 4.0, 6.0)
    assert not len(torn.ys)
    text = rows(curve([0, 10], [0, 1]), axes=Axes(x_low=20, x_high=30))
    assert "no numbers in this stretch" in "\n".join(text)


def test_a_cross_stands_where_a_value_was_no_number() -> None:
    """Lost: a run that diverged for a moment, between two points that look well."""
    torn = Series((i, None if 40 <= i < 42 else 1.0) for i in range(100)).curve()
    text = rows(torn)
    assert text[7].count("×") == 1 and "×" not in "\n".join(rows(torn, axes=Axes(nan_marks=False)))


def test_an_evaluation_stands_in_its_interval() -> None:
    """Lost: 60 % of 5 episodes looks as sure as 60 % of 500."""
    few = with_intervals(curve([1, 2, 3], [0.6, 0.6, 0.6], markers=True), {1: 5, 2: 500})
    assert few.lows is not None and few.highs is not None
    assert (few.lows[0], few.highs[0]) == wilson(3, 5) and math.isnan(few.lows[2])
    text = rows(few, height=20, axes=Axes(percent=True, x_low=0, x_high=4))
    bars = [sum(row[column] == "│" for row in text if len(row) > column) for column in (14, 22, 31)]
    assert bars[0] > 2 * bars[1] and bars[2] == 0 and "\n".join(text).count("●") == 3


def test_what_the_running_average_rounds_is_no_curve() -> None:
    """Lost: the y axis of a constant, which showed 66.00000000000001 and a zigzag of rounding errors."""
    flat = curve([float(x) for x in range(200)], [66.0] * 200)
    for axes in (Axes(smooth=0.9), Axes(smooth=0.9, clip=True), Axes(smooth=0.9, log_y=True)):
        drawn = rows(flat, axes=axes)
        assert not any("66.0" in row for row in drawn) and "▾" not in "".join(drawn)
        dots = [set(row) & set(map(chr, range(0x2801, 0x2900))) for row in drawn]
        assert [len(each) for each in dots if each] == [1], "one straight line"
    bent = curve([float(x) for x in range(400)], [66.0] * 300 + [99.0] * 100)
    assert not any("66.0" in row for row in rows(bent, axes=Axes(smooth=0.9, x_low=100.0, x_high=290.0)))


def test_outliers_leave_the_axis_and_an_arrow_says_so() -> None:
    """Lost: the shape of everything else, behind one spike; or the spike itself."""
    spike = Series((i, 500.0 if i == 60 else 1 + i % 3) for i in range(100)).curve()
    plain, clipped = rows(spike), rows(spike, axes=Axes(clip=True))
    assert "400" in plain[1] and "▴" in clipped[0] and "00" not in "".join(row[:5] for row in clipped[:7])
    assert rows(Series((i, float(i)) for i in range(100)).curve(), axes=Axes(clip=True)) == rows(
        Series((i, float(i)) for i in range(100)).curve()
    ), "without outliers nothing changes"


def test_marks_and_cursor_stand_behind_the_curve_and_on_the_axis() -> None:
    """Lost: at which step a checkpoint lies, and where the run was resumed."""
    flat = Series((i, 1.0) for i in range(101)).curve()
    marks = (Mark(25, "checkpoint"), Mark(50, "resume"), Mark(500, "resume"))
    text = rows(flat, width=60, axes=Axes(marks=marks, cursor=75.0))
    assert [text[8].count(foot) for foot in "◇↻╂"] == [1, 1, 1]
    assert text[0][text[8].index("◇")] == "┊" and text[0][text[8].index("↻")] == "╎"
    assert text[0][text[8].index("╂")] == "│" and text[4].count("┊") == 0
    many = rows(flat, width=60, axes=Axes(marks=tuple(Mark(x, "checkpoint") for x in range(100))))
    assert "┊" not in "\n".join(many) and many[8].count("◇") > 40
    assert many[8].count("┬") >= 3, "an axis without a tick says nothing"


def test_a_click_finds_its_x() -> None:
    """Lost: a cursor beside the place that was clicked."""
    _, frame = picture([Series((i, float(i)) for i in range(101)).curve()], 60, 10)
    assert frame is not None and frame.x_at(0) == 0 and frame.x_at(200) == 100
    middle = frame.left + frame.width / 2
    assert frame.x_at(middle - 0.5) == pytest.approx(50, abs=1)


def test_runs_beside_each_other_differ_in_more_than_colour() -> None:
    """Lost: which run is which, to those who do not see colours."""
    runs = [curve([0, 1], [i, i], markers=True, tone=i).named(name, markers=True) for i, name in enumerate("AB")]
    text = "\n".join(rows(*runs))
    assert "●" in text and "▲" in text and "A" in text and "B" in text


# --- titles


def test_titles_tell_last_best_and_change_as_far_as_they_fit() -> None:
    """Lost: the numbers that people read off a chart, at a glance."""
    loss = curve([0, 10, 20, 30], [4, 1, math.nan, 2])

    def told(width: int, axes: Axes, *curves: Curve, better: str = "down") -> str:
        return "".join(text for text, _ in title_parts("loss", curves or [loss], axes, better, width))

    assert told(60, Axes()) == "loss  2  best 1 @10  Δ -50%"
    assert told(24, Axes()) == "loss  2  best 1 @10" and told(8, Axes()) == "loss  2" and told(3, Axes()) == "lo…"
    assert told(60, Axes(x_low=5, x_high=15)) == "loss  1  best 1 @10  Δ +0.0%"
    assert told(60, Axes(cursor=19.0)) == "loss  NaN  best 1 @10  Δ +100%", "the change counts from the cursor"
    assert told(60, Axes(), better="") == "loss  2  Δ -50%" and told(60, Axes(), curve([], [])) == "loss"
    others = [loss.named("A"), loss.named("B")]
    assert told(60, Axes(cursor=0.0), *others).startswith("loss  A 4  B 4")


def test_changes_are_told_in_what_means_something() -> None:
    assert change_text(0.2, 0.35, Axes(percent=True)) == "+15 pp"
    assert [change_text(*pair, Axes()) for pair in ((0, 2), (-1, 1), (-2, -1), (1, 500))] == [
        "+2",
        "+2",
        "+50%",
        "+499",
    ]


def test_a_time_of_day_is_told_as_exactly_as_the_axis_shows_it() -> None:
    """Lost: "Mon 20:10 to Mon 20:10", and a cursor that stays at 20:10 for twenty presses."""
    when = time.mktime((2026, 11, 30, 20, 10, 25, 0, 0, -1))
    short, long = ((when - span, when + span) for span in (300.0, 9000.0))
    assert said(when, "clock", short) == "20:10:25" and said(when, "clock", long).endswith("20:10")
    axes = Axes(x_kind="clock", x_low=short[0], x_high=short[1])
    title = "".join(text for text, _ in title_parts("loss", [curve([when], [1.0])], axes, "down", 60))
    assert "20:10:25" in title


def test_the_value_at_the_cursor_is_that_of_the_nearest_point() -> None:
    points = curve([0, 10, 20], [1, 2, 3])
    assert [value_at(points, x) for x in (-5, 4, 6, 15, 99)] == [1, 1, 2, 2, 3] and value_at(curve([], []), 1) is None
    assert reading_of(points, Axes(), "up").best_x == 20


# --- which charts


def test_every_metric_has_a_chart_and_pins_come_first() -> None:
    """Lost: metrics that nothing shows; a pin that shows one twice."""
    names = ["train/loss", "train/lr", "own/kl", "throughput/iters_per_min", "eval/success_rate", "eval/success_at_end"]
    plans = every_plan(names, "iteration", pins=["own/kl", "train/loss", "gone"])
    assert [plan.title for plan in plans] == ["own/kl", "loss", "iterations/min", "eval success", "lr"]
    assert {name for plan in plans for name, _ in plan.metrics} == set(names)
    assert every_plan([], "") == []


def test_charts_are_as_wide_as_they_can_be() -> None:
    assert [capacity(*size) for size in ((160, 43), (100, 28), (60, 16), (20, 4))] == [(3, 3), (2, 3), (1, 2), (1, 1)]
    assert [arranged(n, 160, 43) for n in (0, 1, 3, 4, 8)] == [(1, 1), (1, 1), (1, 3), (2, 2), (3, 3)]


def test_a_clock_axis_is_in_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: ticks at 05:30 for those who live half an hour beside UTC."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    assert time_ticks(1_790_000_000, 1_790_030_000, 5, clock=True)[1] == ["21:00", "22 Sep", "03:00"]


def test_a_time_names_its_day_only_where_it_is_another() -> None:
    """Lost: which day a best value is from; or the eye, on weekdays that all say today."""
    noon = time.mktime((2026, 3, 12, 12, 0, 0, 0, 0, -1))
    told = [moment_label(noon - hours * 3600, noon) for hours in (0, 2, 20, 24 * 30)]
    assert told == ["12:00", "10:00", "Wed 16:00", "10 Feb 12:00"] and moment_label(1e30, noon) == "-"
