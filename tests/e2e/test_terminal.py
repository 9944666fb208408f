"""The dashboard in a real terminal: keys go in through tmux, the screen comes back as text."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux"),
]

QUICKSTART = """
title = "A quickstart small enough for a test"
kind = "diffusion"
lane = "cpu"
[config]
env_id = "PushCube-v1"
demo_path = "bundled:PushCube-v1.h5"
total_iters = 6000
batch_size = 16
unet_dims = [16, 32]
action_norm = "min_max"
log_freq = 20
eval_freq = 0
save_freq = 50
device = "cpu"
"""


class Terminal:
    """One tmux server of its own, so that the user's sessions are never touched."""

    def __init__(self, workspace: Path, width: int = 160, height: int = 45) -> None:
        self.workspace = workspace
        self.socket = str(workspace / "tmux.sock")
        self.width, self.height = width, height

    def tmux(self, *words: str) -> str:
        command = ["tmux", "-S", self.socket, "-f", "/dev/null", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout

    def open(self) -> None:
        names = ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "PIDEC_SLOT_DIR")
        exports = " ".join(f"{name}={shlex.quote(os.environ[name])}" for name in names)
        command = f"env {exports} {sys.executable} -m pidec_tui --workspace {shlex.quote(str(self.workspace))}"
        self.tmux("new-session", "-d", "-x", str(self.width), "-y", str(self.height), command)

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.tmux("send-keys", key)
            time.sleep(0.3)

    def wait_for(self, what: Callable[[str], bool] | str, timeout: float = 40) -> str:
        deadline = time.time() + timeout
        while True:
            screen = self.screen()
            if what in screen if isinstance(what, str) else what(screen):
                return screen
            assert time.time() < deadline, f"{what!r} never came:\n{screen}"
            time.sleep(0.2)

    def pid(self) -> int:
        return int(self.tmux("list-panes", "-F", "#{pane_pid}").split()[0])

    def kill(self) -> None:
        self.tmux("kill-server")


def job(workspace: Path, job_id: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "pidec_tui.manager.cli", "--workspace", str(workspace)]
    shown = subprocess.run([*command, "show", str(job_id), "--json"], capture_output=True, timeout=30, check=True)
    return dict(json.loads(shown.stdout))


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    presets = tmp_path / "jobs" / "presets"
    presets.mkdir(parents=True)
    (presets / "quickstart.toml").write_text(QUICKSTART)
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.kill()
    command = [sys.executable, "-m", "pidec_tui.manager.cli", "--workspace", str(tmp_path)]
    subprocess.run([*command, "cancel", "1"], capture_output=True, timeout=30, check=False)
    subprocess.run([*command, "wait", "1", "--timeout", "30"], capture_output=True, timeout=40, check=False)
    subprocess.run([*command, "runner", "stop"], capture_output=True, timeout=30, check=False)
    for process in psutil.process_iter(["cmdline"]):
        if str(tmp_path) in " ".join(process.info["cmdline"] or []):
            with contextlib.suppress(psutil.Error):
                process.kill()


@pytest.mark.sim
def test_n_enter_and_the_curves_move(terminal: Terminal) -> None:
    """Lost: the first minute of every newcomer; and the job, when the dashboard or the connection dies."""
    terminal.open()
    terminal.wait_for("No jobs yet", timeout=30)
    terminal.press("n")
    terminal.wait_for("Queues two jobs")
    terminal.press("Enter")
    terminal.wait_for("running", timeout=60)
    braille = terminal.wait_for(lambda screen: sum("\u2801" <= c <= "\u28ff" for c in screen) > 10, timeout=60)
    assert "loss" in braille

    before = job(terminal.workspace, 1)
    os.kill(terminal.pid(), signal.SIGKILL)
    terminal.kill()
    time.sleep(1.5)
    after = job(terminal.workspace, 1)
    assert after["state"] == "running" and after["step"] > before["step"]
    assert len(after["attempts"]) == 1

    terminal.open()
    terminal.wait_for(lambda screen: "quickstart" in screen and "running" in screen)
    terminal.press("c")
    terminal.wait_for("Cancel job 1")
    terminal.press("y")
    terminal.wait_for("cancelled", timeout=60)


def test_a_terminal_of_60_by_18_works(tmp_path: Path) -> None:
    """Lost: the phone, and the small pane beside the editor."""
    terminal = Terminal(tmp_path, 60, 18)
    try:
        terminal.open()
        terminal.wait_for("n new job", timeout=30)
        terminal.press("n")
        terminal.wait_for("diffusion-peg")
        terminal.press("Escape", "q")
        terminal.wait_for(lambda screen: screen.strip() == "", timeout=10)
    finally:
        terminal.kill()


def test_a_dashboard_that_was_stopped_goes_on_and_leaves(tmp_path: Path) -> None:
    """Lost: a dashboard that was stopped by `kill -STOP` and goes on: it read the keys with two threads, and `q` left a
    process that never ended."""
    terminal = Terminal(tmp_path, 80, 24)
    try:
        terminal.open()
        terminal.wait_for("n new job", timeout=30)
        process = psutil.Process(terminal.pid())
        threads = process.num_threads()
        for _ in range(4):
            process.suspend()
            time.sleep(0.2)
            process.resume()
            time.sleep(0.5)
        assert process.num_threads() <= threads + 1  # a reader and a writer more at each time, before
        terminal.press("n")
        terminal.wait_for("diffusion-peg")
        terminal.press("Escape", "q")
        terminal.wait_for(lambda screen: screen.strip() == "", timeout=10)
    finally:
        terminal.kill()
