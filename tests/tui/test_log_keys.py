"""The log screen, by its keys, over real files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from pidec_tui.manager.jobs import Job
from pidec_tui.screens.charts import ChartsScreen
from pidec_tui.screens.log import LogScreen
from pidec_tui.screens.main import MainScreen
from pidec_tui.screens.peek import LogPeek
from pidec_tui.widgets.logview import LogView
from tests.tui.pressing import go, keys, notices
from tests.tui.scene import Scene, app_of, busy, settled


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pidec_tui.logreader.EVERY", 0.05)


def job_with(scene: Scene, text: str | None) -> tuple[Job, Path]:
    """A running job, and where its log is."""
    job = scene.add("command", {"command": "x"}, name="x")
    folder = scene.start(job, ago=5)
    if text is not None:
        scene.output(job, text)
    return job, folder.output


async def until(pilot: Pilot[Any], holds: Callable[[], Any]) -> None:
    for _ in range(250):
        await pilot.pause(0.02)
        if holds():
            await pilot.pause()
            return
    raise AssertionError(f"never: {shown(pilot)[:3]}")


async def opened(pilot: Pilot[Any], job: Job) -> LogView:
    await go(pilot, job.id)
    await pilot.press("l")
    await pilot.pause()
    assert isinstance(pilot.app.screen, LogScreen)
    view = pilot.app.screen.query_one(LogView)
    await until(pilot, lambda: view.window.lines or view.window.note)
    return view


def shown(pilot: Pilot[Any]) -> list[str]:
    """The rows of the log that are on the screen, without the cursor's column."""
    view = pilot.app.screen.query_one(LogView)
    rows = [view.render_line(y).text.rstrip() for y in range(view.size.height)]
    return [row[1:] for row in "\n".join(rows).rstrip("\n").split("\n")]


def title(pilot: Pilot[Any]) -> str:
    return str(pilot.app.screen.query_one("#log-title", Static).render())


@keys("job.log", "log.find", "log.next", "log.previous", "log.follow", "log.back", "list.page", "list.back")
async def test_l_shows_the_log_and_finds_in_it(scene: Scene) -> None:
    """Lost: the line that says why."""
    job, path = job_with(scene, "".join(f"line {i} {'needle' if i % 50 == 7 else 'hay'}\n" for i in range(200)))
    async with app_of(scene).run_test(size=(100, 30)) as pilot:
        view = await opened(pilot, job)
        assert shown(pilot)[-1] == "line 199 hay" and view.follow and view.cursor_text() == "line 199 hay"
        await pilot.press("slash", *"needle", "enter")
        await until(pilot, lambda: 'find "needle" 4 of 4' in title(pilot))
        assert view.cursor_text() == "line 157 needle" and not view.follow and "line 157 needle" in shown(pilot)
        for key, place, line in (("n", 1, 7), ("N", 4, 157), ("N", 3, 107), ("n", 4, 157)):
            await pilot.press(key)
            await until(pilot, lambda place=place: f"{place} of 4" in title(pilot))
            assert view.cursor_text() == f"line {line} needle"
        await pilot.press("g", "n")  # from where the cursor was put
        await until(pilot, lambda: "1 of 4" in title(pilot))
        await pilot.press("g")
        await pilot.pause()
        assert shown(pilot)[0] == "line 0 hay" == view.cursor_text()
        await pilot.press("space")
        await pilot.pause()
        top = int(shown(pilot)[0].split()[1])
        assert 20 < top < 30 and view.cursor_text() == f"line {top} hay"
        await pilot.press("j", "k", "k")
        await pilot.pause()
        assert shown(pilot)[0] == f"line {top - 1} hay" == view.cursor_text()
        await pilot.press("pageup", "pageup")
        await pilot.pause()
        assert shown(pilot)[0] == "line 0 hay" == view.cursor_text()
        await pilot.press("f")
        await pilot.pause()
        assert view.follow and shown(pilot)[-1] == "line 199 hay"
        with path.open("a") as file:
            file.write("".join(f"line {i}\n" for i in range(200, 300)))
        await until(pilot, lambda: shown(pilot)[-1] == "line 299")
        await pilot.press("f")
        await pilot.pause()
        assert not view.follow
        with path.open("a") as file:
            file.write("line 300\n")
        await until(pilot, lambda: not view.window.last or view.window.lines[-1].text == "line 300")
        assert shown(pilot)[-1] == "line 299"
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(pilot.app.screen, MainScreen)


