"""The catalogue of checkpoints: real files on disk, their .json made by the trainers' own model."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pidec_train.protocol.episodes import episodes_file
from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import BEST, LAST, CheckpointInfo, sidecar, step_file, write_json
from pidec_tui.manager import cli_checkpoints
from pidec_tui.manager.attempts import AttemptNote, write_note
from pidec_tui.manager.catalogue import Catalogue, Entry, check_hash
from pidec_tui.manager.catalogue_order import Lineage, arranged, matcher, sort_entries
from pidec_tui.manager.inspecting import FILE, Inspections
from pidec_tui.manager.jobs import Job, JobState
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.shelf import Shelf
from tests.manager.jobs_support import QUICK, UPSTREAM


def save(path: Path, step: int = 0, text: str = "weights", **info: Any) -> Path:
    """A checkpoint with its .json; `best` and `last` are links."""
    path.mkdir(parents=True, exist_ok=True)
    file = path / step_file(step)
    content = f"{text} {path} {step}".encode()
    file.write_bytes(content)
    links = {name: info.pop(word, False) for word, name in (("best", BEST), ("last", LAST))}
    told: dict[str, Any] = {
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "kind": "diffusion",
        "created": time.time() - 60,
        "env_id": "PegInsertionSide-v1",
        "obs_dim": 43,
        "act_dim": 7,
        **info,
    }
    write_json(sidecar(file), CheckpointInfo(step=step, **told).model_dump())
    for name, wanted in links.items():
        if wanted:
            (path / name).unlink(missing_ok=True)
            (path / name).symlink_to(file.name)
    return file


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def old(path: Path, content: bytes = b"old weights") -> Path:
    """A file without a .json, not just written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - 9000, time.time() - 9000))
    return path


def run_of(manager: Manager, state: JobState | None = None, **values: Any) -> tuple[Job, Path]:
    """A job and its folder; by default it waits, else it has gone that way."""
    job = manager.add("diffusion", {"demo_path": "d.h5", **values}, name="peg")
    if state is not None:
        with manager._log.write():
            manager._log.move(job.id, JobState.starting)
            manager._log.move(job.id, JobState.running)
            if state is not JobState.running:
                manager._log.move(job.id, state)
    return manager.job(job.id), manager.checkpoint_dir(job.id)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which files were looked into. Those called `old…` are upstream's, others are none."""
    looked: list[Path] = []

    def ask(self: Inspections, path: Path) -> tuple[int | None, str, str]:
        looked.append(path)
        if path.name.startswith("old"):
            return 0, json.dumps(UPSTREAM), ""
        return 2, "", f"pidec-train: {path} is not a checkpoint of a policy\n"

    monkeypatch.setattr(Inspections, "_ask", ask)
    return looked


def extra(manager: Manager, *folders: Path) -> None:
    words = ", ".join(json.dumps(str(folder)) for folder in folders)
    (manager.workspace.jobs / "settings.toml").write_text(f"{QUICK}checkpoint_folders = [{words}]\n")


def looked_into(shelf: Shelf) -> Catalogue:
    found = shelf.read()
    for path in found.pending:
        shelf.inspect(path)
    return shelf.read()


def only(shelf: Shelf, name: str) -> Entry:
    return next(entry for entry in shelf.read().entries if name in str(entry.path))


def test_runs_and_extra_folders_are_told_by_their_json(manager: Manager, tmp_path: Path) -> None:
    """Lost: which checkpoint is the best one, and where the old ones are."""
    job, folder = run_of(manager)
    save(folder, 100, successes=30, episodes=100)
    best = save(folder, 200, successes=62, episodes=100, best=True, last=True, obs_norm="mean_std")
    save(tmp_path / "nas" / "2024" / "peg", 7, origin="adapted", action_norm="min_max")
    extra(manager, tmp_path / "nas")
    found = Shelf(manager).read()
    assert not found.troubles and not found.pending and len(found.entries) == 3
    entry = found.at(best)
    assert entry is not None and entry.evaluation is not None
    assert (entry.run, entry.job, entry.tags, entry.step) == (folder.name, job.id, ("best", "last"), 200)
    assert [round(bound, 2) for bound in entry.evaluation.interval()] == [0.52, 0.71]
    assert (entry.origin, entry.normalised, entry.obs_dim) == ("ours", "obs", 43)
    adapted = next(entry for entry in found.entries if entry.origin == "adapted")
    assert (adapted.run, adapted.job, adapted.normalised) == ("nas/2024/peg", None, "actions")


