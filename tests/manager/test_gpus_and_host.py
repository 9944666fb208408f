"""Samples of GPUs and host."""

from __future__ import annotations

import os
from pathlib import Path

from pidec_tui.manager.gpus import GpuMonitor
from pidec_tui.manager.host import sample_host
from tests.fakes.fake_pynvml import GIB, FakeGpu, FakeNvml


def test_a_sample_has_what_the_device_tells_and_none_for_the_rest() -> None:
    full = FakeGpu(uuid="GPU-a", utilization=97, memory_used=3 * GIB, processes=[(os.getpid(), GIB), (2**30, None)])
    poor = FakeGpu(
        uuid="GPU-b", utilization=None, power_w=None, power_limit_w=None, temperature_c=None, sm_clock_mhz=None
    )
    first, second = GpuMonitor(FakeNvml([full, poor])).sample()
    assert (first.index, first.uuid, first.utilization, first.memory_used) == (0, "GPU-a", 97.0, 3 * GIB)
    assert (first.power_w, first.power_limit_w, first.temperature_c, first.sm_clock_mhz) == (60.0, 450.0, 40.0, 2520)
    assert first.processes[0].pid == os.getpid() and first.processes[0].uid == os.getuid()
    assert first.processes[1].pid is None and first.processes[1].memory == 0
    assert second.utilization is None and second.power_w is None and second.sm_clock_mhz is None


def test_losing_nvml_in_mid_run_is_said_and_survived() -> None:
    """Lost without it: a dashboard that dies with the driver."""
    nvml = FakeNvml()
    monitor = GpuMonitor(nvml)
    assert len(monitor.sample()) == 1 and monitor.why_none == ""
    nvml.broken = FakeNvml.NVMLError_GpuIsLost()
    assert monitor.sample() == [] and monitor.why_none == "NVML does not answer: GPU is lost" and monitor.broken
    nvml.broken = None
    assert len(monitor.sample()) == 1 and not monitor.broken and monitor.why_none == ""


def test_no_driver_is_told_apart_from_a_broken_one() -> None:
    nvml = FakeNvml()
    nvml.broken = FakeNvml.NVMLError_LibraryNotFound()
    monitor = GpuMonitor(nvml)
    assert monitor.sample() == [] and monitor.why_none.startswith("no NVIDIA driver") and not monitor.broken
    assert GpuMonitor(FakeNvml([])).sample() == []


def test_the_real_nvml_never_raises() -> None:
    monitor = GpuMonitor()
    samples = monitor.sample()
    assert bool(samples) != bool(monitor.why_none)


def test_the_host_has_cores_memory_and_a_disk_even_below_a_folder_that_is_not_there(tmp_path: Path) -> None:
    sample = sample_host(tmp_path / "not" / "there")
    assert sample.cores >= 1 and 0 < sample.memory_used < sample.memory_total and sample.disk_free > 0
    assert 0 <= sample.cpu_percent <= 100
