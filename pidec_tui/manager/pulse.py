"""How a job does, from its metrics as they arrive: its rate against its own median, loss, success, rhythm, end."""

from __future__ import annotations

import math
import statistics
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from pidec_train.protocol.metric_names import (
    EVAL,
    EVAL_SUCCESS_RATE,
    ITERS_PER_MIN,
    TRAIN_LOSS,
    TRAIN_QF_LOSS,
    TRAIN_SUCCESS_RATE,
)

from .jobs import Job, MetricBlock

_LOSSES = (TRAIN_LOSS, TRAIN_QF_LOSS)
_SUCCESSES = (EVAL_SUCCESS_RATE, TRAIN_SUCCESS_RATE)
RECENT = 3  # rates that count as "now"
LEAST_USUAL_S, LEAST_USUAL = 300.0, 21  # seconds and rows of a run's beginning that is no warm-up
ENDS_BY_S = 1200.0  # of a run, at least, that its end is reckoned by
RARELY = 200  # a median of many rows is that of a few more, too: of one 200th
SLOWED = 1.1  # times the median of all, that a beginning had: the run has become slower since


@dataclass
class Line:
    """One curve, in the order of its steps: what a later attempt has said of a step takes the place of the earlier.

    Attributes:
        steps, times, values: of equal length; times in unix seconds. A value that was no number is left out.
    """

    steps: array[float] = field(default_factory=lambda: array("d"))
    times: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def add(self, step: float, time: float, value: float) -> None:
        at = len(self.steps)
        if at and step <= self.steps[-1]:  # a resumed run, or an evaluation that ends beside the training
            at = bisect_left(self.steps, step)
            if self.steps[at] == step:
                self.times[at], self.values[at] = time, value
                return
        for column, item in ((self.steps, step), (self.times, time), (self.values, value)):
            column.insert(at, item)

    def last(self) -> float | None:
        return self.values[-1] if self.values else None


