"""Environments as policies see them: the right task, episode length, chunks, history, and clear refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

import pidec_train.assets
from pidec_train.envs.make import check_env_id, make_env, task_info
from pidec_train.envs.wrappers import ChunkedEnv
from pidec_train.protocol.errors import PidecError, RunFailed

pytestmark = pytest.mark.sim
MODE = "pd_ee_delta_pose"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def peg() -> Iterator[ChunkedEnv]:
    env = make_env("PegInsertionSide-v1", control_mode=MODE, obs_horizon=2)
    yield env
    env.close()


@pytest.fixture(scope="module")
def push() -> Iterator[ChunkedEnv]:
    env = make_env("PushCube-v1", control_mode=MODE, obs_horizon=3)
    yield env
    env.close()


@pytest.mark.parametrize(
    ("depth", "fixed", "stock"),
    [(-0.03, False, False), (0.0, True, True), (0.07, True, True), (0.08, False, True), (0.5, False, True)],
)
def test_a_peg_beyond_the_hole_is_no_success(peg: ChunkedEnv, depth: float, fixed: bool, stock: bool) -> None:
    """ManiSkill's own test has no upper bound: a policy would be praised for a peg that lies behind the box."""
    from mani_skill.envs.tasks.tabletop.peg_insertion_side import PegInsertionSideEnv
    from mani_skill.utils.structs import Pose

    peg.reset(seed=3)
    task = peg.unwrapped
    head = Pose.create_from_pq(p=[[depth, 0.0, 0.0]])
    task.peg.set_pose(task.box_hole_pose * head * task.peg_head_offsets.inv())  # type: ignore[attr-defined]
    assert bool(task.evaluate()["success"]) is fixed  # type: ignore[attr-defined]
    assert bool(PegInsertionSideEnv.has_peg_inserted(task)[0]) is stock


def test_the_pegs_geometry_changes_with_the_seed(peg: ChunkedEnv) -> None:
    """A frozen geometry (reconfiguration_freq 0) would be a different, easier task."""
    sizes = {tuple(peg.reset(seed=seed)[0][-1, 32:35]) for seed in range(4)}
    assert len(sizes) == 4


def test_the_same_seed_gives_the_same_start_whatever_happened_before(peg: ChunkedEnv, push: ChunkedEnv) -> None:
    """Else two evaluations would meet different episodes and could not be compared."""
    for env in (peg, push):
        first, _ = env.reset(seed=17)
        env.step(np.ones((3, 7)))
        env.reset(seed=5)
        env.reset()
        again, _ = env.reset(seed=17)
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, env.reset(seed=18)[0])


def test_history_repeats_the_first_observation_then_slides(push: ChunkedEnv) -> None:
    """A policy with a wrong history sees velocities that are not there."""
    start, info = push.reset(seed=0)
    assert start.shape == (3, 35) and start.dtype == np.float32
    assert info == {"success": False, "success_at_end": False, "env_steps": 0}
    np.testing.assert_array_equal(start[0], start[2])
    after_one, *_ = push.step(np.full((1, 7), 0.5))
    np.testing.assert_array_equal(after_one[:2], start[1:])
    after_two, _, _, _, info = push.step(np.full((2, 7), 0.5))
    np.testing.assert_array_equal(after_two[0], after_one[2])
    assert info["env_steps"] == 2
    assert push.observation_space.shape == (3, 35)


def test_a_chunk_equals_its_single_steps_and_is_clipped(push: ChunkedEnv) -> None:
    """Else a residual that leaves the bounds would do something else than the controller's limit."""
    chunk = np.random.default_rng(0).uniform(-3, 3, (6, 7))
    push.reset(seed=1)
    whole, *_ = push.step(chunk)
    push.reset(seed=1)
    for action in np.clip(chunk, -1, 1):
        single, *_ = push.step(action[None])
    np.testing.assert_array_equal(whole, single)


def test_an_action_that_is_not_finite_is_refused(push: ChunkedEnv) -> None:
    """sapien would crash on it, or fly; the run must say that the policy has diverged."""
    push.reset(seed=1)
    with pytest.raises(RunFailed, match="not finite"):
        push.step(np.full((2, 7), np.nan))


