"""Numbers as one types them, with commas within thousands and between values: read in one way, or not at all. Pure."""

from __future__ import annotations

import itertools
import re

from pidec_train.protocol.errors import PidecError

_HEAD = re.compile(r"[+-]?[1-9]\d{0,2}")  # of a number whose thousands are grouped
_SHORT = re.compile(r"[+-]?\d{1,3}")
_NO_VALUE = re.compile(r"[+-]?0\d+(\.\d*)?[kKmMgG]?")  # 000, 050, 000k: the rest of a number, never one by itself
_SUFFIX = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_SHORT_NUMBER = re.compile(r"([+-]?[\d_,]*\.?\d+)\s*([kKmMgG])")


def number_of(text: str) -> str | int | float:
    """300k, 1_000 and 1,000,000 as numbers, or as the text of one; anything else as it is."""
    short = _SHORT_NUMBER.fullmatch(text)
    if short:
        value = float(short[1].replace("_", "").replace(",", "")) * _SUFFIX[short[2].lower()]
        return int(value) if value.is_integer() else value
    return re.sub(r"(?<=\d)[_,](?=\d)", "", text)


def numbers_in(text: str) -> list[str]:
    """The values of a text, each as typed: `300,000` is one, `128,256` and `100,000, 200,000` are two.

    A comma with a blank beside it is between values. Without one, either all commas are between values, or all numbers
    below 1000 are whole thousands: `1,500,000`.

    Raises:
        PidecError: it can be read in more than one way, such as `100,000,200,000`, or in none, such as `0,05`.
    """
    chunks = [_readings(chunk.split(",")) for chunk in re.split(r"\s*,\s+|\s+,", text.strip())]
    whole = [list(itertools.chain(*each)) for each in itertools.islice(itertools.product(*chunks), 2)]
    if len(whole) > 1:
        one, other = (said(values) for values in whole)
        raise PidecError(f"{one}, or {other}? A blank after a comma parts values, 100k is 100,000")
    return whole[0]


def _readings(pieces: list[str]) -> list[list[str]]:
    """At most two ways to read what stands between commas, the one with fewer values first; as it is, where none is."""
    found = [[]] if not pieces else _grouped(pieces)
    if not any(_NO_VALUE.fullmatch(piece) for piece in pieces):
        found = [*found, pieces]
    if not found and len(pieces) > 1:
        raise PidecError(f"{','.join(pieces)} is no number and no list of them; 1000.5, 100k and 0.05 are numbers")
    return sorted(found, key=len)[:2] or [pieces]


def _grouped(pieces: list[str]) -> list[list[str]]:
    """At most two ways in which every short piece belongs to a number of whole thousands, and there is one such."""
    ways: list[list[list[str]]] = [[] for _ in pieces] + [[[]]]  # of what begins at a piece
    for start in range(len(pieces) - 1, -1, -1):
        if not _SHORT.fullmatch(pieces[start]) and not _NO_VALUE.fullmatch(pieces[start]):
            ways[start] = [[pieces[start], *rest] for rest in ways[start + 1]]
        if _HEAD.fullmatch(pieces[start]):
            for end in range(start + 2, len(pieces) + 1):
                if not re.fullmatch(r"\d{3}", pieces[end - 1]):
                    break
                if pieces[end - 1] == "000":
                    ways[start] += [[",".join(pieces[start:end]), *rest] for rest in ways[end]]
        ways[start] = ways[start][:2]
    return [way for way in ways[0] if any("," in value for value in way)]


def said(values: list[str]) -> str:
    """`100,000 and 200,000`; of many, the first and the last."""
    shown = values if len(values) <= 8 else [*values[:6], "…", values[-1]]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def plain(text: str) -> str:
    """A number as it was understood, in grouped thousands: `1,500,000`; what is none as it is."""
    try:
        value = float(number_of(text))
    except (ValueError, OverflowError):
        return text
    whole = value.is_integer() and "." not in text.lower() and "e" not in text.lower()
    return f"{int(value):,}" if whole or (abs(value) >= 1000 and value.is_integer()) else text
