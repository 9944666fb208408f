"""Kill everything (a short, seeded round; `make chaos` runs long ones)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.manager.chaos import everything_killed, runner_killed_again_and_again

pytestmark = pytest.mark.timeout(200)


def test_each_job_runs_exactly_once_while_the_runner_is_killed_every_second_or_two(tmp_path: Path) -> None:
    """Lost without it: a job that never ran, or one that ran twice."""
    assert runner_killed_again_and_again(tmp_path, random.Random(1), jobs=20, pause=(1.0, 2.0), cpu_slots=4) >= 3


def test_each_job_runs_exactly_once_while_no_runner_lives_long(tmp_path: Path) -> None:
    """Kills within 0.15 s of the start hit claim, launch and the first look."""
    assert runner_killed_again_and_again(tmp_path, random.Random(2), jobs=6, pause=(0.0, 0.15)) >= 5


def test_nothing_is_lost_and_nothing_runs_beside_itself_when_everything_is_killed(tmp_path: Path) -> None:
    killed = everything_killed(tmp_path, random.Random(5), jobs=8, kills=20)
    assert killed["runner"] >= 1 and killed["shim"] + killed["both"] + killed["trainer"] >= 2, killed
