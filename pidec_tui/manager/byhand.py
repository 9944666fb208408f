"""Runs that somebody has started with `pidec-train`: found by their folders, listed beside the queue, never changed.

A run folder below `jobs/runs` whose name is no number belongs to no job; pidec-train calls its own `hand-<time>-…`.
Such runs have negative ids, -1 the one that was found first; people see and type `h1`. The order in which they were
found is kept in a file, so that all who look mean the same run by a number, and tomorrow, too.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import RunDir, Workspace, parse_metrics

from .ingest import read_new
from .jobs import Attempt, Job, JobEvent, JobState, MetricBlock
from .metriclog import finite

if TYPE_CHECKING:
    from pidec_train.protocol.rundir import MetricsLine

NAME = " (by hand)"
ORDER = "by-hand.txt"  # in the jobs folder: a run folder's name a line, the first one is h1
PIECE = 64 * 1024  # of a file's begin and end, that tell how a run does
NEWEST = 50  # rows that are kept of it: an evaluation's step may be behind those of the rows before
SILENT_S = 300.0  # after which a run is taken for gone, if its process cannot be seen
_HAND = re.compile(r"hand-\d{8}-\d{6}-(.+)")
_STATES = {"succeeded": JobState.succeeded, "failed": JobState.failed}


@dataclass
class _Columns:
    """Lines that name the same metrics."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    steps: array[float] = field(default_factory=lambda: array("d"))
    times: array[float] = field(default_factory=lambda: array("d"))
    values: dict[str, array[float]] = field(default_factory=dict)


@dataclass
class _Run:
    """One metrics.jsonl, and what was read of it. Rows count the lines that were taken in, from 1; they go on where
    another file takes its place, so that a reader who asks for what lies behind a row is told of all that is new."""

    path: Path
    number: int = 1  # of the attempt
    offset: int = 0
    rows: int = 0
    columns: dict[tuple[str, ...], _Columns] = field(default_factory=dict)
    events: list[JobEvent] = field(default_factory=list)
    told: list[MetricsLine] = field(default_factory=list)  # see `ends`
    _stamp: tuple[int, int, int] = (0, 0, 0)  # the file that `told` is of: which, its size and its time
    _behind: int = 0  # byte behind the last line that `told` has taken in

    def grow(self) -> None:
        """Read what has come since."""
        while True:
            behind, lines = read_new(self.path, self.offset)
            if behind < self.offset:  # written anew
                self.columns, self.events = {}, []
            for line in lines:
                self._take(line)
            if behind == self.offset:
                return
            self.offset = behind

    def _take(self, line: MetricsLine) -> None:
        self.rows += 1
        if line.event is not None:
            detail = line.detail()
            self.events.append(JobEvent(self.rows, self.number, line.seq, line.step, line.time, line.event, detail))
        if not line.metrics:
            return
        names = tuple(sorted(line.metrics))
        columns = self.columns.setdefault(names, _Columns(values={name: array("d") for name in names}))
        columns.rows.append(self.rows)
        columns.steps.append(line.seq if line.step is None else line.step)
        columns.times.append(line.time)
        for name in names:
            value = finite(line.metrics[name])
            columns.values[name].append(float("nan") if value is None else value)

    def ends(self) -> list[MetricsLine]:
        """The events at its begin, at its end, and of all that has come since the first look; and the newest rows."""
        stat = self.path.stat()
        stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if self._stamp != stamp:
            if self._stamp[0] == stat.st_ino and self._behind <= stat.st_size <= self._behind + PIECE:
                self._behind, lines = read_new(self.path, self._behind)
                lines = [*self.told, *lines]
            else:
                lines = self._read_ends(stat.st_size)
            rows = [line for line in lines if line.event is None]
            self.told = [*(line for line in lines if line.event is not None), *rows[-NEWEST:]]
            self._stamp = stamp
        return self.told

    def _read_ends(self, size: int) -> list[MetricsLine]:
        with self.path.open("rb") as file:
            if size <= 2 * PIECE:  # in one: a line across the border of two would be lost, and it may be the last
                at, pieces = 0, [file.read(2 * PIECE)]
            else:
                at, pieces = size - PIECE, [file.read(PIECE)]
                file.seek(at)
                pieces.append(file.read(PIECE))
        self._behind = at + pieces[-1].rfind(b"\n") + 1
        return [line for piece in pieces for _, line in parse_metrics(piece)]


