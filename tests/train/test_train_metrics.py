"""metrics.jsonl is all that queue, charts and repair know of a run."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path
from typing import IO

import pytest

from pidec_train.logwindow import is_log_step
from pidec_train.metrics import MetricWriter
from pidec_train.protocol.errors import RunFailed, Stopped
from pidec_train.protocol.rundir import MetricsLine, parse_metrics


def writer(run_dir: Path | None, console: IO[str] | None = None, **kwargs: object) -> MetricWriter:
    return MetricWriter(
        run_dir,
        kind="diffusion",
        step_name="iteration",
        total_steps=100,
        console=console or io.StringIO(),
        **kwargs,  # type: ignore[arg-type]
    )


def lines(run_dir: Path) -> list[MetricsLine]:
    return [line for _, line in parse_metrics((run_dir / "metrics.jsonl").read_bytes())]


def test_rows_and_events_are_what_the_protocol_reads(tmp_path: Path) -> None:
    with writer(tmp_path, config={"lr": 0.1}, resumed_step=7, start_step=7) as metrics:
        metrics.log(10, {"train/loss": 0.5})
        metrics.event("checkpoint", 10, path="/x/step-000000010.pt")
    found = lines(tmp_path)
    assert [line.seq for line in found] == [0, 1, 2, 3]
    assert [line.event for line in found] == ["start", None, "checkpoint", "end"]
    start = found[0].detail()
    assert (start["kind"], start["step_name"], start["total_steps"], start["resumed_step"]) == (
        "diffusion",
        "iteration",
        100,
        7,
    )
    assert (found[1].step, found[1].metrics) == (10, {"train/loss": 0.5}) and found[1].time > 1e9
    assert found[3].detail() == {"state": "succeeded", "reason": ""}


def test_a_second_process_goes_on_behind_a_half_written_line(tmp_path: Path) -> None:
    """A killed trainer leaves half a line: what is appended must not be swallowed by it."""
    writer(tmp_path).log(1, {"train/loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"seq":2,"step":2,"metr')
    writer(tmp_path).log(3, {"train/loss": 3.0})
    found = lines(tmp_path)
    assert [line.seq for line in found] == [0, 1, 2, 3]
    assert [line.step for line in found if line.metrics] == [1, 3]


def test_not_a_number_becomes_null_and_one_warning(tmp_path: Path) -> None:
    metrics = writer(tmp_path)
    for step in (1, 2):
        metrics.log(step, {"train/loss": float("nan"), "train/lr": float("inf")})
    found = lines(tmp_path)
    assert [line.metrics for line in found if line.metrics] == [{"train/loss": None, "train/lr": None}] * 2
    assert [line.detail()["message"] for line in found if line.event == "warning"] == [
        "train/loss is nan at iteration 1",
        "train/lr is inf at iteration 1",
    ]
    for raw in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(raw, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize(
    ("error", "state"),
    [(Stopped("stopped by SIGTERM"), "interrupted"), (RunFailed("no"), "failed"), (ZeroDivisionError("x"), "failed")],
)
def test_every_ending_is_told(tmp_path: Path, error: Exception, state: str) -> None:
    """Without an `end` event the queue would take a failure for a crash and run it again."""
    with pytest.raises(type(error)), writer(tmp_path):
        raise error
    assert lines(tmp_path)[-1].detail()["state"] == state
    assert lines(tmp_path)[-1].detail()["reason"]


def test_a_full_disk_costs_rows_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = io.StringIO()
    metrics = writer(tmp_path, console)
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if data.endswith(b"\n"):
            real(fd, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    metrics.log(1, {"train/loss": 1.0})
    metrics.log(2, {"train/loss": 2.0})
    monkeypatch.setattr(os, "write", real)
    metrics.log(3, {"train/loss": 3.0})
    assert console.getvalue().count("No space left on device") == 1
    assert [line.step for line in lines(tmp_path) if line.metrics] == [3]


def test_a_console_that_goes_away_does_not_stop_the_run(tmp_path: Path) -> None:
    """`pidec-train diffusion … 2>&1 | head -3` has ended a run of hours at its fourth line."""
    reader, end = os.pipe()
    with open(end, "w") as console, writer(tmp_path, console) as metrics:
        metrics.log(10, {"train/loss": 0.5})
        os.close(reader)
        metrics.log(20, {"train/loss": 0.4})
        metrics.log(30, {"train/loss": 0.3})
    found = lines(tmp_path)
    assert [line.step for line in found if line.metrics] == [10, 20, 30]
    assert found[-1].detail()["state"] == "succeeded"


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    writer(tmp_path)
    assert stat.S_IMODE((tmp_path / "metrics.jsonl").stat().st_mode) == 0o600


def test_plain_lines_without_a_terminal_and_a_bar_on_one(tmp_path: Path) -> None:
    """output.log must stay readable; a terminal shows rate and ETA."""
    plain = io.StringIO()
    writer(None, plain).log(50, {"train/loss": 0.25, "throughput/iters_per_min": 600.0})
    assert plain.getvalue() == "iteration 50/100  loss 0.25  600/min  ETA 5 s\n"

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    with writer(None, terminal) as metrics:
        metrics.log(50, {"train/loss": 0.25})
        metrics.advance(60)
    assert "60/100" in terminal.getvalue() and "loss 0.25" in terminal.getvalue()


def test_the_curve_begins_early() -> None:
    """At log_freq 1000 a slow machine would show nothing for an hour."""
    ladder = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 3000]
    assert [i for i in range(1, 3001) if is_log_step(i, 0, 1000)] == ladder
    assert [i for i in range(1501, 3001) if is_log_step(i, 1500, 1000)][:5] == [1501, 1502, 1505, 1510, 1520]
    assert [i for i in range(1, 8) if is_log_step(i, 0, 1)] == [1, 2, 3, 4, 5, 6, 7]
