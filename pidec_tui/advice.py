"""One sentence on what a run waits for. Pure: figures in, sentence out."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pidec_train.protocol.metric_names import (
    ITERS_PER_MIN,
    TIME_DATA_RATIO,
    TIME_ENV_WAIT_RATIO,
    TIME_EVAL_WAIT_RATIO,
    TIME_SAVE_WAIT_RATIO,
    TRAIN_QF_LOSS,
)

from .board import Board, TraceView
from .charts.ticks import number
from .manager.jobs import JobEvent
from .trace import RATE
from .words import percent

WAIT_SHARE = 0.25  # a quarter of the time spent waiting is worth a change of settings
MOSTLY = 0.5  # of the time of a run that learns while it acts: simulators are its limit
SLOW = 0.75  # below this share of its own median a run is slower than usual, not merely uneven
GPU_BUSY, GPU_IDLE = 85.0, 60.0
CPU_BUSY = 85.0
RECENT = 3  # rows of metrics that count as "now"


@dataclass(frozen=True)
class Facts:
    """What the sentence is made from; None: not known.

    Attributes:
        rates: steps per minute of this run, oldest first.
        data_ratio, eval_wait_ratio, save_wait_ratio, env_wait_ratio: shares of the time, 0 to 1.
        gpu_load: percent, mean of the last half minute; None without a GPU.
        cpu_load: percent of all cores, mean of the last half minute.
        uses_gpu: whether the run itself runs on the GPU.
        evaluating: whether an evaluation of its own runs beside it.
    """

    rates: Sequence[float] = ()
    data_ratio: float | None = None
    eval_wait_ratio: float | None = None
    save_wait_ratio: float | None = None
    env_wait_ratio: float | None = None
    gpu_load: float | None = None
    cpu_load: float | None = None
    cores: int = 1
    uses_gpu: bool = True
    evaluating: bool = False


def advice(facts: Facts) -> str:
    """What the run waits for, and what would help. "" while there is nothing to go by.

    The trainer's own time ratios come first, because they are measured inside the run; then a fall below the run's own
    median, because that comes from outside; then the load of what it computes on.
    """
    rates = [rate for rate in facts.rates if rate == rate]
    if facts.eval_wait_ratio is not None and facts.eval_wait_ratio >= WAIT_SHARE:
        return (
            f"Waits for evaluations {percent(facts.eval_wait_ratio)} of the time: "
            "a larger eval_freq or fewer episodes would help."
        )
    if facts.data_ratio is not None and facts.data_ratio >= WAIT_SHARE:
        return f"Waits for data {percent(facts.data_ratio)} of the time: the CPU that gathers batches is the limit."
    if facts.save_wait_ratio is not None and facts.save_wait_ratio >= WAIT_SHARE:
        return (
            f"Waits for checkpoints to be written {percent(facts.save_wait_ratio)} of the time: "
            "a larger save_freq or a faster disk would help."
        )
    if facts.env_wait_ratio is not None and facts.env_wait_ratio >= MOSTLY:
        return f"Waits for simulators {percent(facts.env_wait_ratio)} of the time: more cores for them would help."
    if not rates:
        return ""
    now, median = statistics.fmean(rates[-RECENT:]), statistics.median(rates)
    if len(rates) > 2 * RECENT and now < SLOW * median:
        return f"Slower than usual: {number(now)} per minute, its median is {number(median)}. {_outside(facts)}"
    return f"{_limit(facts)} {_pace(now, median, len(rates))}"


def _outside(facts: Facts) -> str:
    if facts.evaluating:
        return "Its own evaluation runs beside it and shares the machine."
    if facts.cpu_load is not None and facts.cpu_load >= CPU_BUSY:
        return f"The CPU is full ({facts.cpu_load:.0f}% of {_cores(facts)}): something else may be using it."
    if facts.uses_gpu and facts.gpu_load is not None and facts.gpu_load >= GPU_BUSY:
        return f"The GPU is full ({facts.gpu_load:.0f}%): something else may be using it."
    return "Neither GPU nor CPU is full: look at disk, clocks and temperature."


def _limit(facts: Facts) -> str:
    """What is full, in one sentence."""
    if facts.uses_gpu and facts.gpu_load is not None:
        if facts.gpu_load >= GPU_BUSY:
            return f"Limited by the GPU ({facts.gpu_load:.0f}% busy): as fast as it goes."
        if facts.gpu_load < GPU_IDLE:
            return f"The GPU is {facts.gpu_load:.0f}% busy and waits for the CPU: a larger batch costs little."
        return f"The GPU is {facts.gpu_load:.0f}% busy."
    if facts.cpu_load is None:
        return "Runs."
    if facts.cpu_load >= CPU_BUSY:
        return f"Limited by the CPU ({facts.cpu_load:.0f}% of {_cores(facts)} busy)."
    return f"The CPU is {facts.cpu_load:.0f}% busy ({_cores(facts)})."


def _cores(facts: Facts) -> str:
    return f"{facts.cores} core" if facts.cores == 1 else f"{facts.cores} cores"


def _pace(now: float, median: float, count: int) -> str:
    if count <= 2 * RECENT:
        return f"{number(now)} per minute so far."
    return f"{number(now)} per minute, median {number(median)}."


def facts_of(board: Board, trace: TraceView) -> Facts:
    """The facts of the selected job."""
    job, host = board.job(), board.machine.host
    curve = trace.curves.get(ITERS_PER_MIN) or trace.curves.get(RATE)
    points = list(zip(curve.xs, curve.ys, strict=True)) if curve else []
    learns = trace.curves.get(TRAIN_QF_LOSS)
    # A run that first only acts and then learns, too, is slower from then on, and rightly so.
    since = learns.xs[0] if learns and len(learns.xs) else 0.0
    return Facts(
        rates=[rate for x, rate in points if rate == rate and x >= since],
        data_ratio=trace.last(TIME_DATA_RATIO),
        eval_wait_ratio=trace.last(TIME_EVAL_WAIT_RATIO),
        save_wait_ratio=trace.last(TIME_SAVE_WAIT_RATIO),
        env_wait_ratio=trace.last(TIME_ENV_WAIT_RATIO),
        gpu_load=statistics.fmean(board.gpu_load) if board.gpu_load else None,
        cpu_load=statistics.fmean(board.cpu_load) if board.cpu_load else None,
        cores=host.cores if host else 1,
        uses_gpu=bool(board.machine.gpus)
        and job is not None
        and job.config.get("device") != "cpu"
        and job.kind not in ("demos", "adapt"),
        evaluating=evaluating(board.events),
    )


def evaluating(events: Sequence[JobEvent]) -> bool:
    """Whether an evaluation has begun and not ended; there is one at a time."""
    step, runs = None, False
    for event in events:
        phase = event.detail.get("phase") if event.event == "eval" else None
        if phase == "start":
            step, runs = event.step, True
        elif event.event in ("start", "end") or (phase in ("done", "failed") and event.step == step):
            runs = False
    return runs
