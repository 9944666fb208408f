"""Reads what runs are sorted by: of each job the end of one curve, some jobs at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .manager.jobs import Job
from .manager.manager import Manager
from .ranking import ROWS, smoothed_last

SECONDS = 0.1  # of one look: a thousand jobs are read in several, and what is read is shown


class Ranks:
    """Belongs to the feed's thread, but for `by`.

    Attributes:
        metric: that is read; "": none.
        values: the smoothed last value of each job that has one.
    """

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._wanted = self._of = ("", 0.0)
        self._read: dict[int, object] = {}  # what each job looked like when it was read
        self.values: dict[int, float] = {}

    @property
    def metric(self) -> str:
        return self._of[0]

    def by(self, metric: str, weight: float) -> None:
        """From now on this metric, averaged with this weight."""
        self._wanted = (metric, weight)

    def forget(self) -> None:
        """Read all jobs again: the job log was rebuilt. What is known is shown until then."""
        self._read = {}

    def read(self, jobs: Sequence[Job]) -> bool:
        """Go on reading. Whether there is news."""
        if self._wanted != self._of:
            self._of, self.values, self._read = self._wanted, {}, {}
        metric, weight = self._of
        if not metric:
            return False
        news, until = False, time.monotonic() + SECONDS
        for job in jobs:
            looks = (job.ended, job.step, len(job.attempts))
            if job.state.waiting or self._read.get(job.id) == looks:
                continue
            value = smoothed_last(self._manager.tail(job.id, metric, ROWS), weight)
            self._read[job.id], news = looks, True
            if value is None:
                self.values.pop(job.id, None)
            else:
                self.values[job.id] = value
            if time.monotonic() > until:
                break
        return news
