"""The fast environments are ManiSkill's, only faster: the same starts, observations, successes and spaces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pidec_train.envs import fast_panda
from pidec_train.envs.fast_panda import FastPandaEnv, has_fast
from pidec_train.envs.make import make_env, make_maniskill_env, make_vector_env
from pidec_train.protocol.errors import PidecError, RunFailed
from tests.envs.fast_equality import BUNDLED, MODE, Both, Comparison, Episode, demos, random_episodes

pytestmark = pytest.mark.sim
PEG, PUSH = "PegInsertionSide-v1", "PushCube-v1"
TASKS = (PUSH, PEG, "PickCube-v1", "StackCube-v1", "LiftPegUpright-v1")
DEMOS = Path(__file__).parents[1] / "data" / "fast_demos.npz"  # made by `pidec-train demos`


@pytest.fixture(scope="module", params=TASKS)
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    pair = Both(request.param)
    yield pair
    pair.close()


def some_demos(task: str) -> list[Episode]:
    if task == PUSH:
        return list(demos(BUNDLED / f"{task}.h5", 2))
    with np.load(DEMOS) as file:
        return [(int(name.split("/")[1]), file[name]) for name in file.files if name.startswith(task)]


def check(result: Comparison, episodes: int) -> None:
    assert result.equal, str(result)
    assert result.episodes == episodes


def test_demos_and_random_episodes_go_as_in_maniskills_own_environment(both: Both) -> None:
    """Else a policy trained here would meet another task in the evaluation, which runs on ManiSkill's own."""
    recorded = some_demos(both.env_id)
    result = both.compare(recorded)
    check(result, len(recorded))
    assert result.successes == len(recorded) >= 1  # also the moment of success was compared
    check(both.compare(random_episodes(2, 40)), 2)


def test_spaces_and_kinds_of_numbers_are_the_same(both: Both) -> None:
    """Replay buffers and policies are sized by the spaces; clipping uses their bounds."""
    assert both.fast.observation_space == both.stock.observation_space
    assert both.fast.action_space == both.stock.action_space
    observation, _ = both.fast.reset(seed=1)
    assert observation.dtype == np.float32 and observation.shape == both.stock.observation_space.shape
    again, reward, terminated, truncated, info = both.fast.step(np.zeros(7, np.float32))
    assert again is not observation and again.dtype == np.float32
    assert (reward, terminated, truncated, info["success"]) == (0.0, False, False, False)


def test_the_same_seed_gives_the_same_start_whatever_happened_before(both: Both) -> None:
    """Else two policies could not be compared on the same starts."""
    first, _ = both.fast.reset(seed=17)
    for _ in range(3):
        both.fast.step(np.ones(7, np.float32))
    both.fast.reset(seed=5)
    both.fast.reset()
    np.testing.assert_array_equal(both.fast.reset(seed=17)[0], first)
    np.testing.assert_array_equal(np.float32(both.stock.reset(seed=17)[0]), first)
    assert not np.array_equal(both.fast.reset(seed=18)[0], first)


def test_actions_beyond_the_bounds_are_clipped_as_maniskill_clips_them(both: Both) -> None:
    """A translation by its parts, a rotation by its length: a diverging policy shall fail in both alike."""
    actions = np.float32([[3, -2, 0.5, 0.9, 0.9, -0.9, 5], [0, 0, 0, -4, 0, 0, -5]]).repeat(5, axis=0)
    check(both.compare([(3, actions)]), 1)


def test_a_target_out_of_reach_leaves_the_arm_where_it_is() -> None:
    """Inverse kinematics fails there; ManiSkill then holds the joints, and so must we."""
    pair = Both(PUSH)
    actions = np.float32([[1, 0, 0.6, 0, 0, 0, 1]]).repeat(60, axis=0)
    failures = []
    solve = pair.fast._controller._inverse_kinematics

    def watched(target: object, start: object) -> tuple[object, bool]:
        joints, found = solve(target, start)
        failures.append(not found)
        return joints, found

    pair.fast._controller._inverse_kinematics = watched
    check(pair.compare([(0, actions)]), 1)
    assert any(failures)
    pair.close()


def test_stock_resets_stay_stock_beside_fast_ones() -> None:
    """What a fast reset leaves out must not be left out of ManiSkill's own environment in the same process."""
    from mani_skill.agents.controllers import pd_ee_pose
    from mani_skill.agents.controllers.utils.kinematics import Kinematics

    fast = make_env(PEG, control_mode=MODE, env_backend="fast")
    fast.reset(seed=0)
    assert pd_ee_pose.Kinematics is Kinematics
    other = make_maniskill_env(PEG, control_mode="pd_joint_pos", obs_mode="state")  # a mode of which fast knows nothing
    assert other.reset(seed=0)[0].shape == (1, 43)
    other.close()
    with pytest.raises(TypeError):
        fast.env.reset(seed="x")  # type: ignore[arg-type]
    assert pd_ee_pose.Kinematics is Kinematics
    fast.close()


def test_workers_step_fast_environments() -> None:
    """The decorator's environments live in workers and are stepped in chunks."""
    sizes = {"obs_horizon": 2, "max_episode_steps": 8}
    chunks = np.random.default_rng(0).uniform(-1, 1, (2, 1, 4, 7)).astype(np.float32)
    workers = make_vector_env(PUSH, 1, control_mode=MODE, act_horizon=4, env_backend="fast", **sizes)
    fast = [workers.reset(seed=[7])[0], *(workers.step(chunk)[0] for chunk in chunks)]
    workers.close()
    env = make_env(PUSH, control_mode=MODE, **sizes)
    stock = [env.reset(seed=7)[0], *(env.step(chunk[0])[0] for chunk in chunks)]
    env.close()
    np.testing.assert_allclose(np.concatenate(fast), stock, atol=1e-4)


@pytest.mark.parametrize(
    ("task", "mode", "named"),
    [("PullCube-v1", MODE, PUSH), (PUSH, "pd_joint_pos", MODE), (PUSH, "pd_ee_delta_pose_ms2", MODE)],
)
def test_what_the_fast_backend_does_not_know_is_refused_by_name(task: str, mode: str, named: str) -> None:
    """A user must learn what is possible, before anything is built."""
    assert not has_fast(task, mode)
    with pytest.raises(PidecError, match=named):
        make_env(task, control_mode=mode, env_backend="fast")


def test_an_unknown_backend_is_refused() -> None:
    """A typing error must not silently choose."""
    with pytest.raises(PidecError, match="stock, fast"):
        make_env(PUSH, control_mode=MODE, env_backend="quick")


def test_another_controller_under_the_same_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If ManiSkill changed the mode's meaning, the robot would silently move otherwise than in the evaluation."""
    monkeypatch.setattr(fast_panda, "CONTROL_MODES", ("pd_ee_target_delta_pose",))
    env = make_maniskill_env(PUSH, control_mode="pd_ee_target_delta_pose", obs_mode="state")
    with pytest.raises(RunFailed, match="pd_ee_delta_pose is not the one"):
        FastPandaEnv(env, PUSH, "pd_ee_target_delta_pose")
    env.close()


def test_asking_for_fast_imports_no_simulator() -> None:
    """The command line and the queue ask before anything heavy is loaded."""
    code = (
        f"import sys; from pidec_train.envs.fast_panda import has_fast; assert has_fast({PUSH!r}, {MODE!r})"
        "; assert not {'torch', 'sapien', 'mani_skill'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
