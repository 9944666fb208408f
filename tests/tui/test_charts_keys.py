"""The charts screen, by keys and by mouse, over a real job log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from pidec_tui.charts.series import Mark
from pidec_tui.charts.view import ChartView
from pidec_tui.charts.window import Window
from pidec_tui.manager.jobs import JobState
from pidec_tui.runtraces import RunTrace
from pidec_tui.screens.charts import ChartsScreen
from pidec_tui.screens.detail import DetailScreen
from pidec_tui.screens.main import MainScreen
from pidec_tui.screens.metrics import MetricPicker, matching
from tests.tui.pressing import board_of, go, keys, notices
from tests.tui.scene import NOW, Scene, app_of, busy, decorated, settled

SIZE = (160, 45)


async def press(pilot: Pilot[Any], *names: str) -> None:
    """Keys that change what is drawn and ask nobody for anything: no need to wait for the feed."""
    for name in names:
        await pilot.press(name)
        await pilot.pause()
    await pilot.pause()


def screen_of(pilot: Pilot[Any]) -> ChartsScreen:
    assert isinstance(pilot.app.screen, ChartsScreen)
    return pilot.app.screen


def shown(pilot: Pilot[Any]) -> list[ChartView]:
    return [view for view in pilot.app.screen.query(ChartView) if view.display]


def titles(pilot: Pilot[Any]) -> list[str]:
    return [view.title for view in shown(pilot)]


def chosen(pilot: Pilot[Any]) -> int:
    """Place of the chart with the arrow among those on the screen."""
    return next(i for i, view in enumerate(shown(pilot)) if view.render_line(0).text.startswith("▶"))


def text(view: ChartView) -> str:
    return "\n".join(view.render_line(y).text for y in range(view.size.height))


@pytest.fixture
def opened(scene: Scene) -> Callable[[Pilot[Any]], Awaitable[ChartsScreen]]:
    """Opens the charts of a decorator run that is done."""
    job = decorated(scene)

    async def open_it(pilot: Pilot[Any]) -> ChartsScreen:
        await go(pilot, job.id)
        await press(pilot, "o")
        return screen_of(pilot)

    return open_it


Open = Callable[[Pilot[Any]], Awaitable[ChartsScreen]]


@keys("job.charts", "chart.leave")
async def test_o_opens_the_charts_from_both_screens_and_esc_comes_back(scene: Scene) -> None:
    """Lost: every chart but the three of the main screen."""
    busy(scene)
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, 3)
        await press(pilot, "o")
        assert len(shown(pilot)) == 6 and titles(pilot)[1].startswith("loss  0.0")
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, MainScreen)
        await press(pilot, "enter", "o", "escape")
        assert isinstance(pilot.app.screen, DetailScreen)


@keys("chart.closer", "chart.further", "chart.earlier", "chart.later", "chart.whole")
async def test_plus_minus_and_brackets_move_all_charts_together(scene: Scene, opened: Open) -> None:
    """Lost: looking closely at one bend, and seeing what the others did there."""
    async with app_of(scene).run_test(size=SIZE) as pilot:
        screen = await opened(pilot)
        await press(pilot, "plus", "plus")
        frames = {(view.frame.x_low, view.frame.x_high) for view in shown(pilot) if view.frame}
        assert frames == {(15_000.0, 20_000.0)}
        await press(pilot, "left_square_bracket", "left_square_bracket")
        assert screen.window.span((0.0, 20_000.0)) == (12_500.0, 17_500.0)
        await press(pilot, "right_square_bracket", "minus")
        assert screen.window.span((0.0, 20_000.0)) == (8_750.0, 18_750.0)
        await press(pilot, "0")
        assert screen.window == Window()


@keys("chart.left", "chart.right", "chart.far-left", "chart.far-right")
async def test_arrows_move_a_cursor_through_all_charts_with_their_values(scene: Scene, opened: Open) -> None:
    """Lost: what every metric was at one step, without a mouse."""
    async with app_of(scene).run_test(size=SIZE) as pilot:
        screen = await opened(pilot)
        await press(pilot, "left")
        assert screen.cursor == 20_000.0
        await press(pilot, *["shift+left"] * 4, "right", "shift+right", "left")
        assert screen.cursor is not None and 12_000 < screen.cursor < 16_000
        assert all("╂" in text(view) for view in shown(pilot))
        success = next(title for title in titles(pilot) if title.startswith("success"))
        assert "train 9" in success and "eval 9" in success
        assert f"at {screen.cursor:,.0f}" in str(screen.query_one("#charts-title").render())
        await press(pilot, "escape")
        assert screen.cursor is None and screen_of(pilot)


@keys("chart.large", "chart.next", "chart.previous", "chart.first", "chart.last")
async def test_enter_shows_the_chosen_chart_alone(scene: Scene, opened: Open) -> None:
    """Lost: one chart as large as the screen."""
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await opened(pilot)
        places = []
        for key in ("tab", "j", "shift+tab", "G", "g", "k"):
            await press(pilot, key)
            places.append(chosen(pilot))
        assert places == [1, 2, 1, 7, 0, 7]
        await press(pilot, "g", "j", "enter")
        assert [view.size.width for view in shown(pilot)] == [160] and titles(pilot)[0].startswith("qf loss")
        await press(pilot, "tab", "enter")
        assert len(shown(pilot)) == 8 and chosen(pilot) == 2


@keys("chart.page")
async def test_space_shows_the_charts_that_found_no_room(scene: Scene, opened: Open) -> None:
    """Lost: all metrics but two, on a small terminal."""
    async with app_of(scene).run_test(size=(60, 18)) as pilot:
        await opened(pilot)
        seen = []
        for _ in range(4):
            seen += titles(pilot)
            await press(pilot, "space")
        assert len(set(seen)) == 8 and titles(pilot) == seen[:2]


@keys("chart.find", "chart.pin")
@keys("metric.take", "metric.pin", "metric.next", "metric.previous", "metric.leave")
async def test_slash_finds_a_metric_and_pins_keep_it_first(scene: Scene, opened: Open) -> None:
    """Lost: the one metric of twenty, on every screen, at once."""
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await opened(pilot)
        await press(pilot, "slash")
        assert isinstance(pilot.app.screen, MetricPicker)
        await press(pilot, *"alp", "enter")
        assert titles(pilot)[chosen(pilot)].startswith("sac alpha")
        await press(pilot, "p")
        assert titles(pilot)[0].startswith("★ sac alpha") and chosen(pilot) == 0
        await press(pilot, "slash", "down", "down", "up", "tab", "escape")
        assert board_of(pilot).charts.pins == ["train/sac_alpha", "eval/success_rate"]
        await press(pilot, "p", "slash", *"no such metric", "tab", "enter")
        assert board_of(pilot).charts.pins == ["eval/success_rate"]
        await press(pilot, "slash", "down", "enter", "p", "slash", *"res fr", "tab", "enter", "escape")
        assert isinstance(pilot.app.screen, MainScreen)
        assert pilot.app.screen.query_one("#chart1", ChartView).title.startswith("residual fraction")


def test_every_word_that_is_typed_must_be_in_the_name() -> None:
    """Lost: finding a metric without knowing how its name begins."""
    names = ["eval/loss_scale", "own/final loss", "train/loss", "train/lr"]
    assert matching(names, "") == names
    assert matching(names, "LOSS") == ["eval/loss_scale", "train/loss", "own/final loss"]
    assert matching(names, "loss tr") == ["train/loss"] and matching(names, "x y") == []


@keys("chart.axis")
async def test_x_goes_through_the_axes_and_takes_cursor_and_window_along(scene: Scene, opened: Open) -> None:
    """Lost: the same bend against env steps, or at which time of day it was."""
    async with app_of(scene).run_test(size=SIZE) as pilot:
        screen = await opened(pilot)
        await press(pilot, "plus", "left", *["shift+left"] * 3)
        assert screen.cursor is not None
        cursors = [screen.cursor]
        for word in ("env step", "since start", "time"):
            await press(pilot, "x")
            assert all(word in text(view) for view in shown(pilot))
            assert all(view.frame and view.frame.x_low <= screen.cursor <= view.frame.x_high for view in shown(pilot))
            cursors.append(screen.cursor)
        assert cursors[1] == pytest.approx(3.95 * cursors[0], rel=0.01), "env steps, by the rates of each row"
        assert cursors[2] == pytest.approx(600 * cursors[0] / 20_000, rel=0.01)
        assert cursors[3] == pytest.approx(cursors[2] + screen._runs[0].began)
        await press(pilot, "x")
        assert screen.cursor == pytest.approx(cursors[0], rel=1e-3)


async def test_without_env_steps_that_axis_is_passed_over(scene: Scene) -> None:
    """Lost: an axis with nothing on it."""
    busy(scene)
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, 3)
        await press(pilot, "o", "x")
        assert board_of(pilot).charts.kind == "since start" and "8h" in text(shown(pilot)[0])


@keys("chart.log-y", "chart.smooth", "chart.smooth-less", "chart.clip", "chart.marks")
async def test_how_charts_are_drawn(scene: Scene) -> None:
    """Lost: a loss through three decades, a noisy curve's course, the shape behind one outlier."""
    busy(scene)
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, 3)
        await press(pilot, "o")
        rate, loss = shown(pilot)[:2]
        assert "0.03 ┤" in text(loss)
        await press(pilot, "j", "y")
        assert "0.03 ┤" not in text(loss) and "0 ┤" in text(loss)
        before = text(rate)
        await press(pilot, "s", "s", "S")
        assert board_of(pilot).charts.smooth == 0.6 and "smooth 0.6" in str(pilot.app.screen._title())  # type: ignore
        assert text(rate) != before
        await press(pilot, "S", "k", "c")
        assert "▾" in text(rate), "the stretch of half the speed is an outlier"
        assert board_of(pilot).charts.smooth == 0.0
        await press(pilot, "c", "j", "m")
        assert not board_of(pilot).charts.marks and text(rate) == before


