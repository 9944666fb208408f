"""What is drawn into the plot of a chart, layer upon layer: bands, lines, intervals and marks, then what is thin."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .braille import DOTS_X, DOTS_Y, cells_of_dots, dots_of_spans, text_of_cells
from .envelope import Envelope, columns_of
from .points import Floats
from .scales import YAxis

TONES = 6  # colours; each comes with a mark of its own, so that no meaning hangs on colour alone
MARKERS = "●▲■◆▼○"


class Plot:
    """Cells of `width` x `height`, each with a role: "" for none.

    Args:
        y_axis: of the chart.
        x_low, x_high: ends of its x axis.
    """

    def __init__(self, width: int, height: int, y_axis: YAxis, x_low: float, x_high: float) -> None:
        self.width, self.height = width, height
        self.x_low, self.x_high = x_low, x_high
        self._y = y_axis
        self._cells = np.zeros((height, width), dtype=np.uint8)
        self._owner = np.zeros((height, width), dtype=np.int64)  # index into the roles
        self._roles = [""]
        self._text: list[list[str]] | None = None

    # --- with dots: all of these come before the first character

    def band(self, low: Floats, high: Floats, role: str) -> None:
        """Every other dot of what lies between two heights, (columns,) each; NaN leaves a column empty."""
        dots = self._spans(low, high)
        rows, columns = np.indices(dots.shape, sparse=True)
        cells = cells_of_dots(dots & ((rows + columns) % 2 == 0))
        free = (cells > 0) & (self._owner == 0)
        self._cells = np.where(free, cells, self._cells)
        self._owner[free] = self._role(role)

    def line(self, shape: Envelope, role: str, lines: set[str]) -> None:
        """A curve. In a cell that has a band it takes the band's place; beside other `lines` it adds its dots."""
        cells = cells_of_dots(self._spans(shape.low, shape.high))
        theirs = [index for index, other in enumerate(self._roles) if other in lines]
        own, shared = cells > 0, np.isin(self._owner, theirs)
        self._cells = np.where(own, np.where(shared, self._cells | cells, cells), self._cells)
        self._owner[own] = self._role(role)

    def _spans(self, low: Floats, high: Floats) -> NDArray[np.bool_]:
        height = self.height * DOTS_Y
        return dots_of_spans(self._y.rows(high, height), self._y.rows(low, height), height)

    # --- with characters

    def arrows(self, shape: Envelope, role: str) -> None:
        """Where a curve leaves the axis: up at the top, down at the bottom."""
        for row, gone, arrow in ((0, shape.high > self._y.high, "▴"), (-1, shape.low < self._y.low, "▾")):
            for column in np.unique(np.flatnonzero(gone) // DOTS_X).tolist():
                self._put(row % self.height, column, arrow, role)

    def bars(self, xs: Floats, lows: Floats, highs: Floats, role: str) -> None:
        """An upright bar through each x, from low to high; over bands, under lines."""
        tops, bottoms = self._rows(highs), self._rows(lows)
        for column, top, bottom in zip(self._columns(xs), tops, bottoms, strict=True):
            for row in range(max(top, 0), min(bottom, self.height - 1) + 1):
                self._put(row, column, "│", role, over=("", "band"))

    def marks(self, xs: Floats, ys: Floats, marker: str, role: str) -> None:
        """One character at each point that lies within the axis."""
        spots = set(zip(self._rows(ys), self._columns(xs), strict=True))
        for row, column in spots:
            if 0 <= row < self.height:
                self._put(row, column, marker, role)

    def crosses(self, xs: Floats) -> None:
        """At the bottom, where a value was no number."""
        for column in set(self._columns(xs)):
            self._put(self.height - 1, column, "×", "nan")

    def upright(self, xs: Iterable[float], character: str, role: str) -> list[int]:
        """A vertical line at each x, behind everything; gives their columns."""
        columns = self.columns(xs)
        for column in columns:
            for row in range(self.height):
                self._put(row, column, character, role, over=("",))
        return columns

    def columns(self, xs: Iterable[float]) -> list[int]:
        """The columns of cells that these x lie in."""
        return sorted(set(self._columns(np.array(list(xs)))))

    def _put(self, row: int, column: int, character: str, role: str, over: tuple[str, ...] | None = None) -> None:
        """`over`: only where the cell's role begins with one of these; "" is a cell without one."""
        has = self._roles[self._owner[row, column]]
        if over is None or has == "" or any(start and has.startswith(start) for start in over):
            self._lines()[row][column] = character
            self._owner[row, column] = self._role(role)

    def _columns(self, xs: Floats) -> list[int]:
        columns: list[int] = (columns_of(xs, self.x_low, self.x_high, self.width * DOTS_X) // DOTS_X).tolist()
        return columns

    def _rows(self, ys: Floats) -> list[int]:
        rows: list[int] = (self._y.rows(ys, self.height * DOTS_Y) // DOTS_Y).astype(np.int64).tolist()
        return rows

    def row_of(self, value: float) -> int:
        return self._rows(np.array([value]))[0]

    def _role(self, role: str) -> int:
        if role not in self._roles:
            self._roles.append(role)
        return self._roles.index(role)

    def _lines(self) -> list[list[str]]:
        if self._text is None:
            self._text = [list(line) for line in text_of_cells(self._cells)]
        return self._text

    def rows(self) -> list[list[tuple[str, str]]]:
        """Each row as (text, role), a stretch of one role each."""
        made = []
        for line, owner in zip(self._lines(), self._owner, strict=True):
            starts = np.flatnonzero(np.diff(owner, prepend=-1)).tolist()
            ends = [*starts[1:], len(line)]
            roles = owner[starts].tolist()
            made.append(
                [("".join(line[s:e]), self._roles[role]) for s, e, role in zip(starts, ends, roles, strict=True)]
            )
        return made
