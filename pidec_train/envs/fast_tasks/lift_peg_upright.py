"""LiftPegUpright-v1: stand a lying peg on its end.

State, 32 numbers: qpos 9, qvel 9, tcp_pose 7, obj_pose 7 (`LiftPegUprightEnv._get_obs_extra`).
"""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from .base import FastTask, Panda

_TILT, _GAP = 0.08, 0.005  # radians, metres


class LiftPegUpright(FastTask):
    env_id = "LiftPegUpright-v1"

    def __init__(self, env: Any) -> None:
        self._peg = env.peg._objs[0]
        self._half_length = env.peg_half_length

    def look(self, panda: Panda) -> tuple[list[NDArray[Any]], bool]:
        """Success: the last of the peg's Euler angles (XYZ) is a right one, and its end is on the table."""
        peg = self._peg.pose
        position, turn = peg.p, peg.q
        w, x, y, z = turn.tolist()
        angle = math.atan2(2 * (w * z - x * y), 1 - 2 * (y * y + z * z))
        upright = abs(abs(angle) - math.pi / 2) < _TILT
        return [panda.tcp_p, panda.tcp_q, position, turn], upright and abs(
            position.tolist()[2] - self._half_length
        ) < _GAP
