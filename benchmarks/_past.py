"""What a job leaves behind: the files of its attempts, and what the runner made of them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pidec_train.protocol.rundir import (
    BEST,
    LAST,
    AttemptDir,
    CheckpointInfo,
    ExitRecord,
    sidecar,
    step_file,
)
from pidec_tui.manager.ingest import Ingest
from pidec_tui.manager.jobs import Job, JobState
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.metriclog import MetricLog
from pidec_tui.manager.queueing import write_spec_of

LONG_ROWS, LONG_METRICS = 50_000, 20
EPISODES = 100
CHECKPOINT_BYTES = 70_000_000
LOG_BYTES = (3_000, 2_000_000)  # of most logs; a long run's is larger
LONG_LOG_BYTES = 60_000_000

Line = dict[str, object]


@dataclass
class Story:
    """How a job went.

    Attributes:
        luck: 0 to 1; how well it learned.
        began: when it was queued, unix seconds.
        rows: of metrics; `metrics` of them in each, 0: as the kind logs them.
        total: steps.
        resumes: how often it was interrupted and went on.
    """

    luck: float
    began: float
    state: JobState
    reason: str
    rows: int = 0
    metrics: int = 0
    total: int = 100_000
    checkpoints: int = 0
    resumes: int = 0


class Past:
    """Lets jobs live through their stories in a moment."""

    def __init__(self, manager: Manager, dice: random.Random) -> None:
        self._manager, self._log, self._dice = manager, manager._log, dice
        manager._log.rows("PRAGMA synchronous = OFF")  # a benchmark's data need not outlive a power cut
        self._metrics = MetricLog(manager._log)
        self._ingest = Ingest(manager._log, self._metrics)

    def live_through(self, job: Job, story: Story) -> None:
        """Args: job: it was just added, held."""
        with self._log.write():
            self._log.update_job(job.id, created=story.began)
            if story.state is JobState.held:
                write_spec_of(self._log, self._manager.workspace, job.id)
                return
            self._log.set_state(job.id, JobState.queued)
            if story.state is JobState.cancelled and story.luck < 0.3:  # before it ever ran
                self._log.move(job.id, JobState.cancelled, ended=story.began + 60, reason="cancelled by hand")
                write_spec_of(self._log, self._manager.workspace, job.id)
                return
        self._run(job, story)
        if story.checkpoints:
            self._checkpoints(job, story)

    def _run(self, job: Job, story: Story) -> None:
        lines = list(_lines(job.kind, story, np.random.default_rng(job.id)))
        done = len(lines) if story.state is JobState.succeeded else int(len(lines) * (0.1 + 0.8 * story.luck))
        parts = story.resumes + 1
        cuts = [done * part // parts for part in range(parts + 1)]
        clock = story.began + 30
        for number in range(1, parts + 1):
            last = number == parts
            clock = self._attempt(job, story, number, lines[cuts[number - 1] : cuts[number]], clock, last=last)

    def _attempt(self, job: Job, story: Story, number: int, lines: list[Line], began: float, *, last: bool) -> float:
        """Gives its end, unix seconds."""
        folder = self._manager.workspace.run(job.id).attempt(number)
        folder.path.mkdir(parents=True, mode=0o700)
        seconds = max(60.0, 8 * len(lines))
        state = story.state if last else JobState.interrupted
        resumed = lines[0]["step"] if number > 1 and lines else None
        start: Line = {"event": "start", "kind": job.kind, "step_name": job.step_name, "total_steps": story.total}
        rows = [{**start, "resumed_step": resumed}, *lines]
        if last and state is JobState.succeeded:
            rows.append({"event": "end", "state": "succeeded"})
        with folder.metrics.open("w") as file:
            for seq, line in enumerate(rows):
                file.write(json.dumps({"seq": seq, "time": began + seconds * (seq + 1) / len(rows), **line}) + "\n")
        ended = began + seconds
        self._write_log(folder, lines, story)
        code = {JobState.succeeded: 0, JobState.interrupted: None, JobState.cancelled: 130}.get(state, 1)
        causes = {
            JobState.succeeded: "",
            JobState.interrupted: "killed by SIGKILL",
            JobState.cancelled: "exit code 130",
        }
        cause = causes.get(state, story.reason)
        record = ExitRecord(
            code=code, signal=9 if code is None else None, cause=cause, started=began, ended=ended
        ).model_dump_json()
        folder.exit.write_text(record + "\n")
        folder.lock.touch(mode=0o600)
        with self._log.write():
            self._log.move(job.id, JobState.starting)
            self._log.move(job.id, JobState.running, started=story.began + 30)
            self._log.insert_attempt(
                job.id, number, state="running", token=f"t{number}", started=began, fresh=int(resumed is None)
            )
            self._ingest.all(job.id, number, job.kind, folder.metrics, in_transaction=True)
            self._end(job, number, state, ended, cause, code)
            write_spec_of(self._log, self._manager.workspace, job.id)
        return ended + 60

    def _end(self, job: Job, number: int, state: JobState, ended: float, cause: str, code: int | None) -> None:
        signal = 9 if code is None else None
        self._log.update_attempt(
            job.id, number, state=state.value, ended=ended, exit_code=code, signal=signal, cause=cause
        )
        if state is JobState.cancelled:
            self._log.move(job.id, JobState.stopping, cancel_asked=ended)
        by_hand = state is JobState.cancelled
        self._log.move(job.id, state, ended=ended, reason="cancelled by hand" if by_hand else cause)
        if state is JobState.interrupted:
            self._log.move(job.id, JobState.queued)
        elif state is JobState.failed:
            self._metrics.add_alert(job.id, number, ended, "failed", "", f"{job.name} failed: {cause}")
        elif state is JobState.succeeded:
            self._metrics.add_alert(job.id, number, ended, "done", "", f"{job.name} is done")

    def _write_log(self, folder: AttemptDir, lines: list[Line], story: Story) -> None:
        """As long as real ones: a line a row, the text of a progress bar between them."""
        low, high = (math.log(size) for size in LOG_BYTES)
        size = LONG_LOG_BYTES if story.metrics else int(math.exp(self._dice.triangular(low, high, low + 2)))
        bar = "\r| 412it/s" * max((size // max(len(lines), 1) - 25) // 9, 0)
        with folder.output.open("w") as file:
            file.write("INFO:root:loading demonstrations\n")
            file.writelines(f"[{place:>6}] step {line.get('step')}: {bar}\n" for place, line in enumerate(lines))
            if story.state is JobState.failed:
                file.write(f"Traceback (most recent call last):\n  ...\nRuntimeError: {story.reason}\n")

    def _checkpoints(self, job: Job, story: Story) -> None:
        folder = self._manager.checkpoint_dir(job.id)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        share = 1.0 if story.state is JobState.succeeded else 0.5
        steps = [int(story.total * share * (k + 1) / story.checkpoints) for k in range(story.checkpoints)]
        best, most = steps[-1], -1
        for place, step in enumerate(steps):
            wins = min(EPISODES, int(EPISODES * story.luck * (place + 1) / len(steps) + self._dice.randrange(5)))
            best, most = (step, wins) if wins > most else (best, most)
            self._checkpoint(job, story, folder / step_file(step), step, wins)
        for name, step in ((BEST, best), (LAST, steps[-1])):
            (folder / name).symlink_to(step_file(step))

    def _checkpoint(self, job: Job, story: Story, path: Path, step: int, wins: int) -> None:
        with path.open("wb") as file:
            file.truncate(CHECKPOINT_BYTES)
        info = CheckpointInfo(
            size=CHECKPOINT_BYTES,
            sha256=f"{self._dice.getrandbits(256):064x}",
            kind=job.kind,
            step=step,
            created=story.began + 8 * story.rows * step / story.total,
            env_id=job.config.get("env_id"),
            control_mode="pd_ee_delta_pose",
            obs_dim=43,
            act_dim=7,
            successes=wins,
            episodes=EPISODES,
            config=job.config,
        )
        sidecar(path).write_text(info.model_dump_json())


def _lines(kind: str, story: Story, dice: np.random.Generator) -> Iterator[Line]:
    """What the kind's trainer logs, without times."""
    if not story.rows:
        return
    steps = np.linspace(story.total / story.rows, story.total, story.rows).astype(int).tolist()
    share = np.linspace(0, 1, story.rows)
    noise = dice.normal(size=(story.rows, 4))
    falling = 0.03 + (1 - 0.3 * story.luck) * np.exp(-8 * share) + 0.004 * noise[:, 0]
    rising = np.clip(story.luck / (1 + np.exp(-12 * (share - 0.4))) + 0.02 * noise[:, 1], 0, 1)
    pace = 900 + 100 * story.luck + 15 * noise[:, 2]
    if story.metrics:
        columns = {f"own/m{k:02d}": falling + k + 0.02 * noise[:, k % 4] for k in range(story.metrics)}
    elif kind == "diffusion":
        columns = {"train/loss": falling, "train/lr": 1e-4 * np.cos(share), "throughput/iters_per_min": pace}
        columns["time/data_ratio"] = 0.02 + 0.001 * np.abs(noise[:, 3])
    elif kind == "decorator":
        columns = {
            "train/qf_loss": falling,
            "train/actor_loss": -rising,
            "train/sac_alpha": 0.2 * np.exp(-3 * share),
            "train/success_rate": rising,
            "train/residual_fraction": np.minimum(4 * share, 1),
            "throughput/iters_per_min": pace,
            "throughput/env_steps_per_min": 4 * pace,
        }
    elif kind == "demos":
        columns = {"demos/attempted": 2.0 * np.array(steps), "demos/success_rate": 0.5 + 0.02 * noise[:, 3]}
    elif kind == "evaluate":
        columns = {"eval/success_rate": rising + story.luck, "eval/return": rising}
    else:
        columns = {"loss": falling, "accuracy": rising}
    names = list(columns)
    every = max(story.rows // 10, 1)
    for place, values in enumerate(zip(*(column.tolist() for column in columns.values()), strict=True)):
        yield {"step": steps[place], "metrics": dict(zip(names, values, strict=True))}
        if kind in ("diffusion", "decorator") and place % every == every - 1:
            wins = int(rising[place] * EPISODES)
            yield {"step": steps[place], "event": "checkpoint", "path": step_file(steps[place])}
            yield {"step": steps[place], "event": "eval", "phase": "done", "successes": wins, "episodes": EPISODES}
            yield {"step": steps[place], "metrics": {"eval/success_rate": wins / EPISODES}}
