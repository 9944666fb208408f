"""The thread behind a log on the screen: it looks after the file, reads the lines around where the user is, searches,
and tells of it by messages. Whatever becomes of the file is said once, and the thread goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from textual.message import Message

from .logfile import MOST_FOUND, LogFile, LogLine, Scan
from .messages import FeedMessage

EVERY = 0.5  # seconds between two looks at the file
TELL_EVERY = 0.15  # while a search goes on
SLICE = 0.03  # seconds of searching before what the user wants next is looked at


@dataclass(frozen=True)
class Wish:
    """Which lines are to be read: so many before and from a byte on; None: before the end."""

    at: int | None = None
    before: int = 200
    after: int = 0


@dataclass(frozen=True)
class Found:
    """What a search has found so far.

    Attributes:
        count: lines.
        place: which of them was gone to, from 1; None: none.
        share: how much of the file was searched, 0 to 1.
        busy: it goes on.
        limited: there were too many; the oldest are left out.
    """

    word: str
    count: int
    place: int | None
    share: float
    busy: bool
    limited: bool


@dataclass(frozen=True)
class LogWindow:
    """A part of a log.

    Attributes:
        lines: those that were wished for, as far as they are there.
        wish: what was wished for.
        first, last: whether there is nothing before, behind them.
        size: of the whole log, bytes.
        begun: counts the logs that were begun: another number, another file.
        jumps: counts how often a match was gone to; `match` is the byte where its line begins.
        note: a sentence, where there are no lines.
    """

    lines: tuple[LogLine, ...] = ()
    wish: Wish = Wish()
    first: bool = True
    last: bool = True
    size: int = 0
    begun: int = 0
    jumps: int = 0
    match: int | None = None
    found: Found | None = None
    kept: Found | None = None
    note: str = ""


class LogRead(FeedMessage):
    """What a log looks like now around where the user is."""

    def __init__(self, window: LogWindow) -> None:
        super().__init__()
        self.window = window


class LogSaid(Message, bubble=False):
    """Something became of the file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class LogReader:
    """Reads one job's log in its own thread (`run`). The UI thread calls the other methods: they only leave word.

    Args:
        where: gives the path of the log, None before there is one.
        post: the only way out.
    """

    def __init__(self, where: Callable[[], Path | None], post: Callable[[Message], object]) -> None:
        self._where = where
        self._post = post
        self._todo: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._file: LogFile | None = None
        self._wish = Wish()
        self._find = ""
        self._only = ""
        self._found: Scan | None = None  # lines with what is looked for
        self._kept: Scan | None = None  # the only lines that are shown
        self._match: int | None = None
        self._unmet = False  # go to the match before `_match` (None: the last) as soon as there is one
        self._begun = self._jumps = 0
        self._said = ""  # what does not work right now
        self._news = True
        self._next_look = self._next_tell = 0.0

    # --- called from the UI thread

    def ask(self, wish: Wish) -> None:
        """Read these lines from now on."""
        self._todo.put(lambda: self._take_wish(wish))

    def find(self, word: str) -> None:
        """Look for a word, and go to where it stands last; "" ends it."""
        self._todo.put(lambda: self._take_find(word))

    def keep_only(self, word: str) -> None:
        """Give only lines with this word; "" gives all."""
        self._todo.put(lambda: self._take_only(word))

    def jump(self, by: int, here: int | None = None) -> None:
        """Go to the next (1) or previous (-1) match from the line at byte `here`, by default from the one that was gone
        to last; round the ends."""
        self._todo.put(lambda: self._take_jump(by, here))

    def stop_search(self) -> None:
        """Leave what was not searched yet."""
        self._todo.put(self._take_stop)

    def end(self) -> None:
        """End the thread."""
        self._todo.put(None)

    # --- the thread

    def run(self) -> None:
        try:
            while self._hear(self._tick()):
                pass
        finally:
            self._close()

    def _hear(self, wait: float) -> bool:
        """Do what was left word of. Returns False at the end."""
        try:
            todo = self._todo.get(timeout=wait) if wait > 0 else self._todo.get_nowait()
            while todo is not None:
                todo()
                self._news = True
                self._next_tell = 0.0
                todo = self._todo.get_nowait()
        except Empty:
            return True
        except OSError as error:
            self._trouble(error)
            return True
        return False

    def _tick(self) -> float:
        """Look, search, tell. Returns how many seconds there is nothing to do after it."""
        try:
            now = time.monotonic()
            if now >= self._next_look:
                self._next_look = now + EVERY
                self._look()
            busy = self._search(now + SLICE)
            now = time.monotonic()
            if self._news and now >= self._next_tell:
                self._tell()
            if busy:
                return 0.0
            return (min(self._next_tell, self._next_look) if self._news else self._next_look) - now
        except OSError as error:
            self._trouble(error)
            return EVERY

    def _trouble(self, error: OSError) -> None:
        """Say it once; what was read stays on the screen, and it is tried again."""
        self._close()
        text = f"The log cannot be read: {error.strerror or error}. It is tried again."
        if self._say_once(text) and not self._begun:
            self._post(LogRead(LogWindow(wish=self._wish, note=text)))

    def _say_once(self, text: str) -> bool:
        """Returns whether it was not said before."""
        news, self._said = text != self._said, text
        if news and text:
            self._post(LogSaid(text))
        return news

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._found = self._kept = None

    def _look(self) -> None:
        """Whether the file is still the same, and longer."""
        path, file = self._where(), self._file
        if path is None:
            if file is not None:  # an open file outlives its name
                self._say_once(f"{file.path.name} is gone; what was in it can still be read here.")
            return
        if file is None or path != file.path or not file.is_at(path):
            self._open(path, "" if file is None else "Another log began; this is the new one.")
            return
        size = file.size
        if not file.refresh():
            self._open(path, "The log was begun anew.")
        elif file.size != size:
            self._news = True
        self._say_once("")

    def _open(self, path: Path, why: str) -> None:
        self._close()
        self._file = LogFile(path)
        self._begun += 1
        self._wish, self._match, self._news = Wish(before=self._wish.before), None, True
        self._scan()
        self._said = ""
        if why:
            self._post(LogSaid(why))
        if self._file.binary():
            self._post(LogSaid("The log holds bytes that are no text; they are shown as blanks."))

    # --- what was asked for

    def _take_wish(self, wish: Wish) -> None:
        self._wish = wish

    def _take_find(self, word: str) -> None:
        self._find, self._match, self._unmet = word, None, bool(word)
        self._found = None
        self._scan()

    def _take_only(self, word: str) -> None:
        self._only, self._kept = word, None
        self._match, self._found = None, None
        self._scan()

    def _take_stop(self) -> None:
        for scan in (self._found, self._kept):
            if scan is not None:
                scan.stop()

    def _take_jump(self, by: int, here: int | None) -> None:
        if self._found is None:
            return
        if here is None:
            here = self._match if self._match is not None else self._found.end
        found = self._found.after(here + 1, 1) if by > 0 else self._found.before(here, 1)
        if not found and by < 0 and self._found.busy:
            self._match, self._unmet = here, True  # older ones may still come
            return
        self._go(found[0] if found else self._found[0 if by > 0 else -1] if len(self._found) else None)

    def _go(self, match: int | None) -> None:
        self._unmet = False
        if match is not None:
            self._match = match
            self._jumps += 1
            many = max(self._wish.before, self._wish.after)
            self._wish = Wish(match, many, many)

    # --- searching

    def _scan(self) -> None:
        """Begin the searches that are wanted and not begun."""
        if self._file is None:
            return
        if self._only and self._kept is None:
            self._kept = Scan(self._file, [self._only])
        if self._find and self._found is None:
            self._found = Scan(self._file, [word for word in (self._find, self._only) if word])

    def _search(self, until: float) -> bool:
        scans = [scan for scan in (self._kept, self._found) if scan is not None]
        while any(scan.busy for scan in scans) and time.monotonic() < until:
            for scan in scans:
                if scan.busy:
                    scan.step()
                    self._news = True
            if self._unmet and self._found is not None:
                self._meet()
        return any(scan.busy for scan in scans)

    def _meet(self) -> None:
        """Go to the match that was waited for, if it is there now."""
        scan = self._found
        if scan is None:
            return
        found = scan.before(self._match, 1) if self._match is not None else scan.before(scan.end, 1)
        if found:
            self._go(found[0])
        elif not scan.busy:
            self._go(scan[-1] if len(scan) else None)

    # --- telling

    def _tell(self) -> None:
        self._news = False
        self._next_tell = time.monotonic() + TELL_EVERY
        if self._file is None:
            if not self._begun:
                note = self._said or "No log yet: the job has not started."
                self._post(LogRead(LogWindow(wish=self._wish, note=note)))
            return
        file, kept, wish = self._file, self._kept, self._wish
        at = file.size if wish.at is None else min(wish.at, file.size)
        if kept is None:
            lines = (*file.before(at, wish.before), *file.after(at, wish.after))
            first = not lines or lines[0].start == 0
        else:
            starts = [*kept.before(at, wish.before), *kept.after(at, wish.after)]
            lines = tuple(map(file.line, starts))
            first = not kept.busy and (not lines or lines[0].start == kept[0])
        last = not lines or lines[-1].start == (kept[-1] if kept else file.line_start(file.size - 1))
        note = ""
        if not lines:
            note = _nothing(kept)
        self._post(
            LogRead(
                LogWindow(
                    lines, wish, first, last, file.size, self._begun, self._jumps, self._match,
                    self._told(self._found, self._find), self._told(kept, self._only), note,
                )
            )
        )  # fmt: skip

    def _told(self, scan: Scan | None, word: str) -> Found | None:
        if scan is None:
            return None
        place = scan.rank(self._match) if scan is self._found and self._match is not None else None
        return Found(word, len(scan), place, scan.share, scan.busy, len(scan) >= MOST_FOUND)


def _nothing(kept: Scan | None) -> str:
    """What is said where there are no lines."""
    if kept is None:
        return "The log is empty so far."
    return "No line holds it so far." if kept.busy else "No line holds it."
