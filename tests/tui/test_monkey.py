"""Random keys, seeded; the long campaign over a queue that runs is `make monkey` (monkey.py)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pidec_tui.app import PidecApp
from tests.tui.monkey import Monkey, Watched, unasked
from tests.tui.scene import H200, NOW, FixedGpus, Scene, busy, settled
from tests.tui.shelves import answers, shelves

SIZES = [(160, 45), (60, 18)]


def _app(scene: Scene, monkey: Monkey, *, readonly: bool = False) -> tuple[PidecApp, Watched]:
    watched = Watched(scene.manager, lambda: monkey.last)
    app = PidecApp(
        watched,  # type: ignore[arg-type]
        monitor=FixedGpus([H200]),
        clock=lambda: NOW,
        start_runner=False,
        readonly=readonly,
    )
    monkey.listen(app)
    return app, watched


def _files(root: Path) -> dict[str, str]:
    """Everything in a workspace, but for what SQLite keeps beside a database that is open."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(root.rglob("*"))
        if not path.name.startswith("jobs.db-")
    }


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_keys_break_nothing_and_change_nothing_unasked(
    scene: Scene, presets: None, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """A cat on the keyboard, a paste into the wrong window: the night's jobs are what they were."""
    answers(monkeypatch)
    busy(scene)
    shelves(scene)
    monkey = Monkey(seed)
    app, watched = _app(scene, monkey)
    before = {job.id for job in scene.manager.jobs()}
    async with app.run_test(size=SIZES[seed % 2]) as pilot:
        await settled(pilot)
        await monkey.press(pilot, 120)
    assert unasked(watched) == [] and monkey.broken == []
    assert before <= {job.id for job in scene.manager.jobs()}
    assert len(monkey.pressed) > 40, "it pressed next to nothing"


async def test_random_keys_change_nothing_where_the_dashboard_only_reads(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who was lent a screen to look at."""
    answers(monkeypatch)
    busy(scene)
    shelves(scene)
    monkey, root = Monkey(7), scene.manager.workspace.root
    app, watched = _app(scene, monkey, readonly=True)
    jobs, files = scene.manager.jobs(), _files(root)
    async with app.run_test(size=SIZES[0]) as pilot:
        await settled(pilot)
        await monkey.press(pilot, 120)
    assert watched.asked == [] and monkey.broken == []
    assert scene.manager.jobs() == jobs and _files(root) == files
