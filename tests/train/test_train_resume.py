"""Going on after a stop, a kill, a crash: what must be the same, what is refused, what is said."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pidec_train import diffusion_learner
from pidec_train.__main__ import main
from pidec_train.algos.schedule import warmup_cosine
from pidec_train.algos.stepping import Stepper
from pidec_train.checkpoint import read_payload
from pidec_train.protocol.rundir import read_checkpoint_info
from tests.fakes import fake_cuda_graphs
from tests.train.running import Run, stop_after
from tests.train.small_disk import on_a_small_disk


def kill_at(run: Run, iteration: int, *flags: str) -> int:
    """A real process, killed by SIGKILL as soon as its rows have come to `iteration`. Returns its exit code."""
    process = run.start(*flags)
    while process.poll() is None and max(run.rows(), default=0) < iteration:
        time.sleep(0.001)
    process.kill()
    return process.wait()


@pytest.mark.e2e
def test_killed_at_any_moment_and_resumed_equals_undisturbed(run: Run, tmp_path: Path) -> None:
    """kill -9 while it learns, saves or evaluates nothing: the bits of the end are those of a quiet night."""
    flags = ["--total-iters", "120", "--save-freq", "7", "--log-freq", "1"]
    assert run(*flags) == 0
    other, rng, kills = Run(tmp_path, run.demos, "b"), random.Random(3), 0
    for reach in (20, 45, 70, 100):
        kills += kill_at(other, reach + rng.randrange(8), *flags, *(["--resume"] if kills else [])) == -signal.SIGKILL
    assert kills >= 3, "it was too quick to be disturbed"
    assert other(*flags, "--resume") == 0
    assert 60 < other.events("start")[0]["resumed_step"] < 120
    undisturbed, resumed = run.last(), other.last()
    for weights in ("agent", "ema_agent"):
        for name, tensor in undisturbed[weights].items():
            assert torch.equal(tensor, resumed[weights][name]), (weights, name)


@pytest.mark.parametrize("batch_size", ["16", "100"])  # several epochs; a batch larger than the demos
def test_stopped_and_resumed_equals_undisturbed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: str
) -> None:
    """A job that was interrupted must not end up as another experiment: every bit is the same."""
    assert run("--batch-size", batch_size) == 0
    other = Run(tmp_path, run.demos, "b")
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        assert other("--batch-size", batch_size) == 130
    assert other.events("end")[0]["state"] == "interrupted"
    assert "iteration 7" in other.events("end")[0]["reason"]
    assert other.last()["step"] == 7
    assert other("--batch-size", batch_size, "--resume") == 0
    assert other.events("start")[0]["resumed_step"] == 7 and min(other.rows()) == 8
    undisturbed, resumed = run.last(), other.last()
    for weights in ("agent", "ema_agent"):
        for name, tensor in undisturbed[weights].items():
            assert torch.equal(tensor, resumed[weights][name]), (weights, name)
    assert torch.equal(undisturbed["generators"]["noise"], resumed["generators"]["noise"])
    moments = [payload["optimizer"]["state"][3]["exp_avg_sq"] for payload in (undisturbed, resumed)]
    assert torch.equal(*moments)
    info = read_checkpoint_info(other.checkpoints / "step-000000012.pt")
    assert info and info.parent_sha256, "where it came from is not told"


def test_thread_count_comes_back_with_the_state(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads add in another order than one: the resumed run would drift from what it was."""
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        run()
    path = run.checkpoints / "last.pt"
    assert read_payload(path)["threads"] == 1
    torch.set_num_threads(2)
    assert run("--resume") == 0
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--lr", "0.1"], "lr is 0.1 but was 0.001"),
        (["--total-iters", "20"], "total_iters is 20 but was 12"),
        (["--unet-dims", "16", "32"], "unet_dims is [16, 32] but was [8, 16]"),
        (["--num-demo-traj", "2"], "num_demo_traj is 2 but was None"),
    ],
)
def test_resume_refuses_another_config_by_name(run: Run, capsys: Any, flags: list[str], told: str) -> None:
    assert run() == 0
    assert run("--resume", *flags) == 2
    assert f"cannot resume with another config: {told}" in capsys.readouterr().err
    assert run.events("end")[0]["state"] == "failed"


