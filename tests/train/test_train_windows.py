"""Windows and batches: a wrong row here trains a policy on wrong data without any error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pidec_train.data.demos import Demos, load_demos
from pidec_train.data.windows import Batches, build_windows, padding_action
from pidec_train.protocol.errors import PidecError

BUNDLED_DEMOS = "bundled:PushCube-v1.h5"


def slices_one_by_one(demos: Demos, obs_horizon: int, pred_horizon: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The plain meaning, a sample at a time: as the paper's program slices, pads and joins."""
    samples = []
    for obs, acts in zip(demos.observations, demos.actions, strict=True):
        length, act_dim = acts.shape
        before, after = obs_horizon - 1, pred_horizon - obs_horizon
        for start in range(-before, length - pred_horizon + after):
            end = start + pred_horizon
            seen = [obs[max(0, t)] for t in range(start, start + obs_horizon)]
            todo = []
            for t in range(start, end):
                if t < length:
                    todo.append(acts[max(0, t)])
                else:
                    todo.append(np.concatenate([np.zeros(act_dim - 1, np.float32), acts[-1, -1:]]))
            samples.append((torch.from_numpy(np.stack(seen)), torch.from_numpy(np.stack(todo))))
    return samples


@pytest.mark.parametrize(("obs_horizon", "pred_horizon"), [(2, 16), (1, 16), (3, 8), (2, 4)])
def test_real_demos_give_the_windows_of_the_paper_bit_for_bit(obs_horizon: int, pred_horizon: int) -> None:
    demos = load_demos(BUNDLED_DEMOS, 8)
    windows = build_windows(demos, obs_horizon=obs_horizon, pred_horizon=pred_horizon)
    expected = slices_one_by_one(demos, obs_horizon, pred_horizon)
    assert len(windows) == len(expected) == demos.transitions - len(demos)
    obs, actions = windows.gather(torch.arange(len(windows)))
    assert torch.equal(obs, torch.stack([sample[0] for sample in expected]))
    assert torch.equal(actions, torch.stack([sample[1] for sample in expected]))


def test_demos_shorter_than_a_window_are_padded_on_both_sides(make_demos) -> None:
    demos = load_demos(make_demos(lengths=(3, 2, 40, 1)))
    windows = build_windows(demos, obs_horizon=2, pred_horizon=16)
    expected = slices_one_by_one(demos, 2, 16)
    obs, actions = windows.gather(torch.arange(len(windows)))
    assert len(windows) == len(expected) == 2 + 1 + 39 + 0
    assert torch.equal(obs, torch.stack([sample[0] for sample in expected]))
    assert torch.equal(actions, torch.stack([sample[1] for sample in expected]))


def test_demos_too_short_for_any_window_are_refused(make_demos) -> None:
    with pytest.raises(PidecError, match="too short for a window"):
        build_windows(load_demos(make_demos(lengths=(1, 1))), obs_horizon=2, pred_horizon=16)


def test_holding_still_depends_on_the_controller() -> None:
    last = np.array([0.5, -0.5, 0.1, 0.2, 0.3, 0.4, -1.0], np.float32)
    still = np.array([0, 0, 0, 0, 0, 0, -1.0], np.float32)
    for mode in ("pd_ee_delta_pose", "pd_ee_target_delta_pose", "pd_joint_delta_pos"):
        assert np.array_equal(padding_action(mode, last), still)
    assert np.array_equal(padding_action("base_pd_joint_vel_arm_pd_joint_vel", last), still)
    assert np.array_equal(padding_action("pd_joint_pos", last), last)  # 0 would swing the arm to its zero pose
    # A robot without a gripper: its last number is an arm joint, which must not go on moving.
    assert not padding_action("pd_ee_delta_pose", last[:6]).any()
    with pytest.raises(PidecError, match=r"pd_ee_pose is not supported.*delta_pose.*pd_joint_pos"):
        padding_action("pd_ee_pose", last)


def test_an_epoch_shows_each_window_once_and_drops_the_rest(make_demos) -> None:
    windows = build_windows(load_demos(make_demos()), obs_horizon=2, pred_horizon=16)  # 67 windows
    batches = Batches(windows, 16, torch.Generator().manual_seed(0))
    rows, again = torch.zeros(4, 16, dtype=torch.int64), torch.zeros(4, 16, dtype=torch.int64)
    batches.choose(rows)
    assert len(torch.unique(rows)) == 64, "a window came twice within an epoch"
    batches.choose(again)
    assert not torch.equal(rows, again), "every epoch has the same order"


def test_a_batch_larger_than_the_demos_takes_every_window_equally_often(make_demos) -> None:
    """The paper's loader would wait for ever."""
    windows = build_windows(load_demos(make_demos()), obs_horizon=2, pred_horizon=16)
    batches = Batches(windows, 150, torch.Generator().manual_seed(0))
    assert batches.oversampled
    chosen = torch.zeros(3, 150, dtype=torch.int64)
    batches.choose(chosen)
    for row in chosen:
        _, counts = torch.unique(row, return_counts=True)
        assert counts.sum() == 150 and len(counts) == 67
        assert int(counts.max()) - int(counts.min()) <= 1


@pytest.mark.parametrize("batch_size", [16, 150])
def test_batches_go_on_from_a_saved_state(make_demos, batch_size: int) -> None:
    windows = build_windows(load_demos(make_demos()), obs_horizon=2, pred_horizon=16)
    first = Batches(windows, batch_size, torch.Generator().manual_seed(3))
    one, other = (torch.zeros(6, batch_size, dtype=torch.int64) for _ in range(2))
    first.choose(one)
    second = Batches(windows, batch_size, torch.Generator().manual_seed(99))
    second.restore(first.state())
    first.choose(one)
    for row in other:  # one by one, or several at a time: the same stream
        second.choose(row[None])
    assert torch.equal(one, other)
