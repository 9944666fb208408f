"""For the dashboard's tests: UTC, a runner that is said to be up, a machine that never changes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tui.scene import HOST, PRESETS, Scene


@pytest.fixture(autouse=True)
def _still_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("PIDEC_THEME", "dark")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")  # one of 16 colours has themes of its own
    time.tzset()
    monkeypatch.setattr("pidec_tui.manager.control.runner_pid", lambda places: 4001)
    monkeypatch.setattr("pidec_tui.manager.control.stop_runner", lambda places: True)  # that is not our process
    monkeypatch.setattr("pidec_tui.feed.sample_host", lambda path: HOST)
    monkeypatch.setattr("textual.widgets.Input._toggle_cursor", lambda self: None)  # a picture must not blink
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path / "ws")
    yield made
    made.manager.close()


@pytest.fixture
def presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Presets that stay as they are when the shipped ones are tuned."""
    folder = tmp_path / "presets"
    folder.mkdir()
    for name, text in PRESETS.items():
        (folder / f"{name}.toml").write_text(text)
    monkeypatch.setattr("pidec_tui.manager.presets.builtin_folder", lambda: folder)
