"""What a job waits for that comes after others (`--after`), and what becomes of it when one of them ends badly."""

from __future__ import annotations

from collections.abc import Mapping

from .joblog import JobLog
from .jobs import JobState


def dead_predecessor(states: Mapping[int, JobState]) -> str:
    """Why a job can never start, if one that it comes after failed or was cancelled; else ""."""
    for job_id, state in sorted(states.items()):
        if state is JobState.failed:
            return f"job {job_id}, which it comes after, failed"
        if state is JobState.cancelled:
            return f"job {job_id}, which it comes after, was cancelled"
    return ""


def waiting_sentence(states: Mapping[int, JobState]) -> str:
    """ "job 41", "jobs 41 and 42": those that have yet to succeed; "" if all have."""
    left = [str(job_id) for job_id, state in sorted(states.items()) if state is not JobState.succeeded]
    if not left:
        return ""
    return f"job {left[0]}" if len(left) == 1 else f"jobs {', '.join(left[:-1])} and {left[-1]}"


def hold_dependents(log: JobLog, job_id: int, state: JobState) -> list[int]:
    """Hold the queued jobs that come after one that failed or was cancelled. Gives their ids."""
    reason = dead_predecessor({job_id: state})
    rows = log.rows(
        "SELECT id FROM jobs WHERE state = 'queued' AND EXISTS (SELECT 1 FROM json_each(after) WHERE value = ?)",
        (job_id,),
    )
    for (other,) in rows:
        log.move(other, JobState.held, reason=reason, waiting_for="")
    return [other for (other,) in rows]
