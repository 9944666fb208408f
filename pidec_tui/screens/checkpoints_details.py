"""One checkpoint, large: what it is, its lineage, its evaluations, its config against the default, its run's curves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from pidec_train.protocol.config import CONFIG_MODELS
from pidec_train.protocol.errors import PidecError

from ..board import Board
from ..manager.catalogue import Catalogue, Entry
from ..manager.catalogue_order import Lineage
from ..manager.shelf import Shelf
from ..messages import CurvesRead
from ..trace import Trace
from ..widgets.checkpointlines import printable, success
from ..widgets.jobcard import shown
from ..widgets.stack import ChartStack
from ..words import plural, size
from .checkpoints_keys import CheckpointKeys, name_of, place_of

Colours = Mapping[str, str]


class CheckpointScreen(CheckpointKeys):
    """A checkpoint, whatever becomes of it.

    Args:
        entry: the checkpoint.
        lineage: of everything that is listed.
        browser: the screen that it was opened from; it is told of changes.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "back", id="checkpoints.leave"),
        Binding("tab", "turn_page", "curves or words", show=False, id="view.next"),
        Binding("j,down", "scroll(1)", "down", show=False, id="list.down"),
        Binding("k,up", "scroll(-1)", "up", show=False, id="list.up"),
        Binding("g", "scroll(-100000)", "top", show=False, id="list.first"),
        Binding("G", "scroll(100000)", "bottom", show=False, id="list.last"),
    ]
    KEYS = ("checkpoints.leave", "app.help")

    def __init__(self, entry: Entry, lineage: Lineage, browser: CheckpointKeys) -> None:
        super().__init__()
        self._entry, self._lineage, self._browser = entry, lineage, browser
        self._board, self._gone = Board(), False

    def body(self) -> ComposeResult:
        yield Static(classes="title", id="checkpoint-title")
        with Horizontal(id="detail"):
            with VerticalScroll(id="facts", can_focus=False):
                yield Static(id="about", classes="panel")
                yield Static(id="lineage", classes="panel")
                yield Static(id="evaluations", classes="panel")
                yield Static(id="config", classes="panel")
            yield ChartStack(id="stack")

    def on_mount(self) -> None:
        self._say()
        self.set_class(self._entry.job is None, "-no-run")
        if self._entry.job is not None:
            self.run_worker(self._read, thread=True, name="curves", exit_on_error=False)

    def renew(self, catalogue: Catalogue, lineage: Lineage) -> None:
        """An evaluation may be over, or the file gone, or there again."""
        now = catalogue.at(self._entry.path)
        before = self._entry, self._gone
        self._lineage, self._entry, self._gone = lineage, now or self._entry, now is None
        if before != (self._entry, self._gone):
            self.call_later(self._say)  # it may have been opened this moment, and have nothing to say it with yet

    def _say(self) -> None:
        gone = "  is gone: its file is not there any more" if self._gone else ""
        self.query_one("#checkpoint-title", Static).update(Content.assemble((name_of(self._entry), "b"), gone))
        colours, root = self.app.theme_variables, self.door.manager.workspace.root
        texts: dict[str, Table | Text] = {
            "about": about(self._entry, root, colours, self.key("checkpoints.hash")),
            "lineage": lineage_of(self._entry, self._lineage, colours),
            "evaluations": evaluations_of(self._entry, colours, self.key("checkpoints.evaluate")),
            "config": config_of(self._entry, str(root), colours),
        }
        for name, text in texts.items():
            self.query_one(f"#{name}", Static).update(text)
            self.query_one(f"#{name}").border_title = name

    def _read(self) -> None:
        """The curves of its run."""
        manager, job_id = self.door.manager, self._entry.job
        assert job_id is not None
        try:
            job = manager.job(job_id)
            trace = Trace(job_id)
            trace.take(manager.curves(job_id))
        except PidecError:
            return  # a job log that cannot be read is said by the feed
        self.post_message(CurvesRead(job, trace.view()))

    def on_curves_read(self, message: CurvesRead) -> None:
        self._board = Board(jobs=[message.job], selected=message.job.id, trace=message.trace)
        self._show_curves()

    def on_resize(self, event: object) -> None:
        super().on_resize(event)  # type: ignore[arg-type]
        self.call_after_refresh(self._show_curves)

    def _show_curves(self) -> None:
        self.query_one(ChartStack).show(self._board, self.door.clock())

    @property
    def shelf(self) -> Shelf:
        return self._browser.shelf

    def entry(self) -> Entry | None:
        return self._entry

    def changed(self, gone: Path | None = None) -> None:
        self._browser.changed(gone)
        if gone == self._entry.path:
            self.app.call_from_thread(self.app.pop_screen)

    def action_turn_page(self) -> None:
        """Curves in place of the words, where there is room for one."""
        self.toggle_class("-curves")
        self.call_after_refresh(self._show_curves)

    def action_scroll(self, by: int) -> None:
        self.query_one("#facts").scroll_relative(y=by, animate=False)


