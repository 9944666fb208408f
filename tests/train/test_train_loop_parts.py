"""What the loop is made of: losses read late, states copied early, time that is told apart."""

from __future__ import annotations

import math
import time

import pytest
import torch

from pidec_train.host_copy import host_copy
from pidec_train.logwindow import LogWindow
from pidec_train.loss_health import LossHealth
from pidec_train.sharing import SharingMeter

CPU = torch.device("cpu")
SKIPPED = torch.zeros(())
devices = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ],
)


@devices
def test_a_snapshot_is_of_its_moment(device: str) -> None:
    """The thread writes seconds later; the weights have gone on by then."""
    weights = torch.arange(6.0, device=device)
    contents = {"agent": {"w": weights[2:]}, "list": [weights[0], "text"], "pair": (1, weights[1]), "none": None}
    fetch = host_copy(contents)
    weights.fill_(-1)
    copied = fetch()
    assert copied["agent"]["w"].tolist() == [2, 3, 4, 5] and copied["list"] == [torch.tensor(0.0), "text"]
    assert copied["pair"] == (1, torch.tensor(1.0)) and copied["none"] is None
    assert all(tensor.device == CPU for tensor in (copied["agent"]["w"], copied["list"][0], copied["pair"][1]))
    assert copied["agent"]["w"].untyped_storage().nbytes() == 16, "a view would save all that it looks at"


@devices
def test_losses_of_a_row_are_those_until_it(device: str) -> None:
    """More than fit at first; what comes later belongs to the next row."""
    window, block = LogWindow(torch.device(device)), torch.zeros(7, device=device)
    for start in range(0, 2100, 7):
        block.copy_(torch.arange(start, start + 7))
        window.add(block, 0.0)
    row = window.row(2100, 1e-4, torch.tensor(3.0, device=device))
    window.restart()
    block.fill_(-1)
    window.add(block, 0.0)
    assert row.losses().tolist() == list(range(2100)) and row.is_there() and row.skipped() == 3
    assert window.row(2107, 1e-4, SKIPPED.to(device)).losses().tolist() == [-1] * 7


def test_waiting_is_no_training() -> None:
    """The rate would fall with every checkpoint, and the ratio is what tells a user to save less often."""
    window = LogWindow(CPU)
    window.add(torch.zeros(6), 0.0)
    with window.waiting("time/save_wait_ratio"):
        time.sleep(0.2)
    metrics = window.row(6, 1e-4, SKIPPED).metrics
    assert metrics["time/save_wait_ratio"] > 0.9 and metrics["time/eval_wait_ratio"] == 0
    assert metrics["throughput/iters_per_min"] > 6 / 0.2 * 60, "as if the wait were training"


def rows_of(*losses: list[float], skipped: int = 0) -> LossHealth:
    health, at = LossHealth(1000), 0
    for part in losses:
        window = LogWindow(CPU)
        at += len(part)
        window.add(torch.tensor(part), 0.0)
        health.take(window.row(at, 1e-4, torch.tensor(float(skipped))))
    return health


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([[1.0, math.nan, 1.0, math.inf, 1.0]], ""),
        ([[1.0, math.nan, math.nan, 1.0]], "at iterations 2 and 3"),
        ([[1.0, math.nan], [math.inf, 1.0]], "at iterations 2 and 3"),
        ([[math.nan], [1.0], [math.nan]], ""),
    ],
)
def test_two_bad_losses_in_a_row_and_not_one(rows: list[list[float]], verdict: str) -> None:
    health = rows_of(*rows)
    assert health.verdict.endswith(verdict) and bool(health.verdict) == bool(verdict)


def test_what_sharing_the_machine_costs_is_told() -> None:
    meter = SharingMeter()
    for shared, seconds in ((False, 0.05), (True, 0.1)):
        with meter.measure(shared):
            time.sleep(seconds)
        meter.count(10)
    with meter.waiting("checkpoints"):
        time.sleep(0.05)
    alone, beside = meter.rate(False), meter.rate(True)
    assert alone and beside and beside < alone
    first, second = meter.lines()
    assert f"at {beside:,.0f} iterations/min; alone at {alone:,.0f} (-" in first
    assert "s for checkpoints" in second


def test_nothing_is_told_of_what_was_not() -> None:
    assert SharingMeter().lines() == [] and SharingMeter().rate(True) is None
