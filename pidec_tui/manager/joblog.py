"""The SQLite job log: connections, transactions, migrations, and the queries on jobs and attempts.

The only importer of apsw, which brings its own SQLite. Queries on curves and events are in `metriclog`, those
for all jobs at once in `jobrows`.
"""

from __future__ import annotations

import json
import math
import os
import struct
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from pidec_train.protocol.errors import EXIT_BAD_INPUT, PidecError

from .jobrows import ATTEMPT_COLUMNS, JOB_COLUMNS, JobRows, job_of
from .jobs import Attempt, Job, JobState, check_move
from .schema import MIGRATIONS, VERSION

OLDEST_SQLITE = (3, 51, 3)  # before it, two processes that write and checkpoint can corrupt a WAL database
BUSY_MS = 5000
_MAY_NOT = "Check the folder's permissions"
MOST = 1e150  # of a metric's value; sums of squares of larger ones are no numbers any more


class JobLogError(PidecError):
    """The job log cannot be read or written."""

    exit_code = 1


class JobLogBusy(JobLogError):
    """Somebody else holds the job log's write lock. Try again."""


class JobLogDamaged(JobLogError):
    """The file is no database any more. `pidec-jobs repair` rebuilds it from the run folders."""


class JobLogNewer(JobLogError):
    """A newer pidec wrote it: bad input, not a failure. It is left as it is."""

    exit_code = EXIT_BAD_INPUT


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """SQLite's errors as one line that says what to do."""
    try:
        yield
    except (apsw.BusyError, apsw.LockedError):
        raise JobLogBusy(f"the job log {path} is locked by another process", "Try again in a moment") from None
    except (apsw.CorruptError, apsw.NotADBError, apsw.FormatError) as error:
        raise JobLogDamaged(f"the job log {path} is damaged ({error})", "pidec-jobs repair rebuilds it") from None
    except apsw.FullError:
        raise JobLogError(f"the job log {path} cannot grow: the disk is full", "Free some space") from None
    except (apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError) as error:
        raise JobLogError(f"the job log {path} cannot be used ({error})", _MAY_NOT) from None


