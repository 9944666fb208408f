"""The runner's part in alerts: looks at what runs, writes each alert down once, and says so to `on_alert`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from . import alerts
from .alerts import Key
from .attempts import AlertLine, append_alert
from .host import disk_free
from .joblog import JobLog
from .jobs import Job, JobEvent, JobState
from .metriclog import MetricLog
from .pulse import Pulse, grown
from .settings import Settings
from .statedir import Places

log = logging.getLogger("pidec.runner")

POLLS = 5  # of the runner between two looks
DISK_AGAIN = 1.2  # times the limit: enough room again


@dataclass
class _Watched:
    """One attempt that runs."""

    attempt: int
    known: set[Key] = field(default_factory=set)
    pulse: Pulse | None = None
    judged_row: int = -1  # that the findings go up to
    found: dict[Key, str] = field(default_factory=dict)
    last_event: int = 0
    evaluating: bool = False


class Alarm:
    """Belongs to the runner's thread.

    Args:
        settings: as they are now.
        tell: called with the job, the kind of alert and its sentence, once for each occurrence.
    """

    def __init__(
        self,
        joblog: JobLog,
        places: Places,
        settings: Callable[[], Settings],
        tell: Callable[[Job, str, str], None],
    ) -> None:
        self._log = joblog
        self._metrics = MetricLog(joblog)
        self._ws = places.workspace
        self._settings = settings
        self._tell = tell
        self._watched: dict[int, _Watched] = {}
        self._disk_low: bool | None = None
        self._looked = 0.0

    def look(self, active: Sequence[Job]) -> None:
        """Look at the jobs that run, every now and then."""
        if time.monotonic() - self._looked < POLLS * self._settings().poll_s:
            return
        self._looked = time.monotonic()
        running = [job for job in active if job.state is JobState.running and job.attempts]
        self._watched = {job.id: self._watched[job.id] for job in running if job.id in self._watched}
        for job in running:
            self._look_at(job)
        if running:
            self._look_at_disk(running[0])

    def ended(self, job: Job) -> None:
        """Write down that a job is over, or held after an interruption. Inside a write transaction."""
        kinds = {JobState.succeeded: alerts.DONE, JobState.failed: alerts.FAILED, JobState.held: alerts.HELD}
        kind = kinds.get(job.state)
        if kind is None:
            return
        took = f" after {alerts.span(job.ended - job.started)}" if job.ended and job.started else ""
        number = job.attempts[-1].number if job.attempts else 0
        self._put_down(job, number, AlertLine(time.time(), kind, "", job.reason or f"{job.state}{took}"))

    def command_failed(self, job: Job, text: str) -> None:
        """Write down that `on_end` or `on_alert` has failed for a job: nobody hears what it should have told. It is
        not told to `on_alert`."""
        with self._log.write():
            number = job.attempts[-1].number if job.attempts else 0
            self._put_down(job, number, AlertLine(time.time(), alerts.COMMAND, text.partition(" ")[0], text))

    def _look_at(self, job: Job) -> None:
        number = job.attempts[-1].number
        watched = self._watched.get(job.id)
        if watched is None or watched.attempt != number:
            watched = self._watched[job.id] = _Watched(number)
        watched.pulse = grown(watched.pulse, lambda row: self._metrics.blocks(job.id, row))
        for event in self._metrics.events(job.id, watched.last_event):
            watched.last_event = event.row_id
            if event.attempt == number:
                _take(watched, event)
        if watched.pulse.attempt != number:
            return  # it has yet to say something; an earlier attempt's curves are no sign of life
        if watched.judged_row != watched.pulse.last_row:  # else only time has passed
            watched.judged_row = watched.pulse.last_row
            watched.found = alerts.findings(watched.pulse, job, self._settings(), watched.known)
        found = dict(watched.found)
        silence = alerts.stalled(watched.pulse, self._settings(), time.time(), evaluating=watched.evaluating)
        if silence:
            found[alerts.STALLED, ""] = silence
        new = {key: text for key, text in found.items() if key not in watched.known}
        watched.known = set(found)
        for (kind, about), text in new.items():
            self._raise(job, number, kind, about, text)

    def _look_at_disk(self, job: Job) -> None:
        """Of the disk that the workspace is on; said to the job that has run for the longest."""
        free, limit = disk_free(self._ws.root), self._settings().disk_low_gib * 2**30
        low = free < limit * (DISK_AGAIN if self._disk_low else 1)
        said = self._disk_low is None and _said(self._metrics.events(job.id, 0))
        if low and not self._disk_low and not said:
            text = f"{free / 2**30:.1f} GiB are left on the disk of {self._ws.root}"
            self._raise(job, job.attempts[-1].number, alerts.DISK, "", text)
        self._disk_low = low

    def _raise(self, job: Job, attempt: int, kind: str, about: str, text: str) -> None:
        """Written down first: told at most once."""
        with self._log.write():
            self._put_down(job, attempt, AlertLine(time.time(), kind, about, text))
        log.info("job %d: alert %s: %s", job.id, kind, text)
        self._tell(job, kind, text)

    def _put_down(self, job: Job, attempt: int, alert: AlertLine) -> None:
        """In the job log, and in the attempt's folder, from which a lost job log is rebuilt."""
        self._metrics.add_alert(job.id, attempt, *alert)
        try:
            append_alert(self._ws.run(job.id).attempt(attempt), alert)
        except OSError as error:  # a full disk, which may be what it is about
            log.warning("job %d: the alert is not in its folder: %s", job.id, error)


def _take(watched: _Watched, event: JobEvent) -> None:
    """What an event of this attempt says: an evaluation begins or ends; an earlier runner has raised an alert."""
    if event.event == "eval":
        watched.evaluating = event.detail.get("phase") == "start"
    elif event.event == "alert":
        watched.known.add((str(event.detail.get("kind")), str(event.detail.get("about", ""))))


def _said(events: Sequence[JobEvent]) -> bool:
    """Whether an earlier runner has said of this job that the disk is low: a restart is no new occurrence."""
    return any(event.event == "alert" and event.detail.get("kind") == alerts.DISK for event in events)
