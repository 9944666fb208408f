"""Two checkpoints side by side: what they are, what they reach, and the settings that differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from ..manager.catalogue import Entry, Evaluation
from ..manager.catalogue_order import Lineage
from ..manager.jobs import Job
from ..manager.manager import Manager
from ..widgets.checkpointlines import printable, success
from ..widgets.jobcard import shown
from ..words import size
from .base import PidecScreen
from .checkpoints_keys import name_of, place_of

EPISODES = 100
_LABEL = 24  # cells of the longest setting's name


class CompareScreen(PidecScreen):
    """`e` queues what would tell them apart, if both are policies of the same task."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "back", id="checkpoints.leave"),
        Binding("e", "evaluate", "evaluate both", id="checkpoints.evaluate"),
        Binding("j,down", "scroll(1)", "down", show=False, id="list.down"),
        Binding("k,up", "scroll(-1)", "up", show=False, id="list.up"),
        Binding("g", "scroll(-100000)", "top", show=False, id="list.first"),
        Binding("G", "scroll(100000)", "bottom", show=False, id="list.last"),
    ]
    KEYS = ("checkpoints.leave", "checkpoints.evaluate")

    def __init__(self, first: Entry, second: Entry, lineage: Lineage) -> None:
        super().__init__()
        self._pair, self._lineage = (first, second), lineage

    def body(self) -> ComposeResult:
        yield Static(id="compare-title", classes="title")
        with VerticalScroll(id="compare", can_focus=False):
            yield Static(id="compare-facts", classes="panel")
            yield Static(id="compare-config", classes="panel")

    def on_mount(self) -> None:
        colours, root = self.app.theme_variables, self.door.manager.workspace.root
        title = Text("compare", "bold")
        self.query_one("#compare-title", Static).update(
            title.append(f"  {self._offer()}", f"not bold {colours['muted']}")
        )
        facts, config = self.query_one("#compare-facts", Static), self.query_one("#compare-config", Static)
        facts.update(facts_of(*self._pair, root, colours))
        config.update(config_of(*self._pair, str(root), colours))
        facts.border_title, config.border_title = "what they are", "settings that differ"

    def _offer(self) -> str:
        if why := why_not_both(*self._pair):
            return why
        jobs = "one job" if self._decorated() else "two jobs"
        return f"{self.key('checkpoints.evaluate')} queues {jobs}: {EPISODES} episodes of each, from the same starts"

    def _decorated(self) -> Entry | None:
        """The one of the two that stands on the other: one job then does both."""
        for base, other in (self._pair, self._pair[::-1]):
            parent = self._lineage.parent(other)
            if other.kind == "decorator" and parent is not None and parent.path == base.path:
                return other
        return None

    def action_evaluate(self) -> None:
        """Ask, then queue."""
        if why := why_not_both(*self._pair):
            self.notify(why, severity="error", timeout=6, markup=False)
            return
        from .question import Question

        decorated, pair = self._decorated(), self._pair
        names = f"{name_of(pair[0])} and {name_of(pair[1])}"
        count = "Queues one job that runs both" if decorated else "Queues two jobs"

        def make(manager: Manager) -> list[Job]:
            if decorated is not None:
                values = {"ckpt": str(decorated.path), "num_eval_episodes": EPISODES, "compare": True}
                return [manager.add("evaluate", values, name=f"compare {decorated.run}")]
            jobs = []
            for entry in pair:
                alone = {"ckpt": str(entry.path), "num_eval_episodes": EPISODES}
                jobs.append(manager.add("evaluate", alone, name=f"evaluate {entry.run}"))
            return jobs

        def queue(yes: bool | None) -> None:
            if yes:
                self.door.queue_jobs(make)
                self.app.pop_screen()

        question = f"Evaluate {names} on the same {EPISODES} starts? {count}."
        self.app.push_screen(Question(question, "queue", "not now"), queue)

    def action_scroll(self, by: int) -> None:
        self.query_one("#compare").scroll_relative(y=by, animate=False)


def why_not_both(first: Entry, second: Entry) -> str:
    """Why the two cannot be evaluated against each other, a sentence; "" if they can."""
    for entry in (first, second):
        if not entry.is_policy:
            return f"{name_of(entry)} cannot be evaluated"
        if entry.env_id is None:
            return f"{name_of(entry)} does not say on which task it was trained"
    if first.env_id != second.env_id:
        return f"their tasks differ: {first.env_id} and {second.env_id}"
    return ""


def verdict(first: Evaluation | None, second: Evaluation | None) -> str:
    """What the two intervals say together."""
    if first is None or second is None:
        return "they are not both tested"
    (low, high), (other_low, other_high) = first.interval(), second.interval()
    if low > other_high or other_low > high:
        return "the intervals lie apart: the difference is real"
    return "the intervals overlap: so many episodes do not tell them apart"


def _table(first: Entry, second: Entry, muted: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", style=muted, no_wrap=True, min_width=_LABEL)
    for entry in (first, second):
        table.add_column(Text(name_of(entry), "bold"), ratio=1, overflow="fold")
    return table


def facts_of(first: Entry, second: Entry, root: Path, colours: Mapping[str, str]) -> Table:
    """A row a fact; those that differ have a mark."""

    def told(entry: Entry) -> list[tuple[str, str]]:
        each = entry.evaluation
        return [
            ("success", success(each)),
            ("episodes", f"{each.successes} of {each.episodes}" if each else "-"),
            ("kind", entry.kind or "-"),
            ("origin", entry.origin or "-"),
            ("task", entry.env_id or "-"),
            ("control mode", entry.control_mode or "-"),
            ("step", f"{entry.step:,}" if entry.step is not None else "-"),
            ("obs, action", f"{entry.obs_dim or '-'}, {entry.act_dim or '-'}"),
            ("normalised", f"observations {entry.obs_norm}, actions {entry.action_norm}" if entry.kind else "-"),
            ("size", size(entry.size)),
            ("file", place_of(entry, root)),
        ]

    table = _table(first, second, colours["muted"])
    for (name, one), (_, other) in zip(told(first), told(second), strict=True):
        table.add_row(f"{'≠' if one != other else ' '} {name}", Text(one), Text(other))
    table.add_row("", Text(verdict(first.evaluation, second.evaluation), colours["muted"]))
    return table


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Settings that are not the same in both; then those that only one of the two has, `...` for the other. One that is
    none is not told from one that is not there: another version, or kind, leaves it out."""
    both = [name for name in first if name in second]
    names = [*both, *(name for name in [*first, *second] if name not in both)]
    pairs = [(name, first.get(name, ...), second.get(name, ...)) for name in names]
    return [pair for pair in pairs if pair[1] != pair[2] and any(value not in (None, ...) for value in pair[1:])]


def config_of(first: Entry, second: Entry, root: str, colours: Mapping[str, str]) -> Table | Text:
    for entry in (first, second):
        if not entry.config:
            return Text(f"{name_of(entry)} does not tell its settings", colours["muted"])
    rows = differences(first.config or {}, second.config or {})
    if not rows:
        return Text("none", colours["muted"])
    table = _table(first, second, colours["muted"])
    for name, one, other in rows:
        texts = ["-" if value is ... else printable(shown(value, root)) for value in (one, other)]
        table.add_row(printable(name), *(Text(text) for text in texts))
    return table
