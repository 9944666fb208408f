"""Old checkpoints on ManiSkill3: what is told, assumed, inserted and refused. Held against the real simulator."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pidec_train.__main__ import main
from pidec_train.checkpoint import load_policy, open_checkpoint
from pidec_train.maniskill2 import LAYOUTS, MANISKILL2_MODES, match_observations, task_of
from pidec_train.models.diffusion_policy import DiffusionPolicy
from pidec_train.protocol.config import EvaluateConfig, parse_config
from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import parse_metrics
from tests.train.test_train_checkpoint import upstream_file

BASE_POSE = (-0.615, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


def made_policy(obs_dim: int = 50, act_dim: int = 7, **kwargs: Any) -> DiffusionPolicy:
    torch.manual_seed(0)
    return DiffusionPolicy(obs_dim, act_dim, unet_dims=(8, 16), **kwargs).eval()


def saved(folder: Path, args: Mapping[str, Any] | None = None, obs_dim: int = 50, act_dim: int = 7) -> Path:
    path = upstream_file(folder, made_policy(obs_dim, act_dim))
    if args is not None:
        horizons = {"obs_horizon": 2, "act_horizon": 4, "pred_horizon": 16}
        (folder / "args.json").write_text(json.dumps({**horizons, **args}))
    return path


# --- whose task is it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "sizes", "expected"),
    [
        (None, (50, 7), ("PegInsertionSide-v1", "pd_ee_delta_pose_ms2")),
        (None, (43, 7), ("PegInsertionSide-v1", "pd_ee_delta_pose")),
        (None, (51, 7), (None, None)),
        ({"env_id": "PegInsertionSide-v2", "control_mode": "pd_ee_delta_pose"}, (50, 7),
         ("PegInsertionSide-v1", "pd_ee_delta_pose_ms2")),
        ({"env_id": "StackCube-v0", "control_mode": "pd_ee_delta_pos"}, (55, 4),
         ("StackCube-v1", "pd_ee_delta_pos_ms2")),
        ({"env_id": "PlugCharger-v0", "control_mode": "pd_joint_delta_pos"}, (53, 8),
         ("PlugCharger-v1", "pd_joint_delta_pos")),  # joints kept their meaning
        ({"env_id": "StackCube-v1", "control_mode": "pd_ee_delta_pos"}, (55, 4),  # a fork of ManiSkill2 has a -v1 too
         ("StackCube-v1", "pd_ee_delta_pos_ms2")),
        ({"env_id": "PegInsertionSide-v1", "control_mode": "pd_ee_delta_pose"}, (43, 7),  # trained on ManiSkill3
         ("PegInsertionSide-v1", "pd_ee_delta_pose")),
    ],
)  # fmt: skip
def test_the_task_in_maniskill3s_names(
    tmp_path: Path, args: dict[str, str] | None, sizes: tuple[int, int], expected: tuple[str | None, str | None]
) -> None:
    """A wrong control mode is worse than none: the arm moves, in wrong directions, and never succeeds."""
    found = open_checkpoint(saved(tmp_path, args, *sizes))
    assert (found.env_id, found.control_mode) == expected
    said = " ".join(found.notes)
    assert ("_ms2 does so here" in said) is (expected[1] or "").endswith("_ms2")
    assert ("task not told" in said) is (args is None and expected[0] is not None)
    assert ("TurnFaucet" in said) is (args is None and sizes == (43, 7))


def test_what_is_asked_for_goes_before_what_is_known(tmp_path: Path) -> None:
    found = open_checkpoint(saved(tmp_path, None, 53))
    assert (found.env_id, found.control_mode) == (None, None)
    asked = found.on("PlugCharger-v0", None)
    assert (asked.env_id, asked.control_mode) == ("PlugCharger-v1", "pd_ee_delta_pose_ms2")
    peg = open_checkpoint(saved(tmp_path / "peg"))
    plain = peg.on(None, "pd_ee_delta_pose")
    assert (plain.env_id, plain.control_mode) == ("PegInsertionSide-v1", "pd_ee_delta_pose")
    assert "means other motions" in plain.notes[0]
    assert peg.on(None, None).control_mode == "pd_ee_delta_pose_ms2"


def test_args_json_lies_beside_it_or_above_it_and_links_are_followed(tmp_path: Path) -> None:
    args = {"env_id": "StackCube-v0", "control_mode": "pd_ee_delta_pos", "act_horizon": 3}
    above = saved(tmp_path / "run", args, 55, 4)
    beside = tmp_path / "copy" / "old best.pt"
    beside.parent.mkdir()
    beside.write_bytes(above.read_bytes())
    (beside.parent / "args.json").write_text(json.dumps(args))
    link = tmp_path / "elsewhere" / "best.pt"
    link.parent.mkdir()
    link.symlink_to(above)
    for path in (above, beside, link):
        assert open_checkpoint(path).env_id == "StackCube-v1"
        assert load_policy(path).act_horizon == 3
    assert "does not say obs_horizon 2, pred_horizon 16: assumed" in " ".join(open_checkpoint(beside).notes)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"obs_horizon": "two"}', "obs_horizon = 'two' is not possible: allowed are 1 to 1,000"),
        ('{"num_diffusion_iters": 1000000000}', "allowed are 1 to 10,000"),
        ('{"act_horizon": 16}', "obs_horizon 2 + act_horizon 16 - 1 must not exceed pred_horizon 16"),
        ('{"obs_horizon": 3}', "its condition of 100 numbers is no 3 observations (obs_horizon)"),
        ('{"env_id": ["x"]}', "env_id is not a name"),
        ('{"env_id": "\\u001b[31mred"}', "env_id is not a name"),
        ("[1]", "is no table of settings"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_an_args_json_that_cannot_be_is_one_line(tmp_path: Path, capsys: Any, text: str, told: str) -> None:
    path = saved(tmp_path)
    (tmp_path / "args.json").write_text(text)
    for command in ("evaluate", "inspect"):
        assert main([command, str(path)]) == 2
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert last.startswith("pidec-train: ") and told in last


# --- observations ----------------------------------------------------------------------------------------------------


def test_base_pose_is_inserted_before_normalising() -> None:
    """Padded with zeros, or after normalising, the network would see a robot that stands elsewhere."""
    from pidec_train.models.norm import Norm

    rows = torch.randn(40, 50) * 3 + 1
    policy = made_policy(obs_norm=Norm.fit("mean_std", rows))
    matched, note = match_observations(policy, "PegInsertionSide-v1", 43)
    assert (policy.obs_dim, matched.obs_dim) == (50, 43)
    assert "observations of 43 numbers become 50: base_pose [-0.615, 0, 0, 1, 0, 0, 0] is inserted at index 18" in note
    obs, noise = torch.randn(3, 2, 43), torch.randn(3, 16, 7)
    complete = torch.cat((obs[..., :18], torch.tensor(BASE_POSE).expand(3, 2, 7), obs[..., 18:]), -1)
    expected = policy.sample_actions(complete, noise, "ddim", 4)
    assert torch.equal(matched.sample_actions(obs, noise, "ddim", 4), expected)
    assert not torch.equal(expected, policy.sample_actions(complete * (complete != -0.615), noise, "ddim", 4))


def test_what_is_not_known_is_refused_with_both_numbers() -> None:
    policy = made_policy()
    for env_id, obs_dim, pad, told in (
        ("PegInsertionSide-v1", 42, "auto", "obs_dim 50, but PegInsertionSide-v1 has obs_dim 42"),
        ("PickCube-v1", 42, "auto", "obs_dim 50, but PickCube-v1 has obs_dim 42"),
        ("PegInsertionSide-v1", 43, "off", "obs_dim 50, but PegInsertionSide-v1 has obs_dim 43"),
        ("PegInsertionSide-v1", 43, "55", "pad_obs_to 55 is not what the policy takes: its obs_dim is 50"),
    ):
        with pytest.raises(PidecError) as caught:
            match_observations(policy, env_id, obs_dim, pad)
        assert told in caught.value.line()
    assert match_observations(policy, "PegInsertionSide-v1", 43, "50")[0].obs_dim == 43
    assert match_observations(made_policy(43), "PegInsertionSide-v1", 43, "off")[1] == ""


def test_pad_obs_to_is_checked_before_anything_starts() -> None:
    assert parse_config("evaluate", {"ckpt": "x.pt", "pad_obs_to": 50}).model_dump()["pad_obs_to"] == "50"
    assert EvaluateConfig(ckpt="x.pt").pad_obs_to == "auto"
    for value in ("fifty", "-3", "0", "5e1", "9" * 50, "٥٠"):
        with pytest.raises(PidecError, match="allowed are auto, off, or a number"):
            parse_config("evaluate", {"ckpt": "x.pt", "pad_obs_to": value})


@pytest.mark.sim
@pytest.mark.parametrize("env_id", sorted(LAYOUTS))
def test_the_table_is_what_the_simulator_has(env_id: str) -> None:
    """A ManiSkill that moves the robot, or adds an observation, would quietly spoil every old checkpoint."""
    from pidec_train.envs.make import make_maniskill_env

    layout = LAYOUTS[env_id]
    env = make_maniskill_env(env_id, control_mode="pd_ee_delta_pose_ms2", obs_mode="state")
    try:
        for seed in (0, 7):
            obs, _ = env.reset(seed=seed)
            agent: Any = env.unwrapped.agent  # type: ignore[attr-defined]
            pose = agent.robot.pose.raw_pose[0].numpy()
            assert pose == pytest.approx(layout.missing.values, abs=1e-6)
            qpos, qvel = agent.robot.get_qpos()[0], agent.robot.get_qvel()[0]
            assert layout.missing.index == len(qpos) + len(qvel)
            assert torch.equal(obs[0, : layout.missing.index], torch.cat((qpos, qvel)))
            assert torch.allclose(obs[0, 18:25], agent.tcp.pose.raw_pose[0]), "what follows base_pose in ManiSkill2"
        assert agent.uid == layout.robot
        assert obs.shape[1] == layout.obs_dim
    finally:
        env.close()


# --- controllers -----------------------------------------------------------------------------------------------------


@pytest.mark.sim
@pytest.mark.parametrize("mode", sorted(MANISKILL2_MODES))
def test_maniskill2s_controllers_move_along_the_grippers_axes(mode: str) -> None:
    """Against ManiSkill2's own formula: target = pose · (translation, rotation vector), with sapien's and scipy's
    arithmetic. With ManiSkill3's controller the arm would go up where the policy means down."""
    import sapien
    from scipy.spatial.transform import Rotation

    from pidec_train.envs.make import make_maniskill_env

    env = make_maniskill_env("PegInsertionSide-v1", control_mode=MANISKILL2_MODES[mode], obs_mode="state")
    try:
        env.reset(seed=3)
        assert np.all(env.action_space.low == -1) and np.all(env.action_space.high == 1)  # type: ignore[attr-defined]
        arm: Any = env.unwrapped.agent.controller.controllers["arm"]  # type: ignore[attr-defined]
        rng = np.random.default_rng(0)
        for _ in range(4):
            action = rng.uniform(-1, 1, 7 if mode.endswith("pose") else 4).astype(np.float32)
            start = arm._target_pose.sp if "target" in mode else arm.ee_pose_at_base.sp
            env.step(action)
            turn = (
                action[3:6] / max(1.0, float(np.linalg.norm(action[3:6]))) * 0.1 if mode.endswith("pose") else [0] * 3
            )
            quaternion = Rotation.from_rotvec(turn).as_quat()[[3, 0, 1, 2]]
            expected = start * sapien.Pose(action[:3] * 0.1, quaternion)
            found = arm._target_pose.sp
            assert found.p == pytest.approx(expected.p, abs=1e-6)
            assert abs(float(np.dot(found.q, expected.q))) == pytest.approx(1, abs=1e-6)
            assert np.abs(start.to_transformation_matrix()[:3, :3] - np.eye(3)).max() > 0.5, (
                "or frames would not differ"
            )
    finally:
        env.close()


