"""Drawing states: against the simulator, against geometry, and whatever is in a file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

import pidec_train
from pidec_tui.charts.chart import as_text
from pidec_tui.motion.draw import LOOKS, Picture, draw, rotation
from pidec_tui.motion.tasks import ABOVE_X, FINGERS, SIDE_X, Box, Hole, Task, Thing, known_tasks, task_of

DEMOS = Path(pidec_train.__file__).parent / "assets" / "PushCube-v1.h5"
BUILT: dict[str, tuple[tuple[str, int], ...]] = {  # columns by the simulator's names, in the order of `things`
    "PushCube-v1": (("goal_pos", 3), ("obj_pose", 7)),
    "PullCube-v1": (("goal_pos", 3), ("obj_pose", 7)),
    "PickCube-v1": (("goal_pos", 3), ("obj_pose", 7)),
    "StackCube-v1": (("cubeB_pose", 7), ("cubeA_pose", 7)),
    "LiftPegUpright-v1": (("obj_pose", 7),),
    "PegInsertionSide-v1": (("box_hole_pose", 7), ("peg_pose", 7)),
    "PlugCharger-v1": (("receptacle_pose", 7), ("goal_pose", 7), ("charger_pose", 7)),
}


def demo() -> np.ndarray:
    with h5py.File(DEMOS) as file:
        return np.asarray(file["traj_0"]["obs"], dtype=float)


@pytest.fixture(scope="module")
def push() -> Iterator[tuple[Task, np.ndarray]]:
    frames = demo()
    yield task_of("PushCube-v1", frames.tolist()), frames


def spots(picture: Picture, look: str) -> np.ndarray:
    """(n, 2) row and column of the cells that show it."""
    return np.argwhere(picture.looks == LOOKS.index(look))


@pytest.mark.sim
@pytest.mark.parametrize("env_id", known_tasks())
def test_the_columns_are_those_of_the_simulator(env_id: str) -> None:
    """Lost: a picture of something else, when ManiSkill changes what it observes."""
    from pidec_train.envs.make import make_maniskill_env

    env = make_maniskill_env(env_id, control_mode="pd_ee_delta_pose", obs_mode="state_dict")
    try:
        observed, _ = env.reset(seed=5)
    finally:
        env.close()
    at, columns = 0, {}
    for group in observed.values():
        for name, values in group.items():
            columns[name] = at
            at += int(np.prod(np.asarray(values).shape[1:]))
    task = task_of(env_id, [[0.0] * at])
    assert task.things and task.obs_dim == at and task.tcp == columns["tcp_pose"]
    assert columns["qpos"] + 7 == FINGERS
    assert [thing.column for thing in task.things] == [columns[name] for name, _ in BUILT[env_id]]
    assert [thing.turns for thing in task.things] == [size == 7 for _, size in BUILT[env_id]]
    for thing in task.things:
        for shape in thing.shapes:
            if isinstance(shape, Hole):
                assert (shape.radius, shape.depth) == (columns["box_hole_radius"], columns["peg_half_size"])
            if isinstance(shape, Box) and isinstance(shape.half, int):
                assert shape.half == columns["peg_half_size"]


def test_a_demo_is_a_gripper_that_pushes_a_cube_to_a_goal(push: tuple[Task, np.ndarray]) -> None:
    """Lost: what the viewer is for."""
    task, frames = push
    first, last = (draw(task, frames, at, ABOVE_X, 76, 20) for at in (0, len(frames) - 1))
    goal, cubes = spots(first, "goal")[:, 1], [spots(each, "object")[:, 1] for each in (first, last)]
    assert cubes[0].max() < goal.min() and goal.min() < cubes[1].mean() < goal.max()
    assert spots(last, "gripper")[:, 1].min() < cubes[1].min(), "the gripper stands behind what it pushed"
    assert len(spots(last, "trail")) and not len(spots(first, "trail"))
    side = draw(task, frames, 0, SIDE_X, 76, 20)
    assert spots(side, "gripper")[:, 0].max() < spots(side, "object")[:, 0].min(), "it begins above the cube"
    assert "".join(as_text(side.rows()).split()), "something is drawn"


def test_the_gripper_opens_and_closes(push: tuple[Task, np.ndarray]) -> None:
    """Lost: whether it has hold of the thing."""
    task, frames = push
    wide, closed = frames[:1].copy(), frames[:1].copy()
    wide[0, 7:9], closed[0, 7:9] = 0.04, 0.0
    rows = [np.ptp(spots(draw(task, state, 0, ABOVE_X, 120, 40), "gripper")[:, 0]) for state in (wide, closed)]
    cells = [len(spots(draw(task, state, 0, ABOVE_X, 120, 40), "gripper")) for state in (wide, closed)]
    assert rows[0] >= rows[1] and cells[0] != cells[1]


@pytest.mark.parametrize("turn", [0.0, 0.5, 1.2, math.pi / 2])
def test_a_turned_box_is_where_geometry_says(turn: float) -> None:
    """Lost: a peg that points elsewhere than the robot holds it."""
    thing = Thing("peg", "object", 0, (Box((0.2, 0.02, 0.02), filled=True),))
    task = Task(7, None, (thing,), ((-0.25, 0.25), (-0.25, 0.25), (0.0, 0.1)))
    state = np.array([[0.0, 0.0, 0.05, math.cos(turn / 2), 0.0, 0.0, math.sin(turn / 2)]])
    picture = draw(task, state, 0, ABOVE_X, 100, 50)
    rows, columns = spots(picture, "object").T
    x, y = (columns + 0.5) / 100 - 0.5, 0.5 - (rows + 0.5) / 50
    x, y = x / 2, y / 2  # metres: the window is half a metre wide
    along, across = x * math.cos(turn) + y * math.sin(turn), -x * math.sin(turn) + y * math.cos(turn)
    assert abs(along).max() == pytest.approx(0.2, abs=0.012) and abs(across).max() < 0.032
    assert len(rows) * 0.005 * 0.01 == pytest.approx(0.4 * 0.04, rel=0.45), "filled, no more and no less"


def test_rotation_is_the_quaternions() -> None:
    """Lost: everything that turns."""
    rng = np.random.default_rng(0)
    for q in rng.normal(size=(20, 4)):
        w, axis = q[0], q[1:]
        vector, matrix = rng.normal(size=3), rotation(q)
        turned = vector + 2 * np.cross(axis, np.cross(axis, vector) + w * vector) / (q @ q)
        assert np.allclose(matrix @ vector, turned) and np.isclose(np.linalg.det(matrix), 1)
    assert np.allclose(rotation(np.zeros(4)), np.eye(3))


def test_what_changed_is_all_that_differs(push: tuple[Task, np.ndarray]) -> None:
    """Lost: half a gripper that stays behind, or a slow line that gets the whole screen each time."""
    task, frames = push
    before, after = (draw(task, frames, at, ABOVE_X, 76, 20) for at in (30, 31))
    assert after.changed(after) is None
    found = after.changed(before)
    assert found is not None
    left, top, width, height = found
    merged = before.cells.copy()
    merged[top : top + height, left : left + width] = after.cells[top : top + height, left : left + width]
    assert np.array_equal(merged, after.cells) and width * height < 76 * 20 / 3


@pytest.mark.parametrize("value", [0.0, 1e9, -1e300, 1e-300])
@pytest.mark.parametrize("env_id", known_tasks())
def test_no_state_is_too_strange(env_id: str, value: float) -> None:
    """Lost: the dashboard, by a simulation that blew up."""
    sizes = {35, 42, 48, 32, 43, 46}
    task = next(found for size in sizes if (found := task_of(env_id, [[value] * size])).things)
    for view in task.views:
        for width, height in ((76, 20), (3, 1), (1, 1)):
            picture = draw(task, np.full((3, task.obs_dim), value), 2, view, width, height)
            assert picture.cells.shape == (height, width) and all(
                sum(len(span.text) for span in row) == width for row in picture.rows()
            )


def test_an_unknown_task_shows_the_gripper_or_says_how_to_add_one() -> None:
    """Lost: a black screen for every task of one's own."""
    frames = demo()
    task = task_of("Mine-v1", frames.tolist())
    assert task.tcp == 18 and not task.things and "gripper alone" in task.note and "motion/tasks.py" in task.note
    assert len(spots(draw(task, frames, 30, task.views[0], 60, 15), "gripper"))
    assert task_of("PushCube-v1", frames[:, :30].tolist()).note, "another length is another task"
    bare = task_of("Mine-v1", [[0.0] * 25])
    assert bare.tcp is None and "no drawing for this task yet" in bare.note
