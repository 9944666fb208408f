"""The checkpoint browser: every checkpoint of the workspace and of the extra folders."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input, Static

from pidec_train.protocol.errors import PidecError

from ..board import BrowserChoices
from ..manager.catalogue import Catalogue, Entry
from ..manager.catalogue_order import ARRANGEMENTS, COLUMNS, Arrangement, Line, Lineage, arranged, matcher, sort_entries
from ..manager.shelf import Shelf
from ..messages import CatalogueRead
from ..widgets.checkpointlines import columns_for, header, parts_of, printable
from ..widgets.rowlist import Part, RowList
from ..words import keyed, plural
from .checkpoints_keys import CheckpointKeys, name_of, place_of

EVERY = 10.0  # seconds between two looks at the disk, while the browser is on the screen
_ARRANGED = {"list": "", "runs": "by run", "lineage": "by lineage"}


class CheckpointsScreen(CheckpointKeys):
    """Stays as it was left: sorting, filter and cursor are the same when it is opened again.

    Args:
        shelf: where the checkpoints come from; read in a thread.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "back", id="checkpoints.leave"),
        Binding("slash", "find", "filter", key_display="/", id="checkpoints.find"),
        Binding("s", "sort(1)", "sort", id="checkpoints.sort"),
        Binding("S", "turn", "other way round", show=False, id="checkpoints.turn"),
        Binding("t", "arrange", "runs, lineage", id="checkpoints.arrange"),
        Binding("equals_sign", "compare", "compare", key_display="=", id="checkpoints.compare"),
        Binding("f", "foreign", "other files", show=False, id="checkpoints.foreign"),
    ]
    KEYS = (
        "job.open",
        "checkpoints.leave",
        "app.help",
        "checkpoints.find",
        "checkpoints.sort",
        "checkpoints.evaluate",
        "checkpoints.decorate",
        "checkpoints.arrange",
        "checkpoints.compare",
        "checkpoints.watch",
        "checkpoints.copy",
        "checkpoints.trash",
    )

    def __init__(self, shelf: Shelf) -> None:
        super().__init__()
        self._shelf = shelf
        self._catalogue: Catalogue | None = None  # None: not read yet
        self._lineage = Lineage(())
        self._looking = 0
        self._lines: list[Line] = []
        self._marked: Path | None = None  # the one that another is compared with
        self._columns: dict[str, int] = {}
        self._foot_lines = 0
        self._wake, self._stop = threading.Event(), threading.Event()

    @property
    def choices(self) -> BrowserChoices:
        return self.door.board.browser

    def _arrangement(self) -> Arrangement:
        return next((each for each in ARRANGEMENTS if each == self.choices.arrangement), "list")

    def body(self) -> ComposeResult:
        yield Static(id="checkpoints-title", classes="title")
        yield Static(id="checkpoints-head")
        yield RowList(self._parts, id="checkpoint-list")
        yield Static(id="checkpoints-foot")
        yield Input(placeholder="words, -word, task:peg, success>80%, step>=100k", compact=True, id="find")

    def on_mount(self) -> None:
        find = self.query_one("#find", Input)
        find.value, find.display = self.choices.filter, False
        if self.choices.sort not in COLUMNS:  # remembered by another version
            self.choices.sort = "age"
        self.query_one(RowList).focus()
        self.run_worker(self._read, thread=True, name="catalogue", exit_on_error=False)

    def on_unmount(self) -> None:
        self._stop.set()
        self._wake.set()
        self._shelf.stop()

    def on_screen_resume(self) -> None:
        self._wake.set()
        self._say()

    # --- the thread

    def _read(self) -> None:
        before: Catalogue | None = None
        while not self._stop.is_set():
            self._wake.clear()
            try:
                now = self._shelf.read()
            except Exception as error:  # noqa: BLE001 - a locked job log must not end the reading
                text = error.line() if isinstance(error, PidecError) else f"{type(error).__name__}: {error}"
                known = before or Catalogue()
                now = Catalogue(known.entries, (" ".join(text.split()),))
            if now != before:
                looking = 0 if self.door.readonly else len(now.pending)  # what is found out is written down
                self.post_message(CatalogueRead(now, Lineage(now.entries), looking))
                before = now
            if now.pending and not self.door.readonly:  # one at a time, so that what is found shows at once
                self._shelf.inspect(now.pending[0])
            else:
                self._wait()

    def _wait(self) -> None:
        self._wake.wait(EVERY)
        while not self._seen() and not self._stop.is_set() and not self._wake.is_set():
            self._wake.wait(EVERY)  # nobody looks

    def _seen(self) -> bool:
        """Whether somebody looks at what it reads: here, or at one of its checkpoints."""
        return isinstance(self.app.screen, CheckpointKeys)

    def on_catalogue_read(self, message: CatalogueRead) -> None:
        first = self._catalogue is None
        if isinstance(self.app.screen, CheckpointKeys):
            self.app.screen.renew(message.catalogue, message.lineage)
        self._catalogue, self._lineage, self._looking = message.catalogue, message.lineage, message.looking
        self.show()
        if first and (job := self.door.board.selected) is not None:
            self._begin_at(job)

    def _begin_at(self, job_id: int) -> None:
        """Put the cursor on the selected job's best, else its newest."""
        own = [line.entry for line in self._lines if line.entry and line.entry.job == job_id]
        chosen = next((entry for entry in own if "best" in entry.tags), own[0] if own else None)
        if chosen is not None:
            self.query_one(RowList).go_to(str(chosen.path))

    # --- what is shown

    def show(self) -> None:
        """Filter, sort and arrange what was read."""
        catalogue = self._catalogue
        if catalogue is None:
            self._say()
            return
        matches = matcher("")
        try:
            matches = matcher(self.choices.filter)
        except PidecError as error:
            self.query_one("#checkpoints-foot", Static).update(Text(f"! {error.line()}", self._colour("warning")))
            return
        wanted = [e for e in catalogue.entries if (self.choices.foreign or e.condition != "foreign") and matches(e)]
        chosen = sort_entries(wanted, self.choices.sort, turned=self.choices.turned)
        self._lines = arranged(chosen, self._arrangement(), self._lineage)
        self.query_one(RowList).bring([str(line.entry.path) if line.entry else None for line in self._lines])
        self._say()

    def _colour(self, name: str) -> str:
        return self.app.theme_variables[name]

    def _parts(self, place: int, width: int) -> Sequence[Part]:
        entry = self._lines[place].entry
        marked = entry is not None and entry.path == self._marked
        return parts_of(self._lines[place], self._columns, self.app.theme_variables, self.door.clock(), marked)

    def on_resize(self, event: object) -> None:
        super().on_resize(event)  # type: ignore[arg-type]
        self.call_after_refresh(self._say)

    def _say(self) -> None:
        rows = self.query_one(RowList)
        if not rows.size.width:
            return
        self._columns = columns_for(rows.size.width)
        head = header(self._columns, self.choices.sort, self.choices.turned)
        head_text = Text(head, self._colour("muted"), no_wrap=True)
        self.query_one("#checkpoints-head", Static).update(head_text, layout=False)
        self.query_one("#checkpoints-title", Static).update(self._title(), layout=False)
        self._say_below()
        rows.refresh()

    def _say_below(self) -> None:
        foot = self._foot(self.size.width - 2)
        lines = foot.plain.count("\n")
        self.query_one("#checkpoints-foot", Static).update(foot, layout=lines != self._foot_lines)
        self._foot_lines = lines

    def _title(self) -> Text:
        catalogue, muted = self._catalogue, self._colour("muted")
        line = Text("checkpoints", "bold", no_wrap=True, overflow="ellipsis")
        if catalogue is None:
            return line.append("  reading …", f"not bold {muted}")
        foreign = sum(entry.condition == "foreign" for entry in catalogue.entries)
        shown = sum(line.entry is not None for line in self._lines)
        whole = len(catalogue.entries) - (0 if self.choices.foreign else foreign)
        marked = catalogue.at(self._marked) if self._marked else None
        shows = "" if self.choices.foreign else f": {self.key('checkpoints.foreign')} shows"
        parts = [
            f"{self.key('checkpoints.compare')} on another one compares it with {name_of(marked)}" if marked else "",
            f"{shown:,} of {whole:,}" if shown != whole else f"{whole:,}",
            f"by {self.choices.sort}{', turned' if self.choices.turned else ''}",
            _ARRANGED[self._arrangement()],
            f"“{printable(self.choices.filter)}”" if self.choices.filter else "",
            f"looking into {plural(self._looking, 'file')} without a .json" if self._looking else "",
            f"{plural(foreign, 'other .pt file')}{shows}" if foreign else "",
        ]
        return line.append("  " + " · ".join(part for part in parts if part), f"not bold {muted}")

    def _foot(self, width: int) -> Text:
        """Where the checkpoint under the cursor lies, and what there is to say of it; then what could not be read."""
        catalogue, entry, muted = self._catalogue, self.entry(), self._colour("muted")
        lines: list[Text] = []
        if entry is not None:
            path = place_of(entry, self.door.manager.workspace.root)
            lines.append(Text(path if len(path) <= width else "…" + path[1 - width :], muted))
            lines.append(self._about(entry))
        for trouble in (catalogue.troubles if catalogue else ())[:2]:
            lines.append(Text(f"! {printable(trouble)}", self._colour("warning")))
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        if catalogue is not None and entry is None:
            nothing = "Nothing is like that: <checkpoints.leave> clears the filter." if self.choices.filter else NOTHING
            lines.insert(0, Text(keyed(nothing, self.key)))
        return Text("\n").join(lines)

    def _about(self, entry: Entry) -> Text:
        if entry.condition != "ok":
            return Text(printable(f"! {entry.note}"), self._colour("warning"))
        said = []
        if parent := self._lineage.parent(entry):
            said.append(f"{'decorates' if entry.kind == 'decorator' else 'made of'} {name_of(parent)}")
        if children := self._lineage.children(entry):
            said.append(f"{plural(len(children), 'checkpoint')} made of it")
        if told := entry.evaluation:
            who = f"job {told.job}" if told.job is not None else "its run"
            said.append(f"{told.successes} of {told.episodes} episodes, by {who}")
        return Text(" · ".join([*said, entry.note] if entry.note else said), self._colour("muted"))

    # --- what the keys are about

    @property
    def shelf(self) -> Shelf:
        return self._shelf

    def entry(self) -> Entry | None:
        key = self.query_one(RowList).row_under_cursor()
        return self._catalogue.at(Path(key)) if self._catalogue is not None and key is not None else None

    def changed(self, gone: Path | None = None) -> None:
        self._wake.set()

    def on_row_list_moved(self) -> None:
        self._say_below()

    def on_row_list_opened(self) -> None:
        entry = self.entry()
        if entry is not None:
            from .checkpoints_details import CheckpointScreen

            self.app.push_screen(CheckpointScreen(entry, self._lineage, self))

    def action_back(self) -> None:
        """Close the filter's line, then take back filter and mark, then leave."""
        find = self.query_one("#find", Input)
        if find.display:
            self._close_find()
        elif self.choices.filter or self._marked:
            find.value, self.choices.filter, self._marked = "", "", None
            self.show()
        else:
            self.app.pop_screen()

    def action_find(self) -> None:
        find = self.query_one("#find", Input)
        find.display = True
        find.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self.choices.filter = event.value
        self.show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self._close_find()

    def _close_find(self) -> None:
        self.query_one("#find").display = False
        self.query_one(RowList).focus()

    def action_sort(self, by: int) -> None:
        """By the next of the columns that are seen."""
        seen = [name for name in COLUMNS if name in self._columns]
        place = seen.index(self.choices.sort) if self.choices.sort in seen else -1
        self.choices.sort, self.choices.turned = seen[(place + by) % len(seen)], False
        self.show()

    def action_turn(self) -> None:
        self.choices.turned = not self.choices.turned
        self.show()

    def action_arrange(self) -> None:
        self.choices.arrangement = ARRANGEMENTS[(ARRANGEMENTS.index(self._arrangement()) + 1) % len(ARRANGEMENTS)]
        self.show()

    def action_foreign(self) -> None:
        """Show the `.pt` files that are no checkpoints, or hide them."""
        self.choices.foreign = not self.choices.foreign
        self.show()

    def action_compare(self) -> None:
        """Mark the checkpoint; on another one, compare the two."""
        entry = self.entry()
        if entry is None:
            return
        other = self._catalogue.at(self._marked) if self._catalogue is not None and self._marked else None
        if other is None or other.path == entry.path:
            self._marked = None if other is not None else entry.path
            self._say()
            return
        from .checkpoints_compare import CompareScreen

        self._marked = None
        self.app.push_screen(CompareScreen(other, entry, self._lineage))


NOTHING = (
    "No checkpoints yet. <queue.new> on the main screen queues a run; "
    "checkpoint_folders in the settings names other folders."
)
