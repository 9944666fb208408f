"""Attempts that are cut short, jobs that are run again, and what is told at the end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pidec_tui.manager import claims
from pidec_tui.manager.hooks import Hooks
from pidec_tui.manager.joblog import JobLog, JobLogError
from pidec_tui.manager.jobs import Job, JobState
from pidec_tui.manager.manager import Manager
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


# --- interruptions ---------------------------------------------------------------------------------------------------


def test_an_interrupted_trainer_resumes_from_its_checkpoint(manager: Manager, tmp_path: Path) -> None:
    """Lost without it: a day of training, to one kill -9."""
    environ = fake_trainer(tmp_path, steps=6, checkpoint_at=3, die_at=4, pause=0.02)
    job = manager.add("diffusion", {}, environ=environ, cwd=tmp_path, lane="cpu")
    manager.ensure_runner()
    until(lambda: len(manager.job(job.id).attempts) == 2, what="a second attempt")
    done = wait_for(manager, job.id)  # the stand-in dies at step 4 each time
    assert argv_of(manager, job.id, 2)[-1] == "--resume"
    assert done.attempts[1].resumed_step == 3
    assert done.attempts[0].state == "interrupted" and done.attempts[0].signal == 9
    assert [point.step for point in manager.metrics(job.id)] == [1, 2, 3, 4]
    assert done.state is JobState.failed
    assert len(done.attempts) == 3, "the first made a checkpoint, the second and third none"
    assert done.reason.startswith("interrupted 3 times without a new checkpoint")


@pytest.mark.parametrize("code", [130, 143])
def test_a_command_that_is_interrupted_waits_for_its_user(manager: Manager, code: int) -> None:
    """Lost without it: a script with side effects that runs twice."""
    job = command(manager, f"exit {code}")
    manager.ensure_runner()
    held = wait_for(manager, job.id, JobState.held)
    assert held.reason == f"interrupted: exit code {code}; a command is not run again by itself"
    assert held.attempts[0].state == "interrupted"
    manager.release(job.id)
    until(lambda: len(manager.job(job.id).attempts) == 2, what="a second attempt")


def test_with_its_shim_killed_a_trainer_goes_on_and_its_end_event_counts(manager: Manager, tmp_path: Path) -> None:
    """Lost without it: a finished run that is run once more, because nobody could write exit.json."""
    environ = fake_trainer(tmp_path, steps=10, pause=0.1, end="succeeded")
    job = manager.add("diffusion", {}, environ=environ, cwd=tmp_path, lane="cpu")
    manager.ensure_runner()
    facts = started(manager, job.id)
    os.kill(facts["shim"], signal.SIGKILL)
    time.sleep(0.4)
    assert manager.job(job.id).state is Running and alive(facts["pid"])
    done = wait_for(manager, job.id)
    assert done.state is JobState.succeeded and len(done.attempts) == 1
    assert not manager.workspace.run(job.id).attempt(1).exit.exists()
    assert len(manager.metrics(job.id)) == 10


@pytest.mark.parametrize("with_runner", [True, False])
def test_shim_and_trainer_killed_is_an_interruption_even_if_a_child_keeps_the_lock(
    manager: Manager, with_runner: bool
) -> None:
    """Lost without it: a job that is `running` for ever."""
    job = command(manager, "sleep 60 & sleep 61")  # forked children inherit the lock
    manager.ensure_runner()
    facts = started(manager, job.id)
    wait_for(manager, job.id, Running)
    if not with_runner:
        kill_runner(manager)
    for pid in (facts["shim"], facts["pid"]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    manager.ensure_runner()
    held = wait_for(manager, job.id, JobState.held)
    assert held.reason.startswith("interrupted: its processes are gone")


def test_after_a_reboot_a_trainer_resumes(manager: Manager, tmp_path: Path) -> None:
    """The boot id differs, nobody holds the lock, process ids mean nothing."""
    environ = fake_trainer(tmp_path, steps=40, pause=0.05, checkpoint_at=2)
    job = manager.add("diffusion", {}, environ=environ, cwd=tmp_path, lane="cpu")
    manager.ensure_runner()
    facts = started(manager, job.id)
    until(lambda: any(event.event == "checkpoint" for event in manager.events(job.id)), what="a checkpoint")
    kill_runner(manager)
    for pid in (facts["shim"], facts["pid"]):
        os.kill(pid, signal.SIGKILL)
    innocent = subprocess.Popen(["sleep", "60"])
    path = manager.workspace.run(job.id).attempt(1).path / "started.json"
    path.write_text(json.dumps({**facts, "boot_id": "before", "shim": innocent.pid, "pid": innocent.pid}))
    manager.ensure_runner()
    until(lambda: len(manager.job(job.id).attempts) == 2, what="a second attempt")
    first, second = manager.job(job.id).attempts
    assert (first.state, first.cause) == ("interrupted", "the machine was restarted")
    assert innocent.poll() is None, "the process that has the old id now"
    until(lambda: manager.job(job.id).attempts[1].resumed_step == 2, what="the resume")
    innocent.kill()
    innocent.wait()
    assert second.number == 2


def test_a_launch_that_was_cut_off_before_the_trainer_is_no_attempt(manager: Manager, tmp_path: Path) -> None:
    """Lost without it: a command that is held although it never ran."""
    job = command(manager, f"echo x >> {tmp_path}/ran")
    log = JobLog(manager.places.db)
    claimed = claims.claim(log, manager.workspace, job.id, None)  # and here the runner dies
    log.close()
    assert claimed is not None and manager.job(job.id).state is JobState.starting
    manager.ensure_runner()
    done = wait_for(manager, job.id)
    assert done.state is JobState.succeeded and len(done.attempts) == 1
    assert (tmp_path / "ran").read_text() == "x\n"


# --- retry, references, on_end ---------------------------------------------------------------------------------------


def test_retry_resumes_and_fresh_sets_the_old_checkpoints_aside(manager: Manager, tmp_path: Path) -> None:
    """Lost without it: a fresh run that silently goes on from the old weights after its first interruption."""
    environ = fake_trainer(tmp_path, steps=3, checkpoint_at=2, exit=5)
    job = manager.add("diffusion", {}, environ=environ, cwd=tmp_path, lane="cpu", name="peg")
    manager.ensure_runner()
    wait_for(manager, job.id)
    manager.retry(job.id)
    done = wait_for(manager, job.id)
    assert "--resume" in argv_of(manager, job.id, 2) and done.attempts[1].resumed_step == 2
    manager.retry(job.id, fresh=True)
    done = wait_for(manager, job.id)
    assert "--resume" not in argv_of(manager, job.id, 3) and done.attempts[2].resumed_step is None
    aside = manager.workspace.checkpoints / "000001-peg.old-1"
    assert (aside / "step-000000002.pt").exists(), "nothing is deleted"
    assert {point.attempt for point in manager.metrics(job.id)} == {3}


def test_a_reference_becomes_the_file_that_the_link_names_at_the_claim(manager: Manager, tmp_path: Path) -> None:
    environ = fake_trainer(tmp_path, steps=3, checkpoint_at=2)
    first = manager.add("diffusion", {}, environ=environ, cwd=tmp_path, lane="cpu")
    second = manager.add("evaluate", {"ckpt": f"@{first.id}/best"}, environ=environ, cwd=tmp_path, lane="cpu")
    manager.ensure_runner()
    wait_for(manager, second.id)
    target = manager.checkpoint_dir(first.id) / "step-000000002.pt"
    assert argv_of(manager, second.id, 1)[1] == str(target)
    assert manager.job(second.id).config["ckpt"] == "@1/best"


def test_a_reference_to_nothing_holds_the_job_and_says_what_to_do(manager: Manager, tmp_path: Path) -> None:
    first = manager.add("diffusion", {}, environ=fake_trainer(tmp_path), cwd=tmp_path, lane="cpu")
    second = manager.add(
        "evaluate", {"ckpt": f"@{first.id}/last"}, environ=fake_trainer(tmp_path), cwd=tmp_path, lane="cpu"
    )
    manager.ensure_runner()
    held = wait_for(manager, second.id, JobState.held)
    assert held.reason.startswith("ckpt = @1/last: job 1 has no last.pt")
    assert held.attempts == ()


def test_on_end_is_told_what_ended_and_cannot_hurt_the_runner(manager: Manager, tmp_path: Path) -> None:
    """Lost without it: the phone that does not buzz, or the queue that waits for it."""
    hook = tmp_path / "hook.sh"
    hook.write_text(
        f'echo "$PIDEC_JOB_ID|$PIDEC_JOB_NAME|$PIDEC_JOB_STATE|$PIDEC_JOB_METRICS" >> {tmp_path}/told\n'
        "echo noise; trap '' TERM; sleep 60\n"
    )
    on_end = f'on_end = "sh {hook}"\non_end_timeout_s = 0.5\n'
    (manager.workspace.jobs / "settings.toml").write_text(QUICK + on_end)
    manager.add("diffusion", {}, environ=fake_trainer(tmp_path, steps=2), cwd=tmp_path, lane="cpu", name="peg")
    command(manager, "exit 1", name="bad")
    manager.ensure_runner()
    wait_for(manager, 2)
    told = tmp_path / "told"
    until(lambda: told.exists() and len(told.read_text().splitlines()) == 2, what="two calls")
    first, second = told.read_text().splitlines()
    assert first == '1|peg|succeeded|{"train/loss": 0.5}' and second == "2|bad|failed|{}"
    until(lambda: "took too long" in manager.places.runner_log.read_text(), what="the end of the hooks")


def test_a_locked_job_log_loses_no_other_command(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lost: that a command has failed, and the end of one that hangs; or half of a token, to the log."""
    told: list[str] = []

    def failed(job: Job, text: str) -> None:
        told.append(text)
        if len(told) == 1:
            raise JobLogError("locked")

    hooks = Hooks(tmp_path, failed)
    job = Job(1, "command", "one", JobState.failed, "cpu", {}, None, (), 0, "", "", 0, None, None, None, None, "step")
    for _ in range(2):
        hooks.start("exit 3", job, {}, 5.0)
    time.sleep(0.3)
    with pytest.raises(JobLogError):
        hooks.poll()
    hooks.poll()
    assert told == ["on_end ended with code 3"] * 2 and not hooks.busy
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUSH_TOKEN", "tk_" + "9f8e7d6c" * 20)
        hooks.start('printf "%s%01950d" "$PUSH_TOKEN" 0 >&2; exit 4', job, {}, 5.0)
        until(lambda: (hooks.poll(), not hooks.busy)[1], what="its end")
    assert told[-1].startswith("on_end ended with code 4: ") and "9f8e7d6c" not in caplog.text


