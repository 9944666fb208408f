"""Copies go to the clipboard by OSC 52, which a terminal may drop without a word, and to a file."""

from __future__ import annotations

from pathlib import Path

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import Workspace, write_atomic


def copy_file(workspace: Workspace) -> Path:
    """Where the newest copy lies."""
    return workspace.jobs / "copied.txt"


def keep_copy(workspace: Workspace, text: str) -> None:
    """Raises PidecError if the file cannot be written."""
    file = copy_file(workspace)
    try:
        write_atomic(file, text.encode() + b"\n")
    except OSError as error:
        raise PidecError(f"{file} cannot be written: {error.strerror}", "The clipboard may have it") from None
