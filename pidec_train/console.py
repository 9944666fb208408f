"""What a run shows while it goes: a progress bar on a terminal, plain lines in a log."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from .protocol import metric_names as names

_ON_BAR = {names.TRAIN_LOSS, names.TRAIN_LR}


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
        if all(name.startswith("time/") for name in metrics):
            return  # nothing that a line shows
        if self._progress:
            self._progress.update(self._task, completed=step)
            self.note("  ".join(_short(name, value) for name, value in metrics.items() if name in _ON_BAR))
            if names.EVAL_SUCCESS_RATE in metrics:
                self.say(self._line(step, metrics))
            return
        if not all(name.startswith("time/") for name in metrics):  # there is nothing of those in a line
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
