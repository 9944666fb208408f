"""PegInsertionSide-v1: pick up a peg and insert it from the side into a hole with 3 mm of clearance.

State, 43 numbers: qpos 9, qvel 9, tcp_pose 7, peg_pose 7, peg_half_size 3, box_hole_pose 7, box_hole_radius 1
(`PegInsertionSideEnv._get_obs_extra`). The success test is ours, bounded on both sides (envs/fixed_tasks.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import FastTask, Panda


class PegInsertionSide(FastTask):
    env_id = "PegInsertionSide-v1"

    def __init__(self, env: Any) -> None:
        self._peg = env.peg._objs[0]
        # The box is kinematic and nothing moves it during an episode.
        hole, half_size, radius = env.box_hole_pose, env.peg_half_sizes[0], env.box_hole_radii[0]
        self._constant = np.concatenate([half_size, hole.raw_pose[0], [radius]], dtype=np.float32)
        self._axes = hole.sp.to_transformation_matrix()[:3, :3].T.tolist()  # of the hole, in the world
        self._centre = hole.p[0].tolist()
        self._head = float(env.peg_head_offsets.p[0, 0])
        self._radius, self._depth = float(radius), float(env.max_head_depth)

    def look(self, panda: Panda) -> tuple[list[NDArray[Any]], bool]:
        """Success: the peg's head is in the hole, no more than 15 mm before its centre or 75 mm beyond."""
        peg = self._peg.pose
        position, turn = peg.p, peg.q
        return [panda.tcp_p, panda.tcp_q, position, turn, self._constant], self._inserted(position, turn)

    def _inserted(self, position: NDArray[Any], turn: NDArray[Any]) -> bool:
        (px, py, pz), (w, x, y, z), (cx, cy, cz) = position.tolist(), turn.tolist(), self._centre
        # From the hole's centre to the head, which lies along the peg's own x axis.
        dx = px + self._head * (1 - 2 * (y * y + z * z)) - cx
        dy = py + self._head * 2 * (x * y + w * z) - cy
        dz = pz + self._head * 2 * (x * z - w * y) - cz
        depth, side, up = (ax * dx + ay * dy + az * dz for ax, ay, az in self._axes)
        return bool(-0.015 <= depth <= self._depth and abs(side) <= self._radius and abs(up) <= self._radius)
