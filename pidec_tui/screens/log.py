"""The whole log of a job, however long: follow it, scroll it, find in it, filter it, go from a line to the charts."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input, Static

from ..logreader import Found, LogRead, LogReader, LogSaid
from ..logsteps import step_of
from ..manager.jobs import Job
from ..widgets.logview import LogView
from ..words import size
from .base import PidecScreen

_FIND, _ONLY = "find", "only lines with"


class LogScreen(PidecScreen):
    """A thread reads what is in sight and around it; nothing else of the log is held."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "back", id="log.back"),
        Binding("enter", "chart", "chart at this step", key_display="enter", id="log.chart"),
        Binding("slash", "find", "find", key_display="/", id="log.find"),
        Binding("ampersand", "filter", "only lines with", key_display="&", id="log.filter"),
        Binding("n", "match(1)", "next match", id="log.next"),
        Binding("N", "match(-1)", "previous match", id="log.previous"),
        Binding("f", "follow", "follow", id="log.follow"),
        Binding("w", "wrap", "wrap", id="log.wrap"),
    ]

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._asks = _FIND  # what the line at the bottom is for
        manager = self.door.manager
        self._reader = LogReader(lambda: manager.log_path(job.id), self.post_message)

    def body(self) -> ComposeResult:
        yield Static(classes="title", id="log-title", markup=False)
        yield LogView(self._reader.ask, id="logview")
        yield Input(compact=True, id="find")

    def on_mount(self) -> None:
        self.query_one("#find").display = False
        self.query_one(LogView).focus()
        self._say()
        self.run_worker(self._reader.run, thread=True, name="log", exit_on_error=False)

    def on_unmount(self) -> None:
        self._reader.end()

    def on_log_read(self, message: LogRead) -> None:
        self.query_one(LogView).bring(message.window)

    def on_log_said(self, message: LogSaid) -> None:
        self.notify(message.text, title=f"log of job {self._job.id}", severity="warning", timeout=8, markup=False)

    def on_log_view_moved(self) -> None:
        self._say()

    def on_log_view_opened(self) -> None:
        self.action_chart()

    def _say(self) -> None:
        """What goes on comes first: a narrow terminal cuts off the rest."""
        view = self.query_one(LogView)
        window = view.window
        parts = [f"log of job {self._job.id}"]
        parts += [_said(found, what) for found, what in ((window.kept, "only"), (window.found, "find")) if found]
        if any(found and found.busy for found in (window.kept, window.found)):
            parts.append(f"{self.key('log.back')} stops")
        parts.append("following" if view.follow else f"stands still: {self.key('log.follow')} follows")
        parts += [f"{view.share:.0%} of {size(window.size)}"] if window.size else []
        parts += ["wrapped"] if view.wrap else []
        parts.append(self._job.name)
        self.query_one("#log-title", Static).update(" · ".join(parts))

    # --- find and filter

    def action_back(self) -> None:
        """One thing after the other: the line at the bottom, a search that goes on, the filter, the screen."""
        window = self.query_one(LogView).window
        if self.query_one("#find").display:
            self._close_input()
        elif any(found and found.busy for found in (window.kept, window.found)):
            self._reader.stop_search()
        elif window.kept:
            self._reader.keep_only("")
        else:
            self.app.pop_screen()

    def action_find(self) -> None:
        self._open_input(_FIND)

    def action_filter(self) -> None:
        self._open_input(_ONLY)

    def _open_input(self, what: str) -> None:
        line, window = self.query_one("#find", Input), self.query_one(LogView).window
        self._asks = what
        was = window.found if what == _FIND else window.kept
        with self.prevent(Input.Changed):
            line.value = was.word if was else ""
        line.placeholder = what
        line.display = True
        line.focus()
        line.select_all()

    def on_input_changed(self, event: Input.Changed) -> None:
        if self._asks == _FIND:
            self._reader.find(event.value)
        else:
            self._reader.keep_only(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self._close_input()

    def _close_input(self) -> None:
        self.query_one("#find").display = False
        self.query_one(LogView).focus()

    def action_match(self, by: int) -> None:
        view = self.query_one(LogView)
        if view.window.found is None:
            self.notify(f"Nothing is looked for yet: {self.key('log.find')} finds a word.", timeout=4, markup=False)
            return
        self._reader.jump(by, view.cursor if view.moved else None)
        view.moved = False

    # --- the rest

    def action_follow(self) -> None:
        view = self.query_one(LogView)
        view.set_follow(not view.follow)

    def action_wrap(self) -> None:
        view = self.query_one(LogView)
        view.set_wrap(not view.wrap)

    def action_chart(self) -> None:
        """The charts, with the cursor at the step of this line, or of the nearest line above that tells one."""
        texts = self.query_one(LogView).texts_up()
        steps = (step_of(text, self._job.step_name) for text in texts)
        step = next((each for each in steps if each is not None), None)
        if step is None:
            self.notify("Neither this line nor those above it tell a step.", timeout=4)
            return
        from .charts import ChartsScreen

        self.door.select(self._job.id)
        self.app.push_screen(ChartsScreen(cursor=step))


def _said(found: Found, what: str) -> str:
    """`find "needle" 4 of 12`, and how far it is."""
    count = f"{'the newest ' if found.limited else ''}{found.count:,}"
    if found.place is not None:
        count = f"{found.place:,} of {count}"
    going = f", searched {found.share:.0%}" if found.busy or found.share < 1 else ""
    return f'{what} "{found.word}" {count if found.count or found.busy else "not found"}{going}'
