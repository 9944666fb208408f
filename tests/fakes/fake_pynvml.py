"""Stands in for `pynvml`: the same functions, devices that a test describes.

nvml = FakeNvml([FakeGpu(uuid="GPU-a", memory_used=3 << 30, processes=[(4312, 18 << 30)])])
GpuMonitor(nvml).sample()
nvml.broken = nvml.NVMLError_GpuIsLost()        # every call fails from now on
nvml.answers.clear()                            # every call blocks until answers.set()
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

GIB = 2**30


class NVMLError(Exception):
    text = "Unknown Error"

    def __str__(self) -> str:
        return self.text


class NVMLError_LibraryNotFound(NVMLError):
    text = "NVML Shared Library Not Found"


class NVMLError_DriverNotLoaded(NVMLError):
    text = "Driver Not Loaded"


class NVMLError_LibRmVersionMismatch(NVMLError):
    text = "Driver/library version mismatch"


class NVMLError_NotSupported(NVMLError):
    text = "Not Supported"


class NVMLError_GpuIsLost(NVMLError):
    text = "GPU is lost"


class NVMLError_Uninitialized(NVMLError):
    text = "Uninitialized"


@dataclass
class FakeGpu:
    """One device. Memory in bytes, power in W; None for what the device does not support.

    `processes`: (pid, bytes or None) of compute processes, as NVML reports them.
    """

    uuid: str = "GPU-00000000-0000-0000-0000-000000000000"
    name: str = "NVIDIA Fake 4090"
    memory_used: int = GIB // 2
    memory_total: int = 24 * GIB
    utilization: int | None = 0
    power_w: float | None = 60.0
    power_limit_w: float | None = 450.0
    temperature_c: int | None = 40
    sm_clock_mhz: int | None = 2520
    processes: list[tuple[int, int | None]] = field(default_factory=list)
    throttle: int | None = 0


class FakeNvml:
    """Give it to `GpuMonitor(nvml=...)`. `broken`: an exception that every call then raises; `answers`: while it is
    not set, every call blocks, as in a driver that hangs."""

    NVML_CLOCK_SM = 1
    NVML_TEMPERATURE_GPU = 0
    NVMLError = NVMLError
    NVMLError_LibraryNotFound = NVMLError_LibraryNotFound
    NVMLError_DriverNotLoaded = NVMLError_DriverNotLoaded
    NVMLError_LibRmVersionMismatch = NVMLError_LibRmVersionMismatch
    NVMLError_NotSupported = NVMLError_NotSupported
    NVMLError_GpuIsLost = NVMLError_GpuIsLost

    def __init__(self, gpus: list[FakeGpu] | None = None) -> None:
        self.gpus = gpus if gpus is not None else [FakeGpu()]
        self.broken: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.initialised = 0
        self.calls = 0

    def _check(self) -> None:
        self.calls += 1
        self.answers.wait()
        if self.broken is not None:
            raise self.broken
        if self.initialised <= 0:
            raise NVMLError_Uninitialized()

    def nvmlInit(self) -> None:
        self.answers.wait()
        if self.broken is not None:
            raise self.broken
        self.initialised += 1

    def nvmlShutdown(self) -> None:
        self._check()
        self.initialised -= 1

    def nvmlDeviceGetCount(self) -> int:
        self._check()
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        self._check()
        return self.gpus[index]

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:
        self._check()
        return gpu.uuid

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> bytes:
        self._check()
        return gpu.name.encode()  # older drivers give bytes

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> Any:
        self._check()
        return SimpleNamespace(used=gpu.memory_used, total=gpu.memory_total, free=gpu.memory_total - gpu.memory_used)

    def nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> Any:
        return SimpleNamespace(gpu=self._known(gpu.utilization), memory=0)

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> int:
        return int(self._known(gpu.power_w) * 1000)

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu: FakeGpu) -> int:
        return int(self._known(gpu.power_limit_w) * 1000)

    def nvmlDeviceGetTemperature(self, gpu: FakeGpu, sensor: int) -> int:
        return int(self._known(gpu.temperature_c))

    def nvmlDeviceGetClockInfo(self, gpu: FakeGpu, clock: int) -> int:
        return int(self._known(gpu.sm_clock_mhz))

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> list[Any]:
        self._check()
        return [SimpleNamespace(pid=pid, usedGpuMemory=memory) for pid, memory in gpu.processes]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: FakeGpu) -> int:
        return int(self._known(gpu.throttle))

    def _known(self, value: Any) -> Any:
        self._check()
        if value is None:
            raise NVMLError_NotSupported()
        return value
