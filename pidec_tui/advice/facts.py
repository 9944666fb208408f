"""What advice is made from, and what it is. Pure: figures that were measured, nothing else."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import mul, sub
from typing import Any

from ..charts.series import Curve
from ..manager.jobs import Job, JobEvent
from ..manager.machinelog import CPU, UTILIZATION, MachineBlock
from ..manager.pulse import RECENT, Line, Pulse
from ..manager.settings import Settings

LEAST_S = 60.0  # of measurements, before anything is said of them
LEAST_ROWS = 2 * RECENT + 1  # of metrics: more than what counts as "now"
LEAST_SAMPLES = 6  # of the machine: half a minute
NAMED = 3  # jobs, at most
WINDOW_S = 300.0  # that counts as "now" for the machine


@dataclass(frozen=True)
class Advice:
    """A sentence that tells something, and what it is made from.

    Attributes:
        key: what kind of advice; dismissed by it.
        evidence: the figures, a line each, with the time or the jobs that they are from.
        weight: about which share of the run's time is at stake, 0 to 1; the heaviest is shown first.
    """

    key: str
    text: str
    evidence: tuple[str, ...]
    weight: float


@dataclass(frozen=True)
class Wait:
    """Time of this attempt that was no training: `seconds` in all, of `of` seconds in `rows` rows since `since`."""

    seconds: float
    of: float
    rows: int
    since: float

    @property
    def share(self) -> float:
        return self.seconds / self.of if self.of else 0.0


@dataclass(frozen=True)
class Earlier:
    """Another job of the same kind, task and device: its median rate in steps per minute, of `rates` measured ones."""

    job_id: int
    config: Mapping[str, Any]
    median: float
    rates: int


def middle(jobs: Sequence[Earlier]) -> float:
    """Their usual rate, steps per minute."""
    return statistics.median(job.median for job in jobs)


def named(jobs: Sequence[Earlier]) -> str:
    """job 12; jobs 15, 14, 12, …"""
    numbers = ", ".join(str(job.job_id) for job in jobs[:NAMED]) + (", …" if len(jobs) > NAMED else "")
    return f"{'job' if len(jobs) == 1 else 'jobs'} {numbers}"


@dataclass(frozen=True)
class Evaluated:
    """This attempt's rates by whether an evaluation ran at the time: rates in steps per minute, times in seconds."""

    during: Sequence[float]
    alone: Sequence[float]
    evaluations: int
    ran: float
    whole: float
    steps: float

    @property
    def busy(self) -> float:
        return min(self.ran / self.whole, 1.0)

    @property
    def apart(self) -> float:
        """Steps between two evaluations that ran; of those that wait for one, only the newest does."""
        return self.steps / self.evaluations