def test_resume_refuses_other_demos_under_the_same_name(run: Run, make_demos: Any, capsys: Any) -> None:
    assert run() == 0
    make_demos(seed=5)
    assert run("--resume") == 2
    assert "does not hold the demos the run began with" in capsys.readouterr().err


def test_resume_may_change_what_does_not_matter(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        run()
    moved = run.demos.rename(run.demos.with_name("moved.h5"))
    run.demos.with_suffix(".json").rename(moved.with_suffix(".json"))
    run.demos = moved
    assert run("--resume", "--log-freq", "1", "--save-freq", "4", "--num-eval-episodes", "7") == 0
    assert [event["step"] for event in run.events("checkpoint")] == [4, 8, 12]


def test_resume_passes_over_a_damaged_checkpoint_and_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A disk error in the newest checkpoint costs some iterations; with nothing good left it is no silent restart."""
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        run()
    (run.checkpoints / "best.pt").symlink_to("step-000000005.pt")  # as if it had been evaluated
    assert run("--resume") == 0
    damaged = run.checkpoints / "step-000000012.pt"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    assert run("--resume") == 0
    assert run.events("start")[0]["resumed_step"] == 5
    assert "step-000000012.pt is passed over" in run.events("warning")[0]["message"]
    for path in run.checkpoints.glob("step-*.pt"):
        path.write_bytes(b"")
    assert run("--resume") == 1
    assert "no checkpoint in" in capsys.readouterr().err


def test_resume_without_a_checkpoint_begins_afresh_and_says_so(run: Run) -> None:
    assert run("--resume") == 0
    assert "beginning afresh" in run.events("warning")[0]["message"]
    assert run.last()["step"] == 12


def test_a_longer_run_says_what_becomes_of_the_schedule(run: Run, capsys: Any) -> None:
    """A finished run goes on, at a rate that somebody chose knowingly."""
    assert run() == 0
    assert run("--resume", "--extend-to", "30") == 0
    assert run.last()["step"] == 30 and run.events("start")[0]["total_steps"] == 30
    told = run.events("warning")[0]["message"]
    assert "extended from 12 to 30 iterations" in told and "from 2.45e-05 at iteration 12" in told
    assert run.rows()[13]["train/lr"] == pytest.approx(1e-3 * warmup_cosine(12, 2, 30))
    capsys.readouterr()
    assert run("--resume") == 2
    assert "extended to 30 iterations, past 12. Use --extend-to 30" in capsys.readouterr().err
    assert run("--resume", "--extend-to", "12") == 2
    assert "extend_to 12 must be more than total_iters 12" in capsys.readouterr().err


def test_a_run_that_was_extended_from_the_middle_equals_one_that_was_that_long(run: Run, tmp_path: Path) -> None:
    """What is extended is the end of the schedule, nothing else: the same batches and noise."""
    assert run("--total-iters", "2", "--warmup-steps", "50") == 0
    assert run("--total-iters", "2", "--warmup-steps", "50", "--resume", "--extend-to", "12") == 0
    other = Run(tmp_path, run.demos, "b")
    assert other("--total-iters", "12", "--warmup-steps", "50") == 0
    name = "noise_pred_net.final_conv.1.weight"
    assert torch.equal(run.last()["agent"][name], other.last()["agent"][name])


def test_a_finished_run_that_is_resumed_prepares_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes a minute, for an evaluation that was cut off."""
    assert run() == 0
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "prepare", lambda self: 1 / 0)
        assert run("--resume") == 0


def test_resume_by_hand_needs_to_know_what(capsys: Any) -> None:
    assert main(["diffusion", "--resume"]) == 2
    assert "--resume needs --run-dir and --checkpoint-dir" in capsys.readouterr().err


