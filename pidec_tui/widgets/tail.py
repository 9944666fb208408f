"""The last lines of a log, as many as fit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import chop_cells
from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget


def last_rows(lines: Sequence[str], width: int, height: int) -> list[str]:
    """The last `height` rows of `lines` folded at `width` cells: of a long traceback its end stays readable."""
    rows: list[str] = []
    for line in reversed(lines):
        rows[:0] = chop_cells(line, width) or [""]
        if len(rows) >= height:
            break
    return rows[-height:] if height else []


class LogTail(Widget):
    """Shows the end of a log. `l` opens the whole."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, classes="panel")
        self.border_title = "log"
        self._lines: tuple[str, ...] = ()
        self._rows: list[Strip] | None = None

    def show(self, lines: Sequence[str]) -> None:
        if (told := tuple(lines)) != self._lines:
            self._lines, self._rows = told, None
            self.refresh()

    def on_resize(self) -> None:
        self._rows = None

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._rows = None

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        if self._rows is None:
            style = self.rich_style  # once: to work it out for each line took more than all else here
            rows = last_rows(self._lines, max(width, 1), height)
            rows += [""] * (height - len(rows))
            self._rows = [Strip([Segment(text, style)]).adjust_cell_length(width, style) for text in rows]
        return self._rows[y] if y < len(self._rows) else Strip.blank(width, self.rich_style)
