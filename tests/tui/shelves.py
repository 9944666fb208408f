"""A workspace with checkpoints of every sort, and an extra folder with older ones. Files as long as they say, empty
inside; what is looked into is answered without torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from pidec_train.protocol.config import parse_config
from pidec_train.protocol.rundir import BEST, LAST, CheckpointInfo, sidecar, step_file
from pidec_tui.app import PidecApp
from pidec_tui.manager.inspecting import Inspections
from pidec_tui.manager.jobs import Job, JobState
from pidec_tui.screens.checkpoints import CheckpointsScreen
from pidec_tui.widgets.rowlist import RowList
from tests.manager.jobs_support import UPSTREAM
from tests.tui.scene import DIFFUSION, NOW, Scene, decorating, episodes, training

SIZE = 5_300_000


def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files called `best.pt` are upstream's, all others are none."""

    def ask(self: Inspections, path: Path) -> tuple[int | None, str, str]:
        if path.name == BEST:
            return 0, json.dumps(UPSTREAM), ""
        return 2, "", f"pidec-train: {path} is not a checkpoint of a policy: it holds no weights of one\n"

    monkeypatch.setattr(Inspections, "_ask", ask)


def sized(path: Path, ago: float, size: int = SIZE) -> Path:
    """A file of this length that takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, size)
    os.utime(path, (NOW - ago, NOW - ago))
    return path


def save(folder: Path, step: int, *, ago: float, tags: str = "", **info: Any) -> Path:
    """A checkpoint with its .json; `tags`: which links point to it."""
    path = sized(folder / step_file(step), ago)
    told: dict[str, Any] = {
        "size": SIZE,
        "kind": "diffusion",
        "env_id": "PegInsertionSide-v1",
        "control_mode": "pd_ee_delta_pose",
        "obs_dim": 43,
        "act_dim": 7,
        "sha256": f"{step:064d}",
        **info,
    }
    sidecar(path).write_text(CheckpointInfo(step=step, created=NOW - ago, **told).model_dump_json())
    for name in (BEST, LAST):
        if name.removesuffix(".pt") in tags:
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(path.name)
    return path


def shelves(scene: Scene) -> tuple[Job, Job]:
    """A base policy, a decorator on top of it, one that is cut, and an extra folder of upstream's. Gives the jobs."""
    base = scene.add("diffusion", DIFFUSION, name="diffusion-peg", ago=90_000)
    scene.start(base, ago=80_000)
    scene.write(
        base, training(1_000_000, 1_000_000, 20_000, began=NOW - 80_000, per_min=lambda s: 948, eval_every=200_000)
    )
    scene.end(base, JobState.failed, ago=20_000, code=1, reason="CUDA out of memory")
    folder = scene.manager.checkpoint_dir(base.id)
    config = parse_config("diffusion", base.config).model_dump(mode="json")
    save(folder, 600_000, ago=40_000, successes=66, episodes=100, config=config, action_norm="min_max")
    best = save(folder, 800_000, ago=30_000, tags="best", successes=72, episodes=100, config=config)
    save(folder, 1_000_000, ago=20_000, tags="last", config=config)
    episodes(scene, base, "diffusion", {1001: True}, best.with_suffix(".episodes.json"), step=800_000)
    values = {"env_id": "PegInsertionSide-v1", "base_policy_ckpt": str(best), "total_timesteps": 20_000}
    job = scene.add("decorator", values, name="decorator-peg", ago=18_000)
    scene.start(job, ago=17_000)
    scene.write(job, decorating(20_000, began=NOW - 17_000))
    scene.end(job, JobState.succeeded, ago=16_000)
    save(
        scene.manager.checkpoint_dir(job.id),
        20_000,
        ago=16_000,
        tags="best last",
        kind="decorator",
        successes=97,
        episodes=100,
        parent_sha256=f"{800_000:064d}",
        config=parse_config("decorator", {**job.config, "res_scale": 0.05}).model_dump(mode="json"),
    )
    cut = save(scene.manager.workspace.checkpoints / "by-hand", 5000, ago=300_000, config=config)
    sized(cut, 300_000, 1_000_000)
    old = scene.manager.workspace.root.parent / "old"
    sized(old / "peg-seed1" / BEST, 40_000_000, 35_000_000)
    sized(old / "yolo" / "weights.pt", 30_000_000, 14_000_000)
    (scene.manager.workspace.jobs / "settings.toml").write_text(f"checkpoint_folders = [{json.dumps(str(old))}]\n")
    return base, job


def browser_of(pilot: Pilot[Any]) -> CheckpointsScreen:
    assert isinstance(pilot.app, PidecApp)
    return next(screen for screen in pilot.app.screen_stack if isinstance(screen, CheckpointsScreen))


async def opened(pilot: Pilot[Any]) -> CheckpointsScreen:
    """Press `b`, and wait until everything was read and looked into."""
    await pilot.pause()
    await press(pilot, "b")
    browser = browser_of(pilot)
    await until(pilot, lambda: browser._catalogue is not None and not browser._looking)
    return browser


async def press(pilot: Pilot[Any], *keys: str) -> None:
    """Press keys one after the other, and wait for what they began in threads."""
    for key in keys:
        await pilot.press(key)
        for worker in [worker for worker in pilot.app.workers if worker.name == "act"]:
            await worker.wait()
    await pilot.pause()


async def until(pilot: Pilot[Any], question: Any) -> None:
    for _ in range(300):
        if question():
            await pilot.pause()
            return
        await pilot.pause(0.02)
    raise AssertionError("it did not happen")


def rows_of(pilot: Pilot[Any]) -> RowList:
    return browser_of(pilot).query_one(RowList)


async def choose(pilot: Pilot[Any], part: str) -> str:
    """Put the cursor on the checkpoint whose path holds `part`."""
    rows = rows_of(pilot)
    key = next(key for key in rows._keys if key is not None and part in key)
    rows.go_to(key)
    await pilot.pause()
    return key


def screen_text(pilot: Pilot[Any]) -> str:
    """What is on the screen, as text."""
    width, height = pilot.app.size
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.text[:width] for strip in strips[:height])
