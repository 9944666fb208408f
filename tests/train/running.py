"""`pidec-train diffusion` in this process, on small demos, and ways to disturb it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pidec_train.__main__ import main
from pidec_train.checkpoint import read_payload
from pidec_train.diffusion_learner import DiffusionLearner
from pidec_train.protocol.rundir import MetricsLine, parse_metrics

SMALL = [
    "--env-id",
    "PushCube-v1",
    "--unet-dims",
    "8",
    "16",
    "--batch-size",
    "16",
    "--total-iters",
    "12",
    "--lr",
    "1e-3",
    "--warmup-steps",
    "2",
    "--log-freq",
    "4",
    "--eval-freq",
    "0",
    "--device",
    "cpu",
]


class Run:
    """`pidec-train diffusion` in this process, in folders of its own."""

    def __init__(self, tmp_path: Path, demos: Path, name: str = "a") -> None:
        self.demos, self.checkpoints = demos, tmp_path / name / "ck"
        self._runs, self._attempt = tmp_path / name / "run", 0

    @property
    def run_dir(self) -> Path:
        return self._runs / f"attempt-{self._attempt}"

    def __call__(self, *flags: str) -> int:
        self._attempt += 1
        return main(["diffusion", *self.arguments(*flags)])

    def start(self, *flags: str) -> subprocess.Popen[bytes]:
        """The same in a process of its own."""
        self._attempt += 1
        command = [sys.executable, "-m", "pidec_train", "diffusion", *self.arguments(*flags)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def arguments(self, *flags: str) -> list[str]:
        where = ["--run-dir", str(self.run_dir), "--checkpoint-dir", str(self.checkpoints)]
        return ["--demo-path", str(self.demos), *SMALL, *where, *flags]

    def lines(self) -> list[MetricsLine]:
        path = self.run_dir / "metrics.jsonl"
        return [line for _, line in parse_metrics(path.read_bytes())] if path.exists() else []

    def rows(self) -> dict[int, dict[str, float | None]]:
        """By step; where two rows speak of one, the later counts."""
        rows: dict[int, dict[str, float | None]] = {}
        for line in self.lines():
            if line.metrics:
                rows.setdefault(line.step or 0, {}).update(line.metrics)
        return rows

    def events(self, name: str) -> list[dict[str, Any]]:
        return [{"step": line.step, **line.detail()} for line in self.lines() if line.event == name]

    def last(self) -> dict[str, Any]:
        return read_payload(self.checkpoints / "last.pt")


def stop_after(monkeypatch: pytest.MonkeyPatch, iteration: int) -> None:
    """Deliver a real SIGTERM to this process in the middle of one iteration."""
    advance = DiffusionLearner.advance

    def advance_and_signal(self: DiffusionLearner, at_most: int) -> Any:
        if self.iteration + 1 == iteration:
            signal.raise_signal(signal.SIGTERM)
        return advance(self, at_most)

    monkeypatch.setattr(DiffusionLearner, "advance", advance_and_signal)


def poison(monkeypatch: pytest.MonkeyPatch, change: Callable[[DiffusionLearner], None]) -> None:
    """Let `change` do its harm before each iteration."""
    advance = DiffusionLearner.advance

    def poisoned(self: DiffusionLearner, at_most: int) -> Any:
        change(self)
        return advance(self, at_most)

    monkeypatch.setattr(DiffusionLearner, "advance", poisoned)
