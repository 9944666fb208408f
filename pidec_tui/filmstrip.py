"""Screens of a terminal -> one animated SVG: no script, no font, nothing to load. Pure.

Every different row is written once and used by the frames that show it; the frames stand side by side, and one CSS
animation moves the strip. Braille is drawn as dots, because few fonts have it and none agree on its width.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from xml.sax.saxutils import escape

CELL_X, CELL_Y = 8, 16  # pixels; braille dots are then 4 apart in both directions
_BASELINE = 12
_DOT = 3
_FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
_BRAILLE = 0x2800
_WORDS = re.compile(r"[^\0 ]+(?: [^\0 ]+)*")
_DOTS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))  # column and row, by the bit of the pattern


class Run(NamedTuple):
    """Cells of one look; colours as #rrggbb. Every character is one cell wide."""

    text: str
    colour: str
    background: str
    bold: bool = False


@dataclass(frozen=True)
class Frame:
    """One screen, and for how many seconds it stands."""

    rows: tuple[tuple[Run, ...], ...]
    seconds: float


def svg_of(frames: Sequence[Frame], columns: int, background: str, title: str) -> str:
    """The animation, playing in a loop. Who asks for less motion sees the first frame.

    Args:
        frames: at least one; all with as many rows.
        columns: cells of a row.
        background: of cells that need no painting.
        title: for those who do not see it.
    """
    strip = _joined(frames)
    width, height = columns * CELL_X, len(strip[0].rows) * CELL_Y
    drawn = _Rows(background)
    places = []
    for index, frame in enumerate(strip):
        uses = [
            f'<use href="#{name}" y="{y * CELL_Y}"/>' for y, row in enumerate(frame.rows) if (name := drawn.id(row))
        ]
        places.append(f'<g transform="translate({index * width})">{"".join(uses)}</g>')
    total, size = sum(frame.seconds for frame in strip), f'width="{width}" height="{height}"'
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size} role="img">',
            f"<title>{escape(title)}</title><style>text{{font:13.3px {_FONT}}}",
            f"path{{fill:none;stroke-width:{_DOT};stroke-linecap:round}}.b{{font-weight:bold}}",
            drawn.styles(),
            f"#strip{{animation:play {total:.2f}s step-end infinite}}@keyframes play{{{_keyframes(strip, width)}}}",
            "@media (prefers-reduced-motion:reduce){#strip{animation:none}}</style><defs>",
            *drawn.definitions,
            f'</defs><rect {size} fill="{background}"/><svg {size} overflow="hidden"><g id="strip">',
            *places,
            "</g></svg></svg>\n",
        ]
    )


def _joined(frames: Iterable[Frame]) -> list[Frame]:
    """Frames that show the same one after the other, as one."""
    strip: list[Frame] = []
    for frame in frames:
        if strip and strip[-1].rows == frame.rows:
            strip[-1] = Frame(frame.rows, strip[-1].seconds + frame.seconds)
        else:
            strip.append(frame)
    return strip


def _keyframes(strip: Sequence[Frame], width: int) -> str:
    total, before, steps = sum(frame.seconds for frame in strip), 0.0, []
    for index, frame in enumerate(strip):
        steps.append(f"{100 * before / total:.3f}%{{transform:translateX({-index * width}px)}}")
        before += frame.seconds
    return "".join(steps)


class _Rows:
    """Each different row once, and the colours that they use."""

    def __init__(self, background: str) -> None:
        self.definitions: list[str] = []
        self._background = background
        self._ids: dict[tuple[Run, ...], str] = {}
        self._colours: dict[str, str] = {}

    def id(self, row: tuple[Run, ...]) -> str:
        """The name of a row's drawing; "" where there is nothing to draw."""
        if row not in self._ids:
            drawing = self._draw(row)
            self._ids[row] = f"r{len(self.definitions)}" if drawing else ""
            if drawing:
                self.definitions.append(f'<g id="{self._ids[row]}">{drawing}</g>')
        return self._ids[row]

    def styles(self) -> str:
        return "".join(
            f".{name}{{fill:{colour}}}path.{name}{{fill:none;stroke:{colour}}}"
            for colour, name in self._colours.items()
        )

    def _colour(self, colour: str) -> str:
        return self._colours.setdefault(colour, f"c{len(self._colours)}")

    def _draw(self, row: tuple[Run, ...]) -> str:
        parts: list[str] = []
        texts: list[str] = []
        dots: dict[str, list[tuple[int, int]]] = {}
        x = 0
        for run in row:
            if run.background != self._background:
                size = f'width="{len(run.text) * CELL_X}" height="{CELL_Y}"'
                parts.append(f'<rect x="{x * CELL_X}" {size} class="{self._colour(run.background)}"/>')
            texts += self._words(run, x)
            points = _dots_of(run.text, x)
            if points:
                dots.setdefault(run.colour, []).extend(points)
            x += len(run.text)
        for colour, points in dots.items():
            parts.append(f'<path class="{self._colour(colour)}" d="{_path(points)}"/>')
        return "".join([*parts, *texts])

    def _words(self, run: Run, x: int) -> list[str]:
        """Stretches of text; their lengths are said, so that any font lines up."""
        found = []
        plain = "".join("\0" if _is_braille(char) else char for char in run.text)
        for stretch, start in _stretches(plain):
            about = f'x="{(x + start) * CELL_X}" y="{_BASELINE}" textLength="{len(stretch) * CELL_X}"'
            name = self._colour(run.colour) + (" b" if run.bold else "")
            found.append(f'<text {about} class="{name}">{escape(stretch)}</text>')
        return found


def _stretches(text: str) -> list[tuple[str, int]]:
    """The words of `text` between zeros, and where each begins; words one blank apart stay together (some viewers make
    one blank of several)."""
    return [(match[0], match.start()) for match in _WORDS.finditer(text)]


def _is_braille(char: str) -> bool:
    return _BRAILLE <= ord(char) < _BRAILLE + 256


def _dots_of(text: str, x: int) -> list[tuple[int, int]]:
    """Pixels of the dots of a run's braille."""
    gap = CELL_X // 2
    return [
        ((x + place) * CELL_X + column * gap + gap // 2, row * gap + gap // 2)
        for place, char in enumerate(text)
        if _is_braille(char)
        for bit, (column, row) in enumerate(_DOTS)
        if (ord(char) - _BRAILLE) >> bit & 1
    ]


def _path(points: Sequence[tuple[int, int]]) -> str:
    """Dots as lines without length, whose round ends are all that one sees of them; each from where the last one is."""
    at, steps = (0, 0), []
    for point in points:
        steps.append(f"m{point[0] - at[0]} {point[1] - at[1]}h0".replace(" -", "-"))
        at = point
    return "".join(steps)
