"""Checkpoints survive kills, and nothing in a file that somebody sends is executed."""

from __future__ import annotations

import json
import os
import pickle
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pidec_train import checkpoint_folder
from pidec_train.checkpoint import load_policy, open_checkpoint, read_payload
from pidec_train.checkpoint_folder import CheckpointFolder
from pidec_train.models.diffusion_policy import DiffusionPolicy
from pidec_train.models.norm import Norm
from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import list_checkpoints, read_checkpoint_info, sidecar

INFO = {"kind": "diffusion", "env_id": "PushCube-v1", "control_mode": "pd_ee_delta_pose", "obs_dim": 5, "act_dim": 3}


def policy(seed: int = 0, **kwargs: Any) -> DiffusionPolicy:
    torch.manual_seed(seed)
    return DiffusionPolicy(5, 3, unet_dims=(8, 16), **kwargs).eval()


def payload(step: int, **extra: Any) -> dict[str, Any]:
    return {
        "kind": "diffusion",
        "step": step,
        "agent": policy(step).state_dict(),
        "ema_agent": policy(step + 1).state_dict(),
        "config": {"env_id": "PushCube-v1", "control_mode": "pd_ee_delta_pose", "act_horizon": 6},
        **extra,
    }


def sizes(made: DiffusionPolicy) -> tuple[int, ...]:
    return made.obs_dim, made.act_dim, made.obs_horizon, made.act_horizon, made.pred_horizon


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_save_then_load_gives_the_same_actions(tmp_path: Path) -> None:
    norms = {"obs_norm": Norm.fit("mean_std", torch.randn(9, 5)), "action_norm": Norm.fit("min_max", torch.randn(9, 3))}
    made = policy(3, **norms)
    state = {name: norm.state() for name, norm in norms.items()}
    folder = CheckpointFolder(tmp_path / "ck")
    path = folder.save(payload(10, **state) | {"ema_agent": made.state_dict()}, INFO)
    loaded = load_policy(tmp_path / "ck" / "last.pt")
    assert sizes(loaded) == (5, 3, 2, 6, 16)
    obs, noise = torch.randn(2, 2, 5), torch.randn(2, 16, 3)
    expected = made.sample_actions(obs, noise, "ddim", 4)
    assert torch.equal(loaded.sample_actions(obs, noise, "ddim", 4)[:, :4], expected)
    other = load_policy(path, weights="agent")
    assert not torch.equal(other.sample_actions(obs, noise, "ddim", 4)[:, :4], expected)


def test_what_lies_on_disk_after_a_save(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, parent_sha256="ab")
    path = folder.save(payload(1000), INFO)
    assert names(tmp_path) == ["last.pt", "step-000001000.json", "step-000001000.pt"]
    info = read_checkpoint_info(path)
    assert info and (info.size, info.step, info.parent_sha256) == (path.stat().st_size, 1000, "ab")
    assert checkpoint_folder.damage(path) == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.readlink(tmp_path / "last.pt") == path.name, "an absolute link would break when the folder moves"


def test_best_and_last_are_kept_and_best_moves_only_upwards(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for step, successes in ((1, 3), (2, 5), (3, 5), (4, 4)):
        path = folder.save(payload(step), INFO)
        assert folder.record_evaluation(path, successes, 10) is (step in (1, 2))
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-000000002.pt", "step-000000004.pt"]
    assert (tmp_path / "best.pt").resolve().name == "step-000000002.pt"
    assert (tmp_path / "last.pt").resolve().name == "step-000000004.pt"
    folder.save(payload(5), INFO)  # not evaluated: takes nothing from best
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-000000002.pt", "step-000000005.pt"]
    again = CheckpointFolder(tmp_path)  # another process knows the best from the files
    assert again.record_evaluation(again.save(payload(6), INFO), 1, 10) is False


def test_a_save_that_fails_leaves_the_old_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(payload(1), INFO)
    before = names(tmp_path)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_folder.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        folder.save(payload(2), INFO)
    monkeypatch.undo()
    assert names(tmp_path) == before
    assert folder.latest_good() == (tmp_path / "step-000000001.pt", [])


def test_what_a_killed_save_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".step-000000007.pt.x8s").write_bytes(b"half")
    (tmp_path / "step-000000006.pt").write_bytes(b"renamed, but its .json was never written")
    folder = CheckpointFolder(tmp_path)
    assert folder.latest_good() == (None, [])
    folder.save(payload(8), INFO)
    assert names(tmp_path) == ["last.pt", "step-000000008.json", "step-000000008.pt"]


