"""`python -m pidec_tui.cast`: an animated picture of a run from its files, the curves in time-lapse, then its episodes.

What is seen is the dashboard itself, fed with what the run had logged by then.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.color import Color
from textual.pilot import Pilot
from textual.screen import Screen

from pidec_train.protocol.errors import EXIT_BAD_INPUT, EXIT_FAILED, PidecError

from .app import PidecApp
from .board import CheckpointRow
from .checkpointrows import checkpoint_rows
from .filmstrip import Frame, Run, svg_of
from .manager.health import Checkup
from .manager.jobs import Job, JobEvent, JobState, MetricBlock
from .manager.manager import Manager
from .manager.overview import JobLine, line_of
from .manager.pulse import Pulse
from .manager.settings import Settings
from .motion.takes import Take, find_takes
from .motion.tasks import CONTROL_HZ
from .plainlog import plain_lines
from .screens.main import MainScreen
from .screens.watch import WatchScreen
from .trace import Trace
from .widgets.jobcard import folded
from .widgets.panel import Lines
from .words import duration, size

SIZE = (120, 36)
LAPSE_FRAMES, LAPSE_SECONDS, HOLD_SECONDS = 48, 8.0, 2.5
EVERY = 2  # states between two frames: ten a second, at real speed


class _ReplayScreen(MainScreen):
    """The main screen, but for what a run's files do not tell."""

    def _machine_lines(self, width: int, height: int) -> Lines:
        text = "A replay: a run's files do not tell the load of its machine."
        return folded(text, width, self.app.theme_variables["muted"])


class _ReplayWatch(WatchScreen):
    """Episodes that go on only when told."""

    def _tick(self) -> None:
        pass

    def seek(self, at: int) -> bool:
        """Show this state. Returns whether any episode goes on after it."""
        self._at = float(at)
        self._show()
        return at < self._length()


class Replay:
    """The files of one job, as they were at any moment of its run.

    Raises:
        PidecError: there is no such job, or it logged nothing.
    """

    def __init__(self, manager: Manager, job_id: int) -> None:
        self.job = manager.job(job_id)
        self._others = [manager.job(other) for other in self.job.after]
        self._blocks: list[MetricBlock] = manager.curves(job_id)
        self._events: list[JobEvent] = manager.events(job_id)
        self._checkpoints: tuple[CheckpointRow, ...] = ()
        with contextlib.suppress(OSError):
            self._checkpoints = checkpoint_rows(manager.checkpoint_dir(job_id))
        log = manager.log_path(job_id)
        self._log = plain_lines(log.read_bytes()) if log else []
        if not self._blocks:
            raise PidecError(f"job {job_id} has logged no metrics: there is nothing to replay")
        self.begin = min(block.times[0] for block in self._blocks)
        self.end = max(block.times[-1] for block in self._blocks)

    def at(self, now: float) -> Job:
        """The job as the queue showed it then."""
        if now >= self.end:
            return self.job
        past = [step for block in self._until(now) for step in block.steps]
        attempts = tuple(
            replace(each, state="running", ended=None) if each is self.job.attempts[-1] else each
            for each in self.job.attempts
        )
        return replace(
            self.job, state=JobState.running, step=int(max(past, default=0)), ended=None, reason="", attempts=attempts
        )

    def _until(self, now: float) -> list[MetricBlock]:
        """What had been logged by then."""
        blocks = []
        for block in self._blocks:
            end = bisect_right(block.times, now)
            columns = {name: values[:end] for name, values in block.columns.items()}
            if end:
                blocks.append(replace(block, steps=block.steps[:end], times=block.times[:end], columns=columns))
        return blocks

    def _line(self, job: Job, now: float, settings: Settings) -> JobLine:
        """How it did then."""
        pulse, checkup = Pulse(), Checkup(job.attempts[-1].number)
        pulse.take(self._until(now))
        checkup.take([event for event in self._events if event.time <= now])
        return line_of(job, pulse, checkup, settings, now)

    def show(self, app: PidecApp, now: float) -> None:
        """Put that moment on the app's board, and on its screen."""
        job, board = self.at(now), app.board
        trace = Trace(job.id)
        trace.take(self._until(now))
        board.jobs = [job, *self._others]
        board.selected = job.id
        board.trace = trace.view()
        board.events = tuple(event for event in self._events if event.time <= now)
        board.lines = {job.id: self._line(job, now, app.manager.settings)} if job.state.active else {}
        board.checkpoints = tuple(row for row in self._checkpoints if row.created <= now)
        # The log has no times; a trainer prints evenly, so a share of the time is that share of its lines.
        share = min(max((now - self.begin) / max(self.end - self.begin, 1e-9), 0.0), 1.0)
        board.log = tuple(self._log[: round(share * len(self._log))])
        board.runner_pid, board.runner_known = 1, True
        if isinstance(app.screen, MainScreen):
            app.screen.show_all()