def test_what_is_wrong_is_marked_and_the_rest_is_listed(
    manager: Manager, tmp_path: Path, asked: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: the whole list, by one cut file, a lost disk or a .json that an editor broke."""
    _, folder = run_of(manager)
    cut, damaged, gone = (save(folder, step) for step in (1, 2, 3))
    cut.write_bytes(b"we")
    sidecar(damaged).write_text('{"size": ')
    os.utime(damaged, (1, 1))
    (folder / "dangling.pt").symlink_to("nothing.pt")
    file = tmp_path / "file"
    file.touch()
    locked = tmp_path / "locked"
    save(locked / "in", 9)
    extra(manager, tmp_path / "nowhere", file, locked)
    scandir = os.scandir

    def refuses(path: Any) -> Any:
        if str(path).endswith("locked/in"):
            raise PermissionError(13, "Permission denied", str(path))
        if "peg" in str(path):
            gone.unlink(missing_ok=True)  # between the list of names and the look at each
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuses)
    found = Shelf(manager).read()
    assert {entry.path: entry.condition for entry in found.entries} == {cut: "cut", damaged: "unread"}
    assert "it has 2 bytes, its .json says" in found.entries[0].note
    said = " ".join(found.troubles)
    assert "nowhere is not there" in said and "file is no folder" in said and "Permission denied" in said


def test_a_file_without_json_is_looked_into_once(manager: Manager, tmp_path: Path, asked: list[Path]) -> None:
    """Lost: seconds of torch for every old file, at every opening; and old files that are never known."""
    theirs, foreign = old(tmp_path / "nas" / "old_best.pt"), old(tmp_path / "nas" / "yolo.pt")
    extra(manager, tmp_path / "nas")
    found = looked_into(Shelf(manager))
    assert sorted(asked) == [theirs, foreign]
    entry, other = found.at(theirs), found.at(foreign)
    assert entry is not None and other is not None
    assert (entry.origin, entry.obs_dim, entry.tags, entry.sha256) == ("ManiSkill2", 50, ("old_best",), sha(theirs))
    assert (other.condition, other.note) == ("foreign", "it is not a checkpoint of a policy")
    assert not Shelf(manager).read().pending, "another dashboard knows"
    old(foreign, b"written anew")
    assert Shelf(manager).read().pending == (foreign,)
    (manager.workspace.jobs / FILE).write_text("{broken")
    assert len(Shelf(manager).read().pending) == 2


def test_a_look_that_fails_is_not_repeated_for_ever(
    manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: a core, to a process that is killed for its memory again and again; kept for ever, the file."""
    extra(manager, tmp_path / "nas")
    file = old(tmp_path / "nas" / "huge.pt")
    monkeypatch.setattr(Inspections, "_ask", lambda self, path: (-9, "", ""))
    found = looked_into(Shelf(manager))
    assert not found.pending and found.entries[0].note == "it could not be looked into"
    assert Shelf(manager).read().pending == (file,)


def test_the_real_inspect_refuses_a_foreign_file(manager: Manager, tmp_path: Path) -> None:
    """Lost: the agreement with `pidec-train inspect` itself, which the other tests stand in for."""
    extra(manager, tmp_path / "nas")
    old(tmp_path / "nas" / "notes.pt", b"not weights")
    (entry,) = looked_into(Shelf(manager)).entries
    assert entry.condition == "foreign" and "not a checkpoint" in entry.note and str(tmp_path) not in entry.note


def test_lineage_goes_by_hash_and_through_a_resumed_run(manager: Manager, tmp_path: Path, asked: list[Path]) -> None:
    """Lost: which base a decorator stands on; after a resumption its parent is an earlier checkpoint of its own."""
    theirs = old(tmp_path / "nas" / "old.pt")
    extra(manager, tmp_path / "nas")
    root = manager.workspace.checkpoints
    adapted = save(root / "adapted", 10, origin="adapted", parent_sha256=sha(theirs))
    first = save(root / "000009-dec", 100, kind="decorator", parent_sha256=sha(adapted))
    resumed = save(root / "000009-dec", 200, kind="decorator", parent_sha256=sha(first))
    named = {"base_policy_ckpt": str(adapted)}
    pruned = save(root / "000010-dec", 300, kind="decorator", parent_sha256="f" * 64, config=named)
    found = looked_into(Shelf(manager))
    lineage = Lineage(found.entries)

    def up(path: Path) -> list[Path]:
        entry = found.at(path)
        assert entry is not None
        return [each.path for each in lineage.ancestors(entry)]

    assert up(resumed) == up(first) == up(pruned) == [adapted, theirs]
    lines = arranged(sort_entries(found.entries, "step"), "lineage", lineage)
    assert [(line.entry.path, line.depth) for line in lines if line.entry] == [
        (theirs, 0), (adapted, 1), (pruned, 2), (resumed, 2), (first, 2),
    ]  # fmt: skip


def test_a_circle_of_parents_ends(manager: Manager) -> None:
    """Lost: the browser, which would never come back from two files that name each other."""
    root = manager.workspace.checkpoints
    save(root / "a", 1, sha256="a" * 64, parent_sha256="b" * 64)
    save(root / "b", 1, sha256="b" * 64, parent_sha256="a" * 64)
    found = Shelf(manager).read()
    lineage = Lineage(found.entries)
    assert len(arranged(found.entries, "lineage", lineage)) == 2
    assert len(lineage.ancestors(found.entries[0])) == 1


def test_filter_and_sort(manager: Manager) -> None:
    """Lost: one checkpoint among thousands."""
    root = manager.workspace.checkpoints
    save(root / "peg-9", 100_000, successes=90, episodes=100)
    save(root / "peg-10", 300_000, kind="decorator", env_id="StackCube-v1", successes=20, episodes=100)
    save(root / "other", 5)
    entries = Shelf(manager).read().entries

    def named(text: str) -> set[str]:
        return {entry.run for entry in entries if matcher(text)(entry)}

    assert named("") == {"peg-9", "peg-10", "other"} and named("peg stack") == {"peg-10"}
    assert named("-decorator PEG-") == {"peg-9"} and named("kind:decor") == {"peg-10"}
    assert named("success>80%") == named("success>0.8") == {"peg-9"}
    assert named("step>=100k -step>200_000") == {"peg-9"}
    assert [entry.run for entry in sort_entries(entries, "success")] == ["peg-9", "peg-10", "other"]
    assert [entry.run for entry in sort_entries(entries, "success", turned=True)] == ["peg-10", "peg-9", "other"]
    assert [entry.run for entry in sort_entries(entries, "run")] == ["other", "peg-9", "peg-10"]
    heads = [line.head for line in arranged(sort_entries(entries, "run"), "runs", Lineage(entries)) if not line.entry]
    assert heads == ["other", "peg-9", "peg-10"]
    with pytest.raises(PidecError, match='did you mean "success"'):
        matcher("sucess>3")
    with pytest.raises(PidecError, match="cannot be compared"):
        matcher("step>many")


def evaluated(manager: Manager, ckpt: str, argv: list[str]) -> Job:
    """An `evaluate` job that has come to its end."""
    job = manager.add("evaluate", {"ckpt": ckpt, "sampler": "ddim"}, name="evaluate")
    folder = manager.workspace.run(job.id).attempt(1)
    folder.path.mkdir(parents=True)
    write_note(folder, AttemptNote(token="t", job=job.id, attempt=1, argv=argv, cwd="/"))
    log, now = manager._log, time.time()
    with log.write():
        log.move(job.id, JobState.starting, started=now - 5)
        log.move(job.id, JobState.running)
        log.insert_attempt(job.id, 1, state="running", token="t", started=now - 5, fresh=1)
    line = {"seq": 0, "time": now, "step": 50, "event": "eval", "phase": "done", "successes": 40, "episodes": 50}
    folder.metrics.write_text(json.dumps(line) + "\n")
    from pidec_tui.manager.ingest import Ingest
    from pidec_tui.manager.metriclog import MetricLog

    Ingest(log, MetricLog(log)).all(job.id, 1, "evaluate", folder.metrics)
    with log.write():
        log.move(job.id, JobState.succeeded, ended=now)
    return manager.job(job.id)


def test_what_evaluate_jobs_found_stands_at_their_checkpoint(manager: Manager) -> None:
    """Lost: an hour of evaluation, because nobody remembers its job; or its result at another file."""
    base, folder = run_of(manager, JobState.succeeded)
    file = save(folder, 10, best=True)
    os.utime(file, (1, 1))
    evaluated(manager, f"@{base.id}/best", ["python", "-m", "pidec_train", "evaluate", str(file)])
    shelf = Shelf(manager)
    (told,) = only(shelf, file.name).evaluations
    assert (told.successes, told.episodes, told.settings) == (40, 50, "sampler ddim")
    later = save(folder, 20, best=True)  # best.pt moves on: what was said of it stays where it was
    evaluations = {path.name: len(only(shelf, path.name).evaluations) for path in (file, later)}
    assert evaluations == {file.name: 1, later.name: 0}
    file.write_bytes(file.read_bytes())  # another file under the old name
    os.utime(file, (time.time() + 60,) * 2)
    assert not only(shelf, file.name).evaluations


# --- the trash -------------------------------------------------------------------------------------------------------


def test_the_trash_takes_all_that_belongs_to_it_and_the_links_move_on(manager: Manager) -> None:
    """Lost: a best.pt that points to nothing, which the next job would read."""
    _, folder = run_of(manager, JobState.succeeded)
    save(folder, 1, successes=5, episodes=10)
    middle = save(folder, 2, successes=7, episodes=10)
    top = save(folder, 3, successes=9, episodes=10, best=True, last=True)
    episodes_file(top).write_text("{}")
    shelf = Shelf(manager)
    why, goes_with_it = shelf.may_go(top)
    assert not why and [said.split()[0] for said in goes_with_it] == ["best.pt", "last.pt"]
    thrown = shelf.throw_away(top)
    assert (folder / BEST).resolve() == (folder / LAST).resolve() == middle
    assert {path.name for path in thrown.folder.iterdir()} == {top.name, sidecar(top).name, episodes_file(top).name}
    assert thrown.folder.is_relative_to(manager.workspace.checkpoints / ".trash") and not top.exists()
    assert [entry.path for entry in shelf.read().entries] == [folder / step_file(1), middle], "the trash is not listed"
    with pytest.raises(PidecError, match="gone already"):
        shelf.throw_away(top)
    shelf.throw_away(middle)
    shelf.throw_away(folder / step_file(1))
    assert not list(folder.iterdir()), "no link is left that points to nothing"


def test_the_base_of_a_decorator_stays(manager: Manager, tmp_path: Path, asked: list[Path]) -> None:
    """Lost: the base of a decorated policy, by hash, by path, or by a hash that nobody has computed yet."""
    root = manager.workspace.checkpoints
    by_hash, by_path = save(root / "a", 1), save(root / "b", 1)
    unread = old(tmp_path / "nas" / "mystery.pt")
    extra(manager, tmp_path / "nas")
    save(root / "da", 5, kind="decorator", parent_sha256=sha(by_hash))
    save(root / "db", 5, kind="decorator", parent_sha256="0" * 64, config={"base_policy_ckpt": str(by_path)})
    save(root / "dc", 5, kind="decorator", parent_sha256=sha(unread))
    shelf = Shelf(manager)
    for path, child in ((by_hash, "da"), (by_path, "db"), (unread, "dc")):
        with pytest.raises(PidecError, match=f"the base of {child} at step 5"):
            shelf.throw_away(path)
        assert path.exists()
    shelf.throw_away(root / "da" / step_file(5))
    shelf.throw_away(by_hash)
    assert not by_hash.exists()


def test_what_a_job_needs_stays(manager: Manager) -> None:
    """Lost: what a waiting job is about to read, what a stopped one goes on from, what a trainer is writing."""
    base, folder = run_of(manager, JobState.succeeded)
    top, low = save(folder, 2, best=True, last=True), save(folder, 1)
    manager.add("evaluate", {"ckpt": f"@{base.id}/best"}, name="later")
    shelf = Shelf(manager)
    with pytest.raises(PidecError, match=r"job 2, later, is queued and reads it \(ckpt\)"):
        shelf.throw_away(top)
    _, running = run_of(manager, JobState.running)
    with pytest.raises(PidecError, match="is running: it goes on from what it saved"):
        shelf.throw_away(save(running, 1))
    fd = os.open(folder, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(PidecError, match="writes its checkpoints"):
        shelf.throw_away(low)
    os.close(fd)
    shelf.throw_away(low)
    assert top.exists() and not low.exists()


# --- pidec-jobs checkpoints ------------------------------------------------------------------------------------------


def command(manager: Manager, *words: str, as_json: bool = True) -> int:
    parser = argparse.ArgumentParser()
    cli_checkpoints.add_options(parser)
    return cli_checkpoints.checkpoints(manager, parser.parse_args(words, argparse.Namespace(json=as_json)))


def test_the_command_tells_the_same(
    manager: Manager, tmp_path: Path, asked: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Lost: checkpoints for scripts, and hashes that a cron job checks."""
    root = manager.workspace.checkpoints
    base = save(root / "a", 1, successes=3, episodes=4)
    child = save(root / "d", 5, kind="decorator", parent_sha256=sha(base))
    old(tmp_path / "nas" / "yolo.pt")
    extra(manager, tmp_path / "nas")
    assert command(manager, "--hash", "--sort", "run") == 0
    told = {row["run"]: row for row in json.loads(capsys.readouterr().out)}
    assert told["d"]["parent"] == str(base) and told["d"]["hash"] == "ok" and told["nas"]["condition"] == "foreign"
    assert told["a"]["success_rate"] == 0.75 and len(told["a"]["wilson_95"]) == 2
    child.write_bytes(child.read_bytes()[::-1])  # as long as before
    assert command(manager, "kind:decorator", "--hash", as_json=False) == 1
    shown = capsys.readouterr()
    assert "do not match the hash" in " ".join(shown.out.split()) and "75%" not in shown.out
    entry = only(Shelf(manager), str(child))
    with pytest.raises(PidecError, match="is damaged"):
        check_hash(entry)
