"""Demonstrations in memory. Needs numpy alone: what reads files is in `demos`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..protocol.errors import PidecError


@dataclass(frozen=True)
class Demos:
    """Trajectories in the file's numeric order.

    Attributes:
        path: the .h5 file.
        env_id, control_mode: what the .json says they were recorded with.
        observations: one (L+1, obs_dim) float32 array per demo.
        actions: one (L, act_dim) float32 array per demo.
    """

    path: Path
    env_id: str
    control_mode: str
    observations: list[NDArray[np.float32]]
    actions: list[NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def obs_dim(self) -> int:
        return self.observations[0].shape[1]

    @property
    def act_dim(self) -> int:
        return self.actions[0].shape[1]

    @property
    def transitions(self) -> int:
        return sum(len(actions) for actions in self.actions)

    def require(self, *, env_id: str, control_mode: str) -> None:
        """Raises:
        PidecError: the demos were recorded for another task or controller than the one asked for.
        """
        if self.env_id != env_id:
            raise PidecError(
                f"{self.path} holds demos of {self.env_id}, not of env_id {env_id}",
                f"Use --env-id {self.env_id}, or other demos.",
            )
        if self.control_mode != control_mode:
            raise PidecError(
                f"{self.path} was recorded with control mode {self.control_mode}, not control_mode {control_mode}",
                f"Use --control-mode {self.control_mode}, or replay it: {replay_command(self.path, control_mode)}",
            )


def replay_command(file: Path, control_mode: str) -> str:
    """ManiSkill's command that adds state observations (and changes the controller), with or without a renderer."""
    return (
        "python -m pidec_train.envs.headless mani_skill.trajectory.replay_trajectory "
        f"--traj-path {shlex.quote(str(file))} -c {control_mode} -o state -b physx_cpu --save-traj"
    )
