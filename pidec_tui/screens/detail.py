"""One job, large: its charts, state, attempts, events and whole config."""

from __future__ import annotations

from typing import ClassVar

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Static

from pidec_train.protocol.config import parse_config, shell_line
from pidec_train.protocol.errors import PidecError

from ..alerting import WORDS, needs_somebody
from ..board import Board
from ..manager.byhand import shown_id
from ..manager.jobs import Attempt, Job, JobEvent
from ..sentences import jobs_ahead, sentence
from ..widgets.jobcard import shown
from ..widgets.stack import ChartStack
from ..words import GLYPHS, STATE_COLOURS, Keys, duration, moment
from .queue_keys import QueueKeys

_NEWEST_EVENTS = 40


class DetailScreen(QueueKeys):
    """The selected job, whatever becomes of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "back", id="view.back"),
        Binding("tab", "turn_page", "charts or words", show=False, id="view.next"),
        Binding("space", "next_metric", "other metric", show=False, id="view.metric"),
        Binding("j,down", "scroll(1)", "down", show=False, id="list.down"),
        Binding("k,up", "scroll(-1)", "up", show=False, id="list.up"),
        Binding("g", "scroll(-100000)", "top", show=False, id="list.first"),
        Binding("G", "scroll(100000)", "bottom", show=False, id="list.last"),
    ]

    def body(self) -> ComposeResult:
        yield Static(id="detail-title", classes="title")
        with Horizontal(id="detail"):
            yield ChartStack(id="stack")
            with VerticalScroll(id="facts", can_focus=False):
                yield Static(id="attempts", classes="panel")
                yield Static(id="events", classes="panel")
                yield Static(id="config", classes="panel")

    def on_mount(self) -> None:
        for name in ("attempts", "events", "config"):
            self.query_one(f"#{name}").border_title = name

    def show_queue(self) -> None:
        board, colours, now = self.door.board, self.app.theme_variables, self.door.clock()
        self.query_one(ChartStack).show(board, now)
        job = board.job()
        if job is None:
            return
        self.query_one("#detail-title", Static).update(title_of(job, board, colours, now, self.key))
        self.query_one("#attempts", Static).update(attempts_of(job.attempts, colours, now))
        self.query_one("#config", Static).update(config_of(job, colours))

    def show_trace(self) -> None:
        self.query_one(ChartStack).show(self.door.board, self.door.clock())
        events = events_of(self.door.board.events, self.app.theme_variables, self.door.clock())
        self.query_one("#events", Static).update(events)

    def show_advice(self) -> None:
        self.query_one(ChartStack).show(self.door.board, self.door.clock())

    def show_log(self) -> None:
        self.query_one(ChartStack).show(self.door.board, self.door.clock())

    def show_machine(self) -> None:
        self.show_queue()

    def action_turn_page(self) -> None:
        self.toggle_class("-words")
        self.call_after_refresh(self.show_all)

    def action_next_metric(self) -> None:
        self.query_one(ChartStack).turn += 1
        self.show_log()

    def action_scroll(self, by: int) -> None:
        self.query_one("#facts").scroll_relative(y=by, animate=False)


def title_of(job: Job, board: Board, colours: dict[str, str], now: float, key: Keys) -> Text:
    state = job.state.value
    said = sentence(job, board.lines.get(job.id), now, jobs_ahead(job, board.jobs or ()), key=key)
    return (
        Text(f"{shown_id(job.id)} {job.name}  ", "bold", no_wrap=True, overflow="ellipsis")
        .append(f"{job.kind} · {job.lane}  ", f"not bold {colours['muted']}")
        .append(f"{GLYPHS[state]} {said}", f"not bold {colours[STATE_COLOURS[state]]}")
    )


def attempts_of(attempts: tuple[Attempt, ...], colours: dict[str, str], now: float) -> Table | Text:
    """Newest first."""
    if not attempts:
        return Text("none yet", colours["muted"])
    table = Table.grid(padding=(0, 2, 0, 0))
    for attempt in reversed(attempts):
        took = duration((attempt.ended or now) - attempt.started)
        how = attempt.cause or (f"pid {attempt.pid}" if attempt.pid and not attempt.ended else "")
        if attempt.resumed_step:
            how = f"from step {attempt.resumed_step:,}. {how}".strip()
        table.add_row(
            Text(str(attempt.number), colours["muted"]),
            Text(f"{GLYPHS.get(attempt.state, ' ')} {attempt.state}", colours[STATE_COLOURS[attempt.state]]),
            Text(moment(attempt.started, now)),
            Text(took),
            Text(how, colours["muted"]),
        )
    return table


def events_of(events: tuple[JobEvent, ...], colours: dict[str, str], now: float) -> Table | Text:
    """Newest first, warnings in their colour."""
    if not events:
        return Text("none yet", colours["muted"])
    table = Table.grid(padding=(0, 2, 0, 0))
    for event in list(reversed(events))[:_NEWEST_EVENTS]:
        warning = needs_somebody(event) or (event.event == "eval" and event.detail.get("phase") == "failed")
        table.add_row(
            Text(moment(event.time, now), colours["muted"]),
            Text(f"! {event.event}" if warning else event.event, colours["warning"] if warning else ""),
            Text(_told(event), "" if warning else colours["muted"]),
        )
    return table


def _told(event: JobEvent) -> str:
    """What an event says, in words."""
    detail = event.detail
    at = f"step {event.step:,}" if event.step is not None else ""
    if event.event == "warning":
        return str(detail.get("message", ""))
    if event.event == "alert":
        kind = str(detail.get("kind", ""))
        return f"{WORDS.get(kind, kind)}: {detail.get('message', '')}"
    if event.event == "start":
        total, resumed = detail.get("total_steps"), detail.get("resumed_step")
        length = f"{total:,} {detail.get('step_name', 'step')}s" if isinstance(total, int) else "of unknown length"
        return f"{length}, from step {resumed:,}" if resumed and isinstance(resumed, int) else length
    if event.event == "eval":
        if detail.get("phase") == "start":
            return f"{at}: begins"
        if detail.get("phase") == "skipped":
            by = detail.get("by")
            newer = f"step {by:,}" if isinstance(by, int) else "a newer checkpoint"
            return f"{at}: left out, {newer} was evaluated instead"
        if detail.get("phase") == "failed":
            return f"{at}: failed: {detail.get('message', '')}"
        if detail.get("successes") is not None and detail.get("episodes"):
            return f"{at}: {detail['successes']} of {detail['episodes']} succeeded"
    said = [
        f"{name.replace('_', ' ')} {shown(value)}"
        for name, value in detail.items()
        if value not in (None, "") and name != "path" and not isinstance(value, (dict, list))
    ]
    return ", ".join([at, *said] if at else said)


def config_of(job: Job, colours: dict[str, str]) -> Group:
    """Every value, and the command that gives them."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, value in job.config.items():
        table.add_row(Text(name, colours["muted"]), Text(shown(value), overflow="fold"))
    try:
        line = shell_line(job.kind, parse_config(job.kind, job.config))
    except PidecError as error:
        line = error.line()
    return Group(table, Text(f"\n{line}", colours["muted"], overflow="fold"))
