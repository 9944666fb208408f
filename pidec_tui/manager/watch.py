"""Looking after one active attempt: has it started, what does it say, is it over, who is left of it."""

from __future__ import annotations

import logging
import signal
import subprocess
import time
import uuid
from collections.abc import Callable

from . import endings
from .attempts import give_up, read_exit
from .endings import Ending
from .ingest import Ingest
from .joblog import JobLog
from .jobs import Attempt, Job, JobEvent, JobState
from .lease import beats
from .locks import Lock
from .metriclog import MetricLog
from .procs import Started, kill_leftovers, signal_trainer
from .statedir import Places

log = logging.getLogger("pidec.runner")

FAILED_STARTS = 3  # shims of ours in a row that died before they started anything


class Watch:
    """Follows attempts until they are over, those of earlier runners like our own.

    Args:
        grace_s: seconds between SIGTERM and SIGKILL when a job is cancelled.
    """

    def __init__(self, joblog: JobLog, places: Places, grace_s: Callable[[], float]) -> None:
        self._log = joblog
        self._places = places
        self._ws = places.workspace
        self._metrics = MetricLog(joblog)
        self._ingest = Ingest(joblog, self._metrics)
        self._grace_s = grace_s
        self._shims: dict[str, subprocess.Popen[bytes]] = {}  # our own children, by token
        self._failed_starts: dict[int, int] = {}  # by job
        self._pressed: dict[str, float] = {}  # when a cancelled attempt got its SIGTERM, by token

    def own(self, token: str, shim: subprocess.Popen[bytes]) -> None:
        """Remember a shim that we started ourselves."""
        self._shims[token] = shim

    def look(self, job: Job) -> None:
        """Bring one active job up to date."""
        if not job.attempts or job.attempts[-1].state not in ("starting", "running"):
            # A move without its attempt cannot happen in one transaction; a rebuilt log may lack the folder.
            self._without_attempt(job)
            return
        attempt = job.attempts[-1]
        folder = self._ws.run(job.id).attempt(attempt.number)
        (token,) = self._log.attempt_columns(job.id, attempt.number, "token")
        started = Started.read(folder.path)
        if started is not None and attempt.state == "starting":
            job = self._running(job, attempt, started)
        self._ingest.step(job.id, attempt.number, job.kind, folder.metrics)
        if job.state is JobState.stopping and started is not None:
            self._press(token, started, job, attempt)
        ending = self._judge(job, attempt, token, started)
        if ending is not None:
            self._finish(job, attempt, token, ending)

    # --- steps -------------------------------------------------------------------------------------------------------

    def _running(self, job: Job, attempt: Attempt, started: Started) -> Job:
        """The shim has begun: `starting` becomes `running`."""
        if started.pid is None and started.shim_alive():
            return job  # it is about to tell the trainer's process id
        with self._log.write():
            self._log.update_attempt(job.id, attempt.number, state="running", pid=started.pid)
            self._log.update_job(job.id, fresh=0)
            current = self._log.find(job.id)
            assert current is not None
            if current.state is JobState.starting:
                self._log.move(job.id, JobState.running)
        self._failed_starts.pop(job.id, None)
        log.info("job %d: attempt %d runs as process %s", job.id, attempt.number, started.pid)
        return self._log.find(job.id) or job

    def _press(self, token: str, started: Started, job: Job, attempt: Attempt) -> None:
        """A cancel was asked for: SIGTERM at once, SIGKILL after the grace."""
        now = time.time()
        if token not in self._pressed:
            (asked,) = self._log.attempt_columns(job.id, attempt.number, "term_at")
            if asked is None:
                log.info("job %d: SIGTERM, as it was cancelled", job.id)
                signal_trainer(token, started, signal.SIGTERM)
                with self._log.write():
                    self._log.update_attempt(job.id, attempt.number, term_at=now)
            self._pressed[token] = asked or now
        elif now - self._pressed[token] > self._grace_s():
            log.info("job %d: SIGKILL, as it did not end by itself", job.id)
            signal_trainer(token, started, signal.SIGKILL)
            self._pressed[token] = now  # once more after another while, should it have survived in parts

    def _judge(self, job: Job, attempt: Attempt, token: str, started: Started | None) -> Ending | None:
        """Is it over? exit.json first, then the `end` event, then the lock. None: it goes on."""
        folder = self._ws.run(job.id).attempt(attempt.number)
        record = read_exit(folder)
        if record is not None:
            return endings.of_exit(record, folder)
        shim = self._shims.get(token)
        if shim is not None and shim.poll() is None:
            return None
        if started is not None and (started.shim_alive() or started.trainer_alive()):
            return None  # its shim will write exit.json; without one, the trainer's end event or its lock tells
        return self._judge_by_lock(job, attempt, token)

    def _judge_by_lock(self, job: Job, attempt: Attempt, token: str) -> Ending | None:
        """Neither shim nor trainer is known to live: take the lock, and look again while holding it."""
        folder = self._ws.run(job.id).attempt(attempt.number)
        path = self._places.attempt_lock(job.id, attempt.number)
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        started = Started.read(folder.path)
        ours = token in self._shims
        if not ours and beats(self._places, folder.path):
            return None  # alive on another machine, or it was until a moment ago
        lock = Lock.take(path)
        if lock is None and started is not None and started.pid is not None and not started.trainer_alive():
            kill_leftovers(token, started)  # children of a dead trainer keep the lock
            lock = Lock.take(path)
        if lock is None:
            return None  # held: adopted
        try:
            record = read_exit(folder)
            if record is not None:
                return endings.of_exit(record, folder)
            started = Started.read(folder.path)
            if started is not None and (started.shim_alive() or started.trainer_alive()):
                return None
            self._ingest.all(job.id, attempt.number, job.kind, folder.metrics)
            end = self._end_event(job.id, attempt.number)
            if end is not None:
                return endings.of_event(end)
            give_up(folder, uuid.uuid4().hex)
            if started is None and job.state is not JobState.starting and attempt.state != "starting":
                return Ending(JobState.interrupted, "its run folder was removed")
            if started is None:
                self._never_started(job, attempt, token)
                return None
            return endings.of_loss(started.this_boot)
        finally:
            lock.release()

    def _never_started(self, job: Job, attempt: Attempt, token: str) -> None:
        """The launch was given up before a trainer existed: as if it had not been claimed."""
        ours = self._shims.pop(token, None) is not None
        count = self._failed_starts.get(job.id, 0) + (1 if ours else 0)
        self._failed_starts[job.id] = count
        if count >= FAILED_STARTS:
            output = self._ws.run(job.id).attempt(attempt.number).output
            self._failed_starts.pop(job.id)
            self._settle(job, attempt, Ending(JobState.failed, f"its shim died {count} times, see {output}"))
            return
        self.unclaim(job.id, attempt.number, "")
        log.info("job %d: attempt %d was never started, it is queued again", job.id, attempt.number)

    def unclaim(self, job_id: int, number: int, waiting_for: str) -> None:
        """Put a job whose attempt never began back into the queue."""
        with self._log.write():
            job = self._log.find(job_id)
            assert job is not None
            if job.state is JobState.stopping:
                ending = Ending(JobState.interrupted, "it had not begun")
                endings.settle(self._log, self._ws, job, number, ending, now=time.time())
                return
            self._log.delete_attempt(job_id, number)
            self._log.move(job_id, JobState.queued, waiting_for=waiting_for, started=_last_start(job, number))

    def _finish(self, job: Job, attempt: Attempt, token: str, ending: Ending) -> None:
        """It is over: read the rest of what it said, end what is left of it, write the ending down."""
        folder = self._ws.run(job.id).attempt(attempt.number)
        self._ingest.all(job.id, attempt.number, job.kind, folder.metrics)
        shim = self._shims.pop(token, None)
        if shim is not None:
            try:
                shim.wait(timeout=2)  # it has written exit.json, so it is about to end
            except subprocess.TimeoutExpired:
                log.warning("job %d: its shim does not end", job.id)
        left = kill_leftovers(token, Started.read(folder.path))
        if left:
            log.info("job %d: ended %d processes that attempt %d had left", job.id, left, attempt.number)
        self._pressed.pop(token, None)
        if job.kind == "demos":
            self._note_progress(job, attempt)
        self._settle(job, attempt, ending)

    def _settle(self, job: Job, attempt: Attempt, ending: Ending) -> None:
        with self._log.write():
            current = self._log.find(job.id)  # a cancel may have come in between
            if current is None or not current.state.active:
                return
            end = self._end_event(job.id, attempt.number)
            said = str(end.detail.get("reason") or "") if end else ""
            now = time.time()
            new = endings.settle(self._log, self._ws, current, attempt.number, ending, now=now, end_reason=said)
        log.info("job %d: attempt %d %s (%s); now %s", job.id, attempt.number, ending.state, ending.cause, new)

    def _without_attempt(self, job: Job) -> None:
        with self._log.write():
            number = max((attempt.number for attempt in job.attempts), default=0) + 1
            self._log.insert_attempt(job.id, number, state="starting", token=uuid.uuid4().hex, started=time.time())

    def _note_progress(self, job: Job, attempt: Attempt) -> None:
        """Demos have no checkpoints but go on from their file: getting further counts as one."""
        steps = self._metrics.furthest(job.id)
        before = max((step for number, step in steps.items() if number < attempt.number), default=0)
        if steps.get(attempt.number, 0) > before:
            with self._log.write():
                self._log.update_attempt(job.id, attempt.number, new_checkpoint=1)

    def _end_event(self, job_id: int, number: int) -> JobEvent | None:
        found = [event for event in self._metrics.events(job_id, 0) if event.attempt == number and event.event == "end"]
        return found[-1] if found else None


def _last_start(job: Job, without: int) -> float | None:
    starts = [attempt.started for attempt in job.attempts if attempt.number != without]
    return starts[-1] if starts else None
