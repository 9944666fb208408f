"""Paths and file formats of a run: what survives half-written lines, odd names and a crash while writing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pidec_train.protocol import metric_names, rundir


def test_half_a_line_is_left_for_the_next_read() -> None:
    """Lost: a row of metrics, whenever the reader comes while the trainer writes."""
    whole = b'{"seq":0,"time":1.0,"step":5,"metrics":{"train/loss":0.5,"x":null}}\n'
    half = b'{"seq":1,"time":2.0,"st'
    lines = list(rundir.parse_metrics(whole + half))
    assert [(end, line.seq) for end, line in lines] == [(len(whole), 0)]
    assert lines[0][1].metrics == {"train/loss": 0.5, "x": None}
    assert list(rundir.parse_metrics(half)) == []


def test_junk_between_lines_is_passed_over() -> None:
    """Lost: the curves of a command job that also prints something else."""
    data = b'hello\n{"seq": 3, "event": "warning", "message": "careful"}\n[1]\n{"x":\xff}\n'
    ((_, line),) = rundir.parse_metrics(data)
    assert (line.seq, line.event, line.detail()) == (3, "warning", {"message": "careful"})


def test_the_workspace_is_found_from_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: a second, empty queue, because the command was typed in a subfolder."""
    monkeypatch.delenv("PIDEC_WORKSPACE", raising=False)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "jobs.db").touch()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert rundir.find_workspace(cwd=deep) == tmp_path
    assert rundir.find_workspace(deep) == deep
    (tmp_path / "jobs" / "jobs.db").unlink()
    assert rundir.find_workspace(cwd=deep) == deep
    (tmp_path / "jobs" / "runs").mkdir()  # the job log lies elsewhere: a network file system
    assert rundir.find_workspace(cwd=deep) == tmp_path
    monkeypatch.setenv("PIDEC_WORKSPACE", str(tmp_path / "w"))
    assert rundir.find_workspace(cwd=deep) == tmp_path / "w"


def test_names_become_safe_folders() -> None:
    """Lost: a run whose name holds a slash writes somewhere else."""
    workspace = rundir.Workspace(Path("/w"))
    assert workspace.checkpoint_dir(42, "../peg 1/α") == Path("/w/checkpoints/000042-peg-1")
    assert workspace.run(42).attempt(1).metrics == Path("/w/jobs/runs/000042/attempt-1/metrics.jsonl")
    assert rundir.slug("...") == "run"


def test_attempts_come_in_order_of_their_number(tmp_path: Path) -> None:
    for name in ("attempt-10", "attempt-2", "attempt-x", "other"):
        (tmp_path / name).mkdir()
    assert [number for number, _ in rundir.RunDir(tmp_path).attempts()] == [2, 10]


def test_step_files_sort_by_step(tmp_path: Path) -> None:
    """Lost: the last checkpoint, if 1,000,000,000 sorted before 2."""
    for step in (2, 1_000_000_000, 30):
        path = tmp_path / rundir.step_file(step)
        path.touch()
        rundir.sidecar(path).write_text("{}")
    (tmp_path / "step-000000001.pt").touch()  # no sidecar: still being written
    (tmp_path / "best.pt").symlink_to("step-000000002.pt")
    assert [rundir.step_of(p) for p in rundir.list_checkpoints(tmp_path)] == [2, 30, 1_000_000_000]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: spec.json, if the disk fills up while it is rewritten."""
    path = tmp_path / "spec.json"
    rundir.write_json(path, {"a": 1})
    assert oct(path.stat().st_mode & 0o777) == "0o600"

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        rundir.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["spec.json"]


def test_every_metric_has_its_meaning_once() -> None:
    names = [info.name for info in metric_names.METRICS.values()]
    assert len(names) == len(set(names))
    assert all(info.meaning for info in metric_names.METRICS.values())
    assert metric_names.info("my/own").name == "my/own"


def test_the_metrics_page_says_what_the_code_says(repo: Path) -> None:
    """Lost: a user who looks a curve up finds another meaning than the one that is logged."""
    page = (repo / "docs" / "metrics.md").read_text()
    for info in metric_names.METRICS.values():
        assert f"| `{info.name}` | {info.unit or '–'} | {info.meaning} |" in page
