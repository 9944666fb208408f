"""NVIDIA GPUs through NVML: devices, samples, who else computes there. Works without a GPU and without the driver."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_S = 1.0  # that a look may wait for NVML
YOUNG_S = 8.0  # for which an answer that came late counts as now: more than the pause between two samples of a runner
DOOR_PATIENCE_S = 10.0  # of who looks once and ends: a driver without persistence mode may take seconds to begin


@dataclass(frozen=True)
class GpuProcess:
    """A compute process on a GPU. `pid` is None where it cannot be found here (a container sees the host's pids).

    Attributes:
        uid: owner, None if unknown.
        memory: bytes on the GPU, 0 where NVML does not say.
    """

    pid: int | None
    name: str
    uid: int | None
    memory: int


@dataclass(frozen=True)
class GpuSample:
    """One look at one GPU; None for what the device or the driver does not tell.

    Attributes:
        utilization: percent of the last moment in which a kernel ran.
        memory_used, memory_total: bytes.
        processes: compute processes only; graphics do not count.
        throttle: why its clocks are lower than they could be, as NVML's bits (see `throttled_by`).
    """

    index: int
    uuid: str
    name: str
    utilization: float | None
    memory_used: int
    memory_total: int
    power_w: float | None
    power_limit_w: float | None
    temperature_c: float | None
    sm_clock_mhz: int | None
    processes: tuple[GpuProcess, ...]
    throttle: int | None = None


# NVML's bits for clocks that something holds down. Idle, sync boost and clocks that somebody has set are no trouble.
_THROTTLES = {
    0x04: "its power limit",
    0x08: "the hardware (heat or power)",
    0x20: "heat",
    0x40: "heat",
    0x80: "the power supply",
}


def throttled_by(bits: int) -> list[str]:
    """What holds the clocks down, in words; none for an idle GPU."""
    return list(dict.fromkeys(word for bit, word in _THROTTLES.items() if bits & bit))


_ABSENT = ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded", "ModuleNotFoundError", "ImportError")


@dataclass(frozen=True)
class _Answer:
    """What `GpuMonitor.sample` gives and says, as one."""

    samples: tuple[GpuSample, ...]
    why_none: str = ""
    broken: bool = False


class _Call:
    """One question to the driver, in a thread that nobody waits for longer than they like.

    Attributes:
        since: when it was asked, unix seconds.
        took: seconds until the answer.
    """

    def __init__(self, question: Callable[[], _Answer]) -> None:
        self.since, self._begun = time.time(), time.monotonic()
        self.took = self._ended = 0.0
        self.answer: _Answer | None = None
        self._done = threading.Event()
        # A daemon: the interpreter ends without waiting for it.
        try:
            threading.Thread(target=self._run, args=(question,), name="nvml", daemon=True).start()
        except RuntimeError as error:  # no more processes for this user
            self._ended = time.monotonic()
            self.answer = _Answer((), f"NVML cannot be asked: {error}", True)
            self._done.set()

    def _run(self, question: Callable[[], _Answer]) -> None:
        answer = question()
        self._ended = time.monotonic()
        self.took = self._ended - self._begun
        self.answer = answer  # the last of all: who sees it reads the rest
        self._done.set()

    def wait(self, seconds: float) -> None:
        """Until the answer is there, at most for so long."""
        self._done.wait(seconds)

    def is_old(self) -> bool:
        """Whether its answer is none for now any more."""
        return self.answer is not None and time.monotonic() - self._ended > YOUNG_S


class GpuMonitor:
    """Asks NVML, and goes on asking when it was lost. Belongs to one thread.

    A driver may take seconds to begin, and one that hangs never answers: it is asked in a thread of its own, one
    question at a time, and waited for once.

    Args:
        nvml: a module that speaks pynvml's interface; by default pynvml itself.
        patience_s: seconds that `sample` may wait for an answer.

    Attributes:
        why_none: why the last `sample` was empty, a sentence; "" if it was not.
        broken: there is a driver or a GPU, yet NVML fails (as after a driver update without a reboot) or does not
            answer: an empty sample then does not mean that this machine has no GPU.
    """

    def __init__(self, nvml: Any = None, *, patience_s: float = PATIENCE_S) -> None:
        self._driver = _Driver(nvml)
        self._patience_s = patience_s
        self._asked: _Call | None = None  # whose answer is still to come, or to be told
        self._told: _Call | None = None
        self.why_none = ""
        self.broken = False

    def sample(self) -> list[GpuSample]:
        """All GPUs now (or a moment ago, if the driver is slow), by index; empty if there is none or NVML does not
        answer (see `why_none`). Never raises, and never waits for longer than `patience_s`; for a question that is
        still out, not at all."""
        call = self._asked
        if call is None or call.is_old():
            call = _Call(self._driver.ask)
            call.wait(self._patience_s)
        if call.answer is not None:
            self._told = call
            # One that takes long is asked ahead: its answer is there at the next look.
            self._asked = _Call(self._driver.ask) if call.took > self._patience_s else None
        else:
            self._asked = call
            if self._told is not None and self._told.is_old():
                self._told = None
        answer = self._told.answer if self._told is not None else None
        if answer is None:
            since = time.strftime("%H:%M:%S", time.localtime(call.since))
            answer = _Answer((), f"NVML does not answer since {since}", True)
        self.why_none, self.broken = answer.why_none, answer.broken
        return list(answer.samples)

    def close(self) -> None:
        """Let go of NVML, unless it still owes an answer."""
        if self._asked is None:
            _Call(self._driver.close).wait(self._patience_s)


class _Driver:
    """NVML itself. Every call may block for as long as the driver likes; `GpuMonitor` makes one at a time."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._ready = False
        self._seen = False

    def ask(self) -> _Answer:
        try:
            nvml = self._started()
            samples = tuple(_sample(nvml, index) for index in range(int(nvml.nvmlDeviceGetCount())))
        except Exception as error:  # noqa: BLE001  NVML's errors, and whatever a broken driver library does
            return self._lost(error)
        self._seen = self._seen or bool(samples)
        return _Answer(samples, "" if samples else "no GPU: the NVIDIA driver lists none")

    def close(self) -> _Answer:
        if self._ready:
            self._ready = False
            with contextlib.suppress(Exception):
                self._nvml.nvmlShutdown()
        return _Answer(())

    def _started(self) -> Any:
        if self._nvml is None:
            import pynvml  # 40 ms that `pidec-jobs list` need not pay

            self._nvml = pynvml
        if not self._ready:
            self._nvml.nvmlInit()
            self._ready = True
        return self._nvml

    def _lost(self, error: Exception) -> _Answer:
        self.close()
        kind, text = type(error).__name__, str(error) or type(error).__name__
        absent = kind in _ABSENT
        if absent and not self._seen:
            return _Answer((), f"no NVIDIA driver: {text}", False)
        return _Answer((), f"NVML does not answer: {text}", True)


def _sample(nvml: Any, index: int) -> GpuSample:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    utilization = _ask(nvml, lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu))
    clock = _ask(nvml, lambda: int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)))
    return GpuSample(
        index=index,
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        name=_text(nvml.nvmlDeviceGetName(handle)),
        utilization=utilization,
        memory_used=int(memory.used),
        memory_total=int(memory.total),
        power_w=_ask(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
        power_limit_w=_ask(nvml, lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000),
        temperature_c=_ask(nvml, lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
        sm_clock_mhz=clock,
        processes=tuple(
            _process(item.pid, item.usedGpuMemory)
            for item in _ask(nvml, lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle)) or []
        ),
        throttle=_ask(nvml, lambda: int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))),
    )


def _ask(nvml: Any, question: Callable[[], Any]) -> Any:
    """The answer, or None where this device or driver has none; a lost GPU or driver is passed on."""
    try:
        return question()
    except nvml.NVMLError as error:
        if type(error).__name__ in ("NVMLError_GpuIsLost", "NVMLError_Uninitialized", "NVMLError_DriverNotLoaded"):
            raise
        return None


def _process(pid: int, memory: int | None) -> GpuProcess:
    folder = Path("/proc") / str(pid)
    try:
        name, uid = (folder / "comm").read_text().strip(), folder.stat().st_uid
    except OSError:
        return GpuProcess(None, "", None, memory or 0)
    return GpuProcess(pid, name, uid, memory or 0)


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
