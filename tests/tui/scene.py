"""Workspaces with jobs in every state, made through the job manager's own parts: rows in a real job log, metrics read
from real metrics.jsonl files, sidecars on disk. No runner, fixed times."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
from textual.pilot import Pilot

import pidec_train
from pidec_train.protocol.episodes import BASE_EPISODES, Episode, EpisodeFile, episodes_file, write_episodes
from pidec_train.protocol.rundir import BEST, LAST, AttemptDir, CheckpointInfo, step_file, write_json
from pidec_tui.app import PidecApp
from pidec_tui.manager.gpus import GpuMonitor, GpuProcess, GpuSample
from pidec_tui.manager.host import HostSample
from pidec_tui.manager.ingest import Ingest
from pidec_tui.manager.jobs import Job, JobState
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.metriclog import MetricLog

NOW = 1_790_000_000.0  # Monday 2026-09-21 13:33:20 UTC
GIB = 2**30

DIFFUSION = {"total_iters": 1_000_000, "eval_freq": 100_000, "save_freq": 100_000, "demo_path": "demos/Peg.h5"}


PRESETS = {
    "quickstart": """
title = "Quickstart: a small policy on the CPU"
kind = "diffusion"
lane = "cpu"
notes = "Bundled demonstrations, no GPU, minutes on two cores."
[config]
env_id = "PushCube-v1"
demo_path = "bundled:PushCube-v1.h5"
total_iters = 2400
batch_size = 128
lr = 1e-3
unet_dims = [32, 64, 128]
eval_freq = 1200
device = "cpu"
""",
    "demos-peg": """
title = "Demonstrations for PegInsertionSide"
kind = "demos"
notes = "ManiSkill's own motion planner."
[config]
num_demos = 1000
""",
    "diffusion-peg": """
