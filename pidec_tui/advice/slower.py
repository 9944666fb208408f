"""A run that is slower than it was, and what changed when it became so."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from ..charts.ticks import number
from ..manager.alerts import slow_stretch
from ..manager.gpus import throttled_by
from ..manager.machinelog import CLOCK, CPU, POWER, TEMPERATURE, THROTTLE, UTILIZATION, Tenant
from ..manager.pulse import RECENT
from ..words import moment, percent
from .facts import LEAST_ROWS, LEAST_S, LEAST_SAMPLES, Advice, Facts, known, mean

SLOW = 0.75  # below this share of its own median a run is slower than usual, not merely uneven
GPU_BUSY = 85.0
CPU_FULL, CPU_ROSE = 85.0, 10.0  # percent; points more than before
CLOCK_FELL = 0.9  # of the clock before
BEFORE_S = 1800.0  # that counts as "before"
SLACK_S = 60.0  # that what slows a run may have come before it does: a process loads before it computes

Cause = tuple[str, list[str]]


def slower(facts: Facts) -> Advice | None:
    """Since when, by how much, and what came at that time. None: it is not, or too little is known."""
    rates, usual = facts.rates, facts.pulse.usual
    if not facts.job.state.active or usual is None or len(rates.values) < LEAST_ROWS:
        return None
    median, rows = usual
    count = slow_stretch(rates, SLOW * median)
    if count < RECENT or count == len(rates.values):
        return None
    since = rates.times[-count - 1]  # of the last row that was as usual
    if rates.times[-1] - since < LEAST_S:
        return None
    now = statistics.fmean(rates.values[-count:])
    # A rate is the mean of the time since the row before, so the first slow one may have begun as usual.
    calm = since - SLACK_S - (rates.times[-count] - since)
    causes: list[Callable[[Facts, float, float], Cause | None]] = [_evaluation, _joined, _throttled, _cpu_full]
    told = (cause for each in causes if (cause := each(facts, calm, since)) is not None)
    found = next(told, None) or _nothing(facts, calm, since)
    load = mean(facts.gpu, UTILIZATION, since, facts.now)
    head = f"GPU {load:.0f}%, but {percent(1 - now / median)}" if load is not None and load >= GPU_BUSY else ""
    text = f"{head or percent(1 - now / median)} fewer {facts.unit}s/min than this run's median since "
    text += moment(since, facts.now) + (f": {found[0]}" if found[0] else "")
    evidence = [
        f"{number(now)} {facts.unit}s/min in {count} rows since {moment(since, facts.now)}; "
        f"the median of the first {rows:,} rows is {number(median)}",
        *found[1],
        *([f"GPU load since then {load:.0f}%"] if load is not None else []),
    ]
    return Advice("slower", f"{text}.", tuple(evidence), 1 - now / median)


def _evaluation(facts: Facts, calm: float, since: float) -> Cause | None:
    """One of its own runs for most of that time."""
    end = facts.rates.times[-1]
    shared = sum(max(min(end, last) - max(since, first), 0.0) for first, last in facts.evaluations())
    if shared < (end - since) / 2:
        return None
    share = percent(min(shared / (end - since), 1.0))
    return "its own evaluation runs beside it and shares the machine", [f"an evaluation ran {share} of that time"]


def _joined(facts: Facts, calm: float, since: float) -> Cause | None:
    """Who computes on the GPU now and did not before."""
    if facts.gpu is None or not facts.gpu.tenancies:
        return None
    tenancies = facts.gpu.tenancies
    before = [each for each in tenancies if each.time <= calm]
    sat = [tenant.who for tenant in before[-1].tenants] if before else []
    new: list[Tenant] = []
    for tenant in tenancies[-1].tenants:
        if tenant.who in sat:
            sat.remove(tenant.who)  # several that cannot be told apart are counted
        elif tenant.job != facts.job.id:
            new.append(tenant)
    if not new or not before:
        return None
    first = max(new, key=lambda tenant: tenant.gib)
    came = next(each.time for each in tenancies if first.who in [tenant.who for tenant in each.tenants])
    rest = f" and {len(new) - 1} more" if len(new) > 1 else ""
    who = ", ".join(_who(tenant) for tenant in new)
    text = f"another compute process ({_who(first)}){rest} joined the GPU"
    return text, [f"on the GPU since {moment(max(came, calm), facts.now)} and not before: {who}"]


def _who(tenant: Tenant) -> str:
    parts = [
        f"pid {tenant.pid} {tenant.name}".strip() if tenant.pid is not None else "outside this container",
        f"job {tenant.job}" if tenant.job is not None else f"user {tenant.user}" if tenant.user else "",
        f"{tenant.gib:.1f} GiB" if tenant.gib else "",
    ]
    return ", ".join(part for part in parts if part)


def _throttled(facts: Facts, calm: float, since: float) -> Cause | None:
    """The GPU's clock fell."""
    before = known(facts.gpu, CLOCK, max(facts.began, calm - BEFORE_S), calm)
    after = known(facts.gpu, CLOCK, since, facts.now)
    if min(len(before), len(after)) < LEAST_SAMPLES:
        return None
    old, new = statistics.median(before), statistics.median(after)
    if new >= CLOCK_FELL * old:
        return None
    bits = 0
    for value in known(facts.gpu, THROTTLE, since, facts.now):
        bits |= int(value)
    by = throttled_by(bits)
    heat, power = (mean(facts.gpu, column, since, facts.now) for column in (TEMPERATURE, POWER))
    evidence = [f"clock: median {old:,.0f} MHz before ({len(before)} samples), {new:,.0f} since ({len(after)})"]
    evidence += [f"NVML says: held down by {', '.join(by)}"] if by else []
    evidence += [f"temperature since then {heat:.0f} °C"] if heat is not None else []
    evidence += [f"power since then {power:.0f} W"] if power is not None else []
    throttled = f", throttled by {' and '.join(by)}" if by else ""
    return f"the GPU's clock fell from {old:,.0f} to {new:,.0f} MHz{throttled}", evidence


def _cpu_full(facts: Facts, calm: float, since: float) -> Cause | None:
    before = mean(facts.host, CPU, max(facts.began, calm - BEFORE_S), calm)
    after = mean(facts.host, CPU, since, facts.now)
    if after is None or after < CPU_FULL or (before is not None and after - before < CPU_ROSE):
        return None
    rose = f"; {before:.0f}% before" if before is not None else ""
    return f"the CPU is full ({after:.0f}% of {_cores(facts)})", [f"CPU load since then {after:.0f}%{rose}"]


def _nothing(facts: Facts, calm: float, since: float) -> Cause:
    """What was measured does not tell."""
    load, cpu = mean(facts.gpu, UTILIZATION, since, facts.now), mean(facts.host, CPU, since, facts.now)
    if cpu is None:
        return "", []
    before = mean(facts.host, CPU, max(facts.began, calm - BEFORE_S), calm)
    said = [f"CPU load since then {cpu:.0f}%" + (f"; {before:.0f}% before" if before is not None else "")]
    if cpu >= CPU_FULL or (load is not None and load >= GPU_BUSY):
        return "what was measured does not tell why; look at what the run itself does", said
    return "neither GPU nor CPU is full: look at the disk and at what the run waits for", said


def _cores(facts: Facts) -> str:
    return f"{facts.cores} core" if facts.cores == 1 else f"{facts.cores} cores"
