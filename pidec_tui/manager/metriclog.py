"""Curves and events in the job log: writing what was read from metrics.jsonl, and reading it back quickly."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

from .joblog import MOST, JobLog, packed
from .jobs import Alert, JobEvent, MetricBlock, MetricPoint

Row = tuple[int, int, float, Mapping[str, float | None]]  # seq, step, time, values by metric: one line


class MetricLog:
    """Curves and events of all jobs. Callers hold the transaction when they write."""

    def __init__(self, log: JobLog) -> None:
        self._log = log

    # --- writing ---------------------------------------------------------------------------------------------------

    def add_rows(self, job: int, attempt: int, rows: Iterable[Row]) -> None:
        """Insert lines of metrics; one that is there already (same attempt and seq) is left as it is."""
        sets: dict[tuple[str, ...], int] = {}
        newest: dict[str, tuple[int, float, float | None]] = {}
        inserts = []
        for seq, step, time, metrics in rows:
            names = tuple(sorted(metrics))
            if names not in sets:
                sets[names] = self._set_id(names)
            values = {name: finite(metrics[name]) for name in names}
            inserts.append((job, attempt, seq, step, time, sets[names], packed(values.values())))
            newest.update((name, (step, time, value)) for name, value in values.items())
        self._forget_void(job, attempt)
        self._log.many(
            "INSERT OR IGNORE INTO metric_rows (job, attempt, seq, step, time, names, vals) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            inserts,
        )
        self._log.many(
            "INSERT OR REPLACE INTO latest (job, name, step, time, value) VALUES (?, ?, ?, ?, ?)",
            [(job, self._name_id(name), *point) for name, point in newest.items()],
        )

    def _forget_void(self, job: int, attempt: int) -> None:
        """Before the first line of an attempt that began from nothing: what earlier ones said last is void."""
        self._log.rows(
            "DELETE FROM latest WHERE job = ?1 "
            "AND EXISTS (SELECT 1 FROM attempts WHERE job = ?1 AND number = ?2 AND fresh) "
            "AND NOT EXISTS (SELECT 1 FROM metric_rows WHERE job = ?1 AND attempt >= ?2)",
            (job, attempt),
        )

    def _set_id(self, names: tuple[str, ...]) -> int:
        text = json.dumps(names, ensure_ascii=False, separators=(",", ":"))
        self._log.rows("INSERT OR IGNORE INTO metric_sets (names) VALUES (?)", (text,))
        return int(self._log.rows("SELECT id FROM metric_sets WHERE names = ?", (text,))[0][0])

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
        self._add_own(job, attempt, time, "warning", {"message": message, "from": "runner"})

    def add_alert(self, job: int, attempt: int, time: float, kind: str, about: str, message: str) -> None:
        """An alert of the runner's; `about` is the metric that it is about, if any."""
        self._add_own(job, attempt, time, "alert", {"kind": kind, "about": about, "message": message})

    def _add_own(self, job: int, attempt: int, time: float, event: str, detail: dict[str, Any]) -> None:
        lowest = self._log.rows("SELECT min(seq) FROM events WHERE job = ? AND attempt = ?", (job, attempt))[0][0]
        seq = min(lowest or 0, 0) - 1
        self.add_event(job, attempt, seq, None, time, event, detail)

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

    def all_names(self) -> list[str]:
        """Names of all jobs' curves, sorted."""
        return [row[0] for row in self._log.rows("SELECT name FROM names ORDER BY name")]

    def tail(self, job: int, name: str, count: int) -> list[float]:
        """The newest `count` values of a curve, oldest first, but for those that are no numbers or void."""
        if name not in self.latest(job):
            return []
        sql = (
            "SELECT vals, metric_sets.names FROM metric_rows INDEXED BY metric_rows_by_job "
            "JOIN metric_sets ON metric_sets.id = metric_rows.names "
            "WHERE job = ? AND attempt >= ? AND EXISTS (SELECT 1 FROM json_each(metric_sets.names) WHERE value = ?) "
            "ORDER BY metric_rows.id DESC LIMIT ?"
        )
        found = []
        for vals, names in self._log.rows(sql, (job, self._first_attempt(job), name, count)):
            value = array("d", vals)[json.loads(names).index(name)]
            if not math.isnan(value):
                found.append(value)
        return found[::-1]

    def latest(self, job: int) -> dict[str, float | None]:
        """The newest value of each curve."""
        sql = "SELECT names.name, value FROM latest JOIN names ON names.id = latest.name WHERE job = ?"
        return dict(self._log.rows(sql, (job,)))

    def points(self, job: int, *, key: str | None, after_row: int, limit: int | None) -> list[MetricPoint]:
        """Points with a row id above `after_row`, in the order of their arrival, of at most `limit` lines.

        A full read (`after_row` 0 and no `limit`) leaves out what a later attempt has said again; a reader that
        goes on from its last row does that for itself.
        """
        full = after_row == 0 and limit is None
        points = []
        rows, sets = self._read(job, after_row, self._first_attempt(job) if full else 0, limit)
        for row, attempt, seq, step, time, names, vals in rows:
            values = array("d", vals)
            for name, value in zip(sets[names], values, strict=True):
                if key is None or name == key:
                    points.append(MetricPoint(row, attempt, seq, step, time, name, finite(value)))
        return without_superseded(points) if full else points

    def blocks(self, job: int, after_row: int) -> list[MetricBlock]:
        """The same as arrays: one block for each attempt and each set of metrics, earlier attempts first."""
        rows, sets = self._read(job, after_row, 0 if after_row else self._first_attempt(job), None)
        groups: dict[tuple[int, int], list[tuple[Any, ...]]] = {}
        if len(sets) == 1 and rows[0][1] == rows[-1][1] == max(row[1] for row in rows):
            groups[rows[0][1], rows[0][5]] = rows  # most runs: nothing to sort out
        else:
            for row in rows:
                groups.setdefault((row[1], row[5]), []).append(row)
        blocks = []
        for attempt, names in sorted(groups):
            ids, _, _, steps, times, _, vals = zip(*groups[attempt, names], strict=True)
            flat = array("d", b"".join(vals))
            columns = {name: flat[place :: len(sets[names])] for place, name in enumerate(sets[names])}
            blocks.append(MetricBlock(attempt, ids[-1], array("d", steps), array("d", times), columns))
        return blocks

    def _read(
        self, job: int, after_row: int, first_attempt: int, limit: int | None
    ) -> tuple[list[tuple[Any, ...]], dict[int, list[str]]]:
        """Lines (id, attempt, seq, step, time, set, values) by their arrival, and the names in each set."""
        rows = self._log.rows(
            "SELECT id, attempt, seq, step, time, names, vals FROM metric_rows INDEXED BY metric_rows_by_job "
            "WHERE job = ? AND id > ? AND attempt >= ? ORDER BY id LIMIT ?",
            (job, after_row, first_attempt, -1 if limit is None else limit),
        )
        wanted = json.dumps(list({row[5] for row in rows}))
        sets = self._log.rows(
            "SELECT id, names FROM metric_sets WHERE id IN (SELECT value FROM json_each(?))", (wanted,)
        )
        return rows, {number: json.loads(names) for number, names in sets}

    def count(self) -> int:
        """How many points all jobs have."""
        return int(self._log.rows("SELECT coalesce(sum(length(vals)), 0) / 8 FROM metric_rows")[0][0])

    def furthest(self, job: int) -> dict[int, int]:
        """The highest step that each attempt has logged metrics at."""
        return dict(self._log.rows("SELECT attempt, max(step) FROM metric_rows WHERE job = ? GROUP BY attempt", (job,)))

    def _first_attempt(self, job: int) -> int:
        """The last attempt that began from nothing and has a curve: those before it are void."""
        sql = (
            "SELECT coalesce(max(number), 0) FROM attempts WHERE job = ?1 AND fresh AND EXISTS "
            "(SELECT 1 FROM metric_rows AS m WHERE m.job = ?1 AND m.attempt = attempts.number)"
        )
        return int(self._log.rows(sql, (job,))[0][0])

    def events(self, job: int, after_row: int) -> list[JobEvent]:
        sql = "SELECT id, attempt, seq, step, time, event, detail FROM events WHERE job = ? AND id > ? ORDER BY id"
        rows = self._log.rows(sql, (job, after_row))
        return [JobEvent(row[0], row[1], row[2], row[3], row[4], row[5], json.loads(row[6])) for row in rows]

    def alerts(self, after_row: int) -> list[Alert]:
        """Those of all jobs behind a row."""
        sql = "SELECT id, job, time, detail FROM events WHERE id > ? AND event = 'alert' ORDER BY id"
        found = []
        for row, job, time, text in self._log.rows(sql, (after_row,)):
            detail = json.loads(text)
            found.append(Alert(row, job, time, str(detail.get("kind")), str(detail.get("message"))))
        return found

    def last_event(self) -> int:
        """The row of the newest event; 0 before there is one."""
        return int(self._log.rows("SELECT coalesce(max(id), 0) FROM events")[0][0])


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
    """`value`, or None where it is none that one can draw, or add to others."""
    return value if value is not None and abs(value) <= MOST else None
