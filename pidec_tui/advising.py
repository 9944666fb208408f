"""The feed's part in the truth about throughput: the machine during a job, and advice on it. In the feed's thread."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from .advice import FLAT_LOSS, Advice, Earlier, Facts, advise
from .advice.earlier import SPEED
from .advice.facts import LEAST_ROWS
from .board import Machine, TraceView
from .charts.series import Curve
from .machinetrace import MachineTrace
from .manager.jobs import Job, JobEvent
from .manager.machinelog import HOST, gpu_of
from .manager.manager import Manager
from .manager.pulse import Pulse

LIVE_S = 30.0  # of looks at the machine that count, however often it was looked at
EVERY_S = 5.0  # between two looks at the same job
LEAST_PAUSE = 300  # times what the look before has taken: a third of a percent of a core, however long the run is
MOST_EARLIER = 8  # jobs that one is held against: each is read once, which costs up to a fifth of a second

_Run = tuple[int, int]  # a job, and how many attempts it has: after a retry its rates are others


class Adviser:
    """Belongs to one thread. It remembers what it has read of one job, and the rates of jobs that are over.

    Args:
        pulse_of: a job's pulse, brought up to date.
        clock: unix seconds.
    """

    def __init__(self, manager: Manager, pulse_of: Callable[[Job], Pulse], clock: Callable[[], float]) -> None:
        self._manager = manager
        self._pulse_of = pulse_of
        self._clock = clock
        self._whose: _Run = (0, 0)
        self._trace = MachineTrace()
        self._over: tuple[_Run, Pulse] | None = None  # the pulse of a job that is over, which nobody else keeps
        self._earlier: dict[_Run, Earlier | None] = {}  # None: too little to go by
        self._loads: dict[str, deque[tuple[float, float]]] = {}  # unix seconds and percent, by device
        self._cores = 1
        self._flat: _Run | None = None  # whose loss was flat at the last look: it is so until it clearly is not
        self._next: tuple[int, float] = (0, 0.0)  # job, and when it is looked at again

    def forget(self) -> None:
        """All that was read: the job log was rebuilt."""
        self._whose, self._trace = (0, 0), MachineTrace()
        self._over, self._earlier, self._flat = None, {}, None

    @property
    def compared(self) -> int:
        """How many other jobs' rates are known; more will be, one at each call of `advise`."""
        return len(self._earlier)

    def sampled(self, machine: Machine) -> None:
        """A look at the machine: what a run goes by that the runner does not sample."""
        loads = {gpu.uuid: gpu.utilization for gpu in machine.gpus}
        if machine.host is not None:
            loads[HOST] = machine.host.cpu_percent
            self._cores = machine.host.cores
        now, self._loads = self._clock(), {uuid: self._loads.get(uuid, deque()) for uuid in loads}
        for uuid, load in loads.items():
            known = self._loads[uuid]
            while known and now - known[0][0] >= LIVE_S:
                known.popleft()
            if load is not None:
                known.append((now, load))

    def machine(self, job: Job, curves: Mapping[str, Curve]) -> Mapping[str, Curve]:
        """What the machine did while this job's attempts ran, by metric name."""
        whose = _run(job)
        if whose != self._whose:
            self._whose, self._trace = whose, MachineTrace()
        self._trace.read_on(job, self._manager.machine, self._clock())
        clock = max(curves.values(), key=lambda curve: len(curve.xs), default=None)
        return self._trace.curves(job, clock)

    @property
    def last_sample(self) -> float:
        """Time of the newest sample of the job that `machine` was asked for."""
        return self._trace.last

    def is_due(self, job: Job) -> bool:
        """Whether it is time to look at this job again; at another one, or one that is over, it always is."""
        return job.id != self._next[0] or not job.state.active or time.monotonic() >= self._next[1]

    def advise(self, job: Job, view: TraceView, events: Sequence[JobEvent], jobs: Iterable[Job]) -> tuple[Advice, ...]:
        """What the figures of this job tell, the heaviest first. After `machine` of the same job."""
        if not job.attempts or not view.curves:
            return ()
        began = time.monotonic()
        blocks = self._trace.blocks
        gpu, host = gpu_of(job, blocks), blocks.get(HOST)
        found = advise(
            Facts(
                job=job,
                now=self._clock(),
                pulse=self._pulse(job),
                curves=view.curves,
                events=events,
                gpu=blocks[gpu] if gpu else None,
                host=host,
                live_gpu=self._live(gpu_of(job, self._loads)),
                live_cpu=self._live(HOST),
                cores=host.device.cores or self._cores if host else self._cores,
                earlier=self._held_against(job, jobs),
                settings=self._manager.settings,
                was_flat=self._flat == _run(job),
            )
        )
        self._flat = _run(job) if any(each.key == FLAT_LOSS for each in found) else None
        ended = time.monotonic()
        self._next = job.id, ended + max(EVERY_S, LEAST_PAUSE * (ended - began))
        return found

    def _pulse(self, job: Job) -> Pulse:
        if job.state.active:
            return self._pulse_of(job)
        if self._over is None or self._over[0] != _run(job):
            self._over = _run(job), self._pulse_of(job)
        return self._over[1]

    def _live(self, device: str | None) -> float | None:
        loads = self._loads.get(device) if device else None
        return statistics.fmean(load for _, load in loads) if loads else None

    def _held_against(self, job: Job, jobs: Iterable[Job]) -> list[Earlier]:
        """Jobs of the same kind, task and device that are over, newest first. At each call at most one is read."""
        if job.kind not in SPEED:
            return []
        alike = [other for other in jobs if other.state.finished and other.id != job.id and _alike(other, job)]
        alike.sort(key=lambda other: -(other.ended or 0))
        new = next((other for other in alike[:MOST_EARLIER] if _run(other) not in self._earlier), None)
        if new is not None:
            pulse = Pulse()
            pulse.take(self._manager.curves(new.id))
            rates = len(pulse.rates.values)
            enough = rates >= LEAST_ROWS and pulse.median
            self._earlier[_run(new)] = Earlier(new.id, new.config, pulse.median or 0.0, rates) if enough else None
        return [each for other in alike[:MOST_EARLIER] if (each := self._earlier.get(_run(other))) is not None]


def _run(job: Job) -> _Run:
    return job.id, len(job.attempts)


def _alike(other: Job, job: Job) -> bool:
    """Whether their rates are about the same work on the same device."""
    if other.kind != job.kind or other.config.get("env_id") != job.config.get("env_id") or not other.attempts:
        return False
    return other.attempts[-1].gpu == job.attempts[-1].gpu
