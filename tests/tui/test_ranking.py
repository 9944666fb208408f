"""Finished runs, sorted by a smoothed metric."""

from __future__ import annotations

import numpy as np
import pytest
from textual.widgets import Static

from pidec_tui.charts.smooth import ema
from pidec_tui.manager.jobs import JobState
from pidec_tui.ranking import smoothed_last
from pidec_tui.screens.metrics import MetricPicker
from tests.tui.pressing import board_of, keys, notices, queue_of
from tests.tui.scene import NOW, Scene, app_of, pressed, settled


def finished(scene: Scene, name: str, losses: list[float], success: float) -> int:
    job = scene.add("command", {"command": "true"}, name=name)
    scene.start(job, ago=100)
    rows = [{"time": NOW - 90 + i, "step": i, "metrics": {"train/loss": loss}} for i, loss in enumerate(losses)]
    scene.write(job, [*rows, {"time": NOW, "step": 99, "metrics": {"eval/success_rate": success, "own": success}}])
    scene.end(job, JobState.succeeded, ago=job.id)
    return job.id


@keys("queue.sort", "queue.sort-turned", "queue.sort-by")
async def test_what_is_over_is_sorted_and_what_waits_keeps_its_order(scene: Scene) -> None:
    """Lost: the best of a hundred runs; or the order in which jobs will run."""
    good = finished(scene, "good", [3.0, 1.0, 1.0, 1.0, 1.0], 0.9)
    spike = finished(scene, "spike", [3.0, 3.0, 3.0, 3.0, 0.5], 0.1)  # its last value alone would be the best
    plain = finished(scene, "plain", [2.0, 2.0, 2.0, 2.0, 2.0], 0.5)
    waits = [scene.add("command", {"command": "true"}, name=name).id for name in ("first", "second")]
    shown = lambda: [job.id for job in board_of(pilot).shown()]  # noqa: E731
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await settled(pilot)
        assert shown() == [*waits, good, spike, plain]
        await pressed(pilot, "S")
        assert "Sorted by age" in notices(pilot)
        await pressed(pilot, "s")
        assert shown() == [*waits, good, plain, spike]
        assert "90%" in queue_of(pilot).text(good) and "by eval/success_rate" in str(queue_of(pilot).border_title)
        await pressed(pilot, "S")
        assert shown() == [*waits, spike, plain, good]
        await pressed(pilot, "s")
        assert shown() == [*waits, good, plain, spike]
        assert "by train/loss, smoothed 0.9" in str(queue_of(pilot).border_title)
        await pressed(pilot, "O")
        assert isinstance(pilot.app.screen, MetricPicker)
        assert "enter sort by it" in str(pilot.app.screen.query("#picker Static").last(Static).render())
        await pressed(pilot, "o", "w", "n", "enter")
        assert board_of(pilot).ranking.metric == "own" and "0.9" in queue_of(pilot).text(good)
        await pressed(pilot, "s")
        assert shown() == [*waits, good, spike, plain]


@pytest.mark.parametrize("weight", [0.0, 0.6, 0.9, 0.99])
def test_smoothed_as_the_charts_are(weight: float) -> None:
    """Lost: the number in the queue and the end of the curve that it stands for are the same."""
    values = np.sin(np.arange(200.0))
    assert smoothed_last(values.tolist(), weight) == pytest.approx(ema(values, weight)[-1])
    assert smoothed_last([], weight) is None
