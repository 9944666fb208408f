"""`on_end`: a command of the user's that runs when a job ends. It can neither stop nor slow the runner."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Mapping

from .environment import for_runner
from .jobs import Job

log = logging.getLogger("pidec.runner")


class Hooks:
    """Runs the command beside the runner, in a session of its own, and kills it after its time."""

    def __init__(self) -> None:
        self._running: list[tuple[subprocess.Popen[bytes], float]] = []

    def start(self, command: str, job: Job, metrics: Mapping[str, float | None], timeout_s: float) -> None:
        """Run `command` in a shell, with the job in PIDEC_JOB_{ID,NAME,STATE,REASON,METRICS} of its environment."""
        environ = {
            **for_runner(os.environ),
            "PIDEC_JOB_ID": str(job.id),
            "PIDEC_JOB_NAME": job.name,
            "PIDEC_JOB_STATE": job.state.value,
            "PIDEC_JOB_REASON": job.reason,
            "PIDEC_JOB_METRICS": json.dumps(dict(metrics)),
        }
        try:
            process = subprocess.Popen(
                ["sh", "-c", command], stdin=subprocess.DEVNULL, env=environ, start_new_session=True
            )
        except (OSError, ValueError) as error:
            log.warning("on_end cannot be started: %s", error)
            return
        self._running.append((process, time.monotonic() + timeout_s))

    def poll(self) -> None:
        """Collect those that are done, kill those that take too long."""
        left = []
        for process, deadline in self._running:
            code = process.poll()
            if code is not None:
                if code:
                    log.warning("on_end ended with code %s", code)
            elif time.monotonic() > deadline:
                log.warning("on_end took too long and was killed")
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            else:
                left.append((process, deadline))
        self._running = left

    @property
    def busy(self) -> bool:
        return bool(self._running)
