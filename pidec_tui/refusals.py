"""Keys that change something, and what is said instead where nothing may be changed: with `--readonly`, and of runs
that the queue does not hold; and what the job manager refuses, whose advice is for `pidec-jobs`, in keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .words import Keys, keyed

if TYPE_CHECKING:
    from textual.binding import ActiveBinding

_OF_A_JOB = frozenset({
    "job.cancel", "job.retry", "job.hold", "job.edit", "job.up", "job.down", "job.clone", "job.top", "job.fresh",
    "job.extend", "group.cancel", "group.hold", "group.retry",
})  # fmt: skip
# Whatever else asks the job manager for a change is refused by `PidecApp.act`; these say so before they ask anything.
CHANGING = _OF_A_JOB | {
    "queue.new", "queue.runner", "queue.repair", "job.report", "job.csv",
    "form.queue", "form.preset", "new.queue", "new.form",
    "checkpoints.evaluate", "checkpoints.decorate", "checkpoints.adapt", "checkpoints.resume", "checkpoints.trash",
}  # fmt: skip
MARK = "read-only"
READS_ONLY = ("This dashboard only reads: nothing was changed", "pidec-tui without --readonly changes things.")
BY_HAND = (
    "This run was started by hand: the queue only watches it",
    "Stop it where it was started; <queue.new> queues one.",
)


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


# What the job manager advises, and how a user of the dashboard does the same; `<job.retry>` is the key of that id.
_ADVICE = [
    (r"pidec-jobs retry \d+ --extend-to N goes on to step N", "<job.extend> lets it go on to a later step"),
    (r"pidec-jobs retry \d+ (queues it again|goes on to \S+)", r"<job.retry> \1"),
    (r"pidec-jobs release \d+ lets it start", "<job.hold> lets it start"),
    (r"pidec-jobs wait \d+ tells when it is over", "A notice tells when it is over"),
    (r"pidec-jobs edit \d+ --set (\w+)=(\S+) lengthens", r"<job.edit> and \1 \2 lengthens"),
    (r"pidec-jobs add, with (\w+)=", r"<job.clone>, with \1 "),
    (r"(?i)to run it once more, add it again", "<job.clone> makes another one like it"),
    (r"pidec-jobs add quickstart( queues a job)?", "<queue.new> queues a job"),
    (r"; pidec-jobs list --all shows all", ""),
    (r"pidec-jobs list --group \".*\" shows them", "They have the same group in the queue"),
    (r"pidec-jobs add … --sweep makes one", "several values in a form make one"),
    (r"pidec-jobs add queues a job of its own", "<queue.new> queues a job"),
    (r"pidec-jobs presets lists the presets", "<queue.new> lists the presets"),
    (r"pidec-jobs add \S+ --set (\w+)=PATH, or \1=", r"<queue.new>, then \1 in its form: a path, or "),
    (r"pidec-jobs repair (rebuilds|moves)", r"<queue.repair> \1"),
    (r"\(pidec-jobs runner start\)", "(<queue.runner> starts one)"),
    (r"\bx puts it into the trash", "<checkpoints.trash> puts it into the trash"),
]  # fmt: skip


def in_keys(text: str, key: Keys) -> str:
    """The advice of the job manager in the dashboard's keys; any other text as it is.

    Args:
        key: what an id of a binding is called now.
    """

    def ours_for(ours: str) -> Callable[[re.Match[str]], str]:
        return lambda found: keyed(found.expand(ours), key)

    for said, ours in _ADVICE:
        text = re.sub(said, ours_for(ours), text)
    return text
