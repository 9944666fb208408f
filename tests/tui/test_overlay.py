"""Runs side by side: marks and baseline by keys, groups as one, the settings that differ."""

from __future__ import annotations

from typing import Any

import pytest
from textual.pilot import Pilot

from pidec_tui.charts.series import Curve
from pidec_tui.charts.view import ChartView
from pidec_tui.feed import Feed
from pidec_tui.manager.jobs import Job, JobState
from pidec_tui.manager.machinelog import MachineLog, Sample
from pidec_tui.messages import OverlayChanged
from pidec_tui.overlay import MOST_RUNS
from pidec_tui.runtraces import MOST_SAMPLES
from pidec_tui.screens.charts import ChartsScreen
from pidec_tui.screens.run_settings import RunSettings, differing
from tests.tui.machines import BOX, CARD
from tests.tui.pressing import board_of, go, keys, notices, queue_of
from tests.tui.scene import NOW, FixedGpus, Scene, app_of, decorated, settled, training
from tests.tui.test_by_hand_shown import by_hand
from tests.tui.test_pictures import after

SIZE = (160, 45)
pytestmark = pytest.mark.usefixtures("presets")


def rows(first: int, last: int, factor: float, *, pace: float = 1) -> list[dict[str, Any]]:
    return [
        {"time": NOW - 900 + i * pace, "step": i, "metrics": {"train/loss": factor / i}} for i in range(first, last, 10)
    ]


def runs(scene: Scene, *, group: str = "peg") -> list[Job]:
    """Three runs of one group and one by itself, each with a loss of its own height; the last one goes on."""
    made = []
    for seed, factor in ((1, 10.0), (2, 20.0), (3, 60.0), (4, 15.0)):
        own = {"group": group} if seed < 4 else {}
        values = {"total_iters": 1000, "seed": seed, "demo_path": "demos/Peg.h5", "lr": 1e-4 if seed < 4 else 3e-4}
        job = scene.add("diffusion", values, name=f"peg seed={seed}" if own else "alone", **own)
        scene.start(job, ago=900)
        scene.write(job, rows(10, 510, factor))
        if own:
            scene.end(job, JobState.succeeded, ago=100)
        made.append(job)
    return made


async def press(pilot: Pilot[Any], *names: str) -> None:
    for name in names:
        await pilot.press(name)
        await pilot.pause()
    await settled(pilot)


def row(pilot: Pilot[Any], job: Job) -> str:
    return queue_of(pilot).text(job.id)


def legend(pilot: Pilot[Any]) -> str:
    assert isinstance(pilot.app.screen, ChartsScreen)
    return str(pilot.app.screen.query_one("#charts-title").render())


def screen_text(pilot: Pilot[Any]) -> list[str]:
    return [strip.text for strip in pilot.app.screen._compositor.render_strips()]


def loss(pilot: Pilot[Any]) -> ChartView:
    return next(view for view in pilot.app.screen.query(ChartView) if view.display and "loss" in view.title)


@keys("overlay.mark", "overlay.baseline", "overlay.none")
async def test_marked_jobs_are_drawn_beside_the_selected_one(scene: Scene) -> None:
    """Lost: whether the new run is better than the old one, in one chart."""
    one, two, _, last = runs(scene)
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, one.id)
        await press(pilot, "m")
        assert "[A] peg seed=1" in row(pilot, one)
        await go(pilot, two.id)
        await press(pilot, "p")
        assert "[A=] peg seed=2" in row(pilot, two) and "[B] peg seed=1" in row(pilot, one)
        await go(pilot, last.id)
        await press(pilot, "o")
        assert legend(pilot).startswith("A 2 peg seed=2 (baseline)  B 1 peg seed=1  C 4 alone")
        assert "B 0.02 Δ -50%" in loss(pilot).title and "C 0.03 Δ -25%" in loss(pilot).title
        await press(pilot, "escape")
        await go(pilot, two.id)
        await press(pilot, "p", "m")
        assert "[A] peg seed=1" in row(pilot, one) and "[" not in row(pilot, two)
        await press(pilot, "U", "o")
        assert legend(pilot).startswith("2 peg seed=2  x:"), "no marks: the selected job alone"