def test_an_on_end_that_fails_is_told_once(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: that the phone has not buzzed for a week, as a topic has another name; or a token, to the job log."""
    monkeypatch.setenv("PUSH_TOKEN", "tk_9f8e7d6c")
    says = "echo trying >&2; echo no such topic for $PUSH_TOKEN >&2; exit 22"
    on_end = f"on_end = 'test -d \"$PIDEC_WORKSPACE/jobs\" && {says}'\n"
    (manager.workspace.jobs / "settings.toml").write_text(QUICK + on_end)
    for name in ("one", "two"):
        command(manager, "true", name=name)
    manager.ensure_runner()
    wait_for(manager, 2)
    until(lambda: manager.places.runner_log.read_text().count("on_end ended") == 2, what="two calls")
    (alert,) = [alert for alert in manager.alerts(after_row=0) if alert.kind == "command"]
    assert (alert.job_id, alert.message) == (1, "on_end ended with code 22: no such topic for $PUSH_TOKEN")
    log = manager.places.runner_log.read_text()
    assert "trying\n" in log and "tk_9f8e7d6c" not in log


def test_a_tracked_job_without_a_key_gets_a_warning(
    manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    job = manager.add("diffusion", {"track": True}, environ=fake_trainer(tmp_path), cwd=tmp_path, lane="cpu")
    manager.ensure_runner()
    wait_for(manager, job.id)
    warnings = [event for event in manager.events(job.id) if event.event == "warning"]
    assert len(warnings) == 1 and "WANDB_API_KEY" in warnings[0].detail["message"] and warnings[0].seq < 0


def test_a_run_whose_folder_is_removed_is_interrupted_and_ended(manager: Manager, tmp_path: Path) -> None:
    """Lost without it: a job that runs for ever in the queue, while its lane waits, after one `rm -rf` too many."""
    job = command(manager, "sleep 600")
    manager.ensure_runner()
    wait_for(manager, job.id, JobState.running)
    pid = started(manager, job.id)["pid"]
    kill_runner(manager)  # its own children tell a runner more than files do
    shutil.rmtree(manager.workspace.run(job.id).path)
    manager.ensure_runner()
    held = wait_for(manager, job.id, JobState.held)
    assert held.reason == "interrupted: its run folder was removed; a command is not run again by itself"
    until(lambda: not alive(pid), what="the end of what it had started")
