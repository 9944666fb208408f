"""From a key to its answer over a line of 100 kbit/s and 200 ms there and back, as an ssh session to a far machine has.

    python -m benchmarks.slow_line [--rounds 5] [--size 160x45 100x30] [--seconds 20]

The dashboard runs in a pseudo-terminal, over one live run that logs a row a second. A key reaches it after half the
way; what it writes goes through a bucket of 12,500 bytes a second and takes the other half. The line takes in what
waits up to a window, as a server of ssh does, and reads no more while that is full; when each byte arrives is
reckoned, not waited for, so one run gives both: the answer as it was written, and as it arrived. The answer to a key
ends where nothing is written for 0.3 s, of a new screen after a kilobyte at least; a row of the live run that comes
within it counts as part of it.
"""

from __future__ import annotations

import argparse
import os
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pidec_tui.manager.manager import Manager

from ._terminal import Session, dashboard, load
from .workspace import add_live

RATE, WAY = 12_500.0, 0.1  # bytes a second; seconds one way
WINDOW = 64 * 1024  # bytes that wait before the line reads no more
CELL = 64  # bytes with which the first changed cell is there: a place, a look, a letter
QUIET, PATIENCE = 0.3, 10.0  # seconds
SCREEN = 1000  # bytes of a new screen, at least
TYPED, BETWEEN = 10, 0.05  # keys typed fast, seconds between two
SETTLE = 5.0
OTHERS = 12  # held jobs, for the cursor to move over
MOVES = "jkg"  # what is pressed for less than a new screen
# What is pressed in a round, after which the main screen is there again with its cursor on the live run.
ROUND = (
    ("j", "cursor down"), ("k", "cursor up"),
    ("\r", "enter: details"), ("\x1b", "esc (details)"),
    ("o", "o: charts"), ("\x1b", "esc (charts)"),
    ("l", "l: log"), ("\x1b", "esc (log)"),
    ("b", "b: checkpoints"), ("\x1b", "esc (checkpoints)"),
    ("?", "?: help"), ("\x1b", "esc (help)"),
    ("j" * TYPED, f"{TYPED} keys fast"), ("g", "g: to the top"),
)  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """What was written at `written` (seconds, as time.perf_counter tells), and when its first cell and its end come."""

    written: float
    first: float
    arrived: float
    size: int


class Line:
    """The way from a terminal's program to the screen. Reads in a thread of its own until the program ends."""

    def __init__(self, screen: int) -> None:
        self.pieces: list[Piece] = []
        self.most = 0.0  # bytes that have waited at once
        self._screen, self._free = screen, 0.0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                select.select([self._screen], [], [])
                while (waits := RATE * (self._free - time.perf_counter())) > WINDOW:
                    time.sleep((waits - WINDOW) / RATE)
                size, now = len(os.read(self._screen, 4096)), time.perf_counter()
                start = max(self._free, now)
                self._free = start + size / RATE
                self.most = max(self.most, RATE * (self._free - now))
                self.pieces.append(Piece(now, start + min(size, CELL) / RATE + WAY, self._free + WAY, size))
        except OSError:  # closed: it has left
            pass

    def rest(self) -> None:
        """Wait until all that was written has arrived."""
        while (left := self._free + WAY - time.perf_counter()) > 0:
            time.sleep(left)


@dataclass(frozen=True)
class Answer:
    """Seconds from a key until all was written, as without the line; until the first changed cell and the last byte
    have arrived; and how many bytes."""

    written: float
    first: float
    last: float
    size: int


def ask(session: Session, line: Line, keys: str, least: int) -> Answer:
    """Type these keys, and wait for the answer to the last one, of so many bytes at least. Raises TimeoutError."""
    before = len(line.pieces)
    for at, key in enumerate(keys):
        time.sleep(WAY if at == 0 else BETWEEN)
        session.press(key.encode())
    reached = time.perf_counter()
    while time.perf_counter() - reached < PATIENCE:
        time.sleep(QUIET / 10)
        found = [piece for piece in line.pieces[before:] if piece.written >= reached]
        size = sum(piece.size for piece in found)
        if size >= least and time.perf_counter() - found[-1].written >= QUIET:
            pressed, written = reached - WAY, found[-1].written - reached
            return Answer(written, found[0].first - pressed, found[-1].arrived - pressed, size)
    raise TimeoutError(f"no answer to {keys!r}, or no end of it")


@contextmanager
def opened(root: Path, env: dict[str, str], size: tuple[int, int]) -> Iterator[Session]:
    """The dashboard over a live run; both are ended."""
    manager = Manager.open(root)
    for number in range(OTHERS):
        manager.add("command", {"command": "true"}, name=f"later {number}", lane="cpu", held=True)
    live = add_live(manager)
    manager.close()
    session = Session(*dashboard(str(root)), env=env, size=size)
    try:
        session.until(b"live run")
        session.drain(SETTLE)
        yield session
    finally:
        session.end()
        jobs = [sys.executable, "-m", "pidec_tui.manager.cli", "--workspace", str(root)]
        for command in (["cancel", str(live.id)], ["runner", "stop"]):
            subprocess.run([*jobs, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def measure(root: Path, env: dict[str, str], size: tuple[int, int], rounds: int, seconds: float) -> None:
    answers: dict[str, list[Answer]] = {name: [] for _, name in ROUND}
    with opened(root, env, size) as session:
        line = Line(session.screen)
        time.sleep(seconds)
        looked, waited = sum(piece.size for piece in line.pieces) / seconds, line.most
        session.press(b"g")
        for _ in range(rounds):
            for keys, name in ROUND:
                time.sleep(2 * QUIET)
                line.rest()
                answers[name].append(ask(session, line, keys, 1 if keys[0] in MOVES else SCREEN))
    print(f"\n{size[0]}x{size[1]}, {rounds} rounds, median (worst) in seconds; {load()}")
    print(f"{'key':<18} {'bytes':>7}   {'no line':<13} {'first cell':<13} last byte")
    for name, given in answers.items():
        columns = [[answer.written for answer in given], [answer.first for answer in given]]
        columns.append([answer.last for answer in given])
        told = [f"{statistics.median(column):.2f} ({max(column):.2f})" for column in columns]
        print(f"{name:<18} {statistics.median(a.size for a in given):>7,.0f}   {told[0]:<13} {told[1]:<13} {told[2]}")
    print(f"looked at for {seconds:g} s: {looked:,.0f} bytes/s, at most {waited:,.0f} waited; in all {line.most:,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", nargs="+", default=["160x45", "100x30"], help="columns x lines")
    parser.add_argument("--seconds", type=float, default=20.0, help="for which nothing is pressed, at first")
    options = parser.parse_args()
    for text in options.size:
        columns, lines = (int(word) for word in text.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            env = {"XDG_STATE_HOME": f"{folder}/state", "XDG_CONFIG_HOME": f"{folder}/config"}
            os.environ.update(env)
            measure(Path(folder) / "ws", env, (columns, lines), options.rounds, options.seconds)


if __name__ == "__main__":
    main()
