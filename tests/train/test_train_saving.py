"""A night's training is its checkpoints: kills and full disks cost at most the one that is being written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pidec_train import checkpoint_folder
from pidec_train.checkpoint import read_payload
from pidec_train.checkpoint_folder import CheckpointFolder
from pidec_train.checkpoint_saver import CheckpointSaver, Saved
from pidec_train.protocol.errors import RunFailed
from pidec_train.protocol.rundir import list_checkpoints, read_checkpoint_info, sidecar, step_file
from tests.train.running import Run
from tests.train.small_disk import on_a_small_disk

INFO = {"kind": "diffusion"}
KILLS = 100


def payload(step: int, kilobytes: int = 4) -> dict[str, Any]:
    return {"step": step, "agent": {"w": torch.full((kilobytes * 256,), float(step))}}


def snapshot(step: int, kilobytes: int = 4) -> Callable[[], tuple[dict[str, Any], dict[str, Any]]]:
    return lambda: (payload(step, kilobytes), INFO)


def steps(folder: Path) -> list[int]:
    return [info.step for path in list_checkpoints(folder) if (info := read_checkpoint_info(path))]


def saved(outcomes: list[Saved]) -> list[tuple[int, Path | None]]:
    return [(outcome.step, outcome.path) for outcome in outcomes]


# --- the saver --------------------------------------------------------------------------------------------------------


def test_the_loop_goes_on_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    saver, copied = CheckpointSaver(CheckpointFolder(tmp_path)), threading.Event()

    def waits_for_the_device() -> tuple[dict[str, Any], dict[str, Any]]:
        copied.wait()
        return payload(1), INFO

    saver.submit(1, waits_for_the_device)
    assert saver.finished() == []
    copied.set()
    (outcome,) = saver.wait()
    assert (outcome.step, outcome.path, outcome.error) == (1, tmp_path / step_file(1), None) and outcome.seconds > 0
    assert saver.finished() == saver.wait() == [], "each outcome is told once"
    saver.close()
    saver.close()


def test_saves_come_one_after_the_other_and_each_is_told(tmp_path: Path) -> None:
    saver = CheckpointSaver(CheckpointFolder(tmp_path))
    for step in (1, 2, 3):
        saver.submit(step, snapshot(step), keep=step == 2)
    assert saved(saver.wait()) == [(step, tmp_path / step_file(step)) for step in (1, 2, 3)]
    assert steps(tmp_path) == [2, 3], "2 is kept until its evaluation is over, 3 is the last one"


def test_what_goes_wrong_in_a_save_is_told(tmp_path: Path) -> None:
    """A checkpoint that is silently missing is found missing when it is needed."""
    folder = CheckpointFolder(tmp_path / "ck")
    saver = CheckpointSaver(folder)

    def diverged() -> tuple[dict[str, Any], dict[str, Any]]:
        raise RunFailed("the weights are not finite")

    saver.submit(1, diverged, keep=True)
    (first,) = saver.wait()
    shutil.rmtree(folder.path)
    saver.submit(2, snapshot(2), keep=True)
    (second,) = saver.wait()
    assert isinstance(first.error, RunFailed) and first.path is None
    assert isinstance(second.error, OSError) and second.error.errno == errno.ENOENT
    folder.path.mkdir()
    saver.submit(3, snapshot(3))
    assert saver.wait()[0].path == folder.path / step_file(3)


def test_a_bug_in_a_save_ends_the_run(tmp_path: Path) -> None:
    saver = CheckpointSaver(CheckpointFolder(tmp_path))
    saver.submit(1, lambda: (payload(1), {"kind": 1}))
    with pytest.raises(ValueError, match="kind"):
        saver.wait()
    saver.close()


# --- the folder, while two threads use it -----------------------------------------------------------------------------


def test_a_checkpoint_waits_for_its_evaluation(tmp_path: Path) -> None:
    """Evaluation is slower than saving: what it is to read would be deleted before it comes to it."""
    folder = CheckpointFolder(tmp_path)
    folder.keep(tmp_path / step_file(2))
    paths = {step: folder.save(payload(step), INFO) for step in (1, 2, 3, 4)}
    assert steps(tmp_path) == [2, 4]
    assert folder.record_evaluation(paths[2], 1, 2)
    folder.release(paths[2])
    assert steps(tmp_path) == [2, 4], "it is the best one now"
    folder.keep(paths[4])
    folder.save(payload(5), INFO)
    assert not folder.record_evaluation(paths[4], 0, 2)
    assert steps(tmp_path) == [2, 4, 5]
    folder.release(paths[4])
    assert steps(tmp_path) == [2, 5]


def test_an_evaluation_recorded_in_mid_save_deletes_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CheckpointFolder(tmp_path)
    saver = CheckpointSaver(folder)
    first = folder.save(payload(1), INFO)
    writing, go_on = threading.Event(), threading.Event()
    write = torch.save

    def slowly(*args: Any) -> None:
        write(*args)
        writing.set()
        go_on.wait()

    monkeypatch.setattr(checkpoint_folder.torch, "save", slowly)
    saver.submit(2, snapshot(2))
    writing.wait()
    assert folder.record_evaluation(first, 1, 1), "and it does not wait for the save"
    go_on.set()
    assert saved(saver.wait()) == [(2, tmp_path / step_file(2))]
    assert steps(tmp_path) == [1, 2]
    assert [checkpoint_folder.damage(path) for path in list_checkpoints(tmp_path)] == ["", ""]


def test_unevaluated_are_found_after_a_kill_newest_first(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for step in range(1, 7):
        folder.keep(folder.save(payload(step), INFO))
    folder.record_evaluation(tmp_path / step_file(4), 0, 5)
    sound = (tmp_path / step_file(2)).read_bytes()
    (tmp_path / step_file(2)).write_bytes(sound[:-1])
    again = CheckpointFolder(tmp_path)
    assert [path.name for path in again.unevaluated(lambda step: step % 2 == 0)] == [step_file(6)]
    assert [path.name for path in again.unevaluated(lambda step: step < 4)] == [step_file(3), step_file(1)]


def test_a_kill_between_result_and_link_does_not_lose_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path)
    best = folder.save(payload(1), INFO)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_folder, "_link", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            folder.record_evaluation(best, 3, 5)
    again = CheckpointFolder(tmp_path)
    later = [again.save(payload(step), INFO) for step in (2, 3)][-1]
    assert steps(tmp_path) == [1, 3]
    assert again.record_evaluation(later, 1, 5) is False
    assert (tmp_path / "best.pt").resolve() == best


def test_a_kill_in_the_last_evaluation_does_not_leave_best_behind(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its result is noted, the link did not move any more, and no later evaluation would move it."""
    assert run() == 0
    checkpoint = run.checkpoints / step_file(12)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_folder, "_link", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            CheckpointFolder(run.checkpoints).record_evaluation(checkpoint, 3, 5)
    assert not (run.checkpoints / "best.pt").exists()
    assert run("--resume") == 0
    assert (run.checkpoints / "best.pt").resolve() == checkpoint


