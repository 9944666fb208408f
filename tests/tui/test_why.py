"""Why a run is as fast as it is: rate and machine over one time axis, and the advice, by keys."""

from __future__ import annotations

import io
from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from textual.pilot import Pilot
from textual.widgets import Static

from pidec_tui.charts.series import Curve
from pidec_tui.charts.view import ChartView
from pidec_tui.machinetrace import MachineTrace
from pidec_tui.manager.jobs import Attempt, Job, JobState
from pidec_tui.manager.machinelog import GAP_S, HOST, MachineBlock, gpu_of
from pidec_tui.screens.charts import ChartsScreen
from pidec_tui.screens.main import MainScreen
from pidec_tui.screens.why import WhyScreen
from tests.tui.machines import BOX, CARD, slowed
from tests.tui.pressing import board_of, go, keys, notices
from tests.tui.scene import NOW, Scene, app_of, busy, settled
from tests.tui.test_pictures import after

Compare = Callable[..., bool]
SLOW = "another compute process (pid 4312 python, user ann, 18.2 GiB) joined the GPU."


async def press(pilot: Pilot[Any], *names: str) -> None:
    for name in names:
        await pilot.press(name)
        await pilot.pause()
    await pilot.pause()


def titles(pilot: Pilot[Any]) -> list[str]:
    return [view.title for view in pilot.app.screen.query(ChartView) if view.display]


def said(pilot: Pilot[Any]) -> str:
    """The sentences, each on one line."""
    table = pilot.app.screen.query_one("#why-lines", Static).visual
    console = Console(width=400, color_system=None, file=io.StringIO())
    console.print(table._renderable)  # type: ignore[attr-defined]
    return console.file.getvalue()  # type: ignore[attr-defined]


def under_the_chart(pilot: Pilot[Any]) -> str:
    return str(pilot.app.screen_stack[0].query_one("#advice", Static).render())


# --- the screen ------------------------------------------------------------------------------------------------------


@keys("job.why", "why.charts")
async def test_w_shows_rate_and_machine_over_one_time_axis(scene: Scene) -> None:
    """Lost: the one picture that tells whether the machine or the run is slow."""
    job = slowed(scene)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await go(pilot, job.id)
        await press(pilot, "w")
        assert isinstance(pilot.app.screen, WhyScreen)
        names = [title.partition("  ")[0] for title in titles(pilot)]
        assert names[:4] == ["iterations/min", "GPU utilization (%)", "GPU power (W)", "GPU clock (MHz)"]
        frames = [view.frame for view in pilot.app.screen.query(ChartView) if view.display]
        assert all(frames) and len({(frame.x_low, frame.x_high, frame.left) for frame in frames if frame}) == 1
        await press(pilot, "left", *["shift+left"] * 6)
        assert "13:49" in str(pilot.app.screen.query_one("#charts-title", Static).render())
        assert titles(pilot)[1].startswith("GPU utilization (%)  9")
        await press(pilot, "escape", "o")
        assert type(pilot.app.screen) is ChartsScreen
        await press(pilot, "w")
        assert isinstance(pilot.app.screen, WhyScreen)
        await press(pilot, *"owow")
        assert isinstance(pilot.app.screen, WhyScreen) and len(pilot.app.screen_stack) == 2, "they pile up"


async def test_a_run_that_told_no_rate_is_not_said_to_have_logged_nothing(scene: Scene) -> None:
    """Lost: trust, where `o` shows four curves and `w` says that there are none; and waiting for a run that is over."""
    job = scene.add("evaluate", {"ckpt": "x.pt"}, name="x")
    scene.start(job, ago=100)
    first = {"event": "start", "kind": "evaluate", "step_name": "episode", "total_steps": 20, "time": NOW - 90}
    scene.write(job, [first, {"step": 20, "time": NOW - 20, "metrics": {"eval/success_rate": 0.5}}])
    scene.end(job, JobState.succeeded, ago=10)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await go(pilot, job.id)
        rate = pilot.app.screen.query_one("#chart0", ChartView)
        assert "none was logged" in "".join(rate.render_line(y).text for y in range(rate.size.height))
        await press(pilot, "w")
        told = str(pilot.app.screen.query_one("#charts-empty", Static).render())
        assert "has told no rate" in told and "metrics" not in told


@keys("why.evidence", "why.next", "why.previous", "why.first", "why.last")
async def test_enter_shows_the_figures_of_the_sentence_under_the_cursor(scene: Scene) -> None:
    """Lost: what a sentence is made from; then it is an opinion."""
    job = slowed(scene)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await go(pilot, job.id)
        await press(pilot, "w")
        assert SLOW in said(pilot) and "▶ GPU 98%, but 40% fewer" in said(pilot)
        assert "on the GPU since" not in said(pilot)
        await press(pilot, "enter")
        assert "on the GPU since 13:38 and not before: pid 4312 python" in said(pilot)
        await press(pilot, "j")
        assert "▶ Limited by the GPU" in said(pilot) and "not before" not in said(pilot)
        assert "GPU load 98%: mean of" in said(pilot)
        await press(pilot, "k", "G", "g")
        assert "▶ GPU 98%" in said(pilot)
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, WhyScreen) and "not before" not in said(pilot)
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, MainScreen)


