"""Opening the job log, and rebuilding it from the run folders."""

from __future__ import annotations

from dataclasses import dataclass

from .joblog import JobLog
from .statedir import Places


@dataclass(frozen=True)
class RepairReport:
    """What a rebuild found: jobs and points that are back, run folders without a readable spec.json."""

    jobs: int
    points: int
    unreadable: tuple[str, ...]
    set_aside: str


def open_log(places: Places) -> JobLog:
    """The workspace's job log."""
    return JobLog(places.db)
