"""The queue: one row for each job, columns as the width allows."""

from __future__ import annotations

from collections.abc import Mapping

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.message import Message

from ..board import Activity, Board
from ..charts.ticks import number
from ..manager.byhand import shown_id
from ..manager.jobs import Job
from ..sentences import ends, progress, share_done
from ..words import GLYPHS, STATE_COLOURS, bar
from .tables import KeyTable

_WIDTHS = {"id": 4, "state": 12, "bar": 7, "done": 6, "rate": 6, "ends": 10}
_HEADS = {"id": " # ", "state": "state", "name": "name", "bar": "done", "done": "", "rate": "/min", "ends": "ETA"}
_LEAST_NAME = 10


def columns_for(width: int) -> dict[str, int]:
    """Column -> cells. Id, state, name and share done always; then ETA, rate and the bar, while the name keeps room."""
    chosen = ["id", "state", "name", "done"]
    left = width - sum(_WIDTHS.get(column, 0) for column in chosen) - 1
    for column, keep in (("ends", _LEAST_NAME), ("rate", _LEAST_NAME + 4), ("bar", _LEAST_NAME + 10)):
        if left - _WIDTHS[column] < keep:
            break
        left -= _WIDTHS[column]
        chosen.append(column)
    order = ["id", "state", "name", "bar", "done", "rate", "ends"]
    return {c: _WIDTHS.get(c, max(left, _LEAST_NAME)) for c in order if c in chosen}


def shortened(name: str, width: int) -> str:
    """At most `width` cells. The middle goes: names of one family differ at their ends (diffusion-peg-seed2)."""
    if cell_len(name) <= width:
        return name
    tail = (width - 1) // 2
    head, end = set_cell_size(name, width - 1 - tail).rstrip(), set_cell_size(name[::-1], tail).rstrip()[::-1]
    return f"{head}…{end}"


def cells(
    job: Job,
    activity: Activity | None,
    now: float,
    columns: Mapping[str, int],
    colours: Mapping[str, str],
    letter: str = "",
) -> list[Text]:
    """One row of the table. `letter`: of a job that is marked to be drawn beside others."""
    quiet = colours["muted"] if job.state.finished else ""
    share = share_done(job)
    full, rest = bar(share, _WIDTHS["bar"] - 1) if share is not None else ("", "")
    mark = f"[{letter}] " if letter else ""
    name = shortened(job.name, columns["name"] - 1 - len(mark))
    made = {
        "id": Text(f"{shown_id(job.id):>2} ", colours["muted"]),
        "state": Text(f"{GLYPHS[job.state.value]} {job.state.value}", colours[STATE_COLOURS[job.state.value]]),
        "name": Text.assemble((mark, f"bold {colours['primary']}"), (name, quiet)) if mark else Text(name, quiet),
        "bar": Text(full, quiet or colours["primary"]).append(rest, colours["faint"]),
        "done": Text(f"{progress(job):>4}", quiet),
        "rate": Text(f"{number(activity.rate):>5}" if activity and activity.rate and job.state.active else ""),
        "ends": Text(ends(job, activity, now), quiet),
    }
    return [made[column] for column in columns]


class QueueTable(KeyTable):
    """The jobs in the order of the queue. Posts `Chosen` when the cursor comes to another job."""

    class Chosen(Message):
        def __init__(self, job_id: int) -> None:
            super().__init__()
            self.job_id = job_id

    class Steered(Message):
        """The user has moved the cursor, by a key or the mouse."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.border_title = "queue"
        self.add_class("panel")
        self._columns: dict[str, int] = {}

    def show(self, board: Board, now: float, width: int) -> None:
        """Bring the rows up to date; `width` decides the columns."""
        wanted = columns_for(width)
        under = self.row_under_cursor()
        if wanted != self._columns:
            self._columns = wanted
            self.clear(columns=True)
            for column, cells_wide in wanted.items():
                self.add_column(
                    _HEADS[column] if column != "done" or "bar" in wanted else "done", width=cells_wide, key=column
                )
        colours = self.app.theme_variables
        rows = {
            str(job.id): cells(job, board.activity.get(job.id), now, wanted, colours, board.overlay.letter(job))
            for job in board.shown()
        }
        self.bring(rows, list(wanted))
        self.go_to(under if under is not None else str(board.selected))  # at first: the one that is remembered

    # Rows that come and go move the cursor, too: only these are the user's doing.

    def action_cursor_up(self) -> None:
        super().action_cursor_up()
        self.post_message(self.Steered())

    def action_cursor_down(self) -> None:
        super().action_cursor_down()
        self.post_message(self.Steered())

    def action_page_up(self) -> None:
        super().action_page_up()
        self.post_message(self.Steered())

    def action_page_down(self) -> None:
        super().action_page_down()
        self.post_message(self.Steered())

    def action_scroll_top(self) -> None:
        super().action_scroll_top()
        self.post_message(self.Steered())

    def action_scroll_bottom(self) -> None:
        super().action_scroll_bottom()
        self.post_message(self.Steered())

    def action_go_top(self) -> None:
        super().action_go_top()
        self.post_message(self.Steered())

    def action_go_bottom(self) -> None:
        super().action_go_bottom()
        self.post_message(self.Steered())

    def on_click(self) -> None:
        self.post_message(self.Steered())

    def on_data_table_row_highlighted(self, event: KeyTable.RowHighlighted) -> None:
        if event.row_key.value is not None:
            event.stop()
            self.post_message(self.Chosen(int(event.row_key.value)))
