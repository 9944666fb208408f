"""The metrics of one job as they arrive, and what follows from them: its pace and its end."""

from __future__ import annotations

from collections.abc import Iterable

from pidec_train.protocol.metric_names import ENV_STEPS_PER_MIN, ITERS_PER_MIN

from .board import Activity, TraceView
from .charts.series import Series
from .manager.jobs import Job, MetricPoint

RATE = "steps_per_min"  # made here, from steps and times, for a job that logs no throughput


class Trace:
    """Grows with every read. Belongs to one thread; others get a `view()`."""

    def __init__(self, job_id: int) -> None:
        self.job_id = job_id
        self.last_row = 0
        self._series: dict[str, Series] = {}
        self._rate = Series()
        self.attempt = 0  # the newest one seen
        self._first: tuple[int, float] | None = None  # (step, time) of the newest attempt's first row
        self._last: tuple[int, float] | None = None

    def take(self, points: Iterable[MetricPoint]) -> None:
        """Add what was read past `last_row`."""
        for point in points:
            self.last_row = max(self.last_row, point.row_id)
            self._series.setdefault(point.name, Series()).add(point.step, point.value)
            self._pace(point)

    def _pace(self, point: MetricPoint) -> None:
        """Steps per minute between this row of metrics and the one before, none across attempts."""
        if point.attempt < self.attempt:
            return
        if point.attempt > self.attempt or self._last is None:
            self.attempt = point.attempt
            self._first = self._last = (point.step, point.time)
            return
        steps, seconds = point.step - self._last[0], point.time - self._last[1]
        if steps > 0 and seconds > 0:
            self._rate.add(point.step, 60 * steps / seconds)
            self._last = (point.step, point.time)

    def view(self) -> TraceView:
        curves = {name: series.curve(name) for name, series in self._series.items()}
        if not {ITERS_PER_MIN, ENV_STEPS_PER_MIN} & set(curves) and len(self._rate):
            curves[RATE] = self._rate.curve(RATE)
        return TraceView(self.job_id, curves, self._last[1] if self._last else None)

    def activity(self, job: Job) -> Activity:
        """Rate from the trainer's own figure where it gives one; the end from all this attempt did so far.

        The trainer's figure leaves evaluation time out, the end must not: so it goes by the clock.
        """
        logged = self._series.get(ITERS_PER_MIN)
        rate = (logged.last() if logged else None) or self._rate.last()
        if not (self._first and self._last and job.total_steps):
            return Activity(rate)
        (step, time), (first_step, first_time) = self._last, self._first
        per_second = (step - first_step) / (time - first_time) if time > first_time else (rate or 0) / 60
        if per_second <= 0:
            return Activity(rate)
        return Activity(rate, time + max(job.total_steps - step, 0) / per_second)
