"""When a run needs somebody: stalled, not a number, slow, flat. Pure: its pulse and the settings in, sentences out."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from bisect import bisect_left
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pidec_train.protocol.metric_names import EVAL_SUCCESS_RATE, TRAIN_Q_VALUE, TRAIN_QF_LOSS

from .jobs import Job
from .pulse import Line, Pulse

if TYPE_CHECKING:
    from .settings import Settings

Key = tuple[str, str]  # which alert, and the metric that it is about, if any
STALLED, NAN, SLOW, PLATEAU, DISK = "stalled", "nan", "slow", "plateau", "disk"
DONE, FAILED, HELD = "done", "failed", "held"
COMMAND = "command"  # on_end or on_alert has failed

GAPS = 200  # between rows of metrics, that a run's rhythm is known by
LEAST_GAPS = 5
TYPICAL, LONGEST = 10, 3  # times the median gap, times the longest one: silence beyond both is no rhythm any more
EVALUATION_S = 3600.0  # that an evaluation may take while its run waits for it
LEAST_SLOW = 2  # rates in a row
AGAIN = 1.25  # times the share that counts as slow: as fast as usual again
DONE_SHARE = 0.9  # of the steps: flat near the end is what a schedule does
BLOCKS = 10  # of equal length, that the newest third of a curve is averaged in
T_95 = 2.306  # Student's t, two-sided 95 %, 8 degrees of freedom
TOLERANCE = 0.01  # of the loss, between the halves of that third
RECENT_EVALUATIONS, LEAST_EVALUATIONS = 5, 8
CEILING = 0.95  # of success: nothing is left to gain


def findings(pulse: Pulse, job: Job, settings: Settings, known: Container[Key] = ()) -> dict[Key, str]:
    """What is wrong with a run by what it has logged, a sentence each.

    Args:
        known: what was wrong at the last look; it stays so until it is clearly better.
    """
    found: dict[Key, str] = {}
    for key, text in (
        ((SLOW, ""), _slow(pulse, settings, (SLOW, "") in known)),
        ((PLATEAU, pulse.loss_name), _flat_loss(pulse, job, settings, (PLATEAU, pulse.loss_name) in known)),
        ((PLATEAU, EVAL_SUCCESS_RATE), flat_success(pulse, settings)),
    ):
        if text:
            found[key] = text
    for name, step in pulse.no_numbers.items():
        if name.rpartition("/")[2].endswith("loss") or name == TRAIN_Q_VALUE:
            found[NAN, name] = f"{name} is not a number since step {step:,.0f}"
    return found


def stalled(pulse: Pulse, settings: Settings, now: float, *, evaluating: bool = False) -> str:
    """Whether a run has been far longer without a row of metrics than it ever was; a sentence, "" if not.

    Args:
        now: unix seconds.
        evaluating: an evaluation of its own goes on, which it may be waiting for.
    """
    gaps = [later - earlier for earlier, later in itertools.pairwise(pulse.row_times[-GAPS - 1 :])]
    if len(gaps) < LEAST_GAPS or not settings.stalled_minutes:
        return ""
    usual = statistics.median(gaps)
    limit = max(settings.stalled_minutes * 60, TYPICAL * usual, LONGEST * max(gaps), EVALUATION_S if evaluating else 0)
    silent = now - pulse.row_times[-1]
    return f"no metrics for {span(silent)}; they came every {span(usual)}" if silent > limit else ""


def _slow(pulse: Pulse, settings: Settings, known: bool) -> str:
    """Every rate of the last minutes is below its share of what this attempt had, see `Pulse.usual`."""
    usual, rates = pulse.usual, pulse.rates
    if usual is None or usual[0] <= 0:
        return ""
    median, rows = usual
    limit = settings.slow_share * median * (AGAIN if known else 1)
    count = slow_stretch(rates, limit)
    if count < (1 if known else LEAST_SLOW) or count == len(rates.values):
        return ""
    began = rates.times[-count - 1]  # the last one that was as usual
    if rates.times[-1] - began < settings.slow_minutes * 60:
        return ""
    now = statistics.fmean(rates.values[-count:])
    since = time.strftime("%H:%M", time.localtime(began))
    of = "this run's median" if 2 * rows > len(rates.values) else f"the median of its first {rows:,} rows"
    return f"{_rate(now)} steps/min since {since}: {now / median:.0%} of {of}, {_rate(median)}"


def slow_stretch(rates: Line, limit: float) -> int:
    """How many of the newest rates, in a row, are below a limit."""
    return sum(1 for _ in itertools.takewhile(lambda rate: rate < limit, reversed(rates.values)))


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class FlatLoss:
    """A loss whose newest third, `steps` long and begun at `since` (unix seconds), is level: the change between its
    halves is within `margin`, 95 %."""

    name: str
    steps: float
    since: float
    level: float
    change: float
    margin: float


def _flat_loss(pulse: Pulse, job: Job, settings: Settings, known: bool) -> str:
    flat = flat_loss(pulse, job, settings, known=known)
    if flat is None:
        return ""
    changed = f"changed by {flat.change:+.2g} ± {flat.margin:.2g}"
    return f"{flat.name} flat for {flat.steps:,.0f} steps: {flat.level:.4g}, {changed}"


def flat_loss(pulse: Pulse, job: Job, settings: Settings, *, known: bool = False) -> FlatLoss | None:
    """The halves of the newest third differ by less than its noise, and by less than what would matter.

    Args:
        known: it was flat at the last look; then it is until the change is both beyond the noise and one that matters.
            Noise alone leaves its interval at one look in twenty, and would raise the alert again and again.
    """
    line = pulse.lines.get(pulse.loss_name)
    if line is None or pulse.loss_name == TRAIN_QF_LOSS or not settings.plateau_minutes or len(line.steps) < 6 * BLOCKS:
        return None  # critics chase a target that moves: their loss says nothing of how well it learns
    if job.total_steps and line.steps[-1] > DONE_SHARE * job.total_steps:
        return None
    means, begin = _blocks(line)
    if line.times[-1] - line.times[begin] < settings.plateau_minutes * 60 or len(means) < BLOCKS:
        return None
    first, second = means[: BLOCKS // 2], means[BLOCKS // 2 :]
    change = statistics.fmean(second) - statistics.fmean(first)
    margin = T_95 * math.sqrt((statistics.variance(first) + statistics.variance(second)) / (BLOCKS // 2))
    level = abs(statistics.fmean(means))
    in_noise, matters = abs(change) < margin, TOLERANCE * level
    if not (in_noise or abs(change) < matters if known else in_noise and abs(change) + margin < matters):
        return None
    steps = line.steps[-1] - line.steps[begin]
    return FlatLoss(pulse.loss_name, steps, line.times[begin], level, change, margin)


def _blocks(line: Line) -> tuple[list[float], int]:
    """Means of the blocks that have a value, and where the newest third begins."""
    start = line.steps[-1] - (line.steps[-1] - line.steps[0]) / 3
    begin = bisect_left(line.steps, start)
    length = (line.steps[-1] - line.steps[begin]) / BLOCKS or 1.0
    first = line.steps[begin]

    def block(step: float) -> int:
        return min(int((step - first) / length), BLOCKS - 1)

    # By bisection: to sort each value into its block took longer than all else that is asked of a row of metrics.
    edges = [bisect_left(line.steps, number, lo=begin, key=block) for number in range(BLOCKS)] + [len(line.steps)]
    parts = [line.values[start:end] for start, end in pairwise(edges) if end > start]
    return [statistics.fmean(part) for part in parts], begin


def flat_success(pulse: Pulse, settings: Settings) -> str:
    """None of the last evaluations is better than the best one before; a sentence, "" if that is not so."""
    line = pulse.lines.get(EVAL_SUCCESS_RATE)
    if line is None or len(line.values) < LEAST_EVALUATIONS or not settings.plateau_minutes:
        return ""
    earlier = list(line.values[:-RECENT_EVALUATIONS])
    best = max(earlier)
    if max(line.values[-RECENT_EVALUATIONS:]) > best or best >= CEILING:
        return ""
    if line.times[-1] - line.times[-RECENT_EVALUATIONS - 1] < settings.plateau_minutes * 60:
        return ""
    at, count = line.steps[earlier.index(best)], _since_best(line.values, best)
    told = f"{best:.0%} at step {at:,.0f} is still the best, the last one {line.values[-1]:.0%}"
    return f"success flat for {count} evaluations: {told}"


def _since_best(values: Sequence[float], best: float) -> int:
    return len(values) - 1 - list(values).index(best)


def span(seconds: float) -> str:
    """0.3 s, 40 s, 12 min, 1 h 05 min."""
    if 0 < seconds < 1:
        return f"{seconds:.1g} s"
    whole = max(round(seconds), 0)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
