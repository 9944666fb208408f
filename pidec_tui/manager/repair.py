"""Opening the job log, and rebuilding it from the run folders alone: spec.json, attempts, metrics, exit.json."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from pidec_train.protocol.config import CONFIG_MODELS, parse_config
from pidec_train.protocol.errors import PidecError, RunFailed
from pidec_train.protocol.rundir import AttemptDir, Spec, Workspace

from . import endings, specs
from .attempts import AttemptNote, read_alerts, read_exit, read_note
from .ingest import Ingest
from .joblog import JobLog, JobLogDamaged, is_missing
from .jobs import JobState
from .lease import beats
from .locks import Lock, is_held
from .metriclog import MetricLog
from .procs import Started
from .queueing import CANCELLED_BY_HAND, write_spec_of
from .statedir import Places
from .waiting import dead_predecessor, waiting_sentence

WAIT_S = 120.0  # for another process that rebuilds


@dataclass(frozen=True)
class RepairReport:
    """What a rebuild found.

    Attributes:
        jobs, points: how many jobs and metric values are back.
        unreadable: run folders without a usable spec.json; their ids stay used up.
        set_aside: where the damaged job log is now, "" if there was none.
    """

    jobs: int
    points: int
    unreadable: tuple[str, ...]
    set_aside: str


def open_log(places: Places) -> JobLog:
    """The workspace's job log; created, or rebuilt where there are run folders but no job log.

    Raises:
        PidecError: it cannot be used; the line says why.
    """
    return JobLog(places.db, make=lambda: make_missing(places))


def repair(places: Places) -> RepairReport:
    """Rebuild the job log, whatever its state. A damaged one is set aside, never deleted. No runner may be up."""
    with _alone(places):
        try:
            log = JobLog(places.db)
            log.check()
        except JobLogDamaged:
            aside = _set_aside(places.db)
            _build(places)
            return _report(places, str(aside))
        try:
            with log.write():
                _save_specs(log, places.workspace)
                report = _refill(log, places)
        finally:
            log.close()
        return report


def _save_specs(log: JobLog, ws: Workspace) -> None:
    """What a sound job log knows is not lost with a spec.json: write the unusable ones anew, keeping what is there.

    Not where somebody has removed the attempts: a spec alone speaks of a job that has yet to run.
    """
    for job_id in log.ids():
        run, job = ws.run(job_id), log.find(job_id)
        if job is None or not run.path.is_dir() or _usable_spec(ws, job_id) is not None:
            continue
        if job.attempts and not run.attempts():
            continue
        if run.spec.exists():
            os.rename(run.spec, f"{run.spec}.damaged-{_stamp()}")
        write_spec_of(log, ws, job_id)


def make_missing(places: Places) -> None:
    """Create the job log that is not there; from the run folders if there are any."""
    with _alone(places):
        if is_missing(places.db):
            _build(places)


def _build(places: Places) -> None:
    """Fill a new database beside the place of the job log, then put it there in one step."""
    temporary = places.db.with_name(f".rebuild-{os.getpid()}.db")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{temporary}{suffix}").unlink(missing_ok=True)
    log = JobLog(temporary)
    try:
        with log.write():
            _refill(log, places)
    finally:
        log.close()  # the last connection: SQLite moves the WAL into the file and removes it
    for suffix in ("-wal", "-shm"):  # of the lost one; they belong to no database any more
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{places.db}{suffix}", f"{places.db}{suffix}.lost-{_stamp()}")
    os.replace(temporary, places.db)


def _report(places: Places, set_aside: str) -> RepairReport:
    log = JobLog(places.db)
    try:
        jobs, points = len(log.ids()), MetricLog(log).count()
    finally:
        log.close()
    return RepairReport(jobs, points, tuple(_unreadable(places.workspace)), set_aside)


def _set_aside(db: Path) -> Path:
    aside = db.with_name(f"{db.name}.damaged-{_stamp()}")
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{db}{suffix}", f"{aside}{suffix}")
    return aside


def _stamp() -> str:
    return time.strftime("%Y%m%d-%H%M%S") + f"-{uuid.uuid4().hex[:4]}"


@contextlib.contextmanager
def _alone(places: Places):  # type: ignore[no-untyped-def]
    lock = Lock.take(places.state_dir / "repair.lock", wait_s=WAIT_S)
    if lock is None:
        raise RunFailed(f"another process rebuilds the job log in {places.state_dir}", "Try again when it is done")
    try:
        yield
    finally:
        lock.release()


# --- from run folders to rows --------------------------------------------------------------------------------------


def _run_ids(ws: Workspace) -> list[int]:
    try:
        return sorted(int(entry.name) for entry in os.scandir(ws.runs) if entry.name.isdigit())
    except FileNotFoundError:
        return []


def _unreadable(ws: Workspace) -> list[str]:
    return [str(ws.run(job_id).path) for job_id in _run_ids(ws) if _usable_spec(ws, job_id) is None]


def _usable_spec(ws: Workspace, job_id: int) -> Spec | None:
    spec = specs.read_spec(ws, job_id)
    return spec if spec is not None and spec.id == job_id and spec.kind in CONFIG_MODELS else None


def _refill(log: JobLog, places: Places) -> RepairReport:
    """Replace all rows by what the run folders say. Inside a write transaction."""
    ws = places.workspace
    log.clear()
    ids = _run_ids(ws)
    found = [spec for job_id in ids if (spec := _usable_spec(ws, job_id)) is not None]
    ingest = Ingest(log, MetricLog(log))
    for spec in found:
        _job_row(log, spec)
        _attempt_rows(log, places, spec, ingest)
    for spec in found:
        _say_what_it_waits_for(log, spec)
    log.update_all_jobs(announce=0)
    log.use_up_ids(max(ids, default=0))
    points = MetricLog(log).count()
    return RepairReport(len(found), points, tuple(_unreadable(ws)), "")


def _total_steps(spec: Spec) -> int | None:
    try:
        return parse_config(spec.kind, spec.config).total_steps()
    except PidecError:
        return None  # a config from an older version; the trainer's own check will say so


def _job_row(log: JobLog, spec: Spec) -> None:
    log.insert_job(
        spec.id,
        kind=spec.kind,
        name=spec.name,
        state=JobState.queued.value,
        lane=spec.lane,
        config=json.dumps(spec.config),
        preset=spec.preset,
        group_name=spec.group_name,
        after=json.dumps(spec.after),
        position=spec.position,
        created=spec.created,
        total_steps=_total_steps(spec),
        step_name=specs.STEP_NAMES.get(spec.kind, "step"),
        retry=spec.retry,
        fresh=int(spec.fresh),
        cwd=spec.cwd,
        environment=json.dumps(spec.environment),
        code_version=spec.code_version,
    )


def _attempt_rows(log: JobLog, places: Places, spec: Spec, ingest: Ingest) -> None:
    """The attempts of a job, each with its curves, and the state that the last one leaves the job in."""
    ws = places.workspace
    attempts = [(number, folder) for number, folder in ws.run(spec.id).attempts() if _began(places, spec.id, number)]
    for number, folder in attempts:
        note, started = read_note(folder), Started.read(folder.path)
        begun = started.started if started and started.started else (note.created if note else spec.created)
        log.insert_attempt(
            spec.id,
            number,
            state=("running" if started else "starting"),
            token=_token(note, started),
            started=begun,
            pid=started.pid if started else None,
            gpu=note.gpu if note else None,
            fresh=int(note.fresh) if note else 1,
        )
        last = number == attempts[-1][0]
        if number == spec.retry + 1 or number == 1:
            log.update_job(spec.id, started=begun)
        state = JobState.running if started else JobState.starting
        log.set_state(spec.id, JobState.stopping if last and spec.cancelled and number > spec.retry else state)
        log.update_job(spec.id, started=begun)
        _take_in(ingest, log, spec, number, folder)
        if number <= spec.retry and spec.config.get("extend_to"):  # it told the end that it had then
            log.update_job(spec.id, total_steps=_total_steps(spec))
        ending = _ending(log, places, spec.id, number, folder)
        if ending is not None:
            _settle(log, ws, spec, number, folder, ending)
    _last_word(log, spec, attempts)


def _began(places: Places, job_id: int, number: int) -> bool:
    """Not an attempt that was given up before its trainer existed."""
    folder = places.workspace.run(job_id).attempt(number)
    return (
        Started.read(folder.path) is not None
        or read_exit(folder) is not None
        or folder.metrics.exists()
        or is_held(places.attempt_lock(job_id, number))
    )


def _token(note: AttemptNote | None, started: Started | None) -> str:
    if started is not None and started.token:
        return started.token
    return note.token if note else uuid.uuid4().hex


def _take_in(ingest: Ingest, log: JobLog, spec: Spec, number: int, folder: AttemptDir) -> None:
    ingest.all(spec.id, number, spec.kind, folder.metrics, in_transaction=True)
    for alert in read_alerts(folder):
        MetricLog(log).add_alert(spec.id, number, *alert)


def _ending(log: JobLog, places: Places, job_id: int, number: int, folder: AttemptDir) -> endings.Ending | None:
    """How an attempt ended, by the runner's order of evidence; None while its lock is held."""
    record = read_exit(folder)
    if record is not None:
        return endings.of_exit(record, folder)
    if is_held(places.attempt_lock(job_id, number)) or beats(places, folder.path):
        return None
    end = [event for event in MetricLog(log).events(job_id, 0) if event.attempt == number and event.event == "end"]
    if end:
        return endings.of_event(end[-1])
    started = Started.read(folder.path)
    if started is not None and (started.shim_alive() or started.trainer_alive()):
        return None  # its lock is kept elsewhere, by another $PIDEC_STATE_DIR: begun again, it would run twice
    return endings.of_loss(started is not None and started.this_boot)


