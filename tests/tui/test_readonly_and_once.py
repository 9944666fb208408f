"""Looking without changing: `pidec-tui --readonly`, and `pidec-tui --once`, which needs no terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pidec_tui import __main__ as door
from pidec_tui.app import PidecApp
from pidec_tui.manager.manager import Manager
from pidec_tui.refusals import CHANGING, READS_ONLY
from pidec_tui.screens.form import FormScreen
from pidec_tui.screens.main import MainScreen
from tests.tui.pressing import go, notices
from tests.tui.scene import H200, NOW, FixedGpus, Scene, busy, pressed, settled
from tests.tui.shelves import browser_of, opened, press, shelves
from tests.tui.test_keys import bindings

SAID, _ = READS_ONLY


def watching(scene: Scene) -> PidecApp:
    return PidecApp(scene.manager, monitor=FixedGpus([H200]), clock=lambda: NOW, readonly=True)


def everything(scene: Scene) -> list[object]:
    """Every job, and every file of the workspace but the job log's own."""
    files = {path: path.stat().st_mtime_ns for path in scene.manager.workspace.root.rglob("*") if path.is_file()}
    return [scene.manager.jobs(), {path: at for path, at in files.items() if "jobs.db" not in path.name}]


async def test_no_key_changes_anything_and_each_says_so(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: a run of somebody else's, cancelled from a dashboard that was opened to look."""
    busy(scene)
    monkeypatch.setattr("pidec_tui.manager.control.runner_pid", lambda places: None)
    started: list[object] = []
    monkeypatch.setattr("pidec_tui.manager.control.ensure_runner", lambda places: started.append(places) or 1)
    before = everything(scene)
    async with watching(scene).run_test(size=(120, 40)) as pilot:
        for job_id in (2, 4, 3):  # one that failed, one that waits, one that runs
            await go(pilot, job_id)
            for key in ("n", "c", "r", "h", "e", "shift+up", "shift+down", *"CTfEXHRP", "exclamation_mark"):
                pilot.app.clear_notifications()
                await press(pilot, key)
                assert SAID in notices(pilot), key
                assert isinstance(pilot.app.screen, MainScreen), "not even a question is asked"
        top = str(pilot.app.screen.query_one("#top").render())
        assert "read-only" in top
        await pressed(pilot, "tab", "enter")  # a checkpoint, and the form that would evaluate it
        assert isinstance(pilot.app.screen, FormScreen)
        pilot.app.clear_notifications()
        await pressed(pilot, "ctrl+s")
        assert SAID in notices(pilot)
        pilot.app.clear_notifications()
        assert isinstance(pilot.app, PidecApp)
        pilot.app.act(lambda manager: manager.cancel(4))  # whatever asks for a change without a key of its own
        pilot.app.queue_jobs(lambda manager: [manager.add("command", {"command": "true"})])
        await settled(pilot)
        assert f"{SAID} ×2" in notices(pilot)
    assert everything(scene) == before and not started, "a runner would start what is queued"


async def test_the_browser_changes_nothing_either(scene: Scene) -> None:
    """Lost: a checkpoint in the trash, and files that a look has left behind."""
    shelves(scene)
    before = everything(scene)
    async with watching(scene).run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        for key in ("e", "d", "a", "R", "x"):
            pilot.app.clear_notifications()
            await press(pilot, key)
            assert SAID in notices(pilot), key
            assert browser_of(pilot).is_current
    assert everything(scene) == before


def test_every_key_that_changes_something_is_known_by_its_id() -> None:
    """Lost: a key that was renamed, and changes things in a dashboard that should not."""
    assert set(bindings()) >= CHANGING


def test_once_is_plain_text_at_the_width_it_is_given(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lost: the state of the box over a slow line, in a script, or in a mail."""
    busy(scene)
    long = scene.add("demos", {"num_demos": 10, "out": "x.h5"}, name="a-name-longer-than-there-is-room-for")
    monkeypatch.setattr("pidec_tui.once.LOAD_S", 0)
    for width in (160, 60):
        monkeypatch.setenv("COLUMNS", str(width))
        assert door.main(["--once", "--workspace", str(scene.manager.workspace.root)]) == 0
        text = capsys.readouterr().out
        assert "\x1b" not in text and max(map(len, text.splitlines())) <= width
        for part in ("1 running", "● running", "job 2", "CUDA out of memory", "waits for job 3"):
            assert part in text, part
        row = next(line for line in text.splitlines() if " a-name" in line)
        assert row.split()[:3] == [str(long.id), "○", "queued"], "the name gives way, not the id"
    assert "of median" not in text, "what there is no room for is left out, not broken over lines"


def test_a_pipe_that_is_closed_early_is_no_error(scene: Scene) -> None:
    """Lost: a script that begins with `set -o pipefail`, and looks at the first line."""
    for number in range(800):
        scene.add("command", {"command": "true"}, name=f"a-name-{number}")
    once = f"{sys.executable} -m pidec_tui --once --workspace {scene.manager.workspace.root}"
    line = f"{once} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[1:] == ["0"] and done.stderr == ""


def test_once_loads_no_screen_and_begins_no_workspace(tmp_path: Path) -> None:
    """Lost: a second at every look, and a queue in whatever folder one happened to stand in."""
    code = (
        "import sys\nfrom pidec_tui.__main__ import main\n"
        f"assert main(['--once', '--workspace', {str(tmp_path / 'made')!r}]) == 0\n"
        f"assert main(['--once', '--workspace', {str(tmp_path / 'none')!r}]) == 0\n"
        "assert not {'textual', 'numpy', 'torch'} & set(sys.modules)"
    )
    manager = Manager.open(tmp_path / "made")
    manager.add("command", {"command": "true"}, name="hello")
    manager.close()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "hello" in done.stdout and "No jobs yet" in done.stdout
    assert not (tmp_path / "none").exists()


def test_readonly_begins_no_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lost: "it changes nothing", by the first thing that it does."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert door.main(["--readonly", "--workspace", str(tmp_path / "none")]) == 2
    assert "There is no workspace here" in capsys.readouterr().err and not (tmp_path / "none").exists()
