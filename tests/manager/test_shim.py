"""The parent of one trainer: never starts what was given up, never starts twice, always says how it ended."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pidec_train.protocol.rundir import AttemptDir
from pidec_tui.manager import shim as shim_module
from pidec_tui.manager.attempts import AttemptNote, give_up
from pidec_tui.manager.launchers.local import launch
from pidec_tui.manager.locks import is_held
from pidec_tui.manager.procs import Started, kill_leftovers, members
from tests.manager.jobs_support import alive, until

Launch = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptDir:
    return AttemptDir(tmp_path / "attempt-1")


@pytest.fixture
def start(attempt: AttemptDir, tmp_path: Path) -> Iterator[Launch]:
    """Launch a shell line as the runner does; whatever is left is killed."""

    def go(line: str, *, token: str = "mark", cwd: Path = tmp_path, **environ: str) -> subprocess.Popen[bytes]:
        note = AttemptNote(token=token, job=1, attempt=1, argv=["sh", "-c", line], cwd=str(cwd))
        return launch(attempt, attempt.lock, note, {**os.environ, "PIDEC_ATTEMPT_TOKEN": token, **environ})

    yield go
    kill_leftovers("mark", Started.read(attempt.path))


def ended(attempt: AttemptDir) -> dict[str, Any]:
    return dict(json.loads(attempt.exit.read_text()))


def running(attempt: AttemptDir) -> Started:
    """started.json, once the trainer's process id stands in it."""
    until(lambda: (found := Started.read(attempt.path)) and found.pid, what="the start")
    started = Started.read(attempt.path)
    assert started is not None and started.pid is not None
    return started


@pytest.mark.parametrize(
    ("line", "code", "number", "cause"),
    [
        ("exit 0", 0, None, "exit code 0"),
        ("exit 3", 3, None, "exit code 3"),
        ("kill -9 $$", None, 9, "killed by SIGKILL"),
        ("kill -SEGV $$", None, 11, "killed by SIGSEGV"),
    ],
)
def test_exit_json_tells_how_it_ended(
    start: Launch, attempt: AttemptDir, line: str, code: int | None, number: int | None, cause: str
) -> None:
    """Lost without it: a finished job that the next runner takes for interrupted, and runs again."""
    assert start(f"echo out; echo err >&2; {line}").wait(10) == 0
    record = ended(attempt)
    assert (record["code"], record["signal"], record["cause"]) == (code, number, cause)
    assert record["ended"] >= record["started"]
    assert attempt.output.read_text() == "out\nerr\n"
    assert attempt.exit.stat().st_mode & 0o777 == attempt.output.stat().st_mode & 0o777 == 0o600
    assert not is_held(attempt.lock)


def test_it_starts_within_a_quarter_of_a_second(start: Launch, attempt: AttemptDir) -> None:
    """Best of three: the machine may be busy."""
    times = []
    for number in range(3):
        begin = time.perf_counter()
        start("true").wait(10)
        times.append(time.perf_counter() - begin)
        for path in (attempt.exit, attempt.path / "started.json"):
            path.rename(path.with_suffix(f".{number}"))
    assert min(times) < 0.25, times