@pytest.mark.parametrize("size", [(160, 45), (100, 30)])
async def test_the_sentence_on_the_main_screen_is_whole(scene: Scene, size: tuple[int, int]) -> None:
    """Lost: the end of the sentence, which says what to do about it."""
    job = slowed(scene)
    async with app_of(scene).run_test(size=size) as pilot:
        await go(pilot, job.id)
        advice = pilot.app.screen.query_one("#advice", Static)
        lines = [advice.render_line(y).text.strip() for y in range(advice.size.height)]
        assert SLOW in " ".join(lines)


@keys("why.dismiss", "why.restore")
async def test_x_dismisses_a_sentence_for_this_job_and_u_brings_it_back(scene: Scene) -> None:
    """Lost: peace from a sentence that one knows; or the sentence, for good."""
    job = slowed(scene)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await go(pilot, job.id)
        assert SLOW in under_the_chart(pilot), "the heaviest stands on the main screen"
        await press(pilot, "w", "x")
        assert board_of(pilot).dismissed == {f"{job.id}:slower"}
        assert SLOW not in said(pilot) and "dismissed: 1; U shows them again" in said(pilot)
        await press(pilot, "x")
        assert "Nothing else to say." in said(pilot)
        await press(pilot, "x")
        assert "Nothing to dismiss" in notices(pilot)
        await press(pilot, "escape")
        await settled(pilot)
        assert "Running for 2 h 00" in under_the_chart(pilot), "what was dismissed is not said there either"
        await press(pilot, "w", "U")
        assert SLOW in said(pilot) and board_of(pilot).dismissed == set()
        await press(pilot, "U")
        assert "Nothing was dismissed" in notices(pilot)


async def test_keys_of_the_charts_that_make_no_sense_here_do_nothing(scene: Scene) -> None:
    """Lost: the one time axis, or a pin, by a key that is meant for a sentence."""
    job = slowed(scene)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await go(pilot, job.id)
        await press(pilot, "w", "p", "slash", "equals_sign", "w")
        assert isinstance(pilot.app.screen, WhyScreen) and len(pilot.app.screen_stack) == 2
        assert board_of(pilot).charts.pins == [] and board_of(pilot).charts.kind == "step"


async def test_without_a_gpu_there_are_rate_cpu_and_memory(scene: Scene) -> None:
    """Lost: the same answer for those who train on a CPU."""
    job = slowed(scene, gpu=False)
    async with app_of(scene, gpus=()).run_test(size=(160, 45)) as pilot:
        await go(pilot, job.id)
        await press(pilot, "w")
        assert [title.partition("  ")[0] for title in titles(pilot)] == [
            "iterations/min",
            "CPU (%)",
            "host memory (GiB)",
        ]
        assert "40% fewer iterations/min" in said(pilot) and "GPU" not in said(pilot)


async def test_the_machine_is_among_the_charts_and_for_every_x_axis(scene: Scene) -> None:
    """Lost: load and clock beside the loss, and pinned on the main screen."""
    job = slowed(scene)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await go(pilot, job.id)
        board_of(pilot).charts.pins = ["machine/gpu_clock"]
        await press(pilot, "o")
        for _ in range(3):  # step, since start, time of day
            clock = next(title for title in titles(pilot) if "GPU clock" in title)
            assert clock.startswith("★ GPU clock (MHz)  1.98k")
            await press(pilot, "x")
        await press(pilot, "escape")
        await settled(pilot)
        assert any("GPU clock" in title for title in titles(pilot)), "a pin is in the middle of the main screen"


async def test_a_job_that_nobody_has_sampled_says_so_in_words(scene: Scene) -> None:
    """Lost: what an empty screen means."""
    busy(scene)
    async with app_of(scene).run_test(size=(100, 30)) as pilot:
        await go(pilot, 4)
        await press(pilot, "w")
        assert "Nothing to say yet" in said(pilot)
        await press(pilot, "escape")
        await go(pilot, 1)
        await press(pilot, "w")
        assert "Nothing to say on this run." in said(pilot)


# --- samples along the steps -----------------------------------------------------------------------------------------


def job(*attempts: Attempt, **config: object) -> Job:
    return Job(
        1, "diffusion", "peg", JobState.running, "gpu", dict(config), None, (), 0, "", "", 0, 0, None, 0, 1000, "step",
        attempts=attempts,
    )  # fmt: skip


def block(device: Any, *times: float) -> MachineBlock:
    values = array("d", [float(i) for i in range(len(times))])
    return MachineBlock(device, array("d", times), dict.fromkeys(device.columns, values))


