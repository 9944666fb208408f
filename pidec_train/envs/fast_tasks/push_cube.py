"""PushCube-v1: push a cube of 4 cm into a disc of 10 cm radius on the table.

State, 35 numbers: qpos 9, qvel 9, tcp_pose 7, goal_pos 3, obj_pose 7 (`PushCubeEnv._get_obs_extra`).
"""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from .base import FastTask, Panda


class PushCube(FastTask):
    env_id = "PushCube-v1"

    def __init__(self, env: Any) -> None:
        self._cube = env.obj._objs[0]
        self._goal = env.goal_region.pose.p[0].numpy()
        self._radius, self._height = env.goal_radius, env.cube_half_size + 5e-3

    def look(self, panda: Panda) -> tuple[list[NDArray[Any]], bool]:
        """Success: the cube's centre is less than the disc's radius from the disc's, and the cube not lifted."""
        cube = self._cube.pose
        position = cube.p
        x, y, z = position.tolist()
        goal_x, goal_y, _ = self._goal.tolist()
        placed = math.hypot(x - goal_x, y - goal_y) < self._radius and z < self._height
        return [panda.tcp_p, panda.tcp_q, self._goal, position, cube.q], placed
