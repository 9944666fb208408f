"""`$PIDEC_STATE_DIR` set in one shell and not in another: two queues for one workspace, and what is said of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pidec_train.protocol.errors import PidecError
from pidec_tui.faults import check_workspace
from pidec_tui.manager.jobs import JobState
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.otherqueue import check_other_queue
from pidec_tui.manager.statedir import local_state_dir
from tests.manager.conftest import end_everything
from tests.manager.jobs_support import alive, kill_runner, wait_for

Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shell(workspace: Path, tmp_path: Path) -> Shell:
    """`pidec-jobs` in a folder of its own, with some variables more."""

    def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pidec_tui.manager.cli", *words, "--workspace", str(workspace)],
            cwd=tmp_path, env={**os.environ, **environ}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    return run


@pytest.fixture
def other(manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """The second queue of `manager`'s workspace."""
    monkeypatch.setenv("PIDEC_STATE_DIR", str(tmp_path / "state"))
    opened = Manager.open(manager.workspace.root)
    monkeypatch.delenv("PIDEC_STATE_DIR")
    yield opened
    end_everything(opened)


def test_a_relative_state_dir_is_the_runners_too(shell: Shell, workspace: Path, tmp_path: Path) -> None:
    """Lost: `add` fails, says "the runner did not come up", and a runner nobody finds has run the job."""
    try:
        added = shell("add", "--command", "true", PIDEC_STATE_DIR="state")
        assert added.returncode == 0, added.stderr
        assert shell("wait", "1", PIDEC_STATE_DIR="state").returncode == 0
        assert len(list(tmp_path.rglob("jobs.db"))) == 1
        listed = shell("list", PIDEC_STATE_DIR="state").stderr
        assert listed == f"the job log is in {next(tmp_path.glob('state/*'))}: $PIDEC_STATE_DIR says so\n"
    finally:
        assert shell("runner", "stop", PIDEC_STATE_DIR="state").returncode == 0


def test_a_relative_xdg_state_home_counts_from_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: on a network volume, a queue for each folder that somebody stands in."""
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert local_state_dir(tmp_path, []).parent == Path("~/.local/state/pidec").expanduser()


def test_who_opens_a_workspace_with_two_queues_is_told_and_nothing_else(
    manager: Manager, other: Manager, shell: Shell, tmp_path: Path
) -> None:
    """Lost: two runners for one workspace, and nobody knows why a job ran twice."""
    first = manager.ensure_runner()
    told = shell("list", "--json", PIDEC_STATE_DIR=str(tmp_path / "state"))
    assert (told.returncode, json.loads(told.stdout)) == (0, [])
    assert told.stderr.startswith(f"warning: this workspace has a second queue in {manager.state_dir}, whose runner ")
    assert told.stderr.endswith(
        f"`unset PIDEC_STATE_DIR` uses that one; `kill {first}` ends its runner, and jobs that run go on\n"
    )
    assert shell("list", "--json").stderr == "", "its own"
    done = shell("add", "--command", "true", "--json", PIDEC_STATE_DIR=str(tmp_path / "state"))
    assert done.returncode == 0 and wait_for(other, 1).state is JobState.succeeded, "refused nothing"
    second = other.runner_pid()
    assert second and alive(first) and alive(second), "ended nothing"
    assert f"second queue in {manager.state_dir}" in other.places.runner_log.read_text()
    line = shell("list", "--json").stderr
    assert f"`export PIDEC_STATE_DIR={tmp_path}/state`" in line and line.count("\n") == 1
    command = [sys.executable, "-m", "pidec_tui", "--once", "--workspace", str(manager.workspace.root)]
    once = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert once.returncode == 0 and once.stderr == line and once.stdout.startswith("pidec")
    joined = shell("list", "--json", PIDEC_STATE_DIR=f"{tmp_path}/state")
    assert [job["id"] for job in json.loads(joined.stdout)] == [1], "what the hint said is so"


def test_notes_of_the_dead_of_other_machines_and_of_copies_are_no_news(manager: Manager, other: Manager) -> None:
    """Lost: a warning that is always there, and read by nobody."""
    other.ensure_runner()
    with pytest.raises(PidecError, match="second queue"):
        check_workspace(manager.places)  # as the dashboard does
    (note,) = manager.workspace.jobs.glob("runner-*.json")
    true = json.loads(note.read_text())
    for wrong in ({"machine": "another boot"}, {"workspace": "/somewhere/else"}, {"state_dir": 3}):
        note.write_text(json.dumps({**true, **wrong}))
        check_other_queue(manager.places)
    note.write_text("{")
    check_other_queue(manager.places)
    note.write_text(json.dumps(true))
    kill_runner(other)
    assert note.exists()
    check_other_queue(manager.places)
    other.ensure_runner()
    assert len(list(manager.workspace.jobs.glob("runner-*.json"))) == 1
    other.stop_runner()
    assert not note.exists()