def test_a_sample_lies_at_the_step_that_the_job_was_at() -> None:
    """Lost: a dip of the load above another step than the dip of the rate."""
    run = job(Attempt(1, "running", NOW, gpu=CARD.uuid))
    clock = Curve("loss", array("d", [100, 200]), array("d", [1, 1]), times=array("d", [NOW + 50, NOW + 100]))
    trace = MachineTrace()
    trace.take([block(BOX, NOW + 25, NOW + 75, NOW + 110)])
    assert list(trace.curves(run, clock)["machine/cpu"].xs) == [50.0, 150.0, 200.0]
    assert trace.curves(run, clock)["machine/cpu"] is trace.curves(run, clock)["machine/cpu"], "nothing to draw anew"
    later = Curve(
        "loss", array("d", [100, 200, 300]), array("d", [1] * 3), times=array("d", [NOW + 50, NOW + 100, NOW + 120])
    )
    trace.take([block(BOX, NOW + 120)])
    assert list(trace.curves(run, later)["machine/cpu"].xs) == [50.0, 150.0, 250.0, 300.0]
    assert list(trace.curves(run, None)["machine/cpu"].xs) == [0.0] * 4


def test_a_resumed_run_goes_back_and_no_line_is_drawn_through_the_night() -> None:
    """Lost: a load that seems to have been measured while nothing ran."""
    run = job(Attempt(1, "interrupted", NOW), Attempt(2, "running", NOW + 9000, resumed_step=100))
    xs, times = array("d", [100, 200, 300]), array("d", [NOW + 50, NOW + 100, NOW + 9100])
    trace = MachineTrace()
    trace.take([block(BOX, NOW + 50, NOW + 100, NOW + 100 + GAP_S + 9000 - 200)])
    curve = trace.curves(run, Curve("loss", xs, array("d", [1] * 3), times=times))["machine/cpu"]
    assert [y == y for y in curve.ys] == [True, False, True, True] or [y == y for y in curve.ys].count(False) == 1
    assert list(curve.xs) == sorted(curve.xs)


def test_a_run_that_went_to_another_gpu_is_not_drawn_with_what_others_did_there() -> None:
    """Lost: which load was its own, where the card of its second attempt had another job during the first one."""
    run = job(
        Attempt(1, "interrupted", NOW, gpu="other"), Attempt(2, "running", NOW + 90, resumed_step=0, gpu=CARD.uuid)
    )
    clock = Curve("loss", array("d", [100, 200]), array("d", [1, 1]), times=array("d", [NOW + 50, NOW + 100]))
    trace = MachineTrace()
    trace.take([block(BOX, NOW + 25, NOW + 95), block(CARD, NOW + 25, NOW + 95)])
    assert list(trace.curves(run, clock)["machine/cpu"].times) == [NOW + 25, NOW + 95]
    assert list(trace.curves(run, clock)["machine/gpu_utilization"].times) == [NOW + 95]


def test_what_was_measured_before_a_run_began_from_nothing_is_left_out() -> None:
    """Lost: a run that was started anew: squeezed into the right end, behind the hour before, which is void."""
    run = job(Attempt(1, "cancelled", NOW), Attempt(2, "running", NOW + 3600))
    trace = MachineTrace()
    trace.take([block(BOX, NOW + 50, NOW + 100, NOW + 3610, NOW + 3620)])
    old = Curve("loss", array("d", [100, 200]), array("d", [1, 1]), times=array("d", [NOW + 50, NOW + 100]))
    assert len(trace.curves(run, old)["machine/cpu"].xs) >= 4, "there are no new rows yet: the old ones count"
    new = replace(old, times=array("d", [NOW + 3610, NOW + 3620]))
    assert list(trace.curves(run, new)["machine/cpu"].times) == [NOW + 3610, NOW + 3620]


@pytest.mark.parametrize(
    ("run", "devices", "expected"),
    [
        (job(Attempt(1, "running", NOW, gpu="GPU-b")), ["GPU-a", "GPU-b", HOST], "GPU-b"),
        (job(Attempt(1, "running", NOW, gpu="GPU-b"), device="cpu"), ["GPU-b"], None),
        (job(Attempt(1, "running", NOW, gpu="no-gpu")), ["GPU-a"], None),
        (job(Attempt(1, "running", NOW)), ["GPU-a"], None),
        (job(), ["GPU-a"], None),
    ],
)
def test_the_gpu_of_a_job_is_its_own(run: Job, devices: list[str], expected: str | None) -> None:
    """Lost: advice on a card that the job does not use."""
    assert gpu_of(run, devices) == expected


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(160, 45), (100, 30), (60, 18)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_picture(snap_compare: Compare, scene: Scene, size: tuple[int, int]) -> None:
    """Lost: rate and machine one above the other, and who joined the GPU, at each layout."""
    job = slowed(scene)
    assert snap_compare(app_of(scene), terminal_size=size, run_before=after("w", "enter", job=job.id))


@pytest.mark.parametrize("size", [(160, 45), (100, 30), (60, 18)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_picture_without_gpu(snap_compare: Compare, scene: Scene, size: tuple[int, int]) -> None:
    """Lost: the same on a machine without a GPU."""
    job = slowed(scene, gpu=False)
    assert snap_compare(app_of(scene, gpus=()), terminal_size=size, run_before=after("w", job=job.id))
