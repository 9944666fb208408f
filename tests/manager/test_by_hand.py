"""Runs that somebody has started with `pidec-train`: found, listed, drawn, and left alone."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pidec_train.protocol.errors import PidecError
from pidec_tui.manager import byhand, cli
from pidec_tui.manager.byhand import ByHand
from pidec_tui.manager.jobs import JobState
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.overview import Overview
from tests.manager.jobs_support import command

NOW = time.time()
START = {
    "event": "start", "kind": "diffusion", "step": 0, "step_name": "iteration", "total_steps": 1000,
    "config": {"lr": 1e-4}, "pid": os.getpid(),
}  # fmt: skip


def write(manager: Manager, name: str, *lines: dict[str, Any], anew: bool = False) -> Path:
    """What pidec-train would have written; each call goes on."""
    path = manager.workspace.runs / name / "attempt-1" / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    seq = 0 if anew or not path.exists() else len(path.read_text().splitlines())
    with path.open("w" if anew else "a") as file:
        for number, line in enumerate(lines, seq):
            file.write(json.dumps({"seq": number, "time": NOW + number, **line}) + "\n")
    return path


def row(step: int, loss: float | None) -> dict[str, Any]:
    return {"step": step, "metrics": {"train/loss": loss}}


def test_a_run_by_hand_is_a_line_with_curves_and_an_end(manager: Manager) -> None:
    """Lost: a training that was started in a hurry, and that no list shows."""
    write(manager, "hand-20261124-103000-Peg-v1", START, row(100, 0.5), row(200, None))
    command(manager, "true")
    (job,) = manager.by_hand()
    assert (job.id, job.name, job.state, job.step, job.total_steps) == (
        -1, "Peg-v1 (by hand)", JobState.running, 200, 1000,
    )  # fmt: skip
    assert job.config == {"lr": 1e-4} and manager.job(-1) == job
    (block,) = manager.curves(-1)
    assert list(block.steps) == [100, 200] and block.columns["train/loss"][0] == 0.5
    assert manager.latest(-1) == {"train/loss": None} and manager.metric_names(-1) == ["train/loss"]
    write(manager, "hand-20261124-103000-Peg-v1", row(300, 0.2), {"event": "end", "state": "succeeded"})
    (more,) = manager.curves(-1, after_row=block.last_row)
    assert list(more.steps) == [300], "a reader goes on where it was"
    assert manager.by_hand()[0].state is JobState.succeeded and manager.by_hand()[0].ended
    assert [event.event for event in manager.events(-1)] == ["start", "end"]
    assert manager.checkpoint_dir(-1) == manager.workspace.checkpoints / "hand-20261124-103000-Peg-v1"
    assert [each.id for each in manager.jobs()] == [1], "it is none of the queue"
    assert len(Overview(manager).lines([manager.job(-1)])) == 1


def test_of_a_long_run_only_what_is_new_is_read(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: the speed of the trainer beside the dashboard, which would read hundreds of rows again for each new one."""
    rows = [row(step, 0.5) for step in range(4000)]
    path = write(manager, "hand-20261124-103000-Peg-v1", START, *rows)
    assert path.stat().st_size > 3 * byhand.PIECE and manager.by_hand()[0].step == 3999
    with monkeypatch.context() as patched:
        patched.setattr(byhand, "parse_metrics", lambda _: pytest.fail("begin and end were read again"))
        with path.open("a") as file:
            file.write('{"seq": 4001, "step": 40')
        assert manager.by_hand()[0].step == 3999, "half a line is none yet"
        with path.open("a") as file:
            file.write('00, "time": 1.0}\n')
        assert manager.by_hand()[0].step == 4000
    write(manager, path.parts[-3], START, row(7, 0.5), anew=True)
    assert manager.by_hand()[0].step == 7, "one that was written anew is read anew"


def test_no_line_is_lost_at_the_border_of_what_is_read_at_once(manager: Manager) -> None:
    """Lost: the last word of a run, which is then said to have failed."""
    path = write(manager, "hand-20261124-103000-Peg-v1", {**START, "pid": 2**22 - 3})
    room = byhand.PIECE - path.stat().st_size - 60
    write(
        manager,
        path.parts[-3],
        {"event": "warning", "message": "x" * (room - 60)},
        {"event": "end", "state": "succeeded"},
    )
    assert byhand.PIECE < path.stat().st_size < byhand.PIECE + 60
    assert manager.by_hand()[0].state is JobState.succeeded


