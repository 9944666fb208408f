"""A whole log, scrolled, followed and searched. Long lines run off to the right; left and right go there."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip


class LogView(ScrollView, can_focus=True):
    """Draws only the lines that are seen, so that its length does not matter."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"logview--match", "logview--current"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "go(1)", "down", show=False, id="list.down"),
        Binding("k,up", "go(-1)", "up", show=False, id="list.up"),
        Binding("space,pagedown", "pages(1)", "page down", show=False, id="list.page"),
        Binding("pageup", "pages(-1)", "page up", show=False, id="list.back"),
        Binding("g,home", "first", "first line", show=False, id="list.first"),
        Binding("G,end", "last", "last line", show=False, id="list.last"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: list[str] = []
        self.follow = True
        self._word = ""
        self._found: list[int] = []  # lines with the word
        self._current: int | None = None  # line of the match that was jumped to

    def bring(self, lines: list[str], widest: int) -> None:
        """The log is this now. `widest`: cells of its widest line."""
        self.lines = lines
        self._look()
        self.virtual_size = Size(widest, len(self.lines))
        if self.follow:
            self.call_after_refresh(self._to_end)  # how far it can scroll is known after the next layout
        self.refresh()

    def _to_end(self) -> None:
        if self.follow:
            self.scroll_end(animate=False, immediate=True, x_axis=False)

    def render_line(self, y: int) -> Strip:
        left, top = self.scroll_offset
        place, width = top + y, self.size.width
        if place >= len(self.lines):
            return Strip.blank(width, self.rich_style)
        strip = Strip(self._segments(place))
        return strip.crop_extend(left, left + width, self.rich_style).apply_offsets(left, place)

    def _segments(self, place: int) -> list[Segment]:
        text, base = self.lines[place], self.rich_style
        if not self._word:
            return [Segment(text, base)]
        name = "logview--current" if place == self._current else "logview--match"
        mark: Style = self.get_component_rich_style(name)
        segments, start, folded = [], 0, text.lower()
        while (at := folded.find(self._word, start)) >= 0:
            segments += [Segment(text[start:at], base), Segment(text[at : at + len(self._word)], mark)]
            start = at + len(self._word)
        return [*segments, Segment(text[start:], base)]

    # --- finding

    def find(self, word: str) -> None:
        """Mark a word, whatever its case, and go to where it stands last."""
        self._word, self._current = word.lower(), None
        self._look()
        self.next_match(-1)
        self.refresh()

    def _look(self) -> None:
        """Find the lines with the word; once for a word and a log, as a log may have a hundred thousand lines."""
        self._found = [i for i, line in enumerate(self.lines) if self._word in line.lower()] if self._word else []

    def next_match(self, by: int) -> None:
        """Go to the next (1) or previous (-1) line with the word, round the ends."""
        found = self._found
        if not found:
            return
        here = self._current if self._current is not None else len(self.lines)
        later, earlier = [i for i in found if i > here], [i for i in found if i < here]
        self._current = (later or found)[0] if by > 0 else (earlier or found)[-1]
        self.follow = False
        self.scroll_to(y=max(self._current - self.size.height // 2, 0), animate=False)
        self.refresh()

    def place(self) -> str:
        """`3 of 12` for a search, "" without."""
        found = self._found
        if not self._word:
            return ""
        return f"{found.index(self._current) + 1} of {len(found)}" if self._current in found else "not found"

    # --- moving

    def action_go(self, by: int) -> None:
        self.follow = self.follow and by > 0
        self.scroll_relative(y=by, animate=False)

    def action_pages(self, by: int) -> None:
        self.follow = self.follow and by > 0
        self.scroll_relative(y=by * max(self.size.height - 1, 1), animate=False)

    def action_first(self) -> None:
        self.follow = False
        self.scroll_home(animate=False)

    def action_last(self) -> None:
        self.follow = True
        self.scroll_end(animate=False)
