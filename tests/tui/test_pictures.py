"""The screens as pictures. After a change that is meant: `pytest tests/tui/test_pictures.py --snapshot-update`, and
look at every one."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.tui.scene import H200, SMALL_HOST, Scene, app_of, busy, decorated, settled
from tests.tui.shelves import answers, choose, opened, press, shelves

Compare = Callable[..., bool]
pytestmark = pytest.mark.usefixtures("presets")


def after(*keys: str, job: int | None = None) -> Callable[[Pilot[Any]], Awaitable[None]]:
    """Let the dashboard come to rest, put the cursor on a job, press keys."""

    async def run(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        if job is not None:
            pilot.app.go_to(job)  # type: ignore[attr-defined]
            await settled(pilot)
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        await settled(pilot)

    return run


@pytest.mark.parametrize(
    "size", [(160, 45), (120, 40), (100, 30), (80, 24), (60, 18)], ids=lambda size: f"{size[0]}x{size[1]}"
)
def test_busy(snap_compare: Compare, scene: Scene, size: tuple[int, int]) -> None:
    """Lost: the picture that people look at all day, at each layout."""
    busy(scene)
    assert snap_compare(app_of(scene), terminal_size=size, run_before=after())


@pytest.mark.parametrize("tab", ["charts", "log", "machine"])
def test_busy_tabs(snap_compare: Compare, scene: Scene, tab: str) -> None:
    """Lost: the other tabs of the smallest terminal."""
    busy(scene)
    presses = ["tab"] * (["charts", "log", "machine"].index(tab) + 1)
    assert snap_compare(app_of(scene), terminal_size=(60, 18), run_before=after(*presses))


@pytest.mark.parametrize("size", [(160, 45), (100, 30), (60, 18)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_empty(snap_compare: Compare, scene: Scene, size: tuple[int, int]) -> None:
    """Lost: what a newcomer sees first."""
    assert snap_compare(app_of(scene), terminal_size=size, run_before=after())


def test_failed(snap_compare: Compare, scene: Scene) -> None:
    """Lost: why it failed, at a glance."""
    busy(scene)
    assert snap_compare(app_of(scene), terminal_size=(160, 45), run_before=after(job=2))


@pytest.mark.parametrize("size", [(120, 40), (60, 18)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_decorated(snap_compare: Compare, scene: Scene, size: tuple[int, int]) -> None:
    """Lost: success that climbs from the base policy's, evaluations and training episodes in one chart."""
    job = decorated(scene)
    presses = ["tab"] if size[0] < 80 else []
    assert snap_compare(app_of(scene), terminal_size=size, run_before=after(*presses, job=job.id))


