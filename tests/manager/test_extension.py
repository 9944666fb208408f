"""`retry --extend-to N`: a job that is over goes on past its end."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import Spec
from pidec_tui.manager.joblog import JobLog
from pidec_tui.manager.jobs import MOVES, IllegalMove, Job, JobState, check_move
from pidec_tui.manager.manager import Manager
from tests.manager.jobs_support import argv_of, command, fake_trainer, wait_for

# The stand-in trainer: it trains 3 iterations whatever its config says, and begins at its checkpoint when it resumes.
CONFIG = {"total_iters": 3, "demo_path": "bundled:PushCube-v1.h5"}
OVER = [JobState.succeeded, JobState.failed, JobState.cancelled]


def put(manager: Manager, job_id: int, state: JobState) -> None:
    log = JobLog(manager.places.db)
    with log.write():
        log.set_state(job_id, state)
    log.close()


def over(manager: Manager, state: JobState = JobState.succeeded, **values: Any) -> Job:
    """A training that is over, with a checkpoint."""
    job = manager.add("diffusion", {**CONFIG, **values})
    put(manager, job.id, state)
    folder = manager.checkpoint_dir(job.id)
    folder.mkdir(parents=True)
    (folder / "last.pt").write_bytes(b"weights")
    return job


def story(job: Job) -> tuple[object, ...]:
    return job.state, job.config, job.total_steps, job.position


@pytest.mark.parametrize(("old", "new"), itertools.product(JobState, JobState))
def test_an_extension_adds_one_arrow_to_the_picture(old: JobState, new: JobState) -> None:
    """Lost without it: a word that opens every door of the picture."""
    if (old, new) == (JobState.succeeded, JobState.queued) or new in MOVES[old]:
        check_move(1, old, new, extends=True)
    else:
        with pytest.raises(IllegalMove):
            check_move(1, old, new, extends=True)


@pytest.mark.parametrize("state", OVER)
def test_a_job_that_is_over_is_queued_with_a_later_end(manager: Manager, state: JobState) -> None:
    """Lost without it: the hours of a training that turned out too short."""
    job = over(manager, state)
    assert manager.retry(job.id, extend_to=8).state is JobState.queued
    longer = manager.job(job.id)
    assert longer.config == {**job.config, "extend_to": 8} and longer.total_steps == 8
    spec = Spec.model_validate_json(manager.workspace.run(job.id).spec.read_bytes())
    assert spec.config == longer.config and not spec.fresh and not spec.cancelled


def test_the_next_attempt_resumes_with_the_later_end(manager: Manager, tmp_path: Path) -> None:
    """Lost without it: an extension that trains everything once more; or says `succeeded` before it has begun."""
    environ = fake_trainer(tmp_path, steps=3, checkpoint_at=2)
    job = manager.add("diffusion", CONFIG, environ=environ, cwd=tmp_path, lane="cpu")
    behind = command(manager, f"echo x >> {tmp_path}/behind", after=[job.id])
    manager.ensure_runner()
    assert wait_for(manager, behind.id).state is JobState.succeeded
    manager.retry(job.id, extend_to=8)
    done = wait_for(manager, job.id)
    assert done.state is JobState.succeeded and done.attempts[1].resumed_step == 2
    words = argv_of(manager, job.id, 2)
    assert "--resume" in words and words[words.index("--extend-to") + 1] == "8"
    assert {point.attempt for point in manager.metrics(job.id)} == {1, 2}, "the curve goes on"
    assert len(manager.job(behind.id).attempts) == 1 and (tmp_path / "behind").read_text() == "x\n"


def test_what_has_yet_to_start_behind_it_waits_again(manager: Manager) -> None:
    """Lost without it: an evaluation of `@1/last` that takes the weights from before the extension."""
    job = over(manager)
    behind = manager.add("evaluate", {"ckpt": f"@{job.id}/last"})
    manager.retry(job.id, extend_to=8)
    later = manager.add("evaluate", {"ckpt": f"@{job.id}/last"})
    assert later.waiting_for == f"job {job.id}"
    manager.cancel(job.id)
    assert {manager.job(other.id).state for other in (behind, later)} == {JobState.held}


@pytest.mark.parametrize(
    ("values", "extend_to", "line"),
    [
        ({}, 3, "extend_to 3 must be more than total_iters 3"),
        ({}, 0, "extend_to = 0: input should be greater than or equal to 1"),
        ({"extend_to": 6}, 6, "job 1 was extended to 6 already: 6 is not more"),
        ({}, 10**23, "100000000000000000000000 steps are more than a job can count"),
        ({"extend_to": 6}, 5, "job 1 was extended to 6 already: 5 is not more"),
    ],
)
def test_an_end_that_is_no_later_is_refused_in_one_line(
    manager: Manager, values: dict[str, int], extend_to: int, line: str
) -> None:
    """Lost without it: a job that starts only to say that there is nothing to do."""
    job = over(manager, **values)
    before = story(manager.job(job.id))
    with pytest.raises(PidecError, match=line):
        manager.retry(job.id, extend_to=extend_to)
    assert story(manager.job(job.id)) == before


@pytest.mark.parametrize("state", [state for state in JobState if not state.finished])
def test_only_a_job_that_is_over_is_extended(manager: Manager, state: JobState) -> None:
    job = over(manager, state)
    with pytest.raises(PidecError, match=f"job 1 is {state}: only a job that is over can be extended") as refused:
        manager.retry(job.id, extend_to=8)
    if state.waiting:
        assert refused.value.hint == "pidec-jobs edit 1 --set extend_to=8 lengthens a job that waits"
        assert manager.edit(job.id, {"extend_to": 8}).total_steps == 8, "the hint is right"


def test_what_cannot_be_extended_says_so(manager: Manager) -> None:
    """Lost without it: a fresh training over the weekend where somebody wanted one more hour."""
    job = command(manager, "true")
    put(manager, job.id, JobState.succeeded)
    wrong = r"job 1 cannot be extended: its kind is command\. Only diffusion and decorator jobs can be"
    with pytest.raises(PidecError, match=wrong):
        manager.retry(job.id, extend_to=8)
    job = over(manager)
    with pytest.raises(PidecError, match=r"--extend-to goes on from the last checkpoint, --fresh starts from nothing"):
        manager.retry(job.id, extend_to=8, fresh=True)
    (manager.checkpoint_dir(job.id) / "last.pt").unlink()
    with pytest.raises(PidecError, match=r"job 2 has no checkpoint to go on from"):
        manager.retry(job.id, extend_to=8)
    assert manager.job(job.id).state is JobState.succeeded


def test_a_plain_retry_of_what_succeeded_is_refused_with_the_command_that_works(manager: Manager) -> None:
    """Lost without it: nobody finds out that a finished training can go on. The dashboard's `r` shows this, too."""
    job = over(manager)
    with pytest.raises(PidecError, match=r"job 1 is succeeded, it cannot be retried.*pidec-jobs retry 1 --extend-to N"):
        manager.retry(job.id)
    assert manager.job(job.id).state is JobState.succeeded


def test_an_extension_survives_the_loss_of_the_job_log(manager: Manager, tmp_path: Path) -> None:
    """Lost without it: the rebuilt queue calls the job done, or shows 30 of 30 where 30 are missing."""
    environ = fake_trainer(tmp_path, steps=3, checkpoint_at=2)
    job = manager.add("diffusion", CONFIG, environ=environ, cwd=tmp_path, lane="cpu")
    manager.ensure_runner()
    wait_for(manager, job.id)
    manager.stop_runner()
    manager.retry(job.id, extend_to=8)
    before = manager.job(job.id)
    manager.repair()
    after = manager.job(job.id)
    assert story(after) == story(before) and after.total_steps == 8 and after.step == 3
