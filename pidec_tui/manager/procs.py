"""The processes of an attempt: which are alive, and getting rid of what is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pidec_train.protocol.rundir import TOKEN_ENV

from .shim import STARTED_FILE, boot_id, start_ticks

TERM_S = 2.0  # for leftovers to end on SIGTERM
KILL_S = 5.0


@dataclass(frozen=True)
class Started:
    """started.json: what the shim put down before and after it started the trainer."""

    token: str
    boot_id: str
    shim: int
    shim_ticks: int | None
    pid: int | None
    pid_ticks: int | None
    started: float

    @classmethod
    def read(cls, folder: Path) -> Started | None:
        """None if the shim never got as far as starting the trainer."""
        try:
            data: dict[str, Any] = json.loads((folder / STARTED_FILE).read_bytes())
            return cls(**data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            # There, but unreadable: something may have run.
            return cls("", "", -1, None, None, None, 0.0)

    @property
    def this_boot(self) -> bool:
        """Whether the machine has not been restarted since."""
        return self.boot_id == boot_id()

    def shim_alive(self) -> bool:
        return self.this_boot and _alive(self.shim, self.shim_ticks)

    def trainer_alive(self) -> bool:
        return self.this_boot and self.pid is not None and _alive(self.pid, self.pid_ticks)


def _alive(pid: int, ticks: int | None) -> bool:
    return ticks is not None and start_ticks(pid) == ticks


def members(token: str, started: Started | None) -> list[int]:
    """Process ids with the attempt's mark in their environment, or in its shim's session. The shim is among them."""
    mark = f"{TOKEN_ENV}={token}".encode()
    own = os.getuid()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        pid = int(name)
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid != own or not (_marked(pid, mark) or _in_session(pid, started)):
                continue
            if start_ticks(pid) is not None:  # a zombie is over, whoever forgets to collect it
                found.append(pid)
    return found


def _marked(pid: int, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _in_session(pid: int, started: Started | None) -> bool:
    """Linux gives a session's id to no new process while the session has members; a later leader has other ticks."""
    if started is None or not started.this_boot or started.shim <= 0:
        return False
    try:
        if os.getsid(pid) != started.shim:
            return False
    except OSError:
        return False
    leader = start_ticks(started.shim)
    return leader is None or leader == started.shim_ticks


def signal_trainer(token: str, started: Started, number: int) -> None:
    """Send a signal to the trainer's process group, or to what carries the mark if the group is not known."""
    if started.pid is not None and started.trainer_alive():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(started.pid, number)
        return
    for pid in members(token, started):
        if pid != started.shim:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def kill_leftovers(token: str, started: Started | None) -> int:
    """End every process of an attempt that is over: SIGTERM, two seconds, SIGKILL. Gives how many there were."""
    left = members(token, started)
    count = len(left)
    deadline = time.monotonic() + TERM_S
    for pid in left:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = members(token, started)
    deadline = time.monotonic() + KILL_S
    while left and time.monotonic() < deadline:
        for pid in left:  # again in each round: they may fork
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        left = members(token, started)
    return count
