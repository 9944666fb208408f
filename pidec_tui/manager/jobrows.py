"""All jobs of the job log in the queue's order, read again and again: after 60 days a thousand are over, which hardly
ever change, while a row of metrics a second comes in for the one that runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .jobs import Attempt, Job, JobState

if TYPE_CHECKING:
    from .joblog import JobLog

JOB_COLUMNS = (  # in the order of `Job`'s fields
    "id, kind, name, state, lane, config, preset, after, position, waiting_for, reason, created, started, ended, "
    "step, total_steps, step_name, group_name"
)
ATTEMPT_COLUMNS = "job, number, state, started, ended, pid, gpu, exit_code, signal, cause, resumed_step"
_STATE, _CONFIG, _AFTER = (JOB_COLUMNS.split(", ").index(name) for name in ("state", "config", "after"))
_ACTIVE = "('starting', 'running', 'stopping')"
_WAITING = "('queued', 'held', 'interrupted')"
_OVER = "('succeeded', 'failed', 'cancelled')"
# Active first, then what waits in its order, then what is over, newest first.
_ORDER = (
    f"CASE WHEN state IN {_ACTIVE} THEN 0 WHEN state IN {_WAITING} THEN 1 ELSE 2 END, "
    f"CASE WHEN state IN {_ACTIVE} THEN started WHEN state IN {_WAITING} THEN position ELSE -ended END, id"
)
# Nothing that happens to a job that is over, or to an attempt, leaves all of these sums as they were: its state and its
# end, the last rows that are still taken in. Counted inside SQLite, which takes a tenth of what rows take.
_STAMPS = (
    f"SELECT count(*), total(id), total(started), total(ended), total(step), total(total_steps), "
    f"total(octet_length(reason)), total(octet_length(waiting_for)) FROM jobs NOT INDEXED WHERE state IN {_OVER}",
    "SELECT count(*), total(number), total(started), total(ended), total(pid), total(exit_code), total(resumed_step), "
    "total(octet_length(state)), total(octet_length(cause)), total(octet_length(gpu)) FROM attempts",
)
_Made = dict[int, tuple[object, Job]]  # jobs by id, with the rows that they were made of


class JobRows:
    """What was read last is kept: of a thousand jobs few change, and making them all takes eight times as long as
    reading them, reading them ten times as long as asking whether any that is over has changed."""

    def __init__(self, log: JobLog) -> None:
        self._log = log
        self._over: tuple[object, _Made] = (None, {})  # what is over, and the stamp that it had
        self._others: _Made = {}

    def read(self) -> list[Job]:
        """Active jobs first, then those that wait, by position, then what is over, newest first."""
        with self._log.read():
            # A rebuild may find other words, of the same sums.
            stamp = [self._log.version()[0], *(self._log.rows(sql) for sql in _STAMPS)]
            before, over = self._over
            if before != stamp:
                over = self._made(f"state IN {_OVER}", {**over, **self._others})
            others = self._made(f"state NOT IN {_OVER}", {**over, **self._others} if before != stamp else self._others)
        self._over, self._others = (stamp, over), others
        return [job for made in (others, over) for _, job in made.values()]

    def _made(self, which: str, known: _Made) -> _Made:
        """Those jobs; the same objects where their rows are the same."""
        attempts: dict[int, list[tuple[Any, ...]]] = {}
        whose = f"job IN (SELECT id FROM jobs WHERE {which})"
        for row in self._log.rows(f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE {whose} ORDER BY job, number"):
            attempts.setdefault(row[0], []).append(row)
        made = {}
        for row in self._log.rows(f"SELECT {JOB_COLUMNS} FROM jobs WHERE {which} ORDER BY {_ORDER}"):
            own = attempts.get(row[0], [])
            each = known.get(row[0])
            if each is None or each[0] != (row, own):
                each = (row, own), job_of(row, [Attempt(*values[1:]) for values in own])
            made[row[0]] = each
        return made


def job_of(row: tuple[Any, ...], attempts: list[Attempt]) -> Job:
    """A job by its row of `JOB_COLUMNS`."""
    values: list[Any] = [*row, tuple(attempts)]
    values[_STATE], values[_CONFIG] = JobState(row[_STATE]), json.loads(row[_CONFIG])
    values[_AFTER] = tuple(json.loads(row[_AFTER]))
    return Job(*values)
