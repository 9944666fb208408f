"""A job that is over goes on, past its end."""

from __future__ import annotations

from ..manager.jobs import Job
from .base import PidecScreen


def lengthen(screen: PidecScreen, job: Job) -> None:
    """Ask how far it shall go on, and queue it again; say so where that cannot be."""
    if not job.state.finished:
        screen.notify(f"Job {job.id} is {job.state}: only a job that is over can be lengthened.", timeout=5)
        return
    from ..manager.specs import end_field  # late: pydantic, which a first picture goes without

    if end_field(job.kind) is None:
        screen.notify(f"Job {job.id} has no end that can be moved: its kind is {job.kind}.", timeout=5)
        return
    from .number import NumberScreen

    end = f"{job.total_steps:,}" if job.total_steps else "not known"
    text = f"Let job {job.id}, {job.name}, go on to which {job.step_name}? Its end was {end}; it resumes."
    screen.app.push_screen(
        NumberScreen(text, example="300k"),
        lambda to: (
            screen.door.act(lambda m: m.retry(job.id, extend_to=to), f"Job {job.id} goes on to {to:,}")
            if to is not None
            else None
        ),
    )