async def test_checkpoints_and_resumes_stand_in_every_chart(scene: Scene) -> None:
    """Lost: why the curve jumps, and which step can be evaluated."""
    job = scene.add("command", {"command": "x"}, name="x")
    row = lambda step: {"time": 1.79e9 + step, "step": step, "metrics": {"a": step, "b": 1.0}}  # noqa: E731
    scene.start(job, ago=100)
    scene.write(job, [*map(row, range(0, 60, 5)), {"event": "checkpoint", "time": 1.79e9, "step": 40, "path": "p"}])
    scene.end(job, JobState.failed, ago=0, code=1)
    scene.manager.retry(job.id)
    scene.start(job, ago=0, resumed=40)
    scene.write(job, [{"event": "start", "time": 1.79e9 + 70, "resumed_step": 40}, *map(row, range(45, 100, 5))])
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, job.id)
        await press(pilot, "o")
        assert screen_of(pilot)._marks() == (Mark(40, "checkpoint"), Mark(40, "resume"))
        assert all("╎" in text(view) and "↻" in text(view) for view in shown(pilot))
        await press(pilot, "m")
        assert not any("╎" in text(view) for view in shown(pilot))


async def test_checkpoints_of_a_run_that_began_anew_are_gone(scene: Scene) -> None:
    """Lost: a line at a checkpoint that is none of this run's: it lies in a folder beside."""
    job = scene.add("command", {"command": "x"}, name="x")
    saved = lambda time, step: {"event": "checkpoint", "time": time, "step": step, "path": "p"}  # noqa: E731
    row = lambda time, step: {"time": time, "step": step, "metrics": {"a": step}}  # noqa: E731
    scene.start(job, ago=1000)
    scene.write(job, [row(NOW - 990, 10), row(NOW - 980, 40), saved(NOW - 980, 40)])
    scene.end(job, JobState.failed, ago=900, code=1)
    scene.manager.retry(job.id, fresh=True)
    scene.start(job, ago=500)
    scene.write(job, [row(NOW - 490, 10), row(NOW - 480, 90), saved(NOW - 480, 90)])
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, job.id)
        await press(pilot, "o")
        assert screen_of(pilot)._marks() == (Mark(90, "checkpoint"),)


