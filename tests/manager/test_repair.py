"""The job log is rebuilt from the run folders alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pidec_tui.manager.joblog import JobLogDamaged
from pidec_tui.manager.jobs import Job, JobState
from pidec_tui.manager.manager import Manager, repair_workspace
from tests.manager.conftest import end_everything
from tests.manager.jobs_support import alive, command, fake_trainer, started, until, wait_for

# What a rebuild cannot know: when exactly the runner noticed.
NOT_COMPARED = ("ended", "started", "position", "waiting_for")


def story(job: Job) -> dict[str, Any]:
    told = {name: value for name, value in asdict(job).items() if name not in NOT_COMPARED}
    told["attempts"] = [{k: v for k, v in item.items() if k not in ("started", "ended")} for item in told["attempts"]]
    return told


@pytest.fixture
def lived_in(manager: Manager, tmp_path: Path) -> Manager:
    """A workspace in which much has happened: success, failure, retry, cancel, interruption, hold, a queue."""
    trainer = {"environ": fake_trainer(tmp_path, steps=5, checkpoint_at=3), "cwd": tmp_path, "lane": "cpu"}
    manager.add("diffusion", {}, name="good", **trainer)  # type: ignore[arg-type]
    command(manager, "echo no >&2; exit 3", name="bad")
    command(manager, "exit 130", name="interrupted")
    command(manager, "sleep 60", name="cancelled", lane="gpu")
    failing = fake_trainer(tmp_path / "x", steps=3, checkpoint_at=2, exit=1)
    manager.add("diffusion", {}, name="retried", environ=failing, cwd=tmp_path / "x", lane="cpu")
    manager.ensure_runner()
    wait_for(manager, 4, JobState.running)
    manager.cancel(4)
    for job_id in (1, 2, 4, 5):
        wait_for(manager, job_id)
    manager.retry(5)
    until(lambda: len(manager.job(5).attempts) == 2)
    wait_for(manager, 5)
    wait_for(manager, 3, JobState.held)
    manager.stop_runner()
    command(manager, "true", name="next")
    command(manager, "true", name="held", held=True)
    command(manager, "true", name="never")
    manager.cancel(8)
    manager.add("evaluate", {"ckpt": "@1/best"}, name="behind", after=[6])
    manager.retry(2)
    manager.move(9, 1)
    command(manager, "true", name="behind a cancelled one", after=[8])
    return manager


def test_a_lost_job_log_comes_back_by_itself_and_tells_the_same(lived_in: Manager) -> None:
    """Lost without it: months of runs, to one deleted file."""
    before = lived_in.jobs()
    curves = {job.id: [(p.step, p.name, p.value) for p in lived_in.metrics(job.id)] for job in before}
    events = [(event.event, event.step) for event in lived_in.events(1)]
    lived_in.close()
    for path in lived_in.state_dir.glob("jobs.db*"):
        path.unlink()
    again = Manager.open(lived_in.workspace.root)
    after = again.jobs()
    assert {job.id: story(job) for job in after} == {job.id: story(job) for job in before}
    waiting = [job.id for job in before if job.state.waiting]
    assert [job.id for job in after if job.state.waiting] == waiting, "the queue's order"
    assert {job.id: [(p.step, p.name, p.value) for p in again.metrics(job.id)] for job in after} == curves
    assert curves[1] and [(event.event, event.step) for event in again.events(1)] == events
    assert {job.id: job.waiting_for for job in after if job.after} == {9: "job 6", 10: ""}
    assert command(again, "true").id == 11, "ids go on"
    again.close()


def test_a_repair_of_a_sound_log_changes_nothing_and_other_doors_go_on(lived_in: Manager) -> None:
    before = {job.id: story(job) for job in lived_in.jobs()}
    other = Manager.open(lived_in.workspace.root)
    version = other.version()
    report = lived_in.repair()
    assert (report.jobs, report.unreadable, report.set_aside) == (10, (), "")
    spoken = sum(len(lived_in.metrics(job_id)) for job_id in before)
    assert report.points == spoken + 1, "both attempts of job 5 spoke of step 3"
    assert {job.id: story(job) for job in other.jobs()} == before
    assert other.version() != version
    other.close()


def test_an_open_door_sees_what_a_repair_has_found(manager: Manager) -> None:
    """Lost: a dashboard that shows the old name and config of a job that is over until it is closed."""
    command(manager, "true", name="abcd")
    manager.ensure_runner()
    wait_for(manager, 1)
    manager.repair()  # from now on a rebuild finds the same moments
    other = Manager.open(manager.workspace.root)
    assert other.jobs()[0].name == "abcd"
    spec = manager.workspace.run(1).spec
    spec.write_text(spec.read_text().replace("abcd", "dcba").replace('"true"', '"tree"'))
    manager.repair()
    (seen,) = other.jobs()
    assert (seen.name, seen.config) == ("dcba", {"command": "tree"})
    assert other.jobs()[0] is seen, "and reads it once"
    other.close()


def test_a_damaged_job_log_is_set_aside_never_deleted(lived_in: Manager) -> None:
    before = {job.id: story(job) for job in lived_in.jobs()}
    root, db = lived_in.workspace.root, lived_in.places.db
    lived_in.close()
    rubbish = b"not a database " * 500
    db.write_bytes(rubbish)
    with pytest.raises(JobLogDamaged, match="pidec-jobs repair rebuilds it"):
        Manager.open(root)
    report = repair_workspace(lived_in.places)
    assert Path(report.set_aside).read_bytes() == rubbish
    again = Manager.open(root)
    assert {job.id: story(job) for job in again.jobs()} == before
    again.close()


def test_jobs_that_run_while_the_log_is_lost_are_adopted(manager: Manager) -> None:
    """Lost without it: the running training is started a second time beside itself."""
    job = command(manager, "sleep 1.5")
    manager.ensure_runner()
    pid = started(manager, job.id)["pid"]
    wait_for(manager, job.id, JobState.running)
    os.kill(manager.runner_pid() or 0, signal.SIGKILL)
    until(lambda: manager.runner_pid() is None)
    manager.close()
    for path in manager.state_dir.glob("jobs.db*"):
        path.unlink()
    again = Manager.open(manager.workspace.root)
    found = again.job(job.id)
    assert found.state is JobState.running and found.attempts[0].pid == pid and alive(pid)
    again.ensure_runner()
    done = wait_for(again, job.id)
    assert done.state is JobState.succeeded and len(done.attempts) == 1
    end_everything(again)


@pytest.mark.parametrize("killed", ["", "shim"])
def test_what_runs_under_another_state_dirs_lock_has_not_ended(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    """Lost: a training, begun once more beside itself by a shell in which `$PIDEC_STATE_DIR` is not set."""
    monkeypatch.setenv("PIDEC_STATE_DIR", str(tmp_path / "state"))
    first = Manager.open(workspace)
    command(first, f"echo x >> {tmp_path}/ran; sleep 2")
    first.ensure_runner()
    there = started(first, 1)
    os.kill(first.runner_pid() or 0, signal.SIGKILL)
    if killed:
        os.kill(there["shim"], signal.SIGKILL)
    monkeypatch.delenv("PIDEC_STATE_DIR")
    again = Manager.open(workspace)
    try:
        assert not again.places.attempt_lock(1, 1).exists() and alive(there["pid"])
        assert again.job(1).state is JobState.running
        again.ensure_runner()
        until(lambda: not alive(there["pid"]))
        wait_for(again, 1, JobState.held if killed else JobState.succeeded)
        assert (tmp_path / "ran").read_text() == "x\n"
    finally:
        end_everything(first)
        end_everything(again)


def test_a_job_log_deleted_under_a_running_runner_is_rebuilt(manager: Manager, tmp_path: Path) -> None:
    job = command(manager, f"sleep 1; echo x >> {tmp_path}/ran")
    manager.ensure_runner()
    started(manager, job.id)
    for path in manager.state_dir.glob("jobs.db*"):
        path.unlink()
    assert wait_for(manager, job.id).state is JobState.succeeded
    second = command(manager, f"echo y >> {tmp_path}/ran")
    assert wait_for(manager, second.id).state is JobState.succeeded
    assert (tmp_path / "ran").read_text() == "x\ny\n"


def test_a_folder_without_a_usable_spec_is_named_and_its_id_stays_used(manager: Manager) -> None:
    command(manager, "true")
    (manager.workspace.runs / "000004").mkdir()
    (manager.workspace.runs / "000005").mkdir()
    (manager.workspace.run(5).spec).write_text(json.dumps({"id": 5, "kind": "from the future", "name": "x"}))
    (manager.workspace.runs / "by-hand").mkdir()
    report = manager.repair()
    assert report.jobs == 1
    assert report.unreadable == tuple(str(manager.workspace.run(job_id).path) for job_id in (4, 5))
    assert command(manager, "true").id == 6


def test_a_repair_writes_a_damaged_spec_anew_from_a_sound_log(lived_in: Manager) -> None:
    """Lost without it: a repair that drops a job which the job log knew all about."""
    before = {job.id: story(job) for job in lived_in.jobs()}
    spec = lived_in.workspace.run(1).spec
    spec.write_bytes(b'{"a')
    lived_in.workspace.run(7).spec.unlink()
    report = lived_in.repair()
    assert (report.jobs, report.unreadable) == (10, ())
    assert {job.id: story(job) for job in lived_in.jobs()} == before
    assert [path.read_bytes() for path in spec.parent.glob("spec.json.damaged-*")] == [b'{"a']


def test_a_repair_does_not_run_again_what_was_removed_by_hand(lived_in: Manager) -> None:
    shutil.rmtree(lived_in.workspace.run(1).path)
    assert lived_in.repair().jobs == 9
    assert not lived_in.workspace.run(1).path.exists()


def test_behind_a_job_that_is_lost_is_held(manager: Manager) -> None:
    """Lost without it: a training starts although nobody knows whether its demos were made."""
    first = command(manager, "false")
    command(manager, "true", after=[first.id])
    manager.workspace.run(first.id).spec.write_bytes(b"[]")
    root = manager.workspace.root
    manager.close()
    for path in manager.state_dir.glob("jobs.db*"):
        path.unlink()
    again = Manager.open(root)
    assert (again.job(2).state, again.job(2).reason) == (JobState.held, "job 1, which it comes after, is lost")
    assert again.release(2).state is JobState.queued, "the user may know better"
    again.close()


def test_a_job_log_without_a_byte_is_rebuilt(manager: Manager) -> None:
    """Lost without it: after a power cut the queue is empty, and nothing is said."""
    command(manager, "true", held=True)
    root, db = manager.workspace.root, manager.places.db
    manager.close()
    for path in manager.state_dir.glob("jobs.db-*"):
        path.unlink()
    db.write_bytes(b"")
    again = Manager.open(root)
    assert [job.id for job in again.jobs()] == [1]
    again.close()


def test_a_rebuild_runs_no_on_end(lived_in: Manager, tmp_path: Path) -> None:
    """Lost without it: forty messages on the phone."""
    settings = lived_in.workspace.jobs / "settings.toml"
    settings.write_text(settings.read_text() + f'on_end = "echo x >> {tmp_path}/told"\n')
    lived_in.cancel(6)
    lived_in.cancel(9)
    lived_in.repair()
    for job_id in (2, 7, 3):
        if not lived_in.job(job_id).state.finished:
            lived_in.cancel(job_id)
    lived_in.repair()
    lived_in.ensure_runner()
    job = command(lived_in, "true")
    wait_for(lived_in, job.id)
    until(lambda: (tmp_path / "told").exists())
    assert (tmp_path / "told").read_text() == "x\n"
