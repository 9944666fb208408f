"""Whether the Panda holds an object: `Panda.is_grasping` of ManiSkill, at its default thresholds."""

from __future__ import annotations

import math
from typing import Any

_MIN_FORCE = 0.5  # newtons, of each finger on the object
_MIN_COSINE = math.cos(math.radians(85))  # between that force and the direction in which the finger opens


class Grasp:
    """Asks sapien's contacts of the last simulation step. For one episode.

    Args:
        env: ManiSkill's environment, just reset.
        actor: one of its actors.
    """

    def __init__(self, env: Any, actor: Any) -> None:
        self._contacts, self._timestep = env.scene.px.get_contacts, env.scene.px.timestep
        self._object = actor._bodies[0]
        agent = env.agent  # the fingers open in opposite directions
        self._fingers = [(agent.finger1_link._bodies[0], 1.0), (agent.finger2_link._bodies[0], -1.0)]

    def holds(self) -> bool:
        """Both fingers press on the object, and roughly against each other."""
        touching = [contact for contact in self._contacts() if self._object in contact.bodies]
        return all(self._presses(touching, finger, opens) for finger, opens in self._fingers)

    def _presses(self, touching: list[Any], finger: Any, opens: float) -> bool:
        force = [0.0, 0.0, 0.0]
        for contact in touching:
            if finger in contact.bodies:
                sign = 1.0 if contact.bodies[0] == finger else -1.0  # impulses act on the first body
                for point in contact.points:
                    for axis, impulse in enumerate(point.impulse.tolist()):
                        force[axis] += sign * impulse / self._timestep
        size = math.hypot(*force)
        if size < _MIN_FORCE:
            return False
        w, x, y, z = finger.entity_pose.q.tolist()
        own_y = (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x))
        along = sum(part * direction for part, direction in zip(force, own_y, strict=True))
        return bool(opens * along >= _MIN_COSINE * size)