@keys("log.filter")
async def test_only_lines_with_a_word(scene: Scene) -> None:
    """Lost: the ten losses between a million lines; and the lines around the one that was found so."""
    job, path = job_with(scene, "".join(f"{'Loss' if i % 10 == 0 else 'hay'} {i}\n" for i in range(30_000)))
    async with app_of(scene).run_test(size=(100, 30)) as pilot:
        view = await opened(pilot, job)
        await pilot.press("ampersand", *"loss", "enter")
        await until(pilot, lambda: 'only "loss" 3,000' in title(pilot))
        assert shown(pilot)[-1] == "Loss 29990" and shown(pilot)[-2] == "Loss 29980"
        with path.open("a") as file:
            file.write("loss new\nhay\n")
        await until(pilot, lambda: shown(pilot)[-1] == "loss new")
        await pilot.press("g")
        await until(pilot, lambda: shown(pilot)[:2] == ["Loss 0", "Loss 10"])
        await pilot.press("slash", *"2222", "enter")
        await until(pilot, lambda: view.cursor_text() == "Loss 22220")
        assert shown(pilot)[0].startswith("Loss") and "of 1" in title(pilot)
        await pilot.press("escape")  # the filter goes, the place stays
        await until(pilot, lambda: "hay 22221" in shown(pilot))
        assert view.cursor_text() == "Loss 22220"
        await pilot.press("ampersand", *"no such", "enter")
        await until(pilot, lambda: shown(pilot) == ["No line holds it."])


@keys("list.first", "list.last")
async def test_far_ends_of_a_long_log(scene: Scene) -> None:
    """Lost: the first lines, where it was told what the run was about."""
    job, _ = job_with(scene, "".join(f"line {i}\n" for i in range(200_000)))
    async with app_of(scene).run_test(size=(100, 30)) as pilot:
        view = await opened(pilot, job)
        assert len(view.window.lines) < 1000
        await pilot.press("g")
        await until(pilot, lambda: shown(pilot)[0] == "line 0")
        for _ in range(20):
            await pilot.press("space")
            await pilot.pause(0.01)
        top = int(shown(pilot)[0].split()[1])
        assert top == 20 * (view.size.height - 1)  # no page was passed over, none was shown twice
        await pilot.press("G")
        await until(pilot, lambda: shown(pilot)[-1] == "line 199999")
        assert view.follow and "100%" in title(pilot)


@keys("log.wrap", "log.left", "log.right")
async def test_long_lines_are_folded_or_run_off(scene: Scene) -> None:
    """Lost: the end of a long error message."""
    job, _ = job_with(scene, "first\n" + "".join(f"{i:04d}" for i in range(100)) + "\nlast 世界\n")
    async with app_of(scene).run_test(size=(101, 30)) as pilot:
        view = await opened(pilot, job)
        assert len(shown(pilot)) == 3 and shown(pilot)[1].endswith("0024")
        await pilot.press("right", "right")
        assert shown(pilot)[1].startswith("0025") and shown(pilot)[1].endswith("0049")
        await pilot.press(*["right"] * 9)
        assert shown(pilot)[1].endswith("0098" + "0099")
        await pilot.press(*["left"] * 9)
        assert shown(pilot)[0] == "first"
        await pilot.press("w")
        assert shown(pilot) == [
            "first",
            *("".join(f"{i:04d}" for i in range(k, k + 25)) for k in (0, 25, 50, 75)),
            "last 世界",
        ]
        assert "wrapped" in title(pilot) and view.cursor_text() == "last 世界"
        await pilot.press("k")
        assert view.render_line(1).text[0] == "▶" and view.render_line(2).text[0] == " "