async def test_a_base_policy_beside_its_decorated_run_counts_steps(scene: Scene) -> None:
    """Lost: what the numbers are of; 9,030 "iterations/min" would be a decorator's decision steps."""
    job = decorated(scene)
    base = next(each for each in scene.manager.jobs() if each.kind == "diffusion")
    scene.write(base, training(1500, 1500, 100, began=NOW - 1100, per_min=lambda _: 256.0))
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, job.id)
        await press(pilot, "o")
        assert pilot.app.screen.query(ChartView).first().title.startswith("decision steps/min")
        await press(pilot, "escape")
        await go(pilot, base.id)
        await press(pilot, "m")
        await go(pilot, job.id)
        await press(pilot, "o")
        assert pilot.app.screen.query(ChartView).first().title.startswith("steps/min")


async def test_a_marked_run_that_goes_on_is_followed(scene: Scene) -> None:
    """Lost: the overlay shows what the live run was when it was marked."""
    one, _, _, last = runs(scene)
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, last.id)
        await press(pilot, "m")
        await go(pilot, one.id)
        await press(pilot, "o")
        assert "A 0.03" in loss(pilot).title
        scene.write(last, rows(510, 760, 15.0))
        await settled(pilot)
        assert "A 0.02" in loss(pilot).title


@keys("overlay.group")
async def test_a_group_is_one_line_in_a_band(scene: Scene) -> None:
    """Lost: three seeds as three lines that cross, where their mean and spread tell it."""
    one, two, three, last = runs(scene)
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, last.id)
        await press(pilot, "M")
        assert "is in no group: several values in a form make one" in notices(pilot)
        await go(pilot, two.id)
        await press(pilot, "M")
        assert all("[A] peg seed" in row(pilot, job) for job in (one, two, three))
        await go(pilot, last.id)
        await press(pilot, "o")
        assert legend(pilot).startswith("A peg (mean of 3)  B 4 alone")
        mean = board_of(pilot).overlay.runs["peg"].curves["train/loss"]
        assert mean.ys[-1] == pytest.approx(30 / 500) and mean.lows[-1] == pytest.approx(10 / 500)
        assert mean.highs[-1] == pytest.approx(60 / 500) and mean.times[-1] == pytest.approx(NOW - 900 + 500)
        assert "A 0.06" in loss(pilot).title
        await press(pilot, "x", "escape")
        await go(pilot, one.id)
        await press(pilot, "m")
        assert not board_of(pilot).overlay.marked, "m takes off the mark that the row shows"


async def test_a_group_says_of_how_many_runs_its_mean_is_so_far(scene: Scene) -> None:
    """Lost: trust in a mean of six, of which five wait for their turn."""
    one = runs(scene)[0]
    for seed in (5, 6):
        scene.add("diffusion", {}, name=f"peg seed={seed}", group="peg")
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, one.id)
        await press(pilot, "M", "o")
        assert legend(pilot).startswith("peg (mean of 3 of 5)")


def measured(scene: Scene, *, gpu: bool = True) -> None:
    """What the runner sampled while those runs went on: the card's memory grows."""
    samples = []
    for second in range(0, 900, 5):
        samples.append(Sample(NOW - 900 + second, BOX, (30.0, 20.0)))
        if gpu:
            samples.append(Sample(NOW - 900 + second, CARD, (90.0, 10 + second / 100, 600.0, 700.0, 1980.0, 64.0, 0.0)))
    with scene.log.write():
        MachineLog(scene.log).add(samples)


async def of_the_machine(pilot: Pilot[Any]) -> dict[str, list[Curve]]:
    """The curves of each of the machine's charts, once its thread has read them."""
    screen = pilot.app.screen
    assert isinstance(screen, ChartsScreen)
    for _ in range(200):
        if screen._machines:
            break
        await pilot.pause(0.02)
    names = {name: place for place, plan in enumerate(screen._plans) for name, _ in plan.metrics}
    return {name: list(screen._picture(names[name]).curves) for name in names if name.startswith("machine/")}


