"""The form beside a slow disk, and what it says of a value before it is queued."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from pidec_train.protocol.config import CONFIG_MODELS
from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import Workspace
from pidec_tui.manager.presets import Preset, list_presets
from pidec_tui.screens.field_help import FieldHelp
from pidec_tui.screens.form import FormScreen
from pidec_tui.screens.new_job import PresetList
from pidec_tui.screens.question import Question
from pidec_tui.typednumbers import numbers_in
from tests.tui.pressing import field, keys, notices
from tests.tui.scene import Scene, app_of, pressed, settled


def note(pilot: Pilot[Any], name: str) -> str:
    return str(field(pilot, name).query_one(".field-note", Static).render())


async def until(pilot: Pilot[Any], seen: Any) -> None:
    """Wait for what a thread has to tell."""
    for _ in range(200):
        if seen():
            return
        await pilot.pause(0.02)
    raise AssertionError("it was never seen")


async def test_a_folder_that_does_not_answer_stops_no_key(
    scene: Scene, presets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: the keyboard, for as long as a network folder thinks; and what was typed ahead with it."""
    answers = threading.Event()

    def slow(kind: str, *_: object) -> list[str]:
        answers.wait(20)
        return [f"demos/{kind}.h5"]

    monkeypatch.setattr("pidec_tui.formfiles.found_paths", slow)
    monkeypatch.setattr("pidec_tui.formfiles.FormFiles._is_there", lambda *_: answers.wait(20) and False)
    try:
        async with app_of(scene).run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pressed(pilot, "n", "e")
            assert isinstance(pilot.app.screen, FormScreen)
            demos = field(pilot, "demo_path")
            demos.edit()
            demos.fill("")
            await pilot.press(*"mine", "ctrl+n")
            assert demos.text == "mine" and "answers slowly" in notices(pilot)
            assert "Looking for some" in str(pilot.app.screen.query_one("#form-help").render())
            assert not note(pilot, "demo_path") and demos.suggestions == []
            await pilot.press(*",other", "ctrl+s")
            await pilot.pause()
            assert isinstance(pilot.app.screen, FormScreen) and "try again in a moment" in notices(pilot)
            answers.set()
            await until(
                pilot, lambda: demos.suggestions == ["demos/demo.h5"] and "no such file" in note(pilot, "demo_path")
            )
            assert "2 values, a job for each: mine and other" in note(pilot, "demo_path")
            await pilot.press("ctrl+n")
            assert demos.text == "demos/demo.h5"
    finally:
        answers.set()


