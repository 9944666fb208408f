"""Who gets a GPU, and what the others are told."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pidec_tui.manager import lanes
from pidec_tui.manager.gpus import GpuMonitor
from pidec_tui.manager.lanes import NO_GPU, GpuLane, Slot, slot_path
from tests.fakes.fake_pynvml import GIB, FakeGpu, FakeNvml

A, B = "GPU-aaaa", "GPU-bbbb"
OWN_PID = os.getpid()


class Lane:
    """A GPU lane over fake devices; remembers its slots so that none outlives its test."""

    def __init__(self, nvml: FakeNvml, *, container: bool = False) -> None:
        self.nvml = nvml
        self.monitor = GpuMonitor(nvml)
        self.lane = GpuLane(self.monitor, lambda: 1.0, container=container)
        self.slots: list[Slot] = []

    def take(
        self, job: int = 1, environ: dict[str, str] | None = None, running: dict[str, int] | None = None
    ) -> object:
        self.lane._sampled = -100.0  # look at the devices again
        got = self.lane.take(job, Path("/data/ws"), environ or {}, running or {})
        if isinstance(got, Slot):
            self.slots.append(got)
            return got.gpu
        return got


@pytest.fixture
def lane() -> Iterator[Lane]:
    made = Lane(FakeNvml([FakeGpu(uuid=A), FakeGpu(uuid=B)]))
    yield made
    for slot in made.slots:
        slot.let_go()


def test_two_gpus_take_two_jobs_and_the_third_is_told_who_runs_there(lane: Lane) -> None:
    """Lost without it: two trainings on one card, both at half speed or out of memory."""
    assert lane.take(1) == A
    assert lane.take(2) == B
    other_workspace = Lane(lane.nvml)
    said = str(other_workspace.take(3))
    assert said.startswith("GPU 0: job 1 of /data/ws (user ") and "; GPU 1: job 2 of /data/ws" in said
    assert lane.take(4, running={A: 1, B: 2}) == "GPU 0: job 1 runs there; GPU 1: job 2 runs there"
    lane.slots[1].let_go()
    assert lane.take(5) == B


def test_the_slot_is_pinned_by_uuid_and_open_to_other_users(lane: Lane) -> None:
    lane.take()
    assert lane.slots[0].environ() == {"CUDA_VISIBLE_DEVICES": A}
    assert stat.S_IMODE(slot_path(A).stat().st_mode) == 0o666


def test_without_a_gpu_there_is_one_slot_in_its_stead(lane: Lane) -> None:
    lane.nvml.gpus = []
    assert lane.take(1) == NO_GPU
    assert lane.slots[0].environ() == {}
    assert "the one slot for gpu jobs, as there is no GPU: job 1 of /data/ws" in str(Lane(FakeNvml([])).take(2))


def test_a_driver_that_fails_is_not_a_machine_without_gpu(lane: Lane) -> None:
    """Lost without it: a week-long job that starts on the CPU because the driver was updated."""
    lane.nvml.broken = FakeNvml.NVMLError_LibRmVersionMismatch()
    assert lane.take() == "NVML does not answer: Driver/library version mismatch"
    lane.nvml.broken = None
    assert lane.take() == A
    lane.nvml.broken = FakeNvml.NVMLError_GpuIsLost()
    assert lane.take() == "NVML does not answer: GPU is lost"
    absent = FakeNvml()
    absent.broken = FakeNvml.NVMLError_LibraryNotFound()
    fresh = Lane(absent)
    assert fresh.take() == NO_GPU
    fresh.slots[0].let_go()


def test_somebody_elses_compute_process_makes_a_job_wait(lane: Lane) -> None:
    """Lost without it: a colleague's experiment dies of memory."""
    lane.nvml.gpus = [FakeGpu(uuid=A, memory_used=19 * GIB, processes=[(OWN_PID, int(18.2 * GIB))])]
    name = Path("/proc/self/comm").read_text().strip()
    assert lane.take() == f"GPU 0: pid {OWN_PID} {name}, uid {os.getuid()}, 18.2 GiB"
    lane.nvml.gpus[0].processes = [(OWN_PID, GIB // 2)]
    assert lane.take() == A, "half a GiB is in nobody's way"


def test_a_busy_gpu_gives_its_slot_back(lane: Lane) -> None:
    """Lost without it: a GPU that stays blocked after the other user is gone."""
    lane.nvml.gpus = [FakeGpu(uuid=A, processes=[(OWN_PID, 5 * GIB)])]
    assert "GiB" in str(lane.take())
    lane.nvml.gpus[0].processes = []
    assert lane.take() == A


def test_memory_without_a_compute_process_is_a_screen(lane: Lane) -> None:
    lane.nvml.gpus = [FakeGpu(uuid=A, memory_used=3 * GIB)]
    assert lane.take() == A


@pytest.mark.parametrize("processes", [[], [(999_999_999, int(18.2 * GIB))], [(999_999_999, None)]])
def test_in_a_container_the_memory_speaks(processes: list[tuple[int, int | None]]) -> None:
    """Lost without it: on a rented pod every other process is invisible, and the job starts on a full card."""
    busy = Lane(FakeNvml([FakeGpu(uuid=A, memory_used=int(18.2 * GIB), processes=processes)]), container=True)
    assert busy.take() == "GPU 0: 18.2 GiB held outside this container"
    free = Lane(FakeNvml([FakeGpu(uuid=A, memory_used=GIB // 2)]), container=True)
    assert free.take() == A
    free.slots[0].let_go()


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("1", B), (B, B), ("GPU-b", B), ("0,1", A), ("7", 'a GPU: CUDA_VISIBLE_DEVICES is "7", here are 0, 1')],
)
def test_cuda_visible_devices_of_the_shell_limits_the_choice(lane: Lane, visible: str, expected: str) -> None:
    assert lane.take(environ={"CUDA_VISIBLE_DEVICES": visible}) == expected


def test_a_slot_that_cannot_be_opened_is_said(lane: Lane, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIDEC_SLOT_DIR", str(tmp_path))
    slot_path(A).symlink_to(tmp_path / "trap")  # nobody is led to another file
    lane.nvml.gpus = [FakeGpu(uuid=A)]
    assert "cannot be opened" in str(lane.take())
    assert not (tmp_path / "trap").exists()


def test_the_lock_follows_the_file_that_is_there(lane: Lane) -> None:
    """Lost without it: a cleaned temporary folder splits one lock into two."""
    lane.take(1)
    slot_path(A).unlink()
    assert lane.take(2) == A, "a new file is a new lock: this is why the runner touches the file"
    lane.lane.touch([A])
    assert slot_path(A).exists()


def test_the_slots_folder_is_no_folder_that_a_logout_empties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIDEC_SLOT_DIR")
    assert lanes.slot_dir() in (Path("/run/lock"), Path("/var/tmp"))


def test_a_driver_that_answers_again_gives_away_no_gpu_unseen(lane: Lane) -> None:
    """Lost: two jobs on one GPU. The lane had looked while the driver was silent; by the time a job asked, another look
    of the same monitor had been answered, and no GPU seen was taken for no GPU there."""
    lane.nvml.broken = lane.nvml.NVMLError_GpuIsLost()
    assert "NVML does not answer" in str(lane.take())
    lane.nvml.broken = None
    assert lane.monitor.sample() and not lane.monitor.broken
    got = lane.lane.take(2, Path("/data/ws"), {}, {A: 1})
    assert isinstance(got, str) and "NVML does not answer" in got
    assert lane.take(2, running={A: 1}) == B
