"""A log of any length, read in pieces: the lines before and after a byte, and those that hold a word. A line is known
by the byte that it begins with, so that nothing has to be counted before the first one is seen. No threads here."""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NamedTuple

from .plainlog import plain_lines

BLOCK = 64 * 1024  # bytes; a whole block without a newline ends a line, so that a file without any has lines too
CHUNK = 1 << 20  # bytes searched at once: some milliseconds
MOST_TEXT = 1 << 20  # bytes of lines given at once, however many were asked for
MOST_FOUND = 2_000_000  # lines that a search keeps: 16 MB
_HEAD = 256  # bytes by which a log that was begun anew is known
_KEEP = 64  # blocks whose line ends are remembered
_NEWLINE = re.compile(rb"\n")
_ESCAPES = rb"(?:\x1b\[[0-?]*[ -/]*[@-~])*"


class LogLine(NamedTuple):
    """A line as it looks on a terminal, and the byte that it begins with."""

    start: int
    text: str


class Needle:
    """A word to look for, whatever its case and whatever colours it has."""

    def __init__(self, word: str) -> None:
        self.word = word.lower()
        self._bytes = self.word.encode() if word.isascii() else b""
        self._pattern = re.compile(_ESCAPES.join(map(_either, self.word)))

    def places(self, data: bytes) -> Generator[int, int, None]:
        """Where it may stand; the next look begins at the byte that is sent."""
        at = 0
        if self._bytes and b"\x1b" not in data and (" " not in self.word or b"\t" not in data):
            data = data.lower()  # several times as fast as a pattern that ignores case
            while (at := data.find(self._bytes, at)) >= 0:
                at = yield at
        else:
            while (match := self._pattern.search(data, at)) is not None:
                at = yield match.start()


def _either(letter: str) -> bytes:
    """A pattern for a letter, small or large; for a blank also the tab that is shown as one."""
    forms = {letter.encode(), letter.upper().encode(), *([b"\t"] if letter == " " else [])}
    return b"(?:" + b"|".join(re.escape(form) for form in sorted(forms)) + b")"