async def test_presets_that_do_not_answer_stop_no_key(
    scene: Scene, presets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: the whole dashboard, at the first `n`, for as long as a network folder thinks; then a job that nobody
    wanted, as the list moves below the cursor."""
    answers = threading.Event()

    def slow(ws: Workspace) -> list[Preset]:
        answers.wait(20)
        return list_presets(ws)

    monkeypatch.setattr("pidec_tui.presetfiles.list_presets", slow)
    try:
        async with app_of(scene).run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("n", "j")
            listed = pilot.app.screen.query_one(PresetList)
            assert listed.option_count == len(CONFIG_MODELS) and listed.border_subtitle == "looking for presets …"
            assert str(pilot.app.screen.query_one("#preset-notes").render()).startswith("Refine a policy")
            answers.set()
            await until(pilot, lambda: listed.option_count > len(CONFIG_MODELS))
            assert not listed.border_subtitle
            assert str(listed.get_option_at_index(listed.highlighted).prompt) == "decorator …", "where it was"
    finally:
        answers.set()


async def test_a_preset_is_kept_when_its_folder_answers(
    scene: Scene, presets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: the form with all that was typed, frozen by `ctrl+t`; or a preset written over without a question."""
    answers = threading.Event()
    own = scene.manager.workspace.presets
    own.mkdir(parents=True)
    (own / "mine.toml").write_text('kind = "diffusion"\n')
    monkeypatch.setattr("pidec_tui.presetfiles.Path.exists", lambda path: answers.wait(20) and path.is_file())
    try:
        async with app_of(scene).run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pressed(pilot, "n", "e")
            field(pilot, "name").fill("mine")
            await pilot.press("ctrl+t")
            assert isinstance(pilot.app.screen, FormScreen) and "answers slowly" in notices(pilot)
            await pilot.press("down")
            answers.set()
            await until(pilot, lambda: isinstance(pilot.app.screen, Question))
            await pressed(pilot, "escape")
            assert (own / "mine.toml").read_text() == 'kind = "diffusion"\n'
    finally:
        answers.set()


async def test_whatever_is_wrong_with_the_presets_the_search_for_them_ends(
    scene: Scene, presets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: why there are none; "looking for presets …" stands there for ever."""

    def breaks(ws: Workspace) -> list[Preset]:
        raise RuntimeError("Symlink loop")

    monkeypatch.setattr("pidec_tui.presetfiles.list_presets", breaks)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pressed(pilot, "n")
        assert not pilot.app.screen.query_one(PresetList).border_subtitle
        assert "cannot be read: RuntimeError: Symlink loop" in notices(pilot)


async def test_the_folder_that_it_was_started_in_may_go(
    scene: Scene, presets: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: what the form says of files, without a word, and why nothing can be queued any more."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        (tmp_path / "gone").rmdir()
        await pressed(pilot, "n", "e")
        field(pilot, "demo_path").fill("none.h5")
        await until(pilot, lambda: "no such file" in note(pilot, "demo_path"))
        await pressed(pilot, "ctrl+s")
        await until(pilot, lambda: "the folder that this was started in is gone" in notices(pilot))
        assert not scene.manager.jobs()
    monkeypatch.chdir(tmp_path)


async def test_the_form_says_how_it_has_read_a_number(scene: Scene, presets: None) -> None:
    """Lost: a run of a hundred milliards of iterations, meant as two of a hundred thousand."""
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pressed(pilot, "n", "e")
        steps = field(pilot, "total_iters")
        told = {
            "1.5M": "= 1,500,000",
            "1,500,000": "= 1,500,000",
            "100k, 200k": "= 2 values, a job for each: 100,000 and 200,000",
            "100,000,200,000": "✗ 100,000,200,000, or 100,000 and 200,000? A blank after a comma parts values",
            "1,234,567": "= 3 values, a job for each: 1, 234 and 567",
        }
        for text, said in told.items():
            steps.fill(text)
            await pilot.pause()
            assert said in note(pilot, "total_iters"), text
            assert steps.query_one(".field-note").region.height > 0
        steps.fill("100,000,200,000")
        await pilot.pause()
        await pressed(pilot, "ctrl+s")
        assert isinstance(pilot.app.screen, FormScreen) and not scene.manager.jobs()


@pytest.mark.parametrize("typed", ["1,000k", "0,05", "1,000.5"])
def test_what_is_no_number_is_not_two(typed: str) -> None:
    """Lost: a night, to two jobs of which one trains for 0 iterations or with a learning rate of 5."""
    with pytest.raises(PidecError, match="is no number"):
        numbers_in(typed)
    assert numbers_in("050") == ["050"] and numbers_in("0.05,0.1") == ["0.05", "0.1"]


@keys("form.help")
async def test_the_help_of_a_field_is_read_wholly(scene: Scene, presets: None) -> None:
    """Lost: the seventh file that was found, and the end of every longer explanation."""
    folder = scene.manager.workspace.root / "demos"
    folder.mkdir()
    for number in range(30):
        (folder / f"demonstrations-of-a-task-{number:02}.h5").touch()
    async with app_of(scene).run_test(size=(60, 18)) as pilot:
        await settled(pilot)
        await pressed(pilot, "n", "e")
        demos = field(pilot, "demo_path")
        demos.edit()
        await until(pilot, lambda: len(demos.suggestions) > 30)
        await pilot.pause()
        strip = pilot.app.screen.query_one("#form-help", Static)
        assert "f2: all of it" in str(strip.render())
        await pressed(pilot, "f2")
        assert isinstance(pilot.app.screen, FieldHelp)
        box = pilot.app.screen.query_one("VerticalScroll")
        assert "task-29.h5" in str(pilot.app.screen.content()) and box.max_scroll_y > 10
        await pressed(pilot, *["down"] * (int(box.max_scroll_y) + 1))
        assert box.scroll_offset.y == box.max_scroll_y
        await pressed(pilot, "escape")
        assert isinstance(pilot.app.screen, FormScreen) and demos.has_keyboard()
