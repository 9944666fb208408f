"""Every path and file format that a run reads or writes. See docs/jobs.md for the files of a run.

Layout, below a workspace:

    jobs/jobs.db                                 the job log (rebuilt from the run folders if lost)
    jobs/presets/*.toml                          the workspace's own presets
    jobs/runs/000042/spec.json                   what to run
    jobs/runs/000042/attempt-1/{lock,output.log,metrics.jsonl,exit.json}
    checkpoints/000042-<name>/step-000010000.pt + .json; best.pt, last.pt (links)
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import RunFailed

if TYPE_CHECKING:
    from .records import CheckpointInfo as CheckpointInfo
    from .records import ExitRecord as ExitRecord
    from .records import MetricsLine as MetricsLine
    from .records import Spec as Spec

RUN_DIR_ENV = "PIDEC_RUN_DIR"  # for a job's process: its attempt folder
TOKEN_ENV = "PIDEC_ATTEMPT_TOKEN"  # marks every process of an attempt, however it was spawned
WORKSPACE_ENV = "PIDEC_WORKSPACE"

BEST, LAST = "best.pt", "last.pt"
_STEP_FILE = re.compile(r"step-(\d{9,})\.pt")
_ATTEMPT = re.compile(r"attempt-(\d+)")


def __getattr__(name: str) -> Any:
    """The models of `records`, once somebody asks: they bring pydantic, a sixth of a second of a dashboard's start."""
    if name not in ("CheckpointInfo", "ExitRecord", "MetricsLine", "Spec"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from . import records

    return getattr(records, name)


def home_path(text: str | os.PathLike[str]) -> Path:
    """`~` and `~user` as a shell reads them: of a user that is not there it stays as it is, where `Path.expanduser`
    raises RuntimeError."""
    return Path(os.path.expanduser(text))


def current_folder() -> Path:
    """Raises RunFailed where it was removed: a dashboard stays open all day, in a folder that may not."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise folder_gone() from None


def folder_gone() -> RunFailed:
    return RunFailed("the folder that this was started in is gone", "cd to another one, and start it there")


def find_workspace(option: str | os.PathLike[str] | None = None, cwd: Path | None = None) -> Path:
    """`option`, else $PIDEC_WORKSPACE, else the nearest parent that holds jobs/jobs.db, else the current folder.

    jobs/runs marks one too: on a network file system the job log itself lies elsewhere.

    Returns:
        An absolute path; the folder need not exist.

    Raises:
        RunFailed: it would be found from the current folder, which was removed.
    """
    if option:
        return _absolute(option)
    if os.environ.get(WORKSPACE_ENV):
        return _absolute(os.environ[WORKSPACE_ENV])
    here = (cwd or current_folder()).absolute()
    for folder in (here, *here.parents):
        if (folder / "jobs" / "jobs.db").exists() or (folder / "jobs" / "runs").is_dir():
            return folder
    return here


def _absolute(text: str | os.PathLike[str]) -> Path:
    path = home_path(text)
    return path if path.is_absolute() else current_folder() / path


@dataclass(frozen=True)
class Workspace:
    """The folders below one workspace. Nothing is created by asking."""

    root: Path

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def runs(self) -> Path:
        return self.root / "jobs" / "runs"

    @property
    def presets(self) -> Path:
        return self.root / "jobs" / "presets"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    def run(self, job_id: int) -> RunDir:
        return RunDir(self.runs / f"{job_id:06d}")

    def checkpoint_dir(self, job_id: int, name: str) -> Path:
        return self.checkpoints / f"{job_id:06d}-{slug(name)}"


@dataclass(frozen=True)
class RunDir:
    """`jobs/runs/000042`."""

    path: Path

    @property
    def spec(self) -> Path:
        return self.path / "spec.json"

    def attempt(self, number: int) -> AttemptDir:
        return AttemptDir(self.path / f"attempt-{number}")

    def attempts(self) -> list[tuple[int, AttemptDir]]:
        """The attempts that have a folder, oldest first."""
        if not self.path.is_dir():
            return []
        found = [(int(m[1]), AttemptDir(p)) for p in self.path.iterdir() if (m := _ATTEMPT.fullmatch(p.name))]
        return sorted(found, key=lambda item: item[0])


@dataclass(frozen=True)
class AttemptDir:
    """`jobs/runs/000042/attempt-1`: what a trainer gets as `--run-dir`."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def output(self) -> Path:
        return self.path / "output.log"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def exit(self) -> Path:
        return self.path / "exit.json"


def slug(name: str) -> str:
    """`name` as a safe part of a folder name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "run"


# --- checkpoints -------------------------------------------------------------------------------------------------


def step_file(step: int) -> str:
    return f"step-{step:09d}.pt"


def step_of(path: Path) -> int | None:
    """The step in a checkpoint's file name, None if it is not one of ours."""
    match = _STEP_FILE.fullmatch(path.name)
    return int(match[1]) if match else None


def sidecar(path: Path) -> Path:
    """The `.json` beside a checkpoint."""
    return path.with_suffix(".json")


def read_checkpoint_info(path: Path) -> CheckpointInfo | None:
    """The sidecar of the checkpoint at `path`, None where there is none that can be read."""
    from pydantic import ValidationError

    from .records import CheckpointInfo

    try:
        return CheckpointInfo.model_validate_json(sidecar(path).read_bytes())
    except (OSError, ValidationError, ValueError):
        return None


def list_checkpoints(folder: Path) -> list[Path]:
    """`step-*.pt` files in `folder` that have a sidecar, lowest step first."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if step_of(p) is not None and sidecar(p).exists()]
    return sorted(found, key=lambda p: step_of(p) or 0)


# --- metrics.jsonl -----------------------------------------------------------------------------------------------


def parse_metrics(data: bytes) -> Iterator[tuple[int, MetricsLine]]:
    """The complete, valid lines in `data`, each with the byte offset behind it.

    A half-written last line is not an error: it is left for the next read. A line that is not one of ours is
    passed over (a `command` job may write anything).
    """
    from pydantic import ValidationError

    from .records import MetricsLine

    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        line, start = data[start:end], end + 1
        try:
            yield start, MetricsLine.model_validate_json(line)
        except (ValidationError, ValueError):
            continue


# --- small files, written whole or not at all --------------------------------------------------------------------


@contextlib.contextmanager
def atomic_file(path: Path, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends well, and leaves no trace when it does not.

    Temporary name, flush, fsync, rename, fsync of the folder.
    """
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(fd, mode)
        with os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    fsync_dir(path.parent)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` by `data`, whole or not at all."""
    with atomic_file(path, mode=mode) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def fsync_dir(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
