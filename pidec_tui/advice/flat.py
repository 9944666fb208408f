"""A run that no longer gets better: the rules are the alert's."""

from __future__ import annotations

from collections.abc import Iterator

from ..charts.ticks import number
from ..manager.alerts import flat_loss, flat_success
from ..words import duration, moment
from .facts import Advice, Facts

FLAT_LOSS = "flat-loss"
WEIGHT = 0.3  # below a fall of the rate by a third: a flat loss does not mean that the success rate is flat


def flat(facts: Facts) -> Iterator[Advice]:
    """Loss, and success."""
    if not facts.job.state.active:
        return
    rest = facts.pulse.ends(facts.job)
    left = f"; {duration(rest - facts.now)} are left" if rest is not None and rest > facts.now else ""
    found = flat_loss(facts.pulse, facts.job, facts.settings, known=facts.was_flat)
    if found is not None:
        yield Advice(
            FLAT_LOSS,
            f"Loss flat for {number(found.steps)} {facts.unit}s{left}: compare evaluations before you stop it.",
            (
                f"{found.name}: {found.level:.4g}, changed by {found.change:+.2g} ± {found.margin:.2g} "
                f"(95 %) between the halves of the newest third",
                f"{found.steps:,.0f} {facts.unit}s since {moment(found.since, facts.now)}",
            ),
            WEIGHT,
        )
    success = flat_success(facts.pulse, facts.settings)
    if success:
        head, _, told = success.partition(": ")
        yield Advice("flat-success", f"{head[0].upper()}{head[1:]}{left}.", (told,), WEIGHT)
