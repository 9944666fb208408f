"""The settings that are not the same in all runs that are drawn side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from ..manager.jobs import Job
from ..widgets.checkpointlines import printable
from ..widgets.jobcard import shown
from .base import PidecScreen

_NONE = "The settings of these runs are all the same."


@dataclass(frozen=True)
class Column:
    """A run, or a group: what stands above its column, and its jobs."""

    head: str
    jobs: Sequence[Job]


class RunSettings(PidecScreen):
    """A row a setting, a column a run."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,equals_sign", "app.pop_screen", "back", key_display="esc", id="view.back"),
        Binding("j,down", "scroll(1)", "down", show=False, id="list.down"),
        Binding("k,up", "scroll(-1)", "up", show=False, id="list.up"),
        Binding("g", "scroll(-100000)", "top", show=False, id="list.first"),
        Binding("G", "scroll(100000)", "bottom", show=False, id="list.last"),
    ]
    KEYS = ("view.back",)

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self._columns = columns

    def body(self) -> ComposeResult:
        yield Static("settings that differ", id="differ-title", classes="title")
        with VerticalScroll(id="differ", can_focus=False):
            yield Static(id="differ-table")

    def on_mount(self) -> None:
        colours, root = self.app.theme_variables, str(self.door.manager.workspace.root)
        self.query_one("#differ-table", Static).update(table_of(self._columns, colours, root))

    def action_scroll(self, by: int) -> None:
        self.query_one("#differ").scroll_relative(y=by, animate=False)


def differing(columns: Sequence[Sequence[Mapping[str, Any]]]) -> list[tuple[str, list[list[Any]]]]:
    """Settings that are not the same in all configs, in the order in which they come up; of each column its values,
    each once; `...` stands for a config without that setting, which is not told from one that leaves it at none."""
    configs = [config for column in columns for config in column]
    found = []
    for name in dict.fromkeys(name for config in configs for name in config):
        values = [_once(config.get(name, ...) for config in column) for column in columns]
        told = _once(None if value is ... else value for column in values for value in column)
        if len(told) > 1:
            found.append((name, values))
    return found


def _once(values: Any) -> list[Any]:
    """Without repetition; a value may be a list, which cannot be hashed."""
    kept: list[Any] = []
    for value in values:
        if value not in kept:
            kept.append(value)
    return kept


def table_of(columns: Sequence[Column], colours: Mapping[str, str], root: str = "") -> Table | Text:
    rows = differing([[{"kind": job.kind, **job.config} for job in column.jobs] for column in columns])
    if not rows:
        return Text(_NONE, colours["muted"])
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", style=colours["muted"], overflow="fold")
    for column in columns:
        table.add_column(Text(column.head, "bold"), overflow="fold")
    for name, values in rows:
        texts = [", ".join("-" if value is ... else printable(shown(value, root)) for value in each) for each in values]
        table.add_row(printable(name), *(Text(text) for text in texts))
    return table
