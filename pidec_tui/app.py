"""The dashboard: it owns the board, the feed and the screens; handlers of the feed's messages change widgets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from rich.console import RenderableType
from textual import events
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.screen import Screen

from pidec_train.protocol.errors import PidecError

from . import theme
from .alerting import toasts
from .board import Board, paces
from .bound import keys_of
from .feed import Feed
from .inorder import InOrder
from .keymap import UserKeys
from .manager.gpus import GpuMonitor
from .manager.jobs import Job
from .manager.manager import Manager
from .memory import Memory
from .messages import (
    AdviceChanged,
    AlertsRaised,
    CheckpointsChanged,
    Done,
    LinesRead,
    LogChanged,
    Looked,
    MachineSampled,
    OverlayChanged,
    QueueChanged,
    RankingRead,
    Refused,
    RunnerSeen,
    TraceChanged,
    Trouble,
)
from .palette import PlainCommands
from .refusals import READS_ONLY, refusal
from .remembering import Remembering
from .screens.base import BoardScreen, PidecScreen
from .screens.main import MainScreen
from .sent import Sent
from .words import keyed

# Somebody is there. A terminal changes its size when somebody attaches to it, as to one of tmux.
_SOMEBODY = (events.InputEvent, events.Paste, events.AppFocus, events.Resize)


class PidecApp(InOrder):
    """The dashboard over one workspace. Closing it changes nothing for the jobs.

    Args:
        manager: an open job manager; closed with the app.
        monitor: what samples the GPUs.
        clock: unix seconds; a test gives a fixed one.
        start_runner: start a runner where there is work and none is up.
        readonly: change nothing, and say so; this starts no runner either.
        memory: what is remembered of this workspace; None: nothing is.
        keys: the user's own.
    """

    CSS_PATH = "app.tcss"
    TITLE = "pidec"
    COMMANDS = {PlainCommands}  # noqa: RUF012 - Textual's own type
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "help", key_display="?", id="app.help"),
        Binding("q", "quit", "quit", id="app.quit"),
        Binding("ctrl+p", "command_palette", "palette", show=False, id="app.palette"),
        Binding("ctrl+l", "redraw", "draw all anew", show=False, id="app.redraw"),
    ]

    def __init__(
        self,
        manager: Manager,
        *,
        monitor: GpuMonitor | None = None,
        clock: Callable[[], float] = time.time,
        start_runner: bool = True,
        readonly: bool = False,
        memory: Memory | None = None,
        keys: UserKeys | None = None,
    ) -> None:
        super().__init__()
        self.manager = manager
        self.readonly = readonly
        self.clock = clock
        self.board = Board()
        self._new_jobs: list[int] = []  # made, but not shown in the queue yet
        self._due: dict[str, None] | None = None  # parts to be drawn when all was told; None: each at once
        self._series: list[int] = []  # jobs that were queued together, one after the other: where the cursor goes on
        runs = start_runner and not readonly
        self.feed = Feed(
            manager,
            monitor or GpuMonitor(),
            self.post_message,
            start_runner=runs,
            clock=clock,
            together=lambda messages: self.post_message(Looked(messages)),
        )
        self.place = _short(manager.workspace.root)
        for name, each in self.available_themes.items():
            if each.ansi:  # these name colours that cells of a table cannot have
                self.unregister_theme(name)
        for each in theme.ours(self.console.color_system):
            self.register_theme(each)
        self.theme = theme.chosen()
        self._remembering = Remembering(self, memory)
        self._sent = Sent()
        self.keys = keys or UserKeys()
        self.set_keymap(self.keys.textual())

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return theme.EXTRA

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        super()._display(screen, self._sent.less(renderable))

    def get_default_screen(self) -> Screen[None]:
        return MainScreen()

    def on_mount(self) -> None:
        self.run_worker(self.feed.run, thread=True, name="feed", exit_on_error=False)
        self.theme_changed_signal.subscribe(self, lambda _: self._tell("all"))
        self.app_resume_signal.subscribe(self, lambda _: self._resumed())
        self._remembering.begin()
        if self.keys.troubles:
            self.notify(self.keys.said(), title="Your own keys", severity="warning", timeout=15, markup=False)
        if wrong := theme.mistaken():
            self.notify(wrong, severity="warning", timeout=10, markup=False)

    def on_unmount(self) -> None:
        self._remembering.end()
        self.feed.stop()

    # --- what the user asked for

    def select(self, job_id: int) -> None:
        """Show this job from now on."""
        if job_id != self.board.selected:
            self.board.select(job_id)
            self.feed.watch(job_id)
            self._tell("all")

    def act(self, does: Callable[[Manager], object], said: str = "", *, reads: bool = False) -> None:
        """Ask the job manager for something in a thread; `said` is shown when it is done, a refusal as it comes.

        `reads`: it changes nothing, so that a dashboard that only reads may do it, too.
        """
        self._ask(lambda manager: (does(manager), Done(said))[1], reads=reads)

    def queue_jobs(self, makes: Callable[[Manager], list[Job]]) -> None:
        """Have the job manager make jobs, and put the cursor on the first; it follows from each to the next."""

        def work(manager: Manager) -> Done:
            jobs = makes(manager)
            said = ", then ".join(f"job {job.id}, {job.name}" for job in jobs)
            return Done(f"Queued as {said}", [job.id for job in jobs])

        self._ask(work)

    def _ask(self, does: Callable[[Manager], Done], *, reads: bool = False) -> None:
        if self.readonly and not reads:
            self.post_message(Refused(*READS_ONLY))
            return

        def work() -> None:
            try:
                done = does(self.manager)
            except PidecError as error:
                self.post_message(Refused(error.message, error.hint))
            except Exception as error:  # noqa: BLE001 - a broken job log must not close the dashboard
                self.post_message(Refused(f"{type(error).__name__}: {error}", "Nothing was changed."))
            else:
                self.post_message(done)
                self.feed.wake()

        self.run_worker(work, thread=True, name="act", exit_on_error=False)

    async def run_action(
        self,
        action: str | tuple[str, str, tuple[object, ...]],
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """A key, or a line of the palette. Those that would change what may not be changed say so, and do nothing."""
        selected = self.board.selected
        if self.readonly or (selected is not None and selected < 0):
            bindings = self.screen.active_bindings.values()
            refused = refusal(action, bindings, readonly=self.readonly, job_id=selected)
            if refused is not None:
                self.post_message(Refused(refused[0], keyed(refused[1], keys_of(self))))
                return True
        return await super().run_action(action, default_namespace, namespaces)

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, _SOMEBODY):
            self.feed.touched()
        await super().on_event(event)

    def _resumed(self) -> None:
        """After `fg`, whose keys went to the shell."""
        self.feed.touched()
        self.action_redraw()

    def action_redraw(self) -> None:
        """For a terminal that something else has written to."""
        self._sent.forget()
        self.refresh()

    def action_help(self) -> None:
        from .screens.help import HelpScreen

        self.push_screen(HelpScreen(self.screen))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: what the keys do here, the jobs by name, and the colours."""
        for _, binding, enabled, _ in screen.active_bindings.values():
            if enabled and binding.id and not binding.id.startswith("list.") and binding.action != "command_palette":
                yield SystemCommand(
                    binding.description.capitalize(),
                    f"key {self.get_key_display(binding)}",
                    _runner_of(self, screen, binding.action),
                )
        for job in self.board.jobs or ():
            yield SystemCommand(f"Go to job {job.id}, {job.name}", str(job.state), _goer(self, job.id))
        other = theme.LIGHT.name if self.current_theme.dark else theme.DARK.name
        yield SystemCommand(
            "Light colours" if self.current_theme.dark else "Dark colours",
            "PIDEC_THEME=light or dark decides it at the start",
            lambda: setattr(self, "theme", other),
        )
        yield SystemCommand("All themes", "choose among Textual's", self.action_change_theme)

    def go_to(self, job_id: int) -> None:
        """Back to the main screen, with the cursor on this job."""
        while len(self.screen_stack) > 1:
            self.pop_screen()
        if isinstance(self.screen, MainScreen):
            self.board.follow = False  # chosen, as by the cursor
            self.screen.go_to(job_id)

    def _go_to_new(self) -> None:
        """Put the cursor on a job that was just made, as soon as the queue shows it."""
        if self._new_jobs and any(job.id == self._new_jobs[0] for job in self.board.jobs or ()):
            if isinstance(self.screen, MainScreen):
                self.screen.go_to(self._new_jobs[0])
            self._series, self._new_jobs = self._new_jobs, []

    def _go_on_in_series(self) -> None:
        """When the job under the cursor is done and the one that was queued with it begins, go on to that one."""
        if len(self._series) < 2:
            return
        states = {job.id: job.state for job in self.board.jobs or ()}
        done, following = self._series[:2]
        if following in states and states[following].active and isinstance(self.screen, MainScreen):
            self._series = self._series[1:]
            if self.board.selected == done:  # the user has looked at nothing else since
                self.screen.go_to(following)

    # --- what the feed tells

    def _tell(self, *parts: str) -> None:
        """Have the topmost board screen redraw parts; the others catch up when they return, and so does one that a
        log, a form or an episode covers."""
        if self._due is not None:
            self._due.update(dict.fromkeys(parts))
            return
        for screen in reversed(self.screen_stack):
            if isinstance(screen, BoardScreen) and screen.is_mounted:
                if "all" in parts:
                    screen.show_all()
                else:
                    screen.show_parts(parts)
            if isinstance(screen, PidecScreen):
                return

    def on_looked(self, message: Looked) -> None:
        """What came together is drawn once: most of what a live run cost was the same parts, drawn again and again."""
        self._due = {}
        try:
            for each in message.messages:
                getattr(self, each.handler_name)(each)
        finally:
            due, self._due = self._due, None
        self._tell(*due)
        self._go_on()
        self.feed.drawn()

    def on_queue_changed(self, message: QueueChanged) -> None:
        self.board.jobs, self.board.by_hand = message.jobs, list(message.by_hand)
        if (chosen := self._remembering.jobs_known()) is not None:
            self.select(chosen)
        self._tell("queue")
        self._go_on()

    def _go_on(self) -> None:
        """To jobs that the queue shows now."""
        if self._due is None:
            self._go_to_new()
            self._go_on_in_series()

    def on_lines_read(self, message: LinesRead) -> None:
        before, self.board.lines = self.board.lines, message.lines
        self._tell("lines" if paces(before) == paces(message.lines) else "queue")

    def on_ranking_read(self, message: RankingRead) -> None:
        if message.metric == self.board.ranking.metric:
            self.board.ranking = replace(self.board.ranking, values=message.values)
            self._tell("queue")

    def on_trace_changed(self, message: TraceChanged) -> None:
        if message.trace.job_id == self.board.selected:
            self.board.trace, self.board.events = message.trace, message.events
            self._tell("trace")

    def on_advice_changed(self, message: AdviceChanged) -> None:
        if message.job_id == self.board.selected:
            self.board.advice = message.advice
            self._tell("advice")

    def on_overlay_changed(self, message: OverlayChanged) -> None:
        self.board.overlay.runs = message.runs
        self._tell("trace")

    def on_log_changed(self, message: LogChanged) -> None:
        if message.job_id == self.board.selected:
            self.board.log = message.lines
            self._tell("log")

    def on_checkpoints_changed(self, message: CheckpointsChanged) -> None:
        if message.job_id == self.board.selected:
            self.board.checkpoints = message.rows
            self._tell("checkpoints")

    def on_machine_sampled(self, message: MachineSampled) -> None:
        self.board.machine = message.machine
        self._tell("machine")

    def on_runner_seen(self, message: RunnerSeen) -> None:
        self.board.runner_pid, self.board.runner_known = message.pid, True
        if message.instead_of is not None:
            text = (
                f"Process {message.instead_of} was gone; process {message.pid} goes on. Jobs that ran were not touched."
            )
            self.notify(text, title="runner", severity="warning", timeout=10)
        self._tell("top")

    def on_trouble(self, message: Trouble) -> None:
        self.board.troubles[message.part] = message.text
        if message.quiet:
            pass
        elif message.text:  # whole: the top line shows it for as long as it lasts, but may cut off what to do about it
            self.notify(message.text, title=message.part, severity="warning", timeout=10, markup=False)
        else:
            self.notify(f"{message.part}: works again", timeout=4)
        self._tell("top")

    def on_alerts_raised(self, message: AlertsRaised) -> None:
        for toast in toasts(message.alerts, message.jobs, keys_of(self)):
            self.notify(toast.text, title=toast.title, severity=toast.severity, timeout=15, markup=False)
        self.bell()

    def on_refused(self, message: Refused) -> None:
        self.notify(message.hint, title=message.message, severity="error", timeout=10, markup=False)

    def on_done(self, message: Done) -> None:
        self._new_jobs = message.job_ids or self._new_jobs
        self._go_to_new()
        if message.text:
            self.notify(message.text, timeout=3, markup=False)


def _runner_of(app: App[None], screen: Screen[object], action: str) -> Callable[[], None]:
    def run() -> None:
        app.call_later(app.run_action, action, screen.focused or screen)

    return run


def _goer(app: PidecApp, job_id: int) -> Callable[[], None]:
    return lambda: app.go_to(job_id)


def _short(path: Path) -> str:
    """A path with ~ for the home folder."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except ValueError:
        return str(path)
