"""The checkpoints of the selected job, by their sidecars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from ..board import CheckpointRow
from ..charts.ticks import number
from ..words import duration, percent, size, wilson
from .tables import KeyTable

_WIDTHS = {"step": 7, "tag": 6, "success": 13, "age": 9, "size": 7}
_GAP = 2  # behind every column, which the last one does not need
_HEADS = {"step": " step", "tag": "", "success": "success", "age": "age", "size": "size"}


def columns_for(width: int) -> dict[str, int]:
    """Column -> cells; size goes first where it is narrow, then age."""
    chosen = dict(_WIDTHS)
    for column in ("size", "age"):
        if sum(chosen.values()) - _GAP > width:
            del chosen[column]
    return chosen


def success(row: CheckpointRow) -> str:
    """`62% 52–71`: the rate and its 95 % interval; "not tested" without an evaluation at this step."""
    if row.successes is None or not row.episodes:
        return "not tested"
    low, high = wilson(row.successes, row.episodes)
    return f"{percent(row.successes / row.episodes)} {low * 100:.0f}–{high * 100:.0f}"


def cells(row: CheckpointRow, now: float, columns: Mapping[str, int], colours: Mapping[str, str]) -> list[Text]:
    tested = row.successes is not None
    made = {
        "step": Text(f"{number(row.step):>5}"),
        "tag": Text(row.tags[0] if row.tags else "", colours["success"] if "best" in row.tags else colours["muted"]),
        "success": Text(success(row), "" if tested else colours["muted"]),
        "age": Text(duration(now - row.created), colours["muted"]),
        "size": Text(size(row.size), colours["muted"]),
    }
    return [made[column] for column in columns]


class CheckpointTable(KeyTable):
    """Newest first. `enter` on a row evaluates that checkpoint."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.border_title = "checkpoints"
        self.add_class("panel")
        self._columns: dict[str, int] = {}
        self._rows: Sequence[CheckpointRow] = ()

    def show(self, rows: Sequence[CheckpointRow], now: float, width: int) -> None:
        wanted = columns_for(width)
        if wanted != self._columns:
            self._columns = wanted
            self.clear(columns=True)
            for column, cells_wide in wanted.items():
                self.add_column(_HEADS[column], width=cells_wide, key=column)
        self._rows = rows
        self.show_header = bool(rows)
        title = "checkpoints" if rows else "no checkpoints yet"
        if self.border_title != title:  # telling it draws the whole table
            self.border_title = title
        colours = self.app.theme_variables
        # Two steps never share a row: the number that is shown is rounded, so the row's key stands beside it.
        self.bring_rows({row.step: cells(row, now, wanted, colours) for row in rows}, list(wanted))

    def bring_rows(self, rows: dict[int, list[Text]], columns: list[str]) -> None:
        """Newest first means that new rows belong on top: then the table is made anew, else cell by cell."""
        keys = [str(step) for step in rows]
        if [row.key.value for row in self.ordered_rows] == keys:
            self.bring({str(step): cells for step, cells in rows.items()}, columns)
            return
        under = self.row_under_cursor()
        self.clear()
        for step, made in rows.items():
            self.add_row(*made, key=str(step))
        if under is not None:
            self.go_to(under)

    def chosen(self) -> CheckpointRow | None:
        """The checkpoint under the cursor."""
        key = self.row_under_cursor()
        return next((row for row in self._rows if str(row.step) == key), None)
