"""Demonstrations of the right sizes that nobody needs to download. What they hold does not change the speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data.trajectories import Demos

OBS_DIM, ACT_DIM = 43, 7  # PegInsertionSide-v1, state observations, pd_ee_delta_pose
DEMOS, SHORTEST, LONGEST = 200, 112, 203  # steps of the planner's demos of that task


def peg_like_demos(seed: int = 0) -> Demos:
    """Random walks for observations, random arm actions in [-1, 1], a gripper that opens and closes once."""
    rng = np.random.default_rng(seed)
    observations, actions = [], []
    for length in rng.integers(SHORTEST, LONGEST + 1, DEMOS):
        walk = 0.02 * rng.standard_normal((length + 1, OBS_DIM)).cumsum(axis=0)
        observations.append(walk.astype(np.float32))
        arm = np.clip(0.3 * rng.standard_normal((length, ACT_DIM - 1)), -1, 1)
        gripper = np.where(np.arange(length) < length // 3, 1.0, -1.0)[:, None]
        actions.append(np.hstack([arm, gripper]).astype(np.float32))
    return Demos(Path("synthetic"), "PegInsertionSide-v1", "pd_ee_delta_pose", observations, actions)
