"""What the job log holds: jobs, attempts, metric points, events; the states of a job and its legal moves."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pidec_train.protocol.errors import PidecError

LANES = ("gpu", "cpu")


class JobState(str, Enum):
    """State of a job. `interrupted` is passed through: such a job is queued again, held or failed at once.

    Attributes:
        finished: over, until somebody retries it.
        active: an attempt of it holds a slot.
        waiting: in the queue, and free to be edited.
    """

    held = "held"
    queued = "queued"
    starting = "starting"
    running = "running"
    stopping = "stopping"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"
    interrupted = "interrupted"

    def __init__(self, value: str) -> None:  # once for each state: they are asked of a thousand jobs at every redraw
        self.finished = value in ("succeeded", "failed", "cancelled")
        self.active = value in ("starting", "running", "stopping")
        self.waiting = value in ("held", "queued")

    def __str__(self) -> str:
        return self.value


_S = JobState
MOVES: dict[JobState, frozenset[JobState]] = {
    _S.held: frozenset({_S.queued, _S.cancelled}),
    _S.queued: frozenset({_S.held, _S.starting, _S.cancelled}),
    # back to queued: the launch was given up before the trainer existed
    _S.starting: frozenset({_S.running, _S.stopping, _S.failed, _S.interrupted, _S.queued}),
    _S.running: frozenset({_S.stopping, _S.succeeded, _S.failed, _S.interrupted}),
    _S.stopping: frozenset({_S.cancelled, _S.succeeded}),
    _S.interrupted: frozenset({_S.queued, _S.held, _S.failed}),
    _S.succeeded: frozenset(),
    _S.failed: frozenset({_S.queued}),
    _S.cancelled: frozenset({_S.queued}),
}
# By an extension only (`retry --extend-to`): whatever else brings back a job that is done is a mistake.
EXTENSION = (_S.succeeded, _S.queued)


class IllegalMove(PidecError):
    """A job cannot go from the state it is in to the state asked for."""


def check_move(job_id: int, old: JobState, new: JobState, *, extends: bool = False) -> None:
    """Raise `IllegalMove` unless a job may go from `old` to `new`; `extends`: to go on past its old end."""
    if new not in MOVES[old] and not (extends and (old, new) == EXTENSION):
        allowed = ", ".join(sorted(state.value for state in MOVES[old])) or "nothing: it is over"
        raise IllegalMove(f"job {job_id} is {old}, it cannot become {new}", f"From here it can become: {allowed}")


@dataclass(frozen=True)
class Attempt:
    """One execution of a job.

    Attributes:
        state: a JobState's value; `running` while nobody knows how it ended.
        started, ended: unix seconds.
        pid: process id of the trainer, and of its process group.
        gpu: UUID of the GPU it is pinned to, "no-gpu" for the slot in its stead, None in the cpu lane.
        cause: how it ended, a short sentence.
        resumed_step: step of the checkpoint that it went on from.
    """

    number: int
    state: str
    started: float
    ended: float | None = None
    pid: int | None = None
    gpu: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    cause: str = ""
    resumed_step: int | None = None


@dataclass(frozen=True)
class Job:
    """One row of the queue, with its attempts, oldest first.

    Attributes:
        config: the resolved config; the keys of the kind's config model.
        position: lower goes first among those that wait.
        waiting_for: why a queued job does not start, a sentence; "" if it waits for nothing.
        reason: why it is held, failed or cancelled, a sentence; "" if there is none.
        step, total_steps, step_name: progress, as the trainer tells it.
        group_name: of the jobs that were queued as one (a sweep); "" for a job by itself.
    """

    id: int
    kind: str
    name: str
    state: JobState
    lane: str
    config: dict[str, Any]
    preset: str | None
    after: tuple[int, ...]
    position: float
    waiting_for: str
    reason: str
    created: float
    started: float | None
    ended: float | None
    step: int | None
    total_steps: int | None
    step_name: str
    group_name: str = ""
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True)
class MetricPoint:
    """One value of one metric. `value` is None where the trainer had NaN or infinity."""

    row_id: int
    attempt: int
    seq: int
    step: int
    time: float
    name: str
    value: float | None


@dataclass(frozen=True)
class MetricBlock:
    """Lines of one attempt that name the same metrics, in the order of their arrival: curves without an object a point.

    Attributes:
        last_row: the highest row id among them.
        steps, times: (N,) doubles; times in unix seconds.
        columns: (N,) values by metric; NaN where the trainer had NaN or infinity.
    """

    attempt: int
    last_row: int
    steps: array[float]
    times: array[float]
    columns: dict[str, array[float]]


@dataclass(frozen=True)
class JobEvent:
    """An event of an attempt: start, checkpoint, eval, warning, end. Those of the runner have a negative `seq`."""

    row_id: int
    attempt: int
    seq: int
    step: int | None
    time: float
    event: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class Alert:
    """Something about a job that somebody should know. `kind` is one of those in `alerts`; `time` in unix seconds."""

    row_id: int
    job_id: int
    time: float
    kind: str
    message: str
