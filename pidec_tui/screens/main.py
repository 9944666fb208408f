"""The main screen: queue, charts, machine, job, checkpoints, log. Three panes, two, or one with tabs."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import Static

from ..glance import glance, newest_start
from ..manager.jobs import Job, JobState
from ..refusals import MARK, in_keys
from ..widgets.checkpoints import CheckpointTable
from ..widgets.jobcard import card_lines
from ..widgets.machine import machine_lines
from ..widgets.panel import Lines, Panel, Words
from ..widgets.queue import QueueTable
from ..widgets.stack import ChartStack
from ..widgets.tail import LogTail
from ..words import keyed, plural
from .base import inner_width
from .ranking_keys import RankingKeys

TABS = ("queue", "charts", "log", "machine")  # of a terminal with room for one pane only
_NEED_A_RUNNER = {state for state in JobState if not state.finished and state is not JobState.held}
# What is to be told anew, too, where a part of the board has changed; checkpoints age.
_FOLLOW = {
    "queue": ("top", "lines", "job"),
    "trace": ("job",),
    "advice": ("job",),
    "machine": ("top", "lines", "checkpoints", "job"),
}
BASE_RATE, DECORATED_RATE, MINUTES = "35 to 40%", "95%", "ten minutes"  # measured: docs/results.md
_WELCOME = f"""\
[b]No jobs yet.[/b]

Press [b $primary]<queue.new>[/], then [b $primary]<new.queue>[/]: that queues two jobs, and needs no GPU. \
[b]quickstart[/b] learns a policy from bundled demonstrations; it ends mediocre, at {BASE_RATE}. \
[b]decorator-quickstart[/b] then refines it online: watch its success climb to {DECORATED_RATE}, all in about \
{MINUTES}. [b $primary]<job.watch>[/] plays what the two do.

You can close this window at any time, or lose the connection: jobs go on, and are here when you return.

