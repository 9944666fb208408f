"""What the machine did while jobs ran: sampled by the runner, kept in the job log, thinned, read back."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import tracemalloc
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pidec_tui.manager import sampling
from pidec_tui.manager.gpus import GpuMonitor, throttled_by
from pidec_tui.manager.host import HostSample
from pidec_tui.manager.joblog import JobLog, JobLogBusy
from pidec_tui.manager.jobs import Attempt, Job, JobState
from pidec_tui.manager.lease import Lease
from pidec_tui.manager.machinelog import GPU_COLUMNS, HOST, Device, MachineBlock, MachineLog, Sample, Tenancy, Tenant
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.runner import Runner
from pidec_tui.manager.sampling import Sampler
from tests.fakes.fake_pynvml import GIB, FakeGpu, FakeNvml
from tests.manager.jobs_support import command, until

NOW = 1_790_000_000.0
CARD = Device("GPU-a", "NVIDIA Fake 4090", 24.0)
BOX = Device(HOST, "box", 64.0, 16)
JOB = Job(
    7, "diffusion", "peg", JobState.running, "gpu", {}, None, (), 0, "", "", 0, NOW, None, 0, 1_000_000, "iteration",
    attempts=(Attempt(1, "running", NOW, pid=os.getpid()),),
)  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Iterator[JobLog]:
    made = JobLog(tmp_path / "jobs.db", busy_ms=50)
    yield made
    made.close()


def sampled(log: JobLog, nvml: FakeNvml, root: Path) -> Sampler:
    """A sampler that samples and writes at every look."""
    made = Sampler(log, GpuMonitor(nvml), root, every_s=0, flush_s=0)
    made.look([JOB])
    return made


def read(log: JobLog) -> dict[str, MachineBlock]:
    return {block.device.uuid: block for block in MachineLog(log).blocks(0, 1e12)}


def gpu_sample(time: float, utilization: float, throttle: float = 0) -> Sample:
    return Sample(time, CARD, (utilization, 6.0, 300.0, 450.0, 2520.0, 60.0, throttle))


def test_a_sample_has_what_the_machine_tells_and_a_gap_for_the_rest(log: JobLog, tmp_path: Path) -> None:
    """Lost: why a run was slow last night; or a zero that is taken for a measurement."""
    nvml = FakeNvml([FakeGpu("GPU-a", utilization=97, memory_used=6 * GIB, power_w=None, throttle=0x44)])
    sampled(log, nvml, tmp_path).look([JOB])
    card, box = read(log)["GPU-a"], read(log)[HOST]
    assert [card.columns[name][0] for name in ("utilization", "memory", "clock")] == [97.0, 6.0, 2520.0]
    assert math.isnan(card.columns["power"][0]) and card.columns["throttle"][0] == 0x44
    assert throttled_by(0x44) == ["its power limit", "heat"] and throttled_by(0x01) == []
    assert box.device.cores and 0 < box.columns["memory"][0] < box.device.memory_gib
    assert list(box.times) == list(card.times)


def test_nothing_is_sampled_while_no_job_runs(log: JobLog, tmp_path: Path) -> None:
    """Lost: a job log that grows by itself; or the CPU's load of the hours before a job as its first sample."""
    nvml = FakeNvml()
    sampler = Sampler(log, GpuMonitor(nvml), tmp_path, every_s=0, flush_s=0)
    sampler.look([])
    assert nvml.calls == 0
    sampler.look([JOB])
    assert read(log) == {}, "the first look only begins to measure"
    sampler.look([JOB])
    sampler.look([])
    assert len(read(log)[HOST].times) == 1


