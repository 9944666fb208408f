"""A titled piece of the screen whose text is made from its size."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Group
from rich.text import Text
from textual.app import RenderResult
from textual.widget import Widget

Lines = list[Text]


class Panel(Widget):
    """Draws the lines that `make(width, height)` gives; asks again when told that something changed."""

    def __init__(self, title: str, make: Callable[[int, int], Lines], *, id: str | None = None) -> None:
        super().__init__(id=id, classes="panel")
        self.border_title = title
        self._make = make

    def render(self) -> RenderResult:
        width, height = self.size
        return Group(*self._make(width, height)[:height]) if width and height else ""
