"""What a task of the fast environment is: what it shows beside the robot, and when it is solved."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, NamedTuple

from numpy.typing import NDArray


class Panda(NamedTuple):
    """The robot after a step, float32, in metres, radians and seconds; poses in the world, quaternions (w, x, y, z)."""

    qpos: NDArray[Any]  # (9,): seven joints of the arm, two fingers
    qvel: NDArray[Any]  # (9,)
    tcp_p: NDArray[Any]  # (3,): the point between the fingertips
    tcp_q: NDArray[Any]  # (4,)


class FastTask(abc.ABC):
    """One episode's view of a task. ManiSkill builds the scene and places everything; this only reads.

    Args:
        env: ManiSkill's environment, just reset. What stays the same until the next reset is read here.
    """

    env_id: ClassVar[str]

    @abc.abstractmethod
    def __init__(self, env: Any) -> None: ...

    @abc.abstractmethod
    def look(self, panda: Panda) -> tuple[list[NDArray[Any]], bool]:
        """What ManiSkill's task adds to the state observation, in its order, and whether the state is a success."""
