"""The checkpoint browser, by its keys, over real files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import sidecar, step_file
from pidec_tui.copying import copy_file
from pidec_tui.manager.jobs import JobState
from pidec_tui.manager.shelf import Shelf
from pidec_tui.screens.checkpoints import CheckpointsScreen
from pidec_tui.screens.checkpoints_compare import CompareScreen, differences
from pidec_tui.screens.checkpoints_details import CheckpointScreen
from pidec_tui.screens.form import FormScreen
from pidec_tui.screens.main import MainScreen
from pidec_tui.screens.question import Question
from pidec_tui.screens.watch import WatchScreen
from pidec_tui.widgets.stack import ChartStack
from tests.tui.pressing import field, keys, notices
from tests.tui.scene import Scene, app_of
from tests.tui.shelves import answers, browser_of, choose, opened, press, rows_of, save, screen_text, shelves, until


@pytest.fixture(autouse=True)
def _no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch)


@keys("view.checkpoints", "checkpoints.leave", "checkpoints.foreign")
async def test_b_shows_all_checkpoints_and_esc_comes_back(scene: Scene) -> None:
    """Lost: which checkpoint is the good one, of this workspace and of the old folders; and the way back."""
    shelves(scene)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await opened(pilot)
        shown = screen_text(pilot)
        assert "97% 92–99" in shown and "best last" in shown and "ManiSkill2" in shown and "cut short" in shown
        assert "old/peg-seed1" in shown and "yolo" not in shown and "1 other .pt file" in shown
        await press(pilot, "f")
        assert "old/yolo" in screen_text(pilot)
        await choose(pilot, "weights.pt")
        assert "it holds no weights" in screen_text(pilot)
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, MainScreen)
        await press(pilot, "b")
        assert "old/yolo" in screen_text(pilot), "it is as it was left"


@keys("checkpoints.find")
async def test_the_filter_narrows_as_one_types_and_esc_takes_it_back(scene: Scene) -> None:
    """Lost: one checkpoint among thousands; and the list, after a filter that matches nothing."""
    shelves(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        await press(pilot, "slash", *"kind:deco")
        assert [Path(key).name for key in rows_of(pilot)._keys if key] == [step_file(20_000)]
        await press(pilot, *"x")
        assert not any(rows_of(pilot)._keys) and "esc clears the filter" in screen_text(pilot)
        await press(pilot, "enter", "escape")
        assert len(rows_of(pilot)._keys) == 6
        await press(pilot, "slash", *"sucess>3")
        assert 'did you mean "success"' in screen_text(pilot)


@keys("checkpoints.sort", "checkpoints.turn", "checkpoints.arrange")
async def test_sorting_groups_and_lineage(scene: Scene) -> None:
    """Lost: the best on top; the checkpoints of a run together; what stands on what."""
    shelves(scene)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        browser = await opened(pilot)

        def steps() -> list[int | None]:
            return [line.entry.step for line in browser._lines if line.entry]

        await choose(pilot, step_file(600_000))
        await press(pilot, "s")
        assert steps()[:3] == [20_000, 800_000, 600_000] and "by success" in screen_text(pilot)
        assert str(browser.entry().path).endswith(step_file(600_000)), "the cursor stays on its checkpoint"
        await press(pilot, "S")
        assert steps()[:3] == [600_000, 800_000, 20_000]
        await press(pilot, "S", "t")
        assert "000001-diffusion-peg  3 checkpoints, 15.9 MB, best 72% 63–80" in screen_text(pilot)
        await press(pilot, "t")
        lines = [(line.entry.step, line.depth) for line in browser._lines if line.entry]
        assert lines[lines.index((800_000, 0)) + 1] == (20_000, 1)


async def test_the_list_is_moved_through_with_vis_keys_and_the_mouse(scene: Scene) -> None:
    """Lost: everything but the first checkpoint; heads of runs, which are none, under the cursor."""
    shelves(scene)
    async with app_of(scene).run_test(size=(100, 30)) as pilot:
        browser = await opened(pilot)
        await press(pilot, "t", "g")
        first = browser.entry()
        await press(pilot, "j", "j")
        assert browser.entry() not in (None, first)
        await press(pilot, "k", "up", "k")
        assert browser.entry() is first
        await press(pilot, "G")
        last = browser.entry()
        await press(pilot, "pageup")
        assert browser.entry() is first
        await press(pilot, "space")
        assert browser.entry() is last
        await pilot.click("#checkpoint-list", offset=(5, 1))
        assert browser.entry() is first
        await pilot.click("#checkpoint-list", offset=(5, 1))
        await pilot.pause()
        assert isinstance(pilot.app.screen, CheckpointScreen)


async def test_enter_tells_all_about_one(scene: Scene) -> None:
    """Lost: with which settings it was trained, on what it stands, how its run went."""
    shelves(scene)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await opened(pilot)
        await choose(pilot, step_file(20_000))
        await press(pilot, "enter")
        screen = pilot.app.screen
        assert isinstance(screen, CheckpointScreen)
        await until(pilot, lambda: screen._board.trace is not None)
        shown = screen_text(pilot)
        assert "res_scale" in shown and "default 0.1" in shown and "97 of 100" in shown
        assert (
            "000001-diffusion-peg step 800,000" in shown
            and "qf_loss" in screen._board.trace.curves["train/qf_loss"].name
        )
        assert screen.query_one(ChartStack).region.width > 40
        await press(pilot, "j", "k", "G", "g", "tab", "e")
        assert isinstance(pilot.app.screen, FormScreen)
        await press(pilot, "escape", "escape")
        await choose(pilot, "peg-seed1")
        await press(pilot, "enter")
        assert "not told" in screen_text(pilot) and not pilot.app.screen.query_one(ChartStack).display


@keys("checkpoints.evaluate", "checkpoints.decorate", "checkpoints.adapt")
async def test_jobs_begin_with_a_checkpoint(scene: Scene) -> None:
    """Lost: a path that nobody has to type; and a decorator of a decorator, which the trainer would refuse at night."""
    shelves(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        path = await choose(pilot, step_file(800_000))
        for key, name in (("e", "ckpt"), ("d", "base_policy_ckpt"), ("a", "ckpt")):
            await press(pilot, key)
            assert isinstance(pilot.app.screen, FormScreen) and field(pilot, name).text == path
            await press(pilot, "escape")
        await press(pilot, "d", "ctrl+s")
        made = scene.manager.jobs()[0]
        assert (made.kind, made.config["base_policy_ckpt"]) == ("decorator", path)
        await choose(pilot, step_file(20_000))
        await press(pilot, "d", "a")
        assert isinstance(pilot.app.screen, CheckpointsScreen) and "not a base policy" in notices(pilot)
        await choose(pilot, step_file(5000))
        await press(pilot, "e")
        assert "its .json says" in notices(pilot) and isinstance(pilot.app.screen, CheckpointsScreen)


@keys("checkpoints.resume")
async def test_R_resumes_the_run(scene: Scene) -> None:
    """Lost: the way from a checkpoint back to its run."""
    base, _ = shelves(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        await choose(pilot, step_file(600_000))
        await press(pilot, "R")
        assert scene.manager.job(base.id).state is JobState.queued
        await choose(pilot, "by-hand")
        await press(pilot, "R")
        assert "is no run of this queue" in notices(pilot)


async def test_R_lengthens_a_run_that_has_reached_its_end(scene: Scene) -> None:
    """Lost: that way for a run that succeeded; or advice that names keys of another screen."""
    _, job = shelves(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        await choose(pilot, step_file(20_000))
        await press(pilot, "R", *"40k", "enter")
        assert "go on to 40,000" in notices(pilot).replace("goes", "go")
    assert (scene.manager.job(job.id).state, scene.manager.job(job.id).total_steps) == (JobState.queued, 40_000)


async def test_what_is_left_open_stays_open(scene: Scene) -> None:
    """Lost: the success of a decorated policy, evaluated with another sampler than it was trained with."""
    shelves(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        await choose(pilot, step_file(20_000))
        await press(pilot, "e")
        assert "‹ usual ›" in screen_text(pilot)
        await press(pilot, "ctrl+s")
    (job,) = [job for job in scene.manager.jobs() if job.kind == "evaluate"]
    assert job.config["sampler"] is None


async def test_a_folder_that_is_missing_hides_no_advice(scene: Scene) -> None:
    """Lost: how to come back from a filter that matches nothing."""
    shelves(scene)
    (scene.manager.workspace.jobs / "settings.toml").write_text('checkpoint_folders = ["/nowhere/at/all"]\n')
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        await press(pilot, "slash", *"zzz", "enter")
        shown = screen_text(pilot)
        assert "/nowhere/at/all is not there" in shown and "esc clears the filter" in shown


@keys("checkpoints.watch")
async def test_v_plays_its_episodes(scene: Scene) -> None:
    """Lost: what the policy does."""
    shelves(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        await choose(pilot, step_file(800_000))
        await press(pilot, "v")
        await until(pilot, lambda: isinstance(pilot.app.screen, WatchScreen))
        assert "000001-diffusion-peg step 800,000" in screen_text(pilot)
        await press(pilot, "escape")
        await choose(pilot, step_file(600_000))
        await press(pilot, "v")
        assert "has no episodes to watch" in notices(pilot) and "e evaluates it" in notices(pilot)


@keys("checkpoints.trash")
async def test_x_asks_and_moves_into_the_trash(scene: Scene) -> None:
    """Lost: a checkpoint, by one key; the base of a decorator, by two."""
    shelves(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        browser = await opened(pilot)
        path = Path(await choose(pilot, step_file(800_000)))
        await press(pilot, "x")
        assert isinstance(pilot.app.screen, CheckpointsScreen)
        assert "stays: it is the base of 000002-decorator-peg at step 20,000" in notices(pilot)
        last = Path(await choose(pilot, step_file(1_000_000)))
        await press(pilot, "x")
        question = pilot.app.screen
        assert isinstance(question, Question) and "step 1,000,000 (5.3 MB, 5 h 33 old)" in question._text
        assert f"last.pt will be {step_file(800_000)}" in question._text
        await press(pilot, "n")
        assert last.exists()
        await press(pilot, "x", "y")
        assert not last.exists() and (last.parent / "last.pt").resolve() == path
        assert list((scene.manager.workspace.checkpoints / ".trash").rglob(last.name))
        await until(pilot, lambda: str(last) not in rows_of(pilot)._keys)
        await choose(pilot, step_file(600_000))
        await press(pilot, "enter", "x", "y")
        await until(pilot, lambda: pilot.app.screen is browser)
        assert not (path.parent / step_file(600_000)).exists(), "in the details too"


@keys("checkpoints.copy", "checkpoints.hash")
async def test_y_copies_the_path_and_H_checks_the_hash(scene: Scene) -> None:
    """Lost: the path, in a terminal that drops OSC 52; and that a file has rotted."""
    shelves(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        path = await choose(pilot, step_file(800_000))
        await press(pilot, "y")
        file = copy_file(scene.manager.workspace)
        assert pilot.app.clipboard == path == file.read_text().strip()
        assert "OSC 52" in notices(pilot) and str(file) in notices(pilot)
        await press(pilot, "H")
        assert "do not match the hash" in notices(pilot)
        await choose(pilot, "peg-seed1")
        await press(pilot, "H")
        assert "no .json whose hash" in notices(pilot)


@keys("checkpoints.compare")
async def test_two_are_compared_and_evaluated_against_each_other(scene: Scene) -> None:
    """Lost: what a decorator brought, and whether the difference is more than luck."""
    shelves(scene)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        browser = await opened(pilot)
        first, second = await choose(pilot, step_file(800_000)), step_file(20_000)
        await press(pilot, "equals_sign")
        assert "=" in screen_text(pilot).splitlines()[browser._lines.index(_line(browser, first)) + 2][:3]
        await choose(pilot, second)
        await press(pilot, "equals_sign")
        assert isinstance(pilot.app.screen, CompareScreen)
        shown = screen_text(pilot)
        assert "≠ success" in shown and "72% 63–80" in shown and "97% 92–99" in shown and "lie apart" in shown
        assert "total_iters" in shown and "e queues one job" in shown
        await press(pilot, "j", "k", "G", "g", "e", "y")
        job = scene.manager.jobs()[0]
        assert job.kind == "evaluate" and job.config["compare"] is True and job.config["ckpt"].endswith(second)
        assert pilot.app.screen is browser and browser._marked is None
        await choose(pilot, step_file(800_000))
        await press(pilot, "equals_sign")
        await choose(pilot, step_file(600_000))
        await press(pilot, "equals_sign", "e", "y")
        made = [Path(job.config["ckpt"]).name for job in scene.manager.jobs() if job.kind == "evaluate"]
        assert made[1:] == [step_file(800_000), step_file(600_000)]
        await choose(pilot, step_file(800_000))
        await press(pilot, "equals_sign")
        await choose(pilot, step_file(5000))
        await press(pilot, "equals_sign", "e")
        assert isinstance(pilot.app.screen, CompareScreen) and "cannot be evaluated" in notices(pilot)


def _line(browser: CheckpointsScreen, path: str) -> object:
    return next(line for line in browser._lines if line.entry and str(line.entry.path) == path)


def test_only_settings_that_differ() -> None:
    """Lost: the one setting that matters, among forty; and that one of the two does not have it."""
    assert differences({"lr": 1, "seed": 2}, {"lr": 1, "seed": 3, "utd": 4}) == [("seed", 2, 3), ("utd", ..., 4)]
    assert not differences({"device": None}, {"sampler": None}), "of another version, which does not know it"
    assert differences({"device": None}, {"device": "cpu"}) == [("device", None, "cpu")]


async def test_the_disk_is_read_beside_the_screen(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: the dashboard, for as long as a network disk does not answer."""
    shelves(scene)
    free, read = threading.Event(), Shelf.read

    def hangs(self: Shelf) -> object:
        free.wait(20)
        return read(self)

    monkeypatch.setattr(Shelf, "read", hangs)
    async with app_of(scene).run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        await pilot.press("b", "j", "s", "t", "slash", "a", "escape", "escape", "e", "x", "y", "equals_sign", "enter")
        await pilot.pause()
        assert "reading …" in screen_text(pilot)
        free.set()
        await until(pilot, lambda: browser_of(pilot)._catalogue is not None)


