"""A look at the end of a job's log over whatever is on the screen; one key closes it, another opens the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from rich.markup import escape
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from ..bound import key_of
from ..logreader import LogRead, LogReader
from ..manager.jobs import Job
from ..widgets.logview import LogView

if TYPE_CHECKING:
    from ..app import PidecApp


class LogPeek(ModalScreen[bool]):
    """Gives whether the whole log is wanted. It follows, and folds long lines."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,L,escape,q", "close(False)", "close", id="peek.close", priority=True),
        Binding("enter,l", "close(True)", "the whole log", id="peek.open", priority=True),
    ]

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        manager = cast("PidecApp", self.app).manager
        self._reader = LogReader(lambda: manager.log_path(job.id), self.post_message)

    def compose(self) -> ComposeResult:
        view = LogView(self._reader.ask, id="peek")
        view.wrap = True
        view.border_title = f"log of job {self._job.id}, {self._job.name}"
        closes, opens = (key_of(self.app, name) for name in ("peek.close", "peek.open"))
        view.border_subtitle = escape(f"{closes} closes, {opens} opens the whole")
        yield view

    def on_mount(self) -> None:
        self.query_one(LogView).focus()
        self.run_worker(self._reader.run, thread=True, name="log", exit_on_error=False)

    def on_unmount(self) -> None:
        self._reader.end()

    def on_log_read(self, message: LogRead) -> None:
        self.query_one(LogView).bring(message.window)

    def action_close(self, opens: bool) -> None:
        self.dismiss(opens)
