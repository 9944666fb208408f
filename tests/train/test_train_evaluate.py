"""Evaluation in the real simulator: success rates that can be compared, and what is made of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pidec_train import train_diffusion
from pidec_train.__main__ import main
from pidec_train.envs.make import make_vector_env
from pidec_train.evaluate import run_episodes, wilson_interval
from pidec_train.models.diffusion_policy import DiffusionPolicy
from pidec_train.protocol.episodes import episodes_file, read_episodes
from pidec_train.protocol.errors import Stopped
from pidec_train.protocol.rundir import MetricsLine, parse_metrics, read_checkpoint_info
from pidec_train.stopping import StopRequest
from tests.train.running import Run

TASK = {"control_mode": "pd_ee_delta_pose", "obs_horizon": 2, "act_horizon": 4, "max_episode_steps": 12}
QUICK = ["--max-episode-steps", "12", "--num-eval-envs", "2", "--num-eval-episodes", "3"]


def lines(run_dir: Path) -> list[MetricsLine]:
    return [line for _, line in parse_metrics((run_dir / "metrics.jsonl").read_bytes())]


@pytest.fixture(scope="module")
def simulators() -> Iterator[Any]:
    env = make_vector_env("PushCube-v1", 3, num_workers=1, **TASK)
    yield env
    env.close()


@pytest.fixture(scope="module")
def policy() -> DiffusionPolicy:
    torch.manual_seed(0)
    return DiffusionPolicy(35, 7, unet_dims=(8,)).eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """A run on the bundled demos that evaluates twice in the simulator: exit code and folder."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    code = main(
        [
            "diffusion",
            "--demo-path",
            "bundled:PushCube-v1.h5",
            "--env-id",
            "PushCube-v1",
            "--unet-dims",
            "8",
            "--batch-size",
            "16",
            "--total-iters",
            "5",
            "--eval-freq",
            "3",
            "--log-freq",
            "1",
            "--device",
            "cpu",
            "--num-diffusion-iters",
            "10",
            "--num-demo-traj",
            "4",
            *QUICK,
            "--run-dir",
            str(folder / "run"),
            "--checkpoint-dir",
            str(folder / "ck"),
        ]
    )
    return code, folder


@pytest.mark.sim
def test_every_episode_is_counted_once_from_its_own_seed(simulators: Any, policy: DiffusionPolicy) -> None:
    """Counting whichever episodes end first would favour short ones, which are the successes."""
    seen: list[int] = []
    result = run_episodes(
        policy, simulators, num_episodes=7, base_seed=1001, sampler="ddim", num_steps=2, progress=seen.append
    )
    assert [seed for seed, _, _ in result.per_episode] == list(range(1001, 1008))
    assert all(success or length == 12 for _, success, length in result.per_episode)
    assert result.episodes == 7 and seen[-1] == 7
    assert result.successes == sum(success for _, success, _ in result.per_episode)
    assert result.mean_length == pytest.approx(sum(length for _, _, length in result.per_episode) / 7)


