"""The diffusion trainer from its command line: what it writes, how it stops, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pidec_train import train_diffusion
from pidec_train.__main__ import main
from pidec_train.checkpoint_folder import CheckpointFolder
from pidec_train.diffusion_learner import DiffusionLearner
from pidec_train.protocol.rundir import read_checkpoint_info
from tests.train.running import SMALL, Run, poison


def test_a_run_leaves_curve_and_checkpoint(run: Run) -> None:
    assert run("--action-norm", "min_max", "--obs-norm", "mean_std") == 0
    assert list(run.rows()) == [1, 2, 4, 8, 12]
    assert set(run.rows()[4]) == {
        "train/loss",
        "train/lr",
        "throughput/iters_per_min",
        "time/data_ratio",
        "time/eval_wait_ratio",
        "time/save_wait_ratio",
    }
    assert run.rows()[12]["train/loss"] < run.rows()[1]["train/loss"]  # type: ignore[operator]
    start, end = run.events("start")[0], run.events("end")[0]
    assert (start["kind"], start["step_name"], start["total_steps"], start["resumed_step"]) == (
        "diffusion",
        "iteration",
        12,
        None,
    )
    assert end["state"] == "succeeded"
    assert run.events("checkpoint") == [{"step": 12, "path": str(run.checkpoints / "step-000000012.pt")}]
    info = read_checkpoint_info(run.checkpoints / "step-000000012.pt")
    assert info and (info.step, info.env_id) == (12, "PushCube-v1")
    assert (info.action_norm, info.obs_norm) == ("min_max", "mean_std")
    assert (info.obs_dim, info.act_dim, info.successes) == (5, 7, None)
    payload = run.last()
    assert payload["config"]["lr"] == 1e-3 and payload["obs_norm"]["kind"] == "mean_std"
    assert not (run.checkpoints / "best.pt").exists(), "nothing was evaluated"


def test_saves_every_so_often_and_keeps_the_last(run: Run) -> None:
    assert run("--save-freq", "5") == 0
    assert [event["step"] for event in run.events("checkpoint")] == [5, 10, 12]
    assert sorted(p.name for p in run.checkpoints.glob("*.pt")) == ["last.pt", "step-000000012.pt"]


def test_demos_recorded_by_maniskills_own_programs_train_as_they_are(tmp_path: Path, repo: Path) -> None:
    recorded = Run(tmp_path, repo / "tests" / "data" / "maniskill_cli_pushcube.h5")
    assert recorded("--action-norm", "min_max") == 0
    assert recorded.last()["obs_dim"] == 35


def test_a_stop_while_loading_leaves_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    load = train_diffusion.load_demos

    def load_and_signal(*args: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return load(*args)

    monkeypatch.setattr(train_diffusion, "load_demos", load_and_signal)
    assert run() == 130
    assert run.events("end")[0]["state"] == "interrupted" and not run.rows()


def test_another_seed_is_another_run(run: Run, tmp_path: Path) -> None:
    assert run() == 0
    other = Run(tmp_path, run.demos, "b")
    assert other("--seed", "2") == 0
    name = "noise_pred_net.final_conv.1.weight"
    assert not torch.equal(run.last()["agent"][name], other.last()["agent"][name])


def test_a_fresh_run_in_a_used_folder_does_not_mix_with_the_old_one(run: Run) -> None:
    assert run() == 0
    assert run("--demo-path", "nowhere.h5") == 2
    assert run.last()["step"] == 12, "a typing error has taken the old checkpoints away"
    assert run("--total-iters", "6") == 0
    assert run.last()["step"] == 6
    assert "moved to" in run.events("warning")[0]["message"]


def test_a_loss_that_is_not_finite_twice_ends_the_run_and_keeps_the_last_good_state(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def harm(learner: DiffusionLearner) -> None:
        if learner.iteration == 6:
            learner.windows.actions.fill_(float("nan"))

    poison(monkeypatch, harm)
    assert run("--save-freq", "3", "--log-freq", "2", "--total-iters", "40") == 1
    error = capsys.readouterr().err
    assert "the loss was not finite twice in a row, at iterations 7 and 8" in error and ".pt" in error
    last = run.last()
    assert last["step"] in (6, 9), "6, or what was saved before the losses were read"
    assert all(torch.isfinite(tensor).all() for tensor in last["agent"].values())
    assert run.events("end")[0]["state"] == "failed"


def test_one_loss_that_is_not_finite_costs_one_update(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single bad batch in a night must not end it; the user hears of it."""
    kept: list[torch.Tensor] = []

    def harm(learner: DiffusionLearner) -> None:
        if learner.iteration == 6:
            kept.append(learner.windows.actions.clone())
            learner.windows.actions.fill_(float("inf"))
        elif learner.iteration == 7:
            learner.windows.actions.copy_(kept[0])

    poison(monkeypatch, harm)
    assert run() == 0
    rows = run.rows()
    assert rows[8]["train/loss"] is not None, "the mean of the finite ones"
    assert "train/skipped_updates" not in rows[4] and rows[8]["train/skipped_updates"] == 1
    assert "an update was left out" in run.events("warning")[0]["message"]
    assert all(torch.isfinite(tensor).all() for tensor in run.last()["agent"].values())


