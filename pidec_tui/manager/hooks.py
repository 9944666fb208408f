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
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .environment import for_runner, without_secrets
from .jobs import Job

log = logging.getLogger("pidec.runner")

_TOLD = 2000  # characters of the end of what a command has said on stderr


@dataclass
class _Running:
    process: subprocess.Popen[bytes]
    deadline: float
    what: str
    job: Job
    stderr: BinaryIO


class Hooks:
    """Runs commands beside the runner, each in a session of its own, and kills them after their time.

    Args:
        workspace: in PIDEC_WORKSPACE of their environment.
        failed: called with the job and a sentence when one has failed, unless the last one has in the same way.
    """

    def __init__(self, workspace: Path, failed: Callable[[Job, str], None]) -> None:
        self._workspace = workspace
        self._failed = failed
        self._running: list[_Running] = []
        self._told: dict[str, str] = {}

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
            "PIDEC_WORKSPACE": str(self._workspace),
            "PIDEC_JOB_ID": str(job.id),
            "PIDEC_JOB_NAME": job.name,
            "PIDEC_JOB_STATE": job.state.value,
            "PIDEC_JOB_REASON": job.reason,
            "PIDEC_JOB_METRICS": json.dumps(dict(metrics)),
            **({} if alert is None else {"PIDEC_ALERT": alert[0], "PIDEC_ALERT_MESSAGE": alert[1]}),
        }
        try:
            stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it was read
            process = subprocess.Popen(
                ["sh", "-c", command], stdin=subprocess.DEVNULL, stderr=stderr, env=environ, start_new_session=True
            )
        except (OSError, ValueError) as error:
            self._tell(job, what, f"{what} cannot be started: {error}")
            return
        self._running.append(_Running(process, time.monotonic() + timeout_s, what, job, stderr))

    def poll(self) -> None:
        """Collect those that are done, kill those that take too long."""
        now = time.monotonic()
        over = [each for each in self._running if each.process.poll() is not None or now > each.deadline]
        for each in over:
            self._running.remove(each)  # one by one: to tell of one may fail, where the job log is locked
            code = each.process.poll()
            if code is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(each.process.pid, signal.SIGKILL)
                each.process.wait()
            said = without_secrets(_end_of(each.stderr, 2 * _TOLD), os.environ)[-_TOLD:]  # half a secret is cut off
            if code == 0:
                self._told.pop(each.what, None)
                continue
            text = f"{each.what} " + ("took too long and was killed" if code is None else f"ended with code {code}")
            last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
            self._tell(each.job, each.what, f"{text}: {last}" if last else text, said)

    def _tell(self, job: Job, what: str, text: str, said: str = "") -> None:
        log.warning("%s%s", text, f"\n{said.rstrip()}" if said.count("\n") > 1 else "")
        if self._told.get(what) != text:
            self._failed(job, text)
            self._told[what] = text

    @property
    def busy(self) -> bool:
        return bool(self._running)


def _end_of(file: BinaryIO, most: int) -> str:
    """The end of what was said: so many bytes."""
    with file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - most, 0))
        return file.read().decode(errors="replace")
