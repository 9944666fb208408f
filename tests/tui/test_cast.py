"""The animation that is made from a run's files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

from pidec_tui import cast
from pidec_tui.cast import Replay
from pidec_tui.filmstrip import CELL_X, CELL_Y, Frame, Run, svg_of
from pidec_tui.manager.jobs import JobState
from pidec_tui.theme import DARK
from tests.tui.scene import NOW, Scene, decorated

INK, PAPER = "#d0d0d0", "#1c1c1c"


def texts(svg: str) -> list[tuple[float, str]]:
    return [(float(found[1]), found[2]) for found in re.finditer(r'<text x="(\d+)"[^>]*>([^<]*)</text>', svg)]


def test_a_strip_holds_every_row_once_and_plays_in_a_loop() -> None:
    """Lost: an animation of megabytes; or one that stands still, or for the wrong time."""
    same, first, second = (Run("same", INK, PAPER),), (Run("one ", INK, PAPER),), (Run("two ", INK, PAPER),)
    svg = svg_of([Frame((same, first), 1.0), Frame((same, second), 2.0), Frame((same, second), 1.0)], 4, PAPER, "a < b")
    root = xml.fromstring(svg)
    assert root.get("viewBox") == f"0 0 {4 * CELL_X} {2 * CELL_Y}" and "a &lt; b" in svg
    assert [text for _, text in texts(svg)] == ["same", "one", "two"]
    assert "play 4.00s step-end infinite" in svg
    assert "0.000%{transform:translateX(0px)}25.000%{transform:translateX(-32px)}}" in svg
    for outside in ("<script", "http://www.w3.org/1999/xlink", "url(", "@import", "<image"):
        assert outside not in svg
    assert set(re.findall(r'href="#(\w+)"', svg)) == set(re.findall(r'<g id="(r\d+)"', svg))


def test_words_and_dots_stand_in_their_cells() -> None:
    """Lost: labels beside their axis, in whatever font a reader has; or curves that no font can draw."""
    row = (Run("a  bc d⠁⢀ ", INK, PAPER, bold=True), Run("x", "#ff0000", "#00ff00"))
    svg = svg_of([Frame((row,), 1.0)], 11, PAPER, "")
    assert texts(svg) == [(0, "a"), (3 * CELL_X, "bc d"), (10 * CELL_X, "x")]
    assert f'textLength="{4 * CELL_X}" class="c0 b"' in svg
    path = re.search(r'<path class="c0" d="([^"]*)"', svg)
    assert path is not None and path[1] == "m58 2h0m12 12h0", "the first dot of cell 7, the last of cell 8"
    assert f'<rect x="{10 * CELL_X}" width="{CELL_X}"' in svg and ".c1{fill:#00ff00}" in svg


def test_a_replay_shows_what_the_run_had_logged_by_then(scene: Scene) -> None:
    """Lost: honesty: a time-lapse with numbers that came later."""
    job = decorated(scene)
    replay = Replay(scene.manager, job.id)
    assert replay.at(replay.begin).step == 0 and replay.at(replay.begin).state is JobState.running
    middle = replay.at((replay.begin + replay.end) / 2)
    assert 9000 < (middle.step or 0) < 11_000 and middle.ended is None
    assert replay.at(replay.end) == job and replay.end <= NOW


@pytest.mark.parametrize("terminal", ["xterm-256color", "xterm-16color"])
def test_a_cast_of_a_run(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: str) -> None:
    """Lost: the README's animation; and its colours, made in a terminal of few."""
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setenv("COLORTERM", "")
    job = decorated(scene)
    monkeypatch.setattr(cast, "LAPSE_FRAMES", 3)
    monkeypatch.setattr(cast, "EVERY", 30)
    out = tmp_path / "new" / "cast.svg"
    words = ["--workspace", str(scene.manager.workspace.root), "--job", str(job.id), "--out", str(out)]
    assert cast.main(words) == 0
    svg = out.read_text()
    xml.fromstring(svg)
    shown = [text for _, text in texts(svg)]
    assert "time-lapse: 10 min in 8 s" in shown and "97%" in shown and "✗ fails" in shown and "✓ succeeds" in shown
    assert DARK.background in svg
    assert "30%" in shown, "it begins at the base policy's success"
    assert scene.manager.job(job.id) == job, "and it changes nothing"


@pytest.mark.parametrize(("job", "line"), [(99, "there is no job 99"), (1, "job 1 has logged no metrics")])
def test_what_cannot_be_cast_is_one_line(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str], job: int, line: str
) -> None:
    """Lost: what is wrong."""
    scene.add("command", {"command": "true"}, name="x")
    out = tmp_path / "cast.svg"
    words = ["--workspace", str(scene.manager.workspace.root), "--job", str(job), "--out", str(out)]
    assert cast.main(words) == 2 and not out.exists()
    assert line in capsys.readouterr().err
