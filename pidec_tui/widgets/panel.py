"""Pieces of the screen whose text is told anew every second or two, and drawn only where it has become another one: a
repaint of all of them took two thirds of what an idle dashboard costs, and a slow line's bandwidth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group
from rich.text import Text
from textual.app import RenderResult
from textual.geometry import Region
from textual.visual import VisualType
from textual.widget import Widget
from textual.widgets import Static

Lines = list[Text]


def alike(one: object, other: object) -> bool:
    """Whether both look the same. Text compares its characters and spans, not its own style."""
    return one == other and getattr(one, "style", "") == getattr(other, "style", "")


class Words(Static):
    """A Static that does nothing where it is told what it shows, and has the screen laid out anew only where its text
    needs another height."""

    _told: object = None
    _needs = -1  # lines

    def update(self, content: VisualType = "", *, layout: bool = True) -> None:
        if alike(content, self._told):
            return
        self._told = content
        super().update(content, layout=False)
        if self.styles.is_auto_height:
            before, self._needs = self._needs, self.get_content_height(self.size, self.app.size, self.size.width)
            if layout and self._needs != before:
                self.refresh(layout=True)


class Panel(Widget):
    """Draws the lines that `make(width, height)` gives; asks again when told that something changed."""

    def __init__(self, title: str, make: Callable[[int, int], Lines], *, id: str | None = None) -> None:
        super().__init__(id=id, classes="panel")
        self.border_title = title
        self._make = make
        self._drawn: Lines = []

    def _lines(self) -> Lines:
        width, height = self.size
        return self._make(width, height)[:height] if width and height else []

    def renew(self) -> None:
        """Something may have changed: draw the lines that look different."""
        lines, before = self._lines(), self._drawn
        if len(lines) != len(before) or max(map(_cells, (lines, before)), default=0) > self.size.width:
            self.refresh()
            return
        rows = [y for y, (old, new) in enumerate(zip(before, lines, strict=True)) if not alike(old, new)]
        if rows:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in rows))

    def render(self) -> RenderResult:
        self._drawn = self._lines()
        return Group(*self._drawn) if self._drawn else ""


def _cells(lines: Sequence[Text]) -> int:
    return max((line.cell_len for line in lines), default=0)
