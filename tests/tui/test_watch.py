"""Watching episodes: by key presses over real files, and as pictures that stand still."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from pidec_train.protocol.episodes import BASE_EPISODES, RUN_EPISODES, episodes_file, read_episodes
from pidec_train.protocol.errors import PidecError
from pidec_tui.manager.jobs import JobState
from pidec_tui.motion.takes import find_takes, starts
from pidec_tui.screens.detail import DetailScreen
from pidec_tui.screens.main import MainScreen
from pidec_tui.screens.watch import WatchScreen
from pidec_tui.widgets.checkpoints import CheckpointTable
from pidec_tui.widgets.motionview import MotionView
from tests.tui.pressing import board_of, go, keys, notices
from tests.tui.scene import Scene, app_of, decorated, episodes, pressed, settled


def said(pilot: Pilot[Any]) -> str:
    """The titles on the screen."""
    return " / ".join(str(each.render()) for each in pilot.app.screen.query(Static) if each.display)


async def watching(pilot: Pilot[Any], job: int, *more: str) -> WatchScreen:
    """Watch a job's episodes, standing still at their first state; then press `more`."""
    await go(pilot, job)
    await pressed(pilot, "v", "space", "g", *more)
    screen = pilot.app.screen
    assert isinstance(screen, WatchScreen)
    return screen


def pictures(screen: WatchScreen) -> list[str]:
    """What the views show, as text."""
    return [
        "\n".join(view.render_line(y).text for y in range(view.size.height))
        for view in screen.query(MotionView)
        if view.region
    ]


@keys("job.watch", "watch.pause", "watch.leave", "watch.rewind", "watch.forward", "watch.back")
async def test_v_plays_base_and_decorated_on_the_same_start(scene: Scene) -> None:
    """Lost: seeing what the residual policy does that the base does not."""
    job = decorated(scene)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        screen = await watching(pilot, job.id)
        text = said(pilot)
        assert "base policy  step 1,500" in text and "decorated  step 20,000" in text
        assert "seed 1001" in text and "✗ fails  0/49 env steps" in text and "✓ succeeds  0/71 env steps" in text
        first = pictures(screen)
        assert len(first) == 4 and first[0] == first[2], "the same start"
        await pressed(pilot, "right", "right_square_bracket")
        screen.action_step(38)
        await pilot.pause()
        assert pictures(screen)[0] == pictures(screen)[2] != first[0], "one demonstration, so one way"
        screen.action_step(20)
        await pilot.pause()
        assert "49/49 env steps, over" in said(pilot) and "60/71 env steps" in said(pilot)
        assert pictures(screen)[0] != pictures(screen)[2]
        await pressed(pilot, "left", "left_square_bracket")
        assert "58/71 env steps" in said(pilot) and "paused" in said(pilot)
        await pressed(pilot, "g")
        assert pictures(screen) == first
        await pressed(pilot, "space")
        for _ in range(100):
            await pilot.pause(0.05)
            if screen._at > 5:
                break
        assert pictures(screen) != first, "it plays"
        await pressed(pilot, "escape")
        assert isinstance(pilot.app.screen, MainScreen)
        await pressed(pilot, "enter", "v")
        assert isinstance(pilot.app.screen, WatchScreen)
        await pressed(pilot, "escape")
        assert isinstance(pilot.app.screen, DetailScreen)