def test_a_bundled_demo_ends_its_episode_with_success(push: ChunkedEnv) -> None:
    """The demos, the evaluation's starts and its success test belong together; and success ends an episode at once."""
    path = Path(pidec_train.assets.__file__).parent / "PushCube-v1.h5"
    episode = json.loads(path.with_suffix(".json").read_text())["episodes"][4]
    with h5py.File(path) as file:
        actions = file[f"traj_{episode['episode_id']}/actions"][:]
        observations = file[f"traj_{episode['episode_id']}/obs"][:]
        first_success = int(np.argmax(file[f"traj_{episode['episode_id']}/success"][:]))
    start, _ = push.reset(seed=episode["episode_seed"])
    np.testing.assert_allclose(start[-1], observations[0], atol=1e-6)
    *_, terminated, truncated, info = push.step(actions[:first_success])
    assert not terminated and not truncated and not info["success"]
    _, reward, terminated, truncated, info = push.step(actions[first_success:])
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert (info["success"], info["success_at_end"], info["env_steps"]) == (True, True, 1)
    assert info["episode_steps"] == first_success + 1 and len(info["frames"]) == 1
    with pytest.raises(RuntimeError, match="reset"):
        push.step(actions[:1])


def test_episodes_are_long_enough_to_imitate(peg: ChunkedEnv, push: ChunkedEnv) -> None:
    """ManiSkill's registered 100 and 50 steps end before the demos do."""
    assert (peg.max_episode_steps, push.max_episode_steps) == (200, 100)
    push.reset(seed=0)
    *_, truncated, info = push.step(np.zeros((99, 7)))
    assert not truncated
    *_, terminated, truncated, info = push.step(np.zeros((4, 7)))
    assert truncated and not terminated and info["env_steps"] == 1


def test_the_episode_length_can_be_chosen() -> None:
    info = task_info("PushCube-v1", "pd_joint_delta_pos", max_episode_steps=7)
    assert (info.obs_dim, info.act_dim, info.max_episode_steps) == (35, 8, 7)
    np.testing.assert_array_equal(info.action_low, -np.ones(8, np.float32))
    env = make_env("PushCube-v1", control_mode="pd_joint_delta_pos", max_episode_steps=7)
    env.reset(seed=0)
    *_, truncated, info_of_step = env.step(np.zeros((20, 8)))
    assert truncated and info_of_step["env_steps"] == 7


def test_tasks_without_sparse_reward_or_with_two_robots_work_by_their_id() -> None:
    """Any state task of ManiSkill works, not only those that we know."""
    for env_id, mode, obs_dim, act_dim in [
        ("MS-AntWalk-v1", "pd_joint_delta_pos", 114, 8),
        ("TwoRobotPickCube-v1", "pd_joint_delta_pos", 66, 16),
    ]:
        env = make_env(env_id, control_mode=mode)
        assert env.reset(seed=0)[0].shape == (1, obs_dim)
        assert env.step(np.zeros((2, act_dim)))[4]["env_steps"] == 2
        env.close()


@pytest.mark.parametrize(
    ("env_id", "mode", "line"),
    [
        ("PegInsertionSide-v2", MODE, 'unknown env id "PegInsertionSide-v2": did you mean "PegInsertionSide-v1"'),
        ("PushCube-v1", "pd_ee_delta_pos_", 'no control mode "pd_ee_delta_pos_"; allowed: pd_joint_delta_pos, '),
        ("PushCube-v1", "pd_ee_pse", 'Did you mean "pd_ee_pose"?'),
        ("AnymalC-Reach-v1", MODE, "python -m mani_skill.utils.download_asset anymal_c"),
        ("TurnFaucet-v1", MODE, "python -m mani_skill.utils.download_asset TurnFaucet-v1"),
    ],
)
def test_wrong_names_get_one_clear_line(env_id: str, mode: str, line: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Else a typo ends in a traceback, and a missing download in a question that nobody can answer."""
    with pytest.raises(PidecError) as caught:
        make_env(env_id, control_mode=mode)
    assert line in caught.value.line() and caught.value.exit_code == 2
    assert "\n" not in caught.value.line()
    assert capfd.readouterr().out == ""


def test_our_own_registration_is_not_suggested() -> None:
    assert check_env_id("PegInsertionSide-v1") == "PegInsertionSide-v1"
    with pytest.raises(PidecError, match='"PegInsertionSide-v1"'):
        check_env_id("PegInsertionSideFixd-v1")