async def test_the_time_since_the_start_counts_from_the_first_attempt(scene: Scene) -> None:
    """Lost: a run that was resumed beside one that was not: its curves lay before the beginning, at -18s."""
    job = scene.add("command", {"command": "x"}, name="x")
    row = lambda step: {"time": NOW - 1000 + step, "step": step, "metrics": {"a": step}}  # noqa: E731
    scene.start(job, ago=1000)
    scene.write(job, map(row, range(5, 60, 5)))
    scene.end(job, JobState.failed, ago=900, code=1)
    scene.manager.retry(job.id)
    scene.start(job, ago=500, resumed=40)
    scene.write(job, map(row, range(505, 600, 5)))
    with scene.log.write():
        scene.log.update_job(job.id, started=NOW - 500)  # as each claim does
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, job.id)
        await press(pilot, "o", "x", "0")
        assert "x: since start" in str(pilot.app.screen.query_one("#charts-title").render())
        (curve,) = next(view for view in shown(pilot) if view.title.startswith("a"))._curves
        assert (curve.xs[0], curve.xs[-1]) == (5.0, 595.0)


async def test_an_evaluation_that_ends_after_the_last_step_is_in_the_time_axis(scene: Scene) -> None:
    """Lost: the only evaluation of a short run: "no numbers in this stretch" of the whole run, by time."""
    job = scene.add("command", {"command": "x"}, name="x")
    row = lambda step: {"time": NOW - 900 + step, "step": step, "metrics": {"a": step}}  # noqa: E731
    scene.start(job, ago=900)
    evaluated = {"time": NOW - 700, "step": 100, "metrics": {"eval/return": 1.5}}
    scene.write(job, [*map(row, range(0, 105, 5)), evaluated])
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, job.id)
        await press(pilot, "o")
        for _ in range(3):
            await press(pilot, "x")
            told = next(view for view in shown(pilot) if view.title.startswith("eval/return"))
            assert "●" in text(told) and "1.5" in told.title, board_of(pilot).charts.kind


