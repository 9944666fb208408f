"""The runner with real processes: it claims, launches, reads, finishes, and may die at any moment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import apsw
import psutil
import pytest

from pidec_train.protocol.errors import PidecError
from pidec_tui.manager.jobs import JobState
from pidec_tui.manager.manager import Manager
from tests.manager.conftest import end_everything
from tests.manager.jobs_support import (
    QUICK,
    alive,
    argv_of,
    command,
    fake_trainer,
    kill_runner,
    started,
    until,
    wait_for,
)

Running = JobState.running


# --- the ordinary way ------------------------------------------------------------------------------------------------


def test_a_job_runs_and_its_curve_and_ending_are_there(manager: Manager, tmp_path: Path) -> None:
    job = manager.add(
        "diffusion", {"total_iters": 4}, environ=fake_trainer(tmp_path, steps=4), cwd=tmp_path, lane="cpu"
    )
    manager.ensure_runner()
    done = wait_for(manager, job.id)
    assert (done.state, done.reason, done.step, done.total_steps) == (JobState.succeeded, "", 4, 4)
    assert [(p.step, p.value) for p in manager.metrics(job.id)] == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]
    (attempt,) = done.attempts
    assert (attempt.state, attempt.exit_code, attempt.gpu) == ("succeeded", 0, None)
    assert attempt.started <= (attempt.ended or 0)
    words = argv_of(manager, job.id, 1)
    run_dir, checkpoints = manager.workspace.run(1).attempt(1).path, manager.checkpoint_dir(1)
    assert words[0] == "diffusion" and "--resume" not in words
    assert words[-4:] == ["--run-dir", str(run_dir), "--checkpoint-dir", str(checkpoints)]
    log = manager.log_path(job.id)
    assert log is not None and log.read_text().endswith("bye\n")
    assert "cuda \n" in log.read_text(), "the cpu lane hides the GPUs from a trainer"


def test_a_command_runs_where_and_as_it_was_added(manager: Manager, tmp_path: Path) -> None:
    """Lost without it: `scripts/run_*.sh` that works in the shell and not in the queue."""
    environ = {"PATH": os.environ["PATH"], "EDITOR": "vi", "MY_API_KEY": "no"}
    job = command(
        manager, 'pwd; echo "$EDITOR,$MY_API_KEY,$PIDEC_WORKSPACE,$PIDEC_RUN_DIR"; umask', cwd=tmp_path, environ=environ
    )
    manager.ensure_runner()
    assert wait_for(manager, job.id).state is JobState.succeeded
    log = manager.log_path(job.id)
    assert log is not None
    where, values, umask = log.read_text().splitlines()
    assert where == str(tmp_path) and umask.endswith("077")
    assert values == f"vi,,{manager.workspace.root},{log.parent}"


def test_a_command_that_writes_metrics_has_curves(manager: Manager) -> None:
    line = """printf '{"seq": 0, "step": 1, "metrics": {"mine": 2}}\\n' >> $PIDEC_RUN_DIR/metrics.jsonl"""
    job = command(manager, line)
    manager.ensure_runner()
    wait_for(manager, job.id)
    assert [(point.name, point.value) for point in manager.metrics(job.id)] == [("mine", 2.0)]


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ({"exit": 2, "last_words": "lr_is_wrong"}, "exit code 2: lr_is_wrong"),
        ({"exit": 1, "end": "failed", "reason": "loss_is_nan"}, "exit code 1: loss_is_nan"),
        ({"exit": 1, "last_words": "torch.OutOfMemoryError:_CUDA"}, "CUDA out of memory (exit code 1)"),
    ],
)
def test_a_failure_says_why(manager: Manager, tmp_path: Path, does: dict[str, object], reason: str) -> None:
    """Lost without it: `failed`, and a log of ten thousand lines."""
    job = manager.add("diffusion", {}, environ=fake_trainer(tmp_path, steps=1, **does), cwd=tmp_path, lane="cpu")
    manager.ensure_runner()
    done = wait_for(manager, job.id)
    assert done.state is JobState.failed and done.reason.startswith(reason), done.reason
    assert done.attempts[0].exit_code == does["exit"]


def test_jobs_run_in_order_and_behind_those_they_come_after(manager: Manager, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in "abc":
        command(manager, f"echo {name} >> {out}")
    last = command(manager, f"echo last >> {out}", after=[2])
    manager.move(last.id, 1)
    manager.move(3, 2)
    manager.ensure_runner()
    wait_for(manager, last.id)
    assert out.read_text().split() == ["c", "a", "b", "last"]


def test_those_behind_a_failed_job_are_held(manager: Manager) -> None:
    first = command(manager, "exit 4")
    second = command(manager, "true", after=[first.id])
    manager.ensure_runner()
    held = wait_for(manager, second.id, JobState.held)
    assert held.reason == "job 1, which it comes after, failed"
    assert manager.job(first.id).state is JobState.failed


def test_the_lanes_do_not_wait_for_each_other(manager: Manager) -> None:
    command(manager, "sleep 30", lane="gpu")
    command(manager, "sleep 30", lane="gpu")
    command(manager, "true")
    manager.ensure_runner()
    wait_for(manager, 3)
    assert manager.job(1).state is Running and manager.job(1).attempts[0].gpu
    until(lambda: manager.job(2).waiting_for.endswith("job 1 runs there"), what="a sentence")


def test_two_workspaces_do_not_share_the_gpu_slot(manager: Manager, tmp_path: Path) -> None:
    """Lost without a machine-wide slot: two people's trainings on one card."""
    (tmp_path / "other" / "jobs").mkdir(parents=True)
    (tmp_path / "other" / "jobs" / "settings.toml").write_text(QUICK)
    other = Manager.open(tmp_path / "other")
    try:
        command(manager, "sleep 30", lane="gpu")
        manager.ensure_runner()
        wait_for(manager, 1, Running)
        command(other, "true", lane="gpu")
        other.ensure_runner()
        until(lambda: f"job 1 of {manager.workspace.root}" in other.job(1).waiting_for, what="a sentence")
        kill_runner(manager)  # the slot belongs to the attempt, not to the runner
        time.sleep(0.3)
        assert other.job(1).state is JobState.queued
        manager.cancel(1)
        manager.ensure_runner()
        assert wait_for(other, 1).state is JobState.succeeded
    finally:
        end_everything(other)


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_cancel_lets_the_trainer_save_its_state(manager: Manager) -> None:
    job = command(manager, 'trap "echo saved; exit 130" TERM; echo up; while :; do sleep 0.05; done')
    manager.ensure_runner()
    wait_for(manager, job.id, Running)
    until(lambda: "up" in (manager.log_path(job.id) or Path("/dev/null")).read_text())
    assert manager.cancel(job.id).state is JobState.stopping
    done = wait_for(manager, job.id)
    assert done.state is JobState.cancelled and done.attempts[0].exit_code == 130
    assert "saved" in manager.log_path(job.id).read_text()  # type: ignore[union-attr]


