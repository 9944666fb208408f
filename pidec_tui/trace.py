"""The metrics of one job as they arrive, and what follows from them: its pace and its end."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from operator import lt, sub

from pidec_train.protocol.metric_names import ENV_STEPS_PER_MIN, ITERS_PER_MIN

from .board import TraceView
from .charts.series import Curve, Floats
from .manager.jobs import MetricBlock

RATE = "steps_per_min"  # made here, from steps and times, for a job that logs no throughput
_LOGGED = {ITERS_PER_MIN, ENV_STEPS_PER_MIN}


class _Lines:
    """Metrics that were always logged together: one x axis for all their curves, which so costs memory once.

    Rows stay in the order of steps; of two that speak of one step, the later one counts.
    """

    def __init__(self) -> None:
        self.xs: Floats = array("d")
        self.times: Floats = array("d")
        self.columns: dict[str, Floats] = {}
        self._views: dict[str, Curve] = {}

    def add(self, xs: Floats, times: Floats, columns: Mapping[str, Floats]) -> None:
        """Append rows, or put those that come late into their places."""
        self._views = {}
        keep = bisect_left(self.xs, min(xs))
        if keep == len(self.xs) and all(map(lt, xs, xs[1:])):
            self.xs += xs
            self.times += times
            for name, values in columns.items():
                self.columns.setdefault(name, array("d")).extend(values)
            return
        xs = self.xs[keep:] + xs
        order = sorted(range(len(xs)), key=xs.__getitem__)  # stable: what was said later stays behind
        order = [i for i, after in zip(order, [*order[1:], -1], strict=True) if after < 0 or xs[after] != xs[i]]
        for name, values in columns.items():
            whole = self.columns.setdefault(name, array("d"))
            tail = whole[keep:] + values
            whole[keep:] = array("d", [tail[i] for i in order])
        tail = self.times[keep:] + times
        self.times[keep:] = array("d", [tail[i] for i in order])
        self.xs[keep:] = array("d", [xs[i] for i in order])

    def split(self, names: Iterable[str]) -> _Lines:
        """Take these metrics out: from now on they are logged without the others."""
        other = _Lines()
        other.xs, other.times = self.xs[:], self.times[:]
        other.columns = {name: self.columns.pop(name) for name in names}
        self._views = {}
        return other

    def views(self) -> dict[str, Curve]:
        """Copies; the same objects as before where nothing was added since."""
        if not self._views:
            xs, times = self.xs[:], self.times[:]
            self._views = {name: Curve(name, xs, ys[:], times=times) for name, ys in self.columns.items()}
        return self._views


class Trace:
    """Grows with every read. Belongs to one thread; others get a `view()`."""

    def __init__(self, job_id: int) -> None:
        self.job_id = job_id
        self.last_row = 0
        self.attempt = 0  # the newest one seen
        self._lines: dict[str, _Lines] = {}
        self._rate = _Lines()
        self._last: tuple[float, float] | None = None  # (time, step) of the newest attempt's newest row

    def take(self, blocks: Iterable[MetricBlock]) -> None:
        """Add what was read past `last_row`, earlier attempts first."""
        attempts: dict[int, list[MetricBlock]] = {}
        for block in blocks:
            self.last_row = max(self.last_row, block.last_row)
            attempts.setdefault(block.attempt, []).append(block)
            for lines, names in self._places(block.columns):
                lines.add(block.steps, block.times, {name: block.columns[name] for name in names})
        for attempt, told in attempts.items():
            if attempt >= self.attempt:
                self._pace(attempt, told)

    def _places(self, columns: Mapping[str, Floats]) -> list[tuple[_Lines, list[str]]]:
        """Which of the block's metrics go on in which lines."""
        new = _Lines()
        groups: dict[int, tuple[_Lines, list[str]]] = {}
        for name in columns:
            lines = self._lines.get(name, new)
            groups.setdefault(id(lines), (lines, []))[1].append(name)
        places = []
        for lines, names in groups.values():
            own = lines.split(names) if 0 < len(names) < len(lines.columns) else lines
            self._lines.update(dict.fromkeys(names, own))
            places.append((own, names))
        return places

    def _pace(self, attempt: int, blocks: list[MetricBlock]) -> None:
        """Steps per minute between each row of metrics and the one before, none across attempts.

        A trainer that logs its own rate needs begin and end alone.
        """
        own = any(_LOGGED & set(block.columns) for block in blocks)
        if not own and attempt > self.attempt and len(blocks) == 1 and _ascends(blocks[0]):
            self._whole_pace(attempt, blocks[0])
            return
        if own:
            rows = [(block.times[at], block.steps[at]) for block in blocks for at in (0, -1)]
        else:
            rows = [row for block in blocks for row in zip(block.times, block.steps, strict=True)]
        rows.sort()
        if attempt > self.attempt:
            self.attempt = attempt
            self._last = rows.pop(0)
        assert self._last is not None  # an attempt that was seen has a first row
        (last_time, last_step), xs, times, rates = self._last, array("d"), array("d"), array("d")
        for time, step in rows:
            if step > last_step and time > last_time:
                xs.append(step)
                times.append(time)
                rates.append(60 * (step - last_step) / (time - last_time))
                last_time, last_step = time, step
        self._last = last_time, last_step
        if xs and not own:
            self._rate.add(xs, times, {RATE: rates})

    def _whole_pace(self, attempt: int, block: MetricBlock) -> None:
        """The same for what most runs are when they are first read: one block, in order."""
        xs, times = block.steps[1:], block.times[1:]
        self.attempt = attempt
        self._last = block.times[-1], block.steps[-1]
        if xs:
            pairs = zip(map(sub, xs, block.steps), map(sub, times, block.times), strict=False)
            self._rate.add(xs, times, {RATE: array("d", [60 * steps / seconds for steps, seconds in pairs])})

    def view(self) -> TraceView:
        curves = {name: self._lines[name].views()[name] for name in self._lines}
        if not _LOGGED & set(curves):
            curves.update(self._rate.views())
        return TraceView(self.job_id, curves, self._last[0] if self._last else None)


def _ascends(block: MetricBlock) -> bool:
    return all(map(lt, block.steps, block.steps[1:])) and all(map(lt, block.times, block.times[1:]))