# --- the user's first wish -------------------------------------------------------------------------------------------


@pytest.mark.sim
@pytest.mark.parametrize("args", [None, {"env_id": "PegInsertionSide-v2", "control_mode": "pd_ee_delta_pose"}])
def test_evaluate_my_old_best_pt_is_one_command(tmp_path: Path, capsys: Any, args: dict[str, Any] | None) -> None:
    path = saved(tmp_path / "old", args)
    quick = shlex.split("--num-eval-episodes 2 --num-eval-envs 2 --sampler ddim --num-steps 2 --max-episode-steps 8")
    assert main(["evaluate", str(path), *quick, "--json", "--run-dir", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert (answer["env_id"], answer["control_mode"]) == ("PegInsertionSide-v1", "pd_ee_delta_pose_ms2")
    assert (answer["episodes"], answer["episode_length"]) == (2, 8)
    said = "observations of 43 numbers become 50: base_pose [-0.615, 0, 0, 1, 0, 0, 0] is inserted at index 18"
    assert said in printed.err
    lines = [line for _, line in parse_metrics((tmp_path / "run" / "metrics.jsonl").read_bytes())]
    assert said in [line.detail()["message"] for line in lines if line.event == "warning"]
    assert main(["evaluate", str(path), *quick, "--pad-obs-to", "off"]) == 2
    assert "obs_dim 50, but PegInsertionSide-v1 has obs_dim 43" in capsys.readouterr().err


def test_without_a_task_it_is_asked_for(tmp_path: Path, capsys: Any) -> None:
    assert main(["evaluate", str(saved(tmp_path, None, 51))]) == 2
    assert "does not say on which task it was trained. Give --env-id." in capsys.readouterr().err


# --- forks -----------------------------------------------------------------------------------------------------------


def with_statistics(folder: Path, **statistics: Any) -> Path:
    weights = made_policy().state_dict()
    path = folder / "fork.pt"
    torch.save({"agent": weights, "ema_agent": weights, **statistics}, path)
    return path


@pytest.mark.parametrize("as_list", [False, True])
def test_action_statistics_of_a_fork_are_applied(tmp_path: Path, as_list: bool) -> None:
    """Used raw, its actions would be of size one instead of centimetres."""
    mean, std = torch.linspace(-0.5, 0.5, 7), torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.0])
    path = with_statistics(tmp_path, action_mean=mean.tolist() if as_list else mean[None], action_std=std)
    policy = load_policy(path)
    assert (policy.action_norm.kind, policy.clip_sample) == ("mean_std", False)
    obs, noise = torch.randn(4, 2, 50), torch.randn(4, 16, 7)
    raw = made_policy()
    raw.clip_sample = False
    expected = raw.sample_actions(obs, noise, "ddim", 4) * std + mean
    found = policy.sample_actions(obs, noise, "ddim", 4)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(found[..., 6], torch.full((4, 4), 0.5)), "a dimension that never moved stays where it was"
    assert load_policy(upstream_file(tmp_path / "raw", raw)).action_norm.kind == "none"


