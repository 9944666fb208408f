"""`adapt` from the queue, as a user types it: real runner, real process, a real file at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pidec_train.models.diffusion_policy import DiffusionPolicy
from pidec_train.protocol.rundir import read_checkpoint_info
from tests.e2e.test_queue_to_checkpoint import Door

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

JOB = """
title = "My old checkpoint on ManiSkill3"
kind = "adapt"
[config]
ckpt = "{ckpt}"
out = "{out}"
"""


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path)
    yield door
    door.jobs("runner", "stop", check=False)


def old_checkpoint(path: Path) -> Path:
    torch.manual_seed(0)
    weights = DiffusionPolicy(50, 7, unet_dims=(8, 16)).state_dict()
    torch.save({"agent": weights, "ema_agent": weights}, path)
    return path


def add(door: Door, ckpt: str, out: str) -> int:
    file = door.workspace / "adapt.toml"
    file.write_text(JOB.format(ckpt=ckpt, out=out))
    return int(json.loads(door.jobs("add", str(file), "--json").stdout)["id"])


def test_an_adapt_job_runs_on_the_cpu_lane_and_leaves_the_checkpoint(door: Door) -> None:
    """Lost: old checkpoints can be carried over by hand only, and not before the evaluation that is queued behind."""
    old_checkpoint(door.workspace / "best.pt")
    job = add(door, "best.pt", "new/peg.pt")
    assert door.jobs("wait", str(job), "--timeout", "120", check=False).returncode == 0
    shown = door.show(job)
    assert (shown["state"], shown["lane"], shown["kind"]) == ("succeeded", "cpu", "adapt")
    assert (shown["step"], shown["total_steps"]) == (1, 1)
    info = read_checkpoint_info(door.workspace / "new" / "peg.pt")
    assert info and (info.origin, info.obs_dim, info.env_id) == ("adapted", 43, "PegInsertionSide-v1")


def test_an_adapt_job_that_cannot_be_says_why(door: Door) -> None:
    old_checkpoint(door.workspace / "best.pt")
    job = add(door, "best.pt", "best.pt")
    assert door.jobs("wait", str(job), "--timeout", "120", check=False).returncode != 0
    assert door.show(job)["state"] == "failed"
    assert "out is the checkpoint itself" in door.jobs("log", str(job)).stdout
