"""A finished training goes on, from the queue: real runner, real processes, real checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_queue_to_checkpoint import Door

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SMALL = {"total_iters": 30, "batch_size": 16, "unet_dims": [8, 16], "warmup_steps": 5, "log_freq": 5, "eval_freq": 0}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path)
    yield door
    door.jobs("cancel", "1", check=False)
    door.jobs("runner", "stop", check=False)


def test_a_training_that_was_too_short_goes_on_from_its_end(door: Door) -> None:
    """Lost: the hours that it took, as the longer training would begin at nothing."""
    job = door.add("quickstart", SMALL)
    door.jobs("wait", str(job), "--timeout", "120")
    assert (door.show(job)["step"], door.show(job)["total_steps"]) == (30, 30)
    refused = door.jobs("retry", str(job), check=False)
    assert refused.returncode == 2 and f"pidec-jobs retry {job} --extend-to N" in refused.stderr

    queued = json.loads(door.jobs("retry", str(job), "--extend-to", "60", "--no-runner", "--json").stdout)
    assert (queued["state"], queued["step"], queued["total_steps"]) == ("queued", 30, 60)
    door.jobs("wait", str(job), "--timeout", "120")
    shown = door.show(job)
    assert (shown["state"], shown["step"], shown["total_steps"]) == ("succeeded", 60, 60)
    assert [attempt["state"] for attempt in shown["attempts"]] == ["succeeded", "succeeded"]
    assert shown["attempts"][1]["resumed_step"] == 30
    assert "extended from 30 to 60 iterations" in door.jobs("log", str(job)).stdout

    rows = json.loads(door.jobs("metrics", str(job), "--key", "train/loss", "--json").stdout)
    assert [row["step"] for row in rows if row["step"] % 10 == 0] == [10, 20, 30, 40, 50, 60], "one curve"
    (folder,) = (door.workspace / "checkpoints").glob("*")
    assert (folder / "last.pt").resolve().name == "step-000000060.pt"
