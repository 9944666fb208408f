"""What the job log, the run folders and the runs by hand tell: the reading half of `Manager`."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pidec_train.protocol.rundir import Workspace

from . import control
from .byhand import ByHand
from .joblog import JobLog
from .jobs import Alert, Job, JobEvent, JobState, MetricBlock, MetricPoint
from .machinelog import MachineBlock, MachineLog
from .metriclog import MetricLog
from .statedir import Places

if TYPE_CHECKING:  # it knows what a config may be, which takes long to import: a first paint goes without
    from .queueing import Queue

REBUILT = 40  # bits of `Manager.version` below the count of rebuilds
NO_RUNNER = "a runner: none is up (pidec-jobs runner start)"


class Reading:
    """Changes nothing.

    Attributes:
        workspace: its folders.
        state_dir: where the job log and the locks live: `<workspace>/jobs`, or a local folder for a workspace on a
            network file system.
    """

    def __init__(self, places: Places, log: JobLog) -> None:
        self.places = places
        self.workspace: Workspace = places.workspace
        self.state_dir: Path = places.state_dir
        self._log = log
        self._metrics = MetricLog(log)
        self._machine = MachineLog(log)
        self._by_hand = ByHand(places.workspace)

    @functools.cached_property
    def _queue(self) -> Queue:
        from .queueing import Queue

        return Queue(self._log, self.workspace)

    def runner_pid(self) -> int | None:
        """The runner's process id, None if none is up."""
        return control.runner_pid(self.places)

    def jobs(self) -> list[Job]:
        """All jobs: active first, then queued and held by position, then finished ones, newest first."""
        jobs = self._log.jobs()
        if any(job.state is JobState.queued for job in jobs) and self.runner_pid() is None:
            jobs = [_without_runner(job) for job in jobs]
        return jobs

    def by_hand(self) -> list[Job]:
        """The runs that somebody has started with pidec-train: running ones first, then the newest.

        They have negative ids, which `job`, `curves`, `latest`, `metric_names`, `events`, `log_path` and
        `checkpoint_dir` take, too. What would change one is refused.
        """
        return self._by_hand.jobs()

    def job(self, job_id: int) -> Job:
        """One job. Raises PidecError if there is none of that id."""
        if job_id < 0:
            return self._by_hand.job(job_id)
        job = self._queue.job(job_id)
        if job.state is JobState.queued and self.runner_pid() is None:
            job = _without_runner(job)
        return job

    def version(self) -> int:
        """A number that changes whenever anything in the job log has changed. Costs microseconds.

        `>> REBUILT` changes where a repair, by whomever, has numbered all rows anew: what was read of them is void.
        """
        replaced, version = self._log.version()
        return (replaced << REBUILT) + version

    def metric_names(self, job_id: int) -> list[str]:
        """The names of the job's curves, sorted."""
        return sorted(self._by_hand.latest(job_id)) if job_id < 0 else self._metrics.names(job_id)

    def metrics(
        self, job_id: int, *, key: str | None = None, after_row: int = 0, limit: int | None = None
    ) -> list[MetricPoint]:
        """Points with a `row_id` above `after_row`, oldest first, of at most `limit` lines.

        A full read (neither `after_row` nor `limit`) leaves out points that a later attempt has said again. One that
        goes on from its last row gets every new point; the later one counts there too.
        """
        return self._metrics.points(job_id, key=key, after_row=after_row, limit=limit)

    def curves(self, job_id: int, *, after_row: int = 0) -> list[MetricBlock]:
        """What lies behind `after_row`, as arrays: a million values in a tenth of a second.

        Earlier attempts come first. A full read leaves out the attempts before one that began from nothing, but not
        single points that a later attempt has said again: where two speak of one step, the reader takes the later one.
        """
        return self._by_hand.curves(job_id, after_row) if job_id < 0 else self._metrics.blocks(job_id, after_row)

    def machine(self, after: float, until: float) -> list[MachineBlock]:
        """What GPUs and host did between two moments (unix seconds), as far as jobs of the queue ran."""
        return self._machine.blocks(after, until)

    def taken_in(self, job_id: int, attempt: int) -> int:
        """How many bytes of an attempt's metrics.jsonl the job log has."""
        return int(self._log.attempt_columns(job_id, attempt, "offset")[0])

    def all_metric_names(self) -> list[str]:
        """The names of all jobs' curves, sorted."""
        return self._metrics.all_names()

    def tail(self, job_id: int, name: str, count: int) -> list[float]:
        """The newest `count` values of one curve, oldest first, without those that are no numbers."""
        if job_id < 0:
            value = self._by_hand.latest(job_id).get(name)
            return [] if value is None else [value]
        return self._metrics.tail(job_id, name, count)

    def latest(self, job_id: int) -> dict[str, float | None]:
        """The newest value of each curve, without looking through the curves."""
        return self._by_hand.latest(job_id) if job_id < 0 else self._metrics.latest(job_id)

    def events(self, job_id: int, *, after_row: int = 0) -> list[JobEvent]:
        """Events with a `row_id` above `after_row`, oldest first."""
        return self._by_hand.events(job_id, after_row) if job_id < 0 else self._metrics.events(job_id, after_row)

    def alerts(self, *, after_row: int = 0) -> list[Alert]:
        """Alerts of all jobs with a `row_id` above `after_row`, oldest first."""
        return self._metrics.alerts(after_row)

    def last_event(self) -> int:
        """The `row_id` of the newest event of any job: alerts behind it are new."""
        return self._metrics.last_event()

    def log_path(self, job_id: int, attempt: int | None = None) -> Path | None:
        """output.log of an attempt, by default the latest; None before there is one."""
        if job_id < 0:
            return None  # what a run by hand prints is on its terminal
        attempts = dict(self.workspace.run(job_id).attempts())
        number = attempt if attempt is not None else max(attempts, default=0)
        if number not in attempts:
            return None
        path = attempts[number].output
        return path if path.exists() else None

    def checkpoint_dir(self, job_id: int) -> Path:
        """The folder of the job's checkpoints; it need not exist yet."""
        if job_id < 0:
            return self._by_hand.checkpoint_dir(job_id)
        return self.workspace.checkpoint_dir(job_id, self._queue.job(job_id).name)

    def code_version(self, job_id: int) -> str:
        """Version and commit of the pidec that queued the job."""
        if job_id < 0:
            return ""
        return str(self._log.columns(self._queue.job(job_id).id, "code_version")[0])


def _without_runner(job: Job) -> Job:
    if job.state is JobState.queued and not job.waiting_for:
        return replace(job, waiting_for=NO_RUNNER)
    return job
