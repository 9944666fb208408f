"""What `pidec-train decorator` is given: bases, configs and checkpoints that cannot be. One line, and nothing begun."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pidec_train.__main__ import main
from pidec_train.checkpoint import load_policy
from pidec_train.protocol.errors import PidecError
from tests.train.decorating import DecoratorRun, base_policy, learner, on_scripted_env, save_base
from tests.train.test_train_maniskill2 import BASE_POSE
from tests.train.test_train_maniskill2 import saved as save_upstreams


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DecoratorRun:
    on_scripted_env(monkeypatch)
    return DecoratorRun(tmp_path, save_base(tmp_path / "base.pt"))


def refused(capsys: Any, code: int) -> str:
    """What was said: one line."""
    out, err = capsys.readouterr()
    assert code == 2 and out == ""
    lines = [line for line in err.splitlines() if line.startswith("pidec-train: ")]
    assert len(lines) == 1 and "Traceback" not in err, err
    return lines[0]


# --- flags -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--training-freq", "10"], "training_freq 10 must be divisible by num_envs 4"),
        (["--training-freq", "10"], "8 would be"),
        (["--training-freq", "2"], "4 would be"),
        (["--utd", "0.3"], "training_freq 8 times utd 0.3 is 2.4: it must be a whole number of updates"),
        (["--utd", "0.0625"], "is 0.5: it must be a whole number of updates, at least 1"),
        (["--buffer-size", "15"], "buffer_size 15 must not be less than learning_starts 16"),
        (["--hidden-dims", "16", "0"], "hidden_dims"),
        (["--hidden-dims", "-3"], "hidden_dims"),
        (["--res-scale", "nan"], "res_scale"),
        (["--log-std-min", "2"], "log_std_min"),
        (["--act-horizon", "16"], "act_horizon 16 is more than the base policy predicts: with obs_horizon 2 and "
         "pred_horizon 16 it is at most 15"),
        (["--ddim-steps", "101"], "ddim_steps 101 is not possible: the base policy was trained with 100"),
        (["--env-id", "Other-v1"], "was trained on Scripted-v1, not on Other-v1"),
        (["--control-mode", "pd_other"], "the base policy was trained with pd_scripted, not with pd_other"),
    ],
)  # fmt: skip
def test_flags_that_cannot_be(run: DecoratorRun, capsys: Any, flags: list[str], told: str) -> None:
    """Said before the simulators are started, in the flag's own name."""
    assert told in refused(capsys, run(*flags))
    assert not list(run.checkpoints.glob("*")) if run.checkpoints.exists() else True