title = "Diffusion Policy on PegInsertionSide"
kind = "diffusion"
notes = "Batch 1024, a million iterations."
[config]
eval_freq = 100000
""",
}


class FixedGpus(GpuMonitor):
    """What the GPUs look like in a test: these samples, always."""

    def __init__(self, samples: Iterable[GpuSample] = (), why: str = "no NVIDIA driver") -> None:
        super().__init__(nvml=None)
        self._samples = list(samples)
        self.why_none = "" if self._samples else why

    def sample(self) -> list[GpuSample]:
        return list(self._samples)


H200 = GpuSample(
    0,
    "GPU-7f2c",
    "NVIDIA H200",
    97.0,
    int(18.2 * GIB),
    141 * GIB,
    612.0,
    700.0,
    64.0,
    1980,
    (GpuProcess(4312, "python", 1000, int(17.6 * GIB)),),
)
HOST = HostSample(38.0, 16, 5.2, int(21.4 * GIB), 128 * GIB, 412_000_000_000)
SMALL_HOST = HostSample(96.0, 2, 2.1, int(3.1 * GIB), 24 * GIB, 52_000_000_000)


class Scene:
    """A workspace whose jobs are put into any state."""

    def __init__(self, root: Path) -> None:
        self.manager = Manager.open(root)
        self.log = self.manager._log

    def add(self, kind: str, config: dict[str, Any], *, name: str, ago: float = 7200, **more: Any) -> Job:
        job = self.manager.add(kind, config, name=name, environ={}, cwd=self.manager.workspace.root, **more)
        with self.log.write():
            self.log.update_job(job.id, created=NOW - ago)
        return self.manager.job(job.id)

    def start(self, job: Job, *, ago: float, pid: int = 4312, resumed: int | None = None) -> AttemptDir:
        """An attempt of `job` runs since `ago` seconds."""
        number = len(self.manager.job(job.id).attempts) + 1
        folder = self.manager.workspace.run(job.id).attempt(number)
        folder.path.mkdir(parents=True, exist_ok=True)
        with self.log.write():
            first = {} if number > 1 else {"started": NOW - ago}
            self.log.move(job.id, JobState.starting, **first)
            self.log.move(job.id, JobState.running)
            self.log.insert_attempt(
                job.id,
                number,
                state="running",
                token=f"t{number}",
                started=NOW - ago,
                pid=pid,
                gpu="GPU-7f2c",
                resumed_step=resumed,
                fresh=int(resumed is None),
            )
        return folder

    def write(self, job: Job, lines: Iterable[dict[str, Any]]) -> None:
        """Append lines to the newest attempt's metrics.jsonl and take them in, as the runner does."""
        number, folder = self.manager.workspace.run(job.id).attempts()[-1]
        before = folder.metrics.read_text().count("\n") if folder.metrics.exists() else 0
        with folder.metrics.open("a") as file:
            for seq, line in enumerate(lines, before):
                file.write(json.dumps({"seq": seq, **line}) + "\n")
        Ingest(self.log, MetricLog(self.log)).all(job.id, number, job.kind, folder.metrics)

    def end(self, job: Job, state: JobState, *, ago: float, reason: str = "", code: int | None = 0) -> None:
        attempts = self.manager.job(job.id).attempts
        with self.log.write():
            if state is JobState.cancelled and attempts:
                self.log.move(job.id, JobState.stopping)
            self.log.move(job.id, state, ended=NOW - ago, reason=reason)
            if attempts:
                self.log.update_attempt(
                    job.id, attempts[-1].number, state=state.value, ended=NOW - ago, exit_code=code, cause=reason
                )

    def output(self, job: Job, text: str) -> None:
        self.manager.workspace.run(job.id).attempts()[-1][1].output.write_text(text)

    def checkpoint(
        self,
        job: Job,
        step: int,
        *,
        ago: float,
        successes: int | None = None,
        best: bool = False,
        last: bool = False,
        size: int = 53_400_000,
    ) -> Path:
        folder = self.manager.checkpoint_dir(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / step_file(step)
        path.write_bytes(b"")
        info = CheckpointInfo(
            size=size,
            sha256="0" * 64,
            kind="diffusion",
            step=step,
            created=NOW - ago,
            successes=successes,
            episodes=None if successes is None else 100,
        )
        write_json(path.with_suffix(".json"), info.model_dump())
        for name, wanted in ((BEST, best), (LAST, last)):
            if wanted:
                (folder / name).unlink(missing_ok=True)
                (folder / name).symlink_to(path.name)
        return path


def episodes(scene: Scene, job: Job, policy: str, ends: dict[int, bool], path: Path, *, step: int) -> None:
    """Keep episodes of a bundled demonstration: whole where it succeeds, cut off where it fails.

    Args:
        ends: whether it succeeds, by seed.
    """
    with h5py.File(Path(pidec_train.__file__).parent / "assets" / "PushCube-v1.h5") as demos:
        frames = demos["traj_0"]["obs"][:].tolist()
    kept = [Episode(seed=seed, success=won, frames=frames if won else frames[:50]) for seed, won in ends.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_episodes(
        path,
        EpisodeFile(env_id="PushCube-v1", control_mode="pd_ee_delta_pose", policy=policy, step=step, episodes=kept),
    )


def decorated(scene: Scene) -> Job:
    """A base policy and, on top of it, a decorator that is done, with episodes of both. Gives the latter."""
    base = scene.add("diffusion", {**DIFFUSION, "env_id": "PushCube-v1"}, name="quickstart", ago=1200)
    scene.start(base, ago=1100)
    scene.end(base, JobState.succeeded, ago=900)
    values = {"env_id": "PushCube-v1", "base_policy_ckpt": f"@{base.id}/best", "total_timesteps": 20_000}
    job = scene.add("decorator", values, name="decorator-quickstart", ago=1200)
    began = NOW - 880
    scene.start(job, ago=880)
    scene.write(job, decorating(20_000, began=began))
    scene.end(job, JobState.succeeded, ago=280)
    for step, wins in ((10_000, 81), (20_000, 97)):
        path = scene.checkpoint(job, step, ago=300, successes=wins, best=step == 20_000, last=step == 20_000)
    episodes(scene, job, "diffusion", {1001: False, 1002: True, 1003: False}, path.parent / BASE_EPISODES, step=1500)
    episodes(scene, job, "decorator", {1001: True, 1002: True, 1007: False}, episodes_file(path), step=20_000)
    return scene.manager.job(job.id)


def decorating(total: int, *, began: float) -> Iterable[dict[str, Any]]:
    """Lines of a decorator run as its trainer writes them."""
    yield {"event": "start", "time": began, "kind": "decorator", "step_name": "decision step", "total_steps": total}
    yield {"time": began, "step": 0, "metrics": {"eval/success_rate": 0.3, "eval/success_at_end": 0.3}}
    for i, step in enumerate(range(500, total + 1, 500)):
        time = began + 600 * step / total
        share = 0.3 + 0.67 / (1 + math.exp(-(step - 0.3 * total) / (0.08 * total)))
        yield {
            "time": time,
            "step": step,
            "metrics": {
                "train/qf_loss": 0.2 * math.exp(-step / (0.4 * total)) + 0.02,
                "train/actor_loss": 1 - 2 * share,
                "train/sac_alpha": 0.02 * math.exp(-step / (0.5 * total)),
                "train/success_rate": share - 0.02 * (1 + math.sin(i)),
                "train/residual_fraction": min(1.0, 4 * step / total),
                "throughput/iters_per_min": 2000 + 40 * math.sin(i),
                "throughput/env_steps_per_min": 7900 + 160 * math.sin(i),
            },
        }
        if step % 2500 == 0:
            yield {"time": time, "step": step, "metrics": {"eval/success_rate": share, "eval/success_at_end": share}}


def training(
    total: int,
    done: int,
    every: int,
    *,
    began: float,
    per_min: Callable[[int], float],
    eval_every: int = 0,
    data_ratio: float = 0.02,
) -> Iterable[dict[str, Any]]:
    """Lines of a diffusion run as its trainer writes them."""
    yield {"event": "start", "time": began, "kind": "diffusion", "step_name": "iteration", "total_steps": total}
    time = began
    for i, step in enumerate(range(every, done + 1, every)):
        rate = per_min(step)
        time += 60 * every / rate
        loss = 0.9 * math.exp(-step / (0.06 * total)) + 0.011 * (1 + 0.25 * math.sin(i * 1.7))
        yield {
            "time": time,
            "step": step,
            "metrics": {
                "train/loss": loss,
                "train/lr": 1e-4 * (1 + math.cos(math.pi * step / total)) / 2,
                "throughput/iters_per_min": rate,
                "time/data_ratio": data_ratio,
                "time/eval_wait_ratio": 0.01,
            },
        }
        if eval_every and step % eval_every == 0:
            wins = round(72 * (1 - math.exp(-step / (0.2 * total))))
            yield {"time": time, "step": step, "metrics": {"eval/success_rate": wins / 100}}
            yield {"time": time, "step": step, "event": "eval", "phase": "done", "successes": wins, "episodes": 100}


LOG = (
    "\n".join(
        f"iteration {620_000 + i * 1000:>9,} of 1,000,000  loss {0.0113 + 0.0004 * (i % 3):.4f}  948 iterations/min  "
        f"ETA {14 + i // 60}:{i % 60:02d}"
        for i in range(40)
    )
    + "\n"
)


def busy(scene: Scene) -> None:
    """A morning's work: one running, one stopped half-way, some waiting, some done."""
    done = scene.add("demos", {"num_demos": 1000, "out": "demos/Peg.h5"}, name="demos-peg", ago=90_000)
    scene.start(done, ago=88_000)
    scene.write(
        done,
        [
            {"event": "start", "time": NOW - 88_000, "step_name": "demo", "total_steps": 1000},
            *(
                {"time": NOW - 88_000 + 9 * i, "step": i, "metrics": {"demos/success_rate": 0.5}}
                for i in range(10, 1001, 10)
            ),
        ],
    )
    scene.end(done, JobState.succeeded, ago=78_000)
    lost = scene.add("diffusion", DIFFUSION, name="diffusion-peg-b4096", ago=60_000)
    scene.start(lost, ago=59_000)
    scene.write(lost, training(1_000_000, 70_000, 1000, began=NOW - 59_000, per_min=lambda s: 420))
    scene.output(lost, "iteration 70,000\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.1 GiB\n")
    scene.end(lost, JobState.failed, ago=48_000, code=1, reason="CUDA out of memory")
    main = scene.add("diffusion", DIFFUSION, name="diffusion-peg", ago=41_000, preset="diffusion-peg")
    began = NOW - 660 * 60
    scene.start(main, ago=660 * 60)
    rate: Callable[[int], float] = lambda s: 948 + 14 * math.sin(s / 17_000) - (510 if 310_000 < s < 330_000 else 0)  # noqa: E731
    scene.write(main, training(1_000_000, 600_000, 1000, began=began, per_min=rate, eval_every=100_000))
    scene.output(main, LOG)
    for i in range(1, 7):
        wins = round(72 * (1 - math.exp(-i / 2)))
        scene.checkpoint(main, i * 100_000, ago=(6 - i) * 6400 + 900, successes=wins, best=i == 6, last=i == 6)
    scene.add("diffusion", {**DIFFUSION, "seed": 2}, name="diffusion-peg-seed2", ago=36_000)
    scene.add("evaluate", {"ckpt": f"@{main.id}/best", "num_eval_episodes": 500}, name="evaluate-peg", ago=30_000)
    held = scene.add(
        "diffusion",
        {**DIFFUSION, "batch_size": 4096, "lr": 2e-4},
        name="diffusion-peg-b4096-lr2",
        ago=20_000,
        held=True,
    )
    with scene.log.write():
        scene.log.update_job(main.id + 1, waiting_for=f"job {main.id}")
        scene.log.update_job(main.id + 2, waiting_for=f"job {main.id}")
        scene.log.update_job(held.id, reason="held by hand")
    stopped = scene.add("command", {"command": "bash scripts/run_stack_cube.sh"}, name="run_stack_cube", ago=25_000)
    scene.start(stopped, ago=24_000)
    scene.output(stopped, "step 1\nstep 2\n")
    scene.end(stopped, JobState.cancelled, ago=20_500, code=130)


def app_of(scene: Scene, *, gpus: Iterable[GpuSample] = (H200,), clock: Callable[[], float] = lambda: NOW) -> PidecApp:
    """The dashboard over the scene: no runner is started, the clock stands still, the GPUs are these."""
    app = PidecApp(scene.manager, monitor=FixedGpus(gpus), clock=clock, start_runner=False)
    app.place = "~/policy"
    return app


async def settled(pilot: Pilot[Any]) -> None:
    """Wait until everything about the selected job is on the screen."""
    app = pilot.app
    assert isinstance(app, PidecApp)
    app.feed.wake()
    before = app.feed.ticks
    for _ in range(500):
        board = app.board
        read = board.jobs == [] or (board.trace is not None and board.trace.job_id == board.selected)
        if board.jobs is not None and read and board.machine.host and app.feed.ticks >= before + 2:
            break
        app.feed.wake()
        await pilot.pause(0.02)
    else:
        raise AssertionError("the dashboard did not come to rest")
    await pilot.pause()
    await pilot.pause()


async def pressed(pilot: Pilot[Any], *keys: str) -> None:
    """Press keys one after the other, and wait until what they do is on the screen."""
    for key in keys:
        await pilot.press(key)
        await pilot.pause()
    for worker in [worker for worker in pilot.app.workers if worker.name == "act"]:
        await worker.wait()
    await settled(pilot)
