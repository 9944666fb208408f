"""Runs by hand in the dashboard: in the list, with their curves, and out of reach of the keys."""

from __future__ import annotations

import json
import time
from typing import Any

from pidec_tui.screens.main import MainScreen
from tests.tui.pressing import board_of, go, notices, queue_of
from tests.tui.scene import Scene, app_of, busy, pressed, settled


def by_hand(scene: Scene, name: str, lines: list[dict[str, Any]], *, begin: int = 0) -> None:
    path = scene.manager.workspace.runs / name / "attempt-1" / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for seq, line in enumerate(lines, begin):
            file.write(json.dumps({"seq": seq, "time": time.time() - 60 + seq, **line}) + "\n")


async def test_a_run_by_hand_stands_in_the_queue_with_its_curves_and_no_key_touches_it(scene: Scene) -> None:
    """Lost: half of what runs on the box; or a key that promises what it cannot do."""
    busy(scene)
    start = {"event": "start", "kind": "diffusion", "step_name": "iteration", "total_steps": 1000}
    rows = [{"step": 100 * n, "metrics": {"train/loss": 1 / n}} for n in range(1, 6)]
    by_hand(scene, "hand-20261124-103000-Peg-v1", [start, *rows])
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await go(pilot, -1)
        assert queue_of(pilot).keys[:2] == ["3", "-1"], "behind what runs"
        assert queue_of(pilot).text(-1).startswith("h1 ")
        trace = board_of(pilot).trace
        assert list(trace.curves["train/loss"].xs) == [100, 200, 300, 400, 500]
        for key in ("c", "r", "h", "e", "shift+up"):
            pilot.app.clear_notifications()
            await pressed(pilot, key)
            assert "started by hand" in notices(pilot), key
            assert isinstance(pilot.app.screen, MainScreen), "no question is asked"
        by_hand(scene, "hand-20261124-103000-Peg-v1", [{"step": 600, "metrics": {"train/loss": 0.1}}], begin=6)
        pilot.app.feed._next_by_hand = 0.0
        await settled(pilot)
        assert board_of(pilot).trace.curves["train/loss"].xs[-1] == 600
        await go(pilot, 4)
        pilot.app.clear_notifications()
        await pressed(pilot, "h")
        assert "started by hand" not in notices(pilot)


async def test_a_workspace_with_runs_by_hand_alone_is_not_empty(scene: Scene) -> None:
    """Lost: the welcome, in the place of what runs."""
    by_hand(scene, "mine", [{"event": "start", "kind": "diffusion"}, {"step": 1, "metrics": {"train/loss": 1.0}}])
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, -1)
        assert not pilot.app.screen.has_class("-empty")
