"""`$PIDEC_STATE_DIR` set in one shell and not in another: still one queue and one runner for one workspace."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pidec_train.protocol.errors import PidecError, RunFailed
from pidec_tui.manager import cli
from pidec_tui.manager.gpus import GpuMonitor
from pidec_tui.manager.joblog import JobLog
from pidec_tui.manager.jobs import JobState
from pidec_tui.manager.lease import Lease
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.runner import SETTINGS_S, Runner
from tests.fakes.fake_pynvml import FakeNvml
from tests.manager.conftest import end_everything
from tests.manager.jobs_support import alive, command, wait_for

DOORS = (
    (["-m", "pidec_tui", "--once"], 2),
    (["-m", "pidec_tui.manager.cli", "list"], 2),
    (["-m", "pidec_tui.manager.runner"], 1),
)


def test_a_workspace_has_one_queue_until_repair_moves_it(
    manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: a second runner with a job log of its own, which runs every queued job once more, at the same time."""
    root, ran = manager.workspace.root, tmp_path / "ran"
    first = command(manager, f"echo 1 >> {ran}", lane="cpu")
    second = command(manager, f"echo 2 >> {ran}", lane="cpu", held=True)
    pid = manager.ensure_runner()
    assert wait_for(manager, first.id).state is JobState.succeeded
    monkeypatch.setenv("PIDEC_STATE_DIR", str(tmp_path / "state"))
    for words, code in DOORS:
        done = subprocess.run(
            [sys.executable, *words, "--workspace", str(root)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == code and done.stdout == "", words
        assert f"the queue of this workspace is kept in {root}/jobs, from here it would be in" in done.stderr
        assert len(done.stderr.splitlines()) == 1 and "pidec-jobs repair moves it here" in done.stderr
    assert not (tmp_path / "state").exists() and manager.runner_pid() == pid
    assert cli.main(["repair", "--workspace", str(root)]) == 0
    moved = Manager.open(root)
    try:
        assert moved.state_dir.is_relative_to(tmp_path / "state") and not alive(pid)
        assert moved.runner_pid(), "as one was up before"
        moved.release(second.id)
        assert wait_for(moved, second.id).state is JobState.succeeded
        assert ran.read_text().split() == ["1", "2"]
        monkeypatch.delenv("PIDEC_STATE_DIR")
        with pytest.raises(PidecError, match=f"is kept in {moved.state_dir}, from here it would be in {root}/jobs"):
            Manager.open(root)
    finally:
        end_everything(moved)


def test_a_runner_ends_when_its_queue_was_moved_away(manager: Manager) -> None:
    """Lost: what another shell has moved, to a runner that was just starting and went on with the old queue."""
    log = JobLog(manager.places.db)
    runner = Runner(manager.places, log, manager.settings, GpuMonitor(FakeNvml()), Lease(manager.places))
    runner.tick()
    manager.workspace.jobs.joinpath("state-dir").write_text(f"{manager.workspace.root}/other\n")
    runner._settings_read -= SETTINGS_S
    with pytest.raises(RunFailed, match=f"is kept in {manager.workspace.root}/other"):
        runner.run()
    log.close()


def test_a_place_that_is_gone_binds_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: a workspace on a rented volume, with the machine that kept its queue."""
    monkeypatch.setenv("PIDEC_STATE_DIR", str(tmp_path / "old"))
    before = Manager.open(tmp_path / "ws")
    before.add("command", {"command": "true"})
    before.close()
    shutil.rmtree(tmp_path / "old")
    monkeypatch.setenv("PIDEC_STATE_DIR", str(tmp_path / "new"))
    again = Manager.open(tmp_path / "ws")
    assert [job.config for job in again.jobs()] == [{"command": "true"}]
    again.close()
