"""The queue: one row for each job, columns as the width allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from ..board import Board
from ..charts.ticks import number
from ..manager.byhand import shown_id
from ..manager.jobs import Job
from ..manager.overview import JobLine
from ..ranking import Ranking
from ..sentences import ends, progress, share_done
from ..words import GLYPHS, STATE_COLOURS, bar, percent
from .rowlist import Part, RowList

_WIDTHS = {"id": 4, "state": 12, "bar": 7, "done": 6, "rate": 6, "ends": 10, "ranked": 8}
_HEADS = {"id": " # ", "state": "state", "name": "name", "bar": "done", "done": "", "rate": "/min", "ends": "ETA"}
_LEAST_NAME = 10


def columns_for(width: int, ranked: bool = False, highest: int = 0) -> dict[str, int]:
    """Column -> cells. Id, state, name and share done always; then ETA, rate and the bar, while the name keeps room.
    What the runs are sorted by comes before all these.

    Args:
        highest: the largest id.
    """
    widths = _WIDTHS | {"id": max(_WIDTHS["id"], len(str(highest)) + 1)}
    chosen = ["id", "state", "name", "done"]
    chosen += ["ranked"] if ranked else []
    left = width - sum(widths.get(column, 0) for column in chosen) - 1
    for column, keep in (("ends", _LEAST_NAME), ("rate", _LEAST_NAME + 4), ("bar", _LEAST_NAME + 10)):
        if left - widths[column] < keep:
            break
        left -= widths[column]
        chosen.append(column)
    order = ["id", "state", "name", "ranked", "bar", "done", "rate", "ends"]
    return {c: widths.get(c, max(left, _LEAST_NAME)) for c in order if c in chosen}


def shortened(name: str, width: int, group: str = "") -> str:
    """At most `width` cells. The middle goes: names of one family differ at their ends (diffusion-peg-seed2); but those
    of a group begin with its name, and all that differs stands behind it."""
    if cell_len(name) <= width:
        return name
    if group and name.startswith(f"{group} "):
        name = f"…{name[len(group) + 1 :]}"
        if cell_len(name) <= width:
            return name
    tail = (width - 1) // 2
    head, end = set_cell_size(name, width - 1 - tail).rstrip(), set_cell_size(name[::-1], tail).rstrip()[::-1]
    return f"{head}…{end}"


def parts(
    job: Job,
    line: JobLine | None,
    now: float,
    columns: Mapping[str, int],
    colours: Mapping[str, str],
    letter: str = "",
    value: str = "",
) -> list[Part]:
    """One row of the table. `letter`: of a job that is marked to be drawn beside others. `value`: what it is sorted
    by."""
    quiet = colours["muted"] if job.state.finished else ""
    share = share_done(job)
    full, rest = bar(share, _WIDTHS["bar"] - 1) if share is not None else ("", "")
    mark = f"[{letter}] " if letter else ""
    rate = f"{number(line.rate):>5}" if line and line.rate and job.state.active else ""
    made: dict[str, list[Part]] = {
        "id": [(f"{shown_id(job.id):>2} ", colours["muted"])],
        "state": [(f"{GLYPHS[job.state.value]} {job.state.value}", colours[STATE_COLOURS[job.state.value]])],
        "name": [
            (mark, f"bold {colours['primary']}"),
            (shortened(job.name, columns["name"] - 1 - len(mark), job.group_name), quiet),
        ],
        "bar": [(full, quiet or colours["primary"]), (rest, colours["faint"])],
        "done": [(f"{progress(job):>4}", quiet)],
        "rate": [(rate, "")],
        "ranked": [(f"{value:>7}", "" if value else quiet)],
        "ends": [(ends(job, line, now), quiet)],
    }
    return [part for column, width in columns.items() for part in filled(made[column], width)]


def ranked_text(ranking: Ranking, job_id: int) -> str:
    """A job's value of what the runs are sorted by, as a cell; "" where it has none."""
    value = ranking.values.get(job_id)
    if value is None:
        return ""
    return percent(value) if ranking.metric.endswith(("success_rate", "success_at_end")) else number(value)


