"""From an attempt's metrics.jsonl into the job log: rows and byte offset in one transaction."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pidec_train.protocol.metric_names import EVAL
from pidec_train.protocol.rundir import parse_metrics

from .joblog import JobLog
from .metriclog import MetricLog, Row

if TYPE_CHECKING:
    from pidec_train.protocol.rundir import MetricsLine

CHUNK = 1 << 20
_LARGEST = 2**63 - 1  # SQLite's integers


def read_new(path: Path, offset: int) -> tuple[int, list[MetricsLine]]:
    """The lines behind byte `offset`, at most a chunk of them, and the offset behind the last whole line.

    A file that has become shorter is read from its start; one that has vanished has no lines.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < offset:
                offset = 0
            file.seek(offset)
            data = file.read(CHUNK)
    except OSError:
        return offset, []
    lines = [line for _, line in parse_metrics(data)]
    whole = data.rfind(b"\n") + 1
    if not whole and len(data) == CHUNK:
        whole = CHUNK  # a line this long is none of ours: pass over it piece by piece
    return offset + whole, lines


class Ingest:
    """Stores what trainers write.

    Args:
        log: the job log.
        metrics: its curves and events.
    """

    def __init__(self, log: JobLog, metrics: MetricLog) -> None:
        self._log = log
        self._metrics = metrics

    def step(self, job: int, attempt: int, kind: str, path: Path, *, in_transaction: bool = False) -> bool:
        """Take in at most one chunk, in a transaction of its own unless the caller has one. True if there was more.

        Raises:
            JobLogError: it cannot be stored; the offset then stays, and the next call reads the same lines again.
        """
        try:
            size = os.stat(path).st_size
        except OSError:
            return False
        offset = self._log.attempt_columns(job, attempt, "offset")[0]
        if size == offset:
            return False
        behind, lines = read_new(path, offset)
        if behind == offset and not lines:
            return False
        with contextlib.nullcontext() if in_transaction else self._log.write():
            self._store(job, attempt, kind, lines)
            self._log.update_attempt(job, attempt, offset=behind)
        return True

    def all(self, job: int, attempt: int, kind: str, path: Path, *, in_transaction: bool = False) -> None:
        """Take in all there is."""
        while self.step(job, attempt, kind, path, in_transaction=in_transaction):
            pass

    def _store(self, job: int, attempt: int, kind: str, lines: list[MetricsLine]) -> None:
        rows: list[Row] = []
        progress: dict[str, Any] = {}
        for line in lines:
            if not _fits(line.seq) or (line.step is not None and not _fits(line.step)):
                continue
            step = line.seq if line.step is None else line.step
            if line.metrics:
                rows.append((line.seq, step, line.time, line.metrics))
            if line.step is not None:
                progress["step"] = line.step if _sets_progress(line) else self._further(job, line.step, progress)
            if line.event is not None:
                self._event(job, attempt, kind, line, progress)
        if rows:
            self._metrics.add_rows(job, attempt, rows)
        if progress:
            self._log.update_job(job, **progress)

    def _further(self, job: int, step: int, progress: dict[str, Any]) -> int:
        """`step`, or how far the job is if that is further."""
        known = progress["step"] if "step" in progress else self._log.columns(job, "step")[0]
        return step if known is None else max(step, known)

    def _event(self, job: int, attempt: int, kind: str, line: MetricsLine, progress: dict[str, Any]) -> None:
        detail = line.detail()
        self._metrics.add_event(job, attempt, line.seq, line.step, line.time, str(line.event), detail)
        if line.event == "start":
            total, name, resumed = detail.get("total_steps"), detail.get("step_name"), detail.get("resumed_step")
            if isinstance(total, int) and _fits(total):
                progress["total_steps"] = total
            if isinstance(name, str) and name:
                progress["step_name"] = name[:40]
            resumed = resumed if isinstance(resumed, int) and _fits(resumed) else None
            progress.setdefault("step", resumed)
            self._log.update_attempt(job, attempt, resumed_step=resumed)
            if kind != "command" and not resumed:
                self._log.update_attempt(job, attempt, fresh=1)
        elif line.event == "checkpoint":
            self._log.update_attempt(job, attempt, new_checkpoint=1)


def _sets_progress(line: MetricsLine) -> bool:
    """Whether a line speaks of where the job is, and not of an earlier step: evaluations and checkpoints finish beside
    the training that went on."""
    if line.event is None:
        return any(not name.startswith(EVAL) for name in line.metrics)
    return line.event in ("start", "progress")


def _fits(number: int) -> bool:
    return -_LARGEST <= number <= _LARGEST
