"""Starts an attempt on this machine: attempt.json, then the shim in its own session."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pidec_train.protocol.rundir import AttemptDir

from .. import shim
from ..attempts import AttemptNote, write_note


def launch(folder: AttemptDir, lock: Path, note: AttemptNote, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the shim of an attempt and give its process.

    `note.fds` are inherited by shim and trainer. The shim runs without site packages and PYTHON* variables: its
    environment is the trainer's, and nothing in that may break it. What it says goes to output.log, as the trainer's.

    Raises:
        OSError: the folder cannot be written, or no process can be started; then nothing runs.
    """
    folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_note(folder, note)
    output = os.open(folder.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", shim.__file__, str(folder.path), str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder.path,
            env=dict(environ),
            pass_fds=note.fds,
            start_new_session=True,
        )
    finally:
        os.close(output)