class Pulse:
    """The health of one job, grown by every read. Belongs to one thread.

    Attributes:
        last_row: of what was taken in; the next read goes on behind it.
        attempt: the newest that has metrics; rate, rhythm and end are its own.
        loss_name, success_name: the metrics that stand for them; "" while there is none.
        no_numbers: metrics whose newest value is none, with the step since which that is so.
    """

    def __init__(self) -> None:
        self.last_row = 0
        self.attempt = 0
        self.loss_name = self.success_name = ""
        self.lines: dict[str, Line] = {}
        self.no_numbers: dict[str, float] = {}
        self.rates = Line()
        self.row_times: array[float] = array("d")  # of rows that training has logged, ascending
        self._medians_at = (-1, 0, 0)  # attempt, last row and number of rates that they are of
        self._medians_are: tuple[float | None, tuple[float, int] | None] = (None, None)
        self._own_rate = False
        self._learns_since = -math.inf  # a run that first only acts is slower from then on, and rightly so
        self._first = self._last = (0.0, 0.0)  # (time, step) of the attempt's training rows

    def take(self, blocks: Iterable[MetricBlock]) -> None:
        """Add what was read behind `last_row`, earlier attempts first."""
        for block in blocks:
            self.last_row = max(self.last_row, block.last_row)
            if block.attempt > self.attempt:
                self._begin(block.attempt)
            self._take_curves(block)
            if block.attempt == self.attempt and any(not name.startswith(EVAL) for name in block.columns):
                self._take_pace(block)

    def _begin(self, attempt: int) -> None:
        self.attempt, self.rates, self.row_times = attempt, Line(), array("d")
        self._own_rate, self._learns_since = False, -math.inf
        self.no_numbers = {}

    def _take_curves(self, block: MetricBlock) -> None:
        for name, values in block.columns.items():
            kept = name in _LOSSES or name in _SUCCESSES or _is_loss(name) or _is_success(name)
            line = self.lines.setdefault(name, Line()) if kept else None
            if line is None and not any(map(math.isnan, values)):
                self.no_numbers.pop(name, None)
                continue
            for step, time, value in zip(block.steps, block.times, values, strict=True):
                if math.isnan(value):
                    self.no_numbers.setdefault(name, step)
                    continue
                self.no_numbers.pop(name, None)
                if line is not None:
                    line.add(step, time, value)
        self.loss_name, self.success_name = loss_name(self.lines), success_name(self.lines)

    def _take_pace(self, block: MetricBlock) -> None:
        if TRAIN_QF_LOSS in block.columns and self._learns_since == -math.inf:
            self._learns_since = block.times[0]
            self.rates = Line()
        if not self.row_times:
            self._first = self._last = (block.times[0], block.steps[0])
        if ITERS_PER_MIN in block.columns and not self._own_rate:
            self._own_rate, self.rates = True, Line()  # the trainer's own figure leaves evaluations out
        own = block.columns.get(ITERS_PER_MIN)
        for at, (time, step) in enumerate(zip(block.times, block.steps, strict=True)):
            if not self.row_times or time > self.row_times[-1]:
                self.row_times.append(time)
            seconds, steps = time - self._last[0], step - self._last[1]
            if own is not None and not math.isnan(own[at]):
                self.rates.add(step, time, own[at])
            elif not self._own_rate and steps > 0 and seconds > 0:
                self.rates.add(step, time, 60 * steps / seconds)
            if steps > 0 and seconds > 0:
                self._last = (time, step)

    # --- what follows from it ----------------------------------------------------------------------------------------

    @property
    def rate(self) -> float | None:
        """Steps per minute now: the mean of the newest `RECENT` rates; None: not known."""
        return statistics.fmean(self.rates.values[-RECENT:]) if self.rates.values else None

    @property
    def median(self) -> float | None:
        """The median of this attempt's rates, None before there are more than "now" counts."""
        return self._medians()[0]

    @property
    def usual(self) -> tuple[float, int] | None:
        """The rate that this attempt had before it became slow, if it did, and of how many of its first rates it is the
        median; None before there are more than "now" counts.

        Once a run has been slow for longer than not, the median of all is slow, too: so the highest of the medians of
        the whole, its first half, quarter and so on counts, as far as these are long enough to be no warm-up. Not if
        it is hardly higher: of many medians the highest is a bit too high.
        """
        return self._medians()[1]

    def _medians(self) -> tuple[float | None, tuple[float, int] | None]:
        """Both, of all rows or nearly all: to sort 90,000 rates takes 8 ms, twice, and a row may come each second."""
        rates, rows = self.rates, len(self.rates.values)
        attempt, row, known = self._medians_at
        if attempt != self.attempt or not (row == self.last_row or 0 < rows - known <= known // RARELY):
            whole = statistics.median(rates.values) if rows > RECENT else None
            found = None if whole is None else (whole, rows)
            self._medians_at = self.attempt, self.last_row, rows
            while (
                found and (rows := rows // 2) >= LEAST_USUAL and rates.times[rows - 1] - rates.times[0] >= LEAST_USUAL_S
            ):
                found = max(found, (statistics.median(rates.values[:rows]), rows))
            if whole is not None and found and found[0] < SLOWED * whole:
                found = (whole, self._medians_at[2])
            self._medians_are = whole, found
        return self._medians_are

    @property
    def loss(self) -> float | None:
        """The newest; NaN where it was no number."""
        if self.loss_name in self.no_numbers:
            return math.nan
        return self.lines[self.loss_name].last() if self.loss_name else None

    @property
    def success(self) -> float | None:
        """0 to 1."""
        return self.lines[self.success_name].last() if self.success_name else None

    @property
    def last_time(self) -> float | None:
        """When training last logged something, unix seconds."""
        return self.row_times[-1] if self.row_times else None

    def ends(self, job: Job) -> float | None:
        """When the job will be over, unix seconds; None: not known.

        By the clock, so evaluations count, over the newest quarter of the attempt or `ENDS_BY_S`: a run that has become
        slower or faster tells another end, and one that evaluates now and then always the same. Over the whole attempt
        where only one row is as new as that; never over the time in which a run only acted, once it learns.
        """
        (time, step), (begin, start) = self._last, self._first
        rates, since = self.rates, max(time - max((time - begin) / 4, ENDS_BY_S), self._learns_since)
        at = bisect_left(rates.times, since)
        if since > begin and at < len(rates.times) - 1:
            begin, start = rates.times[at], rates.steps[at]
        if not job.total_steps or time <= begin or step <= start:
            return None
        return time + max(job.total_steps - step, 0) * (time - begin) / (step - start)


def loss_name(names: Collection[str]) -> str:
    """The metric that stands for a job's loss; "" if there is none."""
    return _first(names, _LOSSES, _is_loss)


def success_name(names: Collection[str]) -> str:
    return _first(names, _SUCCESSES, _is_success)


def _first(names: Collection[str], usual: tuple[str, ...], alike: Callable[[str], bool]) -> str:
    """The usual name if there is one, else the first one that a job of somebody else's calls alike."""
    return next((name for name in (*usual, *sorted(filter(alike, names))) if name in names), "")


def _is_loss(name: str) -> bool:
    return name.rpartition("/")[2] in ("loss", "train_loss")


def grown(pulse: Pulse | None, read: Callable[[int], list[MetricBlock]]) -> Pulse:
    """A pulse with what has come since; a new attempt makes a new one, as it may have begun from nothing.

    Args:
        read: gives what lies behind a row.
    """
    blocks = read(pulse.last_row if pulse else 0)
    if pulse is not None and any(block.attempt > pulse.attempt for block in blocks):
        pulse, blocks = None, read(0)
    pulse = pulse or Pulse()
    pulse.take(blocks)
    return pulse


def _is_success(name: str) -> bool:
    return name.rpartition("/")[2] in ("success", "success_rate")
