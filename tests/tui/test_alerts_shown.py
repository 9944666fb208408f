"""Alerts on the screen: what came up since the dashboard was opened, once each."""

from __future__ import annotations

import pytest

from pidec_tui.alerting import toasts
from pidec_tui.manager.jobs import Alert
from pidec_tui.manager.metriclog import MetricLog
from tests.tui.pressing import go, notices
from tests.tui.scene import NOW, Scene, app_of, busy, pressed, settled


def raise_alert(scene: Scene, kind: str, message: str) -> None:
    """As the runner does."""
    with scene.log.write():
        MetricLog(scene.log).add_alert(3, 1, NOW, kind, "", message)


async def test_an_alert_is_a_toast_and_a_bell_once_and_stands_among_the_events(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: a diverged run beside somebody who sits in front of it; or one toast for every start of the dashboard."""
    busy(scene)
    raise_alert(scene, "slow", "from before it was opened")
    app = app_of(scene)
    bells: list[int] = []
    monkeypatch.setattr(app, "bell", lambda: bells.append(1))
    async with app.run_test(size=(120, 40)) as pilot:
        await go(pilot, 3)
        assert notices(pilot) == "" and not bells
        raise_alert(scene, "nan", "train/loss is not a number since step 8")
        await settled(pilot)
        assert "! job 3 diffusion-peg: not a number train/loss is not a number since step 8" in notices(pilot)
        raise_alert(scene, "done", "succeeded after 3 min")
        await settled(pilot)
        assert notices(pilot).count("not a number since") == 1 and "✓ job 3 diffusion-peg: done" in notices(pilot)
        assert len(bells) == 2
        card = "\n".join(line.plain for line in pilot.app.screen._card_lines(60, 30))
        assert "not a number since step 8" in card and "succeeded after" not in card, "its state says that"
        await pressed(pilot, "enter")
        text = pilot.app.export_screenshot()
        assert "slower" in text and "alert" in text


def test_after_a_night_away_there_are_a_few_toasts_and_a_line_for_the_rest() -> None:
    """Lost: a screen full of toasts."""
    made = toasts([Alert(n, 1, NOW, "failed", f"reason {n}") for n in range(9)], [], str)
    assert [toast.text for toast in made][1:] == [f"reason {n}" for n in range(5, 9)]
    assert made[0].title == "5 more alerts"