@dataclass(frozen=True)
class Facts:
    """One job at one moment.

    Attributes:
        now: unix seconds.
        pulse: its rates, losses and successes.
        curves: all that it logs.
        events: of the whole job.
        gpu: the samples of the GPU that it runs on; None: it runs on none, or nobody has measured.
        host: those of the host.
        live_gpu, live_cpu: percent, mean of the last half minute, for a run that the runner does not sample.
        earlier: newest first.
        was_flat: its loss was told to be flat at the last look.
    """

    job: Job
    now: float
    pulse: Pulse
    curves: Mapping[str, Curve] = field(default_factory=dict)
    events: Sequence[JobEvent] = ()
    gpu: MachineBlock | None = None
    host: MachineBlock | None = None
    live_gpu: float | None = None
    live_cpu: float | None = None
    cores: int = 1
    earlier: Sequence[Earlier] = ()
    settings: Settings = field(default_factory=Settings)
    was_flat: bool = False

    # --- the run

    @property
    def unit(self) -> str:
        return self.job.step_name or "step"

    @property
    def began(self) -> float:
        """When this attempt did."""
        return self.job.attempts[-1].started if self.job.attempts else 0.0

    @property
    def waits(self) -> str:
        """The verb at the beginning of a sentence, by whether the run is over."""
        return "Waiting" if self.job.state.active else "Waited"

    @property
    def rates(self) -> Line:
        return self.pulse.rates

    @cached_property
    def median(self) -> float | None:
        """Of this attempt's rates, see `Pulse`; sorting them takes the longest of all."""
        return self.pulse.median

    @property
    def steps_left(self) -> int:
        job = self.job
        return max(job.total_steps - job.step, 0) if job.state.active and job.total_steps and job.step else 0

    @property
    def seconds_per_step(self) -> float | None:
        """By the median rate."""
        return 60 / self.median if self.median else None

    def setting(self, name: str) -> int | None:
        value = self.job.config.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

    def wait(self, ratio: str) -> Wait | None:
        """What this metric, a share of the time since the row before, comes to in this attempt; None: too short."""
        curve = self.curves.get(ratio)
        if curve is None or not curve.times:
            return None
        first = bisect_left(curve.times, self.began)
        times, shares = curve.times[first:], curve.ys[first + 1 :]
        rows, of = len(shares), times[-1] - times[0] if times else 0.0
        if rows < RECENT or of < LEAST_S:
            return None
        seconds = sum(map(mul, shares, map(sub, times[1:], times)))  # of 50,000 rows in a few milliseconds
        return None if math.isnan(seconds) else Wait(seconds, of, rows, times[0])

    def count(self, event: str, phase: str | None = None) -> int:
        """Events of this attempt."""
        number = self.pulse.attempt
        found = [each for each in self.events if each.attempt == number and each.event == event]
        return sum(1 for each in found if phase is None or each.detail.get("phase") == phase)

    def evaluations(self) -> list[tuple[float, float]]:
        """When evaluations of its own ran beside this attempt, begin and end; one that goes on ends now."""
        spans: list[tuple[float, float]] = []
        begun: tuple[int | None, float] | None = None
        for event in self.events:
            if event.attempt != self.pulse.attempt:
                continue
            phase = event.detail.get("phase") if event.event == "eval" else None
            if phase == "start":
                begun = event.step, event.time
            elif begun is not None and (
                event.event == "end" or (phase in ("done", "failed") and event.step == begun[0])
            ):
                spans.append((begun[1], event.time))
                begun = None
        if begun is not None and self.job.state.active:
            spans.append((begun[1], self.now))
        return spans

    @cached_property
    def evaluated(self) -> Evaluated | None:
        """None: no evaluation ran beside this attempt, or the time is too short."""
        spans, rates = self.evaluations(), self.rates
        whole = rates.times[-1] - rates.times[0] if rates.times else 0.0
        if not spans or whole < LEAST_S:
            return None
        during: list[float] = []
        alone: list[float] = []
        behind = 0  # spans that are over; both are in the order of time
        for at in range(1, len(rates.times)):
            begin, end = rates.times[at - 1], rates.times[at]
            while behind < len(spans) and spans[behind][1] <= begin:
                behind += 1
            shared = 0.0
            for first, last in spans[behind : behind + 2]:
                shared += max(min(end, last) - max(begin, first), 0.0)
            (during if shared >= (end - begin) / 2 else alone).append(rates.values[at])
        ran = sum(last - first for first, last in spans)
        return Evaluated(during, alone, len(spans), ran, whole, rates.steps[-1] - rates.steps[0])

    # --- the machine

    @property
    def gpu_load(self) -> float | None:
        """Percent, now."""
        measured = mean(self.gpu, UTILIZATION, self.now - WINDOW_S, self.now)
        return measured if measured is not None else self.live_gpu

    @property
    def cpu_load(self) -> float | None:
        """Percent of all cores, now."""
        measured = mean(self.host, CPU, self.now - WINDOW_S, self.now)
        return measured if measured is not None else self.live_cpu


def known(block: MachineBlock | None, column: str, begin: float, end: float) -> list[float]:
    """The samples of a stretch of time that are numbers."""
    if block is None:
        return []
    low, high = bisect_left(block.times, begin), bisect_right(block.times, end)
    return [value for value in block.columns[column][low:high] if not math.isnan(value)]


def mean(block: MachineBlock | None, column: str, begin: float, end: float) -> float | None:
    """Of a stretch of time; None: too few samples."""
    values = known(block, column, begin, end)
    return statistics.fmean(values) if len(values) >= LEAST_SAMPLES else None
