"""Keys that change something, and what is said instead where nothing may be changed: with `--readonly`, and of runs
that the queue does not hold."""

from __future__ import annotations

from collections.abc import Iterable

from textual.binding import ActiveBinding

_OF_A_JOB = frozenset({
    "job.cancel", "job.retry", "job.hold", "job.edit", "job.up", "job.down", "job.clone", "job.top", "job.fresh",
    "job.extend", "group.cancel", "group.hold", "group.retry",
})  # fmt: skip
# Whatever else asks the job manager for a change is refused by `PidecApp.act`; these say so before they ask anything.
CHANGING = _OF_A_JOB | {
    "queue.new", "queue.runner", "job.report", "form.queue", "form.preset", "new.queue", "new.form",
    "checkpoints.evaluate", "checkpoints.decorate", "checkpoints.adapt", "checkpoints.resume", "checkpoints.trash",
}  # fmt: skip
MARK = "read-only"
READS_ONLY = ("This dashboard only reads: nothing was changed", "pidec-tui without --readonly changes things.")
BY_HAND = ("This run was started by hand: the queue only watches it", "Stop it where it was started; n queues a job.")


def refusal(
    action: object, bindings: Iterable[ActiveBinding], *, readonly: bool, job_id: int | None
) -> tuple[str, str] | None:
    """Why an action may not be done, and what to do instead; None: it may.

    Args:
        action: as a binding names it.
        bindings: those that are active now.
        job_id: of the selected job.
    """
    ids = {each.binding.id for each in bindings if each.binding.action == action}
    if readonly and ids & CHANGING:
        return READS_ONLY
    if job_id is not None and job_id < 0 and ids & _OF_A_JOB:
        return BY_HAND
    return None
