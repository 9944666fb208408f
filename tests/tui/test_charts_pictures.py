"""The charts screen as pictures. After a change that is meant: `pytest tests/tui/test_charts_pictures.py
--snapshot-update`, and look at every one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.tui.scene import Scene, app_of, busy, decorated
from tests.tui.test_pictures import after

Compare = Callable[..., bool]
pytestmark = pytest.mark.usefixtures("presets")
SIZES = pytest.mark.parametrize("size", [(160, 45), (100, 30), (60, 18)], ids=lambda size: f"{size[0]}x{size[1]}")


@SIZES
def test_busy(snap_compare: Compare, scene: Scene, size: tuple[int, int]) -> None:
    """Lost: all curves of a run that is going on, its evaluations with their intervals."""
    busy(scene)
    assert snap_compare(app_of(scene), terminal_size=size, run_before=after("o", job=3))


@SIZES
def test_empty(snap_compare: Compare, scene: Scene, size: tuple[int, int]) -> None:
    """Lost: why there is nothing to see."""
    job = scene.add("command", {"command": "true"}, name="not-begun")
    assert snap_compare(app_of(scene), terminal_size=size, run_before=after("o", job=job.id))


def test_smooth_with_cursor(snap_compare: Compare, scene: Scene) -> None:
    """Lost: the average over its faded band, and the values under the cursor in every title."""
    job = decorated(scene)
    keys = ("o", "s", "s", "left", *["shift+left"] * 4, "tab", "p")
    assert snap_compare(app_of(scene), terminal_size=(160, 45), run_before=after(*keys, job=job.id))


def test_large_by_time(snap_compare: Compare, scene: Scene) -> None:
    """Lost: one chart as large as the screen, over the time since the start, zoomed in."""
    busy(scene)
    keys = ("o", "x", "enter", "plus", "left_square_bracket", "c")
    assert snap_compare(app_of(scene), terminal_size=(100, 30), run_before=after(*keys, job=3))


def test_choosing_a_metric(snap_compare: Compare, scene: Scene) -> None:
    """Lost: finding the one metric of many."""
    job = decorated(scene)
    keys = ("o", "slash", *"tr", "down", "tab")
    assert snap_compare(app_of(scene), terminal_size=(60, 18), run_before=after(*keys, job=job.id))
