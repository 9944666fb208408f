"""Evaluations run in a process of their own: what they cost a run is its rate while they do."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ..charts.ticks import number
from ..manager.pulse import RECENT
from ..words import duration, moment, percent
from .facts import Advice, Earlier, Evaluated, Facts, middle, named
from .rarer import rarer

SLOWED = 0.75  # of the rate without an evaluation beside it
LOST = 0.1  # of the time, by that
RARER = 2.0  # times as many steps between two evaluations: another setting


def beside(facts: Facts) -> Advice | None:
    """By its own rates with an evaluation beside it and without."""
    split = facts.evaluated
    if split is None or len(split.during) < RECENT or len(split.alone) < RECENT:
        return None
    slow, usual = statistics.median(split.during), statistics.median(split.alone)
    if usual <= 0 or slow >= SLOWED * usual:
        return None
    lost = split.ran * (1 - slow / usual)
    if lost < LOST * split.whole:
        return None
    text = (
        f"Evaluations {_run(facts)} beside it {percent(split.busy)} of the time, at {percent(slow / usual)} of its rate"
    )
    during, others = f"in {len(split.during)} rows while one runs", f"in {len(split.alone)} others"
    medians = f"median {slow:,.0f} {facts.unit}s/min {during}, {usual:,.0f} {others}"
    return _advice(facts, split, text, medians, lost)


def never_alone(facts: Facts) -> bool:
    """Whether an evaluation ran beside this attempt all the time, so that only another job tells its usual rate."""
    split = facts.evaluated
    return split is not None and len(split.during) >= RECENT > len(split.alone)


def evaluates_more(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether two jobs of these configurations differ in how often they are evaluated; `eval_freq` 0 is never."""
    often, rare = ours.get("eval_freq"), theirs.get("eval_freq")
    if not isinstance(often, int) or not isinstance(rare, int) or often <= 0:
        return False
    return rare <= 0 or rare >= RARER * often


def held_against(facts: Facts, now: float, others: Sequence[Earlier]) -> Advice | None:
    """By the rate `now` of a run that is evaluated all the time, and that of jobs which were evaluated more rarely."""
    split, usual = facts.evaluated, middle(others)
    if split is None or now > (1 - LOST) * usual:
        return None
    rare = others[0].config.get("eval_freq")
    how = f"with eval_freq {rare:,}" if rare else "without evaluations"
    text = (
        f"Evaluations {_run(facts)} beside it {percent(split.busy)} of the time: "
        f"{now / usual:.2f}× the {facts.unit}s/min of {named(others)} {how}"
    )
    medians = f"median {number(now)} {facts.unit}s/min, {named(others)}: {number(usual)}"
    return _advice(facts, split, text, medians, split.whole * (1 - now / usual))


def _run(facts: Facts) -> str:
    return "run" if facts.job.state.active else "ran"


def _advice(facts: Facts, split: Evaluated, text: str, medians: str, lost: float) -> Advice:
    since = moment(facts.rates.times[0], facts.now)
    evidence = [medians, f"{split.evaluations:,} evaluations, {duration(split.ran)} in all since {since}"]
    saving = rarer(facts, "eval_freq", lost, split.evaluations, apart=split.apart)
    if saving is not None:
        text += f"{';' if ': ' in text else ':'} {saving[0]}"
        evidence += saving[1]
    return Advice("eval-beside", f"{text}.", tuple(evidence), min(lost / split.whole, 1.0))
