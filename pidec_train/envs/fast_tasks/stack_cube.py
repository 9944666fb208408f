"""StackCube-v1: put the red cube (A) on the green one (B) and let go.

State, 48 numbers: qpos 9, qvel 9, tcp_pose 7, cubeA_pose 7, cubeB_pose 7, tcp_to_cubeA_pos 3, tcp_to_cubeB_pos 3,
cubeA_to_cubeB_pos 3 (`StackCubeEnv._get_obs_extra`).
"""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from .base import FastTask, Panda
from .grasp import Grasp

_TOLERANCE = 0.005  # metres
_STILL, _UNTURNING = 1e-2, 0.5  # metres and radians per second


class StackCube(FastTask):
    env_id = "StackCube-v1"

    def __init__(self, env: Any) -> None:
        self._upper, self._lower = env.cubeA._objs[0], env.cubeB._objs[0]
        self._body = env.cubeA._bodies[0]
        half_x, half_y, half_z = env.cube_half_size.tolist()
        self._aside, self._height = math.hypot(half_x, half_y) + _TOLERANCE, 2 * half_z
        self._grasp = Grasp(env, env.cubeA)

    def look(self, panda: Panda) -> tuple[list[NDArray[Any]], bool]:
        """Success: A lies on B, half a diagonal aside at most, does not move and is not held."""
        upper, lower = self._upper.pose, self._lower.pose
        on_top, below, tcp = upper.p, lower.p, panda.tcp_p
        x, y, z = (on_top - below).tolist()
        success = (
            math.hypot(x, y) <= self._aside
            and abs(z - self._height) <= _TOLERANCE
            and math.hypot(*self._body.linear_velocity.tolist()) <= _STILL
            and math.hypot(*self._body.angular_velocity.tolist()) <= _UNTURNING
            and not self._grasp.holds()
        )
        return [
            tcp,
            panda.tcp_q,
            on_top,
            upper.q,
            below,
            lower.q,
            on_top - tcp,
            below - tcp,
            below - on_top,
        ], success