class JobLog:
    """One job log. Each thread that asks gets its own connection.

    Args:
        path: the database; created with mode 0600 if it is not there.
        make: called where the file is missing, at the start or later on, to put it there (a rebuild); without it an
            empty one is created.

    Raises:
        JobLogError: the file cannot be used, is damaged, or was written by a newer pidec.
    """

    def __init__(self, path: Path, *, make: Callable[[], None] | None = None, busy_ms: int = BUSY_MS) -> None:
        version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
        if version < OLDEST_SQLITE:
            raise JobLogError(
                f"SQLite {apsw.sqlite_lib_version()} can corrupt a job log that two processes write; "
                f"{'.'.join(map(str, OLDEST_SQLITE))} or newer is needed",
                'pip install --upgrade "apsw>=3.51.3"',
            )
        self.path = path
        self._busy_ms = busy_ms
        self._make = make
        self._local = threading.local()
        self._all: weakref.WeakSet[apsw.Connection] = weakref.WeakSet()
        self._version_lock = threading.Lock()
        self._version_connection: apsw.Connection | None = None
        self._version_inode = 0
        self._queue = JobRows(self)
        self._replaced = 0  # how often a repair has exchanged all rows under us, or the file
        self._asked = (0, 0)  # data version, and rebuilds by then
        self.connection()

    # --- connections and transactions ----------------------------------------------------------------------------

    def connection(self) -> apsw.Connection:
        """This thread's connection; a new one after a repair has put another file in its place."""
        try:
            inode = os.stat(self.path).st_ino
        except FileNotFoundError:
            inode = 0
        held: tuple[apsw.Connection, int] | None = getattr(self._local, "held", None)
        if held is not None and held[1] == inode and inode:
            return held[0]
        connection = self._open()
        self._local.held = (connection, os.stat(self.path).st_ino)
        return connection

    def _open(self) -> apsw.Connection:
        if self._make is not None and is_missing(self.path):
            self._make()
        with _plain_errors(self.path):
            try:
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            except OSError as error:
                folder = isinstance(error, IsADirectoryError)
                hint = "Move that folder away: the run folders tell what was in the job log" if folder else _MAY_NOT
                raise JobLogError(f"the job log {self.path} cannot be opened: {error.strerror}", hint) from None
            connection = apsw.Connection(str(self.path))
            connection.set_busy_timeout(self._busy_ms)
            _migrate(connection, self.path)
            connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384")
        self._all.add(connection)
        return connection

    def close(self) -> None:
        """Close every thread's connection."""
        for connection in list(self._all):
            connection.close()
        self._local = threading.local()
        self._version_connection = None

    @contextmanager
    def write(self) -> Iterator[None]:
        """A transaction that holds the write lock from its first moment: all of it happens, or nothing."""
        with self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def read(self) -> Iterator[None]:
        """Several queries that see one state of the job log."""
        with self._transaction("BEGIN"):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        connection = self.connection()
        with _plain_errors(self.path):
            connection.execute(begin)
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def rows(self, sql: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement gives, all of them."""
        with _plain_errors(self.path):
            return self.connection().execute(sql, tuple(values)).fetchall()

    def many(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """One statement for each of `rows`."""
        with _plain_errors(self.path):
            self.connection().executemany(sql, rows)

    def version(self) -> tuple[int, int]:
        """Changes whenever anything in the log has changed, the first number when a repair has; costs microseconds.

        `PRAGMA data_version` counts other connections' commits, so a connection that never writes asks it.
        """
        with self._version_lock, _plain_errors(self.path):
            try:
                inode = os.stat(self.path).st_ino
            except FileNotFoundError:
                inode = 0
            if self._version_connection is None or inode != self._version_inode:
                self._version_connection = self._open()
                self._version_inode = os.stat(self.path).st_ino
                self._replaced += 1
                self._asked = (0, _pragma(self._version_connection, "application_id"))
            version, rebuilds = _pragma(self._version_connection, "data_version"), self._asked[1]
            if version != self._asked[0]:
                rebuilds = _pragma(self._version_connection, "application_id")
            self._replaced += rebuilds != self._asked[1]
            self._asked = (version, rebuilds)
            return self._replaced, version

    # --- jobs ------------------------------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """All jobs in the queue's order, with their attempts.

        One whose rows are what they were is the same object as last time.
        """
        return self._queue.read()

    def find(self, job_id: int) -> Job | None:
        """One job, None if there is none of that id."""
        try:
            rows = self.rows(f"SELECT {JOB_COLUMNS} FROM jobs WHERE id = ?", (job_id,))
        except OverflowError:  # an id that no 64-bit integer holds
            return None
        return job_of(rows[0], self.attempts(job_id)) if rows else None

    def attempts(self, job_id: int) -> list[Attempt]:
        rows = self.rows(f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE job = ? ORDER BY number", (job_id,))
        return [Attempt(*row[1:]) for row in rows]

    def ids(self) -> list[int]:
        return [row[0] for row in self.rows("SELECT id FROM jobs ORDER BY id")]

    def states(self, job_ids: Iterable[int]) -> dict[int, JobState]:
        """The states of those jobs that exist."""
        rows = self.rows("SELECT id, state FROM jobs WHERE id IN (SELECT value FROM json_each(?))", (_json(job_ids),))
        return {row[0]: JobState(row[1]) for row in rows}

    def in_state(self, *states: JobState) -> list[Job]:
        """The jobs in any of these states, by position."""
        rows = self.rows(
            f"SELECT {JOB_COLUMNS} FROM jobs WHERE state IN (SELECT value FROM json_each(?)) ORDER BY position, id",
            (_json([state.value for state in states]),),
        )
        return [job_of(row, self.attempts(row[0])) for row in rows]

    def columns(self, job_id: int, *names: str) -> tuple[Any, ...]:
        """Columns of a job that are not part of `Job` (cwd, environment, retry, fresh, cancel_asked, ...)."""
        return self.rows(f"SELECT {', '.join(names)} FROM jobs WHERE id = ?", (job_id,))[0]

    def next_id(self) -> int:
        """An id that was never given before."""
        last = self.rows("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")
        return int(last[0][0]) + 1 if last else 1

    def insert_job(self, job_id: int, **columns: Any) -> None:
        names = ["id", *columns]
        marks = ", ".join("?" * len(names))
        self.rows(f"INSERT INTO jobs ({', '.join(names)}) VALUES ({marks})", (job_id, *columns.values()))

    def update_job(self, job_id: int, **columns: Any) -> None:
        """Change columns of a job other than its state (see `move`)."""
        self._update("jobs", "id = ?", (job_id,), columns)

    def move(self, job_id: int, new: JobState, *, extends: bool = False, **columns: Any) -> None:
        """Change a job's state, and columns that go with it; `extends`: its config has a later end now.

        Raises:
            IllegalMove: it cannot go there from the state that it is in now.
        """
        old = JobState(self.columns(job_id, "state")[0])
        check_move(job_id, old, new, extends=extends)
        self.update_job(job_id, state=new.value, **columns)

    def positions(self) -> list[tuple[int, float]]:
        """(id, position) of the jobs that wait, first one first."""
        sql = "SELECT id, position FROM jobs WHERE state IN ('queued', 'held') ORDER BY position, id"
        return [(row[0], row[1]) for row in self.rows(sql)]

    def last_position(self) -> float:
        return float(self.rows("SELECT coalesce(max(position), 0) FROM jobs")[0][0])

    # --- attempts --------------------------------------------------------------------------------------------------

    def insert_attempt(self, job_id: int, number: int, **columns: Any) -> None:
        names = ["job", "number", *columns]
        marks = ", ".join("?" * len(names))
        values = (job_id, number, *columns.values())
        self.rows(f"INSERT INTO attempts ({', '.join(names)}) VALUES ({marks})", values)

    def update_attempt(self, job_id: int, number: int, **columns: Any) -> None:
        self._update("attempts", "job = ? AND number = ?", (job_id, number), columns)

    def delete_attempt(self, job_id: int, number: int) -> None:
        self.rows("DELETE FROM attempts WHERE job = ? AND number = ?", (job_id, number))

    def attempt_columns(self, job_id: int, number: int, *names: str) -> tuple[Any, ...]:
        sql = f"SELECT {', '.join(names)} FROM attempts WHERE job = ? AND number = ?"
        return self.rows(sql, (job_id, number))[0]

    def _update(self, table: str, where: str, key: tuple[Any, ...], columns: dict[str, Any]) -> None:
        assignments = ", ".join(f"{name} = ?" for name in columns)
        self.rows(f"UPDATE {table} SET {assignments} WHERE {where}", (*columns.values(), *key))

    # --- for a rebuild ---------------------------------------------------------------------------------------------

    def set_state(self, job_id: int, state: JobState) -> None:
        """Set a state as it was found, without asking where the job comes from."""
        self.update_job(job_id, state=state.value)

    def update_all_jobs(self, **columns: Any) -> None:
        self._update("jobs", "?", (1,), columns)

    def clear(self) -> None:
        """Forget every row, and count that in the file's header. Ids stay used up."""
        for table in ("events", "latest", "metric_rows", "metric_sets", "names", "attempts", "jobs"):
            self.rows(f"DELETE FROM {table}")
        rebuilds = _pragma(self.connection(), "application_id") + 1
        self.rows(f"PRAGMA application_id = {rebuilds}")

    def use_up_ids(self, highest: int) -> None:
        """Make sure that no new job gets an id up to `highest`."""
        last = self.rows("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")
        if not last:
            self.rows("INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', ?)", (highest,))
        elif last[0][0] < highest:
            self.rows("UPDATE sqlite_sequence SET seq = ? WHERE name = 'jobs'", (highest,))

    def check(self) -> None:
        """Read the whole file. Raises JobLogDamaged if it does not hold together."""
        result = self.rows("PRAGMA quick_check(1)")
        if result != [("ok",)]:
            raise JobLogDamaged(f"the job log {self.path} is damaged ({result[0][0]})", "pidec-jobs repair rebuilds it")


def is_missing(path: Path) -> bool:
    """Whether there is no job log: no file, or one that a crash of the machine has left without a single byte."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True


def _migrate(connection: apsw.Connection, path: Path) -> None:
    """Bring the tables up to date, forward only."""
    found = _pragma(connection, "user_version")
    if found == VERSION:
        return
    if found > VERSION:
        raise JobLogNewer(
            f"the job log {path} has version {found}, this pidec knows versions up to {VERSION}",
            "Update pidec, or choose another workspace with --workspace DIR",
        )
    connection.create_aggregate_function("packed", _Packed, 1)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in range(
            _pragma(connection, "user_version"), VERSION
        ):  # asked again: another process may have been first
            connection.execute(MIGRATIONS[step])
            connection.execute(f"PRAGMA user_version = {step + 1}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class _Packed:
    """SQL's `packed(value)`: numbers as little-endian doubles, one after the other; NULL as NaN."""

    def __init__(self) -> None:
        self._values: list[float | None] = []

    def step(self, *values: Any) -> None:
        self._values += values

    def final(self) -> bytes:
        return packed(self._values)


def packed(values: Collection[float | None]) -> bytes:
    """The values of one line of metrics, as `metric_rows` holds them: NaN for none and what is as good as infinite."""
    tidy = [value if value is not None and abs(value) <= MOST else math.nan for value in values]
    return struct.pack(f"<{len(tidy)}d", *tidy)


def _pragma(connection: apsw.Connection, name: str) -> int:
    return int(str(connection.execute(f"PRAGMA {name}").fetchall()[0][0]))


def _json(values: Iterable[Any]) -> str:
    return json.dumps(list(values))
