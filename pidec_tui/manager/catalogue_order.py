"""Which checkpoints are listed, in which order: filter, sort, runs, lineage. Pure."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pidec_train.protocol.errors import PidecError, did_you_mean

from .catalogue import Entry

Arrangement = Literal["list", "runs", "lineage"]
ARRANGEMENTS: tuple[Arrangement, ...] = ("list", "runs", "lineage")
_SUFFIX = {"k": 1e3, "m": 1e6, "g": 1e9}
_TEST = re.compile(r"([A-Za-z_]+)(>=|<=|!=|[:=<>])(.*)")
_NUMBER = re.compile(r"([\d.,_]+)\s*([kKmMgG%]?)[bB]?")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}

# By column: what is compared. None stands behind all others, whichever way it is sorted.
COLUMNS: dict[str, Callable[[Entry], Any]] = {
    "age": lambda entry: -entry.created,
    "success": lambda entry: entry.evaluation.rate if entry.evaluation else None,
    "step": lambda entry: entry.step,
    "run": lambda entry: _natural(entry.run),
    "tag": lambda entry: " ".join(entry.tags) or None,
    "kind": lambda entry: entry.kind or None,
    "task": lambda entry: entry.env_id,
    "obs_dim": lambda entry: entry.obs_dim,
    "normalised": lambda entry: entry.normalised or None,
    "size": lambda entry: entry.size,
    "origin": lambda entry: entry.origin or None,
}
DESCENDING = frozenset({"success", "step", "size"})  # what is looked for stands on top


def _natural(text: str) -> list[tuple[int, str]]:
    """run-9 before run-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text.lower()) if part]


def sort_entries(entries: Iterable[Entry], column: str, *, turned: bool = False) -> list[Entry]:
    """By a column, equal ones by run and step.

    Args:
        turned: the other way round than usual for this column.
    """
    value = COLUMNS[column]
    plain = sorted(entries, key=lambda entry: (_natural(entry.run), -(entry.step or 0), entry.path.name))
    known = [entry for entry in plain if value(entry) is not None]
    known.sort(key=value, reverse=(column in DESCENDING) != turned)
    return known + [entry for entry in plain if value(entry) is None]


# --- filter ----------------------------------------------------------------------------------------------------------


def matcher(text: str) -> Callable[[Entry], bool]:
    """What `/` takes: words that must all be there, `-word` that must not, `column:word`, `success>80%`, `step>=100k`.

    Raises:
        PidecError: a column that does not exist, or a number that is none.
    """
    tests = [_test(word) for word in text.split()]
    return lambda entry: all(test(entry) for test in tests)


def _test(word: str) -> Callable[[Entry], bool]:
    if word.startswith("-") and len(word) > 1:
        inner = _test(word[1:])
        return lambda entry: not inner(entry)
    match = _TEST.fullmatch(word)
    if match is None:
        plain = word.lower()
        return lambda entry: plain in _haystack(entry)
    column, sign, wanted = match[1].lower(), match[2], match[3]
    if column not in COLUMNS:
        raise PidecError(f'there is no column "{column}"', did_you_mean(column, COLUMNS))
    if sign not in _COMPARE:
        return lambda entry: (wanted.lower() in _text(entry, column)) == (sign != "!=")
    number, compare, value = _number(column, wanted), _COMPARE[sign], COLUMNS[column]
    return lambda entry: isinstance(value(entry), (int, float)) and compare(value(entry), number)


def _number(column: str, text: str) -> float:
    match = _NUMBER.fullmatch(text.strip())
    try:
        value = float(match[1].replace(",", "").replace("_", "")) if match else float("nan")
    except ValueError:
        value = float("nan")
    if match is None or value != value or column not in ("success", "step", "size", "obs_dim"):
        raise PidecError(f'{column} cannot be compared with "{text}"', "As in success>80%, step>=100k, size<60M")
    if column == "success" and (match[2] == "%" or value > 1):
        return value / 100
    return value * _SUFFIX.get(match[2].lower(), 1)


def _text(entry: Entry, column: str) -> str:
    texts: Mapping[str, object] = {
        "run": entry.run,
        "tag": " ".join(entry.tags),
        "kind": entry.kind,
        "task": entry.env_id,
        "origin": entry.origin,
        "normalised": entry.normalised,
        "step": entry.step,
        "obs_dim": entry.obs_dim,
    }
    return str(texts.get(column) if texts.get(column) is not None else "").lower()


