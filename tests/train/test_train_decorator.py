"""`pidec-train decorator` as a command, on the scripted environment: what it leaves behind, and going on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from pidec_train.algos.sac import SacUpdate
from pidec_train.decorator_learner import DecoratorLearner
from pidec_train.rollouts import Rollouts
from tests.envs.test_autoreset import seed_of
from tests.fakes import fake_cuda_graphs
from tests.train.decorating import (
    OBS_STD,
    DecoratorRun,
    base_policy,
    learner,
    on_scripted_env,
    save_base,
    stop_at,
    transitions,
    workers_of,
)
from tests.train.small_disk import on_a_small_disk

WEIGHTS = ("res_actor", "qf1", "qf2", "qf1_target", "qf2_target")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DecoratorRun:
    on_scripted_env(monkeypatch)
    return DecoratorRun(tmp_path, save_base(tmp_path / "base.pt"))


def equal(one: Any, other: Any) -> bool:
    """Nested containers of tensors and numbers, bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def warnings(run: DecoratorRun) -> str:
    return " | ".join(event["message"] for event in run.events("warning"))


def told(capsys: Any) -> str:
    """The one line on standard error that begins with the program's name, and nothing like a traceback beside it."""
    err = capsys.readouterr().err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("pidec-train: ")]
    assert len(lines) == 1, err
    return lines[0]


# --- undisturbed -----------------------------------------------------------------------------------------------------


def test_a_run_of_one_seed_is_always_the_same(run: DecoratorRun, tmp_path: Path) -> None:
    """Bit for bit, also with another number of workers: else no two results could be compared."""
    assert run() == 0
    again, other = DecoratorRun(tmp_path, run.base, "b"), DecoratorRun(tmp_path, run.base, "c")
    assert again("--num-workers", "2") == 0 and other("--seed", "2") == 0
    first, second = run.last(), again.last()
    for name in (*WEIGHTS, "log_sac_alpha", "optimizers", "generators", "episodes", "step", "updates", "base"):
        assert equal(first[name], second[name]), name
    assert not equal(first["res_actor"], other.last()["res_actor"])
    # 64 decision steps in rounds of 8 with 4 updates each; the first round has not enough to learn from.
    assert (first["step"], first["updates"], first["replay"]) == (64, 28, {"added": 64, "capacity": 64})
    assert run.rows()[64].keys() >= {"train/qf_loss", "train/actor_loss", "train/sac_alpha", "train/residual_fraction"}
    assert run.events("end")[0]["state"] == "succeeded"
    assert [path.name for path in run.checkpoints.glob("*.pt") if not path.is_symlink()] == ["step-000000064.pt"]


def test_updates_in_a_thread_are_the_same_every_time(run: DecoratorRun, tmp_path: Path) -> None:
    """With --overlap a thread updates while the base acts: if one saw what the other changes, runs would differ."""
    assert run("--overlap") == 0
    again = DecoratorRun(tmp_path, run.base, "b")
    assert again("--overlap") == 0
    first, second = run.last(), again.last()
    for name in (*WEIGHTS, "log_sac_alpha", "optimizers", "generators", "updates"):
        assert equal(first[name], second[name]), name


ALONE = """
import sys, torch
from pidec_train.checkpoint import load_policy
policy = load_policy(sys.argv[1])
made = torch.load(sys.argv[2])
torch.save(policy.sample_actions(made["obs"], made["noise"]), sys.argv[3])
"""


