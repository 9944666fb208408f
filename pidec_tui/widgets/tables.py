"""Tables that are moved through with j, k, g and G, and whose cursor stays where it is when cells change."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable


class KeyTable(DataTable[Text]):
    """A DataTable of whole rows with vi's keys. It opens a row by `enter` (RowSelected)."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "open", key_display="enter", id="job.open"),
        Binding("j", "cursor_down", "down", show=False, id="list.down"),
        Binding("k", "cursor_up", "up", show=False, id="list.up"),
        Binding("g", "go_top", "first", show=False, id="list.first"),
        Binding("G", "go_bottom", "last", show=False, id="list.last"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            id=id,
            cursor_type="row",
            cell_padding=0,
            show_row_labels=False,
            cursor_foreground_priority="renderable",
        )

    def action_go_top(self) -> None:
        self.move_cursor(row=0)

    def action_go_bottom(self) -> None:
        self.move_cursor(row=max(self.row_count - 1, 0))

    def row_under_cursor(self) -> str | None:
        """The key of the row that the cursor is on."""
        if not self.row_count or not self.is_valid_row_index(self.cursor_row):
            return None
        return self.ordered_rows[self.cursor_row].key.value

    def go_to(self, key: str) -> None:
        """Put the cursor on the row with this key, if there is one."""
        if key in {row.key.value for row in self.ordered_rows} and self.row_under_cursor() != key:
            self.move_cursor(row=self.get_row_index(key), animate=False)

    def bring(self, rows: dict[str, list[Text]], columns: list[str]) -> None:
        """Make the table hold exactly `rows`, in their order: changed cells are updated one by one, new rows added,
        others removed; the cursor stays on the row that it is on.

        Args:
            rows: cells by row key, in the order of `columns`.
            columns: column keys.
        """
        under = self.row_under_cursor()
        have = {row.key.value for row in self.ordered_rows}
        for key in have - set(rows):
            self.remove_row(str(key))
        for key, cells in rows.items():
            if key not in have:
                self.add_row(*cells, key=key)
                continue
            for column, old, new in zip(columns, self.get_row(key), cells, strict=True):
                if old != new or old.style != new.style:  # Text compares its characters and spans, not its style
                    self.update_cell(key, column, new)
        order = {key: place for place, key in enumerate(rows)}
        if [row.key.value for row in self.ordered_rows] != list(rows):
            # The first column holds the row's key.
            self.sort(columns[0], key=lambda cell: order[cell.plain.strip()])
        if under is not None and under in rows:
            self.go_to(under)
