"""One line a job: what runs and how well, for `pidec-jobs top` and `pidec-tui --once`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .jobs import Job
from .manager import Manager
from .pulse import Pulse, grown, loss_name, success_name


@dataclass(frozen=True)
class JobLine:
    """A job and how it does. None: not known.

    Attributes:
        rate, median: steps per minute now, and of this attempt as a whole.
        loss: NaN where the newest value was no number.
        success: 0 to 1.
        ends: when it will be over, of an active job; unix seconds.
    """

    job: Job
    rate: float | None = None
    median: float | None = None
    loss: float | None = None
    success: float | None = None
    ends: float | None = None

    @property
    def against_median(self) -> float | None:
        """1.0 is as fast as ever."""
        return self.rate / self.median if self.rate is not None and self.median else None


class Overview:
    """Reads on from where it was, so that looking often costs little. Belongs to one thread."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._pulses: dict[int, Pulse] = {}

    def lines(self, jobs: Sequence[Job]) -> list[JobLine]:
        """A line for each of these jobs; what is over or waits is not looked at for its rate."""
        active = {job.id for job in jobs if job.state.active}
        self._pulses = {job_id: pulse for job_id, pulse in self._pulses.items() if job_id in active}
        return [self._line(job) for job in jobs]

    def _line(self, job: Job) -> JobLine:
        if job.state.active:
            pulse = self.pulse(job)
            return JobLine(job, pulse.rate, pulse.median, pulse.loss, pulse.success, pulse.ends(job))
        latest = self._manager.latest(job.id)
        return JobLine(job, loss=latest.get(loss_name(latest)), success=latest.get(success_name(latest)))

    def pulse(self, job: Job) -> Pulse:
        """The pulse of a job, brought up to date."""
        read = self._manager.curves
        pulse = grown(self._pulses.get(job.id), lambda row: read(job.id, after_row=row))
        self._pulses[job.id] = pulse
        return pulse
