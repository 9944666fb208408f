"""What the terminal shows already is not sent again.

Textual draws a changed widget whole: a chart that grows by a dot costs 3 kB, a second of the main screen 15 kB, and an
ssh line may carry 12 kB/s. So each line's pieces are held against what was sent last in their place.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import takewhile

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.control import Control
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip

Piece = tuple[int, int, Strip]  # the columns at which it begins and ends
# What was sent of one line, by its columns: as it came (None: a rest of what came), and as it looks.
_Known = dict[tuple[int, int], tuple[Strip | None, Strip]]


class Sent:
    """What was sent to one terminal, line by line."""

    def __init__(self) -> None:
        self._size: tuple[int, int] | None = None
        self._pieces: dict[int, _Known] = {}

    def forget(self) -> None:
        """Another program, or nobody knows what, has written to the terminal: all is sent again."""
        self._size = None
        self._pieces.clear()

    def less(self, update: RenderableType | None) -> RenderableType | None:
        """The same update; when it is written, only what differs is."""
        return _Changes(self, update) if isinstance(update, ChopsUpdate | LayoutUpdate) else update

    def changes(self, update: ChopsUpdate | LayoutUpdate) -> list[tuple[int, int, Strip]]:
        """Column, line and strip of what differs; taken as sent from now on."""
        if isinstance(update, LayoutUpdate):
            if update.region.size != self._size:  # the first picture, or the terminal was resized
                self.forget()
                self._size = update.region.size
            lines = _all_pieces(update)
        else:
            lines = _some_pieces(update)
        found = []
        for y, pieces in lines.items():
            found += [(x, y, strip) for x, strip in self._line(y, pieces)]
        return found

    def _line(self, y: int, pieces: list[Piece]) -> list[tuple[int, Strip]]:
        known, found = self._pieces.setdefault(y, {}), []
        for x, end, strip in pieces:
            old = known.get((x, end))
            if old is not None and old[0] == strip:
                continue
            plain = strip.discard_meta().simplify()
            # While the layout stays, a piece takes the place of one: lines need not be put together and cut up again.
            before = old[1] if old is not None else _taken_out(known, x, end)
            known[x, end] = strip, plain
            skip, rest = difference(before, plain)
            if rest is not None:
                found.append((x + skip, rest))
        return found


def _taken_out(known: _Known, x: int, end: int) -> Strip | None:
    """What was sent to these columns, which goes; None where nobody knows all of it. What its pieces had to the left
    and to the right stays."""
    parts, at = [], x
    for start, stop in sorted(place for place in known if place[0] < end and place[1] > x):
        _, plain = known.pop((start, stop))
        if start < x:
            known[start, x] = None, plain.crop(0, x - start)
        if stop > end:
            known[end, stop] = None, plain.crop(end - start)
        if start <= at:
            parts.append(plain.crop(at - start, min(stop, end) - start))
            at = min(stop, end)
    return Strip.join(parts).simplify() if at == end else None


def _all_pieces(update: LayoutUpdate) -> dict[int, list[Piece]]:
    lines: dict[int, list[Piece]] = {}
    for y, strips in enumerate(update.strips, update.region.y):
        x = update.region.x
        for strip in strips:
            lines.setdefault(y, []).append((x, x + strip.cell_length, strip))
            x += strip.cell_length
    return lines


def _some_pieces(update: ChopsUpdate) -> dict[int, list[Piece]]:
    """Those that a changed span touches, whole."""
    lines: dict[int, list[Piece]] = {}
    for y, x1, x2 in update.spans:
        touched = lines.setdefault(y, [])
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if strip is not None and x <= x2 and end > x1 and (x, end, strip) not in touched:
                touched.append((x, end, strip))
    return lines


class _Changes(CompositorUpdate):
    """Reckons when it is written: an update that Textual drops must not count as sent."""

    def __init__(self, sent: Sent, update: ChopsUpdate | LayoutUpdate) -> None:
        self._sent, self._update = sent, update

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from ()  # nobody prints it

    def render_segments(self, console: Console) -> str:
        system = console._color_system or ColorSystem.TRUECOLOR
        parts: list[str] = []
        now = ("", "", "")  # what the terminal draws with
        for x, y, strip in self._sent.changes(self._update):
            parts.append(Control.move_to(x, y).segment.text)
            for text, style, _ in strip:
                wanted = _codes(style, system)
                parts.append(_turn(now, wanted) + text)
                now = wanted
        return "".join(parts) + ("\x1b[0m" if any(now) else "")


@lru_cache(maxsize=4096)
def _codes(style: Style | None, system: ColorSystem) -> tuple[str, str, str]:
    """Bold and the like, letters' colour, background, as a terminal's codes."""
    if style is None:
        return "", "", ""
    front, back = style.color, style.bgcolor
    return (
        Strip.render_ansi(style.without_color, system),
        ";".join(front.downgrade(system).get_ansi_codes()) if front else "",
        ";".join(back.downgrade(system).get_ansi_codes(False)) if back else "",
    )


def _turn(now: tuple[str, str, str], wanted: tuple[str, str, str]) -> str:
    """The sequence that leads from one look to the other: what stays is not said again, for it is half of all bytes."""
    if now == wanted:
        return ""
    if now[0] != wanted[0]:
        return f"\x1b[{';'.join(['0', *filter(None, wanted)])}m"
    codes = [new or usual for old, new, usual in zip(now[1:], wanted[1:], ("39", "49"), strict=True) if old != new]
    return f"\x1b[{';'.join(codes)}m"


def difference(before: Strip | None, after: Strip) -> tuple[int, Strip | None]:
    """Cells that both begin with, and what of `after` must be drawn behind them; None: nothing."""
    if before is None or before.cell_length != after.cell_length:
        return 0, after
    old, new = list(before), list(after)
    if before is after or old == new:
        return 0, None
    first = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
    last = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old[:first:-1], new[:first:-1], strict=False)))
    rest = new[first : len(new) - last]
    skip = sum(cell_len(segment.text) for segment in new[:first])
    if first < len(old) and rest and old[first].style == rest[0].style:
        shared = _shared(old[first].text, rest[0].text)
        text, style, control = rest[0]
        skip, rest[0] = skip + shared, Segment(text[shared:], style, control)
    return skip, Strip(segment for segment in rest if segment.text)


def _shared(one: str, other: str) -> int:
    """Letters that both begin with, where each is one cell wide."""
    count = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    return count if cell_len(other[:count]) == count else 0