def _grid() -> Table:
    return Table.grid(padding=(0, 2, 0, 0))


def about(entry: Entry, root: Path, colours: Colours, checks: str) -> Table:
    """What it is; `checks`: the key that checks its hash."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.created))
    sizes = f"observation {entry.obs_dim or '?'}, action {entry.act_dim or '?'}"
    rows = [
        ("file", place_of(entry, root)),
        (
            "condition",
            f"size as its .json says ({checks} checks the hash)" if entry.condition == "ok" and entry.told else "",
        ),
        ("note", entry.note),
        ("is", f"{entry.kind or 'not known'}, {entry.origin or 'origin not known'}"),
        ("tags", ", ".join(entry.tags)),
        ("task", f"{entry.env_id or 'not told'}, {entry.control_mode or 'control mode not told'}"),
        ("step", f"{entry.step:,}" if entry.step is not None else "not told"),
        ("sizes", sizes if entry.kind else ""),
        ("normalised", f"observations {entry.obs_norm}, actions {entry.action_norm}" if entry.kind else ""),
        ("file size", f"{size(entry.size)} ({entry.size:,} bytes)"),
        ("saved", when),
        ("sha256", entry.sha256 or "not known"),
    ]
    table = _grid()
    for name, text in rows:
        if text:
            colour = colours["warning"] if name == "note" and entry.condition != "ok" else ""
            table.add_row(Text(name, colours["muted"]), Text(printable(text), colour, overflow="fold"))
    return table


def lineage_of(entry: Entry, lineage: Lineage, colours: Colours) -> Text:
    """From the first ancestor down to what was made of it."""
    chain = [*reversed(lineage.ancestors(entry)), entry]
    text = Text()
    for depth, each in enumerate(chain):
        text.append("  " * depth + ("└ " if depth else ""))
        text.append(f"{name_of(each)}", "bold" if each is entry else "")
        text.append(f"  {each.kind}, {each.origin}, {success(each.evaluation)}\n", f"not bold {colours['muted']}")
    for child in lineage.children(entry)[:12]:
        text.append("  " * len(chain) + f"└ {name_of(child)}")
        text.append(f"  {child.kind}, {success(child.evaluation)}\n", colours["muted"])
    if len(chain) == 1 and entry.parent_sha256:
        text.append(f"made of sha256 {entry.parent_sha256[:16]}…, which is not listed\n", colours["muted"])
    text.rstrip()
    return text


def evaluations_of(entry: Entry, colours: Colours, evaluates: str) -> Table | Text:
    """The run's own, then jobs, newest first; `evaluates`: the key that does."""
    if not entry.evaluations:
        return Text(f"none yet: {evaluates} evaluates it", colours["muted"])
    table = _grid()
    for each in entry.evaluations:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.when)) if each.when else ""
        table.add_row(
            Text(success(each)),
            Text(f"{each.successes} of {each.episodes}"),
            Text(f"job {each.job}" if each.job is not None else "its run", colours["muted"]),
            Text(when, colours["muted"]),
            Text(each.settings, colours["muted"]),
        )
    return table


def config_of(entry: Entry, root: str, colours: Colours) -> Table | Text:
    """What differs from the default, and the default; then how many are as usual."""
    if not entry.config:
        return Text("not told: a .json beside the file would", colours["muted"])
    table, usual = _grid(), 0
    for name, value in entry.config.items():
        default = default_of(entry.kind, name)
        if default is not None and _same(value, default[0]):
            usual += 1
            continue
        told = f"default {shown(default[0])}" if default is not None and default[0] is not ... else ""
        table.add_row(
            Text(printable(name), colours["muted"]),
            Text(printable(shown(value, root)), overflow="fold"),
            Text(told, colours["muted"]),
        )
    table.add_row(Text(f"{plural(usual, 'other')} as the default", colours["muted"]))
    return table


def default_of(kind: str, name: str) -> tuple[Any] | None:
    """The default of a setting, in a tuple; (...,) where it must be given, None where nobody knows the setting."""
    model = CONFIG_MODELS.get(kind)
    field = model.model_fields.get(name) if model else None
    if field is None:
        return None
    return (...,) if field.is_required() else (field.default,)


def _same(value: Any, default: Any) -> bool:
    """JSON knows no tuples."""
    return bool((list(default) if isinstance(default, tuple) else default) == value)