def test_a_buffer_larger_than_memory(run: DecoratorRun, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("pidec_train.data.replay_buffer._free_memory", lambda device: (1000, "memory"))
    line = refused(capsys, run())
    assert "a replay buffer of 64 transitions takes 7,168 bytes (28 numbers each)" in line and "--buffer-size 7" in line


# --- bases -----------------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def without_task(path: Path) -> None:
    save_base(path, env_id=None, control_mode=None)


BASES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (Path.unlink, "base.pt does not exist"),
    "cut": (cut, "is not a checkpoint, or only the beginning of one"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
    "of another robot": (
        lambda path: save_base(path, base_policy(act_dim=3)),
        "have act_dim 3, but tests.fakes.scripted_env:make_scripted with control mode",
    ),
    "of another task's size": (
        lambda path: save_base(path, base_policy(obs_dim=9)),
        "the policy has obs_dim 9, but Scripted-v1 has obs_dim 4",
    ),
    "that does not say its control mode": (without_task, "does not say its control mode. Give --control-mode."),
}


@pytest.mark.parametrize("what", BASES)
def test_a_base_that_cannot_be_decorated(run: DecoratorRun, capsys: Any, what: str) -> None:
    change, told = BASES[what]
    change(run.base)
    assert told in refused(capsys, run())


def test_a_base_that_does_not_say_its_task_is_told(run: DecoratorRun) -> None:
    """Then what the flags say counts, and goes into the checkpoint."""
    without_task(run.base)
    assert run("--control-mode", "pd_scripted") == 0
    assert run.last()["base"]["control_mode"] == "pd_scripted"
    assert load_policy(run.checkpoints / "last.pt").act_horizon == 3


def test_a_decorated_policy_is_no_base(run: DecoratorRun, tmp_path: Path, capsys: Any) -> None:
    assert run() == 0
    capsys.readouterr()
    second = DecoratorRun(tmp_path, run.checkpoints / "last.pt", "b")
    assert "is a decorated policy, not a base policy" in refused(capsys, second())


# --- resuming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--res-scale", "0.2"], "cannot resume with another config: res_scale is 0.2 but was 0.1"),
        (["--hidden-dims", "16"], "hidden_dims is [16] but was [16, 12]"),
        (["--seed", "5", "--utd", "1"], "seed is 5 but was 1, utd is 1.0 but was 0.5"),
        (["--num-envs", "2"], "num_envs is 2 but was 4"),
    ],
)
def test_resume_refuses_another_config_by_name(run: DecoratorRun, capsys: Any, flags: list[str], told: str) -> None:
    assert run() == 0
    capsys.readouterr()
    line = refused(capsys, run("--resume", *flags))
    assert told in line and "Use the old values, or begin afresh without --resume" in line


def test_resume_refuses_another_base_and_takes_the_same_one_from_elsewhere(
    run: DecoratorRun, tmp_path: Path, capsys: Any
) -> None:
    assert run() == 0
    run.base = run.base.rename(tmp_path / "moved.pt")
    assert run("--resume", "--total-timesteps", "72", "--log-freq", "8", "--overlap") == 0
    assert run.last()["step"] == 72
    save_base(run.base, step=6)
    capsys.readouterr()
    assert "moved.pt is not the base policy that the run began with" in refused(capsys, run("--resume"))


def test_resume_needs_to_know_what(run: DecoratorRun, tmp_path: Path, capsys: Any) -> None:
    command = ["decorator", "--base-policy-ckpt", str(run.base), "--resume"]
    assert "--resume needs --run-dir and --checkpoint-dir" in refused(capsys, main(command))
    run.checkpoints.mkdir(parents=True)
    assert run("--resume") == 0
    assert "nothing to resume in" in run.events("warning")[0]["message"]


def test_a_diffusion_runs_folder_is_not_resumed(run: DecoratorRun, make_demos: Any, capsys: Any) -> None:
    """And the other way round: two trainers, one folder given by mistake."""
    from tests.train.running import Run

    diffusion = Run(run.base.parent, make_demos(), "d")
    assert diffusion() == 0
    ours, run.checkpoints = run.checkpoints, diffusion.checkpoints
    capsys.readouterr()
    assert "holds no training state of this trainer to resume" in refused(capsys, run("--resume"))
    run.checkpoints = ours
    assert run() == 0
    diffusion.checkpoints = ours
    capsys.readouterr()
    assert "holds no training state of this trainer to resume" in refused(capsys, diffusion("--resume"))


# --- a base from ManiSkill2, on the real simulator -------------------------------------------------------------------


