"""Where a run's time went: learning alone, learning beside an evaluation, waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class SharingMeter:
    """Adds up iterations and seconds, apart for when an evaluation shared the machine and when none did."""

    def __init__(self) -> None:
        self._seconds = {False: 0.0, True: 0.0}
        self._iterations = {False: 0, True: 0}
        self._waited: dict[str, float] = {}
        self._shared = False

    @contextmanager
    def measure(self, shared: bool) -> Iterator[None]:
        """Around some iterations; `count` says how many."""
        self._shared, began = shared, time.perf_counter()
        try:
            yield
        finally:
            self._seconds[shared] += time.perf_counter() - began

    def count(self, iterations: int) -> None:
        """How many ran within the last `measure`."""
        self._iterations[self._shared] += iterations

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Around waiting for `what`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._waited[what] = self._waited.get(what, 0.0) + time.perf_counter() - began

    def rate(self, shared: bool) -> float | None:
        """Iterations per minute; None if none ran so."""
        return self._iterations[shared] / self._seconds[shared] * 60 if self._iterations[shared] else None

    def lines(self) -> list[str]:
        """For the user, at the end."""
        told = []
        alone, beside = self.rate(False), self.rate(True)
        if alone and beside:
            told.append(
                f"while an evaluation ran beside it, training went at {beside:,.0f} iterations/min; "
                f"alone at {alone:,.0f} ({beside / alone - 1:+.0%})"
            )
        learned = sum(self._seconds.values())
        if self._waited:
            waits = ", ".join(f"{seconds:.1f} s for {what}" for what, seconds in self._waited.items())
            told.append(f"learning took {learned:.1f} s; waited {waits}")
        return told