def test_two_runs_do_not_write_into_one_folder(run: Run, capsys: Any) -> None:
    """Each would replace the other's checkpoints, and both would end well."""
    assert run() == 0
    with CheckpointFolder(run.checkpoints).alone():
        assert run() == 2
        assert run("--resume") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("pidec-train: another run writes its checkpoints to ")
    assert run("--total-iters", "6") == 0, "once it is over, the folder is free"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said_at_once(run: Run, capsys: Any) -> None:
    """And not after a night, at the first checkpoint."""
    run.checkpoints.mkdir(parents=True)
    run.checkpoints.chmod(0o500)
    assert run() == 2
    assert "cannot be written" in capsys.readouterr().err


# --- kills ------------------------------------------------------------------------------------------------------------

# Torch is imported once; each child is a fork that trains nothing and saves all the time.
KILLED_AGAIN_AND_AGAIN = """
import itertools, json, os, random, signal, sys, time, traceback
from pathlib import Path
import torch
from pidec_train.checkpoint_folder import CheckpointFolder
from pidec_train.checkpoint_saver import CheckpointSaver
from pidec_train.protocol.rundir import list_checkpoints, step_of

torch.set_num_threads(1)
path, kills = Path(sys.argv[1]), int(sys.argv[2])
moments = random.Random(0)

def train(pipe):
    folder = CheckpointFolder(path)
    saver = CheckpointSaver(folder)
    waiting = folder.unevaluated(lambda at: at % 2 == 0)
    for checkpoint in waiting:
        folder.keep(checkpoint)
    begin = max(map(step_of, list_checkpoints(path)), default=0) + 1
    rates = random.Random(begin)
    for step in itertools.count(begin):
        weights = {"w": torch.full((4096,), float(step))}
        saver.submit(step, lambda: ({"step": step, "agent": weights}, {"kind": "diffusion"}), keep=step % 2 == 0)
        if waiting:  # an evaluation is over, in the middle of this save
            checkpoint, rate = waiting.pop(), rates.randrange(50)
            folder.record_evaluation(checkpoint, rate, 1000)
            tell(pipe, rate=rate)
            folder.release(checkpoint)
        for outcome in saver.wait() if step % 5 == 0 else saver.finished():
            assert outcome.error is None, outcome
            tell(pipe, saved=outcome.step)
            if outcome.step % 2 == 0:
                waiting.append(outcome.path)

def tell(pipe, **fact):
    os.write(pipe, json.dumps(fact).encode() + b"\\n")

for _ in range(kills):
    told, pipe = os.pipe()
    child = os.fork()
    if not child:
        try:
            train(pipe)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    os.close(pipe)
    time.sleep(moments.uniform(0, 0.12))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child failed by itself"
    with os.fdopen(told) as lines:
        print(lines.read().replace("\\n", " "), flush=True)
    sys.stdin.readline()  # until what is left has been looked at
"""


