"""What may be wrong around a dashboard without any reading of it failing: files that are gone, a job log that stands
still, GPUs that are lost. Each raises PidecError with what to do; the feed says it once, and when it is well again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pidec_train.protocol.errors import PidecError

from .board import Machine
from .manager.host import disk_free
from .manager.ingest import CHUNK
from .manager.jobs import Job, JobState
from .manager.manager import Manager
from .manager.otherqueue import check_other_queue
from .manager.statedir import Places

FULL = 1 << 20  # bytes that are left of a disk on which no job log grows
BEHIND_S = 10.0  # for which nothing is taken in of what a run writes; a runner looks twice a second


def check_workspace(places: Places) -> None:
    """Raises PidecError where the workspace's folder is gone, or a runner works for it from another queue."""
    root = places.workspace.root
    if not root.is_dir():
        raise PidecError(f"{root} is gone", "What is shown was read before; a disk that was unmounted may come back")
    check_other_queue(places)


def check_run_folder(manager: Manager, job: Job) -> None:
    """Raises PidecError where a job has run, and its folder is gone."""
    path = manager.workspace.run(job.id).path if job.id > 0 else None
    if path is not None and job.attempts and not path.is_dir() and manager.workspace.root.is_dir():
        hint = "Its log and metrics.jsonl went with it; curves and checkpoints are elsewhere, and stay"
        raise PidecError(f"the folder of job {job.id} is gone: {path}", hint)


class Behind:
    """Notices that the job log takes in nothing of what runs write: locked by somebody, or its runner hangs.

    A WAL database that another process has locked can still be read, so nothing else tells.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, manager: Manager, clock: Callable[[], float] = time.monotonic) -> None:
        self._manager = manager
        self._clock = clock
        self._since: dict[tuple[int, int], tuple[int, float]] = {}  # by attempt: bytes taken in, and since when so many

    def check(self, jobs: Iterable[Job]) -> None:
        """Raises PidecError for a run of which nothing was taken in for `BEHIND_S`, though there is more."""
        now, since = self._clock(), self._since
        self._since = {}
        for job in jobs:
            if job.id < 0 or job.state is not JobState.running or not job.attempts:
                continue
            number = job.attempts[-1].number
            path = self._manager.workspace.run(job.id).attempt(number).metrics
            taken = self._manager.taken_in(job.id, number)
            if not path.exists() or not _has_line(path, taken):
                continue
            before = since.get((job.id, number), (taken, now))
            self._since[job.id, number] = before if before[0] == taken else (taken, now)
        late = {key: now - when for key, (_, when) in self._since.items() if now - when >= BEHIND_S}
        if late:
            job_id = next(iter(late))[0]
            hint = "Another process locks it, or its runner hangs; the run goes on, and nothing is lost"
            if disk_free(self._manager.state_dir) < FULL:
                hint = f"The disk of {self._manager.state_dir} is full: free some space, and it goes on"
            raise PidecError(f"the job log takes in no metrics of job {job_id}, though it writes some", hint)


def _has_line(path: Path, offset: int) -> bool:
    """Whether there is more than a half-written line behind a byte: a command that buffers leaves one for minutes."""
    if offset >= path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(CHUNK)
    return b"\n" in data or len(data) == CHUNK


class LostGpus:
    """Notices that GPUs which were there answer no more."""

    def __init__(self) -> None:
        self._had = 0

    def check(self, machine: Machine) -> None:
        """Raises PidecError where there were GPUs, and now there are none."""
        self._had = max(self._had, len(machine.gpus))
        if self._had and not machine.gpus:
            raise PidecError(f"the GPU driver answers no more: {machine.why_no_gpu}", "It is asked again")
