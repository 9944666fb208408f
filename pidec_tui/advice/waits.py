"""Time in which a run does not train: evaluations, checkpoints, data, simulators; and what a setting would save."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from pidec_train.protocol.metric_names import (
    TIME_DATA_RATIO,
    TIME_ENV_WAIT_RATIO,
    TIME_EVAL_WAIT_RATIO,
    TIME_SAVE_WAIT_RATIO,
    TIME_UPDATE_RATIO,
)

from ..manager.pulse import RECENT
from ..words import duration, moment, percent
from .facts import LEAST_S, Advice, Facts, Wait

WAIT_SHARE = 0.25  # a quarter of the time spent waiting is worth a change of settings
MOSTLY = 0.5  # of the time of a run that learns while it acts: simulators are its limit
TARGET = 0.05  # of the time that evaluations or checkpoints may cost: what a proposed setting is made for
SLOWED = 0.75  # of the rate without an evaluation beside it
LOST = 0.1  # of the time, by that
WORTH_S = 60.0  # less is not worth a sentence
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
    if (beside := _beside(facts)) is not None:
        yield beside
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
    rarer = _rarer(facts, setting, wait.seconds, count)
    if rarer is not None:
        text += f": {rarer[0]}"
        evidence += rarer[1]
    return Advice(key, f"{text}.", tuple(evidence), wait.share)


def _rarer(facts: Facts, setting: str, seconds: float, count: int) -> tuple[str, list[str]] | None:
    """A larger value of `setting`, by which what has cost `seconds` for `count` times comes to `TARGET` of the time."""
    now, per_step, left = facts.setting(setting), facts.seconds_per_step, facts.steps_left
    if not count or now is None or per_step is None or not left or facts.job.total_steps is None:
        return None
    each = seconds / count
    wanted = max(each * (1 - TARGET) / (TARGET * per_step), 2 * now)
    then = min(_rounded_up(min(wanted, facts.job.total_steps)), facts.job.total_steps)
    saved = each * (left // now - left // then)
    if saved < WORTH_S:
        return None
    return f"{setting} {now:,} → {then:,} would save {duration(saved)}", [
        f"{duration(each)} each, {count:,} so far",
        f"{left:,} {facts.unit}s are left: {left // now:,} more with {setting} {now:,}, {left // then:,} with {then:,}",
    ]


def _rounded_up(value: float) -> int:
    """1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(value))
    return int(next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9)))


def _beside(facts: Facts) -> Advice | None:
    """Evaluations run in a process of their own: what they cost is the rate while they do."""
    spans, rates = facts.evaluations(), facts.rates
    during: list[float] = []
    alone: list[float] = []
    behind = 0  # spans that are over; both are in the order of time
    for at in range(1, len(rates.times) if spans else 0):
        begin, end = rates.times[at - 1], rates.times[at]
        while behind < len(spans) and spans[behind][1] <= begin:
            behind += 1
        shared = 0.0
        for first, last in spans[behind : behind + 2]:
            shared += max(min(end, last) - max(begin, first), 0.0)
        (during if shared >= (end - begin) / 2 else alone).append(rates.values[at])
    if len(during) < RECENT or len(alone) < RECENT:
        return None
    slow, usual = statistics.median(during), statistics.median(alone)
    whole, ran = rates.times[-1] - rates.times[0], sum(last - first for first, last in spans)
    if usual <= 0 or whole < LEAST_S or slow >= SLOWED * usual:
        return None
    lost = ran * (1 - slow / usual)
    share = min(lost / whole, 1.0)
    if share < LOST:
        return None
    ran_or_run = "run" if facts.job.state.active else "ran"
    often, rate = percent(min(ran / whole, 1.0)), percent(slow / usual)
    text = f"Evaluations {ran_or_run} beside it {often} of the time, at {rate} of its rate"
    medians = f"{slow:,.0f} {facts.unit}s/min in {len(during)} rows while one runs, {usual:,.0f} in {len(alone)} others"
    evidence = [
        f"median {medians}",
        f"{len(spans)} evaluations, {duration(ran)} in all since {moment(rates.times[0], facts.now)}",
    ]
    rarer = _rarer(facts, "eval_freq", lost, len(spans))
    if rarer is not None:
        text += f": {rarer[0]}"
        evidence += rarer[1]
    return Advice("eval-beside", f"{text}.", tuple(evidence), share)


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
