"""What the dashboard remembers, pressed in real dashboards one after the other and side by side."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from pidec_tui.app import PidecApp
from pidec_tui.board import Board
from pidec_tui.memory import VERSION, Memory, Remembered, memory_file, snapshot
from pidec_tui.screens.checkpoints import CheckpointsScreen
from pidec_tui.screens.main import MainScreen
from tests.tui.pressing import board_of, notices, queue_of
from tests.tui.scene import H200, NOW, FixedGpus, Scene, busy, pressed, settled


def remembering(scene: Scene, **options: Any) -> PidecApp:
    """The dashboard as `pidec-tui` starts it, with the memory of this workspace."""
    memory = Memory(scene.manager.workspace.root)
    monitor = FixedGpus([H200])
    return PidecApp(scene.manager, monitor=monitor, clock=lambda: NOW, start_runner=False, memory=memory, **options)


async def test_a_dashboard_comes_back_as_it_was_left(scene: Scene) -> None:
    """Lost: choosing the job, its pins, marks, smoothing and sorting again every morning."""
    busy(scene)
    async with remembering(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pressed(pilot, "j", "m", "k", "m", "p", "j", "space")
        await pressed(pilot, "o", "j", "p", "s", "x", "x", "c", "m", "y", "escape")
        await pressed(pilot, "s", "s", "S")
        await pressed(pilot, "b", "s", "S", "t", "slash", *"peg", "enter")
        pilot.app.theme = "pidec-light"
        left = board_of(pilot)
    file = memory_file(scene.manager.workspace.root)
    assert not file.is_relative_to(scene.manager.workspace.root)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    async with remembering(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        board = board_of(pilot)
        assert (board.selected, board.follow) == (left.selected, False)
        assert queue_of(pilot).row_under_cursor() == str(left.selected)
        assert board.charts == left.charts and board.charts.pins and board.charts.smooth and board.charts.log_y
        assert (board.overlay.marked, board.overlay.baseline) == (left.overlay.marked, left.overlay.baseline)
        assert len(board.overlay.marked) == 2 and board.overlay.baseline is not None
        assert board.browser == left.browser
        assert (board.ranking.metric, board.ranking.turned) == ("train/loss", True)
        assert board.ranking.values == left.ranking.values and board.ranking.values, "they are read again"
        assert (board.browser.filter, board.browser.arrangement, board.browser.turned) == ("peg", "runs", True)
        assert board.layout.middle == 1 and pilot.app.theme == "pidec-dark"  # PIDEC_THEME of the tests asks for dark
        await pressed(pilot, "b")
        assert isinstance(pilot.app.screen, CheckpointsScreen)
        assert "“peg”" in str(pilot.app.screen.query_one("#checkpoints-title").render())


async def test_the_tab_of_a_small_terminal_and_the_theme_come_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: the pane that somebody on a phone looks at, and colours that can be read there."""
    monkeypatch.delenv("PIDEC_THEME")
    busy(scene)
    async with remembering(scene).run_test(size=(70, 24)) as pilot:
        await settled(pilot)
        await pressed(pilot, "tab")
        pilot.app.theme = "pidec-light"
    async with remembering(scene).run_test(size=(70, 24)) as pilot:
        await settled(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, MainScreen) and (screen.tab, pilot.app.theme) == ("charts", "pidec-light")
        assert screen.query_one("#stack").size.height > 5 and not screen.query_one("#queue").size


async def test_nothing_is_written_until_something_was_chosen(scene: Scene) -> None:
    """Lost: a home folder without litter, and following the newest run: where the cursor stood by itself is no wish."""
    busy(scene)
    async with remembering(scene, readonly=True).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
    assert not memory_file(scene.manager.workspace.root).exists()


