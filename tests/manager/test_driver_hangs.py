"""A GPU driver that does not answer: jobs, runner and dashboard go on as if there were no sample."""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pidec_tui.manager import gpus
from pidec_tui.manager.gpus import GpuMonitor
from pidec_tui.manager.joblog import JobLog
from pidec_tui.manager.jobs import Attempt, Job, JobState
from pidec_tui.manager.lanes import GpuLane
from pidec_tui.manager.machinelog import HOST, MachineLog
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.sampling import Sampler
from tests.fakes.fake_pynvml import FakeGpu, FakeNvml
from tests.manager.jobs_support import alive, command, started, until, wait_for

NOW = 1_790_000_000.0
JOB = Job(
    7, "diffusion", "peg", JobState.running, "gpu", {}, None, (), 0, "", "", 0, NOW, None, 0, 1_000_000, "iteration",
    attempts=(Attempt(1, "running", NOW, pid=os.getpid()),),
)  # fmt: skip
SILENT = r"NVML does not answer since \d\d:\d\d:\d\d"
# Instead of `pynvml`: calls that return once a file is there.
HANGING = """
import os, time
class NVMLError(Exception): pass
def nvmlInit():
    open(os.environ["PIDEC_HANG"] + ".asked", "w").close()
    while not os.path.exists(os.environ["PIDEC_HANG"]):
        time.sleep(0.02)
def nvmlDeviceGetCount(): return 0
def nvmlShutdown(): pass
"""


@pytest.fixture
def nvml() -> Iterator[FakeNvml]:
    made = FakeNvml([FakeGpu("GPU-a", utilization=97)])
    yield made
    made.answers.set()  # no thread is left behind


def asking() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "nvml"]


def took(what: Callable[[], object]) -> float:
    begun = time.monotonic()
    what()
    return time.monotonic() - begun


def test_a_driver_that_hangs_is_waited_for_once_asked_once_and_taken_up_again(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: minutes in which no job starts or is cancelled; or one more thread with every look."""
    monkeypatch.setattr(gpus, "YOUNG_S", 0.0)
    monitor = GpuMonitor(nvml, patience_s=0.2)
    assert len(monitor.sample()) == 1 and asking() == []
    nvml.answers.clear()
    assert monitor.sample() == [] and monitor.broken
    first = monitor.why_none
    assert re.fullmatch(SILENT, first)
    assert took(lambda: [monitor.sample() for _ in range(20)]) < 0.1 and monitor.why_none == first
    assert took(monitor.close) < 0.1, "a door that closes does not wait for it"
    (thread,) = asking()
    assert thread.daemon, "nor does the interpreter"
    nvml.answers.set()
    thread.join()
    assert len(monitor.sample()) == 1 and monitor.why_none == "" and not monitor.broken


def test_an_answer_that_comes_late_is_told_while_it_is_young(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: all samples of a machine whose driver takes longer than a look may wait."""
    monitor = GpuMonitor(nvml, patience_s=0.0)
    nvml.answers.clear()
    assert monitor.sample() == []
    nvml.answers.set()
    until(lambda: asking() == [], what="the answer")
    calls = nvml.calls
    assert len(monitor.sample()) == 1 and monitor.why_none == ""
    until(lambda: asking() == [], what="the answer")
    assert nvml.calls > calls, "and the next one is asked for meanwhile"
    monkeypatch.setattr(gpus, "YOUNG_S", 0.0)
    nvml.answers.clear()
    assert monitor.sample() == [] and monitor.broken, "an old answer is none"


def test_the_sampler_says_so_once_leaves_a_gap_and_goes_on_with_the_host(
    nvml: FakeNvml, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: the CPU's load in just that night; or a log with a line every five seconds."""
    monkeypatch.setattr(gpus, "YOUNG_S", 0.0)
    log = JobLog(tmp_path / "jobs.db")
    sampler = Sampler(log, GpuMonitor(nvml, patience_s=0.1), tmp_path, every_s=0, flush_s=0)
    sampler.look([JOB])
    with caplog.at_level(logging.INFO, logger="pidec.runner"):
        sampler.look([JOB])
        nvml.answers.clear()
        assert took(lambda: [sampler.look([JOB]) for _ in range(3)]) < 1.0
        nvml.answers.set()
        until(lambda: asking() == [])
        sampler.look([JOB])
    blocks = {block.device.uuid: block for block in MachineLog(log).blocks(0, 1e12)}
    log.close()
    shown = [None if math.isnan(value) else value for value in blocks["GPU-a"].columns["utilization"]]
    assert shown == [97.0, None, None, None, 97.0] and len(blocks[HOST].times) == 5
    silent, again = (record.getMessage() for record in caplog.records)
    assert re.fullmatch(f"no samples of the GPU: {SILENT}", silent) and again == "samples of the GPU again"


def test_no_gpu_is_given_out_by_a_driver_that_hangs(nvml: FakeNvml, tmp_path: Path) -> None:
    """Lost: a night's training on the CPU, because the GPU was not seen."""
    nvml.answers.clear()
    told = GpuLane(GpuMonitor(nvml, patience_s=0.1), lambda: 1.0, container=False).take(1, tmp_path, {}, {})
    assert isinstance(told, str) and re.fullmatch(SILENT, told)


def test_jobs_start_are_cancelled_and_end_and_the_runner_goes_while_the_driver_hangs(
    manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: the whole queue for as long as the driver hangs, and a runner that nobody can stop."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "pynvml.py").write_text(HANGING)
    answers = tmp_path / "answers"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    monkeypatch.setenv("PIDEC_HANG", str(answers))
    waits = command(manager, "true", lane="gpu", environ={})
    pid = manager.ensure_runner()
    until(lambda: re.search(SILENT, manager.job(waits.id).waiting_for), what="the sentence")
    assert Path(f"{answers}.asked").exists(), "the runner has asked this module"
    begun = time.monotonic()
    runs, ends = (command(manager, line, lane="cpu", environ={}) for line in ("sleep 60", "true"))
    started(manager, runs.id)
    manager.cancel(runs.id)
    assert wait_for(manager, runs.id).state is JobState.cancelled
    assert wait_for(manager, ends.id).state is JobState.succeeded
    assert time.monotonic() - begun < 8.0
    assert took(manager.stop_runner) < 3.0
    until(lambda: not alive(pid), limit_s=3.0, what="the end of its process")
    answers.touch()
    monkeypatch.setenv("PIDEC_SLOT_DIR", str(tmp_path / "slots"))
    manager.ensure_runner()
    assert wait_for(manager, waits.id).state is JobState.succeeded, "it answers: there is no GPU, so the one slot"
