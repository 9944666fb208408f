"""What the first screen answers in two seconds, and whom it follows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pidec_tui.board import Board
from pidec_tui.charts.ticks import number
from pidec_tui.glance import glance
from pidec_tui.manager.jobs import Attempt, Job, JobState
from pidec_tui.manager.overview import JobLine
from pidec_tui.messages import LinesRead
from pidec_tui.screens.main import MainScreen
from tests.tui.pressing import board_of, keys, notices, queue_of
from tests.tui.scene import DIFFUSION, NOW, Scene, app_of, busy, pressed, settled
from tests.tui.test_sentences import JOB

COLOURS = dict.fromkeys(("foreground", "muted", "faint", "primary", "success", "warning", "error"), "white")
RUNNING = replace(JOB, id=7, name="diffusion-peg-seed2", attempts=(Attempt(1, "running", NOW - 60),), lane="gpu")
LINE = JobLine(RUNNING, 1393.0, 1421.0, 0.0123, 0.34, NOW + 3480, (0.21, 0.49), "healthy")


def board(*jobs: Job, **lines: JobLine) -> Board:
    made = Board()
    made.jobs, made.lines = list(jobs), {each.job.id: each for each in lines.values()}
    return made


def said(what: Board, width: int = 160, most: int = 3) -> list[str]:
    usual = {"queue.new": "n", "job.hold": "h"}
    return [line.plain for line in glance(what, NOW, COLOURS, width, most, key=usual.__getitem__)]


@pytest.mark.parametrize("width", [158, 98, 58])
def test_everything_is_told_at_every_width(width: int) -> None:
    """Lost: one of the answers that the first screen is for."""
    waits = replace(JOB, state=JobState.queued, id=8, name="decorator-peg", waiting_for="job 7", lane="gpu")
    text = "\n".join(said(board(RUNNING, waits, a=LINE), width))
    for needle in ("✓ healthy", "1,393/min, 98%", "loss 0.0123", "success 34% (21–49)", "ends ~15:11"):
        assert needle in text, needle
    assert "next  gpu: 8 decorator-peg after job 7" in text
    assert "8 decorator-peg after job 7" in said(board(replace(waits, waiting_for="the gpu lane: job 7 runs there")))[1]
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (replace(LINE, health="slow", rate=700.0), "▼ slow   700/min, 49% of its median"),
        (replace(LINE, health="NaN", loss=math.nan), "× NaN   1,393/min, 98% of its median   loss NaN"),
        (replace(LINE, health="stalled"), "■ stalled"),
        (JobLine(RUNNING, health="begins"), "· begins"),
    ],
)
def test_trouble_is_a_shape_and_a_word(line: JobLine, says: str) -> None:
    """Lost: that a run is in trouble, without colours."""
    assert says in said(board(RUNNING, a=line))[0]


def test_nothing_runs_and_many_run() -> None:
    """Lost: what ended last; how many runs there was no room for."""
    over = replace(JOB, state=JobState.succeeded, id=3, name="old", ended=NOW - 60)
    idle = said(board(over, a=JobLine(over, success=0.42)))
    assert idle[0].startswith("Nothing runs.  Last: ✓ 3 old succeeded 14:12, success 42%")
    assert "nothing is queued: n queues a job" in idle[1]
    several = [replace(RUNNING, id=n, attempts=(Attempt(1, "running", NOW - n),)) for n in (1, 2, 3)]
    lines = said(board(*several), most=2)
    assert [line[2] for line in lines[:2]] == ["1", "2"] and "and 1 more that run" in lines[2]
    assert said(board()) == []


def test_runs_in_trouble_come_before_those_that_are_well() -> None:
    """Lost: a night in which the run that had stalled was one of "3 more"."""
    several = [replace(RUNNING, id=n, attempts=(Attempt(1, "running", NOW - n),)) for n in (1, 2, 3, 4)]
    words = ("healthy", "healthy", "stalled", "slow")
    lines = {f"line{job.id}": JobLine(job, health=word) for job, word in zip(several, words, strict=True)}
    shown = said(board(*several, **lines), most=2)
    assert [line[2] for line in shown[:2]] == ["1", "3"], "the newest stays first: it is what the cursor follows"
    assert "and 2 more that run, 1 slow" in shown[2]


async def test_a_run_that_stalls_loses_its_rate_on_the_screen(scene: Scene) -> None:
    """Lost: the queue goes on to show the rate of half an hour ago, as a run that is silent changes nothing."""
    busy(scene)
    app = app_of(scene)
    async with app.run_test(size=(160, 45)) as pilot:
        await settled(pilot)
        (active,) = (job for job in board_of(pilot).jobs if job.state is JobState.running)
        figures = number(board_of(pilot).lines[active.id].rate or 0)
        assert figures in queue_of(pilot).text(active.id)
        drawn = len(pilot.app.export_screenshot(simplify=True).split(figures))
        app.post_message(LinesRead({active.id: JobLine(active, health="stalled")}))
        await pilot.pause()
        await pilot.pause()
        assert figures not in queue_of(pilot).text(active.id)
        assert len(pilot.app.export_screenshot(simplify=True).split(figures)) < drawn


@keys("queue.follow")
async def test_the_cursor_follows_what_begins_until_it_is_moved(scene: Scene) -> None:
    """Lost: the newest run, to who just looks; and the job that is looked at, to who has chosen one."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert board_of(pilot).follow and board_of(pilot).selected == 3
        assert queue_of(pilot).border_title == "queue · following"
        glance_text = str(pilot.app.screen.query_one("#glance").render())
        assert "diffusion-peg" in glance_text and "next" in glance_text
        scene.start(scene.manager.job(4), ago=1)
        await settled(pilot)
        assert board_of(pilot).selected == 4
        await pressed(pilot, "j")
        assert not board_of(pilot).follow
        chosen = board_of(pilot).selected
        new = scene.add("diffusion", DIFFUSION, name="another", ago=10)
        scene.start(new, ago=0)
        await settled(pilot)
        assert board_of(pilot).selected == chosen != new.id
        await pressed(pilot, "F")
        assert board_of(pilot).selected == new.id and board_of(pilot).follow
        assert isinstance(pilot.app.screen, MainScreen)


async def test_following_with_nothing_that_runs_says_so(scene: Scene) -> None:
    """Lost: why F moved nothing."""
    scene.add("diffusion", DIFFUSION, name="waits")
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await pressed(pilot, "j", "F")
        assert board_of(pilot).follow and "Nothing runs yet" in notices(pilot)


async def test_the_queue_is_drawn_anew_after_any_change_of_style(scene: Scene) -> None:
    """Lost: what has become of a job: its row stood there as it was, after the log of a job without metrics had made
    room for itself."""
    job = scene.add("command", {"command": "true"}, name="first")
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        queue = queue_of(pilot)
        drawn: list[int] = []
        queue.refresh = lambda *regions, **more: drawn.append(len(regions)) or queue  # type: ignore[method-assign]
        queue.notify_style_update()
        drawn.clear()
        scene.manager.hold(job.id)
        await settled(pilot)
        assert drawn and max(drawn) == queue.size.height


def test_what_differs_within_a_sweep_is_told_where_there_is_little_room() -> None:
    """Lost: which of six runs of a sweep it is that is slow."""
    one = replace(RUNNING, name="diffusion-peg-large lr=0.001 batch_size=4096 seed=2", group_name="diffusion-peg-large")
    assert "…lr=0.001 batch_size=4096 seed=2" in said(board(one, only=replace(LINE, job=one)), width=158)[0]
