"""What the run's device does: idle, busy with small kernels, or the limit."""

from __future__ import annotations

from collections.abc import Iterator

from ..charts.ticks import number
from ..manager.machinelog import POWER, POWER_LIMIT, UTILIZATION
from ..manager.pulse import RECENT
from .facts import LEAST_ROWS, WINDOW_S, Advice, Facts, known, mean

GPU_BUSY, GPU_IDLE = 85.0, 60.0
CPU_BUSY = 85.0
LITTLE_POWER = 0.4  # of the limit: large kernels draw most of it
SMALL_WEIGHT = 0.2  # what is at stake cannot be told from the power
IDLE_WEIGHT = 0.5  # of the time that the GPU is idle: that it could be used for more is likely, not measured


def machine(facts: Facts, slow: bool = False) -> Iterator[Advice]:
    """What is idle, and always what the limit is: the plainest of all.

    Args:
        slow: it is slower than it was, for whatever reason: not as fast as it goes.
    """
    if not facts.job.state.active or len(facts.rates.values) < 1:
        return
    small = None
    if facts.gpu is not None and len(facts.rates.values) >= LEAST_ROWS:
        load = mean(facts.gpu, UTILIZATION, facts.now - WINDOW_S, facts.now)
        if load is not None and load < GPU_IDLE:
            yield _idle(facts, load)
        elif load is not None and load >= GPU_BUSY and (small := _small_kernels(facts, load)) is not None:
            yield small
    fast = not slow and small is None
    yield Advice("pace", f"{_limit(facts, fast)} {_pace(facts)}", _loads(facts), 0.0)


def _idle(facts: Facts, load: float) -> Advice:
    text = f"GPU {load:.0f}% used at {number(facts.pulse.rate or 0)} {facts.unit}s/min"
    if facts.cpu_load is not None and facts.cpu_load >= CPU_BUSY:
        text += f": the CPU is the limit ({facts.cpu_load:.0f}% of {_cores(facts)} busy)"
    elif facts.job.config.get("engine") == "eager":
        text += ": it waits for Python; engine eager → auto compiles and captures the step"
    elif facts.setting("batch_size"):
        text += ": it waits for the CPU; a larger batch costs little"
    evidence = (*_loads(facts), f"engine {facts.job.config.get('engine', 'not known')}")
    return Advice("gpu-idle", f"{text}.", evidence, IDLE_WEIGHT * (1 - load / 100))


def _small_kernels(facts: Facts, load: float) -> Advice | None:
    """Utilization is the share of the time in which any kernel ran: only the power tells how much it computed."""
    power = mean(facts.gpu, POWER, facts.now - WINDOW_S, facts.now)
    limit = mean(facts.gpu, POWER_LIMIT, facts.now - WINDOW_S, facts.now)
    if power is None or not limit or power >= LITTLE_POWER * limit:
        return None
    eager = facts.job.config.get("engine") == "eager"
    helps = "engine eager → auto, or a larger batch" if eager else "a larger batch costs little"
    text = f"GPU {load:.0f}% busy, but it draws {power:.0f} of {limit:.0f} W: its kernels are small; {helps}."
    return Advice("small-kernels", text, _loads(facts), SMALL_WEIGHT)


def _loads(facts: Facts) -> tuple[str, ...]:
    """Where the figures are from."""
    begin, minutes = facts.now - WINDOW_S, f"{WINDOW_S / 60:.0f} minutes"
    lines = []
    for name, block, column, live in (
        ("GPU", facts.gpu, UTILIZATION, facts.live_gpu),
        ("CPU", facts.host, "cpu", facts.live_cpu),
    ):
        values, average = known(block, column, begin, facts.now), mean(block, column, begin, facts.now)
        if average is not None:
            lines.append(f"{name} load {average:.0f}%: mean of {len(values)} samples in the last {minutes}")
        elif live is not None:
            lines.append(f"{name} load {live:.0f}%: mean of the last half minute")
    rates = facts.rates.values
    lines.append(f"rate: the newest {min(RECENT, len(rates))} of {len(rates):,} rows of this attempt")
    return tuple(lines)


def _limit(facts: Facts, fast: bool) -> str:
    """What is full, in one sentence; `fast`: and nothing speaks against it that more cannot be had."""
    gpu, cpu = facts.gpu_load, facts.cpu_load
    if gpu is not None:
        if gpu >= GPU_BUSY:
            return f"Limited by the GPU ({gpu:.0f}% busy){': as fast as it goes' if fast else ''}."
        return f"The GPU is {gpu:.0f}% busy{' and waits for the CPU' if gpu < GPU_IDLE else ''}."
    if cpu is None:
        return "Runs."
    if cpu >= CPU_BUSY:
        return f"Limited by the CPU ({cpu:.0f}% of {_cores(facts)} busy)."
    return f"The CPU is {cpu:.0f}% busy ({_cores(facts)})."


def _cores(facts: Facts) -> str:
    return f"{facts.cores} core" if facts.cores == 1 else f"{facts.cores} cores"


def _pace(facts: Facts) -> str:
    now, median = facts.pulse.rate or 0.0, facts.median
    if median is None or len(facts.rates.values) <= 2 * RECENT:
        return f"{number(now)} per minute so far."
    return f"{number(now)} per minute, median {number(median)}."