def test_weights_that_are_not_finite_are_never_saved(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def harm(learner: DiffusionLearner) -> None:
        if learner.iteration == 6:
            with torch.no_grad():
                next(learner.policy.parameters()).fill_(float("nan"))

    poison(monkeypatch, harm)
    assert run("--save-freq", "1", "--log-freq", "100", "--total-iters", "40") == 1
    error = capsys.readouterr().err
    assert "not finite" in error and "step-000000006.pt" in error
    assert run.last()["step"] == 6


def test_out_of_memory_names_the_next_batch_size(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def full(self: DiffusionLearner, at_most: int) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate …")

    monkeypatch.setattr(DiffusionLearner, "advance", full)
    assert run("--batch-size", "64") == 1
    assert "CUDA out of memory at batch_size 64. Try --batch-size 32." in capsys.readouterr().err


def test_out_of_memory_on_the_host_is_one_line(run: Run, capsys: Any) -> None:
    assert run("--batch-size", "64", "--unet-dims", "8000000", "16000000") == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("pidec-train: out of memory at batch_size 64. Try ")


def test_a_full_disk_costs_one_checkpoint_and_not_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    save = CheckpointFolder.save

    def sometimes(self: Any, payload: Any, info: Any) -> Path:
        if payload["step"] == 5:
            raise OSError(28, "No space left on device")
        return save(self, payload, info)

    monkeypatch.setattr(CheckpointFolder, "save", sometimes)
    assert run("--save-freq", "5") == 0
    assert [event["step"] for event in run.events("checkpoint")] == [10, 12]
    assert "No space left on device" in run.events("warning")[0]["message"]


def test_advice_about_values_that_are_legal(run: Run) -> None:
    assert run("--batch-size", "100", "--warmup-steps", "12") == 0
    batch, warmup = (event["message"] for event in run.events("warning"))
    assert run("--engine", "graph", "--warmup-steps", "1", "--extend-to", "14") == 0
    told = [event["message"] for event in run.events("warning")]
    assert any("engine graph is for CUDA devices" in message for message in told) != torch.cuda.is_available()
    assert any("extend_to 14, but nothing to go on from" in message for message in told)
    assert "batch_size 100 is more than the 67 windows" in batch
    assert "warmup_steps 12 is not less than total_iters 12" in warmup


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda(run: Run, capsys: Any) -> None:
    assert run("--device", "cuda") == 2
    error = capsys.readouterr().err
    assert error.startswith("pidec-train: device cuda: ") and "Use --device cpu or auto" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--unet-dims", "8", "12"], "unet_dims [12] must be positive and divisible by n_groups 8"),
        (["--act-horizon", "16"], "obs_horizon 2 + act_horizon 16 - 1 must not exceed pred_horizon 16"),
        (["--pred-horizon", "15"], "pred_horizon 15 must be divisible by 2"),
        (["--batch-size", "0"], "batch_size = 0"),
        (["--batch-size", "100000000000000"], "batch_size = 100000000000000"),  # would take all memory, bit by bit
        (["--num-diffusion-iters", "20000"], "num_diffusion_iters = 20000"),  # `evaluate` would refuse it
        (["--env-id", "PickCube-v1"], "holds demos of PushCube-v1, not of env_id PickCube-v1"),
        (["--control-mode", "pd_joint_pos"], "was recorded with control mode pd_ee_delta_pose"),
        (["--demo-path", "nowhere.h5"], "demo file nowhere.h5 does not exist"),
        (["--num-demo-traj", "9"], "num_demo_traj 9 is more than the 3 demos"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(run: Run, capsys: Any, flags: list[str], told: str) -> None:
    assert run(*flags) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("pidec-train: ") and told in error[-1]
    assert not any("Traceback" in line for line in error)


def test_joint_positions_beyond_one_need_normalisation(run: Run, make_demos: Any, capsys: Any) -> None:
    """The sampler clips to [-1, 1]: joint angles would be cut off silently."""
    import h5py

    path = make_demos(control_mode="pd_joint_pos")
    with h5py.File(path, "r+") as h5:
        h5["traj_0/actions"][3, 1] = 2.5
    assert run("--control-mode", "pd_joint_pos") == 2
    assert "reach 2.50. Use --action-norm min_max." in capsys.readouterr().err
    assert run("--control-mode", "pd_joint_pos", "--action-norm", "min_max") == 0


def test_by_hand_it_writes_into_the_workspace(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIDEC_WORKSPACE", str(tmp_path / "ws"))
    assert main(["diffusion", "--demo-path", str(run.demos), *SMALL, "--total-iters", "1"]) == 0
    (metrics,) = (tmp_path / "ws" / "jobs" / "runs").glob("hand-*-PushCube-v1/attempt-1/metrics.jsonl")
    (last,) = (tmp_path / "ws" / "checkpoints").glob("hand-*-PushCube-v1/last.pt")
    assert metrics.parent.parent.name == last.parent.name
    assert oct(last.resolve().stat().st_mode & 0o777) == "0o600"


def test_a_real_process_saves_on_sigterm_and_leaves_at_once_on_the_second(run: Run) -> None:
    """What the queue's cancel, a reboot and Ctrl-C do."""
    run._attempt = 1
    command = [sys.executable, "-m", "pidec_train", "diffusion", *run.arguments("--total-iters", "1000000")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True)
    try:
        wait_for(lambda: run.run_dir.joinpath("metrics.jsonl").exists() and len(run.rows()) >= 2)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, error
    assert "pidec-train: stopped by SIGTERM at iteration" in error and "Traceback" not in error
    assert run.events("end")[0]["state"] == "interrupted"
    assert run.last()["step"] == run.events("checkpoint")[-1]["step"]
    code = (
        "from pidec_train.stopping import StopRequest; import signal, time; s = StopRequest(); s.install()\n"
        "signal.raise_signal(signal.SIGINT); print(bool(s), flush=True); signal.raise_signal(signal.SIGINT)\n"
        "time.sleep(9)"
    )
    twice = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (twice.returncode, twice.stdout) == (130, "True\n")


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)


def test_training_needs_no_simulator_unless_it_evaluates(run: Run) -> None:
    """GPU machines without ManiSkill train as well, and are told at once when they are asked to evaluate."""
    run._attempt = 1
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['mani_skill', 'sapien', 'gymnasium']))\n"
        "from pidec_train.__main__ import main\n"
        f"argv = ['diffusion', *{run.arguments('--total-iters', '2')!r}]\n"
        "print(main(argv), main([*argv, '--eval-freq', '1']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "0 2", done.stderr
    assert "evaluation needs ManiSkill" in done.stderr.strip().splitlines()[-1]


def test_help_into_a_pipe_that_closes_is_no_traceback() -> None:
    """`pidec-train diffusion --help | head` is how people read a long help."""
    command = [sys.executable, "-m", "pidec_train", "diffusion", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""


def test_help_is_fast_and_without_torch(repo: Path) -> None:
    """`pidec-train --help` and a typing error must not cost the seconds that torch takes to load."""
    code = (
        "import sys; from pidec_train.__main__ import main\n"
        "for argv in (['--help'], ['diffusion', '--help'], ['diffusion', '--no-such-flag'], ['nonsense'], []):\n"
        "    try: main(argv)\n"
        "    except SystemExit as end: codes = globals().setdefault('codes', []); codes.append(end.code)\n"
        "print(codes, main(['diffusion', '--batch-size', '0']), [m for m in ('torch', 'h5py', 'wandb', 'mani_skill')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=repo)
    assert done.stdout.splitlines()[-1] == "[0, 0, 2, 2, 2] 2 []", done.stderr


def test_every_config_field_is_a_flag() -> None:
    """The queue starts jobs by `command_line`: a field without its flag would make a job that cannot start."""
    from pidec_train.protocol.config import DiffusionConfig, command_line

    changed = DiffusionConfig(
        env_id="A-v1",
        demo_path="d.h5",
        num_demo_traj=3,
        total_iters=5,
        batch_size=7,
        lr=0.5,
        seed=9,
        obs_horizon=1,
        act_horizon=2,
        pred_horizon=8,
        diffusion_step_embed_dim=32,
        unet_dims=(16, 32),
        n_groups=4,
        num_diffusion_iters=50,
        warmup_steps=1,
        control_mode="pd_joint_pos",
        action_norm="min_max",
        obs_norm="mean_std",
        log_freq=3,
        eval_freq=0,
        save_freq=0,
        num_eval_episodes=4,
        num_eval_envs=2,
        max_episode_steps=30,
        device="cpu",
        precision="bf16",
        engine="eager",
        extend_to=6,
        track=True,
        wandb_project_name="p",
        wandb_entity="e",
        exp_name="x y",
    )
    assert all(getattr(changed, name) != field.default for name, field in DiffusionConfig.model_fields.items())
    seen: list[Any] = []

    class Fake:
        @staticmethod
        def run(config: Any, **kwargs: Any) -> int:
            seen.append((config, kwargs))
            return 0

    import pidec_train

    before = pidec_train.train_diffusion
    pidec_train.train_diffusion = Fake  # type: ignore[attr-defined]
    try:
        flags = ["--run-dir", "/r", "--checkpoint-dir", "/c", "--resume"]
        assert main([*command_line("diffusion", changed), *flags]) == 0
    finally:
        pidec_train.train_diffusion = before
    assert seen[0][0] == changed
    assert seen[0][1]["resume"] is True and json.dumps(str(seen[0][1]["run_dir"])) == '"/r"'
