"""Presets that are kept from a form."""

from __future__ import annotations

from pathlib import Path

import pytest

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import Workspace
from pidec_tui.manager.presetfile import Draft, save_preset


@pytest.mark.parametrize("name", ["", "../out", "a/b", ".hidden", "x" * 300, "ä" * 90, "two words", "line\nbreak"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str) -> None:
    """Lost: a preset outside the folder of presets, or a traceback in its place."""
    with pytest.raises(PidecError, match=r"no name for a preset|needs a name"):
        save_preset(Workspace(tmp_path), Draft(name, "diffusion", {"seed": 2}))
    assert list(tmp_path.rglob("*")) == []


def test_what_was_kept_is_read_back_and_never_written_over_unasked(tmp_path: Path) -> None:
    """Lost: yesterday's settings under a name that was used twice."""
    ws = Workspace(tmp_path)
    kept = save_preset(ws, Draft("mine", "diffusion", {"seed": 2, "lr": 3e-4}, lane="cpu"))
    assert (kept.name, kept.kind, kept.lane, dict(kept.config)) == ("mine", "diffusion", "cpu", {"seed": 2, "lr": 3e-4})
    with pytest.raises(PidecError, match="there already"):
        save_preset(ws, Draft("mine", "diffusion", {"seed": 3}))
    assert save_preset(ws, Draft("mine", "diffusion", {"seed": 3}), over=True).config["seed"] == 3
