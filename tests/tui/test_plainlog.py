"""The log's last lines, read as it grows."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pidec_tui import plainlog
from pidec_tui.plainlog import TAIL_BYTES, LogTail, plain_lines


def lines_of(tail: LogTail, path: Path) -> tuple[str, ...]:
    return tail.read(path, path.stat().st_size)


def test_a_growing_log_reads_as_if_it_were_read_anew(tmp_path: Path) -> None:
    """Lost: lines that stand twice, or never, in the log below a run."""
    dice, path, tail = random.Random(3), tmp_path / "log", LogTail()
    pieces = [b"step %d\n", b"  %d%%\r", b"\x1b[32mgreen %d\x1b[0m\r\n", b"half %d", b"\n", b"\xc3", b"\xa9 %d\n"]
    path.touch()
    for number in range(700):
        with path.open("ab") as file:
            for piece in dice.choices(pieces, k=dice.randint(0, 60)):
                file.write(piece % number if b"%" in piece else piece)
        seen = lines_of(tail, path)
        anew = lines_of(LogTail(), path)
        assert len(seen) >= len(anew) and seen[len(seen) - len(anew) :] == anew
        if path.stat().st_size <= TAIL_BYTES:
            assert list(seen) == plain_lines(path.read_bytes())
    assert path.stat().st_size > 2 * TAIL_BYTES and len(seen) > 300


def test_a_line_more_costs_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: a tenth of the CPU that a dashboard takes all day."""
    path, tail = tmp_path / "log", LogTail()
    path.write_bytes(b"iteration 1\n" * 3000)
    lines_of(tail, path)
    tidied: list[bytes] = []
    monkeypatch.setattr(plainlog, "plain_lines", lambda data: tidied.append(data) or plain_lines(data))
    with path.open("ab") as file:
        file.write(b"iteration 2\n")
    assert lines_of(tail, path)[-2:] == ("iteration 1", "iteration 2")
    assert sum(map(len, tidied)) < 20


def test_a_log_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    """Lost: a log that shows lines of another one, after a truncation."""
    path, tail = tmp_path / "log", LogTail()
    path.write_bytes(b"old\n" * 100)
    lines_of(tail, path)
    path.write_bytes(b"new\n" * 50)
    assert lines_of(tail, path) == ("new",) * 50
    path.write_bytes(b"newer\n" * 200)
    assert lines_of(tail, path) == ("newer",) * 200
    (tmp_path / "log.new").write_bytes(b"newer\n" * 200 + b"other file\n")
    (tmp_path / "log.new").replace(path)
    assert lines_of(tail, path)[-1] == "other file"


def test_a_bar_without_a_newline_is_seen_however_long_it_draws(tmp_path: Path) -> None:
    """Lost: the progress of a script that only ever draws its bar."""
    path, tail = tmp_path / "log", LogTail()
    path.write_bytes(b"begun\n")
    for percent in range(1, 6):
        with path.open("ab") as file:
            file.write(b"".join(b"%3d%% %s\r" % (percent, b"." * 70) for _ in range(400)))
        assert lines_of(tail, path)[-1].strip(" .") == f"{percent}%"
