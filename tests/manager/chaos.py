"""Kill everything, at random: does each job still run exactly once, and does nothing get lost?

    python -m tests.manager.chaos --rounds 20        (or `make chaos`)

The suite runs a short, seeded round of the same.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from pidec_tui.manager.joblog import JobLog
from pidec_tui.manager.jobs import JobState
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.procs import Started, kill_leftovers

# Says when it begins and ends, and whether another execution of the same job is alive at that moment.
WORKER = """
import fcntl, sys, time
tally, name, seconds = sys.argv[1:]
def say(word):
    with open(tally, "a") as file:
        file.write(f"{word} {name}\\n")
guard = open(f"{tally}.{name}", "w")
try:
    fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    say("overlap")
    raise SystemExit(1)
say("begin")
time.sleep(float(seconds))
say("end")
"""


class Arena:
    """A workspace with jobs in it whose runner, shims and trainers get killed."""

    def __init__(self, folder: Path, *, jobs: int, seconds: float, cpu_slots: int = 2) -> None:
        os.environ.setdefault("PIDEC_SLOT_DIR", str(folder / "slots"))
        self.tally = folder / "tally"
        self.tally.touch()
        workspace = folder / "ws"
        (workspace / "jobs").mkdir(parents=True)
        (workspace / "jobs" / "settings.toml").write_text(f"cpu_slots = {cpu_slots}\npoll_s = 0.1\n")
        worker = folder / "worker.py"
        worker.write_text(WORKER)
        self.manager = Manager.open(workspace)
        self.jobs = [
            self.manager.add(
                "command",
                {"command": shlex.join([sys.executable, str(worker), str(self.tally), f"job{n}", str(seconds)])},
            ).id
            for n in range(jobs)
        ]

    def counts(self, word: str) -> Counter[str]:
        lines = [line.split() for line in self.tally.read_text().splitlines()]
        return Counter(name for said, name in lines if said == word)

    def kill_runner(self) -> None:
        pid = self.manager.runner_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_some_attempt(self, rng: random.Random) -> str:
        """Kill shim, trainer or both of an active job; says which, "" if there was none."""
        active = [job for job in self.manager.jobs() if job.state.active and job.attempts]
        if not active:
            return ""
        job = rng.choice(active)
        started = Started.read(self.manager.workspace.run(job.id).attempt(job.attempts[-1].number).path)
        if started is None or not (started.shim_alive() or started.trainer_alive()):
            return ""
        which = rng.choice(["shim", "trainer", "both"])
        for pid in [started.shim] * (which != "trainer") + [started.pid] * (which != "shim"):
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return which

    def wait_until_over(self, limit_s: float) -> None:
        """Until no job is queued or active."""
        deadline = time.monotonic() + limit_s
        while any(not (job.state.finished or job.state is JobState.held) for job in self.manager.jobs()):
            if time.monotonic() > deadline:
                raise AssertionError(f"still at work: {[(job.id, job.state.value) for job in self.manager.jobs()]}")
            self.manager.ensure_runner()
            time.sleep(0.1)

    def close(self) -> None:
        """Leave no process behind."""
        self.manager.stop_runner()
        log = JobLog(self.manager.places.db)
        for job, number, token in log.rows("SELECT job, number, token FROM attempts"):
            folder = self.manager.workspace.run(job).attempt(number).path
            if not (folder / "exit.json").exists():
                kill_leftovers(token, Started.read(folder))
        log.close()
        self.manager.close()


def runner_killed_again_and_again(
    folder: Path, rng: random.Random, *, jobs: int, pause: tuple[float, float], cpu_slots: int = 2
) -> int:
    """One-second jobs while the runner is killed with -9: each must have run exactly once. Gives the kills."""
    arena = Arena(folder, jobs=jobs, seconds=1.0, cpu_slots=cpu_slots)
    kills = 0
    try:
        deadline = time.monotonic() + 10 * jobs + 30
        while any(not job.state.finished for job in arena.manager.jobs()):
            assert time.monotonic() < deadline, [(job.id, job.state.value) for job in arena.manager.jobs()]
            arena.manager.ensure_runner()
            time.sleep(rng.uniform(*pause))
            arena.kill_runner()
            kills += 1
        expected = Counter({f"job{n}": 1 for n in range(jobs)})
        assert arena.counts("begin") == expected, f"begun: {arena.counts('begin')}"
        assert arena.counts("end") == expected, f"ended: {arena.counts('end')}"
        assert not arena.counts("overlap")
        for job in arena.manager.jobs():
            assert job.state is JobState.succeeded and len(job.attempts) == 1, (job.id, job.state, job.attempts)
    finally:
        arena.close()
    return kills


def everything_killed(folder: Path, rng: random.Random, *, jobs: int, kills: int) -> Counter[str]:
    """Runner, shims and trainers killed at random: no job runs beside itself, none is lost, held ones finish later."""
    arena = Arena(folder, jobs=jobs, seconds=0.6, cpu_slots=3)
    killed: Counter[str] = Counter()
    try:
        for _ in range(kills):
            if all(job.state.finished or job.state is JobState.held for job in arena.manager.jobs()):
                break
            arena.manager.ensure_runner()
            time.sleep(rng.uniform(0.1, 0.9))
            if rng.random() < 0.3:
                arena.kill_runner()
                killed["runner"] += 1
            else:
                killed[arena.kill_some_attempt(rng) or "nobody"] += 1
        arena.wait_until_over(60 + 5 * jobs)
        for job in arena.manager.jobs():  # interrupted commands wait for a user
            if job.state is JobState.held:
                assert "interrupted" in job.reason, job
                arena.manager.release(job.id)
        arena.wait_until_over(60 + 5 * jobs)
        assert not arena.counts("overlap"), f"two at a time: {arena.counts('overlap')}"
        assert set(arena.counts("end")) == {f"job{n}" for n in range(jobs)}
        by_name = {f"job{n}": arena.manager.job(job_id) for n, job_id in enumerate(arena.jobs)}
        for name, begun in arena.counts("begin").items():
            assert begun <= len(by_name[name].attempts), (name, begun, by_name[name].attempts)
        assert all(job.state is JobState.succeeded for job in by_name.values()), by_name
        before = {job.id: (job.state, len(job.attempts)) for job in arena.manager.jobs()}
        arena.manager.repair()
        after = {job.id: (job.state, len(job.attempts)) for job in arena.manager.jobs()}
        assert before == after, "the rebuilt job log tells another story"
    finally:
        arena.close()
    return killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    for number in range(options.rounds):
        rng = random.Random(seed + number)
        with tempfile.TemporaryDirectory(prefix="pidec-chaos-") as folder:
            kills = runner_killed_again_and_again(Path(folder), rng, jobs=options.jobs, pause=(0.8, 2.0))
            print(
                f"round {number} (seed {seed + number}): each of {options.jobs} jobs once, runner killed {kills} times"
            )
        with tempfile.TemporaryDirectory(prefix="pidec-chaos-") as folder:  # hits the moments around claim and launch
            kills = runner_killed_again_and_again(Path(folder), rng, jobs=options.jobs, pause=(0.0, 0.2))
            print(f"round {number}: the same, killed {kills} times, right after it came up")
        with tempfile.TemporaryDirectory(prefix="pidec-chaos-") as folder:
            killed = everything_killed(Path(folder), rng, jobs=options.jobs, kills=4 * options.jobs)
            print(f"round {number}: nothing lost, nothing twice at a time; killed {dict(killed)}", flush=True)


if __name__ == "__main__":
    main()