def test_nvml_lost_in_mid_run_is_a_gap_and_one_line_and_the_host_goes_on(
    log: JobLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Lost: a runner that stops with the driver; or a flat line where nobody measured."""
    nvml = FakeNvml([FakeGpu("GPU-a", utilization=97)])
    sampler = sampled(log, nvml, tmp_path)
    with caplog.at_level(logging.INFO, logger="pidec.runner"):
        sampler.look([JOB])
        nvml.broken = FakeNvml.NVMLError_GpuIsLost()
        sampler.look([JOB])
        sampler.look([JOB])
        nvml.broken = None
        sampler.look([JOB])
    shown = [None if math.isnan(value) else value for value in read(log)["GPU-a"].columns["utilization"]]
    assert shown == [97.0, None, None, 97.0] and len(read(log)[HOST].times) == 4
    said = [record.getMessage() for record in caplog.records]
    assert said == ["no samples of the GPU: NVML does not answer: GPU is lost", "samples of the GPU again"]


def test_who_computes_there_is_written_when_it_changes_and_our_own_job_is_told_apart(
    log: JobLog, tmp_path: Path
) -> None:
    """Lost: the pid and the name of whoever joined the GPU; or our own trainer, blamed for its own run."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        card = FakeGpu("GPU-a", processes=[(os.getpid(), 6 * GIB)])
        sampler = sampled(log, FakeNvml([card]), tmp_path)
        sampler.look([JOB])
        sampler.look([JOB])
        card.processes.append((other.pid, 18 * GIB))
        sampler.look([JOB])
        sampler.look([JOB])
    finally:
        other.kill()
        other.wait()
    first, second = read(log)["GPU-a"].tenancies
    assert [(each.pid, each.job) for each in first.tenants] == [(os.getpid(), 7)]
    joined = second.tenants[1]
    assert (joined.pid, joined.gib, joined.job) == (other.pid, 18.0, None) and joined.name and joined.user


def test_processes_in_another_order_are_no_news(log: JobLog, tmp_path: Path) -> None:
    """Lost: megabytes a day, to a driver that lists the same processes in turns."""
    card = FakeGpu("GPU-a", processes=[(os.getpid(), 6 * GIB), (os.getppid(), 18 * GIB)])
    sampler = sampled(log, FakeNvml([card]), tmp_path)
    for _ in range(3):
        sampler.look([JOB])
        card.processes.reverse()
    assert len(read(log)["GPU-a"].tenancies) == 1


def test_a_job_log_that_is_locked_costs_no_sample(
    log: JobLog, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: the hour in which somebody copied the job log; or a runner that gives up over a sample."""
    sampler = sampled(log, FakeNvml(), tmp_path)

    def locked(self: MachineLog, samples: object) -> None:
        raise JobLogBusy("the job log is locked by another process")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, logger="pidec.runner"):
        patch.setattr(MachineLog, "add", locked)
        sampler.look([JOB])
        sampler.look([JOB])
    assert len(caplog.records) == 1 and read(log) == {}
    sampler.look([JOB])
    assert len(read(log)[HOST].times) == 3


def test_after_a_day_a_minute_is_one_sample(log: JobLog) -> None:
    """Lost: a job log that a month of training makes too large; or the throttling of a night, averaged away."""
    machine = MachineLog(log)
    begin = (NOW - 90_000) // 60 * 60
    old = [gpu_sample(begin + 5 * i, 90.0 + i % 2, throttle=8 if i == 3 else 0) for i in range(24)]
    gap = [replace(old[0], time=begin + 120 + 5 * i, values=(math.nan,) * len(GPU_COLUMNS)) for i in range(2)]
    with log.write():
        machine.add([*old, *gap, gpu_sample(NOW - 60, 50.0), gpu_sample(NOW - 55, 52.0)])
        assert machine.thin(NOW) == 26 - 3
    with log.write():
        assert machine.thin(NOW) == 0 == MachineLog(log).thin(NOW), "nor by a runner that has just begun"
    card = read(log)["GPU-a"]
    assert list(card.times) == [begin + 30, begin + 90, begin + 150, NOW - 60, NOW - 55]
    assert list(card.columns["utilization"][:2]) == [90.5, 90.5] and math.isnan(card.columns["utilization"][2])
    assert list(card.columns["throttle"][:2]) == [8.0, 0.0]


def test_what_an_earlier_runner_has_thinned_is_not_read_into_memory(log: JobLog) -> None:
    """Lost: the memory of a runner that begins behind a year of samples, and seconds in which the job log is locked."""
    machine = MachineLog(log)
    begin = (NOW - 90_000) // 60 * 60
    with log.write():
        machine.add(gpu_sample(begin - 60 * i + 30, 90.0) for i in range(20_000))
        machine.add(gpu_sample(begin + 60 + 5 * i, 90.0) for i in range(12))
    tracemalloc.start()
    try:
        with log.write():
            assert MachineLog(log).thin(NOW) == 11
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_of_sixty_days_of_a_process_that_comes_and_goes_the_last_word_of_each_minute_stays(log: JobLog) -> None:
    """Lost: a job log that grows without end, to whoever runs a short CUDA program in a loop beside the training."""
    machine, day, step = MachineLog(log), 86_400.0, 5.0
    begin = (NOW - 60 * day) // 60 * 60 + 30
    there = (Tenant(os.getpid(), "python", "ann", 18.2), Tenant(4312, "nvcc", "bob", 0.4))
    times = [begin + each * day + step * look for each in range(61) for look in range(60)]  # five minutes a day
    with log.write():
        for look, time in enumerate(times):
            machine.add_tenants(CARD, Tenancy(time, there[: 1 + look % 2]))
        machine.thin(NOW)
    left = dict(log.rows("SELECT time, tenants FROM machine_tenants"))
    ends = [begin + each * day + 60 * minute - 35 for each in range(59) for minute in range(1, 6)]
    old, new = [time for time in left if time < NOW - day], [time for time in left if time >= NOW - day]
    last = [begin + each * day + 60 * 5 - 5 for each in range(59)]  # of the minute that begins within the five
    assert sorted(old) == sorted({*ends, *last}) and new == times[-len(new) :] and len(new) > 60
    machine_again = MachineLog(log)
    with log.write():
        machine_again.thin(NOW)
        machine_again.add([gpu_sample(old[3] + 1, 50.0)])
    assert len(log.rows("SELECT 1 FROM machine_tenants")) == len(left), "nor by a runner that has just begun"
    (card,) = machine_again.blocks(old[3], old[3] + 10)
    assert [tenancy.time for tenancy in card.tenancies] == [old[3]], "who was there is still known"


def test_a_reader_goes_on_and_knows_who_was_there_before(log: JobLog) -> None:
    """Lost: the process that had joined just before what was read begins."""
    machine = MachineLog(log)
    sitting = Tenancy(NOW - 500, (Tenant(4312, "python", "ann", 18.2),))
    with log.write():
        machine.add([gpu_sample(NOW + 5 * i, i) for i in range(4)])
        machine.add([Sample(NOW, BOX, (38.0, 12.5))])
        machine.add_tenants(CARD, replace(sitting, time=NOW - 900, tenants=()))
        machine.add_tenants(CARD, sitting)
        machine.add_tenants(CARD, replace(sitting, time=NOW + 12, tenants=()))
    (card,) = machine.blocks(NOW + 5, NOW + 15)
    assert card.times == array("d", [NOW + 10, NOW + 15])
    assert [(each.time, len(each.tenants)) for each in card.tenancies] == [(NOW - 500, 1), (NOW + 12, 0)]
    assert machine.blocks(NOW + 15, NOW + 100) == []


def test_a_device_that_comes_while_one_reads_is_read_with_the_next_look(
    log: JobLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: a look of the dashboard, to a runner that writes of a GPU for the first time."""
    runner, devices = JobLog(log.path), MachineLog._devices

    def and_then(machine: MachineLog) -> dict[int, Device]:
        found = devices(machine)
        with runner.write():
            MachineLog(runner).add([gpu_sample(NOW, 50.0)])
        return found

    with monkeypatch.context() as patch:
        patch.setattr(MachineLog, "_devices", and_then)
        assert read(log) == {}
    runner.close()
    assert list(read(log)) == ["GPU-a"]


def test_the_runner_samples_while_a_job_runs(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: all of it, where nobody asks the sampler."""
    monkeypatch.setattr(sampling, "sample_host", lambda root: HostSample(38.0, 16, 1.0, 8 * GIB, 64 * GIB, 0))
    job = command(manager, "sleep 30", lane="cpu")
    log = JobLog(manager.places.db)
    monitor = GpuMonitor(FakeNvml())
    runner = Runner(manager.places, log, manager.settings, monitor, Lease(manager.places))
    runner._sampler = Sampler(log, monitor, manager.workspace.root, every_s=0, flush_s=0)
    begun = manager.job(job.id).created

    def sampled() -> bool:
        runner.tick()
        return bool(manager.machine(begun, 1e12))

    try:
        until(sampled, what="a sample")
    finally:
        manager.cancel(job.id)
        until(lambda: (runner.tick(), manager.job(job.id).state.finished)[1], what="the end")
        log.close()
    manager.repair()
    host = next(block for block in manager.machine(begun, 1e12) if block.device.uuid == HOST)
    assert host.columns["cpu"][0] == 38.0 and host.columns["memory"][0] == 8.0, "a sound job log keeps them"
