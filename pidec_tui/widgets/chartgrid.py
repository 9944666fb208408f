"""Up to nine charts, as many as fit, over one x axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual import events
from textual.app import ComposeResult
from textual.containers import Grid
from textual.message import Message

from ..charts.layout import MOST, arranged, capacity, stacked
from ..charts.series import Axes, Curve
from ..charts.view import ChartView


@dataclass(frozen=True)
class Picture:
    """One chart of the grid."""

    name: str
    curves: Sequence[Curve]
    axes: Axes
    better: str = ""
    chosen: bool = False


class ChartGrid(Grid):
    """Shows pictures in rows; the widgets of charts that are not needed stay, hidden.

    Args:
        column: one above the other, however little room there is.
    """

    DEFAULT_CSS = "ChartGrid { height: 1fr; grid-gutter: 0 1; }"

    class Resized(Message):
        """There is room for another number of charts now, perhaps."""

    def __init__(self, *, id: str | None = None, column: bool = False) -> None:
        super().__init__(id=id)
        self._column = column

    def compose(self) -> ComposeResult:
        for _ in range(MOST):
            yield ChartView(classes="chart")

    def on_resize(self, event: events.Resize) -> None:
        self.post_message(self.Resized())

    def room(self) -> int:
        """How many charts fit."""
        if self._column:
            return stacked(self.size.height)
        columns, rows = capacity(self.size.width, self.size.height)
        return columns * rows

    def show(self, pictures: Sequence[Picture]) -> None:
        """At most `room()` of them."""
        columns, rows = 1, len(pictures)
        if not self._column:
            columns, rows = arranged(len(pictures), self.size.width, self.size.height)
        if (self.styles.grid_size_columns, self.styles.grid_size_rows) != (columns, rows):
            self.styles.grid_size_columns, self.styles.grid_size_rows = columns, rows
        for place, view in enumerate(self.query(ChartView)):
            shown = place < len(pictures)
            if view.display != shown:
                view.display = shown
            if shown:
                each = pictures[place]
                view.show(each.name, each.curves, each.axes, better=each.better, chosen=each.chosen)

    def place_of(self, view: ChartView) -> int:
        return list(self.query(ChartView)).index(view)
