"""A log on the screen: it holds the lines around where the user is, and asks for others before they are needed. Long
lines run off to the right, or are folded."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import ClassVar

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from ..logreader import LogWindow, Wish

CURSOR = "▶"


class LogView(Widget, can_focus=True):
    """Shows a window of a log, with a cursor on one of its lines.

    Args:
        ask: told which lines are wanted; they come by `bring`.

    Attributes:
        follow: the newest line stays in sight.
        wrap: long lines are folded.
    """

    class Moved(Message):
        """Another place is shown."""

    class Opened(Message):
        """A click on the line under the cursor."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"logview--match", "logview--cursor", "logview--mark"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "go(1)", "down", show=False, id="list.down"),
        Binding("k,up", "go(-1)", "up", show=False, id="list.up"),
        Binding("space,pagedown", "pages(1)", "page down", show=False, id="list.page"),
        Binding("pageup", "pages(-1)", "page up", show=False, id="list.back"),
        Binding("g,home", "first", "first", show=False, id="list.first"),
        Binding("G,end", "last", "last", show=False, id="list.last"),
        Binding("left", "shift(-1)", "to the left", show=False, key_display="←", id="log.left"),
        Binding("right", "shift(1)", "to the right", show=False, key_display="→", id="log.right"),
    ]

    def __init__(self, ask: Callable[[Wish], None], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.window = LogWindow()
        self.follow = True
        self.wrap = False
        self.left = 0  # cells that are off to the left
        self.moved = True  # by hand, since a match was gone to
        self._ask = ask
        self._asked = Wish()
        self._starts: list[int] = []
        self._top = (0, 0)  # line and row of it that the first row shows
        self._cursor = 0
        self._aim: int | None = None  # byte to go to as soon as its line is there
        self._shown: list[tuple[int, int]] | None = None  # line and row of it, for each row
        self._folded: dict[int, list[str]] = {}

    # --- what is shown

    def bring(self, window: LogWindow) -> None:
        """The log looks like this now."""
        before, self.window = self.window, window
        top, cursor = self._byte(self._top[0]), self._byte(self._cursor)
        self._asked = window.wish
        self._starts = [line.start for line in window.lines]
        self._folded = {}
        if window.begun != before.begun:
            self.follow, self._aim, self.left = True, None, 0
        elif window.jumps != before.jumps:
            self.follow, self._aim, self.moved = False, window.match, False
        elif _word(window) != _word(before) and not self.follow:
            self._aim = cursor  # with other lines around it
        if self.follow:
            self._to_end()
        else:
            self._top, self._cursor = (self._line_at(top), self._top[1]), self._line_at(cursor)
            self._settle()
        self._draw()

    def _settle(self) -> None:
        """Go where the user wants to be, as far as the lines are there."""
        if self._aim is not None and self._starts:
            aim, window = self._aim, self.window
            self._cursor = self._line_at(aim)
            self._top = (self._cursor, 0)
            if aim:
                self._scroll(-(self.size.height // 2))
            if (window.first or self._starts[0] <= aim) and (window.last or aim <= self._starts[-1]):
                self._aim = None
        self._top = max(min(self._top, self._lowest()), (0, 0))
        self._show_cursor()
        self._want()

    def _byte(self, line: int) -> int:
        return self._starts[line] if line < len(self._starts) else 0

    def _line_at(self, byte: int) -> int:
        """The line that begins there, or the next."""
        return min(bisect_left(self._starts, byte), max(len(self._starts) - 1, 0))

    def _draw(self) -> None:
        self._shown = None
        self.refresh()
        self.post_message(self.Moved())

    def _want(self) -> None:
        """Ask for other lines, where those that are there come to an end soon."""
        height = max(self.size.height, 1)
        many = 4 * height + 200
        if self.follow:
            wish = Wish(None, many, 0)
        elif self._aim is not None:
            wish = Wish(self._aim, many, many)
        else:
            top, count = self._top[0], len(self._starts)
            short = top < 2 * height and not self.window.first
            short = short or (count - top < 3 * height and not self.window.last)
            if not short and self._asked.at is not None:
                return
            wish = Wish(self._byte(top), many, many)
        if wish != self._asked:
            self._asked = wish
            self._ask(wish)

    def cursor_text(self) -> str | None:
        """The line under the cursor."""
        lines = self.window.lines
        return lines[self._cursor].text if self._cursor < len(lines) else None

    def texts_up(self) -> list[str]:
        """The lines from the cursor on upwards, as far as they are here."""
        return [line.text for line in reversed(self.window.lines[: self._cursor + 1])]

    @property
    def cursor(self) -> int:
        """Byte that the line under the cursor begins with."""
        return self._byte(self._cursor)

    @property
    def share(self) -> float:
        """How far down the log the last line in sight is, 0 to 1."""
        if not self.window.lines or not self.window.size:
            return 1.0
        last = self._rows_shown()[-1][0] if self._rows_shown() else 0
        return 1.0 if self.window.last and last == len(self._starts) - 1 else self._byte(last) / self.window.size

    # --- rows

    def _width(self) -> int:
        return max(self.size.width - 1, 1)  # beside the cursor

    def _rows(self, line: int) -> list[str]:
        text = self.window.lines[line].text
        if not self.wrap:
            return [text]
        if line not in self._folded:
            self._folded[line] = chop_cells(text, self._width()) or [""]
        return self._folded[line]

    def _height(self, line: int) -> int:
        return len(self._rows(line)) if self.wrap else 1

    def _scroll(self, by: int) -> None:
        """Up or down by rows, among the lines that are there."""
        line, row = self._top[0], self._top[1] + by
        while row < 0 and line > 0:
            line -= 1
            row += self._height(line)
        while line < len(self._starts) - 1 and row >= self._height(line):
            row -= self._height(line)
            line += 1
        self._top = max(min((line, max(row, 0)), self._lowest()), (0, 0))

    def _lowest(self) -> tuple[int, int]:
        """What the first row shows when the last one shows the last line."""
        line, rows = len(self._starts), 0
        while line > 0 and rows < self.size.height:
            line -= 1
            rows += self._height(line)
        return line, max(rows - self.size.height, 0)

    def _rows_shown(self) -> list[tuple[int, int]]:
        if self._shown is None:
            self._shown = []
            line, row = self._top
            while line < len(self._starts) and len(self._shown) < self.size.height:
                if row < self._height(line):
                    self._shown.append((line, row))
                    row += 1
                else:
                    line, row = line + 1, 0
        return self._shown

    def _show_cursor(self) -> None:
        """Scroll as little as brings the whole line under the cursor in sight."""
        if not self._starts:
            return
        if (self._cursor, 0) < self._top:
            self._top = (self._cursor, 0)
            return
        here = self._top
        self._top = (self._cursor, 0)
        self._scroll(self._height(self._cursor) - self.size.height)
        self._top = min(max(self._top, here), (self._cursor, 0))

    def _hold_cursor(self) -> None:
        """Keep the cursor on a line that is in sight."""
        self._shown = None
        shown = self._rows_shown()
        if shown:
            self._cursor = min(max(self._cursor, shown[0][0] + (shown[0][1] > 0 and len(shown) > 1)), shown[-1][0])

    def _to_end(self) -> None:
        self._cursor = max(len(self._starts) - 1, 0)
        self._top = self._lowest()
        self._want()

    def render_line(self, y: int) -> Strip:
        shown, width, base = self._rows_shown(), self.size.width, self.rich_style
        if not self._starts:
            text = self.window.note if y == 0 else ""
            return Strip([Segment(f" {text}", base)]).adjust_cell_length(width, base)
        if y >= len(shown):
            return Strip.blank(width, base)
        line, row = shown[y]
        gutter = " "
        if line == self._cursor:
            base = self.get_component_rich_style("logview--cursor")
            gutter = CURSOR if row == 0 or y == 0 else " "
        rows = self._rows(line)
        strip = Strip(self._segments(rows[min(row, len(rows) - 1)], line, base))
        left = 0 if self.wrap else self.left
        strip = strip.crop_extend(left, left + self._width(), base)
        mark = base + self.get_component_rich_style("logview--mark", partial=True)
        return Strip([Segment(gutter, mark), *strip]).adjust_cell_length(width, base)

    def _segments(self, text: str, line: int, base: Style) -> list[Segment]:
        word = self.window.found.word.lower() if self.window.found else ""
        if not word:
            return [Segment(text, base)]
        mark = self.get_component_rich_style("logview--match")
        if self._byte(line) == self.window.match:
            mark += Style(reverse=True)
        segments, start, folded = [], 0, text.lower()
        while (at := folded.find(word, start)) >= 0:
            segments += [Segment(text[start:at], base), Segment(text[at : at + len(word)], mark)]
            start = at + len(word)
        return [*segments, Segment(text[start:], base)]

    # --- keys and mouse

    def _by_hand(self, follow: bool) -> None:
        self.follow, self.moved, self._aim = follow, True, None

    def action_go(self, by: int) -> None:
        if not self._starts:
            return
        self._by_hand(self.follow and by > 0)
        self._cursor = min(max(self._cursor + by, 0), len(self._starts) - 1)
        self._show_cursor()
        self._want()
        self._draw()

    def action_pages(self, by: int) -> None:
        self.scroll_rows(by * max(self.size.height - 1, 1))

    def scroll_rows(self, by: int) -> None:
        """The whole picture, up or down; at the ends of the log the cursor goes on to the end."""
        if not self._starts:
            return
        self._by_hand(self.follow and by > 0)
        before = self._top
        self._scroll(by)
        if self._top == before:
            self._cursor = 0 if by < 0 else len(self._starts) - 1
        self._hold_cursor()
        self._want()
        self._draw()

    def action_first(self) -> None:
        self._by_hand(False)
        self._aim = 0
        self._settle()
        self._draw()

    def action_last(self) -> None:
        self.set_follow(True)

    def set_follow(self, follow: bool) -> None:
        """Go to the end and stay there, or stand still."""
        self._by_hand(follow)
        if follow:
            self._to_end()
        else:
            self._want()
        self._draw()

    def set_wrap(self, wrap: bool) -> None:
        """Fold long lines, or let them run off to the right."""
        self.wrap, self._folded = wrap, {}
        self._top = (self._top[0], 0)
        self._refit()

    def action_shift(self, by: int) -> None:
        if self.wrap:
            return
        widest = max((cell_len(self.window.lines[line].text) for line, _ in self._rows_shown()), default=0)
        last = max(widest - self._width(), 0)
        self.left = min(max(self.left + by * max(self._width() // 2, 1), 0), max(last, self.left if by < 0 else 0))
        self._draw()

    def _refit(self) -> None:
        """Another width or height."""
        if self.follow:
            self._to_end()
        else:
            self._settle()
        self._draw()

    def on_resize(self) -> None:
        self._folded = {}
        self._refit()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.scroll_rows(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.scroll_rows(-3)

    def on_click(self, event: events.Click) -> None:
        shown, y = self._rows_shown(), event.get_content_offset_capture(self).y
        if 0 <= y < len(shown):
            again = shown[y][0] == self._cursor
            self._by_hand(False)
            self._cursor = shown[y][0]
            self._want()
            self._draw()
            if again:
                self.post_message(self.Opened())


def _word(window: LogWindow) -> str:
    """What all lines of a window hold."""
    return window.kept.word if window.kept else ""
