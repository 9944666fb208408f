"""From the key press to the curves: a run of 20 metrics x 50,000 steps, in a real terminal session.

    python -m benchmarks.long_run [RUNS]

A fresh dashboard in a fresh pseudo-terminal over a workspace of two jobs, its cursor on the small one. The clock goes
from the key that moves it to the long one until that one's newest value stands in a chart's title, the curve under it;
then from `o` until the last of nine charts is there. Beside it, without a terminal: what reading alone costs, and what
it cost as one object a point (`Manager.metrics`); and `wandb leet` over the same values in a run of its own kind, from
its start to the state that stands in the file's last record. It loads while it draws; its first curves come earlier, as
do ours where a run is shorter.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pidec_tui.manager.jobs import JobState
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.metriclog import MetricLog
from pidec_tui.trace import Trace

from ._terminal import Session, dashboard, load

METRICS, STEPS = 20, 50_000
LAST = 0.12345  # the newest value: shown as 0.123
SMALL, LONG, NINTH = b"777", b"0.123", b"own/m06"


def make(root: Path) -> int:
    """A workspace with a long and a small run; gives the long one's id."""
    manager = Manager.open(root)
    log, names = manager._log, [f"own/m{k:02d}" for k in range(METRICS)]
    metrics = MetricLog(log)
    ids = []
    for name, rows in (("long", STEPS), ("small", 3)):
        job = manager.add("command", {"command": "true"}, name=name, environ={}, cwd=root)
        ids.append(job.id)
        with log.write():
            for state in (JobState.starting, JobState.running, JobState.succeeded):
                log.move(job.id, state, started=1.79e9, ended=1.79e9 + ids[-1])
            log.insert_attempt(job.id, 1, state="succeeded", token="t", started=1.79e9)
        for start in range(0, rows, 5_000):
            steps = range(start, min(start + 5_000, rows))
            with log.write():
                metrics.add_rows(job.id, 1, [(s, s, 1.79e9 + s / 10, _values(s, rows, names)) for s in steps])
    manager.close()
    return ids[0]


def _values(step: int, rows: int, names: list[str]) -> dict[str, float | None]:
    if rows < STEPS:
        return dict.fromkeys(names, 777.0)
    last = step == rows - 1
    return {name: LAST if last else math.sin(step / 900 + k) + math.sin(step * 7.7) / 5 for k, name in enumerate(names)}


def make_wandb(folder: Path) -> Path:
    """The same values as an offline run of W&B; gives its file."""
    script = (
        "import sys, wandb; from benchmarks.long_run import METRICS, STEPS, _values\n"
        "names = [f'own/m{k:02d}' for k in range(METRICS)]\n"
        "quiet = wandb.Settings(console='off', x_disable_stats=True, silent=True)\n"
        "run = wandb.init(mode='offline', project='bench', dir=sys.argv[1], settings=quiet)\n"
        "for step in range(STEPS): run.log(_values(step, STEPS, names), step=step)\n"
        "run.finish()\n"
    )
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True, cwd=root, stdout=subprocess.DEVNULL)
    return next(folder.glob("wandb/offline-run-*/*.wandb"))


def once(workspace: str) -> tuple[float, float]:
    """Seconds until the main screen's charts show the long run, and until the charts screen shows nine."""
    session = Session(*dashboard(workspace))
    session.until(SMALL)
    session.quiet(0.4)
    session.press(b"j")
    curves = session.until(LONG, "⣿".encode())
    session.quiet(0.4)
    session.press(b"o")
    nine = session.until(NINTH)
    session.press(b"\x1b")
    session.quiet(0.4)
    session.close()
    return curves, nine


def leet(run: Path) -> float:
    """Seconds until `wandb leet` has read a run to its end."""
    session = Session(sys.executable, "-m", "wandb", "leet", str(run))
    seconds = session.until(b"Finished")
    session.close()
    return seconds


def timed(work: Callable[[], object], runs: int) -> str:
    """Median seconds, and those of the CPU: on a busy machine these are what an idle one would need."""
    seconds, cpu = [], []
    for _ in range(runs):
        begun, own = time.perf_counter(), time.thread_time()
        work()
        seconds.append(time.perf_counter() - begun)
        cpu.append(time.thread_time() - own)
    return f"median {statistics.median(seconds):.3f}   CPU  {statistics.median(cpu):.3f}"


def read(manager: Manager, job: int) -> None:
    trace = Trace(job)
    trace.take(manager.curves(job))
    trace.view()


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as workspace:
        job = make(Path(workspace))
        once(workspace)  # compiles what is not compiled yet
        pairs = [once(workspace) for _ in range(runs)]
        manager = Manager.open(workspace)
        reading = timed(lambda: read(manager, job), runs)
        objects = timed(lambda: manager.metrics(job), 1)
        size = manager.places.db.stat().st_size
        manager.close()
        run = make_wandb(Path(workspace))
        theirs = [leet(run) for _ in range(max(runs // 2, 1))]
    print(load())
    print(f"{METRICS} metrics x {STEPS:,} steps, job log of {size / 1e6:.0f} MB, seconds, {runs} runs")
    for name, seconds in (
        ("cursor on it -> curves", [first for first, _ in pairs]),
        ("charts screen, nine charts", [second for _, second in pairs]),
        ("wandb leet, start -> whole", theirs),
    ):
        print(f"{name:<28} median {statistics.median(seconds):.3f}   best {min(seconds):.3f}")
    print(f"{'read as arrays':<28} {reading}")
    print(f"{'read as objects':<28} {objects}")


if __name__ == "__main__":
    main()