def test_a_row_that_comes_while_the_file_is_opened_breaks_nothing(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: the whole queue for a look, to a ValueError."""
    path = write(manager, "hand-20261124-103000-Peg-v1", START, row(1, 0.5))
    real = Path.open

    def late(self: Path, *how: Any, **more: Any) -> Any:
        if self == path:
            monkeypatch.undo()
            write(manager, path.parts[-3], row(2, 0.4))
        return real(self, *how, **more)

    monkeypatch.setattr(Path, "open", late)
    assert manager.by_hand()[0].step == 2
    write(manager, path.parts[-3], row(3, 0.3))
    assert manager.by_hand()[0].step == 3


def test_who_reads_on_is_told_of_a_new_attempt_from_its_first_row(manager: Manager) -> None:
    """Lost: the curves of a run that was resumed, until it has more rows than before."""
    path = write(manager, "hand-20261124-103000-Peg-v1", START, *[row(step, 0.5) for step in range(9)])
    manager.by_hand()
    (before,) = manager.curves(-1)
    again = path.parent.with_name("attempt-2") / path.name
    again.parent.mkdir()
    again.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    (job,) = manager.by_hand()
    (new,) = manager.curves(-1, after_row=before.last_row)
    assert list(new.steps) == [0, 1] and new.attempt == 2 == job.attempts[-1].number, "it may have begun from nothing"


def test_a_value_beyond_all_bounds_is_none_as_in_the_queue(manager: Manager) -> None:
    """Lost: health, rate and end of all runs, because of one by hand whose loss is infinite."""
    write(manager, "hand-20261124-103000-Peg-v1", START, row(100, 0.5), row(200, math.inf), row(300, 1e300))
    manager.by_hand()
    (block,) = manager.curves(-1)
    assert list(map(math.isnan, block.columns["train/loss"])) == [False, True, True]


def test_a_run_that_vanished_without_a_word_has_failed(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: a run that is said to go on, hours after its terminal was closed; or one that is slow, called dead."""
    monkeypatch.setattr(byhand, "SILENT_S", -1e9)
    old = {"time": NOW - 3600}
    write(manager, "hand-20261124-100000-gone", {**START, **old, "pid": 2**22 - 3}, {**row(1, 1.0), **old})
    write(manager, "hand-20261124-100001-reused", {**START, "time": 1e9, "pid": os.getpid()}, {**row(1, 1.0), **old})
    write(manager, "mine", START, row(1, 1.0))
    states = {job.name: job.state for job in manager.by_hand()}
    assert states == {
        "mine (by hand)": JobState.running,
        "gone (by hand)": JobState.failed,
        "reused (by hand)": JobState.failed,
    }, "the first one's process is there"


def test_numbers_stay_while_runs_come_and_go(manager: Manager) -> None:
    """Lost: a cursor that jumps to another run."""
    write(manager, "hand-20261124-100000-a", START, row(1, 1.0))
    write(manager, "hand-20261124-100001-b", START, row(1, 1.0))
    assert {job.id: job.name for job in manager.by_hand()} == {-1: "a (by hand)", -2: "b (by hand)"}
    path = write(manager, "hand-20261124-090000-earlier", START, row(1, 1.0))
    (manager.workspace.runs / "hand-20261124-100000-a" / "attempt-1" / "metrics.jsonl").unlink()
    assert {job.id: job.name for job in manager.by_hand()} == {-2: "b (by hand)", -3: "earlier (by hand)"}
    assert len(manager.curves(-3)) == 1
    write(manager, path.parent.parent.name, row(7, 1.0), anew=True)
    assert list(manager.curves(-3)[0].steps) == [7], "a file that was written anew is read anew"


def test_all_who_look_mean_the_same_run_by_a_number(manager: Manager) -> None:
    """Lost: `pidec-jobs report h2`, of another run than the dashboard's h2; or tomorrow's dashboard's."""
    write(manager, "hand-20261124-100000-a", START, row(1, 1.0))
    write(manager, "hand-20261124-100001-b", START, row(1, 1.0))
    manager.by_hand()
    write(manager, "hand-20261124-090000-copied-here-later", START, row(1, 1.0))
    first, second = ByHand(manager.workspace), ByHand(manager.workspace)
    seen = {job.id: job.name for job in first.jobs()}
    assert seen == {-1: "a (by hand)", -2: "b (by hand)", -3: "copied-here-later (by hand)"}
    assert seen == {job.id: job.name for job in second.jobs()} == {job.id: job.name for job in manager.by_hand()}
    write(manager, "hand-20261124-100002-c", START, row(1, 1.0))
    first.jobs()
    write(manager, "hand-20261124-080000-d", START, row(1, 1.0))
    newest = {job.name: job.id for job in second.jobs() if job.id < -3}
    assert newest == {"c (by hand)": -4, "d (by hand)": -5}, "one that was found by another"
    (manager.workspace.jobs / byhand.ORDER).write_text("gone\nhand-20261124-100001-b\nhand-20261124-100001-b\n")
    again = {job.name: job.id for job in ByHand(manager.workspace).jobs()}
    assert again["b (by hand)"] == -2 and sorted(again.values()) == [-6, -5, -4, -3, -2], (
        "a number is never given twice"
    )


def test_a_list_without_its_last_newline_keeps_its_numbers(manager: Manager) -> None:
    """Lost: which run is h1, after the disk was full for a moment."""
    write(manager, "hand-20261124-100000-a", START, row(1, 1.0))
    manager.by_hand()
    order = manager.workspace.jobs / byhand.ORDER
    order.write_text(order.read_text().rstrip("\n"))
    write(manager, "hand-20261124-100001-b", START, row(1, 1.0))
    assert {job.id: job.name for job in ByHand(manager.workspace).jobs()} == {-1: "a (by hand)", -2: "b (by hand)"}


def test_where_nothing_may_be_written_the_numbers_last_as_long_as_the_dashboard(manager: Manager) -> None:
    """Lost: all runs by hand, to a guest who may only look at a workspace."""
    (manager.workspace.jobs / byhand.ORDER).mkdir()
    write(manager, "hand-20261124-100000-a", START, row(1, 1.0))
    looking = ByHand(manager.workspace)
    assert [job.id for job in looking.jobs()] == [-1]
    write(manager, "hand-20261124-090000-b", START, row(1, 1.0))
    assert {job.name[0]: job.id for job in looking.jobs()} == {"a": -1, "b": -2}


def test_nothing_of_it_can_be_changed(manager: Manager) -> None:
    """Lost: a trainer of somebody else's, signalled by the queue."""
    write(manager, "hand-20261124-100000-a", START, row(1, 1.0))
    before = {path: path.read_bytes() for path in manager.workspace.runs.rglob("*") if path.is_file()}
    for change in (manager.cancel, manager.hold, manager.release, manager.retry):
        with pytest.raises(PidecError, match="run h1 was started by hand"):
            change(-1)
    for change in (lambda: manager.edit(-1, {"lr": 1}), lambda: manager.move(-1, 1), lambda: manager.clone(-1, {})):
        with pytest.raises(PidecError, match="run h1 was started by hand"):
            change()
    with pytest.raises(PidecError, match=r"there is no run h7 by hand\. There are h1"):
        manager.job(-7)
    assert {path: path.read_bytes() for path in manager.workspace.runs.rglob("*") if path.is_file()} == before
    manager.repair()
    assert manager.jobs() == [] and len(manager.by_hand()) == 1


def test_the_shell_knows_it_as_h1(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Lost: its curves, for whoever works without the dashboard."""
    monkeypatch.setenv("PIDEC_WORKSPACE", str(manager.workspace.root))
    write(manager, "hand-20261124-100000-a", START, row(1, 0.5), row(2, 0.25))
    for words, part in (
        (["list"], "h1  running"), (["top"], "a (by hand)"), (["metrics", "h1", "--csv"], ",0.25"),
        (["show", "h1"], "h1 a (by hand)"), (["list", "--json"], '"id": -1'),
    ):  # fmt: skip
        assert cli.main(words) == 0
        assert part in capsys.readouterr().out, words
    assert cli.main(["report", "h1", "--out", str(tmp_path / "a.html")]) == 0
    assert cli.main(["cancel", "h1"]) == 2 and "started by hand" in capsys.readouterr().err
