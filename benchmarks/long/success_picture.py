"""Evaluated success over minutes of some runs, as a picture: that of docs/results.md.

    python -m benchmarks.long.success_picture --out docs/pictures/quickstart.svg --title … RUN_DIR [RUN_DIR …]

RUN_DIR: a run folder (jobs/runs/000002). Minutes count from the start of its newest attempt; the first evaluation of a
decorator is its base's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from pidec_train.evaluate import wilson_interval
from pidec_train.protocol.rundir import RunDir, parse_metrics


def curve(run: Path) -> list[tuple[float, float, tuple[float, float]]]:
    """(minutes when it began, success rate, 95 % interval) of each evaluation, oldest first."""
    _, attempt = RunDir(run).attempts()[-1]
    lines = [line for _, line in parse_metrics(attempt.metrics.read_bytes())]
    start = next(line.time for line in lines if line.event == "start")
    began, found = {}, []
    for line in lines:
        if line.event != "eval":
            continue
        detail = line.detail()
        if detail["phase"] == "start":
            began[line.step] = line.time
        elif detail["phase"] == "done":
            successes, episodes = detail["successes"], detail["episodes"]
            minutes = (began[line.step] - start) / 60
            found.append((minutes, successes / episodes, wilson_interval(successes, episodes)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--title", default="")
    options = parser.parse_args()
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for number, run in enumerate(options.runs, start=1):
        minutes, rates, intervals = zip(*curve(run), strict=True)
        low, high = zip(*intervals, strict=True)
        (line,) = axes.plot(minutes, [100 * r for r in rates], "o-", label=f"seed {number}", markersize=4)
        axes.fill_between(minutes, [100 * v for v in low], [100 * v for v in high], color=line.get_color(), alpha=0.12)
    axes.set(xlabel="minutes since the decorator's start", ylabel="success, %", ylim=(0, 101), title=options.title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(options.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
