"""The small files of an attempt that belong to the job manager: attempt.json, exit.json, alerts.jsonl."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from pidec_train.protocol.rundir import AttemptDir, ExitRecord, write_json

from .shim import ATTEMPT_FILE

ALERTS_FILE = "alerts.jsonl"


class AttemptNote(BaseModel):
    """attempt.json: written before the shim starts. A changed token means that the attempt was given up.

    Attributes:
        argv, cwd: what the shim runs, and where.
        fds: file descriptors that the trainer inherits (the GPU slot's lock).
        gpu: UUID of the GPU, "no-gpu", or None in the cpu lane.
        fresh: it starts from nothing.
    """

    model_config = ConfigDict(extra="ignore")

    token: str
    job: int
    attempt: int
    argv: list[str]
    cwd: str
    fds: list[int] = []
    gpu: str | None = None
    fresh: bool = True
    created: float = 0.0


def write_note(folder: AttemptDir, note: AttemptNote) -> None:
    write_json(folder.path / ATTEMPT_FILE, note.model_dump())


def read_note(folder: AttemptDir) -> AttemptNote | None:
    """None where there is none that can be read."""
    try:
        return AttemptNote.model_validate_json((folder.path / ATTEMPT_FILE).read_bytes())
    except (OSError, ValidationError, ValueError):
        return None


def give_up(folder: AttemptDir, token: str) -> None:
    """Change the token, so that a shim which is still on its way starts nothing. The caller holds the lock."""
    path = folder.path / ATTEMPT_FILE
    try:
        note: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        note = {}
    write_json(path, {**note, "token": token})


def read_exit(folder: AttemptDir) -> ExitRecord | None:
    """exit.json, None while there is none (or none that can be read)."""
    try:
        return ExitRecord.model_validate_json(folder.exit.read_bytes())
    except (OSError, ValidationError, ValueError):
        return None


def last_words(path: Path, size: int = 65536) -> str:
    """The end of a log file, at most `size` bytes; "" if it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - size))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


class AlertLine(NamedTuple):
    """One line of alerts.jsonl. `time` in unix seconds; `about`: the metric that it is about, if any."""

    time: float
    kind: str
    about: str
    message: str


def append_alert(folder: AttemptDir, alert: AlertLine) -> None:
    """Raises OSError if it cannot be written."""
    line = json.dumps(alert._asdict(), ensure_ascii=False).encode() + b"\n"
    fd = os.open(folder.path / ALERTS_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with open(fd, "ab") as file:
        file.write(line)


def read_alerts(folder: AttemptDir) -> list[AlertLine]:
    """Those that can be read, oldest first."""
    try:
        lines = (folder.path / ALERTS_FILE).read_bytes().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            told = json.loads(line)
            found.append(AlertLine(float(told["time"]), str(told["kind"]), str(told["about"]), str(told["message"])))
        except (ValueError, TypeError, KeyError):  # half a line, of a full disk
            continue
    return found
