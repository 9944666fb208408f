"""How long `pidec-tui` takes from the key press in the shell to its first picture with the queue in it.

    python -m benchmarks.first_paint [--runs 7] [--workspace DIR] [--jobs 1000]

Each run is a fresh process in a fresh pseudo-terminal; files and bytecode are warm. The clock stops at the first bytes
that hold rows of the queue (in an empty workspace: the welcome). The whole picture also has the selected job and the
machine, whose CPU load takes half a second to be measured. `python -c pass` in the same run says how much of it is the
interpreter itself; CPU is the dashboard's own until the queue is there, what an idle machine would need at least.
Then how quickly keys are answered there: the first bytes after `j`, `G`, `k`, `g` and after sixty `j` at once.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from ._terminal import Session, dashboard, load
from .workspace import HELD, make

WELCOME, QUEUE = b"No jobs yet", b"held"
KEYS = (b"j", b"j", b"j", b"j", b"G", b"k", b"g")


def first_paint(workspace: str, sign: bytes) -> tuple[float, float]:
    """Seconds until the sign is on the screen, and of CPU until then. The dashboard is ended then, nothing else."""
    session = Session(*dashboard(workspace))
    seconds = session.until(sign)
    cpu = sum(psutil.Process(session.pid).cpu_times()[:2])
    session.close()
    return seconds, cpu


def answers(workspace: str) -> dict[str, float]:
    """Seconds from a key to the first bytes that answer it."""
    session = Session(*dashboard(workspace))
    session.until(QUEUE)
    session.quiet(1.0)
    told: dict[str, list[float]] = {}
    for key in (*KEYS, b"j" * 60):
        session.press(key)
        name = key.decode() if len(key) == 1 else f"{len(key)} x {key[:1].decode()}, all done"
        first = session.answer()
        rest = session.quiet(0.2)
        told.setdefault(name, []).append(first + rest if len(key) > 1 else first)
    session.close()
    return {name: max(times) for name, times in told.items()}


def run(*arguments: str) -> tuple[float, float]:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun, 0.0


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_paint")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--workspace", metavar="DIR", help="made by benchmarks.workspace before (default: one is made)")
    parser.add_argument("--jobs", type=int, default=1000)
    options = parser.parse_args(argv)
    runs = range(options.runs)
    with tempfile.TemporaryDirectory() as folder:
        empty, full = f"{folder}/empty", options.workspace or f"{folder}/full"
        if not options.workspace:
            make(Path(full), options.jobs).close()
        first_paint(empty, WELCOME)  # compiles what is not compiled yet
        first_paint(full, QUEUE)
        print(f"{load()}; {options.jobs:,} jobs of which {HELD} wait")
        results = {
            "python -c pass": [run("-c", "pass") for _ in runs],
            "pidec-tui --help": [run("-m", "pidec_tui", "--help") for _ in runs],
            "empty workspace": [first_paint(empty, WELCOME) for _ in runs],
            f"{options.jobs:,} jobs": [first_paint(full, QUEUE) for _ in runs],
        }
        keys = answers(full)
    for name, pairs in results.items():
        seconds, cpu = [pair[0] for pair in pairs], statistics.median(pair[1] for pair in pairs)
        told = f"   CPU {cpu:.2f} s" if cpu else ""
        print(f"{name:<20} median {statistics.median(seconds):.2f} s, best {min(seconds):.2f} s{told}")
    print("key -> answer, the slowest: " + "   ".join(f"{name} {1000 * s:.0f} ms" for name, s in keys.items()))


if __name__ == "__main__":
    main()