async def test_a_run_without_metrics_says_so(scene: Scene) -> None:
    """Lost: an empty screen that looks like a fault; keys that end the dashboard there."""
    busy(scene)
    async with app_of(scene).run_test(size=(80, 24)) as pilot:
        await go(pilot, 4)
        await press(pilot, "o")
        assert "has logged no metrics yet" in str(pilot.app.screen.query_one("#charts-empty").render())
        await press(pilot, "plus", "left", "enter", "space", "j", "p", "x", "y", "s", "c", "slash", "0")
        assert "No metrics to choose from" in notices(pilot)
        assert not pilot.app.screen.query_one("#chart-grid").region
        await press(pilot, "escape", "S")
        assert isinstance(pilot.app.screen, MainScreen)


async def test_only_charts_with_news_are_drawn(scene: Scene) -> None:
    """Lost: nine charts twice a second, over a slow line, because one got a point."""
    job = scene.add("command", {"command": "x"}, name="x")
    scene.start(job, ago=5)
    rows = [{"time": 1.79e9 + i, "step": i, "metrics": {"a": i, "b": 1.0}} for i in range(1000)]
    scene.write(job, [*rows, {"time": 1.79e9, "step": 900, "metrics": {"eval/success_rate": 0.5}}])
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, job.id)
        await press(pilot, "o")
        views = {view.title.partition("  ")[0]: view for view in shown(pilot)}
        before = {name: view.drawn for name, view in views.items()}
        scene.write(job, [{"time": 1.79e9 + 1000, "step": 1000, "metrics": {"a": 3, "b": 2.0}}])
        await settled(pilot)
        drawn = {name: view.drawn - before[name] for name, view in views.items()}
        assert drawn["eval success"] == 0 and drawn["a"] == drawn["b"] == 1, drawn


async def test_the_mouse_zooms_pans_and_points(scene: Scene, opened: Open) -> None:
    """Lost: what the hand does without thinking."""
    async with app_of(scene).run_test(size=SIZE) as pilot:
        screen = await opened(pilot)
        view = shown(pilot)[1]
        await pilot.click(view, offset=(30, 5))
        await pilot.pause()
        assert screen.cursor is not None and view.frame and chosen(pilot) == 1
        assert screen.cursor == pytest.approx(view.frame.x_at(30))
        view.post_message(ChartView.Zoomed(screen.cursor, 0.5))
        await pilot.pause()
        low, high = screen.window.span((0.0, 20_000.0))
        assert high - low == pytest.approx(10_000) and low < screen.cursor < high
        await pilot.mouse_down(view, offset=(20, 5))
        await pilot.hover(view, offset=(30, 5))
        await pilot.mouse_up(view, offset=(30, 5))
        await pilot.pause()
        assert screen.window.span((0.0, 20_000.0))[0] < low and screen.cursor == pytest.approx(screen.cursor)


async def test_several_runs_have_letters_as_well_as_colours(scene: Scene, opened: Open) -> None:
    """Lost: which run is which, where colours are not seen."""
    async with app_of(scene).run_test(size=SIZE) as pilot:
        first = await opened(pilot)
        one = first._runs[0]
        other = RunTrace("7 other", {name: curve for name, curve in one.curves.items() if "loss" in name}, one.began)
        pilot.app.push_screen(ChartsScreen(lambda: [one, other], cursor=5000.0))
        await settled(pilot)
        legend = str(pilot.app.screen.query_one("#charts-title").render())
        assert legend.startswith(f"A {one.label}  B 7 other") and "at 5,000" in legend
        loss = next(view for view in shown(pilot) if view.title.startswith("qf loss"))
        assert "  A 0." in loss.title and "  B 0." in loss.title
        assert any(line.rstrip().endswith(" B") for line in text(loss).split("\n"))
