"""Jobs that are asked for, before they are rows of the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .presets import with_first
from .sweep import Combination, renamed


@dataclass(frozen=True)
class NewJob:
    """A job that is asked for. See `Manager.add`.

    Attributes:
        from_workspace: values whose relative paths count from the workspace (a preset's); `values` win.
    """

    kind: str
    values: Mapping[str, Any]
    from_workspace: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    lane: str | None = None
    preset: str | None = None
    after: Sequence[int] = ()
    group: str = ""

    def behind(self, job_id: int) -> NewJob:
        """The same after that job, with its checkpoint where the values ask for it."""
        return replace(
            self,
            values=with_first(self.values, job_id),
            from_workspace=with_first(self.from_workspace, job_id),
            after=[*self.after, job_id],
        )


def swept(job: NewJob, sweep: Sequence[Combination]) -> list[NewJob]:
    """This job once for each combination of a sweep, with names that tell them apart, as a group."""
    base = job.name or job.preset or job.kind
    return [
        replace(
            job,
            values={**job.values, **each.values},
            name=renamed(base, each.label),
            group=job.group or base,
        )
        for each in sweep
    ]
