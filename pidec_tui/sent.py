"""What the terminal shows already is not sent again.

Textual draws a changed widget whole: a chart that grows by a dot costs 3 kB, a second of the main screen 15 kB, and an
ssh line may carry 12 kB/s. So each line's pieces are held against what was sent last in their place.
"""

from __future__ import annotations

from itertools import takewhile

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.control import Control
from rich.segment import Segment
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip

Cuts = tuple[tuple[int, ...], tuple[int, ...]]  # where the pieces of a line begin and end


class Sent:
    """What was sent to one terminal, a strip for each piece of each line."""

    def __init__(self) -> None:
        self._lines: dict[int, tuple[Cuts, dict[int, Strip]]] = {}

    def less(self, update: RenderableType | None) -> RenderableType | None:
        """The same update; when it is written, only what differs is."""
        if isinstance(update, ChopsUpdate):
            return _Changes(self, update)
        if isinstance(update, LayoutUpdate):  # a whole picture: after a resize, another screen, a suspended terminal
            self._lines.clear()
        return update

    def changes(self, update: ChopsUpdate) -> list[tuple[int, int, Strip]]:
        """Column, line and strip of what differs; taken as sent from now on."""
        found = []
        for y in dict.fromkeys(y for y, _, _ in update.spans):
            line, ends = update.chops[y], update.chop_ends[y]
            cuts = (tuple(line), tuple(ends))
            before, known = self._lines.get(y, (cuts, {}))
            if before != cuts:  # another layout
                known = {}
            spans = [(x1, x2) for line_of, x1, x2 in update.spans if line_of == y]
            for end, (x, strip) in zip(ends, line.items(), strict=False):
                if strip is None or not any(x <= x2 and end > x1 for x1, x2 in spans):
                    continue
                skip, rest = difference(known.get(x), strip)
                known[x] = strip
                if rest is not None:
                    found.append((x + skip, y, rest))
            self._lines[y] = (cuts, known)
        return found


class _Changes(CompositorUpdate):
    """Reckons when it is written: an update that Textual drops must not count as sent."""

    def __init__(self, sent: Sent, update: ChopsUpdate) -> None:
        self._sent, self._update = sent, update

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from ()  # nobody prints it

    def render_segments(self, console: Console) -> str:
        parts = [(Control.move_to(x, y).segment.text, strip) for x, y, strip in self._sent.changes(self._update)]
        return "".join(move + strip.render(console) for move, strip in parts)


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
