"""Where the time since the last row of metrics went."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class TimeShares:
    """Adds up seconds by the metric that tells their share.

    Args:
        lost: metrics of time that is no training (waiting for checkpoints, evaluations).
        spent: all others.
    """

    def __init__(self, lost: tuple[str, ...], spent: tuple[str, ...]) -> None:
        self._lost, self._names = lost, (*spent, *lost)
        self.restart()

    def restart(self) -> None:
        self._seconds = dict.fromkeys(self._names, 0.0)
        self._began = time.perf_counter()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Around time that counts for `name`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - began

    def shares(self) -> dict[str, float]:
        elapsed = self._elapsed()
        return {name: seconds / elapsed for name, seconds in self._seconds.items()}

    def per_minute(self, count: int) -> float:
        """Rate of `count` steps over the time that was training."""
        training = self._elapsed() - sum(self._seconds[name] for name in self._lost)
        return count / max(training, 1e-9) * 60

    def _elapsed(self) -> float:
        return max(time.perf_counter() - self._began, 1e-9)