def test_resume_takes_the_one_before_a_damaged_one_and_says_so(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.record_evaluation(folder.save(payload(1), INFO), 1, 1)
    path = folder.save(payload(2), INFO)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    good, complaints = folder.latest_good()
    assert good and good.name == "step-000000001.pt"
    told = f"it has {len(whole) - 1:,} bytes instead of {len(whole):,}"
    assert complaints == [f"step-000000002.pt is passed over: {told}"]
    path.write_bytes(whole[:-400] + bytes([whole[-400] ^ 1]) + whole[-399:])
    assert "do not match the hash" in folder.latest_good()[1][0]


def test_a_fresh_run_moves_older_checkpoints_aside(tmp_path: Path) -> None:
    """Else a later resume would go on from another run's higher step."""
    folder = CheckpointFolder(tmp_path)
    folder.record_evaluation(folder.save(payload(900), INFO), 1, 1)
    aside = folder.move_aside()
    assert aside and names(tmp_path) == [aside.name]
    assert names(aside) == ["best.pt", "last.pt", "step-000000900.json", "step-000000900.pt"]
    assert load_policy(aside / "best.pt").act_dim == 3
    assert folder.move_aside() is None


# --- files that are no checkpoints ----------------------------------------------------------------------------------


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/pidec-was-here",)


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """name -> (file, part of the answer)."""
    good = CheckpointFolder(folder / "good").save(payload(1), INFO)

    def write(name: str, data: bytes) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    def saved(name: str, value: Any) -> Path:
        torch.save(value, folder / name)
        return folder / name

    deflated = folder / "deflated.pt"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.namelist():
            target.writestr(entry, source.read(entry))
    wide = torch.zeros(1).expand(1 << 40)
    return {
        "missing": (folder / "none.pt", "does not exist"),
        "folder": (folder, "is a folder"),
        "text": (write("text.pt", b"hello\n" * 50), "not what torch.save writes"),
        "empty": (write("empty.pt", b""), "the file is empty"),
        "cut": (write("cut.pt", good.read_bytes()[: good.stat().st_size // 2]), "only the beginning of one"),
        "pickle": (write("code.pkl", pickle.dumps({"agent": RunsCode()})), "not what torch.save writes"),
        "code": (saved("code.pt", {"agent": RunsCode()}), "holds posix.system, more than tensors and numbers"),
        "numpy": (saved("numpy.pt", {"agent": {"x": np.zeros(3)}}), "holds numpy arrays"),
        "foreign": (saved("foreign.pt", {"model": {"w": torch.zeros(2)}}), "neither agent nor ema_agent"),
        "list": (saved("list.pt", [1, 2]), "neither agent nor ema_agent"),
        "deflated": (deflated, "compressed"),
        "bomb": (saved("bomb.pt", {"agent": {"noise_pred_net.x": wide}}), "claims 4,398,046,511,104 bytes"),
        "newer": (saved("newer.pt", payload(1) | {"format_version": 99}), "newer version of pidec"),
    }


KINDS = [
    "missing",
    "folder",
    "text",
    "empty",
    "cut",
    "pickle",
    "code",
    "numpy",
    "foreign",
    "list",
    "deflated",
    "bomb",
    "newer",
]


@pytest.mark.parametrize("kind", KINDS)
def test_not_a_checkpoint_is_one_line_and_runs_nothing(tmp_path: Path, kind: str) -> None:
    files = bad_files(tmp_path)
    assert sorted(files) == sorted(KINDS)
    path, expected = files[kind]
    with pytest.raises(PidecError) as caught:
        read_payload(path)
    assert expected in caught.value.line() and str(path) in caught.value.line() and "\n" not in caught.value.line()
    assert not Path("/tmp/pidec-was-here").exists()
    if kind != "numpy":
        assert "weights_only" not in caught.value.line(), "torch's advice on how to run such a file after all"


def test_a_checkpoint_of_somebody_else_is_not_called_damaged(tmp_path: Path) -> None:
    """Lost without it: a whole file that is copied again and again."""
    path = CheckpointFolder(tmp_path).save(payload(1), INFO)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(PidecError, match="cannot be read: permission denied"):
        read_payload(path)


def test_weights_of_something_else(tmp_path: Path) -> None:
    torch.save({"agent": {"gpt.wte.weight": torch.zeros(3, 3)}, "config": {}}, tmp_path / "bet.pt")
    with pytest.raises(PidecError, match="not a diffusion policy"):
        load_policy(tmp_path / "bet.pt", weights="agent")
    torch.save({"agent": policy().state_dict(), "config": {}}, tmp_path / "one.pt")
    with pytest.raises(PidecError, match='holds no "ema_agent" weights: it has agent'):
        load_policy(tmp_path / "one.pt")
    broken = policy().state_dict()
    broken["noise_pred_net.final_conv.1.bias"] = torch.zeros(99)
    torch.save({"ema_agent": broken, "config": {}}, tmp_path / "odd.pt")
    with pytest.raises(PidecError, match="do not fit a diffusion policy"):
        load_policy(tmp_path / "odd.pt")


# --- Policy Decorator's own files -----------------------------------------------------------------------------------


def upstream_file(folder: Path, made: DiffusionPolicy) -> Path:
    """`<log>/checkpoints/best.pt` with nothing but weights, as its trainer writes them."""
    (folder / "checkpoints").mkdir(parents=True)
    path = folder / "checkpoints" / "best.pt"
    torch.save({"agent": made.state_dict(), "ema_agent": made.state_dict()}, path)
    return path


def test_upstreams_checkpoint_without_args_says_what_it_assumes(tmp_path: Path, capsys: Any) -> None:
    torch.manual_seed(0)
    made = DiffusionPolicy(43, 7).eval()
    loaded = load_policy(upstream_file(tmp_path, made))
    assert sizes(loaded) == (43, 7, 2, 4, 16)
    obs, noise = torch.randn(2, 2, 43), torch.randn(2, 16, 7)
    assert torch.equal(loaded.sample_actions(obs, noise, "ddim", 4), made.sample_actions(obs, noise, "ddim", 4))
    assert "no args.json beside or above best.pt: assuming" in capsys.readouterr().err


def test_upstreams_args_are_found_and_believed(tmp_path: Path, capsys: Any) -> None:
    made = policy(0, obs_horizon=3, act_horizon=5, n_groups=4)
    path = upstream_file(tmp_path, made)
    args = {
        "env_id": "PegInsertionSide-v2",
        "control_mode": "pd_ee_delta_pose",
        "obs_horizon": 3,
        "act_horizon": 5,
        "pred_horizon": 16,
        "n_groups": 4,
    }
    (tmp_path / "args.json").write_text(json.dumps(args))
    found = open_checkpoint(path)
    assert (found.origin, found.env_id) == ("policy_decorator", "PegInsertionSide-v1")
    assert found.control_mode == "pd_ee_delta_pose_ms2"
    loaded = load_policy(path)
    assert (loaded.obs_dim, loaded.obs_horizon, loaded.act_horizon) == (5, 3, 5)
    obs, noise = torch.randn(2, 3, 5), torch.randn(2, 16, 3)
    assert torch.equal(loaded.sample_actions(obs, noise, "ddim", 4), made.sample_actions(obs, noise, "ddim", 4))
    said = capsys.readouterr().err
    assert "assum" not in said and "PegInsertionSide-v2 is ManiSkill2's: taken as PegInsertionSide-v1" in said


def test_the_json_beside_a_checkpoint_is_not_needed(tmp_path: Path) -> None:
    """People copy the .pt alone."""
    path = CheckpointFolder(tmp_path).save(payload(1), INFO)
    sidecar(path).unlink()
    assert load_policy(path).act_dim == 3
