"""Checkpoints as lines of a list: columns that fit the width, cells, heads of runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len, set_cell_size

from ..charts.ticks import number
from ..manager.catalogue import Entry, Evaluation
from ..manager.catalogue_order import Line
from ..words import duration, percent, plural, size
from .rowlist import Part

# Column: cells, and the screen's width from which on it is shown. "run" gets what is left.
_COLUMNS: dict[str, tuple[int, int]] = {
    "run": (0, 0),
    "tag": (9, 0),
    "step": (6, 0),
    "success": (13, 0),
    "kind": (10, 84),
    "task": (20, 112),
    "obs_dim": (4, 128),
    "normalised": (8, 120),
    "size": (8, 92),
    "age": (9, 0),
    "origin": (11, 100),
}
HEADS = {"obs_dim": "obs", "normalised": "norm", "tag": ""}
_RIGHT = frozenset({"step", "obs_dim", "size"})
_LEAST_RUN = 12


def columns_for(width: int) -> dict[str, int]:
    """Column -> cells, the gap behind it included."""
    chosen = {name: cells + 1 for name, (cells, needs) in _COLUMNS.items() if width >= needs}
    chosen["run"] = max(width - sum(cells for name, cells in chosen.items() if name != "run"), _LEAST_RUN)
    return chosen


def header(columns: Mapping[str, int], sorted_by: str, turned: bool) -> str:
    """The names of the columns; an arrow at the one that it is sorted by."""
    parts = []
    for name, cells in columns.items():
        text = HEADS.get(name, name)
        if name == sorted_by:
            text = f"{text or 'tag'}{'▴' if turned else '▾'}"
        parts.append(_fitted(text, cells, name in _RIGHT))
    return "".join(parts)


def success(evaluation: Evaluation | None) -> str:
    """`62% 52–71`: the rate and its 95 % interval; "not tested" without an evaluation."""
    if evaluation is None:
        return "not tested"
    low, high = evaluation.interval()
    return f"{percent(evaluation.rate)} {low * 100:.0f}–{high * 100:.0f}"


def parts_of(
    line: Line, columns: Mapping[str, int], colours: Mapping[str, str], now: float, marked: bool
) -> Sequence[Part]:
    """One line, a part for each column."""
    entry = line.entry
    if entry is None:
        return _head(line, colours)
    cells = _cells(entry, now, colours)
    indent = "  " * max(line.depth - 1, 0) + ("└ " if line.depth else "")
    name, lead = cells["run"][0], f"{'=' if marked else ' '}{_mark(entry)} {indent}"
    if len(lead) + len(name) >= columns["run"] and entry.job is not None:
        name = name.lstrip("0")  # 000042-peg: where there is no room for zeros
    cells["run"] = (lead + name, cells["run"][1])
    return [(_fitted(cells[name][0], width, name in _RIGHT), cells[name][1]) for name, width in columns.items()]


def age(seconds: float) -> str:
    """As `duration`; past ten days the hours tell nothing: 462 d."""
    days = int(seconds // 86400)
    return f"{days:,} d" if days >= 10 else duration(seconds)


def _mark(entry: Entry) -> str:
    """A shape for what is not well."""
    return {"ok": " ", "cut": "!", "unread": "?", "foreign": "✗"}[entry.condition]


def _cells(entry: Entry, now: float, colours: Mapping[str, str]) -> dict[str, Part]:
    muted = colours["muted"]
    usual = {"ok": "", "cut": colours["warning"], "unread": muted, "foreign": muted}[entry.condition]
    tested = entry.evaluation is not None
    best = colours["success"] if "best" in entry.tags else muted
    told = success(entry.evaluation) if entry.kind else ""
    return {
        "run": (entry.run, usual),
        "tag": (" ".join(entry.tags), best),
        "step": (number(entry.step) if entry.step is not None else "", usual),
        "success": ("cut short" if entry.condition == "cut" else told, usual if tested else muted),
        "kind": (entry.kind or {"unread": "not read", "foreign": "none"}.get(entry.condition, ""), usual or muted),
        "task": (entry.env_id or "", usual),
        "obs_dim": (str(entry.obs_dim) if entry.obs_dim else "", usual),
        "normalised": (entry.normalised, muted),
        "size": (size(entry.size), muted),
        "age": (age(now - entry.created), muted),
        "origin": (entry.origin, usual or muted),
    }


def _head(line: Line, colours: Mapping[str, str]) -> Sequence[Part]:
    """A run: its name, how many checkpoints, its best."""
    rated = [entry.evaluation for entry in line.group if entry.evaluation]
    best = max(rated, key=lambda evaluation: evaluation.rate, default=None)
    more = f"  {plural(len(line.group), 'checkpoint')}, {size(sum(entry.size for entry in line.group))}"
    if best is not None:
        more += f", best {success(best)}"
    return [(f" {line.head}", f"bold {colours['primary']}"), (more, colours["muted"])]


def printable(text: str) -> str:
    """A file name may hold line breaks and escapes, which terminals would obey."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


def _fitted(text: str, cells: int, right: bool) -> str:
    """Exactly `cells` wide, the last one blank; of what is too long the middle goes: both ends of a path tell."""
    text, room = printable(text), cells - 1
    if not text.isascii() and cell_len(text) != len(text):
        return set_cell_size(text, room) + " "
    if len(text) > room:
        text = f"{text[: room // 3]}…{text[len(text) - (room - room // 3 - 1) :]}" if room > 8 else text[:room]
    return (text.rjust(room) if right else text.ljust(room)) + " "