def test_without_gpu(snap_compare: Compare, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: a machine without a GPU, where the first steps are made."""
    busy(scene)
    monkeypatch.setattr("pidec_tui.feed.sample_host", lambda path: SMALL_HOST)
    assert snap_compare(app_of(scene, gpus=()), terminal_size=(160, 45), run_before=after())


def test_two_gpus(snap_compare: Compare, scene: Scene) -> None:
    """Lost: the second GPU, or the host below them."""
    from dataclasses import replace

    busy(scene)
    other = replace(H200, index=1, uuid="GPU-9", utilization=4.0, memory_used=1 << 30, processes=())
    assert snap_compare(app_of(scene, gpus=(H200, other)), terminal_size=(160, 45), run_before=after())


def test_command_job(snap_compare: Compare, scene: Scene) -> None:
    """Lost: a job that prints and logs nothing."""
    busy(scene)
    assert snap_compare(app_of(scene), terminal_size=(120, 40), run_before=after(job=7))


def test_light(snap_compare: Compare, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: people with a light terminal."""
    busy(scene)
    monkeypatch.setenv("PIDEC_THEME", "light")
    assert snap_compare(app_of(scene), terminal_size=(120, 40), run_before=after())


@pytest.mark.parametrize("size", [(120, 40), (60, 18)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_new_job(snap_compare: Compare, scene: Scene, size: tuple[int, int]) -> None:
    """Lost: choosing what to queue."""
    assert snap_compare(app_of(scene), terminal_size=size, run_before=after("n"))


@pytest.mark.parametrize(
    ("size", "name", "text"),
    [
        ((120, 40), "eval_freq", "1000"),
        ((120, 40), "unet_dims", "30 64"),
        ((60, 18), "lr", "fast"),
    ],
    ids=["hint", "spanning-error", "error-60x18"],
)
def test_form(snap_compare: Compare, scene: Scene, size: tuple[int, int], name: str, text: str) -> None:
    """Lost: the form of a new job, with what it says of a value that costs hours or cannot be."""

    async def run(pilot: Pilot[Any]) -> None:
        await after("n", "j", "j", "e")(pilot)
        rows = {row.field.name: row for row in pilot.app.screen.query("FieldRow")}  # type: ignore[attr-defined]
        rows[name].fill(text)
        await pilot.pause()

    assert snap_compare(app_of(scene), terminal_size=size, run_before=run)


def test_detail(snap_compare: Compare, scene: Scene) -> None:
    """Lost: one job, large. (Its config shows absolute paths, so the folder has to be the same every time.)"""
    busy(scene)
    jobs = scene.manager.jobs()
    with scene.log.write():
        for job in jobs:
            config = {
                key: value.replace(str(scene.manager.workspace.root), "/home/me/policy")
                if isinstance(value, str)
                else value
                for key, value in job.config.items()
            }
            scene.log.update_job(job.id, config=json.dumps(config))
    assert snap_compare(app_of(scene), terminal_size=(160, 45), run_before=after("enter", job=3))


def test_question(snap_compare: Compare, scene: Scene) -> None:
    """Lost: what is asked before a job is cancelled."""
    busy(scene)
    assert snap_compare(app_of(scene), terminal_size=(100, 30), run_before=after("c", job=3))


def test_help(snap_compare: Compare, scene: Scene) -> None:
    """Lost: the list of keys."""
    busy(scene)
    assert snap_compare(app_of(scene), terminal_size=(100, 45), run_before=after("question_mark"))


BROWSER_SIZES = pytest.mark.parametrize(
    "size", [(160, 45), (100, 30), (60, 18)], ids=lambda size: f"{size[0]}x{size[1]}"
)


def browsing(*keys: str, at: str = "") -> Callable[[Pilot[Any]], Awaitable[None]]:
    """Open the checkpoint browser, put the cursor on a checkpoint, press keys."""

    async def run(pilot: Pilot[Any]) -> None:
        await opened(pilot)
        if at:
            await choose(pilot, at)
        await press(pilot, *keys)
        await pilot.pause()

    return run


@BROWSER_SIZES
def test_checkpoints(
    snap_compare: Compare, scene: Scene, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """Lost: the list of checkpoints, at each layout."""
    answers(monkeypatch)
    shelves(scene)
    assert snap_compare(app_of(scene), terminal_size=size, run_before=browsing(at="000800000"))


@BROWSER_SIZES
def test_no_checkpoints(snap_compare: Compare, scene: Scene, size: tuple[int, int]) -> None:
    """Lost: what to do where there are none yet."""
    scene.add("demos", {"num_demos": 10}, name="demos")
    assert snap_compare(app_of(scene), terminal_size=size, run_before=browsing())


@pytest.mark.parametrize(
    ("size", "keys"),
    [((160, 45), "tt"), ((60, 18), ["enter"]), ((100, 30), ["equals_sign", "j", "equals_sign"])],
    ids=["lineage", "one", "two"],
)
def test_checkpoints_closer(
    snap_compare: Compare, scene: Scene, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], keys: list[str]
) -> None:
    """Lost: what stands on what; one checkpoint with its settings; two side by side."""
    answers(monkeypatch)
    shelves(scene)
    assert snap_compare(app_of(scene), terminal_size=size, run_before=browsing(*keys, at="000020000"))
