"""Curves and events in the job log: writing what was read from metrics.jsonl, and reading it back quickly."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from .joblog import JobLog
from .jobs import JobEvent, MetricPoint

Point = tuple[int, str, int, float, float | None]  # seq, name, step, time, value


class MetricLog:
    """Curves and events of all jobs. Callers hold the transaction when they write."""

    def __init__(self, log: JobLog) -> None:
        self._log = log

    # --- writing ---------------------------------------------------------------------------------------------------

    def add_points(self, job: int, attempt: int, points: Iterable[Point]) -> None:
        """Insert points; one that is there already (same attempt, seq and name) is left as it is."""
        rows = [(job, attempt, seq, self._name_id(name), step, time, value) for seq, name, step, time, value in points]
        self._log.many(
            "INSERT OR IGNORE INTO metrics (job, attempt, seq, name, step, time, value) VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        newest = {row[3]: (job, row[3], row[4], row[5], row[6]) for row in rows}
        self._log.many(
            "INSERT OR REPLACE INTO latest (job, name, step, time, value) VALUES (?, ?, ?, ?, ?)", newest.values()
        )

    def add_event(
        self, job: int, attempt: int, seq: int, step: int | None, time: float, event: str, detail: dict[str, Any]
    ) -> None:
        """Insert an event; one that is there already (same attempt and seq) is left as it is."""
        self._log.rows(
            "INSERT OR IGNORE INTO events (job, attempt, seq, step, time, event, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (job, attempt, seq, step, time, event, json.dumps(detail)),
        )

    def add_note(self, job: int, attempt: int, time: float, message: str) -> None:
        """A warning of the runner's own, beside the trainer's."""
        lowest = self._log.rows("SELECT min(seq) FROM events WHERE job = ? AND attempt = ?", (job, attempt))[0][0]
        seq = min(lowest or 0, 0) - 1
        self.add_event(job, attempt, seq, None, time, "warning", {"message": message, "from": "runner"})

    def _name_id(self, name: str) -> int:
        rows = self._log.rows("SELECT id FROM names WHERE name = ?", (name,))
        if not rows:
            self._log.rows("INSERT INTO names (name) VALUES (?)", (name,))
            rows = self._log.rows("SELECT id FROM names WHERE name = ?", (name,))
        return int(rows[0][0])

    # --- reading ---------------------------------------------------------------------------------------------------

    def names(self, job: int) -> list[str]:
        """Names of the job's curves, sorted."""
        sql = "SELECT names.name FROM latest JOIN names ON names.id = latest.name WHERE job = ? ORDER BY names.name"
        return [row[0] for row in self._log.rows(sql, (job,))]

    def latest(self, job: int) -> dict[str, float | None]:
        """The newest value of each curve."""
        sql = "SELECT names.name, value FROM latest JOIN names ON names.id = latest.name WHERE job = ?"
        return dict(self._log.rows(sql, (job,)))

    def points(self, job: int, *, key: str | None, after_row: int, limit: int | None) -> list[MetricPoint]:
        """Points with a row id above `after_row`, in the order of their arrival.

        A full read (`after_row` 0 and no `limit`) leaves out what a later attempt has said again; a reader that
        goes on from its last row does that for itself.
        """
        full = after_row == 0 and limit is None
        names = [key] if key is not None else self.names(job)
        first = self._first_attempt(job) if full else 0
        rows = self._log.rows(
            "SELECT metrics.id, attempt, seq, step, time, names.name, value FROM metrics INDEXED BY metrics_by_curve "
            "JOIN names ON names.id = metrics.name "
            "WHERE job = ? AND metrics.name IN (SELECT id FROM names WHERE name IN (SELECT value FROM json_each(?))) "
            "AND metrics.id > ? AND attempt >= ? ORDER BY metrics.id LIMIT ?",
            (job, json.dumps(names), after_row, first, -1 if limit is None else limit),
        )
        points = [MetricPoint(*row) for row in rows]
        return without_superseded(points) if full else points

    def _first_attempt(self, job: int) -> int:
        """The last attempt that began from nothing and has a curve: those before it are void."""
        sql = (
            "SELECT coalesce(max(number), 0) FROM attempts WHERE job = ?1 AND fresh AND EXISTS "
            "(SELECT 1 FROM metrics WHERE metrics.job = ?1 AND metrics.attempt = attempts.number)"
        )
        return int(self._log.rows(sql, (job,))[0][0])

    def events(self, job: int, after_row: int) -> list[JobEvent]:
        sql = "SELECT id, attempt, seq, step, time, event, detail FROM events WHERE job = ? AND id > ? ORDER BY id"
        rows = self._log.rows(sql, (job, after_row))
        return [JobEvent(row[0], row[1], row[2], row[3], row[4], row[5], json.loads(row[6])) for row in rows]


def without_superseded(points: list[MetricPoint]) -> list[MetricPoint]:
    """Drop each point for which a later attempt has one of the same name and step."""
    if not points or points[0].attempt == points[-1].attempt:
        return points
    newest: dict[tuple[str, int], int] = {}
    for point in points:
        at = (point.name, point.step)
        newest[at] = max(point.attempt, newest.get(at, 0))
    return [point for point in points if point.attempt == newest[(point.name, point.step)]]


def finite(value: float | None) -> float | None:
    """`value`, or None where it is not a number that a chart can draw."""
    return value if value is not None and math.isfinite(value) else None