@pytest.mark.parametrize(
    ("statistics", "told"),
    [
        ({"action_mean": torch.zeros(7)}, "it holds action_mean but no action_std"),
        ({"action_std": torch.ones(7)}, "it holds action_std but no action_mean"),
        ({"action_mean": torch.zeros(6), "action_std": torch.ones(7)}, "its action_mean has 6 numbers instead of 7"),
        ({"action_mean": [0.0] * 7, "action_std": [-1.0] * 7}, "its action_std holds -1: allowed are 0 and more"),
        ({"action_mean": [float("nan")] * 7, "action_std": [1.0] * 7}, "holds a number that is not finite"),
        ({"action_mean": "zero", "action_std": [1.0] * 7}, "its action_mean is not a list of 7 numbers"),
    ],
)
def test_statistics_that_do_not_fit_are_one_line(tmp_path: Path, statistics: dict[str, Any], told: str) -> None:
    with pytest.raises(PidecError) as caught:
        load_policy(with_statistics(tmp_path, **statistics))
    assert told in caught.value.line()


def test_numpy_statistics_are_converted_by_the_command_in_the_message(tmp_path: Path) -> None:
    """The advice must work as it stands: it is run here as a user would paste it."""
    path = with_statistics(tmp_path, action_mean=np.zeros(7, np.float32), action_std=np.ones(7), step=np.int64(5))
    with pytest.raises(PidecError, match="holds numpy arrays") as caught:
        load_policy(path)
    words = shlex.split(caught.value.hint.partition("convert it once: ")[2])
    assert words[0] == "python"
    subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, check=True)
    converted = open_checkpoint(tmp_path / "fork-tensors.pt")
    assert converted.policy().action_norm.kind == "mean_std" and converted.step == 5


def test_observation_statistics_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    found = open_checkpoint(with_statistics(tmp_path, obs_mean=torch.zeros(50), obs_std=torch.ones(50)))
    assert "holds obs_mean or obs_std, which pidec does not use" in " ".join(found.notes)


def test_task_of_is_silent_where_nothing_is_assumed() -> None:
    assert task_of("PegInsertionSide-v1", "pd_ee_delta_pose", 43, 7).notes == ()
