"""Training windows: which rows of the demos each sample is made of, worked out once.

All demos lie in one table, one behind the other. A demo of L actions takes L+1 rows: its L+1 observations, and its L
actions followed by one padding row. So one index (windows, pred_horizon) serves both: a window's actions are all of
its rows, its observations the first obs_horizon. A batch is then a gather, whatever its size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..protocol.errors import PidecError
from .trajectories import Demos

ABSOLUTE_MODES = ("pd_joint_pos",)
VELOCITY_MODES = ("base_pd_joint_vel_arm_pd_joint_vel",)
# End-effector controllers whose action is the arm alone (a robot without a gripper has no more numbers than these).
_ARM_ALONE = {"pos": 3, "pose": 6}


def padding_action(control_mode: str, last: NDArray[np.float32]) -> NDArray[np.float32]:
    """The action that holds still after the last one, (act_dim,).

    Delta and velocity modes: arm 0, the gripper (last number) keeps its value. Absolute modes: the last action.

    Raises:
        PidecError: for a control mode of which we do not know how to hold still.
    """
    if control_mode in ABSOLUTE_MODES:
        return last.copy()
    if "delta_pos" not in control_mode and control_mode not in VELOCITY_MODES:
        known = ", ".join(("*delta_pos", "*delta_pose", *VELOCITY_MODES, *ABSOLUTE_MODES))
        raise PidecError(f"control_mode {control_mode} is not supported: how to hold still is known for {known}")
    still = np.zeros_like(last)
    if not (control_mode.startswith("pd_ee_") and _ARM_ALONE.get(control_mode.rsplit("_", 1)[1]) == len(last)):
        still[-1] = last[-1]
    return still


@dataclass(frozen=True)
class Windows:
    """All windows of some demos.

    Attributes:
        observations: (rows, obs_dim).
        actions: (rows, act_dim); every demo's last row is its padding.
        padding: (rows,) bool, True at the padding rows of `actions`.
        index: (windows, pred_horizon) rows of each window.
        obs_horizon: how many of them have their observation seen.
    """

    observations: Tensor
    actions: Tensor
    padding: Tensor
    index: Tensor
    obs_horizon: int

    def __len__(self) -> int:
        return len(self.index)

    def gather(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Observations (B, obs_horizon, obs_dim) and actions (B, pred_horizon, act_dim) of windows `chosen` (B,)."""
        rows = self.index.index_select(0, chosen)
        seen = rows[:, : self.obs_horizon]
        return (
            self.observations.index_select(0, seen.flatten()).view(*seen.shape, -1),
            self.actions.index_select(0, rows.flatten()).view(*rows.shape, -1),
        )

    def mapped(self, observations: Callable[[Tensor], Tensor], actions: Callable[[Tensor], Tensor]) -> Windows:
        """With both tables passed through a function (normalisation: after padding, which is in raw units)."""
        return replace(self, observations=observations(self.observations), actions=actions(self.actions))

    def to(self, device: torch.device) -> Windows:
        return replace(
            self,
            observations=self.observations.to(device),
            actions=self.actions.to(device),
            padding=self.padding.to(device),
            index=self.index.to(device),
        )

    def fingerprint(self) -> str:
        """sha256 of tables and index: two runs with the same one learn from the same windows."""
        digest = hashlib.sha256()
        for tensor in (self.observations, self.actions, self.index):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def build_windows(demos: Demos, *, obs_horizon: int, pred_horizon: int) -> Windows:
    """The windows that upstream cuts: starts from -(obs_horizon-1) to L - obs_horizon - 1, L - 1 of them per demo.

    Before the start the first row repeats; past the end comes the padding action.

    Raises:
        PidecError: unknown control mode, or demos too short for a single window.
    """
    observations, actions, padding, index = [], [], [], []
    base = 0
    for obs, acts in zip(demos.observations, demos.actions, strict=True):
        length = len(acts)
        observations.append(obs)
        actions.append(np.vstack([acts, padding_action(demos.control_mode, acts[-1])[None]]))
        padding.append(np.arange(length + 1) == length)
        starts = np.arange(-(obs_horizon - 1), length - obs_horizon)
        times = starts[:, None] + np.arange(pred_horizon)[None, :]
        index.append(base + np.clip(times, 0, length))
        base += length + 1
    rows = np.concatenate(index)
    if not len(rows):
        raise PidecError(f"{demos.path}: every demo is shorter than 2 actions, too short for a window")
    return Windows(
        observations=torch.from_numpy(np.concatenate(observations)),
        actions=torch.from_numpy(np.concatenate(actions).astype(np.float32)),
        padding=torch.from_numpy(np.concatenate(padding)),
        index=torch.from_numpy(rows.astype(np.int64)),
        obs_horizon=obs_horizon,
    )


class Batches:
    """An endless stream of batches: a new permutation per epoch, without replacement, the incomplete rest dropped.

    A batch larger than the number of windows is drawn from as many permutations as it takes, so that no window
    comes up more than once more often than another (upstream would wait for ever). Permutations are drawn on the
    generator's device.
    """

    def __init__(self, windows: Windows, batch_size: int, generator: torch.Generator) -> None:
        self.windows = windows
        self.batch_size = batch_size
        self._generator = generator
        self._permutations = -(-batch_size // len(windows))
        self._position = 0
        self._shuffle()

    @property
    def oversampled(self) -> bool:
        """Whether one batch is larger than all windows together."""
        return self.batch_size > len(self.windows)

    def choose(self, out: Tensor) -> None:
        """Write the windows of the next batches into `out` (batches, batch_size), int64; see `Windows.gather`."""
        filled = 0
        while filled < len(out):
            left = (len(self._order) - self._position) // self.batch_size  # whole batches of this epoch
            if not left:
                self._shuffle()
                continue
            taken = min(left, len(out) - filled)
            end = self._position + taken * self.batch_size
            out[filled : filled + taken].view(-1).copy_(self._order[self._position : end])
            self._position, filled = end, filled + taken

    def state(self) -> dict[str, Any]:
        """The generator as it was before this epoch's permutation, and how far the epoch has come."""
        return {"generator": self._before, "position": self._position}

    def restore(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["generator"])
        self._shuffle()
        self._position = state["position"]

    def _shuffle(self) -> None:
        self._before = self._generator.get_state()
        orders = [
            torch.randperm(len(self.windows), generator=self._generator, device=self._generator.device)
            for _ in range(self._permutations)
        ]
        self._order = torch.cat(orders)
        self._position = 0
