"""What each task looks like: which columns of a state hold what, its shape and size, and where to look from. No numpy.

A state of ManiSkill's Panda tasks (`obs_mode="state"`) is joint positions (9, the last two are the fingers'), joint
velocities (9) and then what the task's `_get_obs_extra` gives, in its order; poses are x, y, z and a quaternion, w
first. World axes: x away from the robot, which stands at x = -0.615, y to its left, z up from the table; metres.

To draw another task, add an entry to `_TASKS`: print `make_maniskill_env(ID, control_mode=…, obs_mode="state_dict")`'s
first observation to find the columns, and take the sizes from the task's source. `tests/tui/test_motion.py` holds each
entry against the simulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Vector = tuple[float, float, float]
Look = Literal["object", "other", "goal"]
FINGERS = 7  # column of the first of the two finger joints: metres from the middle
CONTROL_HZ = 20  # states per second


@dataclass(frozen=True)
class Box:
    """Half sizes (or the column where they begin), and where its middle lies in the thing's frame."""

    half: Vector | int
    at: Vector = (0.0, 0.0, 0.0)
    filled: bool = False


@dataclass(frozen=True)
class Disc:
    """Flat on the table."""

    radius: float


@dataclass(frozen=True)
class Sphere:
    radius: float


@dataclass(frozen=True)
class Hole:
    """Along the thing's x axis, cut open: two of the walls around it. Columns of its radius and of half its depth."""

    radius: int
    depth: int
    wall: float


Shape = Box | Disc | Sphere | Hole


@dataclass(frozen=True)
class Thing:
    """Something in the scene.

    Attributes:
        name: for the legend.
        look: "goal" is dotted; "other" is what the object goes to or onto.
        column: where its position begins, and if it `turns`, behind that its quaternion.
    """

    name: str
    look: Look
    column: int
    shapes: tuple[Shape, ...]
    turns: bool = True


@dataclass(frozen=True)
class View:
    """A direction to look from: which world axis points right and which up on the screen, and whether backwards."""

    name: str
    right: tuple[int, int]
    up: tuple[int, int]


# The long side of a terminal shows the axis along which the task mostly moves.
ABOVE_X = View("from above", (0, 1), (1, 1))
SIDE_X = View("from the side", (0, 1), (2, 1))
ABOVE_Y = View("from above", (1, 1), (0, -1))
SIDE_Y = View("from the side", (1, 1), (2, 1))


@dataclass(frozen=True)
class Task:
    """How to draw a task.

    Attributes:
        obs_dim: length of a state; another length is another task.
        tcp: column of the pose of the point between the fingertips; None: nothing to draw.
        window: what the views show of x, y and z, metres.
        note: what to say beside the drawing.
    """

    obs_dim: int
    tcp: int | None
    things: tuple[Thing, ...]
    window: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    views: tuple[View, View] = (ABOVE_X, SIDE_X)
    note: str = ""


_CUBE = (Box((0.02, 0.02, 0.02)),)
_TWO_COLOURED = (Box(32), Box((0.03, 0.012, 0.012), at=(0.05, 0.0, 0.0), filled=True))
_CHARGER = (
    Box((0.02, 0.015, 0.012), at=(-0.02, 0.0, 0.0)),
    Box((0.008, 0.002, 0.0032), at=(0.008, 0.007, 0.0), filled=True),
    Box((0.008, 0.002, 0.0032), at=(0.008, -0.007, 0.0), filled=True),
)

_TASKS: dict[str, Task] = {
    "PushCube-v1": Task(
        35,
        18,
        (Thing("goal", "goal", 25, (Disc(0.1),), turns=False), Thing("cube", "object", 28, _CUBE)),
        ((-0.20, 0.40), (-0.20, 0.20), (-0.01, 0.27)),
    ),
    "PullCube-v1": Task(
        35,
        18,
        (Thing("goal", "goal", 25, (Disc(0.1),), turns=False), Thing("cube", "object", 28, _CUBE)),
        ((-0.42, 0.20), (-0.20, 0.20), (-0.01, 0.27)),
    ),
    "PickCube-v1": Task(
        42,
        19,
        (Thing("goal", "goal", 26, (Sphere(0.025),), turns=False), Thing("cube", "object", 29, _CUBE)),
        ((-0.20, 0.20), (-0.16, 0.16), (-0.01, 0.38)),
    ),
    "StackCube-v1": Task(
        48,
        18,
        (Thing("cube below", "other", 32, _CUBE), Thing("cube", "object", 25, _CUBE)),
        ((-0.20, 0.20), (-0.30, 0.30), (-0.01, 0.27)),
        (ABOVE_Y, SIDE_Y),
    ),
    "LiftPegUpright-v1": Task(
        32,
        18,
        (Thing("peg", "object", 25, (Box((0.12, 0.025, 0.025)),)),),
        ((-0.25, 0.25), (-0.18, 0.18), (-0.01, 0.40)),
    ),
    "PegInsertionSide-v1": Task(
        43,
        18,
        (
            Thing("hole", "other", 35, (Hole(radius=42, depth=32, wall=0.03),)),
            Thing("peg, its head filled", "object", 25, _TWO_COLOURED),
        ),
        ((-0.20, 0.20), (-0.40, 0.50), (-0.01, 0.29)),
        (ABOVE_Y, SIDE_Y),
    ),
    "PlugCharger-v1": Task(
        46,
        18,
        (
            Thing("receptacle", "other", 32, (Box((0.01, 0.05, 0.05), at=(-0.01, 0.0, 0.0)),)),
            Thing("goal", "goal", 39, (Box((0.02, 0.015, 0.012), at=(-0.02, 0.0, 0.0)),)),
            Thing("charger", "object", 25, _CHARGER),
        ),
        ((-0.19, 0.17), (-0.20, 0.20), (-0.01, 0.26)),
    ),
}
_HOW = "pidec_tui/motion/tasks.py says how to add one"


def known_tasks() -> tuple[str, ...]:
    """Ids of the tasks that have a drawing."""
    return tuple(_TASKS)


def task_of(env_id: str, frames: Sequence[Sequence[float]]) -> Task:
    """How to draw these states: the task's entry; else the gripper alone, where a Panda's can be told; else nothing.

    Args:
        frames: (length, obs_dim) states.
    """
    known = _TASKS.get(env_id)
    if known is not None and known.obs_dim == len(frames[0]):
        return known
    columns = len(frames[0])
    if columns >= 25 and all(_is_pose(row[18:25]) for row in frames):
        note = f"no drawing of {env_id} with {columns} numbers yet, the gripper alone: {_HOW}"
        return Task(columns, 18, (), _around(frames, 18), note=note)
    return Task(columns, None, (), ((0, 1), (0, 1), (0, 1)), note=f"no drawing for this task yet ({env_id}): {_HOW}")


def _is_pose(row: Sequence[float]) -> bool:
    """Whether seven numbers can be the pose of a gripper over a table."""
    near = all(abs(value) < 1.5 for value in row[:3])
    return near and abs(sum(value * value for value in row[3:]) - 1) < 0.02


def _around(
    frames: Sequence[Sequence[float]], column: int
) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    """Windows that hold a point's whole way, with 15 cm on every side."""
    ways = [[row[column + axis] for row in frames] for axis in range(3)]
    x, y, z = ((min(way) - 0.15, max(way) + 0.15) for way in ways)
    return x, y, z