@pytest.mark.sim
def test_upstreams_base_is_padded_by_itself(tmp_path: Path) -> None:
    """Trained on ManiSkill2 with 50 numbers; decorated, evaluated and read back with the 43 that there are."""
    base = save_upstreams(tmp_path / "upstream")
    changes = {"env_id": "PegInsertionSide-v1", "act_horizon": 4, "eval_freq": 1000, "num_eval_episodes": 1}
    run = DecoratorRun(tmp_path, base)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in changes.items()]
    assert run(*flags, "--max-episode-steps", "12", "--total-timesteps", "16", "--num-envs", "1") == 0
    told = [event["message"] for event in run.events("warning")]
    assert sum("observations of 43 numbers become 50: base_pose [-0.615, 0, 0" in message for message in told) == 1
    assert run.events("eval")[-1]["phase"] == "done" and run.events("eval")[-1]["step"] == 16
    policy, payload = load_policy(run.checkpoints / "last.pt"), run.last()
    assert (policy.obs_dim, policy.act_dim, payload["obs_dim"], payload["base"]["origin"]) == (
        43,
        7,
        43,
        "policy_decorator",
    )
    assert payload["base"]["control_mode"] == "pd_ee_delta_pose_ms2"
    obs, noise = torch.randn(2, 2, 43), torch.randn(2, 16, 7)
    whole = torch.cat((obs[..., :18], torch.tensor(BASE_POSE).expand(2, 2, 7), obs[..., 18:]), -1)
    plain = load_policy(base).sample_actions(whole, noise, "ddim", 2)
    torch.testing.assert_close(policy.base.sample_actions(obs, noise, "ddim", 2), plain)


# --- decorated checkpoints from anybody ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good() -> dict[str, Any]:
    """A decorator's checkpoint as it is saved."""
    made, base = learner(), base_policy(act_horizon=3)
    made.updates = 4
    horizons = {"obs_horizon": 2, "act_horizon": 3, "pred_horizon": 16, "n_groups": 8, "num_diffusion_iters": 100}
    made._base_payload = {
        "kind": "diffusion",
        "ema_agent": base.state_dict(),
        "config": {**horizons, "env_id": "Scripted-v1"},
        "control_mode": "pd_scripted",
        "obs_norm": base.obs_norm.state(),
        "action_norm": None,
        "constant_inputs": None,
        "origin": "pidec",
        "step": 5,
        "sha256": "0",
    }
    return {"format_version": 1, **made.snapshot()()[0]}