@keys("log.chart")
async def test_enter_goes_to_the_charts_at_the_step_of_the_line(scene: Scene) -> None:
    """Lost: what the curves did when the log said so."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        view = await opened(pilot, scene.manager.job(3))
        await pilot.press("k", "k")
        assert "iteration   657,000 of" in (view.cursor_text() or "")
        await pilot.press("enter")
        await settled(pilot)
        charts = pilot.app.screen
        assert isinstance(charts, ChartsScreen) and charts.cursor == 657_000
        await pilot.press("x", "escape", "escape")  # another axis, for every later screen, too
        await pilot.pause()
        assert isinstance(pilot.app.screen, LogScreen)
        await pilot.press("enter")
        await settled(pilot)
        charts = pilot.app.screen
        assert isinstance(charts, ChartsScreen) and charts.cursor is not None
        assert charts.choices.kind != "step" and charts.cursor == charts._runs[0].places([657_000], charts._kind())[0]


async def test_a_line_without_a_step_takes_the_one_above(scene: Scene) -> None:
    """Lost: the place of a traceback in the curves."""
    job, path = job_with(scene, "nothing here\nTraceback\n")
    async with app_of(scene).run_test(size=(100, 30)) as pilot:
        await opened(pilot, job)
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(pilot.app.screen, LogScreen) and "tell a step" in notices(pilot)
        with path.open("a") as file:
            file.write("step=123\nTraceback\n")
        await until(pilot, lambda: len(shown(pilot)) == 4)
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(pilot.app.screen, ChartsScreen)


async def test_esc_stops_a_long_search(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: the way out of a search through a gigabyte; it must not leave the log instead."""
    monkeypatch.setattr("pidec_tui.logfile.Scan.step", lambda scan: time.sleep(0.02))  # it never ends by itself
    job, _ = job_with(scene, "hay\n" * 100_000)
    async with app_of(scene).run_test(size=(100, 30)) as pilot:
        await opened(pilot, job)
        await pilot.press("slash", *"needle", "enter")
        await until(pilot, lambda: "esc stops" in title(pilot) and "searched 0%" in title(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: "esc stops" not in title(pilot))
        assert isinstance(pilot.app.screen, LogScreen) and "not found, searched 0%" in title(pilot)


async def test_whatever_becomes_of_a_log_is_said(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: the dashboard, to a log that was truncated, rotated, deleted, is no text or cannot be read."""
    job, path = job_with(scene, None)
    async with app_of(scene).run_test(size=(100, 30)) as pilot:
        await opened(pilot, job)
        assert shown(pilot) == ["No log yet: the job has not started."]
        heard: list[int] = []
        monkeypatch.setattr(
            LogView, "bring", lambda view, window, bring=LogView.bring: (heard.append(1), bring(view, window))
        )
        await pilot.pause(0.3)
        assert not heard  # nothing new, nothing done: asking and answering must not chase each other
        await pilot.press("g", "G", "j", "pageup", "n", "enter")
        path.write_bytes(b"one\ntwo\n")
        await until(pilot, lambda: shown(pilot) == ["one", "two"])
        path.write_bytes(b"new\n")
        await until(pilot, lambda: shown(pilot) == ["new"])
        assert "begun anew" in notices(pilot)
        path.rename(path.with_suffix(".1"))
        await until(pilot, lambda: "is gone" in notices(pilot))
        assert shown(pilot) == ["new"]
        path.write_bytes(b"rotated\x00\n")
        await until(pilot, lambda: shown(pilot) == ["rotated"])
        assert "Another log began" in notices(pilot) and "no text" in notices(pilot)
        path.unlink()
        os.mkdir(path)
        await until(pilot, lambda: "cannot be read" in notices(pilot))
        path.rmdir()
        path.write_bytes(b"well again\n")
        await until(pilot, lambda: shown(pilot) == ["well again"])


@keys("job.peek", "peek.close", "peek.open")
async def test_a_peek_at_the_log(scene: Scene) -> None:
    """Lost: the last lines of a job in full, without leaving the queue."""
    job, path = job_with(scene, "".join(f"line {i}\n" for i in range(100)))
    async with app_of(scene).run_test(size=(100, 30)) as pilot:
        await go(pilot, job.id)
        for close in ("space", "escape", "L"):
            await pilot.press("L")
            await until(pilot, lambda: isinstance(pilot.app.screen, LogPeek) and shown(pilot)[-1] == "line 99")
            await pilot.press(close)
            await pilot.pause()
            assert isinstance(pilot.app.screen, MainScreen)
        await pilot.press("L")
        await until(pilot, lambda: shown(pilot)[-1] == "line 99")
        with path.open("a") as file:
            file.write("new\n")
        await until(pilot, lambda: shown(pilot)[-1] == "new")
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(pilot.app.screen, LogScreen)
