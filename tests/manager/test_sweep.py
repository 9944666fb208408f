"""Jobs that are queued, cancelled and cloned as one: `--sweep`, `--group`, `clone`."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pidec_train.protocol.errors import PidecError
from pidec_tui.manager.joblog import JobLog
from pidec_tui.manager.jobs import JobState
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.sweep import combinations
from tests.manager.jobs_support import command, until, wait_for
from tests.manager.test_cli import Shell, jobs

__all__ = ["jobs"]

FIRST = 'kind = "diffusion"\n[config]\ntotal_iters = 10\n'
BEHIND = 'kind = "decorator"\nfirst = "base"\n[config]\nbase_policy_ckpt = "@first/best"\n'


@pytest.fixture
def presets(workspace: Path) -> Iterator[None]:
    folder = workspace / "jobs" / "presets"
    folder.mkdir()
    (folder / "base.toml").write_text(FIRST)
    (folder / "refined.toml").write_text(BEHIND)
    yield


def test_combinations_are_the_product_in_the_order_it_was_typed() -> None:
    """Lost without it: a sweep that leaves one out, or trains one twice."""
    found = combinations("diffusion", ["seed=1..3", "lr=1e-4,3e-4"])
    assert [each.label for each in found] == [f"seed={seed} lr={lr}" for seed in (1, 2, 3) for lr in ("1e-4", "3e-4")]
    assert found[1].values == {"seed": 1, "lr": 3e-4}
    dims = combinations("diffusion", ["unet_dims=[16,32],[64,128]", "exp-name=1,b"])
    assert [each.values for each in dims][:2] == [
        {"unet_dims": [16, 32], "exp_name": "1"},
        {"unet_dims": [16, 32], "exp_name": "b"},
    ]
    assert combinations("diffusion", []) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["sed=1..3"], 'diffusion has no setting "sed": did you mean "seed"?'),
        (["seed"], "must be KEY=VALUES"),
        (["seed="], "a value is missing"),
        (["lr=1e-4,"], "a value is missing"),
        (["seed=3..1"], "there is nothing between 3 and 1. Write 1..3"),
        (["lr=1e-4,1e-4"], "1e-4 is there twice"),
        (["seed=1", "seed=2"], "--sweep names seed twice"),
        (["batch_size=1,2"], "batch_size is given by --set and by --sweep"),
        (["seed=1..201"], "the sweep would make 201 jobs"),
        (["seed=1..999999999999"], "The most are 200"),
        (["seed=1..15", "lr=1,2,3,4,5,6,7,8,9,10,11,12,13,14"], "the sweep would make 210 jobs"),
    ],
)
def test_a_sweep_that_cannot_be_is_one_clear_line(words: list[str], line: str) -> None:
    with pytest.raises(PidecError) as error:
        combinations("diffusion", words, {"batch_size": 3})
    assert line in error.value.line() and "\n" not in error.value.line()


def test_a_sweep_comes_after_one_base_and_is_one_group(manager: Manager, presets: None) -> None:
    """Lost without it: three seeds of a decorator on three base policies that differ, each trained anew."""
    made = manager.add_preset_jobs("refined", sweep=combinations("decorator", ["seed=1..2"]), held=True)
    assert [job.name for job in made] == ["base", "refined seed=1", "refined seed=2"]
    assert [job.group_name for job in made] == ["", "refined", "refined"]
    assert [job.after for job in made] == [(), (1,), (1,)]
    assert [job.config["base_policy_ckpt"] for job in made[1:]] == ["@1/best", "@1/best"]
    again = manager.add_preset_jobs("base", sweep=combinations("diffusion", ["lr=1,2"]), group="refined")
    assert {job.group_name for job in again} == {"refined-2"}, "another group of the same name is not joined"
    assert [job.id for job in manager.group("refined")] == [2, 3]
    with pytest.raises(PidecError, match=r"no group .refnd.*did you mean .refined"):
        manager.cancel_group("refnd")


def test_one_bad_combination_makes_no_job(manager: Manager, presets: None) -> None:
    """Lost without it: half a sweep in the queue, and the question which half."""
    with pytest.raises(PidecError, match="seed"):
        manager.add_preset_jobs("base", sweep=combinations("diffusion", ["seed=1,-2"]))
    assert manager.jobs() == [] and list(manager.workspace.runs.iterdir()) == []


def test_a_group_is_cancelled_as_one_and_survives_a_rebuild(manager: Manager, presets: None) -> None:
    """Lost without it: after `repair` a sweep of a hundred jobs that nobody can take back at once."""
    manager.add_preset_jobs("base", sweep=combinations("diffusion", ["seed=1..3"]), held=True)
    alone = command(manager, "true", held=True)
    manager.cancel(2)
    assert [job.id for job in manager.cancel_group("base")] == [1, 3]
    with pytest.raises(PidecError, match=r"all 3 jobs .* are over already"):
        manager.cancel_group("base")
    manager.repair()
    assert [job.group_name for job in sorted(manager.jobs(), key=lambda job: job.id)] == ["base"] * 3 + [""]
    assert manager.job(alone.id).state is JobState.held


def test_an_older_job_log_gets_its_groups_column(tmp_path: Path, workspace: Path) -> None:
    """Lost without it: an update after which the jobs of last week cannot be listed."""
    import apsw

    from pidec_tui.manager.joblog import _Packed
    from pidec_tui.manager.schema import MIGRATIONS

    old = apsw.Connection(str(tmp_path / "old.db"))
    old.create_aggregate_function("packed", _Packed, 1)
    for step in MIGRATIONS[:2]:
        old.execute(step)
    old.execute(
        "INSERT INTO jobs (kind, name, state, lane, config, position, created) "
        "VALUES ('command', 'old', 'held', 'cpu', '{}', 1, 1); PRAGMA user_version = 2"
    )
    old.close()
    log = JobLog(tmp_path / "old.db")
    assert [(job.name, job.group_name) for job in log.jobs()] == [("old", "")]
    log.close()


def test_a_clone_has_the_config_folder_and_shell_of_its_job(manager: Manager, tmp_path: Path, presets: None) -> None:
    """Lost without it: a clone that runs in another folder, or with the defaults of today."""
    job = manager.add_preset("base", {"batch_size": 7}, name="peg seed=1", held=True)
    (made,) = manager.clone(job.id, {"lr": 0.5, "seed": 3}, held=True)
    assert made.name == "peg seed=3 lr=0.5"
    assert made.config == {**job.config, "lr": 0.5, "seed": 3} and made.preset == "base"
    assert made.state is JobState.held and made.group_name == ""
    swept = manager.clone(job.id, {}, sweep=combinations("diffusion", ["seed=4,5"]), held=True)
    assert [each.name for each in swept] == ["peg seed=4", "peg seed=5"]
    assert {each.group_name for each in swept} == {"peg seed=1"}
    here = tmp_path / "here"
    here.mkdir()
    shell = command(manager, "pwd; echo $COLOUR", cwd=here, environ={**os.environ, "COLOUR": "green"}, held=True)
    (again,) = manager.clone(shell.id, {})
    manager.ensure_runner()
    wait_for(manager, again.id)
    path = manager.log_path(again.id)
    assert path is not None and path.read_text() == f"{here}\ngreen\n"
    with pytest.raises(PidecError, match='no setting "lrr"'):
        manager.clone(job.id, {"lrr": 1})


def test_a_sweep_as_it_is_typed(jobs: Shell) -> None:
    """Lost without it: the command of the README."""
    made = jobs.json("add", "quickstart", "--sweep", "seed=1..2", "lr=1e-4,3e-4", "--held", "--no-runner")
    assert made == {"id": 4, "ids": [1, 2, 3, 4], "group": "quickstart"}
    assert [job["id"] for job in jobs.json("list", "--group", "quickstart")] == [1, 2, 3, 4]
    assert "seed=2 lr=3e-4" in jobs("list").stdout and "group" in jobs("list").stdout
    assert jobs.json("clone", "1", "--set", "lr=1", "--name", "mine", "--held", "--no-runner") == {"id": 5}
    refused = jobs("cancel", "--group", "quickstart", "--no-runner")
    assert refused.returncode == 2 and "--yes answers it" in refused.stderr
    assert jobs("cancel").returncode == 2 == jobs("cancel", "1", "--group", "quickstart").returncode
    assert jobs("cancel", "--group", "quickstart", "--yes", "--no-runner").returncode == 0
    assert [job["state"] for job in jobs.json("list", "--group", "quickstart")] == ["cancelled"] * 4
    assert jobs.json("show", "5")["state"] == "held"
    no = jobs("add", "--command", "true", "--sweep", "seed=1..2")
    assert no.returncode == 2 and "--group NAME" in no.stderr


def test_cancelling_a_group_asks_on_a_terminal(jobs: Shell) -> None:
    """Lost without it: a night's work, gone with one slip."""
    jobs("add", "quickstart", "--sweep", "seed=1..2", "--held", "--no-runner")

    def answer(word: bytes) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "pidec_tui.manager.cli", "cancel", "--group", "quickstart", "--no-runner"],
            stdin=theirs, stdout=theirs, stderr=theirs, env=jobs.environ, cwd=jobs.cwd,
        )  # fmt: skip
        os.write(ours, word + b"\n")
        code = process.wait(timeout=30)
        os.close(theirs)
        return code, os.read(ours, 10_000).decode()

    code, said = answer(b"")
    assert code == 1 and "Cancel 2 jobs" in said and "0 of them running? [y/N]" in said
    assert jobs.json("show", "1")["state"] == "held"
    assert answer(b"y")[0] == 0
    until(lambda: jobs.json("show", "2")["state"] == "cancelled")
