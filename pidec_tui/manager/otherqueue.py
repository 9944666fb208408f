"""Two queues for one workspace, as where `$PIDEC_STATE_DIR` is set in one shell only: each has its runner, each shows
only its own jobs, and what waits in both may be run by both.

Each runner says in the workspace where its queue lies, and doors to another queue tell what they read there. Nobody is
refused or ended for it: a note may come from another machine, or be older than its runner's end.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import socket
from pathlib import Path

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import write_json

from .control import runner_pid
from .lease import machine
from .statedir import STATE_DIR_ENV, Places

_NOTES = "runner-*.json"


class QueueNote:
    """A runner's note: `jobs/runner-<hash>.json`, one for each host and queue."""

    def __init__(self, places: Places) -> None:
        self._says = {
            "machine": machine(),
            "workspace": os.path.realpath(places.workspace.root),  # a copy of the folder has a copy of the note
            "state_dir": os.path.realpath(places.state_dir),
        }
        mark = hashlib.sha256(f"{socket.gethostname()} {self._says['state_dir']}".encode()).hexdigest()[:12]
        self._path = places.workspace.jobs / _NOTES.replace("*", mark)

    def put_down(self) -> None:
        """Without it a runner works as well."""
        with contextlib.suppress(OSError):
            write_json(self._path, self._says)

    def take_away(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def check_other_queue(places: Places) -> None:
    """Raises PidecError where a runner on this machine works for the same workspace from another queue.

    Reads one folder and, where there are such notes, those: a tenth of a millisecond.
    """
    here, root = os.path.realpath(places.state_dir), os.path.realpath(places.workspace.root)
    for path in sorted(places.workspace.jobs.glob(_NOTES)):
        try:
            note = json.loads(path.read_bytes())
            there = Path(note["state_dir"])
            told = note["machine"] == machine() and note["workspace"] == root and str(there) != here
        except (OSError, ValueError, KeyError, TypeError):
            continue
        other = Places(places.workspace, there)
        pid = runner_pid(other) if told else None
        if pid is not None:
            raise PidecError(
                f"this workspace has a second queue in {there}, whose runner (process {pid}) is at work, beside "
                f"this one in {places.state_dir}: what waits in both may run twice",
                f"`{_join(other, root)}` uses that one; `kill {pid}` ends its runner, and jobs that run go on",
            )


def _join(other: Places, root: str) -> str:
    """What a shell types to use the other queue."""
    if os.path.realpath(other.state_dir) == os.path.join(root, "jobs"):
        return f"unset {STATE_DIR_ENV}"
    return f"export {STATE_DIR_ENV}={shlex.quote(str(other.state_dir.parent))}"