def test_a_shim_whose_token_was_changed_starts_nothing(start: Launch, attempt: AttemptDir, tmp_path: Path) -> None:
    """Lost without it: a job that the next runner has queued again runs twice."""
    attempt.path.mkdir()
    lock = os.open(attempt.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    process = start(f"touch {tmp_path}/ran")
    time.sleep(0.3)
    assert process.poll() is None, "it waits for the lock"
    give_up(attempt, "another")
    os.close(lock)
    assert process.wait(10) == 0
    assert not (tmp_path / "ran").exists()
    assert not attempt.exit.exists() and Started.read(attempt.path) is None


def test_an_attempt_that_has_begun_is_not_begun_again(start: Launch, attempt: AttemptDir, tmp_path: Path) -> None:
    line = f"echo x >> {tmp_path}/ran"
    assert start(line).wait(10) == 0
    assert start(line).wait(10) == 0
    assert (tmp_path / "ran").read_text() == "x\n"


def test_the_trainer_keeps_the_lock_when_its_shim_is_killed(start: Launch, attempt: AttemptDir) -> None:
    """Lost without the inherited lock: a runner that takes a living trainer for dead."""
    process = start("sleep 30")
    started = running(attempt)
    process.kill()
    process.wait(10)
    assert not started.shim_alive() and started.trainer_alive()
    assert is_held(attempt.lock)
    os.killpg(started.pid or 0, signal.SIGKILL)
    until(lambda: not is_held(attempt.lock), what="the end of the lock")


def test_sigterm_reaches_the_trainer_and_the_ending_is_written(start: Launch, attempt: AttemptDir) -> None:
    process = start('trap "echo saved; exit 7" TERM; echo up; while :; do sleep 0.05; done')
    running(attempt)
    until(lambda: "up" in attempt.output.read_text())
    process.terminate()
    assert process.wait(10) == 0
    assert ended(attempt)["code"] == 7 and "saved" in attempt.output.read_text()


@pytest.mark.parametrize(
    ("argv", "cwd", "cause"),
    [
        (["/no/such/program"], "", "cannot be started: /no/such/program: No such file or directory"),
        (["true"], "/no/such/folder", "cannot be started: there is no folder /no/such/folder"),
    ],
)
def test_what_cannot_be_started_says_why(attempt: AttemptDir, argv: list[str], cwd: str, cause: str) -> None:
    note = AttemptNote(token="t", job=1, attempt=1, argv=argv, cwd=cwd)
    process = launch(attempt, attempt.lock, note, {**os.environ, "PIDEC_ATTEMPT_TOKEN": "t"})
    assert process.wait(10) == 0
    assert (ended(attempt)["code"], ended(attempt)["cause"]) == (127, cause)


def test_nothing_in_the_jobs_environment_breaks_the_shim(start: Launch, attempt: AttemptDir, tmp_path: Path) -> None:
    """Lost without isolation: a `json.py` in somebody's folder, and no job of theirs ever starts."""
    for name in ("json", "fcntl", "signal", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    assert start("exit 0", PYTHONPATH=str(tmp_path), PYTHONSTARTUP="/x", cwd=tmp_path).wait(10) == 0
    assert ended(attempt)["code"] == 0


def test_the_shim_needs_the_standard_library_only() -> None:
    """Lost without it: 200 ms a job, and a shim that an upgrade of some package breaks in mid-run."""
    code = (
        f"import runpy, sys; runpy.run_path({shim_module.__file__!r})\n"
        "ours = {name.split('.')[0] for name in sys.modules}\n"
        "assert not ours & {'pydantic', 'apsw', 'psutil', 'pidec_train'}, ours"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, timeout=20)


def test_what_is_left_of_an_attempt_is_found_and_ended(start: Launch, attempt: AttemptDir) -> None:
    """Lost without it: workers of a dead trainer that hold the GPU's memory until somebody looks."""
    line = (
        f"{sys.executable} -c 'import time; time.sleep(60)' & "  # same session
        f"setsid sleep 61 & "  # another session, same mark
        f"env -i {sys.executable} -c 'import time; time.sleep(62)' & "  # same session, no mark
        f"(trap '' TERM; sleep 63) & exit 0"  # does not listen
    )
    start(line).wait(10)
    started = Started.read(attempt.path)
    until(lambda: len(members("mark", started)) >= 4, what="four leftovers")
    left = members("mark", started)
    assert kill_leftovers("mark", started) >= 4
    assert members("mark", started) == [] and not any(alive(pid) for pid in left)
    assert kill_leftovers("mark", started) == 0


def test_processes_of_others_are_no_leftovers(start: Launch, attempt: AttemptDir) -> None:
    """Lost without it: the user's editor, killed with the job."""
    bystander = subprocess.Popen(["sleep", "30"], env={**os.environ, "PIDEC_ATTEMPT_TOKEN": "marker2"})
    try:
        start("sleep 20 & exit 0").wait(10)
        assert kill_leftovers("mark", Started.read(attempt.path)) == 1
        assert bystander.poll() is None and alive(os.getpid())
    finally:
        bystander.kill()
        bystander.wait()


def test_a_process_id_that_was_given_anew_is_not_ours() -> None:
    """Lost without start times: a restarted machine whose process 4312 is somebody else's."""
    me = Started("t", shim_module.boot_id(), os.getpid(), shim_module.start_ticks(os.getpid()), None, None, 0.0)
    assert me.shim_alive()
    other = Started("t", me.boot_id, me.shim, (me.shim_ticks or 0) - 5, me.shim, 3, 0.0)
    assert not other.shim_alive() and not other.trainer_alive()
    assert not Started("t", "another boot", me.shim, me.shim_ticks, None, None, 0.0).shim_alive()


def test_out_of_memory_is_told_apart_from_a_kill(
    attempt: AttemptDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kernel's own counter says whether it was the kernel."""
    counts = iter([4, 5])
    monkeypatch.setattr(shim_module, "oom_kills", lambda: next(counts))
    monkeypatch.setattr(shim_module.signal, "signal", lambda *words: None)  # `_run` would take over this process's
    attempt.path.mkdir()
    note = {"argv": ["sh", "-c", "kill -9 $$"], "cwd": str(tmp_path)}
    record = shim_module._run(str(attempt.path), note, {"started": 1.0}, inherited=())
    assert record["signal"] == signal.SIGKILL
    assert record["cause"] == "the host ran out of memory: the kernel killed it"
    monkeypatch.undo()
    assert shim_module.oom_kills() >= 0
