"""The small files of an attempt that belong to the job manager: attempt.json and exit.json."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pidec_train.protocol.rundir import AttemptDir, ExitRecord, write_json

from .shim import ATTEMPT_FILE


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
