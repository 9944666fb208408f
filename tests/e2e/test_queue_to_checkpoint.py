"""The whole loop without a screen: the real queue, real processes, the real simulator, a real checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.sim, pytest.mark.timeout(400)]

SMALL = {
    "total_iters": 30,
    "batch_size": 16,
    "unet_dims": [16, 32],
    "log_freq": 5,
    "save_freq": 10,
    "eval_freq": 30,
    "num_eval_episodes": 2,
    "num_eval_envs": 2,
    "max_episode_steps": 8,
    "action_norm": "min_max",
    "device": "cpu",
}


Done = subprocess.CompletedProcess[str]


class Door:
    """`pidec-jobs` and `pidec-train` as a user types them, in one workspace."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.env = {**os.environ, "PIDEC_WORKSPACE": str(workspace), "OMP_NUM_THREADS": "1"}

    def run(self, module: str, *words: str, timeout: float = 300, check: bool = True) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            capture_output=True,
            text=True,
            cwd=self.workspace,
            env=self.env,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def jobs(self, *words: str, **options: Any) -> Done:
        return self.run("pidec_tui.manager.cli", *words, **options)

    def train(self, *words: str, **options: Any) -> Done:
        return self.run("pidec_train", *words, **options)

    def add(self, preset: str, values: dict[str, Any], *words: str) -> int:
        sets = [word for key, value in values.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        return int(json.loads(self.jobs("add", preset, *sets, *words, "--json").stdout)["id"])

    def show(self, job_id: int) -> dict[str, Any]:
        return dict(json.loads(self.jobs("show", str(job_id), "--json").stdout))


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path)
    yield door
    for job in json.loads(door.jobs("list", "--json", check=False).stdout or "[]"):
        door.jobs("cancel", str(job["id"]), check=False)
    door.jobs("runner", "stop", check=False)


def test_demos_then_training_then_evaluation(door: Door) -> None:
    """Lost: the user's evening plan, three jobs in a row, each built on the one before."""
    demos = {"env_id": "PegInsertionSide-v1", "num_demos": 1, "num_procs": 1, "out": str(door.workspace / "peg.h5")}
    first = door.add("demos-peg", demos)
    config = {**SMALL, "demo_path": str(door.workspace / "peg.h5")}
    second = door.add("diffusion-peg", config, "--after", str(first), "--lane", "cpu")
    assert f"job {first}" in door.show(second)["waiting_for"]

    assert door.jobs("wait", str(second), "--timeout", "280", check=False).returncode == 0, door.jobs(
        "log", str(second), check=False
    ).stdout
    shown = door.show(second)
    assert shown["state"] == "succeeded" and len(shown["attempts"]) == 1

    rows = json.loads(door.jobs("metrics", str(second), "--json").stdout)
    losses = [row["metrics"]["train/loss"] for row in rows if "train/loss" in row["metrics"]]
    assert len(losses) >= 5 and losses[-1] < losses[0]
    assert any("eval/success_rate" in row["metrics"] for row in rows)

    (folder,) = (door.workspace / "checkpoints").glob("*")
    done = door.train("evaluate", str(folder / "last.pt"), "--num-eval-episodes", "2", "--num-eval-envs", "2",
                      "--max-episode-steps", "8", "--sampler", "ddim", "--num-steps", "4", "--json")  # fmt: skip
    result = json.loads(done.stdout)
    assert result["episodes"] == 2 and 0 <= result["success_rate"] <= 1
    assert "PegInsertionSide-v1" in door.train("inspect", str(folder / "best.pt")).stdout


def test_a_file_recorded_by_maniskill_trains_as_it_is(door: Door, repo: Path) -> None:
    """Lost: everybody who already has demonstrations."""
    path = repo / "tests" / "data" / "maniskill_cli_pushcube.h5"
    values = {**SMALL, "env_id": "PushCube-v1", "demo_path": str(path), "eval_freq": 0}
    job = door.add("diffusion-peg", values, "--lane", "cpu")
    door.jobs("wait", str(job), "--timeout", "120")
    assert door.show(job)["state"] == "succeeded"


def test_a_killed_trainer_comes_back_from_its_checkpoint(door: Door) -> None:
    """Lost: a night, because somebody's `kill -9` ended the job for good."""
    values = {**SMALL, "env_id": "PushCube-v1", "demo_path": "bundled:PushCube-v1.h5", "eval_freq": 0,
              "total_iters": 4000, "save_freq": 20}  # fmt: skip
    job = door.add("quickstart", values)
    checkpoints = door.workspace / "checkpoints"
    deadline = time.time() + 90
    while not list(checkpoints.glob("*/step-*.json")):
        assert time.time() < deadline, door.jobs("log", str(job), check=False).stdout
        time.sleep(0.1)
    trainers = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "pidec_train" in (process.info["cmdline"] or []) and str(door.workspace) in " ".join(process.info["cmdline"])
    ]
    assert trainers
    for process in trainers:
        process.kill()
    deadline = time.time() + 90
    while True:
        attempts = door.show(job)["attempts"]
        if len(attempts) == 2 and attempts[1].get("resumed_step"):
            break
        assert time.time() < deadline, attempts
        time.sleep(0.3)
    assert attempts[0]["state"] == "interrupted" and attempts[1]["resumed_step"] >= 20
    door.jobs("cancel", str(job))
    door.jobs("wait", str(job), "--timeout", "60", check=False)
    assert door.show(job)["state"] == "cancelled"