class LogFile:
    """One open log. It stays readable when its name is gone.

    Raises:
        OSError: at the beginning and from every method, where the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0  # bytes, as of the last `refresh`
        self._ends: dict[int, list[int]] = {}
        self._head = b""
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.refresh()
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._file)

    def refresh(self) -> bool:
        """Look how long it is now. Returns False where it was begun anew: what was known of it no longer holds."""
        size = os.fstat(self._file).st_size
        if size == self.size:
            return True
        head = os.pread(self._file, _HEAD, 0)
        same = size > self.size and head.startswith(self._head)
        self._ends.pop(self.size // BLOCK, None)
        self.size, self._head = size, head
        return same

    def is_at(self, path: Path) -> bool:
        """Whether this is still the file of that name."""
        return os.path.samestat(os.fstat(self._file), path.stat())

    def binary(self) -> bool:
        """Whether its ends hold zero bytes, as no text does."""
        return b"\0" in self._read(0, 4096) or b"\0" in self._read(max(self.size - 4096, 0), self.size)

    def _read(self, low: int, high: int) -> bytes:
        return os.pread(self._file, max(min(high, self.size) - low, 0), low)

    # --- lines

    def _line_ends(self, block: int) -> list[int]:
        """Bytes behind the newlines of a block; where a whole block has none, its own end."""
        if block not in self._ends:
            begin = block * BLOCK
            data = self._read(begin, begin + BLOCK)
            ends = [begin + match.end() for match in _NEWLINE.finditer(data)]
            if not ends and len(data) == BLOCK:
                ends = [begin + BLOCK]
            while len(self._ends) >= _KEEP:
                del self._ends[next(iter(self._ends))]
            self._ends[block] = ends
        return self._ends[block]

    def line_start(self, at: int) -> int:
        """The first byte of the line that byte `at` is in, or begins."""
        for block in range(at // BLOCK, -1, -1):
            ends = self._line_ends(block)
            place = bisect_right(ends, at)
            if place:
                return ends[place - 1]
        return 0

    def line_end(self, start: int) -> int:
        """The byte behind the line that byte `start` is in."""
        for block in range(start // BLOCK, self.size // BLOCK + 1):
            ends = self._line_ends(block)
            place = bisect_right(ends, start)
            if place < len(ends):
                return ends[place]
        return self.size

    def line(self, start: int) -> LogLine:
        """The line that begins there."""
        return LogLine(start, self._text(start, self.line_end(start)))

    def _text(self, start: int, end: int) -> str:
        return next(iter(plain_lines(self._read(start, end))), "")

    def after(self, start: int, count: int) -> list[LogLine]:
        """Up to `count` lines from the one that begins at `start`."""
        lines: list[LogLine] = []
        at = start
        while at < self.size and len(lines) < count and at - start < MOST_TEXT:
            lines.append(self.line(at))
            at = self.line_end(at)
        return lines

    def before(self, end: int, count: int) -> list[LogLine]:
        """Up to `count` lines that end at `end` or before, in their order."""
        lines: list[LogLine] = []
        at = end
        while at > 0 and len(lines) < count and end - at < MOST_TEXT:
            start = self.line_start(at - 1)
            lines.append(LogLine(start, self._text(start, at)))
            at = start
        return lines[::-1]

    # --- searching

    def matching(self, low: int, high: int, needles: Sequence[Needle]) -> list[int]:
        """Where the lines begin that hold all of the words, in the bytes between two beginnings of lines."""
        data = self._read(low, high)
        drawn = b"\r" in data or b"\x1b" in data  # what is in the bytes may not be what is seen
        found: list[int] = []
        places = needles[0].places(data)
        at = next(places, None)
        while at is not None:
            start, end = self._around(data, at, low)
            if drawn or len(needles) > 1:
                text = next(iter(plain_lines(data[start:end])), "").lower()
                holds = all(needle.word in text for needle in needles)
            else:
                holds = True
            if holds:
                found.append(low + start)
            try:
                at = places.send(end)
            except StopIteration:
                at = None
        return found

    def _around(self, data: bytes, at: int, low: int) -> tuple[int, int]:
        """Where the line around a byte of `data` begins and ends there."""
        start, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at) + 1 or len(data)
        if end - start > BLOCK:  # a block without newline may lie in between
            start, end = self.line_start(low + at) - low, min(self.line_end(low + at) - low, len(data))
        return start, end


class Scan:
    """The beginnings of the lines of a file that hold all of some words: found from its end backwards, a piece with
    each `step`, so that the newest are there at once; then in what is added. Of too many, the newest."""

    def __init__(self, file: LogFile, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self.stopped = False
        self._needles = [Needle(word) for word in words]
        self._file = file
        self._low = self._high = file.line_start(file.size)
        self._seen = self._high  # what lies between `_high` and it is a line that may yet go on
        self._older = array("q")  # newest first
        self._newer = array("q")  # oldest first

    def __len__(self) -> int:
        return len(self._older) + len(self._newer)

    def __getitem__(self, place: int) -> int:
        older = len(self._older)
        place += len(self) if place < 0 else 0
        return self._older[older - 1 - place] if place < older else self._newer[place - older]

    @property
    def full(self) -> bool:
        return len(self) >= MOST_FOUND

    @property
    def busy(self) -> bool:
        """Whether `step` has anything to do."""
        return self._seen < self._file.size or (self._low > 0 and not self.stopped and not self.full)

    @property
    def share(self) -> float:
        """How much of the file was searched."""
        return 1 - self._low / self._file.size if self._file.size else 1.0

    def stop(self) -> None:
        """Leave the older lines as they are; what is added is still searched."""
        self.stopped = True

    def step(self) -> None:
        """Search another piece."""
        file = self._file
        if self._seen < file.size:
            rest = file.size - self._high
            end = file.size if rest <= CHUNK else file.line_start(self._high + CHUNK)
            while self._newer and self._newer[-1] >= self._high:
                self._newer.pop()
            self._newer.extend(file.matching(self._high, end, self._needles))
            self._seen, self._high = end, file.line_start(end)
        elif self.busy:
            low = file.line_start(max(self._low - CHUNK, 0))
            self._older.extend(reversed(file.matching(low, self._low, self._needles)))
            self._low = low

    @property
    def end(self) -> int:
        """A byte behind all of them."""
        return self._file.size

    def rank(self, start: int) -> int | None:
        """Which of them begins there, from 1; None: none."""
        place = bisect_left(self, start)
        return place + 1 if place < len(self) and self[place] == start else None

    def after(self, start: int, count: int) -> list[int]:
        """Up to `count` of them from `start` on."""
        place = bisect_left(self, start)
        return [self[i] for i in range(place, min(place + count, len(self)))]

    def before(self, end: int, count: int) -> list[int]:
        """Up to `count` of them before `end`, in their order."""
        place = bisect_left(self, end)
        return [self[i] for i in range(max(place - count, 0), place)]
