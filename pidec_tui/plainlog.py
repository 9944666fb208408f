"""A log as text: what its colours and progress bars leave on a terminal."""

from __future__ import annotations

import os
import re
from collections import deque
from pathlib import Path

TAIL_BYTES = 64 * 1024
SEAM_BYTES = 64  # by these a log that was written anew is known, whatever its length
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def plain_lines(data: bytes) -> list[str]:
    """Lines of a log as they end up on a terminal: no colours, of a progress bar only what was drawn last."""
    text = _ESCAPES.sub("", data.decode("utf-8", "replace")).replace("\r\n", "\n").expandtabs(8)
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    if lines and not lines[-1]:
        lines.pop()
    return [line if line.isprintable() else "".join(ch if ch.isprintable() else " " for ch in line) for line in lines]


class LogTail:
    """The last 64 kB of a log as lines. What was read before is not read again: a log that grows by a line a second,
    all of it tidied each time, was a tenth of what the dashboard costs."""

    def __init__(self) -> None:
        self._of: tuple[Path, int] | None = None  # path, inode
        self._end = 0  # byte after the last line that is whole
        self._seam = b""  # what stood just before it
        self._lines: deque[tuple[int, str]] = deque()  # bytes in the log, text
        self._bytes = 0  # of all of them

    def read(self, path: Path, size: int) -> tuple[str, ...]:
        """Its lines, the one at its beginning only if it is whole. `size`: how long the log is now, in bytes.

        Raises:
            OSError: it cannot be read.
        """
        with path.open("rb") as file:
            of = path, os.fstat(file.fileno()).st_ino
            file.seek(self._end - len(self._seam))
            if of != self._of or not 0 <= size - self._end <= TAIL_BYTES or file.read(len(self._seam)) != self._seam:
                self._begin(of, max(size - TAIL_BYTES, 0))
                file.seek(self._end)
            data = file.read(size - self._end)
        if self._end and not self._seam:  # begun in the middle of a line, which goes unless there is no other
            cut, newline, after = data.partition(b"\n")
            data, self._end = (after, self._end + len(cut) + 1) if newline else (data, self._end)
        whole, newline, last = data.rpartition(b"\n")
        if newline:
            self._add(whole + newline)
        return (*(text for _, text in self._lines), *plain_lines(last))

    def _begin(self, of: tuple[Path, int], at: int) -> None:
        self._of, self._end, self._seam, self._bytes = of, at, b"", 0
        self._lines.clear()

    def _add(self, whole: bytes) -> None:
        """Lines of the log with the newline of each."""
        for line in whole[:-1].split(b"\n"):
            self._lines.append((len(line) + 1, next(iter(plain_lines(line)), "")))
        self._end += len(whole)
        self._bytes += len(whole)
        self._seam = whole[-SEAM_BYTES:]
        while self._bytes > TAIL_BYTES:
            self._bytes -= self._lines.popleft()[0]
