"""What a run tells the world: metrics.jsonl, the console, and W&B if asked.

The file is the truth; the console and W&B are copies. None of the three may stop a run: a full disk or a W&B that
cannot be reached costs rows and a warning, no more.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from .console import ConsoleView
from .protocol.errors import PidecError
from .protocol.rundir import AttemptDir, parse_metrics
from .wandb_run import WandbRun


class MetricWriter:
    """Writes a run's rows and events. Use as a context manager, or call `end` once.

    Args:
        run_dir: attempt folder (created if missing); None: console only.
        kind: job kind, for the `start` event.
        step_name: what one step is ("iteration", "episode", "demo").
        total_steps: steps of the whole run.
        start_step: step at which the progress bar begins.
        resumed_step: step of the checkpoint that the run goes on from; None: a fresh run.
        config: the run's config, for the `start` event and W&B.
        track: also log to W&B, which needs a `run_dir`; reads `wandb_project_name`, `wandb_entity` and `exp_name` from
            `config`.
        console: where to talk; stderr by default, so that stdout stays for data.
    """

    def __init__(
        self,
        run_dir: Path | None,
        *,
        kind: str,
        step_name: str,
        total_steps: int,
        start_step: int = 0,
        resumed_step: int | None = None,
        config: Mapping[str, Any] | None = None,
        track: bool = False,
        console: IO[str] | None = None,
    ) -> None:
        self.run_dir = run_dir
        self.step_name = step_name
        self.total_steps = total_steps
        self._file = MetricsFile(AttemptDir(run_dir).metrics) if run_dir else None
        self._console = ConsoleView(console or sys.stderr, step_name, total_steps, start_step)
        self._warned: set[str] = set()
        self._ended = False
        self._wandb: WandbRun | None = None
        self._wandb_problem = False
        self.event(
            "start",
            start_step,
            kind=kind,
            step_name=step_name,
            total_steps=total_steps,
            resumed_step=resumed_step,
            config=dict(config or {}),
            pid=os.getpid(),
        )
        if track and run_dir:
            try:
                self._wandb = WandbRun(kind, step_name, config or {}, run_dir)
            except (OSError, ValueError) as error:  # no process to be had; a config that is no JSON
                self._hear([("off", str(error))])

    def __enter__(self) -> MetricWriter:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """An `end` event for whatever leaves the run: "succeeded", "interrupted" (exit code 130) or "failed"."""
        if error is None:
            self.end("succeeded")
        elif isinstance(error, PidecError):
            self.end("interrupted" if error.exit_code == 130 else "failed", error.line())
        else:
            self.end("failed", f"{type(error).__name__}: {error}")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One row. NaN and Inf become null, with one `warning` event the first time a metric is not finite."""
        values: dict[str, float | None] = {}
        for name, value in metrics.items():
            number = float(value)
            values[name] = number if math.isfinite(number) else None
            if values[name] is None and name not in self._warned:
                self._warned.add(name)
                self.event("warning", step, message=f"{name} is {number} at {self.step_name} {step}")
        self._write({"step": step, "metrics": values})
        self._console.row(step, values)
        if self._wandb:
            self._wandb.log(step, {k: v for k, v in values.items() if v is not None})
            self._hear(self._wandb.news())

    def artifact(self, path: Path, *, step: int, aliases: Sequence[str], info: Mapping[str, Any]) -> None:
        """A checkpoint for W&B, with the `.json` beside it, as an artifact of type "model" named after the run.

        Does nothing without W&B, never fails and takes no time: hashing and upload happen elsewhere. The files may be
        deleted right after.

        Args:
            aliases: ("best",), ("last",), …
            info: stored with the artifact, values that JSON knows; the step is added to them.
        """
        if self._wandb:
            self._hear(self._wandb.news())
        if self._wandb:
            try:
                self._wandb.artifact(path, step=step, aliases=aliases, info=info)
            except OSError as error:
                self._hear([("problem", f"{path.name} is not stored: {error.strerror or error}")])

    def event(self, event: str, step: int | None = None, **detail: Any) -> None:
        """One event; see `protocol.rundir.MetricsLine` for their fields. A `warning` is also shown."""
        line: dict[str, Any] = {"event": event, **detail}
        if step is not None:
            line["step"] = step
        self._write(line)
        if event == "warning":
            self._console.say(f"warning: {detail.get('message', '')}")

    def advance(self, step: int) -> None:
        """Move the progress bar, without a row."""
        self._console.advance(step)

    def note(self, text: str) -> None:
        """A few words beside the progress bar; nothing where there is none."""
        self._console.note(text)

    def say(self, text: str) -> None:
        """One line for whoever watches; not in the file."""
        self._console.say(text)

    def end(self, state: str, reason: str = "") -> None:
        """The `end` event (state "succeeded", "failed" or "interrupted"). Later calls do nothing."""
        if self._ended:
            return
        self._ended = True
        if self._wandb:
            wandb = self._wandb
            wandb.finish(0 if state == "succeeded" else 1, hurried=state == "interrupted")
            self._hear(wandb.news())
        self.event("end", state=state, reason=reason)
        self._console.close()
        if self._file:
            self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        if self._file and (problem := self._file.append(line)):
            self._console.say(f"warning: {problem}")

    def _hear(self, news: Iterable[tuple[str, str]]) -> None:
        """What W&B has to say; a problem that repeats itself is told once."""
        for what, text in news:
            if what == "up" and text:
                self._console.say(f"W&B: {text}")
            elif what == "off":
                self._wandb = None
                self.event("warning", message=f"W&B is off for this run: {text}")
            elif what == "problem" and not self._wandb_problem:
                self._wandb_problem = True
                self.event("warning", message=f"W&B: {text}")


class MetricsFile:
    """Appends to metrics.jsonl: each line one `write`, `seq` going on where the file stops."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            hint = "Choose another --run-dir or workspace."
            raise PidecError(f"{path} cannot be written: {error.strerror}", hint) from None
        self._path = path
        old = path.read_bytes()
        self._seq = max((line.seq for _, line in parse_metrics(old)), default=-1) + 1
        self._torn = bool(old) and not old.endswith(b"\n")  # a half-written last line: begin on a new one
        self._failing = False

    def append(self, line: dict[str, Any]) -> str:
        """Write one line with its seq and time. Returns a complaint when writing begins to fail, else ""."""
        body = {"seq": self._seq, "time": round(time.time(), 3), **line}
        data = (json.dumps(body, allow_nan=False, default=str) + "\n").encode()
        try:
            whole = b"\n" + data if self._torn else data
            written = os.write(self._fd, whole)
            if written < len(whole):
                raise OSError(f"{written} of {len(whole)} bytes written")
        except OSError as error:
            first, self._failing, self._torn = not self._failing, True, True
            return f"{self._path}: {error.strerror or error}; the run goes on, rows are lost" if first else ""
        self._torn = self._failing = False
        self._seq += 1
        return ""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)
            self._fd = -1
