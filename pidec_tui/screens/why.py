"""Why a run is as fast as it is: its rate above what the machine did, over one time axis, and below them the advice
with its evidence."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from ..advice import Advice
from ..bound import key_of
from ..charts.series import XKind
from ..plans import Plan, machine_plans
from ..runtraces import RunTrace, run_trace
from ..widgets.chartgrid import ChartGrid
from .charts import ChartsScreen


class WhyScreen(ChartsScreen):
    """The charts' own keys move, zoom and smooth; the list below has a cursor of its own."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back", id="chart.leave"),
        Binding("enter", "open", "evidence", key_display="enter", id="why.evidence"),
        Binding("j,down", "go(1)", "next sentence", show=False, id="why.next"),
        Binding("k,up", "go(-1)", "previous sentence", show=False, id="why.previous"),
        Binding("g", "go(-1000)", "first sentence", show=False, id="why.first"),
        Binding("G", "go(1000)", "last sentence", show=False, id="why.last"),
        Binding("x", "dismiss_advice", "dismiss", id="why.dismiss"),
        Binding("U", "restore", "show dismissed ones", id="why.restore"),
        Binding("o", "charts", "all charts", id="why.charts"),
    ]
    KEYS = (
        *("chart.leave", "why.evidence", "why.dismiss", "why.restore", "chart.left", "chart.closer", "chart.further"),
        *("chart.page", "chart.smooth", "why.charts", "app.help"),
    )
    EMPTY = "has told no rate, and the machine was not measured meanwhile."

    def __init__(self) -> None:
        super().__init__(self._with_machine)
        self._key_at: str | None = None  # of the advice that the cursor is on
        self._opened = False

    def body(self) -> ComposeResult:
        yield Static(id="charts-title", classes="title")
        yield Static(id="charts-empty")
        yield ChartGrid(id="chart-grid", column=True)
        with VerticalScroll(id="why", can_focus=False):
            yield Static(id="why-lines")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The charts are these, by time of day: nothing to pin or find, no other axis, nothing beside it."""
        return action not in ("pin", "find", "axis", "differ", "enlarge", "why")

    # --- the charts

    def _with_machine(self) -> Sequence[RunTrace]:
        """The selected job alone: the machine's curves of others are not read."""
        board = self.door.board
        job, trace = board.job(), board.trace
        if job is None or trace is None:
            return ()
        run = run_trace(job, trace, board.events)
        return [replace(run, curves={**run.curves, **trace.machine})]

    def _plans_of(self, names: Collection[str], step_name: str) -> list[Plan]:
        return machine_plans(names, step_name)

    def _kind(self) -> XKind:
        return "clock"

    def show_trace(self) -> None:
        super().show_trace()
        self.show_advice()

    show_queue = show_trace

    # --- the advice

    def show_advice(self) -> None:
        """The sentences, the one under the cursor with its figures where they are opened."""
        found, colours = self.door.board.advised(), self.app.theme_variables
        hidden = len(self.door.board.advice) - len(found)
        place = self._place_of(found)
        self._key_at = found[place].key if found else None
        table = Table.grid(padding=(0, 1, 0, 0))
        for number, advice in enumerate(found):
            at = number == place
            table.add_row(
                Text("▶" if at else " ", f"bold {colours['primary']}"), Text(advice.text, "bold" if at else "")
            )
            if at and self._opened:
                for figure in advice.evidence:
                    table.add_row("", Text(f"  {figure}", colours["muted"]))
        if not found:
            table.add_row("", Text(self._nothing(), colours["muted"]))
        if hidden:
            key = key_of(self.app, "why.restore")
            table.add_row("", Text(f"dismissed: {hidden}; {key} shows them again", colours["muted"]))
        self.query_one("#why-lines", Static).update(table)
        self.call_after_refresh(self.query_one("#why", VerticalScroll).scroll_to, y=place, animate=False)

    def _place_of(self, found: Sequence[Advice]) -> int:
        return next((place for place, advice in enumerate(found) if advice.key == self._key_at), 0)

    def _nothing(self) -> str:
        job = self.door.board.job()
        if job is None:
            return "No job is selected."
        if self.door.board.advice:
            return "Nothing else to say."
        if job.state.finished:
            return "Nothing to say on this run."
        return "Nothing to say yet: sentences come from measured rates, a minute of them at least."

    def action_go(self, by: int) -> None:
        found = self.door.board.advised()
        if found:
            place = min(max(self._place_of(found) + by, 0), len(found) - 1)
            self._key_at = found[place].key
            self.show_advice()

    def action_open(self) -> None:
        """The figures that a sentence is made from, and no more."""
        self._opened = not self._opened
        self.show_advice()

    def action_leave(self) -> None:
        """The figures first, then as in the charts."""
        if self._opened:
            self._opened = False
            self.show_advice()
        else:
            super().action_leave()

    def action_dismiss_advice(self) -> None:
        """This sentence is not shown any more for this job, neither here nor on the main screen."""
        board = self.door.board
        found = board.advised()
        if not found:
            self.notify("Nothing to dismiss.", timeout=3)
            return
        place = self._place_of(found)
        board.dismissed.add(f"{board.selected}:{found[place].key}")
        rest = board.advised()
        self._key_at = rest[min(place, len(rest) - 1)].key if rest else None
        self.show_advice()

    def action_restore(self) -> None:
        """All that were dismissed for this job."""
        board = self.door.board
        own = {each for each in board.dismissed if each.startswith(f"{board.selected}:")}
        board.dismissed -= own
        if not own:
            self.notify("Nothing was dismissed for this job.", timeout=3)
        self.show_advice()

    def action_charts(self) -> None:
        self.go_beside(ChartsScreen)
