"""A job log that somebody else rebuilds, with `pidec-jobs repair`, while a dashboard is open."""

from __future__ import annotations

import os

import pytest

from pidec_tui.manager import cli_top
from pidec_tui.manager.attempts import AlertLine, append_alert
from pidec_tui.manager.jobs import JobState
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.overview import Overview
from pidec_tui.messages import AlertsRaised, RankingRead, TraceChanged
from tests.tui.scene import NOW, Scene
from tests.tui.test_feed import Listener, lines, running


def repaired(scene: Scene) -> None:
    other = Manager.open(scene.manager.workspace.root)
    other.repair()
    other.close()


def test_alerts_of_old_are_no_news(scene: Scene) -> None:
    """Lost: the one toast that is new, among those of sixty days, and a bell."""
    job = running(scene)
    folder = scene.manager.workspace.run(job.id).attempts()[-1][1]
    append_alert(folder, AlertLine(NOW, "nan", "train/loss", "train/loss is not a number since step 3"))
    scene.write(job, lines(1, 11))
    listener = Listener(scene)
    listener.tick()
    repaired(scene)
    assert not [m for m in [*listener.tick(), *listener.tick()] if isinstance(m, AlertsRaised)]


def test_curves_are_those_of_the_rebuilt_log(scene: Scene) -> None:
    """Lost: the truth: rows that the repair has found to be others stay on the screen until it is closed."""
    job = running(scene)
    scene.write(job, lines(1, 11))
    listener = Listener(scene)
    listener.feed.watch(job.id)
    assert len(listener.one(TraceChanged).trace.curves["train/loss"].xs) == 10
    path = scene.manager.workspace.run(job.id).attempts()[-1][1].metrics
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    repaired(scene)
    assert list(listener.one(TraceChanged).trace.curves["train/loss"].xs) == [1, 2, 3, 4]


def test_what_runs_are_sorted_by_is_read_again(scene: Scene) -> None:
    """Lost: the order of the queue, by values that no run has."""
    job = running(scene)
    scene.write(job, [*lines(1, 11), {"event": "end", "time": NOW, "state": "succeeded"}])
    scene.end(job, JobState.succeeded, ago=0)
    repaired(scene)  # from now on a rebuild finds the same moments
    listener = Listener(scene)
    listener.feed.rank("train/loss", 0.0)
    assert listener.one(RankingRead).values == {job.id: 0.1}
    path = scene.manager.workspace.run(job.id).attempts()[-1][1].metrics
    when = path.stat().st_mtime_ns
    path.write_text(path.read_text().replace("0.1}", "7.5}"))
    os.utime(path, ns=(when, when))
    repaired(scene)
    assert listener.one(RankingRead).values == {job.id: 7.5}


def test_top_goes_by_the_rebuilt_log(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: the truth about loss and rate, in the `top` that was open meanwhile."""
    job = running(scene)
    scene.write(job, lines(1, 11))
    overview, runs = Overview(scene.manager), scene.manager.job(job.id)
    monkeypatch.setattr(scene.manager, "jobs", lambda: [runs])
    assert cli_top._lines(scene.manager, overview)[0].loss == 0.1
    path = scene.manager.workspace.run(job.id).attempts()[-1][1].metrics
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    repaired(scene)
    assert cli_top._lines(scene.manager, overview)[0].loss == 0.25
