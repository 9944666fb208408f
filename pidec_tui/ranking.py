"""Runs that are over, sorted by a smoothed metric. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pidec_train.protocol.metric_names import EVAL, EVAL_SUCCESS_RATE, ITERS_PER_MIN, TRAIN_LOSS, info

from .manager.jobs import Job

USUAL = (EVAL_SUCCESS_RATE, TRAIN_LOSS, ITERS_PER_MIN)  # that one key goes through
SMOOTH = 0.9  # of a curve, where the charts are not smoothed
ROWS = 300  # of a curve's end that count: the weight of what lies before is below 5 % even at 0.99


@dataclass(frozen=True)
class Ranking:
    """`metric`: what is sorted by; "": the queue's own order, the newest first. `turned`: the worst first.
    `values`: as far as they were read, by job."""

    metric: str = ""
    turned: bool = False
    values: Mapping[int, float] = field(default_factory=dict)

    def told(self, smooth: float) -> str:
        """For the head of the queue: what is sorted by; "" where nothing is."""
        if not self.metric:
            return ""
        weight = weight_of(self.metric, smooth)
        how = f", smoothed {weight:g}" if weight else ""
        return f"by {self.metric}{how}{', turned' if self.turned else ''}"


def weight_of(metric: str, smooth: float) -> float:
    """How much a metric is smoothed: as the charts are, else by `SMOOTH`; evaluations are points, and not at all."""
    return 0.0 if metric.startswith(EVAL) else smooth or SMOOTH


def smoothed_last(values: Sequence[float], weight: float) -> float | None:
    """The last value of the charts' running average (`charts.smooth.ema`); None without values."""
    total, weights, each = 0.0, 0.0, 1.0
    for value in reversed(values):
        total, weights = total + each * value, weights + each
        each *= weight
        if each < 1e-12:
            break
    return total / weights if weights else None


def ranked(jobs: Iterable[Job], ranking: Ranking) -> list[Job]:
    """What runs and waits in its order, then what is over by its value, the best first; without a value at the end."""
    jobs = list(jobs)
    over = [job for job in jobs if job.state.finished]
    down = (info(ranking.metric).better == "down") == ranking.turned  # the highest first
    known = sorted(
        (job for job in over if job.id in ranking.values), key=lambda job: ranking.values[job.id], reverse=down
    )
    unknown = [job for job in over if job.id not in ranking.values]
    return [*(job for job in jobs if not job.state.finished), *known, *unknown]
