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
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from .protocol import metric_names as names
from .protocol.errors import PidecError
from .protocol.rundir import AttemptDir, parse_metrics

WANDB_FINISH_SECONDS = 60.0  # an upload that hangs must not keep the GPU slot


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
        track: also log to W&B; reads `wandb_project_name`, `wandb_entity` and `exp_name` from `config`.
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
        if track:
            self._start_wandb(kind, config or {})

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
            self._guard(self._wandb.log, step, {k: v for k, v in values.items() if v is not None})

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
            self._guard(self._wandb.finish, 0 if state == "succeeded" else 1)
        self.event("end", state=state, reason=reason)
        self._console.close()
        if self._file:
            self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        if self._file and (problem := self._file.append(line)):
            self._console.say(f"warning: {problem}")

    def _start_wandb(self, kind: str, config: Mapping[str, Any]) -> None:
        try:
            self._wandb = WandbRun(kind, config, self.run_dir)
        except Exception as error:  # noqa: BLE001 - whatever W&B raises, training goes on without it
            self._wandb_failed(error)

    def _guard(self, call: Any, *args: Any) -> None:
        try:
            call(*args)
        except Exception as error:  # noqa: BLE001 - as above
            self._wandb_failed(error)

    def _wandb_failed(self, error: Exception) -> None:
        self._wandb = None
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        self.event("warning", message=f"W&B is off for this run: {first_line}")


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


class WandbRun:
    """One W&B run. Every method may raise whatever W&B raises."""

    def __init__(self, kind: str, config: Mapping[str, Any], run_dir: Path | None) -> None:
        import wandb  # slow to import, and only wanted with --track

        self._run = wandb.init(
            project=config.get("wandb_project_name"),
            entity=config.get("wandb_entity"),
            name=config.get("exp_name") or None,
            job_type=kind,
            config=dict(config),
            dir=str(run_dir) if run_dir else None,
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def finish(self, exit_code: int) -> None:
        """Upload what is left, for at most WANDB_FINISH_SECONDS."""
        thread = threading.Thread(target=self._run.finish, kwargs={"exit_code": exit_code}, daemon=True)
        thread.start()
        thread.join(WANDB_FINISH_SECONDS)
        if thread.is_alive():
            raise TimeoutError(f"upload not finished after {WANDB_FINISH_SECONDS:.0f} s; `wandb sync` can do it later")


class _RateColumn(ProgressColumn):
    """Steps per minute as rich estimates them over the last half minute."""

    def render(self, task: Task) -> Text:
        return Text("" if not task.speed else f"{task.speed * 60:,.0f}/min", style="cyan")


class ConsoleView:
    """A progress bar with rate and ETA on a terminal, one plain line per row otherwise."""

    def __init__(self, stream: IO[str], step_name: str, total_steps: int, start_step: int) -> None:
        self._stream = stream
        self._step_name = step_name
        self._total = total_steps
        self._progress: Progress | None = None
        if stream.isatty():
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _RateColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(file=stream),
            )
            self._task = self._progress.add_task(step_name, total=total_steps, completed=start_step, note="")
            self._progress.start()

    def row(self, step: int, metrics: Mapping[str, float | None]) -> None:
        if self._progress:
            self._progress.update(self._task, completed=step)
            self.note("  ".join(_short(name, value) for name, value in metrics.items() if name in _ON_BAR))
            if names.EVAL_SUCCESS_RATE in metrics:
                self.say(self._line(step, metrics))
            return
        self.say(self._line(step, metrics))

    def advance(self, step: int) -> None:
        if self._progress:
            self._progress.update(self._task, completed=step)

    def note(self, text: str) -> None:
        if self._progress and text:
            self._progress.update(self._task, note=text)

    def say(self, text: str) -> None:
        with self._whoever_reads():
            if self._progress:
                self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                print(text, file=self._stream, flush=True)

    def close(self) -> None:
        with self._whoever_reads():
            if self._progress:
                self._progress.stop()

    @contextlib.contextmanager
    def _whoever_reads(self) -> Iterator[None]:
        """Nobody may: the disk of a log is full, a terminal is gone, `| head` has seen enough. The run goes on."""
        try:
            yield
        except (
            BrokenPipeError
        ):  # what lies in the buffer would fail again, last at the interpreter's end (exit code 120)
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        except OSError:
            pass

    def _line(self, step: int, metrics: Mapping[str, float | None]) -> str:
        words = [f"{self._step_name} {step:,}/{self._total:,}"]
        words += [_short(name, value) for name, value in metrics.items() if not name.startswith("time/")]
        rate = metrics.get(names.ITERS_PER_MIN)
        if rate and step < self._total:
            words.append(f"ETA {_duration((self._total - step) / rate * 60)}")
        return "  ".join(words)


_ON_BAR = {names.TRAIN_LOSS, names.TRAIN_LR}


def _short(name: str, value: float | None) -> str:
    short = name.rsplit("/", 1)[-1]
    if value is None:
        return f"{short} not finite"
    return f"{value:,.0f}/min" if names.info(name).unit == "1/min" else f"{short} {value:.4g}"


def _duration(seconds: float) -> str:
    """`3 h 05 min`, `12 min`, `40 s`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
