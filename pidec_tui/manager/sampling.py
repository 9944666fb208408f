"""The runner's part in the truth about throughput: samples GPUs and host while a job is active, and keeps that.

A sample that cannot be had is a gap and one line in the runner's log; it never stops or holds up a job.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import pwd
import time
from collections.abc import Sequence
from pathlib import Path

from pidec_train.protocol.errors import PidecError

from .gpus import GpuMonitor, GpuProcess, GpuSample
from .host import HostSample, sample_host
from .joblog import JobLog
from .jobs import Job
from .machinelog import HOST, Device, MachineLog, Sample, Tenancy, Tenant

log = logging.getLogger("pidec.runner")

EVERY_S = 5.0
FLUSH_S = 15.0  # between two writes: each is a transaction that waits for the disk, which trainers need, too
THIN_S = 3600.0
MOST_WAITING = 2000  # samples that are kept while the job log cannot be written
MOVED_GIB = 0.5  # of a process's GPU memory that are news
GIB = 2**30


class Sampler:
    """Belongs to the runner's thread.

    Args:
        root: the workspace.
        every_s, flush_s: seconds between two samples, and between two writes of them.
    """

    def __init__(
        self,
        joblog: JobLog,
        monitor: GpuMonitor,
        root: Path,
        *,
        every_s: float = EVERY_S,
        flush_s: float = FLUSH_S,
    ) -> None:
        self._log = joblog
        self._machine = MachineLog(joblog)
        self._monitor = monitor
        self._root = root
        self._every_s, self._flush_s = every_s, flush_s
        self._next: float | None = None  # None: no job was active at the last look
        self._flushed = self._thinned = -math.inf
        self._samples: list[Sample] = []
        self._tenancies: list[tuple[Device, Tenancy]] = []
        self._present: dict[Device, tuple[Tenant, ...]] = {}  # the GPUs that were seen, with who computes there
        self._lost = self._refused = False

    def look(self, active: Sequence[Job]) -> None:
        """Sample if it is time to, and some job is active. Never raises."""
        now = time.monotonic()
        if not active:
            if self._next is not None:
                self.flush()
            self._next = None
            return
        if self._next is None:
            # The CPU's load is measured since the look before, which was before this job.
            sample_host(self._root)
            self._next = now + self._every_s
            return
        if now < self._next:
            return
        self._next = now + self._every_s
        moment = time.time()
        self._take_host(moment, sample_host(self._root))
        self._take_gpus(moment, self._monitor.sample(), active)
        if now - self._flushed >= self._flush_s:
            self.flush()

    def flush(self) -> None:
        """Write what was sampled. Never raises: what cannot be written now is tried again."""
        self._flushed = time.monotonic()
        if not self._samples:
            return
        try:
            with self._log.write():
                self._machine.add(self._samples)
                for device, tenancy in self._tenancies:
                    self._machine.add_tenants(device, tenancy)
                if self._flushed - self._thinned >= THIN_S:
                    self._machine.thin(time.time())
                    self._thinned = self._flushed
        except (PidecError, OSError) as error:
            if not self._refused:
                log.warning("samples of the machine are not written: %s", error)
            self._refused = True
            del self._samples[:-MOST_WAITING], self._tenancies[:-MOST_WAITING]
            return
        self._refused = False
        self._samples, self._tenancies = [], []

    def _take_host(self, moment: float, host: HostSample) -> None:
        device = Device(HOST, platform.node(), round(host.memory_total / GIB, 2), host.cores)
        self._samples.append(Sample(moment, device, (host.cpu_percent, host.memory_used / GIB)))

    def _take_gpus(self, moment: float, gpus: Sequence[GpuSample], active: Sequence[Job]) -> None:
        lost = not gpus and self._monitor.broken
        if lost != self._lost:
            self._lost = lost
            log.warning("no samples of the GPU: %s" if lost else "samples of the GPU again%s", self._monitor.why_none)
        if lost:  # a gap, instead of a line from the last sample to the next
            gone = [Sample(moment, device, (math.nan,) * len(device.columns)) for device in self._present]
            self._samples += gone
            return
        sessions = _sessions(active)
        for gpu in gpus:
            device = Device(gpu.uuid, gpu.name, round(gpu.memory_total / GIB, 2))
            self._samples.append(Sample(moment, device, _values(gpu)))
            tenants = tuple(_tenant(process, sessions) for process in gpu.processes)
            if device not in self._present or _news(self._present[device], tenants):
                self._present[device] = tenants
                self._tenancies.append((device, Tenancy(moment, tenants)))


def _values(gpu: GpuSample) -> tuple[float, ...]:
    """In the order of GPU_COLUMNS."""
    told = (gpu.utilization, gpu.memory_used / GIB, gpu.power_w, gpu.power_limit_w, gpu.sm_clock_mhz)
    return tuple(math.nan if value is None else float(value) for value in (*told, gpu.temperature_c, gpu.throttle))


def _sessions(active: Sequence[Job]) -> dict[int, int]:
    """The jobs by the session that their shim has made, which all of their processes are in."""
    found = {}
    for job in active:
        pid = job.attempts[-1].pid if job.attempts else None
        session = _session(pid) if pid is not None else None
        if session is not None:
            found[session] = job.id
    return found


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:  # it has ended
        return None


def _tenant(process: GpuProcess, sessions: dict[int, int]) -> Tenant:
    session = _session(process.pid) if process.pid is not None else None
    job = sessions.get(session) if session is not None else None
    return Tenant(process.pid, process.name, _user(process.uid), round(process.memory / GIB, 2), job)


def _user(uid: int | None) -> str:
    if uid is None:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _news(before: tuple[Tenant, ...], now: tuple[Tenant, ...]) -> bool:
    """Whether somebody came, went, or took another amount of memory; NVML promises no order."""
    before, now = (tuple(sorted(each, key=lambda tenant: (repr(tenant.who), tenant.gib))) for each in (before, now))
    if [tenant.who for tenant in before] != [tenant.who for tenant in now]:
        return True
    return any(abs(old.gib - new.gib) > MOVED_GIB for old, new in zip(before, now, strict=True))
