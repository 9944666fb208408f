"""Episodes kept for watching: what an evaluation saw, as states. Written by trainers, drawn by the dashboard.

`step-000010000.episodes.json` lies beside the checkpoint of that step and goes with it; `base.episodes.json` in a
decorator's checkpoint folder holds the base policy's on the same starts and stays. `episodes.json` in a run folder is
from an `evaluate` command.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .rundir import write_atomic

BASE_EPISODES = "base.episodes.json"
RUN_EPISODES = "episodes.json"  # in the run folder of an evaluation
_SUFFIX = ".episodes.json"
MAX_BYTES = 64 << 20  # of a file that is read: an honest one has some hundred kilobytes


class Episode(BaseModel):
    """One episode.

    Attributes:
        seed: that it started from.
        success: whether it succeeded; an episode ends there.
        frames: (length + 1, obs_dim) raw state observations, the start's first; metres, radians, quaternions (w first).
    """

    model_config = ConfigDict(extra="ignore")

    seed: int
    success: bool
    frames: list[list[float]] = Field(min_length=1)

    @property
    def length(self) -> int:
        """Env steps."""
        return len(self.frames) - 1


class EpisodeFile(BaseModel):
    """The episodes that one evaluation kept, in the order of their seeds.

    Attributes:
        policy: "diffusion" (a base policy by itself) or "decorator" (base and residual).
        step: of the checkpoint.
    """

    model_config = ConfigDict(extra="ignore")

    env_id: str
    control_mode: str
    policy: str
    step: int
    episodes: list[Episode]


def episodes_file(checkpoint: Path) -> Path:
    """Where the episodes of this checkpoint's evaluation lie, if there are any."""
    return checkpoint.with_name(checkpoint.stem + _SUFFIX)


def write_episodes(path: Path, file: EpisodeFile) -> None:
    """Write whole or not at all; numbers are rounded to a tenth of a millimetre (or milliradian).

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    episodes = [
        episode.model_copy(update={"frames": [[round(value, 4) for value in row] for row in episode.frames]})
        for episode in file.episodes
    ]
    write_atomic(path, file.model_copy(update={"episodes": episodes}).model_dump_json().encode())


def read_episodes(path: Path) -> EpisodeFile | None:
    """The episodes in `path`; None where there is no such file, or none that can be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        return EpisodeFile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError, ValueError):
        return None
