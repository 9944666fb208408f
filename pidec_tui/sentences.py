"""What a job is doing, as a sentence and as cells of a table. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .charts.ticks import number
from .manager.health import FINISHES
from .manager.jobs import Job, JobState
from .manager.overview import JobLine
from .refusals import in_keys
from .words import Keys, duration, moment


def sentence(job: Job, line: JobLine | None, now: float, ahead: int = 0, *, key: Keys) -> str:
    """State, since when, and why: one sentence.

    Args:
        line: how it does, of a job that is active.
        ahead: how many jobs stand before this one in the queue.
        key: what an id of a binding is called now.
    """
    state = job.state
    if state is JobState.queued or state is JobState.interrupted:
        if job.waiting_for:
            return f"Waits for {_plain(in_keys(job.waiting_for, key))}."
        before = f" Jobs before it: {ahead}." if ahead else ""
        return f"Queued: starts as soon as the {job.lane} lane is free.{before}"
    if state is JobState.held:
        return f"Held: {_plain(job.reason)}." if job.reason else f"Held: {key('job.hold')} releases it."
    if state is JobState.stopping:
        return "Stopping." if job.kind == "command" else "Stopping: the trainer saves its state."
    if state.active:
        begun = job.attempts[-1].started if job.attempts else job.started
        words = [f"{state.value.capitalize()} for {duration(now - begun)}" if begun else state.value.capitalize()]
        if len(job.attempts) > 1:
            words.append(f"attempt {job.attempts[-1].number}")
        if line and line.health == FINISHES:
            done = f"all its {job.step_name or 'step'}s are done"
            left = ": the last evaluation and checkpoint are left" if job.kind in ("diffusion", "decorator") else ""
            words.append(done + left)
        elif line and line.ends:
            words.append(f"ends about {moment(line.ends, now)}")
        return ", ".join(words) + "."
    ended = f" {moment(job.ended, now)}" if job.ended else ""
    took = f" after {duration(job.ended - job.started)}" if job.ended and job.started else ""
    why = f": {_plain(job.reason)}" if job.reason else ""
    return f"{state.value.capitalize()}{ended}{took}{why}."


def _plain(text: str) -> str:
    return text.strip().rstrip(".")


def jobs_ahead(job: Job, jobs: Sequence[Job]) -> int:
    """Queued jobs of the same lane that go first."""
    return sum(
        1
        for other in jobs
        if other.state is JobState.queued and other.lane == job.lane and other.position < job.position
    )


def share_done(job: Job) -> float | None:
    """0 to 1; None where the job never told its length."""
    if job.state is JobState.succeeded and job.total_steps:
        return 1.0
    if job.step is None or not job.total_steps:
        return None
    return min(job.step / job.total_steps, 1.0)


def progress(job: Job) -> str:
    """62%, or the step where the end is not known."""
    share = share_done(job)
    if share is None:
        return number(job.step) if job.step else ""
    return f"{share * 100:.0f}%" if share in (0, 1) else f"{min(max(share * 100, 1), 99):.0f}%"


def ends(job: Job, line: JobLine | None, now: float) -> str:
    """When it will end (~14:32) or did end (14:32)."""
    if job.state is JobState.stopping:
        return ""
    if job.state.active:
        return f"~{moment(line.ends, now)}" if line and line.ends else ""
    return moment(job.ended, now) if job.state.finished and job.ended else ""