class ByHand:
    """The runs by hand of one workspace. May be asked from any thread."""

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace
        self._lock = threading.RLock()
        self._runs: dict[Path, _Run] = {}  # by run folder
        self._numbers: dict[str, int] = {}  # by the folder's name

    def jobs(self) -> list[Job]:
        """Those that have said something, running ones first, then the newest. They look like jobs of the queue."""
        with self._lock:
            self._find()
            runs = [(-self._numbers[folder.name], folder, run) for folder, run in self._runs.items()]
            made = [job for run in runs if (job := _job(*run)) is not None]
        return sorted(made, key=lambda job: (not job.state.active, -(job.started or 0)))

    def job(self, job_id: int) -> Job:
        """One of them. Raises PidecError if there is none of that id."""
        found = {job.id: job for job in self.jobs()}
        if job_id not in found:
            known = ", ".join(shown_id(other) for other in sorted(found, reverse=True))
            hint = f"There are {known}" if known else "pidec-train makes some; pidec-jobs add quickstart queues a job"
            raise PidecError(f"there is no run {shown_id(job_id)} by hand", hint)
        return found[job_id]

    def curves(self, job_id: int, after_row: int) -> list[MetricBlock]:
        """What lies behind a row, as `Manager.curves` gives it."""
        with self._lock:
            run = self._run(job_id)
            run.grow()
            blocks = []
            for columns in run.columns.values():
                at = bisect_right(columns.rows, after_row)
                if at < len(columns.rows):
                    values = {name: column[at:] for name, column in columns.values.items()}
                    blocks.append(
                        MetricBlock(run.number, columns.rows[-1], columns.steps[at:], columns.times[at:], values)
                    )
            return blocks

    def latest(self, job_id: int) -> dict[str, float | None]:
        """The newest value of each curve."""
        newest: dict[str, tuple[int, float]] = {}
        with self._lock:
            run = self._run(job_id)
            run.grow()
            for columns in run.columns.values():
                for name, column in columns.values.items():
                    newest[name] = max(newest.get(name, (0, 0.0)), (columns.rows[-1], column[-1]))
        return {name: None if value != value else value for name, (_, value) in newest.items()}

    def events(self, job_id: int, after_row: int) -> list[JobEvent]:
        with self._lock:
            run = self._run(job_id)
            run.grow()
            return [event for event in run.events if event.row_id > after_row]

    def checkpoint_dir(self, job_id: int) -> Path:
        """Where pidec-train puts its checkpoints, unless it was told otherwise."""
        with self._lock:
            self._find()
            return self._ws.checkpoints / self._folder(job_id).name

    def _find(self) -> None:
        """Look for new folders, and forget those that are gone; the others keep their ids."""
        try:
            names = sorted(entry.name for entry in os.scandir(self._ws.runs) if not entry.name.isdigit())
        except OSError:
            names = []
        for name in names:
            folder = self._ws.runs / name
            number, path = _metrics(folder)
            known = self._runs.get(folder)
            if path is not None and (known is None or known.path != path):
                self._runs[folder] = _Run(path, number, rows=known.rows if known else 0)
        found = [folder.name for folder in self._runs]
        if any(name not in self._numbers for name in found):
            self._numbers = _numbered(self._ws.jobs / ORDER, found)

    def _folder(self, job_id: int) -> Path:
        for folder in self._runs:
            if self._numbers[folder.name] == -job_id:
                return folder
        raise PidecError(f"there is no run {shown_id(job_id)} by hand")

    def _run(self, job_id: int) -> _Run:
        if -job_id not in self._numbers.values():
            self._find()
        return self._runs[self._folder(job_id)]