def _settle(log: JobLog, ws: Workspace, spec: Spec, number: int, folder: AttemptDir, ending: endings.Ending) -> None:
    record = read_exit(folder)
    ended = record.ended if record and record.ended else _last_change(folder)
    job = log.find(spec.id)
    assert job is not None
    endings.settle(log, ws, job, number, ending, now=ended, write=False)


def _last_change(folder: AttemptDir) -> float:
    times = [path.stat().st_mtime for path in (folder.metrics, folder.output, folder.path) if path.exists()]
    return max(times, default=time.time())


def _last_word(log: JobLog, spec: Spec, attempts: list[tuple[int, AttemptDir]]) -> None:
    """What the spec says about a job that no attempt speaks for: held, cancelled, or queued again by a retry."""
    job = log.find(spec.id)
    assert job is not None
    retried = len(attempts) <= spec.retry
    if job.state.active or (attempts and not retried and job.state.finished):
        return
    if spec.cancelled:
        log.set_state(spec.id, JobState.cancelled)
        log.update_job(spec.id, reason=CANCELLED_BY_HAND, ended=job.ended or spec.created)
    elif spec.held:
        log.set_state(spec.id, JobState.held)
    elif retried:
        log.set_state(spec.id, JobState.queued)
        log.update_job(spec.id, reason="", ended=None)


def _say_what_it_waits_for(log: JobLog, spec: Spec) -> None:
    job = log.find(spec.id)
    if job is None or not job.state.waiting:
        return
    states = log.states(job.after)
    lost = [job_id for job_id in job.after if job_id not in states]
    dead = f"job {lost[0]}, which it comes after, is lost" if lost else dead_predecessor(states)
    if dead:
        log.set_state(spec.id, JobState.held)
        log.update_job(spec.id, reason=dead)
    elif job.state is JobState.queued:
        log.update_job(spec.id, waiting_for=waiting_sentence(states))