async def test_a_job_that_is_gone_is_neither_selected_nor_marked(scene: Scene) -> None:
    """Lost: the dashboard: a mark without a job has no curve, and twelve of them have no letter left."""
    busy(scene)
    memory = Memory(scene.manager.workspace.root)
    memory.save(Remembered(selected=99, marked=[98, "sweep", 3, 97], baseline=98, dismissed=["99:loss-flat", "3:x"]))
    async with remembering(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        board = board_of(pilot)
        assert (board.selected, board.follow) == (3, True)
        assert (board.overlay.marked, board.overlay.baseline) == ([3], None)
        await pressed(pilot, "o", "s")
    assert json.loads(memory.file.read_text())["dismissed"] == ["3:x"]


@pytest.mark.parametrize(
    ("text", "said", "replaced"),
    [
        ("{", "is broken", True),
        ("\0\xff", "is broken", True),
        ('["shopping"]', "is not the dashboard's", False),
        ('{"servers": 3}', "is not the dashboard's", False),
        (f'{{"version": {VERSION + 1}, "pins": {{"by": "lane"}}}}', "newer pidec", False),
        ('{"version": 1, "smooth": "very", "x": "miles", "clip": true, "moon": 3}', "smooth, x cannot be", True),
    ],
)
def test_a_file_that_cannot_be_used_is_said(tmp_path: Path, text: str, said: str, replaced: bool) -> None:
    """Lost: the start of the dashboard, or what a newer one remembers."""
    file = memory_file(tmp_path)
    file.parent.mkdir(parents=True)
    file.write_text(text)
    memory = Memory(tmp_path)
    assert said in memory.trouble and str(file) in memory.trouble
    assert memory.first.clip == ("clip" in text)  # what was right beside what was wrong
    memory.save(Remembered(smooth=0.6))
    assert (file.read_text() != text) == replaced


async def test_a_broken_file_is_one_notice_and_the_dashboard_opens(scene: Scene) -> None:
    """Lost: the start."""
    busy(scene)
    file = memory_file(scene.manager.workspace.root)
    file.parent.mkdir(parents=True)
    file.write_text("{")
    async with remembering(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert "is broken" in notices(pilot) and len(pilot.app._notifications) == 1
        assert board_of(pilot).selected == 3


async def test_a_folder_that_cannot_be_written_is_one_notice(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Lost: a dashboard for those whose home folder is full or read-only."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("pidec_tui.remembering.EVERY", 0.05)
    busy(scene)
    async with remembering(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        for key in ("o", "s", "s", "s"):
            await pressed(pilot, key)
            await pilot.pause(0.1)
        assert notices(pilot).count("Nothing is remembered") == 1


async def test_fresh_begins_with_the_defaults(scene: Scene) -> None:
    """Lost: a way out of a layout that one does not like."""
    root = scene.manager.workspace.root
    Memory(root).save(Remembered(smooth=0.9))
    memory = Memory(root, fresh=True)
    assert (Memory(root).first.smooth, memory.first.smooth, memory.trouble) == (0.9, 0.0, "")


async def test_two_dashboards_on_one_workspace(scene: Scene) -> None:
    """Lost: jobs, or the file, to somebody who opens a second window and forgets the first."""
    busy(scene)
    before = [job.id for job in scene.manager.jobs()]
    async with remembering(scene).run_test(size=(120, 40)) as one:
        await settled(one)
        await pressed(one, "o", "s")
        async with remembering(scene).run_test(size=(120, 40)) as two:
            await settled(two)
            await pressed(two, "j", "h", "o", "c")
            assert scene.manager.job(4).state == "held"
        memory = Memory(scene.manager.workspace.root)
        assert not memory.trouble and memory.first.clip and not memory.first.smooth
        await pressed(one, "s", "escape", "n", "enter")
    memory = Memory(scene.manager.workspace.root)
    assert not memory.trouble and memory.first.smooth == 0.9 and not memory.first.clip  # the last one that wrote
    assert set(before) < {job.id for job in scene.manager.jobs()}


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """Lost: everything that was remembered, when two dashboards write in one moment."""
    writers = [Memory(tmp_path), Memory(tmp_path)]

    def write(memory: Memory, sign: str) -> None:
        for turn in range(30):
            memory.save(Remembered(pins=[sign * 5000, str(turn)]))

    threads = [threading.Thread(target=write, args=(each, sign)) for each, sign in zip(writers, "ab", strict=True)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        read = Memory(tmp_path)
        assert not read.trouble and (not read.first.pins or len(set(read.first.pins[0])) == 1)
    assert [file.name for file in memory_file(tmp_path).parent.iterdir()] == ["dashboard.json"]


def test_runs_by_hand_are_not_remembered() -> None:
    """Lost: the right run: `h1` is another one tomorrow."""
    board = Board(jobs=[], selected=-1, follow=False)
    board.overlay.marked = [7, -1, "sweep"]
    board.overlay.baseline = -1
    now = snapshot(board, None, Remembered())
    assert (now.selected, now.marked, now.baseline) == (None, [7, "sweep"], None)


async def test_the_dashboard_opens_no_network_socket(scene: Scene) -> None:
    """Lost: the promise that nothing of a workspace leaves the machine by the dashboard."""
    busy(scene)
    async with remembering(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pressed(pilot, "o", "escape", "b", "escape", "l", "escape", "v")
        assert psutil.Process().net_connections("inet") == []