@pytest.mark.parametrize("gpu", [True, False])
async def test_the_machine_of_marked_runs_is_drawn_too(scene: Scene, gpu: bool) -> None:
    """Lost: whether the slower of two runs had the card to itself; or, without a GPU, a page of empty charts."""
    one, _, _, last = runs(scene)
    measured(scene, gpu=gpu)
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, one.id)
        await press(pilot, "m")
        await go(pilot, last.id)
        await press(pilot, "o")
        told = await of_the_machine(pilot)
        assert len(told) == (7 if gpu else 2)
        if gpu:
            a, b = told["machine/gpu_memory"]
            assert (a.name, b.name) == ("A", "B") and a.ys[-1] == 18.0, "A was over when there was more"
            assert b.ys[-1] == pytest.approx(18.95) and a.xs[-1] == 500
            await press(pilot, "x")
            a, b = (await of_the_machine(pilot))["machine/gpu_memory"]
            assert (a.xs[-1], b.xs[-1]) == (800, 895), "each along its own time"


async def test_the_machine_of_a_group_is_a_mean_in_a_band(scene: Scene) -> None:
    """Lost: the machine's share in how a group did."""
    one, _, _, last = runs(scene)
    slow = scene.add("diffusion", {}, name="peg seed=5", group="peg")
    scene.start(slow, ago=900)
    scene.write(slow, rows(10, 410, 5.0, pace=2))
    measured(scene)
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, one.id)
        await press(pilot, "M")
        await go(pilot, last.id)
        await press(pilot, "o")
        mean, alone = (await of_the_machine(pilot))["machine/gpu_memory"]
        assert mean.name == "A" and alone.name == "B" and mean.lows is not None and mean.highs is not None
        assert 0 < len(mean.xs) <= MOST_SAMPLES and MOST_SAMPLES < 9000
        at = mean.xs.index(300)
        assert (mean.lows[at], mean.ys[at], mean.highs[at]) == pytest.approx((13, 13.75, 16)), "at one step, not moment"


async def test_no_more_than_eight_lines(scene: Scene) -> None:
    """Lost: a chart in which nobody finds a run again."""
    made = [scene.add("command", {"command": "x"}, name=f"x{i}") for i in range(9)]
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, made[0].id)
        await pilot.press(*["m", "j"] * 8)
        await press(pilot, "m", "p")
        assert board_of(pilot).overlay.marked == [job.id for job in made[:8]]
        assert "At most 8 side by side" in notices(pilot) and "M marks a group as one" in notices(pilot)


async def test_a_large_group_is_drawn_as_far_as_it_is_read(scene: Scene) -> None:
    """Lost: the mean of a sweep of twelve, for want of twelve colours; or a dashboard that reads two hundred runs at
    every look, and a mean of which nobody knows what it is of."""
    made = [scene.add("command", {"command": "x"}, name=f"x{i}", group="many") for i in range(MOST_RUNS + 2)]
    for number, job in enumerate(made[:12], 1):
        scene.start(job, ago=900)
        scene.write(job, rows(10, 510, float(number)))
        scene.end(job, JobState.succeeded, ago=100)
    other = scene.add("command", {"command": "x"}, name="other")
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, made[0].id)
        await press(pilot, "M")
        assert f"many has {MOST_RUNS + 2} runs: the mean is of the first {MOST_RUNS}" in notices(pilot)
        await press(pilot, "o")
        assert legend(pilot).startswith(f"many (mean of 12 of {MOST_RUNS + 2})"), "of those that have a curve"
        mean = board_of(pilot).overlay.runs["many"].curves["train/loss"]
        assert mean.ys[-1] == pytest.approx(6.5 / 500) and mean.highs[-1] == pytest.approx(12 / 500)
        assert any("⣀" in line or "⠤" in line or "⣿" in line or "⡇" in line for line in screen_text(pilot))
        await press(pilot, "escape")
        await go(pilot, other.id)
        await press(pilot, "m")
        assert board_of(pilot).overlay.marked == ["many"] and f"At most {MOST_RUNS} runs are read" in notices(pilot)


