"""On a network file system two machines may see one workspace, and no lock reaches from one to the other.

A runner then writes a heartbeat into the workspace, and one on another machine keeps away while it is fresh. Attempts
have a heartbeat too: their shim touches started.json.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

from pidec_train.protocol.errors import RunFailed
from pidec_train.protocol.rundir import write_json

from .shim import BEAT_S, STARTED_FILE, boot_id
from .statedir import Places

STALE_S = 4 * BEAT_S


class Lease:
    """The right to run the jobs of a workspace that other machines may see. Does nothing on a local disk."""

    def __init__(self, places: Places) -> None:
        self._needed = places.elsewhere
        self._path = places.workspace.jobs / "runner.json"
        self._me = {"host": socket.gethostname(), "machine": machine()}
        self._beaten = -BEAT_S

    def beat(self) -> None:
        """Say that we are alive, every `BEAT_S` seconds.

        Raises:
            RunFailed: a runner on another machine is at work, or has taken over while we were cut off.
        """
        if not self._needed or time.monotonic() - self._beaten < BEAT_S:
            return
        self._beaten = time.monotonic()
        try:
            holder = json.loads(self._path.read_bytes())
            age = time.time() - float(holder["time"])
            host, other = str(holder["host"]), holder["machine"] != self._me["machine"]
        except (OSError, ValueError, KeyError, TypeError):
            other, age, host = False, 0.0, ""
        if other and age < STALE_S:
            raise RunFailed(
                f"a runner on {host} is at work in this workspace (seen {max(age, 0):.0f} s ago)",
                "Use that machine, or stop its runner",
            )
        write_json(self._path, {**self._me, "pid": os.getpid(), "time": time.time()})

    def release(self) -> None:
        if self._needed:
            self._path.unlink(missing_ok=True)


def beats(places: Places, attempt: Path) -> bool:
    """Whether the shim of an attempt that we cannot see has touched started.json a moment ago."""
    if not places.elsewhere:
        return False
    try:
        return time.time() - (attempt / STARTED_FILE).stat().st_mtime < STALE_S
    except OSError:
        return False


def machine() -> str:
    """Names the kernel and the container: neither locks nor process ids reach from one to another."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{boot_id()} {namespace}"