def _numbered(path: Path, names: Sequence[str]) -> dict[str, int]:
    """The numbers of these run folders, from 1; new ones are put down behind the others.

    Lines are only ever added, and the first of a name counts: several processes may find a run at the same time, and
    need no lock to agree.
    """
    known = _read_order(path)
    new = [name for name in names if name not in known and "\n" not in name]
    if new:
        with contextlib.suppress(OSError):  # a workspace that may only be read: they last as long as this process
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                # From a new line on: the last one may have been cut by a full disk, or lack its end after an edit.
                begin = "" if path.read_bytes()[-1:] in (b"", b"\n") else "\n"
                os.write(file, begin.encode() + "".join(f"{name}\n" for name in new).encode(errors="surrogateescape"))
            finally:
                os.close(file)
            known = _read_order(path)
    for name in names:
        known.setdefault(name, len(known) + 1)
    return known


def _read_order(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError:
        return {}
    return {name: number for number, name in enumerate(dict.fromkeys(filter(None, lines)), 1)}


def shown_id(job_id: int) -> str:
    """`41`, or `h1` for a run by hand."""
    return str(job_id) if job_id >= 0 else f"h{-job_id}"


def refuse(job_id: int) -> None:
    """Raise PidecError for a run by hand: the queue cannot change what it does not hold."""
    if job_id < 0:
        raise PidecError(
            f"run {shown_id(job_id)} was started by hand: the queue only watches it",
            "Stop it where it was started; pidec-jobs add queues a job of its own",
        )


def _metrics(folder: Path) -> tuple[int, Path | None]:
    """The newest attempt of a run folder, and its metrics.jsonl, or the one in the folder itself."""
    attempts = [(number, attempt.metrics) for number, attempt in RunDir(folder).attempts()]
    for number, path in (*reversed(attempts), (1, folder / "metrics.jsonl")):
        if path.is_file():
            return number, path
    return 1, None


def _job(job_id: int, folder: Path, run: _Run) -> Job | None:
    """How a run does by the begin and the end of its file; None if it cannot be told."""
    try:
        lines = run.ends()
    except OSError:
        return None
    from pidec_train.protocol.config import CONFIG_MODELS

    from .specs import STEP_NAMES

    start = next((line for line in reversed(lines) if line.event == "start"), None)
    if start is None:
        return None
    about, last = start.detail(), max((line.time for line in lines), default=start.time)
    kind = str(about.get("kind"))
    kind = kind if kind in CONFIG_MODELS else "command"
    end = next((line for line in reversed(lines) if line.event == "end" and line.time >= start.time), None)
    state, reason = _state(start, end, last)
    ended = None if state is JobState.running else last
    total, name = about.get("total_steps"), about.get("step_name")
    found, config = _HAND.fullmatch(folder.name), about.get("config")
    return Job(
        job_id,
        kind,
        (found[1] if found else folder.name) + NAME,
        state,
        "hand",
        config if isinstance(config, dict) else {},
        None,
        (),
        0.0,
        "",
        reason,
        start.time,
        start.time,
        ended,
        max((line.step for line in lines if line.step is not None), default=None),
        total if isinstance(total, int) else None,
        name if isinstance(name, str) and name else STEP_NAMES.get(kind, "step"),
        attempts=(Attempt(run.number, state.value, start.time, ended, about.get("pid"), cause=reason),),
    )


def _state(start: MetricsLine, end: MetricsLine | None, last: float) -> tuple[JobState, str]:
    """By its last word; without one, by its process, which another machine's cannot be seen of."""
    if end is not None:
        said = end.detail()
        state = _STATES.get(str(said.get("state")), JobState.cancelled)
        return state, str(said.get("reason") or "") if state is not JobState.succeeded else ""
    if _lives(start.detail().get("pid"), start.time) or time.time() - last < SILENT_S:
        return JobState.running, ""
    return JobState.failed, "its process is gone, without a last word"


def _lives(pid: object, since: float) -> bool:
    """Whether the process that wrote the first line is there; not another one that got its number later."""
    try:
        return isinstance(pid, int) and psutil.Process(pid).create_time() <= since + 1
    except (psutil.Error, ValueError, OverflowError):
        return False
