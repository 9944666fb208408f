"""`adapt`: the same actions from what ManiSkill3 observes, and a file that tells where it comes from."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pidec_train.__main__ import main
from pidec_train.checkpoint import NET, load_policy, open_checkpoint
from pidec_train.checkpoint_folder import sha256_of
from pidec_train.maniskill2 import LAYOUTS
from pidec_train.models.diffusion_policy import DiffusionPolicy
from pidec_train.models.norm import Norm
from pidec_train.models.padding import ConstantInputs
from pidec_train.protocol.rundir import parse_metrics, read_checkpoint_info
from tests.train.test_train_checkpoint import upstream_file

MISSING = LAYOUTS["PegInsertionSide-v1"].missing
SAMPLERS = [("ddpm", 100), ("ddim", 4)]


def upstream_policy(seed: int = 0, obs_dim: int = 50, **kwargs: Any) -> DiffusionPolicy:
    """At upstream's full size, 4.4 M parameters; FiLM weights are made larger, so that the constants count."""
    torch.manual_seed(seed)
    made = DiffusionPolicy(obs_dim, 7, **kwargs).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "cond_encoder" in name:
                weight.mul_(3)
    return made


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """best.pt as upstream writes it: `agent` and `ema_agent`, at 50 observations, and nothing else."""
    path = tmp_path_factory.mktemp("old") / "best.pt"
    torch.save(
        {"agent": upstream_policy(1).state_dict(), "ema_agent": upstream_policy(2).state_dict()}, path
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def observations() -> torch.Tensor:
    """(8, 2, 43), of real episodes on PegInsertionSide-v1."""
    from pidec_train.envs.make import make_env

    env = make_env("PegInsertionSide-v1", control_mode="pd_ee_delta_pose_ms2", obs_horizon=2)
    rng, rows = np.random.default_rng(0), []
    for seed in range(4):
        env.reset(seed=seed)
        for _ in range(2):
            obs, *_ = env.step(rng.uniform(-1, 1, (4, 7)).astype(np.float32))
            rows.append(obs)
    env.close()
    return torch.from_numpy(np.stack(rows))


def sampled(policy: DiffusionPolicy, obs: torch.Tensor, sampler: str, num_steps: int) -> torch.Tensor:
    """Actions for the same noise, also that which DDPM draws on its way."""
    noise = torch.randn((len(obs), 16, 7), generator=torch.Generator().manual_seed(3))
    return policy.sample_actions(obs, noise, sampler, num_steps, torch.Generator().manual_seed(4))


def largest(before: DiffusionPolicy, after: DiffusionPolicy, obs: torch.Tensor, sampler: str, steps: int) -> float:
    complete = MISSING.insert(obs)
    return float((sampled(before, complete, sampler, steps) - sampled(after, obs, sampler, steps)).abs().max())


@pytest.mark.parametrize("method", ["fold", "pad"])
@pytest.mark.parametrize("which", ["agent", "ema_agent"])
def test_the_same_actions_from_random_observations(old: Path, tmp_path: Path, method: str, which: str) -> None:
    assert main(["adapt", str(old), "--out", str(tmp_path / "out.pt"), "--method", method]) == 0
    before, after = load_policy(old, which), load_policy(tmp_path / "out.pt", which)
    assert (before.obs_dim, after.obs_dim) == (50, 43)
    obs = torch.randn(16, 2, 43, generator=torch.Generator().manual_seed(9))
    for sampler, steps in SAMPLERS:
        assert largest(before, after, obs, sampler, steps) < 1e-5
    other = before.with_constant_inputs(ConstantInputs(18, (0.0,) * 7))
    difference = (sampled(other, obs, "ddim", 4) - sampled(after, obs, "ddim", 4)).abs().max()
    assert difference > 1e-2, "zeros would do as well: this test would show nothing"


@pytest.mark.sim
@pytest.mark.parametrize("method", ["fold", "pad"])
def test_the_same_actions_from_real_observations(
    old: Path, observations: torch.Tensor, tmp_path: Path, method: str
) -> None:
    assert main(["adapt", str(old), "--out", str(tmp_path / "out.pt"), "--method", method]) == 0
    before, after = load_policy(old), load_policy(tmp_path / "out.pt")
    for sampler, steps in SAMPLERS:
        assert largest(before, after, observations, sampler, steps) < 1e-5


def test_normalised_constants_are_folded_as_the_network_sees_them(tmp_path: Path) -> None:
    torch.manual_seed(5)
    norms = {
        "obs_norm": Norm.fit("mean_std", torch.randn(60, 50) * 2 + 1),
        "action_norm": Norm.fit("min_max", torch.randn(60, 7)),
    }
    made = upstream_policy(6, **norms)
    config = {"env_id": "PegInsertionSide-v1", "control_mode": "pd_ee_delta_pose_ms2"}
    state = {name: norm.state() for name, norm in norms.items()}
    torch.save({"step": 7, "ema_agent": made.state_dict(), "config": config, **state}, tmp_path / "ours.pt")
    assert main(["adapt", str(tmp_path / "ours.pt"), "--out", str(tmp_path / "out.pt")]) == 0
    after = load_policy(tmp_path / "out.pt")
    assert after.obs_norm.offset.shape == (43,) and after.action_norm.kind == "min_max"
    obs = torch.randn(8, 2, 43) * 2 + 1
    for sampler, steps in SAMPLERS:
        assert largest(made, after, obs, sampler, steps) < 1e-5
    info = read_checkpoint_info(tmp_path / "out.pt")
    assert info and (info.step, info.obs_norm, info.action_norm) == (7, "mean_std", "min_max")


@pytest.mark.parametrize("method", ["fold", "pad"])
def test_statistics_of_a_fork_travel_along(tmp_path: Path, method: str) -> None:
    mean, std = torch.linspace(-1, 1, 7), torch.full((7,), 0.3)
    state = upstream_policy().state_dict()
    torch.save({"agent": state, "ema_agent": state, "action_mean": mean, "action_std": std}, tmp_path / "fork.pt")
    assert main(["adapt", str(tmp_path / "fork.pt"), "--out", str(tmp_path / "out.pt"), "--method", method]) == 0
    before, after = load_policy(tmp_path / "fork.pt"), load_policy(tmp_path / "out.pt")
    assert torch.equal(after.action_norm.offset, mean) and torch.equal(after.action_norm.scale, std)
    assert largest(before, after, torch.randn(8, 2, 43), "ddim", 4) < 1e-5


def test_what_is_written(old: Path, tmp_path: Path, capsys: Any) -> None:
    """A file of unknown parents is a result that nobody can repeat."""
    out, parent = tmp_path / "new" / "peg.pt", sha256_of(old)
    assert main(["adapt", str(old), "--out", str(out), "--run-dir", str(tmp_path / "run")]) == 0
    assert "takes the 43 numbers that ManiSkill3 observes; largest difference" in capsys.readouterr().out
    assert sorted(path.name for path in out.parent.iterdir()) == ["peg.json", "peg.pt"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in out.parent.iterdir())
    found = open_checkpoint(out)
    assert (found.origin, found.env_id, found.control_mode, found.notes) == (
        "adapted", "PegInsertionSide-v1", "pd_ee_delta_pose_ms2", [],
    )  # fmt: skip
    assert found.payload["adapted"] == {
        "method": "fold",
        "source": str(old.resolve()),
        "parent_sha256": parent,
        "parent_origin": "policy_decorator",
        "assumed": {"obs_horizon": 2, "act_horizon": 4, "pred_horizon": 16},
        "index": 18,
        "values": [-0.615, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
    }
    assert found.payload["ema_agent"][NET + "mid_modules.0.cond_encoder.1.weight"].shape == (512, 64 + 2 * 43)
    info = read_checkpoint_info(out)
    assert info and (info.origin, info.parent_sha256, info.obs_dim, info.act_dim) == ("adapted", parent, 43, 7)
    assert (info.env_id, info.control_mode, info.sha256) == (found.env_id, found.control_mode, sha256_of(out))
    lines = [line for _, line in parse_metrics((tmp_path / "run" / "metrics.jsonl").read_bytes())]
    assert lines[0].detail()["kind"] == "adapt" and lines[-1].detail()["state"] == "succeeded"
    assert main(["inspect", str(out)]) == 0
    words = capsys.readouterr().out
    for part in (
        "trained by Policy Decorator's own program, adapted from ManiSkill2 to ManiSkill3 (fold) from",
        f"sha256 {parent[:16]}…",
        "PegInsertionSide-v1, control mode pd_ee_delta_pose_ms2",
        "observation 43, action 7",
        "ok, sha256",
    ):
        assert part in words
    assert main(["inspect", str(old)]) == 0
    assert "inserted at index 18; or adapt it" in capsys.readouterr().out


@pytest.mark.sim
@pytest.mark.parametrize("method", ["fold", "pad"])
def test_an_adapted_checkpoint_needs_no_flags(old: Path, tmp_path: Path, capsys: Any, method: str) -> None:
    out = tmp_path / "out.pt"
    assert main(["adapt", str(old), "--out", str(out), "--method", method]) == 0
    capsys.readouterr()
    quick = ["--num-eval-episodes", "2", "--num-eval-envs", "2", "--sampler", "ddim", "--num-steps", "2"]
    quick += ["--max-episode-steps", "8", "--json"]
    assert main(["evaluate", str(out), *quick]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["control_mode"] == "pd_ee_delta_pose_ms2"
    assert "warning" not in printed.err
    assert main(["inspect", str(out), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["obs_dim"], facts["adapted"]["method"]) == (43, method)
    assert (facts["constant_inputs"] is None) is (method == "fold")


def refused(capsys: Any, *words: str) -> str:
    capsys.readouterr()
    assert main(["adapt", *words]) == 2
    error: str = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("pidec-train: ")
    return error


def test_nothing_is_overwritten(old: Path, tmp_path: Path, capsys: Any) -> None:
    before = old.read_bytes()
    assert "out is the checkpoint itself" in refused(capsys, str(old), "--out", str(old))
    link = tmp_path / "link.pt"
    link.symlink_to(old)
    assert "out is the checkpoint itself" in refused(capsys, str(old), "--out", str(link))
    other = tmp_path / "other.pt"
    other.write_bytes(b"years of work")
    assert "is there already and was not made of best.pt" in refused(capsys, str(old), "--out", str(other))
    assert other.read_bytes() == b"years of work" and old.read_bytes() == before
    assert "must end in .pt" in refused(capsys, str(old), "--out", str(tmp_path / "x.json"))
    (tmp_path / "file").touch()
    assert "cannot be made: Not a directory" in refused(
        capsys, str(old), "--out", str(tmp_path / "file" / "x" / "o.pt")
    )


def test_a_job_that_was_interrupted_may_run_again(old: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pt"
    assert main(["adapt", str(old), "--out", str(out)]) == 0
    out.with_suffix(".json").unlink()  # killed between the two
    assert main(["adapt", str(old), "--out", str(out), "--method", "pad"]) == 0
    info = read_checkpoint_info(out)
    assert info and info.sha256 == sha256_of(out)
    assert open_checkpoint(out).payload["adapted"]["method"] == "pad"


def test_what_needs_no_adapting_or_cannot_be(tmp_path: Path, capsys: Any) -> None:
    out = ["--out", str(tmp_path / "out.pt")]
    new = upstream_file(tmp_path / "43", DiffusionPolicy(43, 7, unet_dims=(8,)))
    assert "needs no adapting: it takes the 43 numbers that PegInsertionSide-v1" in refused(capsys, str(new), *out)
    cube = upstream_file(tmp_path / "51", DiffusionPolicy(51, 7, unet_dims=(8,)))
    assert "does not say on which task it was trained. Give --env-id" in refused(capsys, str(cube), *out)
    assert "the policy has obs_dim 51, and how PickCube-v1 differs" in refused(
        capsys, str(cube), *out, "--env-id", "PickCube-v0"
    )
    told = refused(capsys, str(cube), *out, "--env-id", "StackCube-v0")
    assert "obs_dim 51, but StackCube-v1 has obs_dim 48" in told
    assert not (tmp_path / "out.pt").exists()


def test_other_tasks_and_a_padded_one(old: Path, tmp_path: Path, capsys: Any) -> None:
    plug = upstream_file(tmp_path / "53", DiffusionPolicy(53, 7, unet_dims=(8,)).eval())
    assert main(["adapt", str(plug), "--out", str(tmp_path / "plug.pt"), "--env-id", "PlugCharger-v0"]) == 0
    found = open_checkpoint(tmp_path / "plug.pt")
    assert (found.env_id, found.control_mode) == ("PlugCharger-v1", "pd_ee_delta_pose_ms2")
    assert found.policy().obs_dim == 46
    padded, folded = tmp_path / "padded.pt", tmp_path / "folded.pt"
    assert main(["adapt", str(old), "--out", str(padded), "--method", "pad"]) == 0
    assert "needs no adapting" in refused(capsys, str(padded), "--out", str(tmp_path / "x.pt"), "--method", "pad")
    assert main(["adapt", str(padded), "--out", str(folded)]) == 0
    assert largest(load_policy(old), load_policy(folded), torch.randn(4, 2, 43), "ddim", 4) < 1e-5
    assert main(["inspect", str(folded)]) == 0
    assert "trained by Policy Decorator's own program, adapted" in capsys.readouterr().out


def test_a_full_disk_is_one_line(old: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    from pidec_train.protocol import rundir

    monkeypatch.setattr(rundir.os, "fsync", full)
    assert "cannot be written: No space left" in refused(capsys, str(old), "--out", str(tmp_path / "out.pt"))
    assert list(tmp_path.iterdir()) == []