def test_kills_at_any_moment_leave_every_listed_checkpoint_whole(tmp_path: Path) -> None:
    """At most the checkpoint that is being written is lost, and no result that was once recorded."""
    command = [sys.executable, "-c", KILLED_AGAIN_AND_AGAIN, str(tmp_path), str(KILLS)]
    last_saved, best_rate, torn, rounds = 0, -1, 0, 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as zygote:
        assert zygote.stdin and zygote.stdout
        for line in zygote.stdout:
            rounds += 1
            for fact in map(json.loads, line.replace("} {", "}\n{").splitlines() if line.strip() else []):
                last_saved = max(last_saved, fact.get("saved", 0))
                best_rate = max(best_rate, fact.get("rate", -1))
            listed = list_checkpoints(tmp_path)
            links = [link for name in ("best.pt", "last.pt") if (link := tmp_path / name).is_symlink()]
            for path in [*listed, *(link.resolve() for link in links)]:
                assert checkpoint_folder.damage(path) == ""
                contents, info = read_payload(path), read_checkpoint_info(path)
                assert info and contents["step"] == info.step and (contents["agent"]["w"] == info.step).all()
            if last_saved:
                last = read_checkpoint_info((tmp_path / "last.pt").resolve())
                assert last and last.step >= last_saved and steps(tmp_path)[-1] >= last.step
            if best_rate >= 0:
                rates = [info.successes for path in listed if (info := read_checkpoint_info(path))]
                assert max(rate for rate in rates if rate is not None) >= best_rate
            torn += any(path.name.startswith(".") or not sidecar(path).exists() for path in tmp_path.iterdir())
            zygote.stdin.write("\n")
            zygote.stdin.flush()
    assert zygote.returncode == 0 and rounds == KILLS
    assert last_saved > KILLS and best_rate > 0 and torn > 0, "they really came in the middle of saving"
    folder = CheckpointFolder(tmp_path)
    folder.save(payload(last_saved + 1000), INFO)
    kept = {step_file(step).removesuffix(".pt") + end for step in steps(tmp_path) for end in (".pt", ".json")}
    assert {path.name for path in tmp_path.iterdir()} == kept | {"best.pt", "last.pt"}, "nothing else piles up"


# --- a full disk ------------------------------------------------------------------------------------------------------

ON_A_SMALL_DISK = """
import errno, os, sys
from pathlib import Path
import torch
from pidec_train import checkpoint_folder
from pidec_train.checkpoint import read_payload
from pidec_train.checkpoint_folder import CheckpointFolder
from pidec_train.checkpoint_saver import CheckpointSaver
from pidec_train.protocol.rundir import list_checkpoints, step_of

disk = Path(sys.argv[1])
folder = CheckpointFolder(disk / "ck")
saver = CheckpointSaver(folder)

def save(step, kilobytes):
    weights = {str(part): torch.full((kilobytes * 32,), float(step)) for part in range(8)}
    saver.submit(step, lambda: ({"step": step, "agent": weights}, {"kind": "diffusion"}))
    (outcome,) = saver.wait()
    if outcome.path:
        folder.keep(outcome.path)
    return outcome.error

def whole():
    for path in list_checkpoints(folder.path):
        assert checkpoint_folder.damage(path) == "", path
        step = step_of(path)
        assert all((part == step).all() for part in read_payload(path)["agent"].values())
    read_payload(folder.path / "last.pt")
    assert len(list(folder.path.iterdir())) == 2 * len(list_checkpoints(folder.path)) + 1, "no halves take up room"
    return [step_of(path) for path in list_checkpoints(folder.path)]

def attempt(kilobytes):
    # Whether it was saved; if not, the error is the right one and nothing else has changed.
    global step
    step += 1
    error = save(step, kilobytes)
    if error is None:
        saved.append(step)
    else:
        assert isinstance(error, OSError) and error.errno == errno.ENOSPC, repr(error)
    assert whole() == saved
    assert step_of((folder.path / "last.pt").resolve()) == saved[-1]
    return error is None

def fill():
    try:
        while True:
            filler.write(bytes(page))
    except OSError:
        pass

step, saved, page = 0, [], 4096
while attempt(700):
    pass
filler = (disk / "filler").open("ab", buffering=0)
fill()
size = os.path.getsize(disk / "filler") // page * page
failures = 0
for spare in range(40):  # one page more each time: what fails is the .pt's beginning, its middle, at last the .json
    os.truncate(disk / "filler", size - spare * page)
    if attempt(16):
        break
    failures += 1
assert len(saved) > 2 and 3 < failures < 39
fill()
try:
    folder.record_evaluation(list_checkpoints(folder.path)[-1], 1, 2)
except OSError as error:
    assert error.errno == errno.ENOSPC
assert whole() == saved
for path in list_checkpoints(folder.path)[:-1]:
    folder.release(path)
assert save(step + 1, 700) is None
assert whole() == [saved[-1], step + 1]
"""


def test_a_full_disk_costs_only_what_does_not_fit(tmp_path: Path) -> None:
    """Training goes on when somebody else has filled the disk, and saves again when there is room."""
    done = on_a_small_disk(tmp_path, ON_A_SMALL_DISK)
    assert done.returncode == 0, done.stderr
