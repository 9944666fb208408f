"""When the feed looks: once a second while somebody is at the keys, ever less often after the last one, and never
faster than the screen draws what it found."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

News = TypeVar("News")

ATTENDED = 1.0  # seconds between two looks; after a key that changes something it looks at once
# A dashboard that is open all day must cost the trainer beside it nothing that can be measured: the longer no key, no
# mouse and no focus came, the longer the pause, a part of that time.
UNATTENDED = 10.0
PART = 1 / 30
SLOWEST = 5.0  # seconds that a look waits for the screen: one that is stuck must not stop alerts for ever


class Looks:
    """Shared by the feed's thread, which waits, and the screen's, which says that there is something to do.

    Args:
        clock: seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._touched = clock()
        self._wanted, self._over, self._drawn = threading.Event(), threading.Event(), threading.Event()
        self._drawn.set()
        self._undrawn, self._counting = 0, threading.Lock()  # a look that takes long is told in several parts

    def pause(self) -> float:
        """Seconds until the next look, if nothing asks for an earlier one."""
        return min(max((self._clock() - self._touched) * PART, ATTENDED), UNATTENDED)

    def touched(self) -> None:
        """Somebody is there. One who returns sees what is new at once."""
        returned = self.pause() > ATTENDED
        self._touched = self._clock()
        if returned:
            self._wanted.set()

    def at_once(self) -> None:
        self._wanted.set()

    def told_by(self, post: Callable[[News], object]) -> Callable[[News], object]:
        """The same `post`, of what is to be drawn before the next look."""

        def tell(found: News) -> None:
            with self._counting:  # first: the screen may be quick
                self._undrawn += 1
                self._drawn.clear()
            post(found)

        return tell

    def drawn(self) -> None:
        """The screen has drawn what was told once."""
        with self._counting:
            self._undrawn -= 1
            if not self._undrawn:
                self._drawn.set()

    def end(self) -> None:
        self._over.set()
        for waits in (self._wanted, self._drawn):
            waits.set()

    def first(self, breath: float) -> bool:
        """Wait so many seconds for the screen's first picture. Whether to look then."""
        self._over.wait(breath)
        return self._go()

    def next(self) -> bool:
        """Wait until it is time, and the screen has drawn the look before. Whether to look."""
        self._wanted.wait(self.pause())
        if not self._over.is_set():
            self._drawn.wait(SLOWEST)
        return self._go()

    def _go(self) -> bool:
        self._wanted.clear()  # what is asked for from now on is found by the look after the one that begins
        return not self._over.is_set()
