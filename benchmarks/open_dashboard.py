"""What a dashboard costs that is open all day: CPU, memory, bytes to the terminal.

    python -m benchmarks.open_dashboard [--seconds 60] [--workspace DIR] [--jobs 1000]

In fresh pseudo-terminals of 160 x 45. Idle: nothing runs. Live: a job logs a row a second, its charts are on the
screen. Each once as somebody watches, who keeps the terminal's focus, and once left alone for minutes. Beside them,
where they are installed, other monitors doing nothing but monitor: `wandb leet symon` and `nvitop` (which needs an
NVIDIA driver). CPU is a share of one core; of the others it is that of their children, too.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from pidec_tui.manager.manager import Manager

from ._terminal import LEFT_ALONE, Session, attention, dashboard, load
from .workspace import add_live, make

SETTLES = 4.0  # seconds until a fresh dashboard has read everything


@dataclass(frozen=True)
class Cost:
    """Of one program: CPU as a share of a core, MiB resident and its own, bytes a second to the terminal."""

    cpu: float
    rss: float
    uss: float
    sent: float

    def __str__(self) -> str:
        return (
            f"{self.cpu:6.2%} of a core   {self.rss:4.0f} MB RSS   {self.uss:4.0f} MB USS   {self.sent:6,.0f} bytes/s"
        )


def family(pid: int) -> list[psutil.Process]:
    """The process and all its children, of which each may be gone in a moment."""
    first = psutil.Process(pid)
    return [first, *first.children(recursive=True)]


def alone(pid: int) -> list[psutil.Process]:
    """The process without the runner that it has started, which would be there without a dashboard, too."""
    return [psutil.Process(pid)]


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def cost(session: Session, seconds: float, processes: Callable[[int], list[psutil.Process]]) -> Cost:
    """Watch a program for so long; `processes` are those that count."""
    before = cpu_seconds(processes(session.pid))
    sent = session.drain(seconds)
    used = cpu_seconds(processes(session.pid)) - before
    memory = [process.memory_full_info() for process in processes(session.pid)]
    rss, uss = sum(each.rss for each in memory) / 1e6, sum(each.uss for each in memory) / 1e6
    return Cost(used / seconds, rss, uss, sent / seconds)


def of_dashboard(workspace: str, seconds: float) -> dict[str, Cost]:
    """What it costs while somebody is there, and then while nobody is."""
    session = Session(*dashboard(workspace))
    session.drain(SETTLES)
    try:
        with attention(session):
            watched = cost(session, seconds, alone)
        session.drain(LEFT_ALONE)
        return {"watched": watched, "left alone": cost(session, seconds, alone)}
    finally:
        session.close()


def of_other(command: Sequence[str], seconds: float) -> Cost | str:
    """The cost of another monitor, or why there is none."""
    session = Session(*command)
    try:
        session.drain(SETTLES)
        return cost(session, seconds, family)
    except (OSError, psutil.NoSuchProcess):
        said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
        return f"ended at once: {said.strip().partition(chr(10))[0]}"
    finally:
        session.end()


def others(seconds: float) -> dict[str, Cost | str]:
    found: dict[str, Cost | str] = {}
    leet = [sys.executable, "-m", "wandb", "leet", "symon"]
    has_leet = subprocess.run([*leet, "--help"], capture_output=True, check=False).returncode == 0
    found["wandb leet symon"] = of_other(leet, seconds) if has_leet else "wandb is not installed, or has no leet"
    nvitop = shutil.which("nvitop")
    found["nvitop"] = of_other([nvitop], seconds) if nvitop else "not installed"
    return found


def show(what: str, told: Mapping[str, Cost | str]) -> None:
    for name, each in told.items():
        print(f"{f'{what} {name}'.strip():<18}{each}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.open_dashboard")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workspace", metavar="DIR", help="made by benchmarks.workspace before (default: one is made)")
    parser.add_argument("--jobs", type=int, default=1000)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        full = options.workspace or f"{folder}/full"
        if not options.workspace:
            make(Path(full), options.jobs).close()
        print(load(), flush=True)
        show("idle", of_dashboard(full, options.seconds))
        manager = Manager.open(full)
        job = add_live(manager)
        show("live", of_dashboard(full, options.seconds))
        manager.cancel(job.id)
        time.sleep(2.0)
        manager.stop_runner()
        manager.close()
        show("", others(options.seconds))


if __name__ == "__main__":
    main()
