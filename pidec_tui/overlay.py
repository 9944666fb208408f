"""Which runs are drawn side by side: jobs that were marked, and groups marked as one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from .manager.jobs import Job

if TYPE_CHECKING:
    from .runtraces import RunTrace

Key: TypeAlias = int | str  # a job, or a group by its name
LETTERS = "ABCDEFGHIJKL"
MOST_LINES = 8  # runs and groups that are marked: more are not told apart
MOST_RUNS = 32  # that are read beside the selected one, those of groups counted one by one: each takes memory


@dataclass
class Overlay:
    """The marks, and what was read of them.

    Attributes:
        marked: in the order in which they were marked.
        baseline: what the others are told against, one of the marked ones; None: nothing.
        runs: as the feed read them.
    """

    marked: list[Key] = field(default_factory=list)
    baseline: Key | None = None
    runs: Mapping[Key, RunTrace] = field(default_factory=dict)

    def order(self) -> tuple[Key, ...]:
        """The baseline first, so that it is A."""
        return tuple(sorted(self.marked, key=lambda key: key != self.baseline))

    def key_of(self, job: Job) -> Key | None:
        """The mark that a job is drawn by: its own, else that of its group."""
        return next((key for key in (job.id, job.group_name) if key and key in self.marked), None)

    def letter(self, job: Job) -> str:
        """`A=` of the baseline, `B` of another one, "" of a job without a mark."""
        key = self.key_of(job)
        if key is None:
            return ""
        return LETTERS[self.order().index(key)] + ("=" if key == self.baseline else "")

    def toggle(self, key: Key) -> None:
        if key in self.marked:
            self.marked.remove(key)
            if key == self.baseline:
                self.baseline = None
        else:
            self.marked.append(key)


def members(key: Key, jobs: Iterable[Job]) -> list[Job]:
    """The jobs behind a mark, oldest first."""
    return sorted((job for job in jobs if key in (job.id, job.group_name)), key=lambda job: job.id)


def counted(keys: Iterable[Key], jobs: Iterable[Job]) -> int:
    """How many runs are read for these marks."""
    jobs = list(jobs)
    return len({job.id for key in keys for job in members(key, jobs)})
