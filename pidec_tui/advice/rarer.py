"""What a larger `eval_freq` or `save_freq` would save."""

from __future__ import annotations

import math

from ..words import duration
from .facts import Facts

TARGET = 0.05  # of the time that evaluations or checkpoints may cost: what a proposed setting is made for
WORTH_S = 60.0  # less is not worth a sentence


def rarer(
    facts: Facts, setting: str, seconds: float, count: int, *, apart: float = 0.0
) -> tuple[str, list[str]] | None:
    """A larger value of `setting`, by which what has cost `seconds` for `count` times comes to `TARGET` of the time.

    Args:
        apart: steps between two of those, where they are farther apart than `setting` says.

    Returns:
        The proposal with what it saves, and the figures it is made from; None: not worth a sentence, or not known.
    """
    now, per_step, left = facts.setting(setting), facts.seconds_per_step, facts.steps_left
    if not count or now is None or per_step is None or not left or facts.job.total_steps is None:
        return None
    each = seconds / count
    apart = max(apart, now)
    wanted = max(each * (1 - TARGET) / (TARGET * per_step), 2 * apart)
    then = min(_rounded_up(min(wanted, facts.job.total_steps)), facts.job.total_steps)
    as_now, rather = int(left // apart), left // then
    saved = each * (as_now - rather)
    if saved < WORTH_S:
        return None
    return f"{setting} {now:,} → {then:,} would save {duration(saved)}", [
        f"{duration(each)} each, {count:,} so far",
        f"{left:,} {facts.unit}s are left: {as_now:,} more with {setting} {now:,}, {rather:,} with {then:,}",
    ]


def _rounded_up(value: float) -> int:
    """1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(value))
    return int(next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9)))
