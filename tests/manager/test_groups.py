"""Groups as one by hand: held, released, retried; and jobs that go on past the end that they were given."""

from __future__ import annotations

import pytest

from pidec_train.protocol.errors import PidecError
from pidec_tui.manager import cli
from pidec_tui.manager.jobs import Job, JobState
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.specs import read_spec
from pidec_tui.manager.sweep import combinations


def seeds(manager: Manager) -> list[Job]:
    sweep = combinations("diffusion", ["seed=1..3"])
    return manager.groups.add("diffusion", {"demo_path": "a.h5", "total_iters": 2000}, sweep, name="peg")


def states(manager: Manager) -> list[str]:
    return [job.state.value for job in manager.group("peg")]


def test_a_group_is_held_released_and_retried_as_one(manager: Manager) -> None:
    """Lost: a sweep that takes as many keys as it has jobs."""
    jobs = seeds(manager)
    assert [job.name for job in jobs] == ["peg seed=1", "peg seed=2", "peg seed=3"]
    assert [job.id for job in manager.groups.hold("peg")] == [1, 2, 3] and set(states(manager)) == {"held"}
    with pytest.raises(PidecError, match='no job of group "peg" is queued'):
        manager.groups.hold("peg")
    manager.release(2)
    assert [job.id for job in manager.groups.release("peg")] == [1, 3]
    manager.cancel(1)
    manager.cancel(3)
    assert [job.id for job in manager.groups.retry("peg")] == [1, 3] and set(states(manager)) == {"queued"}


def test_one_that_cannot_start_keeps_its_whole_group(manager: Manager) -> None:
    """Lost: a group of which half runs, and nobody knows which half."""
    first = manager.add("command", {"command": "true"})
    sweep = combinations("diffusion", ["seed=1..2"])
    manager.groups.add("diffusion", {"demo_path": "a.h5"}, sweep, name="peg", after=[first.id])
    manager.cancel(first.id)
    with pytest.raises(PidecError, match="cannot be released"):
        manager.groups.release("peg")
    assert set(states(manager)) == {"held"}


def test_a_group_that_was_kept_is_kept_by_its_files_too(manager: Manager) -> None:
    """Lost: with the job log, that a job was held; the rebuilt one starts it."""
    first = manager.add("command", {"command": "true"})
    one = manager.add("command", {"command": "true"}, group="peg", held=True)
    manager.add("command", {"command": "true"}, group="peg", after=[first.id])
    manager.cancel(first.id)
    with pytest.raises(PidecError, match="cannot be released"):
        manager.groups.release("peg")
    spec = read_spec(manager.workspace, one.id)
    assert spec is not None and spec.held


def test_the_command_line_takes_groups_too(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    """Lost: in a script what the dashboard does by a key."""
    seeds(manager)
    where = ["--workspace", str(manager.workspace.root)]
    assert cli.main(["hold", "--group", "peg", *where]) == 0
    assert capsys.readouterr().out.count(" held: peg seed=") == 3
    assert cli.main(["release", "--group", "peg", "--no-runner", *where]) == 0
    assert set(states(manager)) == {"queued"}
    assert cli.main(["hold", *where]) == 2
    assert "either the number of a job or --group NAME" in capsys.readouterr().err


def test_a_decorator_goes_on_to_more_steps(manager: Manager) -> None:
    """Lost: a decorator that still climbs when its steps are used up."""
    values = {"env_id": "PushCube-v1", "base_policy_ckpt": "a.pt", "total_timesteps": 20_000}
    job = manager.add("decorator", values)
    manager.cancel(job.id)
    with pytest.raises(PidecError, match="goes to 20000 already: 19000 is not more"):
        manager.retry(job.id, extend_to=19_000)
    again = manager.retry(job.id, extend_to=30_000)
    assert again.state is JobState.queued and again.config["total_timesteps"] == 30_000
    assert again.total_steps is not None and again.total_steps >= 30_000