def with_(good: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """`good` with another value at a place such as "base/config/n_groups"; the value ... takes it away."""
    first, _, rest = place.partition("/")
    made = dict(good)
    if rest:
        made[first] = with_(good[first], rest, value)
    elif value is ...:
        del made[first]
    else:
        made[first] = value
    return made


NAN = torch.full((6,), float("nan"))
HOSTILE: dict[str, tuple[str, Any, str]] = {
    "no base": ("base", ..., "is a residual policy without its base policy"),
    "a base of another type": ("base", [1], "is a residual policy without its base policy"),
    "no residual": ("res_actor", ..., ""),
    "a residual of another type": ("res_actor", [1, 2], ""),
    "an empty residual": ("res_actor", {}, "res_actor is not a residual policy"),
    "weights too many": ("res_actor/extra", NAN, "res_actor is not a residual policy"),
    "a weight missing": ("res_actor/fc_mean.bias", ..., "res_actor is not a residual policy"),
    "a weight that is NaN": ("res_actor/fc_mean.bias", NAN, "fc_mean.bias is not (6,) finite numbers"),
    "a weight of another shape": ("res_actor/fc_mean.bias", torch.zeros(7), "fc_mean.bias is not (6,) finite"),
    "a weight that is no tensor": ("res_actor/fc_mean.bias", [0.0] * 6, "do not fit"),
    "weights with numbers for names": ("res_actor/7", NAN, "res_actor is not a residual policy"),
    "a scale that is infinite": ("res_actor/action_scale", NAN / 0, "action_scale is not (6,) finite numbers"),
    "layers of trillions": ("config/hidden_dims", [10**12, 10**12], ""),
    "a layer beyond all numbers": ("config/hidden_dims", [10**30], ""),
    "layers without end": ("config/hidden_dims", [1] * 100_000, ""),
    "no layers": ("config/hidden_dims", [], ""),
    "layers of nothing": ("config/hidden_dims", [0, 0], ""),
    "less than nothing": ("config/hidden_dims", [-16, 12], ""),
    "a horizon of a billion": ("config/act_horizon", 10**9, "allowed are 1 to 1,000"),
    "a horizon that the base has not": ("config/act_horizon", 16, "must not exceed pred_horizon 16"),
    "no horizon": ("config/act_horizon", None, "act_horizon"),
    "another critic": ("config/critic_input", "all", "do not fit"),
    "another actor": ("config/actor_input", "obs_base_action", ""),
    "a setting that nobody knows": ("config/future", 1, ""),
    "more denoising than there is": ("config/ddim_steps", 101, "ddim_steps 101 is not possible"),
    "a scale of NaN": ("config/res_scale", float("nan"), ""),
    "a config of another type": ("config", "all", "config, base or updates are missing"),
    "no task": ("config/env_id", None, "does not say on which task"),
    "a task of escapes": ("config/env_id", "\x1b[31mred", "env_id is not a name"),
    "no updates": ("updates", ..., "config, base or updates are missing"),
    "updates of another type": ("updates", True, "config, base or updates are missing"),
    "updates beyond all numbers": ("updates", 10**600, "config, base or updates are missing"),
    "a base without weights": ("base/ema_agent", ..., "holds no weights of one"),
    "a base of numbers": ("base/ema_agent", {"a": 1}, ""),
    "a base without a config": ("base/config", ..., "config, base or updates are missing"),
    "a base that diffuses for ever": ("base/config/num_diffusion_iters", 10**9, "allowed are 1 to 10,000"),
    "groups that do not divide": ("base/config/n_groups", 7, "do not fit"),
    "a norm of another size": ("base/obs_norm", {"kind": "mean_std", "offset": NAN, "scale": NAN}, "instead of 4"),
    "a base that is decorated": ("base/kind", "decorator", ""),
    "a base of another kind": ("base/kind", "transformer", "its kind is transformer"),
    "another kind": ("kind", "tree", "holds no weights of one"),
    "a step beyond all numbers": ("step", 10**600, "its step is no number"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_decorators_checkpoint_is_one_line(
    good: dict[str, Any], tmp_path: Path, capsys: Any, what: str
) -> None:
    """Whoever was sent one reads what is wrong with it; no traceback, no terabytes, no endless work."""
    place, value, told = HOSTILE[what]
    path = tmp_path / "last.pt"
    torch.save(with_(good, place, value), path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PidecError) as error:
        load_policy(path)
    assert told in error.value.line() and str(path) in error.value.line()
    assert error.value.exit_code == 2 and len(error.value.line()) < 600 and error.value.line().isprintable()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    assert main(["inspect", str(path)]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_the_checkpoint_that_they_were_made_of_is_good(good: dict[str, Any], tmp_path: Path) -> None:
    """Otherwise the tests above would prove nothing."""
    torch.save(good, tmp_path / "last.pt")
    policy = load_policy(tmp_path / "last.pt")
    assert policy.sample_actions(torch.zeros(1, 2, 4)).shape == (1, 3, 2)


def test_inspect_bears_what_it_only_shows(good: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    """A length in words, and beside a base policy a config that is none: neither keeps the weights from being read."""
    for contents in (with_(good, "config/total_timesteps", "4000"), {**good["base"], "config": 5}):
        torch.save(contents, tmp_path / "last.pt")
        assert main(["inspect", str(tmp_path / "last.pt")]) == 0
        assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "contents",
    [
        {"kind": "decorator", "agent": {}},
        {"kind": "decorator", "agent": {}, "base": {}},
        {"ema_agent": None},
        {"ema_agent": None, "config": {}},
        {"res_actor": {}, "base": {}},
        {"res_actor": {}, "base": {}, "kind": ["decorator"]},
    ],
)
def test_halves_of_checkpoints(tmp_path: Path, capsys: Any, contents: dict[str, Any]) -> None:
    torch.save(contents, tmp_path / "last.pt")
    refused(capsys, main(["inspect", str(tmp_path / "last.pt")]))
