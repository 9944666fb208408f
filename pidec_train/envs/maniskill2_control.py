"""ManiSkill2's end-effector controllers, as further control modes of the Panda: `pd_ee_delta_pose_ms2` and its like.

ManiSkill3 kept the names and changed the meaning: a policy that was trained on ManiSkill2 would move the arm in wrong
directions with ManiSkill3's `pd_ee_delta_pose`.

| one action | ManiSkill2 0.5.3 (`controllers/pd_ee_pose.py`, frame "ee") | ManiSkill3 3.0.1 |
|---|---|---|
| translation | along the gripper's own axes | along the axes of the robot's base |
| rotation | axis and angle, about the gripper's own axes | Euler angles, about the base's, with the sign reversed |

Limits (0.1 m, 0.1 rad a step, the rotation clipped by its norm), gains, gripper and inverse kinematics are the same.
Import this module after `headless.prepare()`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from mani_skill.agents.controllers.pd_ee_pose import PDEEPoseController, PDEEPoseControllerConfig
from mani_skill.agents.robots.panda import Panda
from mani_skill.utils import gym_utils
from mani_skill.utils.geometry.rotation_conversions import (
    axis_angle_to_matrix,
    matrix_to_quaternion,
    quaternion_apply,
    quaternion_multiply,
)
from mani_skill.utils.structs import Pose
from torch import Tensor

from ..maniskill2 import MANISKILL2_MODES


class ManiSkill2PoseController(PDEEPoseController):  # type: ignore[misc]
    """target = current pose of the gripper · (translation, rotation vector), both scaled to metres and radians."""

    def _clip_and_scale_action(self, action: Tensor) -> Tensor:
        """(B, 6) within [-1, 1] to metres and radians."""
        metres = gym_utils.clip_and_scale_action(action[:, :3], self.action_space_low[:3], self.action_space_high[:3])
        turn = action[:, 3:]
        norm = torch.linalg.norm(turn, dim=1, keepdim=True)
        return torch.hstack((metres, turn / norm.clamp(min=1) * self.config.rot_upper))

    def compute_target_pose(self, prev_ee_pose_at_base: Pose, action: Tensor) -> Pose:
        """`action` as `_clip_and_scale_action` gives it."""
        before = prev_ee_pose_at_base
        turn = matrix_to_quaternion(axis_angle_to_matrix(action[:, 3:]))
        return Pose.create_from_pq(
            before.p + quaternion_apply(before.q, action[:, :3]), quaternion_multiply(before.q, turn)
        )


@dataclasses.dataclass
class ManiSkill2PoseControllerConfig(PDEEPoseControllerConfig):  # type: ignore[misc]
    controller_cls: type = ManiSkill2PoseController


def _of_maniskill2(arm: Any) -> Any:
    """The controller config of ManiSkill2's mode from that of ManiSkill3's mode of the same name."""
    if isinstance(arm, PDEEPoseControllerConfig):
        values = {field.name: getattr(arm, field.name) for field in dataclasses.fields(arm)}
        return ManiSkill2PoseControllerConfig(**{**values, "controller_cls": ManiSkill2PoseController})
    return dataclasses.replace(arm, frame="body_translation")


_stock = Panda._controller_configs.fget


def _with_maniskill2(self: Any) -> dict[str, Any]:
    configs: dict[str, Any] = _stock(self)
    ours = {
        ms2: {**configs[mode], "arm": _of_maniskill2(configs[mode]["arm"])} for mode, ms2 in MANISKILL2_MODES.items()
    }
    return {**configs, **ours}


Panda._controller_configs = property(_with_maniskill2)
