"""One line a job: what runs and how well, for `pidec-jobs top` and `pidec-tui --once`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pidec_train.protocol.metric_names import EVAL_SUCCESS_RATE

from .health import BEGINS, FINISHES, STALLED, Checkup
from .jobs import LANES, Job, JobState
from .manager import Manager
from .pulse import Pulse, grown, loss_name, success_name
from .reading import REBUILT

if TYPE_CHECKING:  # brings pydantic, which a first picture goes without
    from .settings import Settings


@dataclass(frozen=True)
class JobLine:
    """A job and how it does. None: not known.

    Attributes:
        rate, median: steps per minute now, and as this attempt had them before it became slow, see `Pulse.usual`; a run
            that has stalled, or waits for its last evaluation, has no rate and no end.
        loss: NaN where the newest value was no number.
        success: 0 to 1.
        interval: 95 % interval of the newest evaluation, where `success` is that one.
        health: one word, see `health`; "" of a job that is not active.
        why: what is wrong, a sentence.
        ends: when it will be over, of an active job; unix seconds.
    """

    job: Job
    rate: float | None = None
    median: float | None = None
    loss: float | None = None
    success: float | None = None
    ends: float | None = None
    interval: tuple[float, float] | None = None
    health: str = ""
    why: str = ""

    @property
    def against_median(self) -> float | None:
        """1.0 is as fast as ever."""
        return self.rate / self.median if self.rate is not None and self.median else None


class Overview:
    """Reads on from where it was, so that looking often costs little. Belongs to one thread.

    Args:
        clock: unix seconds.
    """

    def __init__(self, manager: Manager, clock: Callable[[], float] = time.time) -> None:
        self._manager = manager
        self._clock = clock
        self._pulses: dict[int, Pulse] = {}
        self._checkups: dict[int, Checkup] = {}
        self._rebuilt = 0  # see `Manager.version`

    def keep_up(self) -> None:
        """Forget what was read of a job log that a repair has rebuilt since: all its rows have new numbers."""
        rebuilt = self._manager.version() >> REBUILT
        if rebuilt != self._rebuilt:
            self._rebuilt, self._pulses, self._checkups = rebuilt, {}, {}

    def lines(self, jobs: Sequence[Job]) -> list[JobLine]:
        """A line for each of these jobs; what is over or waits is not looked at for its rate."""
        active = {job.id for job in jobs if job.state.active}
        self._pulses = {job_id: pulse for job_id, pulse in self._pulses.items() if job_id in active}
        self._checkups = {job_id: each for job_id, each in self._checkups.items() if job_id in active}
        return [self._line(job) for job in jobs]

    def _line(self, job: Job) -> JobLine:
        if job.state.active:
            return line_of(job, self.pulse(job), self._checkup(job), self._manager.settings, self._clock())
        latest = self._manager.latest(job.id)
        return JobLine(job, loss=latest.get(loss_name(latest)), success=latest.get(success_name(latest)))

    def _checkup(self, job: Job) -> Checkup:
        number = job.attempts[-1].number if job.attempts else 0
        checkup = self._checkups.get(job.id)
        if checkup is None or checkup.attempt != number:
            checkup = self._checkups[job.id] = Checkup(number)
        checkup.take(self._manager.events(job.id, after_row=checkup.last_event))
        return checkup

    def pulse(self, job: Job) -> Pulse:
        """The pulse of a job, brought up to date."""
        read = self._manager.curves
        pulse = grown(self._pulses.get(job.id), lambda row: read(job.id, after_row=row))
        self._pulses[job.id] = pulse
        return pulse


def line_of(job: Job, pulse: Pulse, checkup: Checkup, settings: Settings, now: float) -> JobLine:
    """The line of an active job. `now`: unix seconds."""
    health = checkup.health(pulse, job, settings, now)
    interval = checkup.interval(pulse.success) if pulse.success_name == EVAL_SUCCESS_RATE else None
    if health.word == BEGINS:  # pace and end would be those of the attempt before
        return JobLine(job, loss=pulse.loss, success=pulse.success, interval=interval, health=health.word)
    median = pulse.usual[0] if pulse.usual else None
    rate, ends = (None, None) if health.word in (STALLED, FINISHES) else (pulse.rate, pulse.ends(job))
    figures = (rate, median, pulse.loss, pulse.success, ends)
    return JobLine(job, *figures, interval, health.word, health.why)


def next_up(jobs: Sequence[Job]) -> list[Job]:
    """The queued job that each lane takes next, as the queue stands.

    Args:
        jobs: in the order of the queue, as `Manager.jobs` gives them.
    """
    first = {lane: next((j for j in jobs if j.lane == lane and j.state is JobState.queued), None) for lane in LANES}
    return [job for job in first.values() if job is not None]