def _haystack(entry: Entry) -> str:
    parts = (
        entry.run,
        entry.path.name,
        *entry.tags,
        entry.kind,
        entry.env_id or "",
        entry.control_mode or "",
        entry.origin,
        entry.condition if entry.condition != "ok" else "",
        f"job {entry.job}" if entry.job is not None else "",
    )
    return " ".join(parts).lower()


# --- lineage ---------------------------------------------------------------------------------------------------------


class Lineage:
    """Who was made of whom: base -> adapted -> decorated. By the parent's hash; where a decorator's parent is not
    listed (its run was resumed, and the hash is that of a checkpoint which is gone), by the path that its config names.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        """Reads the links that configs name; afterwards nothing is read."""
        self._by_hash: dict[str, Entry] = {}
        found = list(entries)
        for entry in found:
            if entry.sha256:
                self._by_hash.setdefault(entry.sha256, entry)
        self._by_path = {entry.path: entry for entry in found}
        self._parents: dict[Path, Entry] = {}
        self._children: dict[Path, list[Entry]] = {}
        for entry in found:
            parent = self._found(entry)
            if parent is not None:
                self._parents[entry.path] = parent
                self._children.setdefault(parent.path, []).append(entry)

    def parent(self, entry: Entry) -> Entry | None:
        """The checkpoint of another run that this one was made of, None if it is not listed."""
        return self._parents.get(entry.path)

    def _found(self, entry: Entry) -> Entry | None:
        seen: set[Path] = set()
        while entry.path not in seen:
            seen.add(entry.path)
            parent = self._by_hash.get(entry.parent_sha256 or "")
            if parent is None:
                return self._named(entry)
            if parent.path.parent != entry.path.parent or parent.kind != entry.kind:
                return parent
            entry = parent  # its run was resumed from there
        return None

    def _named(self, entry: Entry) -> Entry | None:
        """Only by a name that never means another file: `best.pt` moves on."""
        if entry.base_path is None or os.path.islink(entry.base_path):
            return None
        parent = self._by_path.get(Path(os.path.realpath(entry.base_path)))
        return parent if parent is not None and parent.path != entry.path else None

    def children(self, entry: Entry) -> list[Entry]:
        """What was made of this one."""
        return self._children.get(entry.path, [])

    def ancestors(self, entry: Entry) -> list[Entry]:
        """Parent, its parent, and so on."""
        found: list[Entry] = []
        parent = self.parent(entry)
        while parent is not None and parent not in found and parent is not entry:
            found.append(parent)
            parent = self.parent(parent)
        return found


# --- arrangement -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One line of the list: a checkpoint, or (entry None) the head of a run.

    Attributes:
        depth: 0; in a lineage one more than the parent's, below a run's head 1.
    """

    entry: Entry | None
    depth: int = 0
    head: str = ""
    group: tuple[Entry, ...] = ()


def arranged(entries: Sequence[Entry], arrangement: Arrangement, lineage: Lineage) -> list[Line]:
    """The lines for entries that are filtered and sorted already; groups stand where their first member would."""
    if arrangement == "runs":
        groups: dict[str, list[Entry]] = {}
        for entry in entries:
            groups.setdefault(entry.run, []).append(entry)
        lines: list[Line] = []
        for run, members in groups.items():
            lines.append(Line(None, head=run, group=tuple(members)))
            lines += [Line(entry, 1) for entry in members]
        return lines
    if arrangement == "lineage":
        return _tree(entries, lineage)
    return [Line(entry) for entry in entries]


def _tree(entries: Sequence[Entry], lineage: Lineage) -> list[Line]:
    """Each below its parent where that one is listed too; iterative, since a chain may be long."""
    listed = {entry.path: place for place, entry in enumerate(entries)}
    roots = [entry for entry in entries if (up := lineage.parent(entry)) is None or up.path not in listed]
    lines: list[Line] = []
    done: set[Path] = set()
    for root in [*roots, *entries]:  # the second time round those of a circle, which has no root
        stack = [(root, 0)]
        while stack:
            entry, depth = stack.pop()
            if entry.path in done:
                continue
            done.add(entry.path)
            lines.append(Line(entry, depth))
            below = [child for child in lineage.children(entry) if child.path in listed]
            below.sort(key=lambda child: -listed[child.path])
            stack += [(child, depth + 1) for child in below]
    return lines