class _ReplayApp(PidecApp):
    """The dashboard without the thread that reads: the replay says what there is."""

    def __init__(self, manager: Manager, replay: Replay) -> None:
        self.now = replay.begin
        super().__init__(manager, clock=lambda: self.now, start_runner=False)
        self.feed.stop()

    def get_default_screen(self) -> Screen[None]:
        return _ReplayScreen()


def rows_of(app: PidecApp) -> tuple[tuple[Run, ...], ...]:
    """What is on the screen now."""
    background = app.theme_variables["background"].lower()
    rows = []
    for strip in app.screen._compositor.render_strips():
        runs: list[Run] = []
        for text, style, _ in strip:
            colours = [_hex(style.color, app) if style else "", _hex(style.bgcolor, app) if style else ""]
            front, back = reversed(colours) if style and style.reverse else colours
            run = Run(text, front or background, back or background, bool(style and style.bold))
            if runs and runs[-1][1:] == run[1:]:
                run = run._replace(text=runs.pop().text + text)
            runs.append(run)
        rows.append(tuple(runs))
    return tuple(rows)


def _hex(colour: Color | None, app: PidecApp) -> str:
    """#rrggbb; "" for the terminal's own."""
    return "" if colour is None or colour.is_default else colour.get_truecolor(app.ansi_theme).hex


async def record(manager: Manager, job_id: int, shape: tuple[int, int]) -> tuple[list[Frame], str]:
    """The frames of a job's run and of its episodes, and the background's colour.

    Raises:
        PidecError: there is no such job, or it logged nothing.
    """
    replay = Replay(manager, job_id)
    app = _ReplayApp(manager, replay)
    app.place = manager.workspace.root.name
    async with app.run_test(size=shape) as pilot:
        frames = await _lapse(app, pilot, replay, shape[0])
        try:
            takes = find_takes(manager, replay.job)
        except PidecError as error:
            print(f"without episodes: {error.line()}", file=sys.stderr)
        else:
            frames += await _episodes(app, pilot, replay.job, takes, shape[0])
        return frames, app.theme_variables["background"].lower()


async def _lapse(app: _ReplayApp, pilot: Pilot[None], replay: Replay, columns: int) -> list[Frame]:
    """The whole run in a few seconds."""
    took = replay.end - replay.begin
    caption = _caption(app, f"time-lapse: {duration(took)} in {LAPSE_SECONDS:.0f} s", columns)
    frames = []
    for index in range(LAPSE_FRAMES + 1):
        app.now = replay.begin + took * index / LAPSE_FRAMES
        for _ in range(2):  # the first lays out, the second knows the widths
            replay.show(app, app.now)
            await pilot.pause()
        last = index == LAPSE_FRAMES
        frames.append(Frame((*rows_of(app), caption), HOLD_SECONDS if last else LAPSE_SECONDS / LAPSE_FRAMES))
    return frames


async def _episodes(app: _ReplayApp, pilot: Pilot[None], job: Job, takes: list[Take], columns: int) -> list[Frame]:
    """The first start, played once."""
    screen = _ReplayWatch(job, takes)
    await app.push_screen(screen)
    caption = _caption(app, "real speed, drawn from states alone: no renderer", columns)
    frames, at, goes_on = [], 0, True
    while goes_on:
        goes_on = screen.seek(at)
        await pilot.pause()
        frames.append(Frame((*rows_of(app), caption), EVERY / CONTROL_HZ if goes_on else HOLD_SECONDS))
        at += EVERY
    return frames


def _caption(app: PidecApp, text: str, columns: int) -> tuple[Run, ...]:
    """A line below the screen."""
    colours = app.theme_variables
    return (Run(f" {text} ".center(columns), colours["muted"].lower(), colours["background"].lower()),)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pidec_tui.cast", description="An animated picture (SVG) of a run.")
    parser.add_argument("--workspace", metavar="DIR", help="default: as pidec-tui")
    parser.add_argument("--job", type=int, required=True, metavar="ID", help="a job that is over, best a decorator")
    parser.add_argument("--out", type=Path, default=Path("cast.svg"), metavar="FILE", help="default: cast.svg")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("COLUMNS", "ROWS"), help="default: 120 36")
    options = parser.parse_args(argv)
    # A picture has all colours, however few the terminal has that it is asked for in.
    os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
    manager = None
    try:
        manager = Manager.open(options.workspace)
        frames, background = asyncio.run(record(manager, options.job, tuple(options.size)))
        job = manager.job(options.job)
        text = svg_of(frames, options.size[0], background, f"pidec: {job.name}, its run and its episodes")
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)
    except PidecError as error:
        print(error.line(), file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        print(f"{options.out} cannot be written: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED
    finally:
        if manager is not None:
            manager.close()
    print(f"{options.out}: {len(frames)} frames, {size(len(text.encode()))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
