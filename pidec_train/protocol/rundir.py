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
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

RUN_DIR_ENV = "PIDEC_RUN_DIR"  # for a job's process: its attempt folder
TOKEN_ENV = "PIDEC_ATTEMPT_TOKEN"  # marks every process of an attempt, however it was spawned
WORKSPACE_ENV = "PIDEC_WORKSPACE"

BEST, LAST = "best.pt", "last.pt"
_STEP_FILE = re.compile(r"step-(\d{9,})\.pt")
_ATTEMPT = re.compile(r"attempt-(\d+)")


def find_workspace(option: str | os.PathLike[str] | None = None, cwd: Path | None = None) -> Path:
    """`option`, else $PIDEC_WORKSPACE, else the nearest parent that holds jobs/jobs.db, else the current folder.

    jobs/runs marks one too: on a network file system the job log itself lies elsewhere.

    Returns:
        An absolute path; the folder need not exist.
    """
    if option:
        return Path(option).expanduser().absolute()
    if os.environ.get(WORKSPACE_ENV):
        return Path(os.environ[WORKSPACE_ENV]).expanduser().absolute()
    here = (cwd or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        if (folder / "jobs" / "jobs.db").exists() or (folder / "jobs" / "runs").is_dir():
            return folder
    return here


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


class CheckpointInfo(BaseModel):
    """The `.json` beside a checkpoint: all that a list of checkpoints needs, without opening the `.pt`."""

    model_config = ConfigDict(extra="ignore")

    format_version: int = 1
    size: int = Field(ge=0, le=2**63)  # bytes of the .pt
    sha256: str
    kind: str
    step: int = Field(ge=0, le=2**63)
    created: float = Field(ge=0, le=1e11)  # unix seconds
    env_id: str | None = None
    control_mode: str | None = None
    obs_dim: int | None = None
    act_dim: int | None = None
    action_norm: str = "none"
    obs_norm: str = "none"
    successes: int | None = Field(None, ge=0, le=2**63)  # of the evaluation at this step; None: not evaluated
    episodes: int | None = Field(None, ge=0, le=2**63)
    origin: str = "pidec"
    parent_sha256: str | None = None
    config: dict[str, Any] = {}


def read_checkpoint_info(path: Path) -> CheckpointInfo | None:
    """The sidecar of the checkpoint at `path`, None where there is none that can be read."""
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


class MetricsLine(BaseModel):
    """One line of metrics.jsonl: a row of metrics at a step, or an event.

    Events: `start` (kind, step_name, total_steps, resumed_step), `checkpoint` (step, path), `eval` (step and phase:
    "start"; "done" with successes, episodes, seconds; "skipped" with by, the newer step that was evaluated instead;
    "failed" with message), `progress` (step; where rows are rare), `warning` (message), `end` (state, reason). Readers
    pass over what they do not know. Evaluations and checkpoints finish beside the training: their lines may follow
    rows of later steps.
    """

    model_config = ConfigDict(extra="allow")

    seq: int
    time: float = 0.0
    step: int | None = None
    event: str | None = None
    metrics: dict[str, float | None] = {}

    def detail(self) -> dict[str, Any]:
        """The fields that only this kind of event has."""
        return dict(self.model_extra or {})


def parse_metrics(data: bytes) -> Iterator[tuple[int, MetricsLine]]:
    """The complete, valid lines in `data`, each with the byte offset behind it.

    A half-written last line is not an error: it is left for the next read. A line that is not one of ours is
    passed over (a `command` job may write anything).
    """
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


class ExitRecord(BaseModel):
    """exit.json: how an attempt's process ended, as its parent saw it.

    `code` is None when a signal ended it. `cause` is one short sentence ("killed by SIGKILL", "out of memory").
    """

    model_config = ConfigDict(extra="ignore")

    code: int | None
    signal: int | None = None
    cause: str = ""
    started: float = 0.0
    ended: float = 0.0


class Spec(BaseModel):
    """spec.json: all that is needed to run a job, and to rebuild its row in the job log."""

    model_config = ConfigDict(extra="ignore")

    id: int
    kind: str
    name: str
    config: dict[str, Any]
    lane: str
    after: list[int] = []
    position: float = 0.0
    held: bool = False
    retry: int = 0  # how many attempts there were when it was last retried
    fresh: bool = False  # the next attempt starts from nothing
    cancelled: bool = False
    preset: str | None = None
    group_name: str = ""  # of the jobs that were queued as one
    created: float = 0.0
    code_version: str = ""
    cwd: str = ""
    environment: dict[str, str] = {}
