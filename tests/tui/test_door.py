"""`pidec-tui` from outside: what it says before the screen opens, and what it loads."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from pidec_tui.manager.manager import Manager

DOOR = [sys.executable, "-m", "pidec_tui"]


def run_in_terminal(arguments: list[str], seconds: float = 20) -> tuple[int, str]:
    """Exit code and everything that was written, with a terminal as standard input and output."""
    screen, behind = pty.openpty()
    process = subprocess.Popen(DOOR + arguments, stdin=behind, stdout=behind, stderr=behind, close_fds=True)
    os.close(behind)
    said = b""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            said += os.read(screen, 65536)
        except OSError:  # the other side was closed
            break
    process.wait(timeout=10)
    os.close(screen)
    return process.returncode, said.decode(errors="replace")


def test_help_is_quick_and_loads_no_screen() -> None:
    """Lost: half a second at every --help."""
    code = (
        "import sys\nfrom pidec_tui.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'textual', 'apsw', 'numpy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "--workspace" in done.stdout and done.stdout.endswith("[]\n")


def test_without_a_terminal_it_is_one_line(tmp_path: Path) -> None:
    """Lost: escape codes in a log file, or a hang in cron."""
    done = subprocess.run(
        [*DOOR, "--workspace", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert "pidec-jobs" in done.stderr


def test_it_leaves_with_its_terminal_even_where_the_signal_does_not_come(tmp_path: Path) -> None:
    """Lost: a whole core for ever, after a window was closed (under `make run`, or with SIGHUP ignored)."""
    screen, behind = pty.openpty()
    command = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *DOOR, "--workspace", str(tmp_path / "ws")]
    process = subprocess.Popen(command, stdin=behind, stdout=behind, stderr=behind, start_new_session=True)
    os.close(behind)
    shown = b""
    while b"quickstart" not in shown and b"pidec" not in shown:
        shown += os.read(screen, 65536)
    os.close(screen)
    assert process.wait(timeout=30) == 129


def test_a_workspace_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    """Lost: a traceback inside an alternate screen that is gone at once."""
    (tmp_path / "file").write_text("")
    code, said = run_in_terminal(["--workspace", str(tmp_path / "file")])
    assert code == 2 and len(said.splitlines()) == 1 and str(tmp_path / "file") in said
    assert "\x1b[?1049h" not in said  # the screen was never opened


def test_a_newer_job_log_is_one_line(tmp_path: Path) -> None:
    """Lost: an old pidec that writes into a new one's job log, or dies of it."""
    manager = Manager.open(tmp_path)
    database = manager.places.db
    manager.close()
    connection = apsw.Connection(str(database))
    connection.pragma("user_version", 99)
    connection.close()
    code, said = run_in_terminal(["--workspace", str(tmp_path)])
    assert code == 2 and len(said.splitlines()) == 1 and "newer" in said


def test_the_whole_dashboard_loads_nothing_heavy() -> None:
    """Lost: seconds before the first picture, and a broken torch that takes the queue down with it."""
    screens = ("detail", "form", "help", "log", "main", "new_job", "question")
    code = "\n".join(
        [
            "import sys, pidec_tui.app",
            *(f"import pidec_tui.screens.{name}" for name in screens),
            "heavy = {'torch', 'h5py', 'mani_skill', 'sapien', 'wandb', 'gymnasium', 'numpy'}",
            "print(sorted(heavy & set(sys.modules)))",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_are_those_that_every_terminal_has(theme: str) -> None:
    """Lost: colours that ssh and tmux change into others."""
    from rich.color import Color

    from pidec_tui.theme import DARK, LIGHT

    chosen = LIGHT if theme == "light" else DARK
    colours = [value for value in vars(chosen).values() if isinstance(value, str) and value.startswith("#")]
    for value in [*colours, *(v for v in chosen.variables.values() if v.startswith("#"))]:
        triplet = Color.parse(value).triplet
        levels = {0, 95, 135, 175, 215, 255}
        grey = triplet is not None and len(set(triplet)) == 1 and (triplet[0] - 8) % 10 == 0
        assert triplet is not None and (grey or set(triplet) <= levels), value
