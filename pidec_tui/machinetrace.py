"""What the machine did during one job, as curves along its steps and its time. Pure."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from pidec_train.protocol.metric_names import MACHINE

from .charts.series import Curve, Floats
from .manager import machinelog as columns
from .manager.jobs import Attempt, Job
from .manager.machinelog import GAP_S, HOST, MachineBlock, computed_on, gpu_of

_GPU = {
    MACHINE + "gpu_utilization": columns.UTILIZATION,
    MACHINE + "gpu_power": columns.POWER,
    MACHINE + "gpu_clock": columns.CLOCK,
    MACHINE + "gpu_memory": columns.MEMORY,
    MACHINE + "gpu_temperature": columns.TEMPERATURE,
}
_HOST = {MACHINE + "cpu": columns.CPU, MACHINE + "host_memory": columns.MEMORY}


def attempt_of(attempts: Sequence[Attempt], time: float) -> float | None:
    """When the attempt began that ran at this time; None: none did."""
    return max((each.started for each in attempts if each.started <= time), default=None)


class MachineTrace:
    """Grows with every read. Belongs to one thread.

    Attributes:
        blocks: the samples so far, by device.
        last: time of the newest; the next read goes on behind it.
    """

    def __init__(self) -> None:
        self.blocks: dict[str, MachineBlock] = {}
        self.last = 0.0
        self._curves: dict[str, Curve] = {}
        self._made_of: tuple[float, bool, float] = (0.0, False, 0.0)
        self._steps: dict[str, tuple[int, Floats]] = {}  # by device: how many are settled, and the steps

    def take(self, blocks: Iterable[MachineBlock]) -> None:
        """Add what was read behind `last`."""
        for block in blocks:
            own = self.blocks.setdefault(block.device.uuid, MachineBlock(block.device))
            own.times.extend(block.times)
            for name, values in block.columns.items():
                own.columns.setdefault(name, array("d")).extend(values)
            known = own.tenancies[-1].time if own.tenancies else -math.inf
            own.tenancies += [each for each in block.tenancies if each.time > known]
            if block.times:
                self.last = max(self.last, block.times[-1])

    def read_on(self, job: Job, read: Callable[[float, float], Iterable[MachineBlock]], now: float) -> None:
        """Take what `read` has between two moments, for all of the time in which the job's attempts ran."""
        for attempt in job.attempts:
            until = attempt.ended or now
            if until > self.last:
                self.take(read(max(self.last, attempt.started), until))

    def curves(self, job: Job, clock: Curve | None) -> Mapping[str, Curve]:
        """By metric; the same objects as before where no sample was added since: a step of the newest ones may then
        be that of a row before. What was measured before the attempt with the first row is left out: one that began
        from nothing has made the rows of earlier ones void.

        Args:
            clock: a curve of the job with its times, which tells the step at each moment; None: it has logged nothing,
                and all is at step 0.
        """
        began = attempt_of(job.attempts, clock.times[0]) if clock is not None and clock.times else None
        made_of = self.last, clock is not None, began or 0.0
        if self._made_of == made_of and self._curves:
            return self._curves
        self._made_of = made_of
        self._curves = {}
        chosen = gpu_of(job, self.blocks)
        for uuid, names in ((chosen, _GPU), (HOST, _HOST)):
            block = self.blocks.get(uuid) if uuid else None
            if block is not None:
                self._curves.update(self._of(block, names, job.attempts, clock, began or 0.0))
        return self._curves

    def _of(
        self,
        block: MachineBlock,
        names: Mapping[str, str],
        attempts: Sequence[Attempt],
        clock: Curve | None,
        began: float,
    ) -> dict[str, Curve]:
        steps = self._steps_of(block, attempts, clock)
        valid: Sequence[int] = range(bisect_left(block.times, began), len(steps))
        if not all(computed_on(each, block.device.uuid) for each in attempts):
            begins = [each.started for each in attempts]
            own = [computed_on(each, block.device.uuid) for each in attempts]
            valid = [at for at in valid if own[max(bisect_right(begins, block.times[at]) - 1, 0)]]
        order = sorted(valid, key=steps.__getitem__)  # stable; a resumed run goes back
        gaps = {late for early, late in pairwise(valid) if block.times[late] - block.times[early] > GAP_S}
        xs, times = array("d"), array("d")
        for at in order:
            if at in gaps:  # a point that is none, so that no line is drawn through the night
                xs.append(steps[at])
                times.append((block.times[at] + block.times[at - 1]) / 2)
            xs.append(steps[at])
            times.append(block.times[at])
        made = {}
        for name, column in names.items():
            values = block.columns[column]
            ys = array("d")
            for at in order:
                if at in gaps:
                    ys.append(math.nan)
                ys.append(values[at])
            if not all(map(math.isnan, ys)):
                made[name] = Curve(name, xs, ys, times=times)
        return made

    def _steps_of(self, block: MachineBlock, attempts: Sequence[Attempt], clock: Curve | None) -> Floats:
        """The step at each sample. Those behind the job's last row are looked at again when there is a newer one."""
        if clock is None or not clock.times:
            return array("d", bytes(8 * len(block.times)))
        settled, steps = self._steps.get(block.device.uuid, (0, array("d")))
        del steps[settled:]
        begins = [attempt.started for attempt in attempts]
        for time in block.times[settled:]:
            number = bisect_right(begins, time) - 1
            steps.append(_step_at(time, clock, attempts[number] if number >= 0 else None))
        self._steps[block.device.uuid] = bisect_right(block.times, clock.times[-1]), steps
        return steps


def _step_at(time: float, clock: Curve, attempt: Attempt | None) -> float:
    """Between two rows by the line; before an attempt's first row by the line from where it began."""
    times, xs = clock.times, clock.xs
    assert times is not None
    after = bisect_right(times, time)
    left_time, left = (times[after - 1], xs[after - 1]) if after else (time, 0.0)
    if attempt is not None and (not after or attempt.started > left_time):
        left_time, left = attempt.started, float(attempt.resumed_step or 0)
    if after == len(times):
        return left
    right_time, right = times[after], xs[after]
    if right_time <= left_time or right < left:
        return left
    return left + (right - left) * (time - left_time) / (right_time - left_time)