def test_a_trainer_that_does_not_listen_is_killed_after_the_grace(manager: Manager) -> None:
    job = command(manager, "trap '' TERM; while :; do sleep 0.05; done")
    manager.ensure_runner()
    wait_for(manager, job.id, Running)
    begin = time.monotonic()
    manager.cancel(job.id)
    done = wait_for(manager, job.id)
    assert done.state is JobState.cancelled and done.attempts[0].signal == 9
    assert time.monotonic() - begin >= 0.6


def test_a_job_that_ends_well_while_being_cancelled_has_succeeded(manager: Manager) -> None:
    job = command(manager, 'trap "exit 0" TERM; while :; do sleep 0.05; done')
    manager.ensure_runner()
    started(manager, job.id)
    time.sleep(0.2)
    manager.cancel(job.id)
    assert wait_for(manager, job.id).state is JobState.succeeded


def test_a_cancel_asked_while_no_runner_is_up_is_not_forgotten(manager: Manager) -> None:
    job = command(manager, "sleep 60")
    manager.ensure_runner()
    pid = started(manager, job.id)["pid"]
    wait_for(manager, job.id, Running)
    manager.stop_runner()
    assert alive(pid)
    manager.cancel(job.id)
    manager.ensure_runner()
    assert wait_for(manager, job.id).state is JobState.cancelled
    assert not alive(pid)


# --- what is left ----------------------------------------------------------------------------------------------------


def test_processes_that_an_attempt_leaves_are_ended_before_the_next_starts(manager: Manager, tmp_path: Path) -> None:
    """Lost without it: a forgotten data loader that holds 20 GiB of the GPU."""
    job = manager.add("diffusion", {}, environ=fake_trainer(tmp_path, child=1), cwd=tmp_path, lane="gpu")
    manager.ensure_runner()
    wait_for(manager, job.id)
    text = manager.log_path(job.id).read_text()  # type: ignore[union-attr]
    child = int(next(line for line in text.splitlines() if line.startswith("child")).split()[1])
    assert not alive(child)


# --- runners come and go ---------------------------------------------------------------------------------------------


