"""What is sent to the terminal: only what differs, and all of it."""

from __future__ import annotations

import random

from rich.color import Color, ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from pidec_tui.sent import Sent, _codes, _turn, difference

STYLES = [Style(color=Color.parse(name)) for name in ("red", "blue", "green")]
Cells = list[tuple[str, Style | None]]


def strip(*parts: tuple[str, int]) -> Strip:
    return Strip([Segment(text, STYLES[style]) for text, style in parts])


def cells(line: Strip) -> Cells:
    """A cell each; the second one of a wide letter is empty."""
    found: Cells = []
    for text, style, _ in line:
        for letter in text:
            found += [(letter, style), ("", style)] if letter == "宽" else [(letter, style)]
    return found


def test_only_what_differs_is_drawn() -> None:
    """Lost: a slow line: a chart that grows by a dot would be sent whole."""
    before = strip(("loss ", 0), ("0.031", 1), (" best 0.02", 0))
    assert difference(before, strip(("loss ", 0), ("0.031", 1), (" best 0.02", 0))) == (0, None)
    skip, rest = difference(before, strip(("loss ", 0), ("0.029", 1), (" best 0.02", 0)))
    assert rest is not None and (skip, rest.text) == (8, "29")
    skip, rest = difference(before, strip(("loss ", 0), ("0.031", 2), (" best 0.02", 0)))
    assert rest is not None and (skip, rest.text) == (5, "0.031")  # a colour is a difference, too
    assert difference(None, before) == (0, before)
    assert difference(strip(("宽a", 0)), strip(("宽b", 0)))[0] in (0, 2)  # never half of a wide letter


def test_a_terminal_that_is_sent_the_differences_shows_the_whole() -> None:
    """Lost: the truth on the screen. Four hundred random pictures, in changing layouts, drawn on a model of a terminal
    by their differences alone."""
    draw = random.Random(5)
    width, height = 24, 4
    terminal: list[Cells] = [[(" ", None)] * width for _ in range(height)]
    wanted: list[Cells] = [[(" ", None)] * width for _ in range(height)]
    sent, shown = Sent(), list[dict[int, Strip]]()

    def line(length: int) -> Strip:
        segments, left = [], length
        while left:
            letters = draw.choice(["a", "ab", "⣿", "宽", "    ", "aab"])
            size = sum(2 if each == "宽" else 1 for each in letters)
            if size <= left:
                segments.append(Segment(letters, draw.choice(STYLES)))
                left -= size
        return Strip(segments, length)

    for turn in range(400):
        if turn % 50 == 0:
            cut = draw.randrange(4, width - 4)
            shown = []
        chops: list[dict[int, Strip]] = []
        spans = []
        for y in range(height):
            keep = bool(shown) and draw.random() < 0.5
            pieces = {x: shown[y][x] if keep else line(end - x) for x, end in ((0, cut), (cut, width))}
            chops.append(pieces)
            spans.append((y, 0, width))
            wanted[y] = cells(pieces[0]) + cells(pieces[cut])
        shown = chops
        for x, y, part in sent.changes(ChopsUpdate(chops, spans, [[cut, width]] * height)):
            drawn = cells(part)
            terminal[y][x : x + len(drawn)] = drawn
        assert terminal == wanted


def whole(*lines: list[Strip]) -> LayoutUpdate:
    return LayoutUpdate(list(lines), Region(0, 0, sum(piece.cell_length for piece in lines[0]), len(lines)))


def test_a_whole_picture_is_held_against_what_is_there_whatever_the_layout_was() -> None:
    """Lost: six seconds on a slow line, for each screen that is opened."""
    sent = Sent()
    first = [strip(("queue", 0)), strip(("charts", 1))]
    assert len(sent.changes(whole(first))) == 2
    assert sent.changes(whole(first)) == []
    assert (
        sent.changes(whole([strip(("queue", 0), ("cha", 1)), strip(("rts", 1))])) == []
    )  # cut elsewhere, looks the same
    [(x, y, part)] = sent.changes(whole([strip(("queue", 0), ("chaRts", 1))]))
    assert (x, y, part.text) == (8, 0, "Rts")
    [(x, y, part)] = sent.changes(ChopsUpdate([{0: first[0], 5: first[1]}], [(0, 0, 11)], [[5, 11]]))
    assert (x, y, part.text) == (8, 0, "rts")


def test_after_a_resize_and_when_asked_all_is_sent_again() -> None:
    """Lost: what stands on a terminal that was resized, or that another program has written to."""
    sent, picture = Sent(), whole([strip(("abc", 0))])
    assert sent.changes(picture) and not sent.changes(picture)
    assert sent.changes(whole([strip(("abcd", 0))])) and sent.changes(picture)
    assert not sent.changes(picture)
    sent.forget()
    assert len(sent.changes(picture)) == 1
    sent.forget()
    piece = ChopsUpdate([{0: strip(("a", 0)), 2: strip((" ", 0))}], [(0, 2, 3)], [[1, 3]])
    assert [(x, part.text) for x, _, part in sent.changes(piece)] == [(2, " ")]  # a blank over what nobody knows


def test_what_stays_of_a_look_is_not_said_again() -> None:
    """Lost: half of the bytes; or, said too little, letters in the colour of those before them."""
    bold, plain, other = (
        _codes(Style.parse(each), ColorSystem.EIGHT_BIT)
        for each in ("bold #5fafd7 on #1c1c1c", "#8a8a8a on #1c1c1c", "#8a8a8a")
    )
    assert _turn(plain, plain) == ""
    assert _turn(("", "", ""), plain) == "\x1b[38;5;245;48;5;234m"
    assert _turn(plain, bold) == "\x1b[0;1;38;5;74;48;5;234m"
    assert _turn(bold, plain) == "\x1b[0;38;5;245;48;5;234m"
    assert _turn(plain, other) == "\x1b[49m" and _turn(plain, ("", "", "48;5;234")) == "\x1b[39m"