def test_a_checkpoint_after_resume_is_answered(capsys: Any) -> None:
    """Lost: ten minutes with the help, to find that the folder is what it wants."""
    assert main(["diffusion", "--resume", "checkpoints/last.pt", "--checkpoint-dir", "checkpoints"]) == 2
    told = capsys.readouterr().err
    assert "leave out checkpoints/last.pt" in told and "--checkpoint-dir" in told and len(told.splitlines()) == 1


FULL_DISK = """
import os, shutil, sys
from pathlib import Path
from pidec_train.__main__ import main

disk, arguments = Path(sys.argv[1]), {arguments!r}
(disk / "filler").write_bytes(bytes(3 * 2**20 - {size} * 3 // 2))
assert main([*arguments, "--save-freq", "5"]) == 1
kept = sorted(path.name for path in (disk / "ck").glob("step-*.pt"))
assert kept == ["step-000000005.pt"], kept
os.unlink(disk / "filler")
assert main([*arguments, "--save-freq", "5", "--resume"]) == 0
shutil.copytree(disk / "ck", {out!r}, symlinks=True)
"""


def test_a_disk_that_fills_up_costs_what_was_not_saved(run: Run, tmp_path: Path) -> None:
    """The run says so and ends with an error when its last state is lost; with room again it goes on, bit for bit."""
    assert run() == 0
    (tmp_path / "disk").mkdir()
    other = Run(tmp_path, run.demos, "b")
    other.checkpoints = tmp_path / "disk" / "ck"
    out = tmp_path / "saved"
    size = (run.checkpoints / "last.pt").stat().st_size
    arguments = ["diffusion", *other.arguments()]
    done = on_a_small_disk(tmp_path / "disk", FULL_DISK.format(arguments=arguments, size=size, out=str(out)))
    assert done.returncode == 0, done.stderr
    assert "warning: checkpoint of iteration 10 is not saved: " in done.stderr and "No space left" in done.stderr
    assert "pidec-train: checkpoint of iteration 12 is not saved" in done.stderr
    resumed = read_payload(out / "step-000000012.pt")
    assert all(torch.equal(weight, resumed["agent"][name]) for name, weight in run.last()["agent"].items())


def test_the_whole_trainer_captured_equals_eager(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, what is left before rows and checkpoints, a stop, a resume: on the stand-in for CUDA's graphs."""
    flags = ["--total-iters", "45", "--save-freq", "25", "--log-freq", "40"]
    assert run(*flags) == 0
    captured = Run(tmp_path, run.demos, "b")
    monkeypatch.setattr(diffusion_learner, "pick_engine", lambda config, device: (True, False))
    monkeypatch.setitem(Stepper.__init__.__kwdefaults__, "cuda", fake_cuda_graphs)
    with monkeypatch.context() as patch:
        stop_after(patch, 26)  # in a block that begins there
        assert captured(*flags) == 130
    assert captured.last()["step"] == 35, "at the end of the block"
    assert captured(*flags, "--resume") == 0
    assert not captured.events("warning")
    for weights in ("agent", "ema_agent"):
        for name, tensor in run.last()[weights].items():
            assert torch.equal(tensor, captured.last()[weights][name]), (weights, name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("engine", ["graph", "compile"])
def test_on_a_gpu_a_run_stops_and_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """Captured, saved from a side stream, loaded before the next capture: the state must come through all that."""
    flags = ["--device", "cuda", "--engine", engine, "--total-iters", "60", "--save-freq", "20", "--log-freq", "40"]
    with monkeypatch.context() as patch:
        stop_after(patch, 21)  # in a block that begins there
        assert run(*flags) == 130
    assert run.events("warning") == [], "a capture failed and the run went on slowly"
    stopped = run.last()["step"]
    assert run(*flags, "--resume") == 0
    assert run.events("start")[0]["resumed_step"] == stopped > 20 and run.last()["step"] == 60
    assert run.rows()[60]["train/loss"] < 1.1  # type: ignore[operator]
