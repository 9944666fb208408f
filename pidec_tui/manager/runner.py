"""The runner: its own process, one per workspace. Claims, launches, reads metrics, finishes.

    python -m pidec_tui.manager.runner --workspace DIR

It holds runner.lock as long as it lives. Killed at any moment, it loses nothing: everything it knows stands in the job
log and the run folders, and the next runner goes on from there.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pidec_train.protocol.errors import EXIT_FAILED, PidecError, RunFailed

from . import claims, repair
from .alarm import Alarm
from .environment import missing_keys
from .gpus import GpuMonitor
from .hooks import Hooks
from .joblog import JobLog, JobLogError
from .jobs import Job, JobState
from .lanes import GpuLane, Slot
from .lease import Lease
from .locks import Lock
from .metriclog import MetricLog
from .otherqueue import QueueNote, check_other_queue
from .queueing import write_spec_of
from .sampling import Sampler
from .settings import Settings, load_settings
from .statedir import Places
from .waiting import dead_predecessor, waiting_sentence
from .watch import Watch

log = logging.getLogger("pidec.runner")

SETTINGS_S = 5.0  # between two looks at the settings files
REVIEW_S = 2.0  # between two looks at why jobs wait, while nothing in the log changes
TOUCH_S = 600.0  # between two touches of slot locks, so that nothing cleans them away for their age
LOCK_WAIT_S = 2.0  # others test runner.lock for an instant
PATIENCE_S = 600.0  # how long a locked or full job log is put up with
LOG_BYTES = 5_000_000
RETRY_LAUNCH_S = 10.0


class Runner:
    """One runner. `run` returns when it was asked to stop, or has been idle for long enough."""

    def __init__(self, places: Places, joblog: JobLog, settings: Settings, monitor: GpuMonitor, lease: Lease) -> None:
        self._places = places
        self._ws = places.workspace
        self._log = joblog
        self._metrics = MetricLog(joblog)
        self._settings = settings
        self._settings_read = time.monotonic()
        self._lease = lease
        self._gpus = GpuLane(monitor, lambda: self._settings.foreign_gpu_gib)
        self._watch = Watch(joblog, places, lambda: self._settings.cancel_grace_s)
        self._alarm = Alarm(joblog, places, lambda: self._settings, self._tell)
        self._hooks = Hooks(places.workspace.root, self._alarm.command_failed)
        self._sampler = Sampler(joblog, monitor, places.workspace.root)
        self._stopping = False
        self._wake, self._waker = os.pipe()
        self._idle_since = time.monotonic()
        self._reviewed: tuple[tuple[int, int], float] = ((0, 0), 0.0)
        self._slots_touched = time.monotonic()
        self._not_before: dict[int, float] = {}  # jobs that could not be launched, by the time of the next try

    def stop(self) -> None:
        """End after the present tick. Jobs keep running.

        Called from signal handlers, so by a pipe: a `threading.Event` that is set while the same thread is about to
        wait for it locks up.
        """
        self._stopping = True
        os.write(self._waker, b"x")

    def _pause(self, seconds: float) -> None:
        select.select([self._wake], [], [], seconds)

    def run(self) -> None:
        """Tick until stopped or idle. A job log that is locked or full is put up with for ten minutes.

        Raises:
            JobLogError: it stayed unusable.
            RunFailed: a runner on another machine has taken over.
        """
        trouble_since: float | None = None
        while not self._stopping:
            try:
                self._lease.beat()
                self.tick()
                trouble_since = None
            except RunFailed:
                raise
            except (JobLogError, OSError, PidecError) as error:
                now = time.monotonic()
                if trouble_since is None:
                    trouble_since = now
                    log.warning("%s", error)
                if now - trouble_since > PATIENCE_S:
                    raise
                self._pause(1.0)
            if self._idle_for() > self._settings.idle_minutes * 60:
                log.info("nothing to do for %g minutes", self._settings.idle_minutes)
                return
            self._pause(self._settings.poll_s)
        self._sampler.flush()

    def tick(self) -> None:
        """Look at everything once."""
        self._refresh_settings()
        active = self._log.in_state(JobState.starting, JobState.running, JobState.stopping)
        for job in active:
            self._watch.look(job)
        self._alarm.look(active)
        self._sampler.look(active)
        self._review()
        self._announce()
        self._hooks.poll()
        if active or self._hooks.busy:
            self._idle_since = time.monotonic()
        self._touch_slots()

    # --- starting jobs -----------------------------------------------------------------------------------------------

    def _review(self) -> None:
        """Start the queued jobs that can start, say of the others what they wait for."""
        version, now = self._log.version(), time.monotonic()
        if version == self._reviewed[0] and now - self._reviewed[1] < REVIEW_S:
            return
        for job_id, lane, waiting_for in self._queued():
            self._idle_since = time.monotonic()
            if self._stopping:
                return
            sentence = self._consider(job_id, lane)
            if sentence is not None and sentence != waiting_for:
                with self._log.write():
                    self._log.rows(
                        "UPDATE jobs SET waiting_for = ? WHERE id = ? AND state = 'queued'", (sentence, job_id)
                    )
        self._reviewed = (self._log.version(), now)

    def _queued(self) -> list[tuple[int, str, str]]:
        sql = "SELECT id, lane, waiting_for FROM jobs WHERE state = 'queued' ORDER BY position, id"
        return [(row[0], row[1], row[2]) for row in self._log.rows(sql)]

    def _consider(self, job_id: int, lane: str) -> str | None:
        """Start a job if it can start. Otherwise what it waits for; None if it waits no longer."""
        job = self._log.find(job_id)
        if job is None or job.state is not JobState.queued:
            return None
        states = self._log.states(job.after)
        dead = dead_predecessor(states)
        if dead:
            with self._log.write():
                self._log.move(job_id, JobState.held, reason=dead, waiting_for="")
                write_spec_of(self._log, self._ws, job_id)
            return None
        waits = waiting_sentence(states)
        if waits:
            return waits
        if self._not_before.get(job_id, 0.0) > time.monotonic():
            return job.waiting_for
        slot = self._slot(job_id, lane)
        if isinstance(slot, str):
            return slot
        try:
            return self._start(job_id, slot)
        finally:
            slot.let_go()

    def _slot(self, job_id: int, lane: str) -> Slot | str:
        active = self._log.rows(
            "SELECT jobs.id, lane, gpu FROM jobs JOIN attempts ON attempts.job = jobs.id "
            "WHERE jobs.state IN ('starting', 'running', 'stopping') AND attempts.state IN ('starting', 'running')"
        )
        if lane == "gpu":
            running = {gpu: other for other, _, gpu in active if gpu}
            (environ,) = self._log.columns(job_id, "environment")
            return self._gpus.take(job_id, self._ws.root, claims.stored_environment(environ), running)
        others = sorted(other for other, of_lane, _ in active if of_lane == "cpu")
        if len(others) < self._settings.cpu_slots:
            return Slot()
        limit = self._settings.cpu_slots
        return f"the cpu lane: job {others[0]} runs there" if limit == 1 else f"the cpu lane: {limit} jobs run there"

    def _start(self, job_id: int, slot: Slot) -> str | None:
        claimed = claims.claim(self._log, self._ws, job_id, slot.gpu)
        if claimed is None:
            return None
        try:
            shim = claims.start(self._log, self._places, claimed, slot)
        except OSError as error:
            self._not_before[job_id] = time.monotonic() + RETRY_LAUNCH_S
            sentence = f"another try: it could not be started ({error.strerror or error})"
            self._watch.unclaim(job_id, claimed.number, sentence)
            log.warning("job %d: could not be started: %s", job_id, error)
            return sentence
        self._not_before.pop(job_id, None)
        self._watch.own(claimed.token, shim)
        log.info("job %d: attempt %d starts on %s", job_id, claimed.number, slot.gpu or "the cpu lane")
        warning = missing_keys(claimed.config)
        if warning:
            with self._log.write():
                self._metrics.add_note(job_id, claimed.number, time.time(), warning)
        return None

    # --- the rest ----------------------------------------------------------------------------------------------------

    def _announce(self) -> None:
        """Run `on_end` for the jobs that have ended since. Marked first: at most once."""
        for (job_id,) in self._log.rows("SELECT id FROM jobs WHERE announce ORDER BY ended"):
            with self._log.write():
                self._log.update_job(job_id, announce=0)
                job = self._log.find(job_id)
                if job is not None:
                    self._alarm.ended(job)
            if job is not None and self._settings.on_end:
                self._hooks.start(
                    self._settings.on_end, job, self._metrics.latest(job_id), self._settings.on_end_timeout_s
                )

    def _tell(self, job: Job, kind: str, text: str) -> None:
        """Run `on_alert`."""
        if self._settings.on_alert:
            latest, limit = self._metrics.latest(job.id), self._settings.on_alert_timeout_s
            self._hooks.start(self._settings.on_alert, job, latest, limit, alert=(kind, text))

    def _refresh_settings(self) -> None:
        if time.monotonic() - self._settings_read < SETTINGS_S:
            return
        self._settings_read = time.monotonic()
        try:
            self._settings = load_settings(self._ws.jobs)
        except PidecError as error:
            log.warning("%s: the settings stay as they were", error)

    def _touch_slots(self) -> None:
        if time.monotonic() - self._slots_touched < TOUCH_S:
            return
        self._slots_touched = time.monotonic()
        self._gpus.touch(
            row[0]
            for row in self._log.rows(
                "SELECT gpu FROM attempts WHERE state IN ('starting', 'running') AND gpu IS NOT NULL"
            )
        )

    def _idle_for(self) -> float:
        return time.monotonic() - self._idle_since


def main(argv: Sequence[str] | None = None) -> int:
    """Run a runner. 0: it stopped, was idle, or another one is up; 1: it could not work."""
    parser = argparse.ArgumentParser(prog="pidec-runner", description="The runner of one workspace")
    parser.add_argument("--workspace", required=True, type=Path)
    options = parser.parse_args(argv)
    os.umask(0o077)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO, stream=sys.stderr)
    places = Places.of(options.workspace.absolute())
    try:
        places.make()
        lock = Lock.take(places.runner_lock, wait_s=LOCK_WAIT_S)
        if lock is None:
            return 0  # one is up
        lock.write("")  # doors wait for the process id: it is put down once this runner is fit for work
        _trim(places.runner_log)
        lease = Lease(places)
        lease.beat()
        settings = load_settings(places.workspace.jobs)
        runner = Runner(places, repair.open_log(places), settings, GpuMonitor(), lease)
        log.info("runner %d of %s", os.getpid(), places.workspace.root)
        try:
            check_other_queue(places)
        except PidecError as error:
            log.warning("%s", error)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: runner.stop())
        note = QueueNote(places)
        note.put_down()
        lock.write(str(os.getpid()))
        try:
            runner.run()
        finally:
            note.take_away()
            lease.release()
            lock.release()  # a thread that hangs in the driver can keep this process from ending, and the lock with it
    except (PidecError, OSError) as error:
        log.error("runner ends: %s", error)
        return EXIT_FAILED
    log.info("runner %d ends", os.getpid())
    return 0


def _trim(path: Path) -> None:
    """Keep the log small: when a runner starts and the log has grown long, its second half stays."""
    if path.exists() and path.stat().st_size > LOG_BYTES:
        data = path.read_bytes()[-LOG_BYTES // 2 :]
        path.write_bytes(data[data.find(b"\n") + 1 :])


if __name__ == "__main__":
    sys.exit(main())
