"""Whether a trainer notices an open dashboard: its iterations a minute with one that shows it, and with a stopped one.

    python -m benchmarks.watched_training [--minutes 10] [--turn 12] [--threads 1] [--attended] [--log-freq 10]

A diffusion run by hand goes on all the time. A dashboard in a pseudo-terminal of 160 x 45 shows it, and is stopped and
let go on by signals in turns: go, stop, stop, go, so that a machine that slows down slows both. A stopped process costs
nothing but its memory. A turn counts the run's own rows of metrics that lie wholly within it. Turns are short, so that
the machine's own moods, which last longer, hit both of a pair; and many, as one pair differs by some percent.

It is left alone until it looks as seldom as it ever does, if not `--attended`; but each time that it goes on counts as
somebody being there (as after `fg`), so that it is watched for half a minute then in either case. Its share of a core
while it goes on is told, too: where cores are fewer than programs, a trainer loses at most that. Turns differ in
length, so that looks that come at regular times fall on all parts of them.

Two turns of the same kind lie beside one another, too: how much those differ is what the method cannot tell.
Intervals are bootstraps over the pairs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

from pidec_tui.manager.manager import Manager

from ._terminal import LEFT_ALONE, Session, attention, dashboard, load

SETTLES = 1.0  # seconds that a dashboard which goes on again has for what it missed
TRAIN = (
    *("diffusion", "--env-id", "PushCube-v1", "--demo-path", "bundled:PushCube-v1.h5", "--device", "cpu"),
    *("--total-iters", "10000000", "--batch-size", "64", "--unet-dims", "32", "64"),
    *("--eval-freq", "0", "--save-freq", "0"),
)
WATCHED = (True, False, False, True)


@dataclass(frozen=True)
class Turn:
    """Some seconds of the run; begin and end in unix seconds, cpu the dashboard's in them."""

    watched: bool
    begin: float
    end: float
    cpu: float


class Training:
    """A diffusion run by hand that goes on until `end`."""

    def __init__(self, workspace: Path, threads: int, log_freq: int) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PIDEC_WORKSPACE": str(workspace)}
        command = [sys.executable, "-m", "pidec_train", *TRAIN, "--log-freq", str(log_freq)]
        self._process = subprocess.Popen(
            command, cwd=workspace, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._runs = workspace / "jobs" / "runs"

    def rows(self) -> list[tuple[float, float]]:
        """(unix seconds, iteration) of each row so far."""
        paths = list(self._runs.glob("hand-*/**/metrics.jsonl"))
        lines = paths[0].read_text().splitlines() if paths else []
        told = [json.loads(line) for line in lines if line.endswith("}")]
        return [(row["time"], row["step"]) for row in told if row.get("metrics")]

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()


def take_turns(dashboard_pid: int, minutes: float, seconds: float) -> list[Turn]:
    """Stop the dashboard and let it go on; it goes on in the end."""
    turns: list[Turn] = []
    dice, shown = random.Random(0), psutil.Process(dashboard_pid)
    end = time.time() + 60 * minutes
    try:
        while len(turns) % len(WATCHED) or time.time() < end:
            watched = WATCHED[len(turns) % len(WATCHED)]
            if not turns or turns[-1].watched != watched:
                os.kill(dashboard_pid, signal.SIGCONT if watched else signal.SIGSTOP)
                time.sleep(SETTLES)
            begin, before = time.time(), sum(shown.cpu_times()[:2])
            time.sleep(seconds * dice.uniform(0.8, 1.2))
            turns.append(Turn(watched, begin, time.time(), sum(shown.cpu_times()[:2]) - before))
    finally:
        os.kill(dashboard_pid, signal.SIGCONT)
    return turns


def pace(turn: Turn, rows: Iterable[tuple[float, float]]) -> float:
    """Iterations a minute between the first and the last row of a turn."""
    inside = [row for row in rows if turn.begin <= row[0] <= turn.end]
    (first, step), (last, until) = inside[0], inside[-1]
    return 60 * (until - step) / (last - first)


def middle(ratios: Sequence[float]) -> float:
    """The mean of the middle four fifths: a turn that something else disturbed is left out."""
    cut = len(ratios) // 10
    return statistics.fmean(sorted(ratios)[cut : len(ratios) - cut])


def told(name: str, ratios: Sequence[float]) -> str:
    dice = random.Random(0)
    drawn = sorted(middle(dice.choices(ratios, k=len(ratios))) for _ in range(2000))
    return f"{name} {middle(ratios):.4f} (95 % {drawn[50]:.4f}-{drawn[-51]:.4f}, {len(ratios)} pairs)"


def slowdown(workspace: Path, minutes: float, seconds: float, threads: int, log_freq: int, attended: bool) -> str:
    """How fast a run goes with a dashboard that shows it, against with one that is stopped."""
    training = Training(workspace, threads, log_freq)
    try:
        while len(training.rows()) < 5:
            time.sleep(1.0)
        session = Session(*dashboard(str(workspace)))
        session.in_background()
        time.sleep(5.0 if attended else LEFT_ALONE)
        with attention(session) if attended else contextlib.nullcontext():
            turns = take_turns(session.pid, minutes, seconds)
        rows = training.rows()
        time.sleep(SETTLES)  # a key is lost while it comes back from the last stop
        with contextlib.suppress(OSError):
            session.close()
    finally:
        training.end()
    paces = [(turn.watched, pace(turn, rows)) for turn in turns]
    unlike, alike = [], []
    for (watched, first), (then, second) in pairwise(paces):
        if watched == then:
            alike.append(second / first)
        else:
            unlike.append(first / second if watched else second / first)
    alone = statistics.median(value for watched, value in paces if not watched)
    going = [turn for turn in turns if turn.watched]
    share = sum(turn.cpu for turn in going) / sum(turn.end - turn.begin for turn in going)
    return f"{threads} thread{'s' if threads > 1 else ''}, {alone:,.0f} iterations/min: " + ", ".join(
        (told("watched / stopped", unlike), told("the same twice", alike), f"the dashboard {share:.2%} of a core")
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watched_training")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each number of threads")
    parser.add_argument("--turn", type=float, default=12.0, help="seconds of a turn, more or less")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, os.cpu_count() or 1])
    parser.add_argument("--log-freq", type=int, default=10, help="iterations from one row of metrics to the next")
    parser.add_argument("--attended", action="store_true", help="as with somebody at the keys")
    options = parser.parse_args(argv)
    print(load(), flush=True)
    for threads in options.threads:
        with tempfile.TemporaryDirectory() as folder:
            Manager.open(folder).close()
            found = slowdown(Path(folder), options.minutes, options.turn, threads, options.log_freq, options.attended)
            print(found, flush=True)
    print(load())


if __name__ == "__main__":
    main()
