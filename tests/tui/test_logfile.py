"""Logs of any length, read and searched in pieces; real files."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from pidec_tui.logfile import BLOCK, CHUNK, LogFile, Scan
from pidec_tui.logsteps import step_of
from pidec_tui.plainlog import plain_lines


def opened(path: Path, data: bytes) -> LogFile:
    path.write_bytes(data)
    return LogFile(path)


def scanned(file: LogFile, *words: str) -> Scan:
    scan = Scan(file, words)
    while scan.busy:
        scan.step()
    return scan


def lines_of(file: LogFile, scan: Scan) -> list[str]:
    return [file.line(scan[i]).text for i in range(len(scan))]


def test_lines_are_the_same_from_both_ends(tmp_path: Path) -> None:
    """Lost: lines that are there when one scrolls up and others when one scrolls down."""
    data = b"".join(b"line %d %s\n" % (i, b"x" * (i * 37 % 900)) for i in range(2000)) + b"no end yet"
    file = opened(tmp_path / "log", data)
    forwards = file.after(0, 10_000)
    assert [line.text for line in forwards] == plain_lines(data)
    assert file.before(file.size, 10_000) == forwards
    middle = forwards[1000].start
    assert file.before(middle, 3) == forwards[997:1000] and file.after(middle, 3) == forwards[1000:1003]
    assert file.line_start(middle + 5) == middle


def test_a_file_without_newlines_has_lines_too(tmp_path: Path) -> None:
    """Lost: the memory, to a progress bar of a night or to a file that is no text."""
    data = b"head\n" + b"".join(b"\r%9d/999999" % i for i in range(30_000)) + b"\nend\n"
    file = opened(tmp_path / "log", data)
    forwards = file.after(0, 100)
    assert forwards == file.before(file.size, 100)
    assert (forwards[0].text, forwards[-1].text) == ("head", "end")
    assert 5 < len(forwards) < 15 and all(len(line.text) <= 16 for line in forwards)  # each: what was drawn last
    assert forwards[-2].text == "    29999/999999"
    sparse = tmp_path / "sparse"
    sparse.touch()
    os.truncate(sparse, 1 << 30)
    zeros = LogFile(sparse)
    assert zeros.binary() and not file.binary()
    assert len(zeros.before(zeros.size, 1000)) <= (1 << 20) // BLOCK + 1


def test_a_log_of_50_mb_is_never_held(tmp_path: Path) -> None:
    """Lost: the memory of the machine that trains."""
    piece = b"".join(b"iteration %d  loss 0.0123  948/min\n" % i for i in range(30_000))
    path = tmp_path / "log"
    with path.open("wb") as out:
        for i in range(50):
            out.write(piece + b"the Needle %d\n" % i)
    tracemalloc.start()
    file = LogFile(path)
    assert file.before(file.size, 40)[-1].text == "the Needle 49"
    scan = scanned(file, "needle")
    assert len(scan) == 50 and file.line(scan[0]).text == "the Needle 0"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert file.size > 50_000_000 and peak < 12_000_000


def test_what_is_seen_is_what_is_found(tmp_path: Path) -> None:
    """Lost: a word that has a colour in the middle; found: what a progress bar drew over long ago."""
    data = b"\x1b[31mERR\x1b[1mOR\x1b[0m one\n  1% error\r100% fine\nError two\nnothing\n\xc3\x84rger\na\tb\nlast error"
    file = opened(tmp_path / "log", data)
    scan = scanned(file, "error")
    assert lines_of(file, scan) == ["ERROR one", "Error two", "last error"]
    assert lines_of(file, scanned(file, "ärger")) == ["Ärger"]
    assert lines_of(file, scanned(file, "error", "tw")) == ["Error two"]
    assert lines_of(file, scanned(file, "[31m")) == []
    assert scan.rank(scan[1]) == 2 and scan.rank(scan[1] + 1) is None
    assert scan.before(scan[1], 5) == [scan[0]] and scan.after(scan[1], 5) == [scan[1], scan[2]]


def test_a_search_goes_on_in_what_is_added(tmp_path: Path) -> None:
    """Lost: the newest matches of a run that goes on; or the last line twice, as it was and as it became."""
    path = tmp_path / "log"
    file = opened(path, b"hay\nneedle 1\nhay need")
    scan = scanned(file, "needle")
    assert lines_of(file, scan) == ["needle 1"]
    for added, want in (
        (b"le", ["needle 1", "hay needle"]),
        (b"s\nneedle 3\n", ["needle 1", "hay needles", "needle 3"]),
        (b"hay\n" * (CHUNK // 2) + b"needle 4", ["needle 1", "hay needles", "needle 3", "needle 4"]),
    ):
        with path.open("ab") as out:
            out.write(added)
        assert file.refresh()
        while scan.busy:
            scan.step()
        assert lines_of(file, scan) == want


def test_a_search_begins_at_the_end_and_can_be_stopped(tmp_path: Path) -> None:
    """Lost: the newest lines, until a gigabyte was searched; and the way out of such a search."""
    file = opened(tmp_path / "log", b"needle and some hay\n" * (4 * CHUNK // 20))
    scan = Scan(file, ["needle"])
    scan.step()
    assert scan.busy and 0.2 < scan.share < 0.3 and scan[-1] == file.size - 20
    scan.stop()
    assert not scan.busy and scan.share < 0.3


def test_a_search_keeps_only_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: the memory, to a search for the letter e."""
    monkeypatch.setattr("pidec_tui.logfile.MOST_FOUND", 100)
    file = opened(tmp_path / "log", b"e\n" * (4 * CHUNK // 2))
    scan = scanned(file, "e")
    assert scan.full and not scan.busy and len(scan) <= CHUNK


def test_a_log_that_was_begun_anew_is_known(tmp_path: Path) -> None:
    """Lost: rubbish from the middle of lines, where a log was truncated and written on."""
    path = tmp_path / "log"
    file = opened(path, b"one\ntwo\n")
    path.write_bytes(b"new\n")
    assert not file.refresh()
    file = opened(path, b"one\ntwo\n")
    path.write_bytes(b"another log\nthat is longer already\n")
    assert not file.refresh()
    file = LogFile(path)
    path.rename(tmp_path / "log.1")
    path.write_bytes(b"x\n")
    assert not file.is_at(path) and file.after(0, 1)[0].text == "another log"


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("iteration 4,000/16,000  loss 0.25  600/min  ETA 5 s", 4000),
        ("decision step 20,000: the replay buffer is empty", 20_000),
        ("step=123", 123),
        ("{'step': 12, 'loss': 3}", 12),
        ("global_step=5_000,", 5000),
        ("saved step-000010000.pt", 10_000),
        ("iteration   620,000 of 1,000,000", 620_000),
        (" 25%|##  | 4000/16000 [00:10<00:12]", 4000),
        ("step 300k, 1.5M to go", 300_000),
        ("evaluation at iteration 70,000.", 70_000),
        ("step_time=0.3", None),
        ("step 0.5 s", None),
        ("total_steps: 300", None),
        ("2026/11/24 and nothing else", None),
    ],
)
def test_lines_tell_their_step(text: str, step: float | None) -> None:
    """Lost: the way from a line to the charts; or a way to the wrong place."""
    assert step_of(text) == step


def test_the_runs_own_step_counts_first() -> None:
    """Lost: the right place in the charts of a run that counts something else."""
    assert step_of("demo 7, episode 12", "episode") == 12
    assert step_of("env step 80,000, decision step 5,000", "decision step") == 5000
