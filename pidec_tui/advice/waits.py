"""Time in which a run does not train: evaluations, checkpoints, data, simulators; and what a setting would save."""

from __future__ import annotations

from collections.abc import Iterator

from pidec_train.protocol.metric_names import (
    TIME_DATA_RATIO,
    TIME_ENV_WAIT_RATIO,
    TIME_EVAL_WAIT_RATIO,
    TIME_SAVE_WAIT_RATIO,
    TIME_UPDATE_RATIO,
)

from ..words import duration, moment, percent
from .beside import beside
from .facts import Advice, Facts, Wait
from .rarer import rarer

WAIT_SHARE = 0.25  # a quarter of the time spent waiting is worth a change of settings
MOSTLY = 0.5  # of the time of a run that learns while it acts: simulators are its limit
OVERLAPS = 0.15  # of the time spent on updates, that could be spent while simulators step


def waits(facts: Facts) -> Iterator[Advice]:
    """One for each thing that is waited for much."""
    for key, ratio, what, setting, count in (
        ("eval", TIME_EVAL_WAIT_RATIO, "evaluations", "eval_freq", facts.count("eval", "start")),
        ("save", TIME_SAVE_WAIT_RATIO, "checkpoints to be written", "save_freq", facts.count("checkpoint")),
    ):
        wait = facts.wait(ratio)
        if wait is not None and wait.share >= WAIT_SHARE:
            yield _for_events(facts, wait, (key, ratio, what, setting), count)
    if (found := beside(facts)) is not None:
        yield found
    data = facts.wait(TIME_DATA_RATIO)
    if data is not None and data.share >= WAIT_SHARE:
        text = f"{facts.waits} for data {percent(data.share)} of the time: the CPU that gathers batches is the limit"
        yield Advice(
            "data", f"{text}{_of_the_rest(facts, data)}.", (_measured(facts, TIME_DATA_RATIO, data),), data.share
        )
    simulators = facts.wait(TIME_ENV_WAIT_RATIO)
    if simulators is not None and simulators.share >= MOSTLY:
        yield _for_simulators(facts, simulators)


def _measured(facts: Facts, ratio: str, wait: Wait) -> str:
    since = moment(wait.since, facts.now)
    return f"{ratio}: {duration(wait.seconds)} of {duration(wait.of)}, {wait.rows:,} rows since {since}"


def _of_the_rest(facts: Facts, wait: Wait) -> str:
    """What it comes to until the end, if it goes on so."""
    left = facts.pulse.ends(facts.job) if facts.steps_left else None
    if left is None or left <= facts.now:
        return ""
    rest = left - facts.now
    return f", {duration(wait.share * rest)} of the {duration(rest)} that are left"


def _for_events(facts: Facts, wait: Wait, about: tuple[str, str, str, str], count: int) -> Advice:
    key, ratio, what, setting = about
    text, evidence = f"{facts.waits} for {what} {percent(wait.share)} of the time", [_measured(facts, ratio, wait)]
    saving = rarer(facts, setting, wait.seconds, count)
    if saving is not None:
        text += f": {saving[0]}"
        evidence += saving[1]
    return Advice(key, f"{text}.", tuple(evidence), wait.share)


def _for_simulators(facts: Facts, wait: Wait) -> Advice:
    text = f"{facts.waits} for simulators {percent(wait.share)} of the time"
    evidence = [_measured(facts, TIME_ENV_WAIT_RATIO, wait)]
    updates = facts.wait(TIME_UPDATE_RATIO)
    if updates is not None and updates.share >= OVERLAPS and facts.job.config.get("overlap") is False:
        evidence.append(_measured(facts, TIME_UPDATE_RATIO, updates))
        could = min(updates.share, wait.share)
        text += (
            f": overlap would do updates meanwhile, at most {percent(could)} of the time{_of_the_rest(facts, updates)}"
        )
    else:
        text += ": more cores for them would help"
    return Advice("simulators", f"{text}.", tuple(evidence), wait.share)
