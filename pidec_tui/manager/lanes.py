"""Slots: one job per GPU, machine-wide; a number of cpu jobs per workspace. And why a job gets none, as a sentence."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .gpus import GpuMonitor, GpuSample
from .locks import Lock, read_note

SLOT_DIR_ENV = "PIDEC_SLOT_DIR"
NO_GPU = "no-gpu"
SAMPLE_S = 2.0  # asking NVML costs milliseconds of driver time

GIB = 2**30


@dataclass
class Slot:
    """A place to run in. `gpu` is a UUID, "no-gpu" or None (cpu lane); `lock` the machine-wide lock of a GPU."""

    gpu: str | None = None
    lock: Lock | None = None

    @property
    def fds(self) -> list[int]:
        """What the attempt's processes inherit, so that they hold the slot as long as one of them lives."""
        return [self.lock.fd] if self.lock else []

    def environ(self) -> dict[str, str]:
        """Pins the attempt to its GPU."""
        return {"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu and self.gpu != NO_GPU else {}

    def let_go(self) -> None:
        """Close our own hold; the attempt's processes keep theirs."""
        if self.lock:
            self.lock.release()


def slot_dir() -> Path:
    """The folder of the GPU slots' locks, the same for all users and workspaces of a machine.

    `$PIDEC_SLOT_DIR`, else /run/lock (a tmpfs that only a reboot empties), where that is not open to users /var/tmp.
    Not /dev/shm: systemd removes a user's files there when the user logs out, and a lock whose file was removed
    locks nothing. Not $TMPDIR: it may differ between users.
    """
    forced = os.environ.get(SLOT_DIR_ENV)
    if forced:
        return Path(forced)
    run_lock = Path("/run/lock")
    return run_lock if os.access(run_lock, os.W_OK | os.X_OK) else Path("/var/tmp")


def slot_path(gpu: str) -> Path:
    return slot_dir() / f"pidec-{re.sub(r'[^A-Za-z0-9._-]', '_', gpu)}.lock"


def in_container() -> bool:
    """Whether NVML's process ids may be the host's, and thus say nothing here."""
    if any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")):
        return True
    try:
        text = Path("/proc/1/cgroup").read_text() + Path("/proc/1/environ").read_bytes().decode(errors="replace")
    except OSError:
        return False
    return bool(re.search(r"docker|kubepods|containerd|libpod|/lxc/|\bcontainer=", text))


class GpuLane:
    """Gives out GPUs.

    Args:
        monitor: asks NVML.
        allowed_gib: GiB that somebody else's processes may hold on a GPU without being in the way.
        owner: what the slot's lock file says about its holder, "job 5 of /data/ws".
        container: for tests.
    """

    def __init__(self, monitor: GpuMonitor, allowed_gib: Callable[[], float], *, container: bool | None = None) -> None:
        self._monitor = monitor
        self._allowed_gib = allowed_gib
        self._container = in_container() if container is None else container
        self._gpus: list[GpuSample] = []
        self._broken = ""  # why there are none, where that does not mean that this machine has none
        self._sampled = -SAMPLE_S

    def take(self, job_id: int, workspace: Path, environ: Mapping[str, str], running: Mapping[str, int]) -> Slot | str:
        """A slot for a job, or the sentence that says what it waits for.

        Args:
            environ: the job's: CUDA_VISIBLE_DEVICES in it limits the choice.
            running: job ids of this workspace by the GPU that they run on.
        """
        gpus = self._sample()
        if not gpus and self._broken:
            return self._broken
        visible = environ.get("CUDA_VISIBLE_DEVICES")
        candidates = _visible(gpus, visible)
        if gpus and visible is not None and not candidates:
            return f'a GPU: CUDA_VISIBLE_DEVICES is "{visible}", here are {_listed(gpus)}'
        if not gpus:
            slot = self._lock(job_id, workspace, NO_GPU, "the one slot for gpu jobs, as there is no GPU", running)
            return slot
        reasons = []
        for gpu in candidates:
            slot = self._lock(job_id, workspace, gpu.uuid, f"GPU {gpu.index}", running)
            if isinstance(slot, Slot):
                others = foreign_use(gpu, self._allowed_gib(), self._container)
                if not others:
                    return slot
                slot.let_go()
                slot = f"GPU {gpu.index}: {others}"
            reasons.append(slot)
        return "; ".join(reasons)

    def touch(self, gpus: Iterable[str]) -> None:
        """Keep the lock files of running attempts young: cleaners of temporary folders go by age."""
        for gpu in gpus:
            with contextlib.suppress(OSError):
                os.utime(slot_path(gpu))

    def _sample(self) -> list[GpuSample]:
        if time.monotonic() - self._sampled >= SAMPLE_S:
            self._gpus = self._monitor.sample()
            # Kept beside them: others ask the same monitor, and what it says by then is of another look.
            self._broken = self._monitor.why_none if self._monitor.broken else ""
            self._sampled = time.monotonic()
        return self._gpus

    def _lock(self, job_id: int, workspace: Path, gpu: str, what: str, running: Mapping[str, int]) -> Slot | str:
        if gpu in running:
            return f"{what}: job {running[gpu]} runs there"
        path = slot_path(gpu)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # a forced folder may not be there yet
            lock = Lock.take(path, mode=0o666)  # any user of this machine may take it next
        except OSError as error:
            return f"{what}: its lock {path} cannot be opened ({error.strerror})"
        if lock is None:
            return f"{what}: {read_note(path).strip() or 'another pidec job'} runs there"
        lock.write(f"job {job_id} of {workspace} (user {_user()})\n")
        return Slot(gpu, lock)


def foreign_use(gpu: GpuSample, allowed_gib: float, container: bool) -> str:
    """Who else computes on a GPU whose slot is free, so that none of its processes is ours; "" if nobody to speak of.

    Where process ids do not resolve (a container sees the host's, or none), the memory that is held speaks.
    """
    known = [item for item in gpu.processes if item.pid is not None]
    heavy = [item for item in known if (item.memory or gpu.memory_used) > allowed_gib * GIB]
    if heavy:
        first = max(heavy, key=lambda item: item.memory)
        rest = f" and {len(heavy) - 1} more" if len(heavy) > 1 else ""
        memory = first.memory or gpu.memory_used
        return f"pid {first.pid} {first.name}, uid {first.uid}, {memory / GIB:.1f} GiB{rest}"
    unknown = [item for item in gpu.processes if item.pid is None]
    if not unknown and not (container and not known):
        return ""
    held = sum(item.memory for item in unknown) or gpu.memory_used
    if held <= allowed_gib * GIB:
        return ""
    return f"{held / GIB:.1f} GiB held outside this container" if container else f"{held / GIB:.1f} GiB held by others"


def _visible(gpus: Sequence[GpuSample], visible: str | None) -> list[GpuSample]:
    if visible is None:
        return list(gpus)
    wanted = [word.strip() for word in visible.split(",") if word.strip()]
    uuids = tuple(word for word in wanted if word.startswith("GPU-"))
    return [gpu for gpu in gpus if str(gpu.index) in wanted or gpu.uuid.startswith(uuids)]


def _listed(gpus: Sequence[GpuSample]) -> str:
    return ", ".join(str(gpu.index) for gpu in gpus)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