@keys("watch.next", "watch.previous", "watch.faster", "watch.slower")
async def test_other_starts_and_speeds(scene: Scene) -> None:
    """Lost: every episode but the first."""
    job = decorated(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        screen = await watching(pilot, job.id)
        assert "start 1 of 4, seed 1001" in said(pilot)
        await pressed(pilot, "n")
        assert "start 2 of 4, seed 1002" in said(pilot) and said(pilot).count("✓ succeeds") == 2
        await pressed(pilot, "p", "p")
        assert "start 4 of 4, seed 1007" in said(pilot) and "kept no episode from this start" in said(pilot)
        assert len(pictures(screen)) == 2
        await pressed(pilot, "space", "plus", "plus", "plus")
        assert "4×" in said(pilot)
        await pressed(pilot, *["minus"] * 5)
        assert "0.25×" in said(pilot)


@keys("watch.frames")
async def test_f_changes_how_many_pictures_a_second_are_drawn(scene: Scene) -> None:
    """Lost: watching over a line that carries five pictures a second, or smoothly over one that carries more."""
    job = decorated(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        screen = await watching(pilot, job.id, "space")
        seen = [board_of(pilot).watching.frames]
        for _ in range(4):
            await pressed(pilot, "f")
            seen.append(board_of(pilot).watching.frames)
        assert seen == [5, 10, 20, 2, 5] and "5 pictures a second" in notices(pilot)
        ticks = screen._ticks
        assert ticks is not None and ticks._interval == pytest.approx(1 / 5)
        await pressed(pilot, "plus", "escape", "v")
        assert board_of(pilot).watching.speed == 2 and "2×" in said(pilot)  # as it was left


async def test_it_begins_anew_at_the_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: the loop; or the moment of success, which an eye needs a second for."""
    job = decorated(scene)
    clock = [100.0]
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        screen = await watching(pilot, job.id, "space")
        monkeypatch.setattr("pidec_tui.screens.watch.time", SimpleNamespace(monotonic=lambda: clock[0]))
        screen._last, screen._at, seen = 100.0, 0.0, []
        for _ in range(46):
            clock[0] += 0.1
            screen._tick()
            seen.append(screen._at)
        assert seen[9] == pytest.approx(20), "real speed: 20 states in a second"
        assert seen[44] == pytest.approx(90), "the end, state 71, stays for a second"
        assert seen[45] == 0
        clock[0] += 3600  # the terminal was suspended
        screen._tick()
        assert screen._at < 10


@keys("watch.view")
async def test_a_small_terminal_shows_one_view_and_tab_the_other(scene: Scene) -> None:
    """Lost: the view from the side, on a small terminal."""
    job = decorated(scene)
    async with app_of(scene).run_test(size=(60, 18)) as pilot:
        screen = await watching(pilot, job.id)
        screen.action_step(30)
        await pilot.pause()
        above = pictures(screen)
        assert len(above) == 2 and screen.query(MotionView)[0].border_title.startswith("from above")
        await pressed(pilot, "tab")
        assert len(pictures(screen)) == 2 and pictures(screen) != above
        assert not screen.query(MotionView)[0].region
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        assert len(pictures(screen)) == 4


async def test_v_on_a_checkpoint_plays_that_one(scene: Scene) -> None:
    """Lost: how it was before it could do it."""
    job = decorated(scene)
    path = scene.manager.checkpoint_dir(job.id) / "step-000010000.pt"
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, job.id)
        await pressed(pilot, "tab", "G")
        assert pilot.app.screen.query_one(CheckpointTable).has_focus
        episodes(scene, job, "decorator", {1002: False}, episodes_file(path), step=10_000)
        await pressed(pilot, "v", "space")
        assert isinstance(pilot.app.screen, WatchScreen) and "step 10,000" in said(pilot)
        await pressed(pilot, "escape")
        episodes_file(path).unlink()
        (path.parent / BASE_EPISODES).unlink()
        await pressed(pilot, "v")
        assert isinstance(pilot.app.screen, MainScreen)
        assert "step-000010000.pt has no episodes" in notices(pilot) and "enter on it evaluates it" in notices(pilot)


@pytest.mark.parametrize(
    ("kind", "config", "state", "told"),
    [
        ("command", {"command": "true"}, JobState.succeeded, "kind command"),
        ("diffusion", {}, JobState.running, "They come with its next evaluation"),
        ("diffusion", {}, JobState.succeeded, "enter on a checkpoint evaluates it"),
        ("evaluate", {"ckpt": "x.pt"}, JobState.succeeded, "Evaluate once more"),
    ],
)
async def test_a_job_without_episodes_says_what_to_do(
    scene: Scene, kind: str, config: dict[str, Any], state: JobState, told: str
) -> None:
    """Lost: a key that seems dead."""
    job = scene.add(kind, config, name="x")
    scene.start(job, ago=9)
    if state.finished:
        scene.end(job, state, ago=1)
    async with app_of(scene).run_test(size=(100, 30)) as pilot:
        await go(pilot, job.id)
        await pressed(pilot, "v")
        assert isinstance(pilot.app.screen, MainScreen) and told in notices(pilot)
        assert len(pilot.app._notifications) == 1


async def test_the_episodes_of_an_evaluation(scene: Scene) -> None:
    """Lost: watching a checkpoint that was evaluated by hand; its newest attempt counts."""
    job = scene.add("evaluate", {"ckpt": "x.pt"}, name="x")
    for step in (1, 2):
        folder = scene.start(job, ago=9)
        episodes(scene, job, "diffusion", {7: step == 2}, folder.path / RUN_EPISODES, step=step)
        scene.end(job, JobState.failed, ago=1)
        if step == 1:
            scene.manager.retry(job.id)
    (take,) = find_takes(scene.manager, scene.manager.job(job.id))
    assert (take.label, take.file.step, starts([take])) == ("policy", 2, [7])
    episodes(scene, job, "decorator", {7: True}, folder.path / RUN_EPISODES, step=9)
    episodes(scene, job, "diffusion", {7: False}, folder.path / BASE_EPISODES, step=2)
    compared = find_takes(scene.manager, scene.manager.job(job.id))
    assert [take.label for take in compared] == ["base policy", "decorated"], "evaluate --compare"
    (folder.path / BASE_EPISODES).unlink()
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        screen = await watching(pilot, job.id)
        above, side = screen.query(MotionView)
        assert above.region.y == side.region.y, "one policy: its two views side by side"


def test_starts_that_tell_the_policies_apart_come_first(scene: Scene) -> None:
    """Lost: the first look, at an episode in which both do the same."""
    job = decorated(scene)
    folder = scene.manager.checkpoint_dir(job.id)
    newest = episodes_file(folder / "step-000020000.pt")
    episodes(scene, job, "decorator", {1001: False, 1003: True, 1002: True, 990: True}, newest, step=20_000)
    assert starts(find_takes(scene.manager, job)) == [1003, 1001, 1002, 990]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: "{",
        lambda file: json.dumps({**file, "episodes": []}),
        lambda file: json.dumps({**file, "episodes": [{"seed": 1, "success": True, "frames": [[1, 2], [1]]}]}),
        lambda file: json.dumps({**file, "episodes": [{"seed": 1, "success": True, "frames": [[]]}]}),
        lambda file: json.dumps({**file, "episodes": [{"seed": 1, "success": True, "frames": [[None]]}]}),
    ],
    ids=["cut", "none", "ragged", "empty", "nan"],
)
def test_a_file_that_is_no_good_is_said_to_be(scene: Scene, spoil: Callable[[dict[str, Any]], str]) -> None:
    """Lost: the dashboard, by a file that was cut."""
    job = decorated(scene)
    folder = scene.manager.checkpoint_dir(job.id)
    newest, base = episodes_file(folder / "step-000020000.pt"), folder / BASE_EPISODES
    file = read_episodes(newest)
    assert file is not None
    newest.write_text(spoil(file.model_dump()))
    assert [take.label for take in find_takes(scene.manager, job)] == ["policy"], "the base's can still be watched"
    base.unlink()
    with pytest.raises(PidecError, match="cannot be read"):
        find_takes(scene.manager, job)


def test_before_its_first_update_a_decorator_has_one_policy_to_watch(scene: Scene) -> None:
    """Lost: sense, where the same episodes play twice side by side."""
    job = decorated(scene)
    folder = scene.manager.checkpoint_dir(job.id)
    episodes(scene, job, "diffusion", {1001: False}, episodes_file(folder / "step-000020000.pt"), step=0)
    assert [(take.label, take.file.step) for take in find_takes(scene.manager, job)] == [("policy", 0)]


async def test_a_task_without_a_drawing_says_how_to_add_one(scene: Scene) -> None:
    """Lost: why there is nothing to see."""
    job = decorated(scene)
    newest = episodes_file(scene.manager.checkpoint_dir(job.id) / "step-000020000.pt")
    text = json.dumps({"env_id": "[/]", "control_mode": "x", "policy": "decorator", "step": 1, "episodes": [
        {"seed": 3, "success": True, "frames": [[0.0, 1.0]]}]})  # fmt: skip
    newest.write_text(text)
    newest.with_name(BASE_EPISODES).unlink()
    async with app_of(scene).run_test(size=(80, 24)) as pilot:
        screen = await watching(pilot, job.id, "right")
        assert "no drawing for this task yet ([/]): pidec_tui/motion/tasks.py" in said(pilot) and not pictures(screen)


@pytest.mark.parametrize(
    ("size", "steps"), [((160, 45), 46), ((100, 30), 30), ((60, 18), 58)], ids=["160x45", "100x30", "60x18"]
)
def test_pictures(snap_compare: Callable[..., bool], scene: Scene, size: tuple[int, int], steps: int) -> None:
    """Lost: what convinces more than curves, at each layout."""
    job = decorated(scene)

    async def run(pilot: Pilot[Any]) -> None:
        (await watching(pilot, job.id)).action_step(steps)
        await pilot.pause()

    assert snap_compare(app_of(scene), terminal_size=size, run_before=run)


def test_no_numpy_before_there_is_something_to_watch(tmp_path: Path) -> None:
    """Lost: a first paint within a second."""
    import subprocess
    import sys

    code = (
        "import sys, pidec_tui.app, pidec_tui.screens.job_keys, pidec_tui.screens.watch; print('numpy' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout.strip() == "False"
