"""The whole log of a job: follow it, scroll it, find in it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input, Static

from ..feed import plain_lines
from ..manager.jobs import Job
from ..messages import LogRead
from ..widgets.logview import LogView
from .base import PidecScreen

MOST_BYTES = 8_000_000  # of a longer log, its end
KEEP_BYTES = 2 * MOST_BYTES  # of one that grows while it is read; then its end again, so that memory has an end too
EVERY = 0.5


class LogScreen(PidecScreen):
    """Reads in a thread, only what was added; a log that was begun anew is read anew."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "back", id="log.back"),
        Binding("slash", "find", "find", key_display="/", id="log.find"),
        Binding("n", "match(1)", "next match", id="log.next"),
        Binding("N", "match(-1)", "previous match", id="log.previous"),
        Binding("f", "follow", "follow", id="log.follow"),
    ]

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._stop = threading.Event()

    def body(self) -> ComposeResult:
        yield Static(classes="title", id="log-title", markup=False)
        yield LogView(id="logview")
        yield Input(placeholder="find", compact=True, id="find")

    def on_mount(self) -> None:
        self.query_one("#find").display = False
        self.query_one(LogView).focus()
        self._say()
        self.run_worker(self._read, thread=True, name="log", exit_on_error=False)

    def on_unmount(self) -> None:
        self._stop.set()

    def _read(self) -> None:
        reader = LogReader()
        while not self._stop.is_set():
            try:
                if reader.read(self.door.manager.log_path(self._job.id)):
                    self.post_message(LogRead(reader.lines(), reader.widest()))
            except OSError:
                reader = LogReader()  # gone for the moment; looked for again
            self._stop.wait(EVERY)

    def on_log_read(self, message: LogRead) -> None:
        self.query_one(LogView).bring(message.lines, message.widest)
        self._say()

    def _say(self) -> None:
        view = self.query_one(LogView)
        parts = [f"log of job {self._job.id}, {self._job.name}", f"{len(view.lines):,} lines"]
        parts.append("following" if view.follow else "stands still: f follows")
        if place := view.place():
            parts.append(place)
        self.query_one("#log-title", Static).update(" · ".join(parts))

    def action_back(self) -> None:
        """Close the search, then the screen."""
        find = self.query_one("#find", Input)
        if find.display:
            self._close_find()
        else:
            self.app.pop_screen()

    def action_find(self) -> None:
        find = self.query_one("#find", Input)
        find.display = True
        find.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self.query_one(LogView).find(event.value)
        self._say()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self._close_find()

    def _close_find(self) -> None:
        self.query_one("#find").display = False
        self.query_one(LogView).focus()

    def action_match(self, by: int) -> None:
        self.query_one(LogView).next_match(by)
        self._say()

    def action_follow(self) -> None:
        view = self.query_one(LogView)
        view.follow = not view.follow
        if view.follow:
            view.action_last()
        self._say()


class LogReader:
    """Reads on from where it stopped; a log of another attempt, or one that got shorter or much longer,
    is begun anew."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._offset = 0
        self._whole: list[str] = []
        self._widest = 0  # cells of the widest of them; measured here, in the thread, and once for each line
        self._rest = b""  # the last line while it has no end
        self._begun: int | None = None  # byte that the lines begin with; None: nothing was read yet

    def read(self, path: Path | None) -> bool:
        """Take what was added; of what is too long, the end. Returns whether there is anything new to show."""
        length = path.stat().st_size if path else 0
        fits = self._begun is not None and self._offset <= length <= self._begun + KEEP_BYTES
        if path != self._path or not fits:
            self._path, self._whole, self._rest = path, [], b""
            self._begun = self._offset = max(length - MOST_BYTES, 0)
            if path is None:
                self._whole = ["No log yet: the job has not started."]
            elif self._offset:
                self._whole = [f"… the {self._offset:,} bytes before this are in {path}"]
            self._widest = cells_of_widest(self._whole)
        elif length == self._offset:
            return False
        if path is not None:
            with path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(length - self._offset)
            self._offset += len(data)
            head, newline, self._rest = (self._rest + data).rpartition(b"\n")
            added = plain_lines(head + newline)
            self._whole += added
            self._widest = max(self._widest, cells_of_widest(added))
        return True

    def lines(self) -> list[str]:
        return self._whole + plain_lines(self._rest)

    def widest(self) -> int:
        """Cells of the widest of `lines()`."""
        return max(self._widest, cells_of_widest(plain_lines(self._rest)))


def cells_of_widest(lines: list[str]) -> int:
    """How many cells the widest line takes on a terminal."""
    return max((len(line) if line.isascii() else cell_len(line) for line in lines), default=0)