[b $primary]<app.help>[/] shows all keys."""


class MainScreen(RankingKeys):
    """The queue, and everything about the job that its cursor is on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "new job", id="queue.new"),
        Binding("enter", "open", "open", key_display="enter", id="job.open"),
        Binding("shift+up", "move(-1)", "move up", show=False, id="job.up"),
        Binding("shift+down", "move(1)", "move down", show=False, id="job.down"),
        Binding("tab", "next_pane", "next pane", show=False, id="view.next"),
        Binding("shift+tab", "next_pane(-1)", "previous pane", show=False, id="view.previous"),
        Binding("space", "next_metric", "other metric", show=False, id="view.metric"),
        Binding("F", "follow", "follow the newest run", show=False, id="queue.follow"),
        Binding("escape", "to_queue", "back to the queue", show=False, id="view.queue"),
    ]

    KEYS = (
        "queue.new",
        "job.open",
        "app.help",
        "app.quit",
        "job.cancel",
        "job.retry",
        "job.hold",
        "job.log",
        "job.watch",
        "job.edit",
    )

    def __init__(self) -> None:
        super().__init__()
        self.tab = TABS[0]
        self._newest: tuple[float, int] | None = None  # the start that the cursor was taken to last
        self.add_class(f"-tab-{self.tab}")

    def body(self) -> ComposeResult:
        yield Words(id="top")
        yield Words(id="tabs")
        yield Words(id="glance")
        with Container(id="panes"):
            yield Static(
                keyed(_WELCOME, lambda name: self.key(name).replace("[", "\\[")), id="welcome", classes="panel"
            )
            yield QueueTable(id="queue")
            yield ChartStack(id="stack")
            yield Panel("machine", self._machine_lines, id="machine")
            yield Panel("job", self._card_lines, id="card")
            yield CheckpointTable(id="checkpoints")
        yield LogTail(id="log")

    def on_mount(self) -> None:
        layout = self.door.board.layout
        self.query_one(ChartStack).turn = layout.middle
        self.query_one(QueueTable).focus()
        if layout.tab in TABS[1:]:
            self._go_to_tab(layout.tab)

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        self.call_after_refresh(self.show_all)  # the columns depend on the new widths

    # --- what is on the board

    def _machine_lines(self, width: int, height: int) -> Lines:
        return machine_lines(self.door.board.machine, self.app.theme_variables, width, height)

    def _card_lines(self, width: int, height: int) -> Lines:
        return card_lines(
            self.door.board,
            self.door.clock(),
            self.app.theme_variables,
            width,
            height,
            key=self.key,
            root=str(self.door.manager.workspace.root),
        )

    def show_parts(self, parts: Collection[str]) -> None:
        """What follows from several of them, as the charts do, is brought up to date once."""
        due = {*parts, *(other for part in parts for other in _FOLLOW.get(part, ()))}
        if "log" in due and self.query_one(ChartStack).has_class("-log"):
            due.add("job")
        for part, bring in (
            ("queue", self._bring_queue),
            ("machine", self.query_one("#machine", Panel).renew),
            ("top", self.show_top),
            ("lines", self.show_lines),
            ("job", self._show_job),
            ("log", self._bring_log),
            ("checkpoints", self.show_checkpoints),
        ):
            if part in due:
                bring()

    def show_top(self) -> None:
        self.query_one("#top", Static).update(self._top(self.size.width - 2))
        line = Text()
        for tab in TABS:
            line.append(f" {tab} ", "reverse bold" if tab == self.tab else self.app.theme_variables["muted"])
            line.append(" ")
        self.query_one("#tabs", Static).update(line)

    def _top(self, width: int) -> Text:
        """Left: where this is and what goes on; right: the time. What does not work takes the middle's place."""
        board, colours = self.door.board, self.app.theme_variables
        states = [job.state for job in board.jobs or ()]
        counts = [
            plural(sum(s.active for s in states), "running").removesuffix("s"),
            f"{states.count(JobState.queued)} queued",
            f"{states.count(JobState.failed)} failed" if JobState.failed in states else "",
        ]
        middle = Text(" · ".join(c for c in counts if c) if board.jobs else "", colours["muted"])
        trouble = next((f"{part}: {in_keys(text, self.key)}" for part, text in board.troubles.items() if text), "")
        if trouble:
            middle = Text(f"! {trouble}", colours["warning"])
        elif board.runner_known and board.runner_pid is None and any(s in _NEED_A_RUNNER for s in states):
            middle.append("  ! no runner: nothing starts", colours["warning"])
        right = time.strftime("%H:%M", time.localtime(self.door.clock()))
        line = Text(no_wrap=True).append("pidec  ", f"bold {colours['primary']}")
        if self.door.readonly:
            line.append(f"{MARK}  ", f"bold {colours['warning']}")
        room = width - len(line) - len(middle) - len(right) - 4
        where = self.door.place
        if room >= 12:
            line.append(f"{where if len(where) <= room else '…' + where[1 - room :]}  ")
        middle.truncate(max(width - len(line) - len(right) - 1, 0), overflow="ellipsis")
        line.append_text(middle)
        return line.append(" " * max(width - len(line) - len(right), 1)).append(right, colours["muted"])

    def show_lines(self) -> None:
        """What runs, how it does, and what comes next; more runs where there is more room."""
        most = 1 if self.has_class("-low") else 2 if self.has_class("-middling") else 3
        width = max(self.size.width - 2, 1)
        lines = glance(self.door.board, self.door.clock(), self.app.theme_variables, width, most, key=self.key)
        self.query_one("#glance", Static).update(Text("\n").join(lines))

    def show_queue(self) -> None:
        self.show_parts(("queue",))

    def _bring_queue(self) -> None:
        board = self.door.board
        if board.jobs is None:
            return
        if self.has_class("-empty") == bool(board.shown()):
            self.set_class(not board.shown(), "-empty")
            self.call_after_refresh(self._panes_appeared)
        queue = self.query_one(QueueTable)
        if inner_width(queue):
            queue.show(board, self.door.clock(), inner_width(queue))
            self._follow()

    def _follow(self) -> None:
        """To a run that has begun since the last look, unless the user has gone elsewhere."""
        board, queue = self.door.board, self.query_one(QueueTable)
        follows = "following" if board.follow else f"{self.key('queue.follow')} follows"
        words = ("queue", follows, board.ranking.told(board.charts.smooth))
        title = " · ".join(word for word in words if word)
        if queue.border_title != title:  # telling it draws the whole queue
            queue.border_title = title
        newest = newest_start(board.shown())
        if not board.follow or newest is None or newest == self._newest:
            return
        if self._newest is None or newest > self._newest:
            queue.go_to(str(newest[1]))
        self._newest = newest

    def _panes_appeared(self) -> None:
        """After the first job came: the panes have widths now, and the queue, hidden until then, can have the keys."""
        if self.focused is None:
            self.query_one(QueueTable).focus()
        self.show_all()

    def _show_job(self) -> None:
        self.query_one(ChartStack).show(self.door.board, self.door.clock())
        self.query_one("#card", Panel).renew()

    def show_trace(self) -> None:
        self._show_job()

    def show_advice(self) -> None:
        self._show_job()

    def show_log(self) -> None:
        self.show_parts(("log",))

    def _bring_log(self) -> None:
        board = self.door.board
        self.query_one("#log", LogTail).show(board.log if board.log is not None else ())
        self.set_class(self.query_one(ChartStack).has_class("-log"), "-log-large")

    def show_checkpoints(self) -> None:
        table = self.query_one(CheckpointTable)
        if inner_width(table):
            table.show(self.door.board.checkpoints, self.door.clock(), inner_width(table))

    def show_machine(self) -> None:
        self.show_parts(("machine",))

    def go_to(self, job_id: int) -> None:
        """Put the cursor on this job."""
        self.query_one(QueueTable).go_to(str(job_id))

    # --- keys

    def on_queue_table_chosen(self, event: QueueTable.Chosen) -> None:
        self.door.select(event.job_id)

    def on_queue_table_steered(self) -> None:
        """The user has moved the cursor: it stays there, whatever else begins."""
        self.door.board.follow = False
        self._follow()

    def on_row_list_opened(self, event: QueueTable.Opened) -> None:
        event.stop()
        self.action_open()

    def on_data_table_row_selected(self, event: CheckpointTable.RowSelected) -> None:
        event.stop()
        self.action_open()

    def job(self) -> Job | None:
        # The row under the cursor, not what was told last: of keys that come in one burst (a slow line, a paste), the
        # one behind `j` is about the row that `j` went to.
        under = self.query_one(QueueTable).row_under_cursor()
        if under is not None:
            self.door.select(int(under))
        return super().job()

    def checkpoint(self) -> Path | None:
        """The one under the cursor, where the cursor is among the checkpoints."""
        table = self.query_one(CheckpointTable)
        row = table.chosen() if table.has_focus else None
        return row.path if row else None

    def action_new(self) -> None:
        from .new_job import NewJobScreen

        self.app.push_screen(NewJobScreen())

    def action_open(self) -> None:
        """The job's own screen; on a checkpoint, a form that evaluates it."""
        checkpoint = self.checkpoint()
        if checkpoint is not None:
            from .form import FormScreen

            self.app.push_screen(FormScreen("evaluate", {"ckpt": str(checkpoint)}, title="Evaluate a checkpoint"))
        elif self.job() is not None:
            from .detail import DetailScreen

            self.app.push_screen(DetailScreen())

    def action_follow(self) -> None:
        """The cursor to the newest run, and to each that begins from now on."""
        self.door.board.follow, self._newest = True, None
        self._follow()
        if self._newest is None:
            self.notify("Nothing runs yet: the cursor will go to the next run that begins.", timeout=4)

    def action_move(self, by: int) -> None:
        """One place up or down among the jobs that wait."""
        job = self.job()
        if job is None:
            return
        waiting = [other for other in self.door.board.jobs or () if other.state.waiting]
        places = [other.id for other in waiting]
        if job.id not in places:
            self.notify(f"Job {job.id} is {job.state}: only queued and held jobs can be moved.", timeout=4)
            return
        to = places.index(job.id) + 1 + by
        if 1 <= to <= len(places):
            self.door.act(lambda m: m.move(job.id, to))

    def action_next_pane(self, by: int = 1) -> None:
        if self.has_class("-narrow"):
            self._go_to_tab(TABS[(TABS.index(self.tab) + by) % len(TABS)])
            return
        table, queue = self.query_one(CheckpointTable), self.query_one(QueueTable)
        (queue if table.has_focus else table).focus()

    def action_to_queue(self) -> None:
        self._go_to_tab(TABS[0])
        self.query_one(QueueTable).focus()

    def _go_to_tab(self, tab: str) -> None:
        self.remove_class(f"-tab-{self.tab}")
        self.tab = self.door.board.layout.tab = tab
        self.add_class(f"-tab-{tab}")
        self.show_top()
        if self.has_class("-narrow") and tab == "machine":
            self.query_one(CheckpointTable).focus()
        elif tab == "queue":
            self.query_one(QueueTable).focus()
        self.call_after_refresh(self.show_all)

    def action_next_metric(self) -> None:
        stack = self.query_one(ChartStack)
        stack.turn += 1
        self.door.board.layout.middle = stack.turn
        self._show_job()
