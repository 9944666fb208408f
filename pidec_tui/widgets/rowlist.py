"""A list of thousands of lines with a cursor. Only lines that are seen are made: a DataTable of 2,000 rows takes most
of a second to fill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

Part = tuple[str, str]  # text, and its colour ("" for the usual one; "bold" before it)


class RowList(ScrollView, can_focus=True):
    """Shows `keys`, one line each, as `make(place, width)` draws them. Lines without a key are passed over by the
    cursor.

    Attributes:
        made: how many lines were drawn, for those who count.
    """

    class Moved(Message):
        """The cursor is on another line."""

    class Opened(Message):
        """`enter`, or a click on the line under the cursor."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"rowlist--cursor", "rowlist--head"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open", key_display="enter", id="job.open"),
        Binding("j,down", "go(1)", "down", show=False, id="list.down"),
        Binding("k,up", "go(-1)", "up", show=False, id="list.up"),
        Binding("space,pagedown", "pages(1)", "page down", show=False, id="list.page"),
        Binding("pageup", "pages(-1)", "page up", show=False, id="list.back"),
        Binding("g,home", "edge(0)", "first", show=False, id="list.first"),
        Binding("G,end", "edge(-1)", "last", show=False, id="list.last"),
    ]

    def __init__(self, make: Callable[[int, int], Sequence[Part]], *, id: str | None = None) -> None:
        super().__init__(id=id, classes="panel")
        self.made = 0
        self._make = make
        self._keys: list[str | None] = []
        self._places: list[int] = []  # of lines that have a key
        self._at = 0  # index into `_places`
        self._drawn: dict[int, Strip] = {}  # what is on the screen, by its line
        self._made: dict[int, tuple[object, Strip]] = {}  # the same with what it was made of

    def head(self, width: int) -> Sequence[Part] | None:
        """A line that stays on top; None: there is none."""
        return None

    def bring(self, keys: Sequence[str | None]) -> None:
        """The lines are these now. The cursor stays on its line, or about where it was.

        Only lines that look different are sent to the terminal: on a slow line that is what a refresh costs.
        """
        under, at = self.row_under_cursor(), self._at
        self._keys = list(keys)
        self._places = [place for place, key in enumerate(keys) if key is not None]
        self._at = min(at, max(len(self._places) - 1, 0))
        if under is not None and under in self._keys:
            self._at = self._places.index(self._keys.index(under))
        if self.row_under_cursor() != under:
            self.post_message(self.Moved())
        height, self.virtual_size = self.virtual_size.height, self._whole()
        if height == self.virtual_size.height:
            self._renew()
        else:
            self.refresh()
        self.call_after_refresh(self._show_cursor)

    def _whole(self) -> Size:
        return Size(self.size.width, len(self._keys) + self._over())

    def _over(self) -> int:
        """Lines that stay on top."""
        return int(self.head(self.size.width) is not None)

    def _renew(self) -> None:
        before = dict(
            self._drawn
        )  # of a line that is not in it nobody knows what the screen shows: a style has changed
        changed = [y for y in range(self.size.height) if self.render_line(y) != before.get(y)]
        if changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    @property
    def keys(self) -> list[str | None]:
        """Those of all lines, in their order."""
        return list(self._keys)

    def row_under_cursor(self) -> str | None:
        """The key of the line that the cursor is on."""
        return self._keys[self._places[self._at]] if self._places else None

    def go_to(self, key: str) -> None:
        """Put the cursor on the line with this key, if there is one."""
        if key in self._keys:
            self._move(self._places.index(self._keys.index(key)))

    def _move(self, at: int) -> None:
        at = min(max(at, 0), max(len(self._places) - 1, 0))
        if at != self._at:
            self._at = at
            self.post_message(self.Moved())
        self._show_cursor()
        self._renew()

    def _show_cursor(self) -> None:
        if not self._places or not self.size.height:
            return
        place, top, height = self._places[self._at], self.scroll_offset.y, self.size.height - self._over()
        first = 0 if not self._at else place  # with the first line, the head of its group
        if first < top:
            self.scroll_to(y=first, animate=False)
        elif place >= top + height:
            self.scroll_to(y=place - height + 1, animate=False)

    # --- drawing

    def render_line(self, y: int) -> Strip:
        strip = self._drawn[y] = self._line(y, self.size.width)
        return strip

    def _line(self, y: int, width: int) -> Strip:
        head = self.head(width)
        if head is not None and y == 0:
            return self._strip(head, width, self.get_component_rich_style("rowlist--head"))
        place = self.scroll_offset.y + y - int(head is not None)
        if place >= len(self._keys):
            return Strip.blank(width, self.rich_style)
        under = bool(self._places) and place == self._places[self._at]
        told = (self._make(place, width), under, self.has_focus, place, width)
        known = self._made.get(y)
        if known is not None and known[0] == told:
            return known[1]
        self.made += 1
        base = self.get_component_rich_style("rowlist--cursor") if under else self.rich_style
        strip = self._strip(told[0], width, base).apply_offsets(0, place)
        self._made[y] = told, strip
        return strip

    def _strip(self, parts: Sequence[Part], width: int, base: Style) -> Strip:
        segments, room = [], width
        for text, colour in parts:
            if room <= 0:
                break
            cells = min(cell_len(text), room)
            text = set_cell_size(text, cells)
            segments.append(Segment(text, base + Style.parse(colour) if colour else base))
            room -= cells
        if room > 0:
            segments.append(Segment(" " * room, base))
        return Strip(segments, width).simplify()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._drawn.clear()
        self._made.clear()

    # --- keys and mouse

    def action_open(self) -> None:
        self.post_message(self.Opened())

    def action_go(self, by: int) -> None:
        self._move(self._at + by)

    def action_pages(self, by: int) -> None:
        self._move(self._at + by * max(self.size.height - self._over() - 1, 1))

    def action_edge(self, which: int) -> None:
        self._move(0 if which == 0 else len(self._places) - 1)

    def on_click(self, event: events.Click) -> None:
        place = self.scroll_offset.y + event.get_content_offset_capture(self).y - self._over()
        if place in self._places:
            again = self._places[self._at] == place
            self._move(self._places.index(place))
            if again:
                self.action_open()

    def on_resize(self) -> None:
        self._drawn.clear()
        self.virtual_size = self._whole()
        self.call_after_refresh(self._show_cursor)
