"""The states of a job and their legal moves."""

from __future__ import annotations

import itertools

import pytest

from pidec_tui.manager.joblog import JobLog
from pidec_tui.manager.jobs import MOVES, IllegalMove, JobState, check_move
from pidec_tui.manager.manager import Manager

# Written out a second time on purpose: the picture in the design, arrow by arrow.
ARROWS = {
    "held": "queued cancelled",
    "queued": "held starting cancelled",
    "starting": "running stopping failed interrupted queued",
    "running": "stopping succeeded failed interrupted",
    "stopping": "cancelled succeeded",
    "interrupted": "queued held failed",
    "succeeded": "",
    "failed": "queued",
    "cancelled": "queued",
}


@pytest.mark.parametrize(("old", "new"), itertools.product(JobState, JobState))
def test_only_the_arrows_of_the_picture_are_moves(old: JobState, new: JobState) -> None:
    """Lost without it: a finished job that a late writer brings back to life, and that runs twice."""
    if new.value in ARROWS[old.value].split():
        check_move(1, old, new)
    else:
        with pytest.raises(IllegalMove, match=f"job 1 is {old}, it cannot become {new}"):
            check_move(1, old, new)


@pytest.mark.parametrize(
    ("old", "new"), [(old, new) for old, new in itertools.product(JobState, JobState) if new not in MOVES[old]]
)
def test_the_job_log_refuses_illegal_moves_and_stays_as_it_was(manager: Manager, old: JobState, new: JobState) -> None:
    """Lost without it: a table that is right and a database that does not ask it."""
    job = manager.add("command", {"command": "true"})
    log = JobLog(manager.places.db)
    with log.write():
        log.set_state(job.id, old)
    with pytest.raises(IllegalMove), log.write():
        log.update_job(job.id, reason="half of a transaction")
        log.move(job.id, new)
    assert manager.job(job.id).state is old
    assert manager.job(job.id).reason == ""
    log.close()


def test_finished_active_waiting_split_the_states() -> None:
    """Lost without it: a state that no list of the dashboard shows."""
    for state in JobState:
        kinds = [state.finished, state.active, state.waiting, state is JobState.interrupted]
        assert sum(kinds) == 1, state
