"""`on_end` and `on_alert`: commands of the user's that run when a job ends, or when a running one needs somebody.

They can neither stop nor slow the runner.
"""

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
    """Runs commands beside the runner, each in a session of its own, and kills them after their time."""

    def __init__(self) -> None:
        self._running: list[tuple[subprocess.Popen[bytes], float, str]] = []

    def start(
        self,
        command: str,
        job: Job,
        metrics: Mapping[str, float | None],
        timeout_s: float,
        *,
        alert: tuple[str, str] | None = None,
    ) -> None:
        """Run `command` in a shell, with the job in PIDEC_JOB_{ID,NAME,STATE,REASON,METRICS} of its environment.

        `alert`: its kind and sentence, in PIDEC_ALERT and PIDEC_ALERT_MESSAGE.
        """
        what = "on_end" if alert is None else "on_alert"
        environ = {
            **for_runner(os.environ),
            "PIDEC_JOB_ID": str(job.id),
            "PIDEC_JOB_NAME": job.name,
            "PIDEC_JOB_STATE": job.state.value,
            "PIDEC_JOB_REASON": job.reason,
            "PIDEC_JOB_METRICS": json.dumps(dict(metrics)),
            **({} if alert is None else {"PIDEC_ALERT": alert[0], "PIDEC_ALERT_MESSAGE": alert[1]}),
        }
        try:
            process = subprocess.Popen(
                ["sh", "-c", command], stdin=subprocess.DEVNULL, env=environ, start_new_session=True
            )
        except (OSError, ValueError) as error:
            log.warning("%s cannot be started: %s", what, error)
            return
        self._running.append((process, time.monotonic() + timeout_s, what))

    def poll(self) -> None:
        """Collect those that are done, kill those that take too long."""
        left = []
        for process, deadline, what in self._running:
            code = process.poll()
            if code is not None:
                if code:
                    log.warning("%s ended with code %s", what, code)
            elif time.monotonic() > deadline:
                log.warning("%s took too long and was killed", what)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            else:
                left.append((process, deadline, what))
        self._running = left

    @property
    def busy(self) -> bool:
        return bool(self._running)
