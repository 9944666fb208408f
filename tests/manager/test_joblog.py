"""The SQLite job log: durable, private, shared by processes, quick when it is big."""

from __future__ import annotations

import functools
import os
import random
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from pidec_tui.manager import joblog
from pidec_tui.manager.joblog import JobLog, JobLogBusy, JobLogDamaged, JobLogError
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.metriclog import MetricLog
from pidec_tui.manager.schema import MIGRATIONS, VERSION


@pytest.fixture
def log(tmp_path: Path) -> JobLog:
    return JobLog(tmp_path / "jobs.db", busy_ms=200)


def test_it_survives_a_power_cut(log: JobLog) -> None:
    """Lost without WAL and FULL: the last committed transaction, or the whole file."""
    assert log.rows("PRAGMA journal_mode") == [("wal",)]
    assert log.rows("PRAGMA synchronous") == [(2,)]
    assert log.rows("PRAGMA user_version") == [(VERSION,)]


def test_files_are_private(manager: Manager) -> None:
    """Lost without it: other users of the box read commands and environments."""
    manager.add("command", {"command": "true"})
    for path in [manager.state_dir / name for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm")]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for folder in (manager.workspace.runs, manager.workspace.run(1).path):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert stat.S_IMODE(manager.workspace.run(1).spec.stat().st_mode) == 0o600


def test_a_newer_job_log_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Lost without it: an old pidec writes rows that a newer one cannot read."""
    path = tmp_path / "jobs.db"
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA user_version = 99; CREATE TABLE future (a)")
    connection.close()
    with pytest.raises(JobLogError, match=r"has version 99, this pidec knows versions up to \d+.*Update pidec"):
        JobLog(path)
    assert apsw.Connection(str(path)).execute("SELECT name FROM sqlite_schema").fetchall() == [("future",)]


def test_curves_of_an_older_job_log_are_carried_over(tmp_path: Path) -> None:
    """Lost without it: every curve from before an update, or the NaN that tells where a run diverged."""
    path = tmp_path / "jobs.db"
    connection = apsw.Connection(str(path))
    connection.execute(f"{MIGRATIONS[0]}; PRAGMA user_version = 1")
    connection.execute("INSERT INTO names (name) VALUES ('b'), ('a')")
    rows = [
        (7, 1, 0, 1, 10, 1.5, 2.0),
        (7, 1, 0, 2, 10, 1.5, None),
        (8, 1, 0, 2, 5, 9.0, 4.0),
        (7, 1, 1, 2, 20, 2.5, 3.0),
    ]
    connection.executemany(
        "INSERT INTO metrics (job, attempt, seq, name, step, time, value) VALUES (?, ?, ?, ?, ?, ?, ?)", rows
    )
    connection.close()
    metrics = MetricLog(JobLog(path))
    points = metrics.points(7, key=None, after_row=0, limit=None)
    assert [(p.seq, p.step, p.time, p.name, p.value) for p in points if p.name == "b"] == [(0, 10, 1.5, "b", 2.0)]
    assert [(p.step, p.value) for p in points if p.name == "a"] == [(10, None), (20, 3.0)]
    assert [p.value for p in metrics.points(8, key=None, after_row=0, limit=None)] == [4.0] and metrics.count() == 4


def test_an_sqlite_with_the_wal_reset_bug_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost without it: a corrupted job log, weeks later."""
    monkeypatch.setattr(joblog.apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(JobLogError, match=r"SQLite 3\.51\.2 .* 3\.51\.3 or newer"):
        JobLog(tmp_path / "jobs.db")
    assert not (tmp_path / "jobs.db").exists()


def test_a_file_that_is_no_database_says_how_to_repair_it(tmp_path: Path) -> None:
    """Lost without it: a traceback, and no idea that nothing is lost."""
    (tmp_path / "jobs.db").write_bytes(b"this is no database at all, " * 100)
    with pytest.raises(JobLogDamaged, match="pidec-jobs repair"):
        JobLog(tmp_path / "jobs.db")


def test_a_locked_job_log_says_so_and_changes_nothing(log: JobLog) -> None:
    """Lost without it: a write that half happens, or a hang."""
    other = apsw.Connection(str(log.path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JobLogBusy, match="locked by another process"), log.write():
        pass
    other.execute("ROLLBACK")
    with log.write():
        log.use_up_ids(3)
    assert log.next_id() == 4


def test_an_exception_undoes_the_whole_transaction(log: JobLog) -> None:
    with pytest.raises(ZeroDivisionError), log.write():
        log.use_up_ids(7)
        raise ZeroDivisionError
    assert log.next_id() == 1


def test_two_processes_add_jobs_at_the_same_time(workspace: Path, manager: Manager) -> None:
    """Lost without immediate transactions: a job that a second terminal queued, or two jobs of one id."""
    code = (
        "import sys; from pidec_tui.manager.manager import Manager\n"
        "m = Manager.open(sys.argv[1])\n"
        "for n in range(25): m.add('command', {'command': f'echo {sys.argv[2]} {n}'})"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(workspace), name]) for name in ("a", "b")]
    assert [process.wait(60) for process in both] == [0, 0]
    jobs = manager.jobs()
    assert sorted(job.id for job in jobs) == list(range(1, 51))
    assert {job.config["command"] for job in jobs} == {f"echo {name} {n}" for name in "ab" for n in range(25)}
    assert len({job.position for job in jobs}) == 50


def test_threads_of_the_dashboard_share_one_manager(manager: Manager) -> None:
    """Lost without a connection per thread: `bad parameter or other API misuse` in the middle of an evening."""
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(10):
                manager.add("command", {"command": f"echo {number}"})
                manager.jobs()
                manager.version()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(manager.jobs()) == 40


def test_ids_are_never_given_again(manager: Manager) -> None:
    """Lost without it: job 2's old checkpoints resumed by another job 2."""
    manager.add("command", {"command": "true"})
    manager.add("command", {"command": "true"})
    log = JobLog(manager.places.db)
    with log.write():
        log.rows("DELETE FROM jobs WHERE id = 2")
    assert manager.add("command", {"command": "true"}).id == 3
    os.mkdir(manager.workspace.runs / "000009")  # a folder whose row was lost
    assert manager.add("command", {"command": "true"}).id == 10


def test_version_changes_with_every_change_and_only_then(manager: Manager) -> None:
    """Lost without it: a dashboard that shows yesterday, or one that reads the log all the time."""
    first = manager.version()
    assert manager.version() == first
    manager.add("command", {"command": "true"})  # our own connection
    second = manager.version()
    assert second != first
    other = Manager.open(manager.workspace.root)
    other.hold(1)
    assert manager.version() != second
    other.close()


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> JobLog:
    """1,000 finished jobs, 300,000 metric values in ten curves of three of them."""
    log = JobLog(tmp_path_factory.mktemp("big") / "jobs.db")
    metrics = MetricLog(log)
    rng = random.Random(0)
    with log.write():
        for number in range(1, 1001):
            log.insert_job(
                number,
                kind="command",
                name=f"job {number}",
                state="succeeded",
                lane="cpu",
                config='{"command": "x"}',
                position=float(number),
                created=float(number),
                started=float(number),
                ended=float(number),
            )
            log.insert_attempt(number, 1, state="succeeded", token=str(number), started=float(number))
        for job in (1, 500, 1000):
            lines = [(seq, seq, seq, {f"m{k}": rng.random() for k in range(10)}) for seq in range(10_000)]
            metrics.add_rows(job, 1, lines)
    return log


def test_a_big_log_is_read_through_indexes(big: JobLog) -> None:
    """Lost without them: a dashboard that stutters after a month."""
    seen: list[str] = []

    def trace(statement: apsw.Cursor, sql: str, bindings: object) -> bool:
        if sql.startswith("SELECT"):
            cursor = big.connection().cursor()
            cursor.exec_trace = None
            plan = cursor.execute(f"EXPLAIN QUERY PLAN {sql}", bindings)  # type: ignore[arg-type]
            seen.extend(str(row[3]) for row in plan)
        return True

    metrics = MetricLog(big)
    big.connection().exec_trace = trace  # type: ignore[assignment]
    try:
        metrics.latest(500)
        metrics.names(500)
        metrics.points(500, key="m1", after_row=0, limit=None)
        metrics.points(500, key=None, after_row=25_000, limit=None)
        metrics.events(500, 0)
        big.find(500)
    finally:
        big.connection().exec_trace = None
    assert len(seen) > 6
    scans = [
        step for step in seen if step.startswith("SCAN") and any(t in step for t in ("metric_rows", "events", "jobs"))
    ]
    assert not scans, scans
    assert any("metric_rows_by_job (job=? AND rowid>?)" in step for step in seen), "a poll reads the tail only"


def steps(log: JobLog, work: Callable[[], object]) -> int:
    """Steps of SQLite's machine that some work takes, in hundreds: the same on every machine, however busy."""
    told = []
    log.connection().set_progress_handler(lambda: bool(told.append(None)), 100)  # False: go on
    try:
        work()
    finally:
        log.connection().set_progress_handler(None)
    return len(told)


def test_a_big_log_is_looked_through_no_further_than_needed(big: JobLog) -> None:
    """Lost: an answer in milliseconds, twice a second, in a workspace of 1,000 jobs with a long run among them."""
    metrics = MetricLog(big)
    assert len(big.jobs()) == 1000 and steps(big, big.jobs) < 1000
    assert metrics.latest(500)["m3"] is not None and steps(big, lambda: metrics.latest(500)) <= 2
    curve = functools.partial(metrics.points, 500, key="m3", after_row=0, limit=None)
    assert len(curve()) == 10_000 and steps(big, curve) < 2000
    tail = functools.partial(metrics.points, 500, key=None, after_row=29_990, limit=None)
    assert tail() == [] and steps(big, tail) <= 3


def test_jobs_that_did_not_change_are_the_same_objects(tmp_path: Path) -> None:
    """Lost: a look at 1,000 jobs in 4 ms instead of 30, twice a second; or a change that is not shown."""
    manager = Manager.open(tmp_path)
    ids = [manager.add("command", {"command": "true"}, held=True, environ={}).id for _ in range(3)]
    before = {job.id: job for job in manager.jobs()}
    manager.edit(ids[1], {"command": "false"})
    after = {job.id: job for job in manager.jobs()}
    assert [after[number] is before[number] for number in ids] == [True, False, True]
    assert after[ids[1]].config["command"] == "false"
    manager.close()


def test_a_row_of_metrics_has_no_job_read_that_is_over(big: JobLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: a dashboard beside a live run for 3 % of a core, a sixth of which was reading a thousand old jobs anew."""
    live = {"kind": "command", "lane": "cpu", "config": "{}", "position": 1.0, "created": 1.0, "started": 1.0}
    with big.write():
        big.insert_job(2000, name="live", state="running", **live)
    before = big.jobs()
    got: list[tuple[object, ...]] = []
    rows = JobLog.rows

    def counting(self: JobLog, sql: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        found = rows(self, sql, values)
        got.extend(found)
        return found

    with big.write():
        big.update_job(2000, step=100)
    monkeypatch.setattr(JobLog, "rows", counting)
    after = big.jobs()
    assert after[0].step == 100 and len(after) == 1001 and len(got) <= 4
    assert all(one is other for one, other in zip(before[1:], after[1:], strict=True))
    with big.write():
        rows(big, "DELETE FROM jobs WHERE id = 2000")


def test_whatever_happens_to_jobs_is_seen(log: JobLog) -> None:
    """Lost: the truth in the queue: a job that was tried again would still stand there as failed."""
    dice, reader = random.Random(3), JobLog(log.path)
    states = ["held", "queued", "running", "succeeded", "failed", "cancelled"]
    for turn in range(1, 90):
        number = dice.randint(1, 12)
        with log.write():
            if log.find(number) is None:
                log.insert_job(
                    number, kind="command", name="x", state="held", lane="cpu", config="{}", position=turn, created=turn
                )
            elif dice.random() < 0.6:  # as the job manager does it: a job that is over has another end
                state = dice.choice(states)
                over = state in ("succeeded", "failed", "cancelled")
                log.update_job(number, state=state, started=float(turn), ended=float(turn) if over else None)
            elif dice.random() < 0.5:
                log.update_job(number, **{dice.choice(["step", "total_steps"]): turn})
            elif not log.attempts(number):
                log.insert_attempt(number, 1, state="running", token="t", started=float(turn))
            else:
                log.update_attempt(number, 1, state="failed", ended=float(turn), cause=f"exit code {turn}")
        jobs = reader.jobs()
        assert jobs == [log.find(job.id) for job in jobs] and sorted(job.id for job in jobs) == log.ids()
    assert jobs == JobLog(log.path).jobs(), "in the same order"