def test_the_feed_tells_of_news_only_and_is_bounded(scene: Scene) -> None:
    """Lost: curves of runs that are over, read and drawn again twice a second."""
    _, _, _, last = runs(scene)
    for i in range(MOST_RUNS + 1):
        scene.add("command", {"command": "x"}, name=f"x{i}", group="many")
    said: list[Any] = []
    feed = Feed(scene.manager, FixedGpus(), said.append, start_runner=False)

    def told() -> list[OverlayChanged]:
        said.clear()
        feed.tick()
        return [message for message in said if isinstance(message, OverlayChanged)]

    feed.beside(("peg", last.id))
    (first,) = told()
    assert set(first.runs) == {"peg", last.id} and not told()
    scene.write(last, rows(510, 560, 15.0))
    (second,) = told()
    assert second.runs["peg"].curves["train/loss"] is first.runs["peg"].curves["train/loss"], "made once"
    assert len(second.runs[last.id].curves["train/loss"].xs) == 55
    feed.beside(("many",))
    assert len(told()[0].runs["many"].jobs) == MOST_RUNS
    feed.beside(("many", "peg", last.id))  # the baseline comes first, however large it is
    drawn = told()[0].runs
    assert [len(drawn[key].jobs) for key in ("many", "peg", last.id)] == [MOST_RUNS - 2, 1, 1], "no mark is left out"


def test_a_run_by_hand_is_drawn_beside_the_queues(scene: Scene) -> None:
    """Lost: the comparison with what was started by hand."""
    told_rows = [{"step": 100 * n, "metrics": {"train/loss": 1 / n}} for n in (1, 2)]
    by_hand(scene, "hand-20261124-103000-Peg-v1", [{"event": "start", "kind": "diffusion"}, *told_rows])
    said: list[Any] = []
    feed = Feed(scene.manager, FixedGpus(), said.append, start_runner=False)
    feed.beside((-1,))
    feed.tick()
    (told,) = [message for message in said if isinstance(message, OverlayChanged)]
    assert told.runs[-1].label.startswith("h1 ") and list(told.runs[-1].curves["train/loss"].ys) == [1.0, 0.5]


@keys("chart.differ")
async def test_the_settings_that_differ(scene: Scene) -> None:
    """Lost: what was different about the run that went better."""
    _, two, _, last = runs(scene)
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, last.id)
        await press(pilot, "o", "equals_sign")
        assert "One run has nothing to differ from" in notices(pilot) and isinstance(pilot.app.screen, ChartsScreen)
        await press(pilot, "escape")
        await go(pilot, two.id)
        await press(pilot, "M")
        await go(pilot, last.id)
        await press(pilot, "o", "equals_sign", "j", "k", "G", "g")
        assert isinstance(pilot.app.screen, RunSettings)
        lines = screen_text(pilot)
        assert any(line.split() == ["seed", "1,", "2,", "3", "4"] for line in lines)
        assert any(line.split() == ["lr", "0.0001", "0.0003"] for line in lines)
        assert not any("demo_path" in line or "total_iters" in line for line in lines)
        await press(pilot, "equals_sign")
        assert isinstance(pilot.app.screen, ChartsScreen)


def test_what_counts_as_a_difference() -> None:
    """Lost: a setting that only one of two kinds of run has; lists, which cannot be hashed."""
    first, second = {"dims": [1, 2], "lr": 1.0, "gamma": 0.9}, {"dims": [1, 2], "lr": 2.0}
    assert differing([[first], [second]]) == [("lr", [[1.0], [2.0]]), ("gamma", [[0.9], [...]])]
    assert differing([[first, second], [first]]) == [("lr", [[1.0, 2.0], [1.0]]), ("gamma", [[0.9, ...], [0.9]])]
    assert differing([[first], [dict(first)]]) == []
    assert differing([[{"lr": 1.0, "extend_to": None}], [{"lr": 1.0}]]) == [], "a row that looks the same on both sides"


def test_picture(snap_compare: Any, scene: Scene) -> None:
    """Lost: letters, the dashed baseline, the band of a group, at a glance."""
    job = runs(scene)[3]
    keys = ("p", "j", "M", "o")
    assert snap_compare(app_of(scene), terminal_size=(100, 30), run_before=after(*keys, job=job.id))