@pytest.mark.parametrize(("actor_input", "norm_obs"), [("obs", False), ("obs_base_action", True)])
def test_a_checkpoint_needs_nothing_else(run: DecoratorRun, tmp_path: Path, actor_input: str, norm_obs: bool) -> None:
    """The base's file is gone, the process another: the actions are base + res_scale * residual, to the last bit."""
    assert run("--actor-input", actor_input, "--res-scale", "0.25", *["--norm-obs"] * norm_obs) == 0
    run.base.unlink()
    obs, noise = 30 * torch.randn(5, 2, 4), torch.randn(5, 16, 2)
    torch.save({"obs": obs, "noise": noise}, tmp_path / "given")
    command = [sys.executable, "-c", ALONE, str(run.checkpoints / "last.pt"), "given", "actions"]
    subprocess.run(command, cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    state = run.last()["res_actor"]
    base = base_policy(act_horizon=3).sample_actions(obs, noise, "ddim", 2)
    seen = (obs[:, -1] / OBS_STD).clamp(-10, 10) if norm_obs else obs[:, -1]
    if actor_input == "obs_base_action":
        seen = torch.cat((seen, base.flatten(1)), 1)
    for layer in ("backbone.0", "backbone.2"):
        seen = torch.relu(torch.nn.functional.linear(seen, state[f"{layer}.weight"], state[f"{layer}.bias"]))
    mean = torch.nn.functional.linear(seen, state["fc_mean.weight"], state["fc_mean.bias"])
    residual = torch.tanh(mean) * state["action_scale"]
    assert float(residual.abs().max()) > 1e-3
    actions = torch.load(tmp_path / "actions")
    assert actions.shape == (5, 3, 2) and torch.equal(actions, base + 0.25 * residual.view(5, 3, 2))


# --- stopped, killed, resumed ----------------------------------------------------------------------------------------


def test_all_that_learning_changes_comes_back(run: DecoratorRun) -> None:
    """Weights, targets, moments, alpha, counters, generators: a resumed run would else be another experiment."""
    first = learner(policy_frequency=2)
    first.remember(transitions(30))
    first.update(7)
    first.step, first.episodes = 40, np.array([3, 1, 4, 1])
    saved, info = first.snapshot()()
    second = learner(policy_frequency=2)
    assert not equal(second.payload(), saved)
    assert second.restore(saved) == []
    again = {**second.payload(), "replay": saved["replay"]}  # which has a file of its own
    assert equal(again, saved) and info == second.info()
    first.update(1)
    assert not equal(first.payload()["res_actor"], saved["res_actor"]), "the snapshot went on with the learner"


@pytest.mark.parametrize("save_buffer", [True, False])
def test_stopped_and_resumed(
    run: DecoratorRun, monkeypatch: pytest.MonkeyPatch, capsys: Any, save_buffer: bool
) -> None:
    """A signal ends it with its state on disk; it goes on with new episodes, and with or without what it had seen."""
    flags = ["--save-buffer"] if save_buffer else []
    with monkeypatch.context() as patch:
        stop_at(patch, 30)
        assert run(*flags) == 130
    assert "stopped by SIGTERM at decision step 32; saved" in told(capsys)
    assert run.events("end")[0]["state"] == "interrupted"
    stopped = run.last()
    assert (stopped["step"], stopped["updates"], stopped["replay"]["added"]) == (32, 12, 32)
    updated: list[tuple[int, int]] = []  # (step, transitions that are there)
    update = DecoratorLearner.update
    monkeypatch.setattr(
        DecoratorLearner,
        "update",
        lambda self, count: (updated.append((self.step, self.replay.added)), update(self, count))[1],
    )
    assert run("--resume", *flags) == 0
    assert run.events("start")[0]["resumed_step"] == 32
    ended = run.last()
    if save_buffer:
        assert warnings(run) == "" and ended["updates"] == 28 and updated[0] == (40, 40)
        row = np.fromfile(run.checkpoints / "replay.bin", np.float32).reshape(64, -1)[:, :2]
        for env, episode in enumerate(stopped["episodes"]):  # those that were begun are not begun again
            seed = seed_of(1, env, episode)
            assert row[32 + env].tolist() == [seed >> 16, seed & 0xFFFF]
    else:
        assert "the replay buffer is empty: it was not saved (--save-buffer); updates go on when" in warnings(run)
        assert ended["updates"] == 12 + 12 and updated[0] == (48, 16) and not (run.checkpoints / "replay.bin").exists()
    assert all(one > other for one, other in zip(ended["episodes"], stopped["episodes"], strict=True))
    assert run("--resume", *flags) == 0
    assert equal(run.last(), ended), "a finished run went on"


def test_a_longer_run_keeps_its_replay_buffer(run: DecoratorRun) -> None:
    """Its size follows from the length: the transitions still lie in their places."""
    assert run("--save-buffer") == 0
    assert run("--save-buffer", "--resume", "--total-timesteps", "80") == 0
    assert warnings(run) == "" and run.last()["replay"] == {"added": 80, "capacity": 80}
    assert run("--save-buffer", "--resume", "--total-timesteps", "96", "--buffer-size", "40") == 0
    assert "its file is missing, cut or of another size" in warnings(run)


def test_a_buffer_file_that_is_cut_is_filled_anew(run: DecoratorRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 30)
        run("--save-buffer")
    file = run.checkpoints / "replay.bin"
    os.truncate(file, file.stat().st_size - 1)
    assert run("--save-buffer", "--resume") == 0
    assert "its file is missing, cut or of another size" in warnings(run)
    assert run.last()["replay"]["added"] == 32


def test_what_an_earlier_run_remembered_is_not_this_runs(run: DecoratorRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun afresh in the same folder: on a full disk the old file would else be read as if it were the new one's."""
    assert run("--save-buffer") == 0
    old = (run.checkpoints / "replay.bin").read_bytes()
    with monkeypatch.context() as patch:
        stop_at(patch, 8)
        assert run("--save-buffer", "--seed", "2") == 130
    assert 0 < (run.checkpoints / "replay.bin").stat().st_size < len(old)


@pytest.mark.parametrize("flags", [[], ["--overlap", "--reuse-base-action", "--save-buffer"]])
def test_a_captured_run_stops_and_goes_on(run: DecoratorRun, monkeypatch: pytest.MonkeyPatch, flags: list[str]) -> None:
    """On the stand-in for CUDA's graphs: the state comes through save, load and the next capture."""
    prepare = DecoratorLearner.prepare

    def on_a_gpu(self: DecoratorLearner) -> list[str]:
        self.graph = self.acting._graph = True
        self.sac._sorted_rows = False
        self._cuda = self.acting._cuda = fake_cuda_graphs
        return prepare(self)

    monkeypatch.setattr(DecoratorLearner, "prepare", on_a_gpu)
    with monkeypatch.context() as patch:
        stop_at(patch, 30)
        assert run(*flags) == 130
    assert warnings(run) == "" and (run.last()["step"], run.last()["updates"]) == (32, 12)
    moments = run.last()["optimizers"]["actor"]["state"][0]
    assert run(*flags, "--resume") == 0
    assert "captured" not in warnings(run) and run.last()["updates"] == (28 if flags else 24)
    steps = [int(kept["step"]) for kept in (moments, run.last()["optimizers"]["actor"]["state"][0])]
    assert steps == [12, run.last()["updates"]]


@pytest.mark.e2e
def test_killed_it_loses_what_came_after_the_last_checkpoint(run: DecoratorRun) -> None:
    """kill -9: no simulator stays behind, and the run goes on from where it was saved."""
    flags = [
        "--total-timesteps",
        "100000",
        "--save-freq",
        "16",
        "--log-freq",
        "8",
        "--save-buffer",
        "--num-workers",
        "2",
    ]
    process = run.start(*flags)
    while process.poll() is None and len(run.events("checkpoint")) < 3:
        time.sleep(0.01)
    workers = workers_of(process)
    process.kill()
    process.wait()
    saved = max(event["step"] for event in run.events("checkpoint"))
    assert len(workers) == 2 and not psutil.wait_procs(workers, timeout=5)[1]
    assert run("--resume", "--save-buffer", "--total-timesteps", str(saved + 40)) == 0
    resumed = run.events("start")[0]["resumed_step"]
    assert saved <= resumed <= saved + 32 and warnings(run) == ""
    assert run.last()["step"] == saved + 40 and run.last()["replay"]["added"] == saved + 40


@pytest.mark.parametrize("how", ["kill", "crash"])
def test_a_simulator_that_dies_is_named_and_costs_nothing_else(
    run: DecoratorRun, monkeypatch: pytest.MonkeyPatch, capsys: Any, how: str
) -> None:
    """No hang, a checkpoint of what was learned, and a resumed run that ends where it should have."""
    step = Rollouts.step
    with monkeypatch.context() as patch:
        if how == "crash":
            on_scripted_env(patch, succeed_at=(0,), fail_at=(0,), crash_at=8)

        def step_and_kill(self: Rollouts, made: DecoratorLearner, *, updates: int = 0) -> None:
            if how == "kill" and made.step == 24:
                os.kill(self.env._workers[1].pid, signal.SIGKILL)
            step(self, made, updates=updates)

        patch.setattr(Rollouts, "step", step_and_kill)
        began = time.monotonic()
        assert run("--num-workers", "2") == 1
        assert time.monotonic() - began < 20
    words = "was killed by SIGKILL" if how == "kill" else "exited with code 3; its last words: the scripted end"
    line = told(capsys)
    assert "simulator worker " in line and words in line
    assert run.events("end")[0]["state"] == "failed"
    kept = run.last()
    assert (kept["step"], kept["updates"]) == ((28, 8) if how == "kill" else (12, 0)), "in the midst of a round"
    assert run("--resume") == 0
    assert run.last()["step"] == 64 and run.events("checkpoint")[-1]["step"] == 64
    assert min(step for step in run.rows() if step) % 8 == 0


@pytest.mark.parametrize("value", [-1e4, -1.0])
def test_critics_that_run_away_are_said_once(run: DecoratorRun, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """Lost: a night, behind a success rate that no longer climbs."""
    monkeypatch.setattr(SacUpdate, "read_sums", lambda self: [10.0, 1.0, 10 * value, 10.0, 1.0, 0.0])
    assert run() == 0
    assert warnings(run).count("the critics run away") == (value < -100)


def test_a_policy_that_diverged_is_not_saved(run: DecoratorRun, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """A checkpoint of NaN would take the place of the last good one."""
    step = Rollouts.step

    def poison(self: Rollouts, made: DecoratorLearner, *, updates: int = 0) -> None:
        if made.step == 40:
            with torch.no_grad():
                made.actor.fc_mean.bias.fill_(float("nan"))
        step(self, made, updates=updates)

    monkeypatch.setattr(Rollouts, "step", poison)
    assert run("--save-freq", "16", "--prog-explore", "1") == 1
    assert "not finite" in told(capsys)
    assert run.last()["step"] == 32


FULL_DISK = """
import sys
from pathlib import Path
from pidec_train import rollouts
from pidec_train.__main__ import main
from tests.train.decorating import scripted_env

rollouts.make_vector_env = scripted_env
disk, arguments = Path(sys.argv[1]), {arguments!r}
(disk / "filler").write_bytes(bytes(3 * 2**20 - 1_650_000))
assert main(arguments) == 0
assert [path.name for path in (disk / "ck").glob("step-*.pt")] == ["step-000004000.pt"]
"""


def test_a_full_disk_costs_the_buffer_and_not_the_run(run: DecoratorRun, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    run.checkpoints = tmp_path / "disk" / "ck"
    steps = ["--total-timesteps", "4000", "--num-envs", "200", "--training-freq", "200", "--utd", "0.01"]
    wide = ["--act-horizon", "15", "--save-buffer", "--save-freq", "2000"]  # twice 800 kB
    arguments = ["decorator", *run.arguments(*steps, *wide)]
    done = on_a_small_disk(tmp_path / "disk", FULL_DISK.format(arguments=arguments))
    assert done.returncode == 0, done.stderr
    assert "the replay buffer is not saved: No space left on device; a resumed run would fill it anew" in warnings(run)
    assert run.events("end")[0]["state"] == "succeeded"
