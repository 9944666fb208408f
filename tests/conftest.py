"""What every test shares: no test may touch the user's own workspace, settings or machine-wide slots."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / ".state"))
    monkeypatch.setenv("PIDEC_SLOT_DIR", str(home / "slots"))
    monkeypatch.delenv("PIDEC_WORKSPACE", raising=False)


@pytest.fixture
def repo() -> Path:
    """The source tree."""
    return Path(__file__).parent.parent
