"""Rows of text with roles, as charts and pictures are made of. No numpy here: the first paint goes without."""

from __future__ import annotations

from typing import NamedTuple


class Span(NamedTuple):
    """A stretch of one row. `role` is "", "axis", "label", "cursor", "checkpoint", "resume", "nan", or, with the tone
    of a curve behind it, "curve0" or "band0"."""

    text: str
    role: str


Rows = list[list[Span]]


def empty(width: int, height: int, text: str) -> Rows:
    """Rows of blanks with `text` in the middle."""
    blank = [Span(" " * width, "")]
    rows = [list(blank) for _ in range(height)]
    if height and width:
        rows[(height - 1) // 2] = [Span(text[:width].center(width), "label")]
    return rows


def cut(text: str, width: int) -> str:
    """At most `width` characters, the last of them an ellipsis where that is too few."""
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}…"
