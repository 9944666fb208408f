"""`pidec-tui --readonly`: which keys change something, and what is said in their stead."""

from __future__ import annotations

from collections.abc import Iterable

from textual.binding import ActiveBinding

# Whatever else asks the job manager for a change is refused by `PidecApp.act`; these say so before they ask anything.
CHANGING = frozenset(
    {
        "queue.new", "job.cancel", "job.retry", "job.hold", "job.edit", "job.up", "job.down", "form.queue", "new.queue",
        "new.form", "checkpoints.evaluate", "checkpoints.decorate", "checkpoints.adapt", "checkpoints.resume",
        "checkpoints.trash",
    }
)  # fmt: skip
MARK = "read-only"
SAID = "This dashboard only reads: nothing was changed"
HINT = "pidec-tui without --readonly changes things."


def changes_something(action: object, bindings: Iterable[ActiveBinding]) -> bool:
    """Whether an action is that of a key that changes something."""
    return any(each.binding.action == action and each.binding.id in CHANGING for each in bindings)