def test_a_killed_runner_loses_nothing_and_the_next_adopts(manager: Manager, tmp_path: Path) -> None:
    """Lost without it: the night's training, with the runner."""
    environ = fake_trainer(tmp_path, steps=30, pause=0.05)
    job = manager.add("diffusion", {}, environ=environ, cwd=tmp_path, lane="cpu")
    manager.ensure_runner()
    pid = started(manager, job.id)["pid"]
    until(lambda: manager.metrics(job.id), what="a first point")
    kill_runner(manager)
    assert alive(pid)
    seen = len(manager.metrics(job.id))
    time.sleep(0.3)
    assert len(manager.metrics(job.id)) == seen
    manager.ensure_runner()
    done = wait_for(manager, job.id)
    assert done.state is JobState.succeeded and len(done.attempts) == 1
    assert [point.step for point in manager.metrics(job.id)] == list(range(1, 31))


def test_a_job_that_ends_while_no_runner_is_up_is_finished_later(manager: Manager) -> None:
    job = command(manager, "sleep 0.5; exit 0")
    manager.ensure_runner()
    started(manager, job.id)
    kill_runner(manager)
    until((manager.workspace.run(job.id).attempt(1).exit).exists)
    manager.ensure_runner()
    done = wait_for(manager, job.id)
    assert done.state is JobState.succeeded and len(done.attempts) == 1


def _serves(process: psutil.Process, manager: Manager) -> bool:
    try:
        return str(manager.workspace.root) in process.cmdline()
    except psutil.Error:
        return False


def test_there_is_one_runner_at_a_time(manager: Manager) -> None:
    """Lost without runner.lock: every job twice."""
    doors = [
        subprocess.Popen(
            [sys.executable, "-m", "pidec_tui.manager.runner", "--workspace", str(manager.workspace.root)],
            stderr=subprocess.DEVNULL,
        )
        for _ in range(3)
    ]
    pid = manager.ensure_runner()
    others = [door for door in doors if door.pid != pid]
    assert [door.wait(15) for door in others] == [0] * len(others)
    assert manager.ensure_runner() == pid
    # One that `ensure_runner` started, too late to be the one, would take over when that is stopped.
    known = {pid, *(door.pid for door in doors)}
    late = [child for child in psutil.Process().children() if child.pid not in known and _serves(child, manager)]
    assert not psutil.wait_procs(late, timeout=15)[1]
    assert manager.stop_runner() and not manager.stop_runner()
    for door in doors:
        door.wait(10)


def test_a_runner_ends_on_sigterm_whatever_it_is_doing(manager: Manager) -> None:
    """Lost without a handler that takes no lock: a runner that hangs for ever, and a queue that stands still."""
    (manager.workspace.jobs / "settings.toml").write_text("poll_s = 0.05\n")
    pid = manager.ensure_runner()
    for _ in range(200):  # most of them while the handler of the one before runs
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    until(lambda: manager.runner_pid() is None, limit_s=5, what="the end of the runner")


def test_an_idle_runner_ends_by_itself(manager: Manager) -> None:
    (manager.workspace.jobs / "settings.toml").write_text(QUICK + "idle_minutes = 0.005\n")
    manager.ensure_runner()
    until(lambda: manager.runner_pid() is None, limit_s=10, what="the end of an idle runner")


def test_a_runner_with_a_wrong_setting_says_so(manager: Manager) -> None:
    (manager.workspace.jobs / "settings.toml").write_text("cpu_slot = 1\n")
    with pytest.raises(PidecError, match=r'did not come up.*"cpu_slot"'):
        manager.ensure_runner()


def test_a_locked_job_log_stops_neither_runner_nor_trainer(manager: Manager, tmp_path: Path) -> None:
    """Lost without it: somebody opens the database in a browser, and the queue is dead."""
    job = manager.add("diffusion", {}, environ=fake_trainer(tmp_path, steps=10, pause=0.05), cwd=tmp_path, lane="cpu")
    pid = manager.ensure_runner()
    started(manager, job.id)
    other = apsw.Connection(str(manager.places.db))
    other.set_busy_timeout(20_000)  # the runner may be writing just now
    other.execute("BEGIN IMMEDIATE")
    until((manager.workspace.run(job.id).attempt(1).exit).exists)
    time.sleep(5.5)  # longer than SQLite's own patience
    other.execute("ROLLBACK")
    done = wait_for(manager, job.id)
    assert done.state is JobState.succeeded and manager.runner_pid() == pid
    assert len(manager.metrics(job.id)) == 10
