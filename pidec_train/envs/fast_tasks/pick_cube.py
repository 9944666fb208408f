"""PickCube-v1: bring a cube of 4 cm to a point in the air and hold it there.

State, 42 numbers: qpos 9, qvel 9, is_grasped 1, tcp_pose 7, goal_pos 3, obj_pose 7, tcp_to_obj_pos 3, obj_to_goal_pos 3
(`PickCubeEnv._get_obs_extra`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import FastTask, Panda
from .grasp import Grasp

_STILL = 0.2  # radians per second, of every joint of the arm


class PickCube(FastTask):
    env_id = "PickCube-v1"

    def __init__(self, env: Any) -> None:
        self._cube = env.cube._objs[0]
        self._goal = env.goal_site.pose.p[0].numpy()
        self._reach = env.goal_thresh
        self._grasp = Grasp(env, env.cube)

    def look(self, panda: Panda) -> tuple[list[NDArray[Any]], bool]:
        """Success: the cube's centre is within the goal's radius, and the arm stands still."""
        cube = self._cube.pose
        position = cube.p
        to_goal = self._goal - position
        success = math.hypot(*to_goal.tolist()) <= self._reach and bool((np.abs(panda.qvel[:-2]) <= _STILL).all())
        grasped = np.array([self._grasp.holds()], np.float32)
        return [
            grasped,
            panda.tcp_p,
            panda.tcp_q,
            self._goal,
            position,
            cube.q,
            position - panda.tcp_p,
            to_goal,
        ], success
