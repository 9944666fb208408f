"""What the dashboard does not do: counts, where benchmarks/ has seconds. After 60 days there are a thousand jobs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from textual.app import App, ComposeResult
from textual.message import Message
from textual.pilot import Pilot
from textual.screen import Screen

from pidec_tui.app import PidecApp
from pidec_tui.charts.view import ChartView
from pidec_tui.feed import Feed
from pidec_tui.manager.joblog import JobLog
from pidec_tui.manager.jobs import JobState
from pidec_tui.messages import LinesRead, Looked, MachineSampled, QueueChanged, TraceChanged
from pidec_tui.widgets.panel import Panel, Words
from pidec_tui.widgets.stack import ChartStack
from tests.tui.pressing import go, queue_of
from tests.tui.scene import FixedGpus, Scene, app_of, settled

# Megabytes of modules, or a long look at what a config may be: for later than the first picture.
LATE = (
    "numpy",
    "pydantic",
    "pidec_train.protocol.config",
    "pidec_train.protocol.records",
    "pidec_tui.manager.repair",
    "pidec_tui.manager.cli_common",
)


@contextmanager
def counted(owner: type, method: str, patch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """The calls of a method, as they come."""
    calls: list[object] = []
    real = getattr(owner, method)

    def counting(self: object, *args: object, **more: object) -> object:
        calls.append(args)
        return real(self, *args, **more)

    with patch.context() as patched:
        patched.setattr(owner, method, counting)
        yield calls


def many(scene: Scene, count: int) -> None:
    """So many jobs that are over, as rows alone."""
    with scene.log.write():
        for number in range(scene.log.next_id(), scene.log.next_id() + count):
            scene.log.insert_job(
                number,
                kind="command",
                name=f"old {number}",
                state=JobState.succeeded.value,
                lane="cpu",
                config='{"command": "true"}',
                after="[]",
                position=number,
                created=1.0,
                ended=float(number),
            )


def test_the_first_picture_goes_without_what_it_does_not_show() -> None:
    """Lost: a quarter of a second at every start."""
    code = f"import pidec_tui.app, sys; print(*[name for name in {LATE} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == []


async def test_rows_that_nobody_sees_are_not_made(scene: Scene) -> None:
    """Lost: the first picture within its 0.7 s, and every key's answer, in a workspace of 1,000 jobs."""
    many(scene, 1000)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await settled(pilot)
        queue, seen = queue_of(pilot), queue_of(pilot).size.height
        assert len(queue.keys) == 1000 and queue.made <= 3 * seen
        before = queue.made
        await pilot.press("j")
        await settled(pilot)
        assert queue.made - before == 2, "the row that the cursor left, and the one that it is on"


async def test_a_row_of_metrics_draws_what_it_changes(scene: Scene) -> None:
    """Lost: a live run for 3 % of a core, and over a slow line."""
    many(scene, 300)
    job = scene.add("command", {"command": "true"}, name="live")
    scene.start(job, ago=600)
    lines = [
        {"step": n, "time": 1.79e9 - 600 + n, "metrics": {"loss": 1 / n, "reward": float(n)}} for n in range(1, 60)
    ]
    scene.write(job, lines[:-3])
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await go(pilot, job.id)
        charts, queue = list(pilot.app.screen.query(ChartView)), queue_of(pilot)
        redrawn = []
        for line in lines[-3:]:  # the first ones may meet a layout that has not come to rest
            before = sum(chart.drawn for chart in charts), queue.made
            scene.write(job, [line])
            await settled(pilot)
            redrawn.append((sum(chart.drawn for chart in charts) - before[0], queue.made - before[1]))
        assert min(drawn for drawn, _ in redrawn) == len(charts), "each once"
        assert min(made for _, made in redrawn) <= 2, "the live job's row, and no other"


async def test_what_one_look_finds_is_drawn_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: half of what a live run cost: charts, card and top lines drawn for queue, curves, log and machine each."""
    job = scene.add("command", {"command": "true"}, name="live")
    scene.start(job, ago=600)
    scene.write(job, [{"step": 1, "time": 1.79e9 - 60, "metrics": {"loss": 0.5}}])
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await go(pilot, job.id)
        app = pilot.app
        assert isinstance(app, PidecApp) and app.board.trace is not None and app.board.jobs is not None
        board = app.board
        told = [
            MachineSampled(board.machine),
            QueueChanged(list(board.jobs)),
            TraceChanged(board.trace, board.events),
            LinesRead(board.lines),
        ]
        app.feed.stop()
        await _drawn(pilot)
        with counted(ChartStack, "show", monkeypatch) as charts, counted(Panel, "renew", monkeypatch) as panels:
            app.post_message(Looked(told))
            await _drawn(pilot)
        assert len(charts) == 1 and len(panels) == 2, "machine and card"


async def _drawn(pilot: Pilot[None]) -> None:
    for _ in range(3):
        await pilot.pause()


class _WordsApp(App[None]):
    CSS = "Words { height: auto; }"

    def compose(self) -> ComposeResult:
        yield Words("one")


async def test_other_words_of_the_same_height_move_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: half of an idle dashboard's cost: the whole screen laid out anew for a sentence that says a minute more."""
    async with _WordsApp().run_test() as pilot:
        words = pilot.app.query_one(Words)
        words.update("ends in 3 min")
        await pilot.pause()
        with counted(Screen, "_refresh_layout", monkeypatch) as layouts:
            words.update("ends in 2 min")
            await pilot.pause()
            assert not layouts and str(words.render()) == "ends in 2 min"
            words.update("ends in 2 min\nand then?")
            await pilot.pause()
        assert layouts and words.size.height == 2


def test_a_look_at_an_unchanged_job_log_asks_it_next_to_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: an idle dashboard for 1 % of a core: it looks twice a second."""
    many(scene, 1000)
    feed = Feed(scene.manager, FixedGpus(), lambda message: None, start_runner=False)
    feed.watch(1)
    for _ in range(2):
        feed.tick()
    with counted(JobLog, "rows", monkeypatch) as queries:
        feed.tick()
    assert len(queries) <= 2, "where the selected job's checkpoints are"


def test_one_look_tells_its_news_together(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: one picture a second of a live run: each message by itself would be drawn by itself."""
    monkeypatch.setattr("pidec_tui.news.PATIENCE", 1e9)
    job = scene.add("command", {"command": "true"}, name="live")
    scene.start(job, ago=600)
    alone: list[object] = []
    told: list[Sequence[Message]] = []
    feed = Feed(scene.manager, FixedGpus(), alone.append, start_runner=False, together=told.append)
    feed.watch(job.id)
    feed.tick()
    alone.clear(), told.clear()
    scene.write(job, [{"step": 1, "time": 1.79e9 - 60, "metrics": {"loss": 0.5}}])
    feed.tick()
    [news] = told
    assert not alone and {QueueChanged, TraceChanged, LinesRead} <= {type(each) for each in news}