@pytest.mark.sim
def test_result_does_not_depend_on_the_number_of_simulators(
    simulators: Any, policy: DiffusionPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each episode starts alike and meets the same noise, whoever runs beside it."""
    chunks: dict[int, list[torch.Tensor]] = {}
    sample = DiffusionPolicy.sample_actions

    def remember(self: DiffusionPolicy, obs_seq: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        seeds = [generator.initial_seed() for generator in kwargs["generator"]]
        actions = sample(self, obs_seq, **kwargs)
        for seed, chunk in zip(seeds, actions, strict=True):
            chunks.setdefault(seed, []).append(chunk)
        return actions

    monkeypatch.setattr(DiffusionPolicy, "sample_actions", remember)
    how = {"num_episodes": 4, "base_seed": 50, "num_steps": 3}
    run_episodes(policy, simulators, **how)
    together, chunks = chunks, {}
    alone_env = make_vector_env("PushCube-v1", 1, **TASK)
    try:
        run_episodes(policy, alone_env, **how)
    finally:
        alone_env.close()
    assert sorted(chunks) == sorted(together) == [50, 51, 52, 53]
    for seed, alone in chunks.items():
        assert len(alone) == len(together[seed]) == 3
        assert torch.allclose(torch.stack(alone), torch.stack(together[seed]), atol=1e-3), seed


@pytest.mark.sim
def test_a_stop_does_not_wait_for_the_episodes(simulators: Any, policy: DiffusionPolicy) -> None:
    stop = StopRequest()

    def after_the_first(over: int) -> None:
        stop.request("SIGTERM")

    with pytest.raises(Stopped):
        run_episodes(
            policy,
            simulators,
            num_episodes=100,
            base_seed=0,
            sampler="ddim",
            num_steps=1,
            progress=after_the_first,
            stop=stop,
        )


@pytest.mark.sim
def test_training_evaluates_saves_and_links_the_best(trained: tuple[int, Path]) -> None:
    code, folder = trained
    assert code == 0
    found = lines(folder / "run")
    rows = {line.step: line.metrics for line in found if "eval/success_rate" in line.metrics}
    assert set(rows) in ({3, 5}, {5}), "3 only if the simulators were up before iteration 5"
    assert set(rows[5]) == {"eval/success_rate", "eval/success_at_end", "eval/return", "eval/episode_length"}
    phases = [(line.step, line.detail()["phase"]) for line in found if line.event == "eval"]
    assert phases[-2:] == [(5, "start"), (5, "done")], "the final one always runs"
    assert phases[:-2] in ([(3, "start"), (3, "done")], [(3, "skipped")])
    for link in ("best.pt", "last.pt"):
        info = read_checkpoint_info((folder / "ck" / link).resolve())
        assert info and info.episodes == 3 and info.successes is not None
        file = read_episodes(episodes_file((folder / "ck" / link).resolve()))
        assert file and (file.env_id, file.policy, file.step) == ("PushCube-v1", "diffusion", info.step)
        assert len(file.episodes) == 1 + (0 < info.successes < 3) and len(file.episodes[0].frames[0]) == 35
    waited = {line.step: line.metrics["time/eval_wait_ratio"] for line in found if "train/loss" in line.metrics}
    assert set(waited) == {1, 2, 3, 4, 5} and not any(waited.values()), "training stood still for an evaluation"
    assert found[-2].metrics["time/eval_wait_ratio"] > 0.5, "at the end it waits for the last one, and says so"
    order = [(line.step, line.event or next(iter(line.metrics))) for line in found]
    assert order.index((5, "train/loss")) < order.index((5, "eval/success_rate")), "training did not wait for it"


@pytest.mark.sim
def test_an_evaluation_that_was_cut_off_is_made_up_for_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the last evaluation, a resumed run would otherwise end without its result, and without best.pt."""
    flags = [
        "diffusion",
        "--demo-path",
        "bundled:PushCube-v1.h5",
        "--env-id",
        "PushCube-v1",
        "--unet-dims",
        "8",
        "--batch-size",
        "16",
        "--total-iters",
        "2",
        "--eval-freq",
        "100",
        "--device",
        "cpu",
        "--num-demo-traj",
        "2",
        "--num-diffusion-iters",
        "4",
        *QUICK,
        "--checkpoint-dir",
        str(tmp_path / "ck"),
    ]

    wait = train_diffusion.EvaluationBeside.wait

    def stopped_in_the_middle(self: Any, stop: Any, what: str) -> Any:
        for note in wait(self, stop, what):
            yield note
            signal.raise_signal(signal.SIGTERM)  # at the first note: it has begun

    with monkeypatch.context() as patch:
        patch.setattr(train_diffusion.EvaluationBeside, "wait", stopped_in_the_middle)
        assert main([*flags, "--run-dir", str(tmp_path / "1")]) == 130
    assert lines(tmp_path / "1")[-1].detail()["state"] == "interrupted"
    assert (tmp_path / "ck" / "last.pt").exists() and not (tmp_path / "ck" / "best.pt").exists()
    assert main([*flags, "--run-dir", str(tmp_path / "2"), "--resume"]) == 0
    assert [line.step for line in lines(tmp_path / "2") if "eval/success_rate" in line.metrics] == [2]
    assert (tmp_path / "ck" / "best.pt").resolve() == (tmp_path / "ck" / "last.pt").resolve()


@pytest.mark.sim
def test_evaluate_prints_one_json_object(trained: tuple[int, Path], tmp_path: Path, capsys: Any) -> None:
    _, folder = trained
    flags = ["--num-steps", "10", *QUICK, "--run-dir", str(tmp_path), "--json", "--table"]
    assert main(["evaluate", str(folder / "ck" / "last.pt"), *flags]) == 0
    out = capsys.readouterr().out
    answer = json.loads(out)
    assert out.count("\n") == 1
    assert (answer["env_id"], answer["episodes"], answer["sampler"]) == ("PushCube-v1", 3, "ddpm")
    low, high = answer["wilson_95"]
    assert low <= answer["success_rate"] <= high
    assert [episode["seed"] for episode in answer["per_episode"]] == [1001, 1002, 1003]
    trained_result = read_checkpoint_info((folder / "ck" / "last.pt").resolve())
    assert trained_result and answer["successes"] == trained_result.successes, "the same seeds, the same weights"
    assert read_episodes(tmp_path / "episodes.json") == read_episodes(
        episodes_file((folder / "ck" / "last.pt").resolve())
    ), "what the training saw, frame by frame"
    found = lines(tmp_path)
    assert found[0].detail()["kind"] == "evaluate" and found[-1].detail()["state"] == "succeeded"
    assert [line.step for line in found if line.metrics] == [3]


@pytest.mark.sim
def test_evaluate_shows_a_table(trained: tuple[int, Path], tmp_path: Path, capsys: Any) -> None:
    _, folder = trained
    flags = ["--sampler", "ddim", "--num-steps", "2", *QUICK, "--table"]
    assert main(["evaluate", str(folder / "ck" / "best.pt"), *flags]) == 0
    out = capsys.readouterr().out
    assert "1001" in out and "1003" in out and "95 % interval" in out and ", return 0" in out
    (tmp_path / "file").touch()
    assert main(["evaluate", str(folder / "ck" / "best.pt"), *QUICK, "--run-dir", str(tmp_path / "file" / "x")]) == 2
    assert "cannot be written: Not a directory. Choose another --run-dir" in capsys.readouterr().err


@pytest.mark.sim
def test_a_policy_of_another_task_is_refused(trained: tuple[int, Path], capsys: Any) -> None:
    _, folder = trained
    assert (
        main(["evaluate", str(folder / "ck" / "last.pt"), *QUICK, "--num-steps", "10", "--env-id", "PickCube-v1"]) == 2
    )
    assert "the policy has obs_dim 35, but PickCube-v1 has obs_dim 42" in capsys.readouterr().err


@pytest.mark.sim
def test_an_unknown_task_is_answered_with_the_nearest(trained: tuple[int, Path], capsys: Any) -> None:
    _, folder = trained
    assert (
        main(["evaluate", str(folder / "ck" / "last.pt"), *QUICK, "--num-steps", "10", "--env-id", "PushCub-v1"]) == 2
    )
    assert 'did you mean "PushCube-v1"?' in capsys.readouterr().err


@pytest.mark.sim
def test_training_finds_out_early_that_the_demos_are_of_another_simulator(
    make_demos: Any, tmp_path: Path, capsys: Any
) -> None:
    """ManiSkill2's observations are longer: hours of training would end in an evaluation that cannot run."""
    code = main(
        [
            "diffusion",
            "--demo-path",
            str(make_demos(obs_dim=50)),
            "--env-id",
            "PushCube-v1",
            "--unet-dims",
            "8",
            "--batch-size",
            "4",
            "--total-iters",
            "1000000",
            "--eval-freq",
            "500000",
            "--device",
            "cpu",
            *QUICK,
            "--run-dir",
            str(tmp_path / "run"),
            "--checkpoint-dir",
            str(tmp_path / "ck"),
        ]
    )
    assert code == 2
    error = capsys.readouterr().err
    assert "have obs_dim 50, but PushCube-v1 with control mode pd_ee_delta_pose has obs_dim 35" in error


def test_inspect_tells_what_it_is(trained: tuple[int, Path], capsys: Any) -> None:
    _, folder = trained
    assert main(["inspect", str(folder / "ck" / "last.pt")]) == 0
    words = capsys.readouterr().out
    for part in (
        "PushCube-v1, control mode pd_ee_delta_pose",
        "5 of 5 iterations",
        "of 3 episodes (95 % interval",
        "observation 35, action 7",
        "ok, sha256",
    ):
        assert part in words
    assert main(["inspect", str(folder / "ck" / "last.pt"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["kind"], facts["origin"], facts["step"], facts["unet_dims"]) == ("diffusion", "pidec", 5, [8])


def test_inspect_into_a_pipe_that_closes_is_no_traceback(trained: tuple[int, Path]) -> None:
    """`pidec-train inspect CKPT | head -3`"""
    command = [sys.executable, "-m", "pidec_train", "inspect", str(trained[1] / "ck" / "last.pt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""


def test_inspect_notices_damage(trained: tuple[int, Path], tmp_path: Path, capsys: Any) -> None:
    _, folder = trained
    source = (folder / "ck" / "last.pt").resolve()
    copy = tmp_path / source.name
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    copy.with_suffix(".json").write_bytes(source.with_suffix(".json").read_bytes())
    assert main(["inspect", str(copy)]) == 1
    assert "NOT OK: its contents do not match" in capsys.readouterr().out


def test_inspect_of_something_else_is_one_line(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "x.pt").write_text("hello")
    for argv in (["inspect", str(tmp_path / "x.pt")], ["evaluate", str(tmp_path / "x.pt")]):
        assert main(argv) == 2
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert last.startswith("pidec-train: ") and "is not a checkpoint" in last


def test_wilson_interval_against_known_values() -> None:
    """Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for successes, episodes, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson_interval(successes, episodes) == pytest.approx((low, high), abs=1e-4)
    assert wilson_interval(20, 20)[1] == 1.0


def test_more_denoising_steps_than_were_trained_is_said_with_the_number_that_is_possible(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """No simulators are started to find that out."""
    assert run("--num-diffusion-iters", "10") == 0
    monkeypatch.setattr("pidec_train.evaluate_command._simulators", lambda *args: 1 / 0)
    assert main(["evaluate", str(run.checkpoints / "last.pt"), "--num-steps", "100"]) == 2
    assert capsys.readouterr().err.strip().endswith("Use --num-steps 10, or less.")
