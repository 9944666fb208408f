"""A workspace as many days of work leave it: a thousand jobs of every kind and state, made by the job manager.

    python -m benchmarks.workspace --out DIR [--jobs 1000] [--days 60] [--seed 0] [--live]
    pidec-tui --workspace DIR

Every job is added as a user adds it; its attempts then leave the files that a trainer and its shim leave
(metrics.jsonl, output.log, exit.json, checkpoints with sidecars; a .pt is as large as a real one, but a hole on the
disk), and the runner's own parts take them in, so that `pidec-jobs repair` rebuilds the same. Nothing waits to be
started, so that the dashboard starts nothing; with --live one job does, which logs a row a second for an hour.
"""

from __future__ import annotations

import argparse
import random
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import track

from pidec_tui.manager.jobs import Job, JobState
from pidec_tui.manager.manager import Manager

from ._past import LONG_METRICS, LONG_ROWS, Past, Story

DAY = 86_400.0
TASKS = ("PegInsertionSide-v1", "PushCube-v1", "PickCube-v1", "StackCube-v1")
KINDS = {"diffusion": 34, "decorator": 22, "evaluate": 26, "command": 10, "demos": 5, "adapt": 3}  # parts of a hundred
HELD, GROUPS_OF = 12, (3, 4, 6)
LONG_RUNS = 3  # of LONG_ROWS rows and LONG_METRICS metrics
REASONS = ("exit code 1", "CUDA out of memory (exit code 1)", "killed by SIGSEGV", "no space left on device")
LIVE = """\
import json, math, os, time
path = os.path.join(os.environ["PIDEC_RUN_DIR"], "metrics.jsonl")
with open(path, "a", buffering=1) as file:
    say = lambda seq, **line: file.write(json.dumps({"seq": seq, "time": time.time(), **line}) + "\\n")
    say(0, event="start", kind="command", step_name="iteration", total_steps=360000)
    for i in range(1, 3601):
        loss = math.exp(-i / 900) + 0.02 * math.sin(i)
        say(i, step=100 * i, metrics={"train/loss": loss, "train/lr": 1e-4, "throughput/iters_per_min": 6000 + i % 50})
        print(f"iteration {100 * i}: loss {loss:.4f}", flush=True)
        time.sleep(1)
"""


@dataclass
class Plan:
    """One job to be: what a user asks for, and how it went."""

    kind: str
    name: str
    values: dict[str, Any]
    story: Story
    group: str = ""
    after: list[int] = field(default_factory=list)


