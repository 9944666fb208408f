"""Starting, finding and stopping the runner of a workspace, from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

from pidec_train.protocol.errors import RunFailed

from . import locks
from .environment import for_runner
from .statedir import STATE_DIR_ENV, Places

START_S = 20.0
STOP_S = 20.0


def runner_pid(places: Places) -> int | None:
    """The process id of the runner that holds runner.lock, None if nobody does."""
    if not locks.is_held(places.runner_lock):
        return None
    text = locks.read_note(places.runner_lock).strip()
    return int(text) if text.isdigit() else None


def ensure_runner(places: Places) -> int:
    """Start a runner unless one is up, and wait until it holds runner.lock.

    Raises:
        RunFailed: it did not come up; says where its log is, and its last line.
    """
    pid = runner_pid(places)
    if pid is not None:
        return pid
    log = os.open(places.runner_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "pidec_tui.manager.runner", "--workspace", str(places.workspace.root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=places.state_dir,
            env=_environment(places),
            start_new_session=True,
        )
    finally:
        os.close(log)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        pid = runner_pid(places)
        if pid is not None:
            return pid
        # Another door's runner may have been first: ours then ends with 0 and the lock is held.
        if process.poll() not in (None, 0):
            break
        time.sleep(0.02)
    raise RunFailed(f"the runner did not come up: {_last_line(places)}", f"Its log is {places.runner_log}")


def stop_runner(places: Places) -> bool:
    """End the runner with SIGTERM and wait until it is gone. False if none was up. Raises RunFailed if it stays."""
    pid = runner_pid(places)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        if runner_pid(places) != pid:
            return True
        time.sleep(0.02)
    raise RunFailed(f"the runner (process {pid}) does not end", f"Its log is {places.runner_log}")


def _environment(places: Places) -> dict[str, str]:
    """The runner is told where this queue is: it starts in another folder, where a relative path is another place."""
    environ = for_runner(os.environ)
    environ.pop(STATE_DIR_ENV, None)
    if places.elsewhere:
        environ[STATE_DIR_ENV] = str(places.state_dir.parent)
    return environ


def _last_line(places: Places) -> str:
    lines = locks.read_note(places.runner_log).strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"