async def test_what_cannot_be_read_is_said_and_what_comes_later_is_shown(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: the list, by one locked job log; and what a run has saved since it was opened."""
    base, _ = shelves(scene)
    read = Shelf.read
    broken = True

    def fails(self: Shelf) -> object:
        if broken:
            raise PidecError("the job log is locked", "It is tried again")
        return read(self)

    monkeypatch.setattr(Shelf, "read", fails)
    monkeypatch.setattr("pidec_tui.screens.checkpoints.EVERY", 0.05)
    async with app_of(scene).run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        await pilot.press("b")
        await until(pilot, lambda: browser_of(pilot)._catalogue is not None)
        await pilot.pause()
        assert "! the job log is locked" in screen_text(pilot)
        broken = False
        await until(pilot, lambda: len(rows_of(pilot)._keys) == 6)
        path = save(scene.manager.checkpoint_dir(base.id), 1_200_000, ago=0)
        await until(pilot, lambda: str(path) in rows_of(pilot)._keys)
        sidecar(path).unlink()
        os.unlink(path)
        await until(pilot, lambda: str(path) not in rows_of(pilot)._keys)


async def test_of_two_thousand_checkpoints_only_those_that_are_seen_are_drawn(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: the keyboard, in a workspace of a year."""
    shelves(scene)
    folder = scene.manager.workspace.checkpoints
    for number in range(200):
        for step in range(1, 11):
            save(folder / f"{number:06d}-many", step * 1000, ago=number * 5000, successes=step, episodes=10)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await opened(pilot)
        assert len(rows_of(pilot)._keys) == 2006
        rows, made = rows_of(pilot), []
        make = rows._make
        monkeypatch.setattr(rows, "_make", lambda place, width: (made.append(place), make(place, width))[1])
        for key in ("j", "G", "s", "t", "g", "S"):
            made.clear()
            await pilot.press(key)
            await pilot.pause()
            assert 0 < len(set(made)) <= 100, f"{key} makes {len(set(made))} lines, 45 are seen"