class Diary:
    """What was worked on, day by day. Jobs come in their order, as each may build on those before it."""

    def __init__(self, dice: random.Random, jobs: int, days: float, now: float) -> None:
        self._dice, self._jobs, self._days, self._now = dice, jobs, days, now
        self.bases: list[Job] = []  # that have a checkpoint
        self._sweep: list[dict[str, Any]] = []  # jobs of a group that are still to come
        self._group, self._groups = "", 0

    def plans(self) -> Iterator[Plan]:
        """The jobs, first one first; whoever takes one says what became of it by `made`."""
        kinds, weights = list(KINDS), list(KINDS.values())
        long_runs = {(2 * k + 1) * self._jobs // (2 * LONG_RUNS) for k in range(LONG_RUNS)}
        for place in range(self._jobs):
            began = self._now - self._days * DAY * (1 - place / self._jobs)
            story = Story(self._dice.random(), began, self._state(place), self._reason())
            if place in long_runs:
                story.rows, story.metrics, story.state = LONG_ROWS, LONG_METRICS, JobState.succeeded
                yield Plan("command", f"long run {place}", {"command": "bash scripts/long_run.sh"}, story)
                continue
            kind = "diffusion" if self._sweep or not self.bases else self._dice.choices(kinds, weights)[0]
            yield self._plan(kind, place, story)

    def made(self, job: Job, story: Story) -> None:
        if job.kind == "diffusion" and story.checkpoints and story.state is JobState.succeeded:
            self.bases.append(job)

    def _state(self, place: int) -> JobState:
        if self._jobs - place <= min(HELD, self._jobs // 4):
            return JobState.held
        states = (JobState.succeeded, JobState.failed, JobState.cancelled)
        return self._dice.choices(states, (84, 9, 7))[0]

    def _reason(self) -> str:
        return self._dice.choice(REASONS)

    def _plan(self, kind: str, place: int, story: Story) -> Plan:
        task, seed = self._dice.choice(TASKS), self._dice.randrange(1, 6)
        short = task.removesuffix("-v1").lower()
        if kind == "diffusion":
            return self._diffusion(task, short, seed, place, story)
        if kind == "decorator":
            base = self._dice.choice(self.bases)
            values = {"base_policy_ckpt": f"@{base.id}/best", "env_id": base.config["env_id"], "seed": seed}
            story.rows, story.total, story.checkpoints = self._dice.randrange(200, 1500), 4_000_000, 4
            return Plan(kind, f"decorated-{base.name}-seed{seed}", values, story, after=[base.id])
        if kind == "evaluate":
            base = self._dice.choice(self.bases)
            story.rows, story.total = 1, 100
            return Plan(kind, f"evaluate-{base.name}", {"ckpt": f"@{base.id}/best"}, story, after=[base.id])
        if kind == "demos":
            story.rows, story.total = 50, 1000
            return Plan(kind, f"demos-{short}", {"env_id": task, "num_demos": 1000, "out": f"{short}.h5"}, story)
        if kind == "adapt":
            story.rows, story.total = 0, 1
            return Plan(kind, f"adapt-{short}", {"ckpt": f"old/{short}.pt", "out": f"new/{short}.pt"}, story)
        story.rows = self._dice.randrange(0, 400)
        return Plan(kind, f"scripts/run_{short}.sh", {"command": f"bash scripts/run_{short}.sh {seed}"}, story)

    def _diffusion(self, task: str, short: str, seed: int, place: int, story: Story) -> Plan:
        if not self._sweep and self._dice.random() < 0.06:
            self._groups += 1
            self._group = f"{short}-sweep-{self._groups}"
            several = self._dice.choice(GROUPS_OF)
            self._sweep = [{"env_id": task, "seed": 1 + k // 2, "lr": (1e-4, 3e-4)[k % 2]} for k in range(several)]
        values = {"total_iters": 1_000_000, "demo_path": f"demos/{task}.h5", "env_id": task, "seed": seed}
        group, name = "", f"diffusion-{short}-seed{seed}"
        if self._sweep:
            values |= self._sweep.pop()
            group, name = self._group, f"{self._group}-{len(self._sweep)}"
        story.rows, story.total = self._dice.randrange(150, 1000), 1_000_000
        story.checkpoints = self._dice.choice((2, 3, 5, 10))
        story.resumes = self._dice.choices((0, 1, 2), (80, 15, 5))[0]
        return Plan("diffusion", name, values, story, group)


def make(root: Path, jobs: int = 1000, days: float = 60, seed: int = 0, *, now: float | None = None) -> Manager:
    """Fill the workspace at `root`, an empty folder or none, and give its job manager, open.

    Args:
        now: unix seconds at which the diary ends.
    """
    manager = Manager.open(root)
    past = Past(manager, random.Random(f"past {seed}"))
    diary = Diary(random.Random(seed), jobs, days, time.time() if now is None else now)
    for plan in track(diary.plans(), f"{jobs:,} jobs", total=jobs, disable=not sys.stderr.isatty()):
        job = manager.add(
            plan.kind, plan.values, name=plan.name, group=plan.group, after=plan.after, held=True, environ={}, cwd=root
        )
        past.live_through(job, plan.story)
        diary.made(job, plan.story)
    return manager


def add_live(manager: Manager) -> Job:
    """Queue a job that logs a row a second for an hour. A runner, which the dashboard starts, runs it."""
    return manager.add("command", {"command": f"{sys.executable} -c {shlex.quote(LIVE)}"}, name="live run", lane="cpu")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workspace", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="an empty folder, or one to be made")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--days", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--live", action="store_true", help="queue a job that logs a row a second for an hour")
    options = parser.parse_args(argv)
    out: Path = options.out.absolute()
    if out.exists() and any(out.iterdir()):
        parser.error(f"{out} is not empty: choose another folder")
    begun = time.perf_counter()
    manager = make(out, options.jobs, options.days, options.seed)
    if options.live:
        add_live(manager)
    size = manager.places.db.stat().st_size
    manager.close()
    print(f"{options.jobs:,} jobs in {time.perf_counter() - begun:.0f} s, job log {size / 1e6:.0f} MB")
    print(f"pidec-tui --workspace {shlex.quote(str(out))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
