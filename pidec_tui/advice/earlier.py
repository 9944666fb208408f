"""This run held against earlier ones of the same kind, task and device, by their median rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..charts.ticks import number
from .beside import beside, evaluates_more, held_against, never_alone
from .facts import LEAST_ROWS, NAMED, Advice, Earlier, Facts, middle, named

# The settings that a rate depends on, by kind. Jobs that differ in several of them cannot be held against each other.
SPEED = {
    "diffusion": (
        *("batch_size", "unet_dims", "diffusion_step_embed_dim", "pred_horizon", "obs_horizon", "device"),
        *("precision", "engine"),
    ),
    "decorator": (
        *("num_envs", "batch_size", "utd", "training_freq", "hidden_dims", "act_horizon", "ddim_steps", "device"),
        *("precision", "engine", "env_backend", "num_workers", "overlap", "reuse_base_action", "policy_frequency"),
    ),
}
EVEN = 0.1  # a difference below that is none
SLOW = 0.75  # of earlier jobs with the same settings
FOR_INFORMATION = 0.05  # the weight of what is no loss


def earlier(facts: Facts) -> Iterator[Advice]:
    """Slower than jobs with the same settings; faster or slower by the one setting that differs."""
    now, keys = facts.median, SPEED.get(facts.job.kind)
    if now is None or keys is None or len(facts.rates.values) < LEAST_ROWS:
        return
    same: list[Earlier] = []
    by_setting: dict[str, list[Earlier]] = {}
    always = never_alone(facts)  # else its own rates tell what evaluations cost
    slowed = always or beside(facts) is not None
    for other in facts.earlier:
        differ = [key for key in keys if other.config.get(key) != facts.job.config.get(key)]
        if slowed and evaluates_more(facts.job.config, other.config):
            differ.append("eval_freq")
        if not differ:
            same.append(other)
        elif len(differ) == 1:
            alike = by_setting.setdefault(differ[0], [])
            if not alike or alike[0].config.get(differ[0]) == other.config.get(differ[0]):  # as the newest
                alike.append(other)
    if same and (found := _same(facts, now, same)) is not None:
        yield found
    for key, others in by_setting.items():
        if key == "eval_freq":
            if always and (found := held_against(facts, now, others)) is not None:
                yield found
        elif abs(now / middle(others) - 1) >= EVEN:
            yield _one_differs(facts, now, key, others)


def _medians(facts: Facts, now: float, others: Sequence[Earlier]) -> tuple[str, ...]:
    own = f"this run: median {number(now)} {facts.unit}s/min of {len(facts.rates.values):,} rows"
    return own, *(
        f"job {other.job_id}: median {number(other.median)} {facts.unit}s/min of {other.rates:,} rows"
        for other in others[:NAMED]
    )


def _same(facts: Facts, now: float, same: Sequence[Earlier]) -> Advice | None:
    usual = middle(same)
    if now >= SLOW * usual:
        return None
    text = f"{now / usual:.2f}× the {facts.unit}s/min of {named(same)} with the same settings"
    hint = ": look at what else the machine does" if facts.job.state.active else ""
    return Advice("earlier-same", f"{text}{hint}.", _medians(facts, now, same), 1 - now / usual)


def _one_differs(facts: Facts, now: float, key: str, others: Sequence[Earlier]) -> Advice:
    """One disturbed run among several with that value changes nothing."""
    ratio, ours, theirs = now / middle(others), facts.job.config.get(key), others[0].config.get(key)
    text = f"{key} {ours} instead of {theirs}: {ratio:.2g}× the {facts.unit}s/min of {named(others)}"
    weight = FOR_INFORMATION
    both = isinstance(ours, (int, float)) and isinstance(theirs, (int, float)) and theirs
    if key == "batch_size" and facts.job.kind == "diffusion" and both:
        samples = ratio * float(ours) / float(theirs)  # type: ignore[arg-type]
        text = f"Batch {ours}: {samples:.2g}× the samples, {ratio:.2g}× the {facts.unit}s of {theirs} ({named(others)})"
        weight = max(weight, 1 - samples)
    return Advice(f"earlier-{key}", f"{text}.", _medians(facts, now, others), weight)