def filled(cell: list[Part], width: int) -> list[Part]:
    """A cell of exactly so many cells."""
    room = width - sum(cell_len(text) for text, _ in cell)
    if room >= 0:
        return [*(part for part in cell if part[0]), (" " * room, "")]
    return [(set_cell_size("".join(text for text, _ in cell), width), cell[-1][1])]


class QueueTable(RowList, inherit_bindings=False):
    """The jobs in the order of the queue. Posts `Chosen` when the cursor comes to another job.

    A row is made when it is seen: after 60 days there are a thousand jobs, of which a screen shows forty.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        *(each for each in RowList.BINDINGS if isinstance(each, Binding) and each.id != "list.page"),
        Binding("pagedown", "pages(1)", "page down", show=False, id="list.page"),  # `space` is the screen's
    ]

    class Chosen(Message):
        def __init__(self, job_id: int) -> None:
            super().__init__()
            self.job_id = job_id

    class Steered(Message):
        """The user has moved the cursor, by a key or the mouse."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self._parts, id=id)
        self.border_title = "queue"
        self._columns: dict[str, int] = {}
        self._board, self._now = Board(), 0.0
        self._jobs: list[Job] = []
        self._told: dict[int, tuple[Job, object, list[Part]]] = {}  # rows that were made, and of what

    def show(self, board: Board, now: float, width: int) -> None:
        """Bring the rows up to date; `width` decides the columns."""
        first = not self._jobs
        self._board, self._now, self._jobs, self._columns = (
            board,
            now,
            board.shown(),
            columns_for(width, bool(board.ranking.metric), max((job.id for job in board.jobs or ()), default=0)),
        )
        if len(self._told) > len(self._jobs):  # after a rebuild, or runs by hand that were deleted
            there = {job.id for job in self._jobs}
            self._told = {id: told for id, told in self._told.items() if id in there}
        self.bring([str(job.id) for job in self._jobs])
        if first:
            self.go_to(str(board.selected))  # the one that is remembered

    def text(self, job_id: int) -> str:
        """The row of a job, for those who look."""
        place = next(place for place, job in enumerate(self._jobs) if job.id == job_id)
        return "".join(text for text, _ in self._parts(place, self.size.width))

    def head(self, width: int) -> list[Part]:
        short = self._board.ranking.metric.rpartition("/")[2][:7]
        heads = {**_HEADS, "ranked": f"{short:>7}", "done": "" if "bar" in self._columns else "done"}
        return [(set_cell_size(heads[column], cells), "") for column, cells in self._columns.items()]

    def _parts(self, place: int, width: int) -> list[Part]:
        job, board = self._jobs[place], self._board
        line, letter = board.lines.get(job.id), board.overlay.letter(job)
        value = ranked_text(board.ranking, job.id)
        told = (line and (line.rate, line.ends), letter, value, self._now // 60, self._columns, self.app.theme)
        known = self._told.get(job.id)
        if known is None or known[0] is not job or known[1] != told:
            made = parts(job, line, self._now, self._columns, self.app.theme_variables, letter, value)
            known = self._told[job.id] = job, told, made
        return known[2]

    def on_row_list_moved(self, event: RowList.Moved) -> None:
        event.stop()
        under = self.row_under_cursor()
        if under is not None:
            self.post_message(self.Chosen(int(under)))

    # Rows that come and go move the cursor, too: only these are the user's doing.

    def action_go(self, by: int) -> None:
        super().action_go(by)
        self.post_message(self.Steered())

    def action_pages(self, by: int) -> None:
        super().action_pages(by)
        self.post_message(self.Steered())

    def action_edge(self, which: int) -> None:
        super().action_edge(which)
        self.post_message(self.Steered())

    def on_click(self, event: events.Click) -> None:
        """Without `super()`: Textual calls each class's handler by itself, and a second click would open the job."""
        self.post_message(self.Steered())
