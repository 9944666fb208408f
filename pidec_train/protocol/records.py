"""What stands in a run's files, as models that check it. `rundir` gives these, too."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class CheckpointInfo(BaseModel):
    """The `.json` beside a checkpoint: all that a list of checkpoints needs, without opening the `.pt`."""

    model_config = ConfigDict(extra="ignore")

    format_version: int = 1
    size: int = Field(ge=0, le=2**63)  # bytes of the .pt
    sha256: str
    kind: str
    step: int = Field(ge=0, le=2**63)
    created: float = Field(ge=0, le=1e11)  # unix seconds
    env_id: str | None = None
    control_mode: str | None = None
    obs_dim: int | None = None
    act_dim: int | None = None
    action_norm: str = "none"
    obs_norm: str = "none"
    successes: int | None = Field(None, ge=0, le=2**63)  # of the evaluation at this step; None: not evaluated
    episodes: int | None = Field(None, ge=0, le=2**63)
    origin: str = "pidec"
    parent_sha256: str | None = None
    config: dict[str, Any] = {}


class MetricsLine(BaseModel):
    """One line of metrics.jsonl: a row of metrics at a step, or an event.

    Events: `start` (kind, step_name, total_steps, resumed_step), `checkpoint` (step, path), `eval` (step and phase:
    "start"; "done" with successes, episodes, seconds; "skipped" with by, the newer step that was evaluated instead;
    "failed" with message), `progress` (step; where rows are rare), `warning` (message), `end` (state, reason). Readers
    pass over what they do not know. Evaluations and checkpoints finish beside the training: their lines may follow
    rows of later steps.
    """

    model_config = ConfigDict(extra="allow")

    seq: int
    time: float = 0.0
    step: int | None = None
    event: str | None = None
    metrics: dict[str, float | None] = {}

    def detail(self) -> dict[str, Any]:
        """The fields that only this kind of event has."""
        return dict(self.model_extra or {})


class ExitRecord(BaseModel):
    """exit.json: how an attempt's process ended, as its parent saw it.

    `code` is None when a signal ended it. `cause` is one short sentence ("killed by SIGKILL", "out of memory").
    """

    model_config = ConfigDict(extra="ignore")

    code: int | None
    signal: int | None = None
    cause: str = ""
    started: float = 0.0
    ended: float = 0.0


class Spec(BaseModel):
    """spec.json: all that is needed to run a job, and to rebuild its row in the job log."""

    model_config = ConfigDict(extra="ignore")

    id: int
    kind: str
    name: str
    config: dict[str, Any]
    lane: str
    after: list[int] = []
    position: float = 0.0
    held: bool = False
    retry: int = 0  # how many attempts there were when it was last retried
    fresh: bool = False  # the next attempt starts from nothing
    cancelled: bool = False
    preset: str | None = None
    group_name: str = ""  # of the jobs that were queued as one
    created: float = 0.0
    code_version: str = ""
    cwd: str = ""
    environment: dict[str, str] = {}
