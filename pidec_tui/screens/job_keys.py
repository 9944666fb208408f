"""The keys that do something to the selected job; the same on every screen that shows one."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType

from pidec_train.protocol.errors import PidecError

from ..manager.jobs import Job
from ..messages import EpisodesRead
from ..words import duration, keyed
from .base import BoardScreen


class JobKeys(BoardScreen):
    """Mixed into screens that have a selected job."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "cancel", "cancel", id="job.cancel"),
        Binding("r", "retry", "retry", id="job.retry"),
        Binding("h", "hold", "hold", id="job.hold"),
        Binding("l", "log", "log", id="job.log"),
        Binding("L", "peek", "peek at the log", show=False, id="job.peek"),
        Binding("e", "edit", "edit", id="job.edit"),
        Binding("v", "watch", "watch", id="job.watch"),
        Binding("b", "checkpoints", "checkpoints", id="view.checkpoints"),
        Binding("o", "charts", "charts", id="job.charts"),
        Binding("w", "why", "why so fast", show=False, id="job.why"),
    ]

    def job(self) -> Job | None:
        job = self.door.board.job()
        if job is None:
            self.notify(f"No job is selected: {self.key('queue.new')} makes one.", timeout=4)
        return job

    def checkpoint(self) -> Path | None:
        """The checkpoint that a key is about; None: the job as a whole."""
        return None

    def action_cancel(self) -> None:
        job = self.job()
        if job is None:
            return
        if job.state.finished:
            self.notify(f"Job {job.id} is over already ({job.state}).", timeout=4)
            return
        from .question import Question

        begun = job.attempts[-1].started if job.attempts and job.state.active else job.created
        age = duration(self.door.clock() - begun)
        since = f"running for {age}" if job.state.active else f"waiting for {age}"
        retry = self.key("job.retry")
        again = (
            f"{retry} starts it again" if job.kind == "command" else f"What it saved stays, and {retry} goes on there"
        )
        kept = f" {again}." if job.state.active else ""
        self.app.push_screen(
            Question(f"Cancel job {job.id}, {job.name}, {since}?{kept}", "cancel it", "keep it"),
            lambda yes: self.door.act(lambda m: m.cancel(job.id), f"Job {job.id} cancelled") if yes else None,
        )

    def action_retry(self) -> None:
        if job := self.job():
            self.door.act(lambda m: m.retry(job.id), f"Job {job.id} queued again")

    def action_hold(self) -> None:
        """Hold a queued job, release a held one."""
        job = self.job()
        if job is None:
            return
        if job.state.value == "held":
            self.door.act(lambda m: m.release(job.id), f"Job {job.id} released")
        else:
            self.door.act(lambda m: m.hold(job.id), f"Job {job.id} held")

    def action_log(self) -> None:
        if job := self.job():
            from .log import LogScreen

            self.app.push_screen(LogScreen(job))

    def action_peek(self) -> None:
        """The end of the log over this screen."""
        if job := self.job():
            from .peek import LogPeek

            self.app.push_screen(LogPeek(job), lambda opens: self.action_log() if opens else None)

    def action_charts(self) -> None:
        if self.job() is not None:
            from .charts import ChartsScreen

            self.app.push_screen(ChartsScreen())

    def action_why(self) -> None:
        """Rate and machine over one time axis, and what there is to say on it."""
        if self.job() is not None:
            from .why import WhyScreen

            self.app.push_screen(WhyScreen())

    def action_edit(self) -> None:
        job = self.job()
        if job is None:
            return
        if job.state.value not in {"queued", "held"}:
            self.notify(f"Job {job.id} is {job.state}: only a queued or held job can be edited.", timeout=5)
            return
        from .form import FormScreen

        self.app.push_screen(FormScreen(job.kind, job.config, title=f"Edit job {job.id}, {job.name}", job=job))

    def action_checkpoints(self) -> None:
        """The browser, as it was left."""
        if not self.app.is_screen_installed("checkpoints"):
            from ..manager.shelf import Shelf
            from .checkpoints import CheckpointsScreen

            self.app.install_screen(CheckpointsScreen(Shelf(self.door.manager, self.door.clock)), "checkpoints")
        self.app.push_screen("checkpoints")

    def action_watch(self) -> None:
        """Play the kept episodes of the job, or of the checkpoint under the cursor. They are read in a thread."""
        job, checkpoint, manager = self.job(), self.checkpoint(), self.door.manager
        if job is None:
            return

        def work() -> None:
            from ..motion.takes import find_takes

            try:
                self.post_message(EpisodesRead(job, find_takes(manager, job, checkpoint)))
            except PidecError as error:
                self.post_message(EpisodesRead(job, (), error))

        self.door.act(lambda _: work(), reads=True)

    def on_episodes_read(self, message: EpisodesRead) -> None:
        if message.why is not None:
            self.notify(keyed(message.why.hint, self.key), title=message.why.message, timeout=8, markup=False)
        elif self.is_current:  # else the user has gone on to something else
            from .watch import WatchScreen

            self.app.push_screen(WatchScreen(message.job, message.takes))
