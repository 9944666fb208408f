"""Demo files that are not what they should be: one line that tells what to do, before any training time is spent."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from pidec_train.data.demos import load_demos
from pidec_train.protocol.errors import PidecError

BUNDLED_DEMOS = "bundled:PushCube-v1.h5"
DemoMaker = Callable[..., Path]


def complaint(path: object, num_traj: int | None = None) -> str:
    with pytest.raises(PidecError) as caught:
        load_demos(str(path), num_traj)
    line = caught.value.line()
    assert "\n" not in line
    return line


def test_bundled_demos_load() -> None:
    demos = load_demos(BUNDLED_DEMOS)
    assert (demos.env_id, demos.control_mode, demos.act_dim) == ("PushCube-v1", "pd_ee_delta_pose", 7)
    assert len(demos) >= 20 and demos.observations[0].dtype == np.float32
    assert all(len(o) == len(a) + 1 for o, a in zip(demos.observations, demos.actions, strict=True))


def test_demos_come_in_numeric_order(make_demos: DemoMaker) -> None:
    """h5 lists traj_10 before traj_2: `--num-demo-traj 3` must mean the first three."""
    demos = load_demos(make_demos(lengths=tuple(range(5, 17))))
    assert [len(actions) for actions in demos.actions] == list(range(5, 17))
    assert [len(actions) for actions in load_demos(demos.path, 3).actions] == [5, 6, 7]


def test_control_mode_is_found_in_either_place(make_demos: DemoMaker) -> None:
    assert load_demos(make_demos(mode_in_env_kwargs=False, control_mode="pd_joint_pos")).control_mode == "pd_joint_pos"


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "no.h5 does not exist" in complaint(tmp_path / "no.h5")
    assert "is a folder" in complaint(tmp_path)
    assert 'no bundled demos "Nope.h5": there are PushCube-v1.h5' in complaint("bundled:Nope.h5")


def test_cut_file(make_demos: DemoMaker) -> None:
    path = make_demos()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "cannot be read, it seems damaged" in complaint(path)


def test_a_file_of_somebody_else(make_demos: DemoMaker) -> None:
    path = make_demos()
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "cannot be read: permission denied" in complaint(path)


def test_text_instead_of_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "demos.h5"
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "is not an HDF5 file" in complaint(path)


def test_missing_or_foreign_json(make_demos: DemoMaker) -> None:
    path = make_demos()
    text = path.with_suffix(".json").read_text()
    path.with_suffix(".json").unlink()
    assert "demos.json is missing" in complaint(path)
    path.with_suffix(".json").write_text(text[:40])
    assert "cannot be read" in complaint(path)
    path.with_suffix(".json").write_text('{"episodes": []}')
    assert "has no env_info.env_id" in complaint(path)
    path.with_suffix(".json").write_text(json.dumps({"env_info": {"env_id": "X", "env_kwargs": {}}, "episodes": []}))
    assert "names no control mode" in complaint(path) and "Copy the .json" in complaint(path)


def test_no_observations_says_how_to_replay(make_demos: DemoMaker) -> None:
    path = make_demos()
    with h5py.File(path, "r+") as h5:
        for name in list(h5):
            del h5[name]["obs"]
    line = complaint(path)
    assert "holds no observations" in line
    # The bare ManiSkill program ends with a RuntimeError where there is no renderer.
    command = "python -m pidec_train.envs.headless mani_skill.trajectory.replay_trajectory --traj-path"
    assert command in line and "-c pd_ee_delta_pose -o state" in line and str(path) in line


def test_observations_of_another_mode(make_demos: DemoMaker) -> None:
    path = make_demos()
    with h5py.File(path, "r+") as h5:
        for name in list(h5):
            del h5[name]["obs"]
            h5[name].create_group("obs")["agent"] = np.zeros(3)
    assert "not of obs_mode state but hold agent" in complaint(path)


def test_no_demos_and_too_few(make_demos: DemoMaker) -> None:
    assert "num_demo_traj 4 is more than the 3 demos" in complaint(make_demos(), 4)
    assert "holds no demos" in complaint(make_demos("empty.h5", lengths=()))


def test_numbers_that_are_not(make_demos: DemoMaker) -> None:
    path = make_demos()
    with h5py.File(path, "r+") as h5:
        h5["traj_1/actions"][4, 2] = np.nan
    assert "traj_1: actions at step 4 holds NaN" in complaint(path)


def test_lengths_that_do_not_match(make_demos: DemoMaker) -> None:
    path = make_demos()
    with h5py.File(path, "r+") as h5:
        del h5["traj_2/obs"]
        h5["traj_2"]["obs"] = np.zeros((4, 5), np.float32)
    assert "traj_2 has obs (4, 5) and actions (30, 7)" in complaint(path)


def test_another_task_or_controller(make_demos: DemoMaker) -> None:
    demos = load_demos(make_demos())
    demos.require(env_id="PushCube-v1", control_mode="pd_ee_delta_pose")
    with pytest.raises(PidecError, match=r"holds demos of PushCube-v1, not of env_id PickCube-v1.*--env-id PushCube"):
        demos.require(env_id="PickCube-v1", control_mode="pd_ee_delta_pose")
    with pytest.raises(PidecError, match=r"control mode pd_ee_delta_pose, not control_mode pd_joint_pos"):
        demos.require(env_id="PushCube-v1", control_mode="pd_joint_pos")
