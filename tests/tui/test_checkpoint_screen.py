"""One checkpoint's own screen, while the disk changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pidec_train.protocol.rundir import step_file
from pidec_tui.screens.checkpoints_details import CheckpointScreen
from tests.tui.scene import Scene, app_of
from tests.tui.shelves import answers, choose, opened, press, save, screen_text, shelves, until


@pytest.fixture(autouse=True)
def _no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch)


async def test_its_own_screen_goes_along(scene: Scene) -> None:
    """Lost: the evaluation that somebody waits for there; or that somebody has deleted the file meanwhile."""
    shelves(scene)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        browser = await opened(pilot)
        path = Path(await choose(pilot, step_file(600_000)))
        await press(pilot, "enter")
        assert "66 of 100" in screen_text(pilot)
        save(path.parent, 600_000, ago=39_000, successes=71, episodes=100)
        browser.changed()
        await until(pilot, lambda: "71 of 100" in screen_text(pilot))
        path.unlink()
        browser.changed()
        await until(pilot, lambda: "is gone" in screen_text(pilot))
        save(path.parent, 600_000, ago=39_000, successes=71, episodes=100)
        browser.changed()
        await until(pilot, lambda: "is gone" not in screen_text(pilot))


async def test_what_changes_while_it_opens_is_no_crash(scene: Scene) -> None:
    """Lost: the dashboard, to the enter that was pressed as the disk was read."""
    shelves(scene)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        browser = await opened(pilot)
        await choose(pilot, step_file(600_000))
        entry, catalogue = browser.entry(), browser._catalogue
        assert entry is not None and catalogue is not None
        screen = CheckpointScreen(entry, browser._lineage, browser)
        pilot.app.push_screen(screen)
        screen.renew(replace(catalogue, entries=()), browser._lineage)
        await until(pilot, lambda: "is gone" in screen_text(pilot))
