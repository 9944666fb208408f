"""Load, memory and disk of this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class HostSample:
    """One look at the host. Memory and disk in bytes, `cpu_percent` over all cores since the last look."""

    cpu_percent: float
    cores: int
    load1: float
    memory_used: int
    memory_total: int
    disk_free: int


def sample_host(path: Path) -> HostSample:
    """CPU and memory now, and the free space of the disk that holds `path` (or its nearest parent that exists)."""
    memory = psutil.virtual_memory()
    return HostSample(
        cpu_percent=float(psutil.cpu_percent(interval=None)),
        cores=_cores(),
        load1=os.getloadavg()[0],
        memory_used=int(memory.total - memory.available),
        memory_total=int(memory.total),
        disk_free=disk_free(path),
    )


def _cores() -> int:
    """The cores that this process may use: a container or taskset may allow fewer than there are."""
    try:
        return len(os.sched_getaffinity(0))
    except OSError:
        return os.cpu_count() or 1


def disk_free(path: Path) -> int:
    """Bytes that are free on the disk that holds `path` (or its nearest parent that exists)."""
    for folder in (path.absolute(), *path.absolute().parents):
        try:
            return int(psutil.disk_usage(str(folder)).free)
        except OSError:
            continue
    return 0
