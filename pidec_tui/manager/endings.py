"""How an attempt ended, and what becomes of its job."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

from pidec_train.protocol.rundir import AttemptDir, ExitRecord, Workspace

from .attempts import last_words
from .joblog import JobLog
from .jobs import Job, JobEvent, JobState
from .queueing import write_spec_of
from .waiting import hold_dependents

INTERRUPTIONS = 3  # in a row without a new checkpoint: something is wrong with the job, not with the machine

_STOPPED_CODES = frozenset({130, 128 + signal.SIGTERM, 128 + signal.SIGKILL})
_STOPPED_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGKILL})
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CUDA_MEMORY = ("CUDA out of memory", "torch.OutOfMemoryError", "cuda.OutOfMemoryError", "CUDA error: out of memory")


@dataclass(frozen=True)
class Ending:
    """How an attempt ended: `succeeded`, `failed` or `interrupted`, whatever was asked of it."""

    state: JobState
    cause: str
    code: int | None = None
    signal: int | None = None


def of_exit(record: ExitRecord, folder: AttemptDir) -> Ending:
    """By exit.json: 0 is success; a signal from outside or 130 an interruption; everything else a failure."""
    cause = record.cause or (f"exit code {record.code}" if record.signal is None else f"signal {record.signal}")
    if record.code == 0:
        state = JobState.succeeded
    elif record.code in _STOPPED_CODES or record.signal in _STOPPED_SIGNALS:
        state = JobState.interrupted
    else:
        state = JobState.failed
        if any(words in last_words(folder.output) for words in _CUDA_MEMORY):
            cause = f"CUDA out of memory ({cause})"
    return Ending(state, cause, record.code, record.signal)


def of_event(event: JobEvent) -> Ending:
    """By the trainer's own `end` event, where its parent could write no exit.json."""
    told = str(event.detail.get("state", ""))
    states = {"succeeded": JobState.succeeded, "failed": JobState.failed}
    reason = str(event.detail.get("reason") or "")
    return Ending(states.get(told, JobState.interrupted), reason or f"the trainer said that it {told or 'ended'}")


def of_loss(this_boot: bool) -> Ending:
    """Neither exit.json nor `end` event, and nobody holds the lock."""
    cause = "its processes are gone" if this_boot else "the machine was restarted"
    return Ending(JobState.interrupted, cause)


def settle(
    log: JobLog,
    ws: Workspace,
    job: Job,
    number: int,
    ending: Ending,
    *,
    now: float,
    end_reason: str = "",
    write: bool = True,
) -> JobState:
    """Write down the ending of the job's attempt `number` and move the job on. Inside a write transaction.

    Args:
        job: in an active state.
        end_reason: what the trainer gave as the reason in its `end` event.
        write: bring spec.json up to date; a rebuild, which reads it, does not.

    Returns:
        The job's new state.
    """
    if job.state is JobState.starting:  # a job may be over before anybody saw it run
        log.move(job.id, JobState.running)
    state = ending.state
    if job.state is JobState.stopping and state is not JobState.succeeded:
        state = JobState.cancelled
    log.update_attempt(
        job.id, number, state=state.value, ended=now, exit_code=ending.code, signal=ending.signal, cause=ending.cause
    )
    if state is JobState.interrupted:
        new = _interrupted(log, job, ending, now)
        if write:
            write_spec_of(log, ws, job.id)
        return new
    reason = ""
    if state is JobState.cancelled:
        reason = f"cancelled by hand while it ran ({ending.cause})"
    elif state is JobState.failed:
        reason = _reason(ending, ws.run(job.id).attempt(number).output, end_reason)
    log.move(job.id, state, ended=now, reason=reason, waiting_for="", announce=1)
    if state is not JobState.succeeded:
        hold_dependents(log, job.id, state)
    if write:
        write_spec_of(log, ws, job.id)
    return state


def _interrupted(log: JobLog, job: Job, ending: Ending, now: float) -> JobState:
    """Queue it again, unless it is a command (which may not be run twice) or keeps being interrupted."""
    log.move(job.id, JobState.interrupted)
    streak = interruptions(log, job.id)
    if job.kind == "command":
        reason = f"interrupted: {ending.cause}; a command is not run again by itself"
        log.move(job.id, JobState.held, reason=reason, waiting_for="", announce=1)
        new = JobState.held
    elif streak >= INTERRUPTIONS:
        reason = f"interrupted {streak} times without a new checkpoint, the last time: {ending.cause}"
        log.move(job.id, JobState.failed, ended=now, reason=reason, waiting_for="", announce=1)
        hold_dependents(log, job.id, JobState.failed)
        new = JobState.failed
    else:
        log.move(job.id, JobState.queued, reason="", waiting_for="")
        new = JobState.queued
    return new


def interruptions(log: JobLog, job_id: int) -> int:
    """How often the job was interrupted in a row since it was last retried, with no new checkpoint in between."""
    (retried,) = log.columns(job_id, "retry")
    rows = log.rows(
        "SELECT state, new_checkpoint FROM attempts WHERE job = ? AND number > ? ORDER BY number DESC",
        (job_id, retried),
    )
    count = 0
    for state, new_checkpoint in rows:
        if state != JobState.interrupted.value:
            break
        count += 1
        if new_checkpoint:
            break
    return count


def _reason(ending: Ending, output: Path, end_reason: str) -> str:
    """The cause, and what the trainer said about it: its `end` event, else the last line of its output."""
    said = end_reason
    if not said:
        text = _ESCAPES.sub("", last_words(output, 8192)).replace("\r", "\n")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = lines[-1] if lines else ""
    said = " ".join(said.split())[:300]
    return f"{ending.cause}: {said}" if said and said not in ending.cause else ending.cause
