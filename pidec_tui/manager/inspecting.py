"""What a `.pt` without a `.json` is. Each file is looked into once, by `pidec-train inspect` in a process of its own:
torch stays out of this one, and a hostile file can kill no more than that process. Answers are kept in the jobs folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from pidec_train.protocol.errors import EXIT_BAD_INPUT
from pidec_train.protocol.rundir import write_atomic

FILE = "checkpoints-inspected.json"
TIMEOUT_S = 300.0
MOST_KEPT = 20_000
_VERSION = 1  # another one where `inspect` learns to read more: then everything is looked into again
_NICE = 15
_CHUNK = 1 << 20


class Facts(BaseModel):
    """What the dashboard keeps of `pidec-train inspect --json`."""

    model_config = ConfigDict(extra="ignore")

    kind: str
    origin: str
    env_id: str | None = None
    control_mode: str | None = None
    maniskill2: bool = False
    step: int | None = None
    obs_dim: int | None = None
    act_dim: int | None = None
    obs_norm: str = "none"
    action_norm: str = "none"
    parent_sha256: str | None = None


class Inspected(BaseModel):
    """One answer. It holds for as long as size and time of the file are these.

    Attributes:
        facts: None: the file is no checkpoint.
        why: then why not, a sentence.
        sha256: of a checkpoint, so that those made of it are known.
    """

    model_config = ConfigDict(extra="ignore")

    size: int
    mtime_ns: int
    facts: Facts | None = None
    why: str = ""
    sha256: str | None = None


class _Kept(BaseModel):
    model_config = ConfigDict(extra="ignore")

    version: int
    files: dict[str, Inspected] = {}


class Inspections:
    """The answers so far, and the way to more of them. May be used from several threads; nothing is read before the
    first question.

    Args:
        folder: of the answers: the workspace's jobs folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = threading.Lock()
        self._answers: dict[str, Inspected] | None = None  # None: not read yet
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    @property
    def _files(self) -> dict[str, Inspected]:
        if self._answers is None:
            self._answers = self._read()
        return self._answers

    def known(self, path: Path, status: os.stat_result) -> Inspected | None:
        """The answer about this file as it is now; None: not looked into yet."""
        found = self._files.get(str(path))
        if found is None or (found.size, found.mtime_ns) != (status.st_size, status.st_mtime_ns):
            return None
        return found

    def look(self, path: Path) -> Inspected | None:
        """Look into a file; seconds. None: it is gone, or `stop` broke the look off."""
        try:
            status = path.stat()
        except OSError:
            return None
        code, out, said = self._ask(path)
        if code not in (0, EXIT_BAD_INPUT):
            if self._stopped:
                return None
            # Killed, broken or endless: no answer to keep for ever, but not one to ask for again and again either.
            found = Inspected(size=status.st_size, mtime_ns=status.st_mtime_ns, why="it could not be looked into")
            self._files[str(path)] = found
            return found
        facts, why = _answer(path, code, out, said)
        sha256 = None
        if facts is not None:
            with contextlib.suppress(OSError):
                sha256 = sha256_of(path)
        found = Inspected(size=status.st_size, mtime_ns=status.st_mtime_ns, facts=facts, why=why, sha256=sha256)
        self._keep(path, found)
        return found

    def stop(self) -> None:
        """End a look that goes on, and begin no other."""
        self._stopped = True
        process = self._process
        if process is not None:
            process.kill()

    def _ask(self, path: Path) -> tuple[int | None, str, str]:
        """Exit code (None: none within the time, or no process could be started), stdout and stderr of
        `pidec-train inspect`."""
        if self._stopped:
            return None, "", ""
        try:
            return self._run(path)
        except OSError:
            return None, "", ""

    def _run(self, path: Path) -> tuple[int | None, str, str]:
        environ = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
        words = [sys.executable, "-m", "pidec_train", "inspect", str(path), "--json"]
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environ,
            start_new_session=True,
        ) as process:
            self._process = process
            with contextlib.suppress(psutil.Error):
                psutil.Process(process.pid).nice(_NICE)  # a training on the same cores goes first
            try:
                out, said = process.communicate(timeout=TIMEOUT_S)
                return process.returncode, out, said
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                return None, "", ""
            finally:
                self._process = None

    # --- the file of answers

    def _read(self) -> dict[str, Inspected]:
        try:
            kept = _Kept.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError, ValueError):
            return {}
        return kept.files if kept.version == _VERSION else {}

    def _keep(self, path: Path, found: Inspected) -> None:
        """Another dashboard may have added answers since: theirs stay."""
        with self._lock:
            self._answers = {**self._read(), **self._files, str(path): found}
            newest = dict(list(self._answers.items())[-MOST_KEPT:])
            with contextlib.suppress(OSError):  # then it is looked into again next time
                write_atomic(self._path, _Kept(version=_VERSION, files=newest).model_dump_json().encode())


def _answer(path: Path, code: int, out: str, said: str) -> tuple[Facts | None, str]:
    if code == 0:
        try:
            return Facts.model_validate_json(out), ""
        except (ValidationError, ValueError):
            return None, "what inspect says of it cannot be read"
    lines = [line for line in said.splitlines() if line.strip()]
    said = lines[-1].removeprefix("pidec-train: ") if lines else "it is no checkpoint"
    return None, said.replace(f"{path} is ", "it is ").replace(str(path), path.name)


def sha256_of(path: Path) -> str:
    """Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()
