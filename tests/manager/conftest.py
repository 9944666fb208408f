"""A workspace of its own for each test, with a runner that looks often; nothing stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pidec_tui.manager.joblog import JobLog
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.procs import Started, kill_leftovers
from tests.manager.jobs_support import QUICK


def end_everything(manager: Manager) -> None:
    """Stop the runner and every process of every attempt."""
    manager.stop_runner()
    log = JobLog(manager.places.db)
    for job, number, token in log.rows("SELECT job, number, token FROM attempts"):
        kill_leftovers(token, Started.read(manager.workspace.run(job).attempt(number).path))
    log.close()
    manager.close()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "ws"
    (folder / "jobs").mkdir(parents=True)
    (folder / "jobs" / "settings.toml").write_text(QUICK)
    return folder


@pytest.fixture
def manager(workspace: Path) -> Iterator[Manager]:
    opened = Manager.open(workspace)
    yield opened
    end_everything(opened)
