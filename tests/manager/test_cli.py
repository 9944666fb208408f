"""`pidec-jobs` as a user types it: one process a command."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from pidec_tui.manager.jobs import JobState
from pidec_tui.manager.manager import Manager
from tests.manager.conftest import end_everything
from tests.manager.jobs_support import QUICK, alive, command, until, wait_for

Done = subprocess.CompletedProcess[str]


class Shell:
    """A shell in some folder, with a workspace in its environment."""

    def __init__(self, workspace: Path, cwd: Path) -> None:
        self.workspace, self.cwd = workspace, cwd
        self.environ = {**os.environ, "PIDEC_WORKSPACE": str(workspace), "COLUMNS": "200"}

    def __call__(self, *words: str, **environ: str) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "pidec_tui.manager.cli", *words],
            cwd=self.cwd, env={**self.environ, **environ}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def json(self, *words: str) -> Any:
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Shell]:
    workspace, cwd = tmp_path / "ws", tmp_path / "here"
    cwd.mkdir()
    (workspace / "jobs").mkdir(parents=True)
    (workspace / "jobs" / "settings.toml").write_text(QUICK)
    yield Shell(workspace, cwd)
    end_everything(Manager.open(workspace))


def test_looking_begins_no_workspace(tmp_path: Path) -> None:
    """Lost without it: `pidec-jobs list` in $HOME, and from then on every folder below has its queue there."""
    home = Shell(tmp_path / "home", tmp_path)
    assert home.json("list") == [] and home.json("runner", "status") == {"pid": None}
    assert "quickstart" in [preset["name"] for preset in home.json("presets")]
    done = home("show", "1")
    assert done.returncode == 2 and "there is no workspace in" in done.stderr
    assert not (tmp_path / "home").exists()


def test_a_job_from_add_to_its_log(jobs: Shell) -> None:
    """The five lines of the README."""
    line = (
        """printf '{"seq": 0, "step": 3, "time": 5, "metrics": {"a": 1, "b": 2}}\\n' > $PIDEC_RUN_DIR/metrics.jsonl"""
    )
    added = jobs.json("add", "--command", f"echo hello; pwd; {line}")
    assert added == {"id": 1}
    assert jobs("wait", "1").returncode == 0
    shown = jobs.json("show", "1")
    assert {"id", "state", "waiting_for", "attempts", "config"} <= set(shown)
    assert (shown["state"], shown["attempts"][0]["exit_code"]) == ("succeeded", 0)
    assert shown["config"]["command"].startswith("echo hello")
    assert jobs("log", "1").stdout == f"hello\n{jobs.cwd}\n"
    assert jobs.json("metrics", "1") == [{"step": 3, "time": 5.0, "metrics": {"a": 1.0, "b": 2.0}}]
    assert jobs.json("metrics", "1", "--key", "b") == [{"step": 3, "time": 5.0, "metrics": {"b": 2.0}}]
    assert [job["id"] for job in jobs.json("list")] == [1]
    assert "echo hello" in jobs("list").stdout
    assert "exit code 0" in jobs("show", "1").stdout
    pid = jobs.json("runner", "status")["pid"]
    assert alive(pid)
    assert jobs.json("runner", "stop") == {"pid": None} == jobs.json("runner", "status")
    until(lambda: not alive(pid))


def test_workspace_and_json_go_before_or_after_the_command(jobs: Shell, tmp_path: Path) -> None:
    """Lost without it: half of all first tries."""
    other = str(tmp_path / "other")
    assert json.loads(jobs("--json", "--workspace", other, "list").stdout) == []
    assert json.loads(jobs("list", "--workspace", other, "--json").stdout) == []
    jobs("add", "--command", "true", "--no-runner")
    assert json.loads(jobs("--workspace", other, "list", "--json").stdout) == []
    assert len(json.loads(jobs("--json", "list").stdout)) == 1


def test_list_is_quick_and_imports_no_torch_and_no_textual(jobs: Shell) -> None:
    """Lost without it: a status line in a shell prompt. CPU time, best of three: the machine may be busy."""
    jobs("add", "--command", "true", "--no-runner")

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert jobs("list").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5
    code = (
        "import sys; from pidec_tui.manager.cli import main; main(['list']); "
        "heavy = {n.split('.')[0] for n in sys.modules} & "
        "{'torch', 'textual', 'numpy', 'h5py', 'wandb', 'mani_skill', 'sapien', 'pynvml'}; assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], env=jobs.environ, cwd=jobs.cwd, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["lst"], 'there is no "lst" here: did you mean "list"?'),
        (["add", "quikstart"], 'there is no preset "quikstart": did you mean "quickstart"?'),
        (["add", "gone.toml"], 'there is no preset file "gone.toml"'),
        (["add", "quickstart", "--set", "totl_iters=3"], 'did you mean "total_iters"?'),
        (["add", "quickstart", "--set", "total_iters=many"], "total_iters = 'many'"),
        (["add", "quickstart", "--set", "total_iters"], "must be KEY=VALUE"),
        (["add", "quickstart", "--set", f"total_iters={10**23}"], "steps are more than a job can count"),
        (["retry", "7", "--extend-to", "many"], "argument --extend-to: invalid int value: 'many'"),
        (["add", "quickstart", "--lane", "gpux"], 'did you mean "gpu"?'),
        (["add", "quickstart", "--set", "demo_path=@1/bset"], 'demo_path = "@1/bset" names no checkpoint of a job'),
        (["add"], "add takes either a preset or --command LINE"),
        (["add", "quickstart", "--command", "true"], "add takes either"),
        (["add", "--command", "true", "--after", "9"], "there is no job 9"),
        (["show", "7"], "there is no job 7"),
        (["cancel", "abc"], '"abc" is no job: jobs have numbers'),
        (["show"], "the following arguments are required: ID"),
        (["runner", "stat"], 'did you mean "start"?'),
        (["add", "quickstart", "--workspace", "/dev/null/x"], "cannot be written"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(jobs: Shell, words: list[str], line: str) -> None:
    (jobs.workspace / "jobs" / "runs").mkdir()
    done = jobs(*words, *(["--no-runner"] if words[0] == "add" else []))
    assert done.returncode == 2, done
    assert line in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_a_newer_job_log_is_one_line_and_exit_code_2(jobs: Shell) -> None:
    """Lost without it: a script that tries again and again what only an update helps."""
    jobs("add", "--command", "true", "--no-runner")
    (database,) = jobs.workspace.rglob("jobs.db")
    connection = apsw.Connection(str(database))
    version = connection.pragma("user_version")
    connection.pragma("user_version", 99)
    for words in (["list"], ["add", "quickstart"], ["repair"], ["runner", "start"]):
        done = jobs(*words)
        assert done.returncode == 2 and done.stdout == "", done
        assert "has version 99" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    connection.pragma("user_version", version)
    connection.close()


def test_presets_are_added_with_values_of_ones_own(jobs: Shell) -> None:
    (jobs.cwd / "mine.h5").touch()
    added = jobs.json(
        "add", "diffusion-peg", "--no-runner", "--held", "--name", "try", "--set", "unet_dims=[16,32]", "lr=1e-3",
        "--set", "demo_path=mine.h5", "--set", "exp_name=123", "track=true", "num-eval-envs=2",
    )  # fmt: skip
    shown = jobs.json("show", str(added["id"]))
    config = shown["config"]
    assert (config["unet_dims"], config["lr"], config["exp_name"]) == ([16, 32], 1e-3, "123")
    assert config["demo_path"] == str(jobs.cwd / "mine.h5"), "a path on the command line counts from here"
    assert config["track"] is True and config["num_eval_envs"] == 2
    assert (shown["state"], shown["name"], shown["preset"]) == ("held", "try", "diffusion-peg")
    assert "warning: track is on" in jobs("add", "quickstart", "--no-runner", "--set", "track=true").stderr


def test_demos_that_are_not_there_are_said_at_once(jobs: Shell) -> None:
    """Lost without it: the night. The job waits behind another one, and ends at 3 o'clock after two seconds."""
    added = jobs("add", "diffusion-peg", "--no-runner", "--json")
    assert (
        json.loads(added.stdout) == {"id": 1} and 'PegInsertionSide-v1.h5": there is no such file yet' in added.stderr
    )
    assert jobs("add", "quickstart", "--no-runner").stderr == ""
    assert jobs("add", "diffusion-peg", "--no-runner", "--after", "1").stderr == "", "that job makes them"


def test_values_may_stand_before_the_preset(jobs: Shell) -> None:
    """Lost without it: `--set lr=1 quickstart` takes the preset for a value."""
    jobs("add", "--command", "true", "--no-runner")
    added = jobs.json("add", "--no-runner", "--set", "lr=0.5", "seed=7", "--after", "1", "quickstart")
    shown = jobs.json("show", str(added["id"]))
    assert (shown["config"]["lr"], shown["config"]["seed"], shown["after"]) == (0.5, 7, [1])
    assert jobs.json("edit", "--set", "lr=0.25", "seed=8", "2")["config"]["seed"] == 8


def test_a_preset_file_is_added_by_its_path(jobs: Shell) -> None:
    (jobs.cwd / "mine.toml").write_text('kind = "command"\nlane = "gpu"\n[config]\ncommand = "echo mine"\n')
    jobs("add", "mine.toml", "--no-runner")
    shown = jobs.json("show", "1")
    assert (shown["name"], shown["lane"], shown["config"]) == ("mine", "gpu", {"command": "echo mine"})
    assert "mine" not in jobs("presets").stdout.split()
    assert {"quickstart", "diffusion-peg"} <= {preset["name"] for preset in jobs.json("presets")}


def test_the_queue_is_changed_from_the_shell(jobs: Shell) -> None:
    for _ in range(3):
        jobs("add", "--command", "true", "--no-runner")
    assert jobs.json("move", "3", "--to", "1")["id"] == 3
    assert [job["id"] for job in jobs.json("list")] == [3, 1, 2]
    assert jobs.json("hold", "1")["state"] == "held"
    assert jobs.json("release", "1", "--no-runner")["state"] == "queued"
    assert jobs.json("edit", "1", "--set", "command=echo 5")["config"] == {"command": "echo 5"}
    assert jobs.json("cancel", "1", "--no-runner")["state"] == "cancelled"
    assert jobs.json("retry", "1", "--no-runner")["state"] == "queued"
    assert jobs.json("repair")["jobs"] == 3


def test_after_takes_several_jobs(jobs: Shell) -> None:
    for _ in range(2):
        jobs("add", "--command", "true", "--no-runner")
    jobs("add", "--command", "true", "--no-runner", "--after", "1", "2")
    assert jobs.json("show", "3")["waiting_for"] == "jobs 1 and 2"


def test_wait_tells_by_its_exit_code(jobs: Shell) -> None:
    """Lost without it: scripts that chain trainings."""
    jobs("add", "--command", "exit 3")
    assert jobs("wait", "1").returncode == 1
    jobs("add", "--command", "sleep 30")
    late = jobs("wait", "2", "--timeout", "0.3")
    assert late.returncode == 1 and "still" in late.stderr
    jobs("add", "--command", "true", "--after", "1")
    held = jobs("wait", "3")
    assert held.returncode == 1 and "job 1, which it comes after, failed" in held.stderr
    jobs("cancel", "2")
    assert jobs("wait", "2").returncode == 1


def test_wait_starts_the_runner_again_if_it_dies(jobs: Shell) -> None:
    """Lost without it: a script that waits for ever."""
    jobs("add", "--command", "sleep 1", "--no-runner")
    jobs("add", "--command", "true", "--no-runner")
    words = [sys.executable, "-m", "pidec_tui.manager.cli", "wait", "2"]
    waiting = subprocess.Popen(words, env=jobs.environ, cwd=jobs.cwd, stderr=subprocess.DEVNULL)
    manager = Manager.open(jobs.workspace)
    wait_for(manager, 1, JobState.running)
    os.kill(manager.runner_pid() or 0, signal.SIGKILL)
    assert waiting.wait(30) == 0
    manager.close()


def test_log_follows_until_the_job_ends(jobs: Shell) -> None:
    jobs("add", "--command", "for n in 1 2 3; do echo line $n; sleep 0.2; done")
    assert jobs("log", "-f", "1").stdout == "line 1\nline 2\nline 3\n"
    assert jobs("log", "1", "--attempt", "4").returncode == 2
    jobs("add", "--command", "true", "--held", "--no-runner")
    assert "job 2 is held" in jobs("log", "-f", "2").stderr, "it ends, and says why"


def test_ctrl_c_ends_a_command_quietly(jobs: Shell) -> None:
    jobs("add", "--command", "echo up; sleep 30")
    process = subprocess.Popen(
        [sys.executable, "-m", "pidec_tui.manager.cli", "log", "-f", "1"],
        env=jobs.environ, cwd=jobs.cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 130 and errors == b""


def test_a_pipe_that_is_closed_early_is_no_error(jobs: Shell) -> None:
    manager = Manager.open(jobs.workspace)
    command(manager, "seq 200000")
    manager.ensure_runner()
    wait_for(manager, 1)
    manager.close()
    line = f"{sys.executable} -m pidec_tui.manager.cli log 1 | head -1"
    done = subprocess.run(["sh", "-c", line], env=jobs.environ, cwd=jobs.cwd, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_the_terminal_that_added_a_job_may_close(jobs: Shell) -> None:
    """Lost without a session of its own: the night's training, with the ssh connection."""
    line = f"{sys.executable} -m pidec_tui.manager.cli add --command 'sleep 1; echo survived' && kill -HUP -$$"
    subprocess.run(["setsid", "-w", "sh", "-c", line], env=jobs.environ, cwd=jobs.cwd, capture_output=True, timeout=30)
    manager = Manager.open(jobs.workspace)
    assert wait_for(manager, 1).state is JobState.succeeded
    manager.close()


def test_a_job_may_add_jobs_and_the_runner_it_starts_is_not_part_of_it(jobs: Shell) -> None:
    """Lost without it: a runner that dies with the job from within which it was started."""
    inner = f"{sys.executable} -m pidec_tui.manager.cli"
    jobs("add", "--command", f"{inner} runner stop; {inner} add --command 'echo inner'")
    manager = Manager.open(jobs.workspace)
    until(lambda: len(manager.jobs()) == 2)
    assert wait_for(manager, 2).state is JobState.succeeded
    assert wait_for(manager, 1).state is JobState.succeeded
    manager.close()


def test_help_names_every_command(jobs: Shell) -> None:
    text = jobs("--help").stdout
    for name in ("add", "list", "show", "log", "metrics", "cancel", "retry", "hold", "release", "edit", "move", "wait"):
        assert re.search(rf"^ +{name} ", text, re.M), name


def test_what_was_queued_is_told_though_no_runner_comes_up(jobs: Shell, tmp_path: Path) -> None:
    """Lost: the number of the job, which is then queued once more, and runs twice."""
    beat = {"host": "pod-b", "machine": "another boot", "pid": 1, "time": time.time()}
    (jobs.workspace / "jobs" / "runner.json").write_text(json.dumps(beat))
    added = jobs("add", "--command", "true", "--json", PIDEC_STATE_DIR=str(tmp_path / "state"))
    assert (added.returncode, json.loads(added.stdout)) == (1, {"id": 1}) and "a runner on pod-b" in added.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["list"], "/file is a file. Set PIDEC_STATE_DIR to a folder that you own, or to none"),
        (["top", "--workspace", "~nobody-is-called-so/ws"], "there is no workspace in"),
        (["add", "~nobody-is-called-so/x.toml"], 'there is no preset file "~nobody-is-called-so/x.toml"'),
        (["top", "--every", "nan"], "there is no such pause"),
        (["top", "--every", "1e10"], "there is no such pause"),
    ],
)
def test_what_cannot_be_is_one_line(jobs: Shell, tmp_path: Path, words: list[str], says: str) -> None:
    """Lost: what to do, to a traceback or to advice about another folder."""
    (tmp_path / "file").touch()
    (jobs.workspace / "jobs" / "runs").mkdir()
    done = jobs(*words, PIDEC_STATE_DIR=str(tmp_path / "file") if words == ["list"] else "")
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("door", "code"),
    [
        ("pidec_tui.manager.cli list", 1),
        ("pidec_train diffusion", 1),
        ("pidec_tui --once", 2),
        ("pidec_tui --workspace ws --once", 2),
    ],
)
def test_a_folder_that_is_gone_is_told(tmp_path: Path, door: str, code: int) -> None:
    """Lost: which file "No such file or directory" is about."""
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f"rmdir {gone}; exec {sys.executable} -m {door}"
    environ = {name: value for name, value in os.environ.items() if name != "PIDEC_WORKSPACE"}
    done = subprocess.run(["sh", "-c", line], cwd=gone, env=environ, capture_output=True, text=True, timeout=60)
    assert done.stderr.endswith("the folder that this was started in is gone. cd to another one, and start it there\n")
    assert done.returncode == code and done.stderr.count("\n") == 1


def test_a_user_that_is_not_there_is_no_traceback(jobs: Shell) -> None:
    """Lost: that the name behind ~ is mistyped. A shell leaves such a path as it is, and so it names a folder."""
    (jobs.workspace / "jobs" / "runs").mkdir()
    done = jobs("list", PIDEC_STATE_DIR="~nobody-is-called-so")
    assert done.returncode == 0 and "/~nobody-is-called-so/" in done.stderr
    warned = jobs("add", "quickstart", "--set", "demo_path=~nobody-is-called-so/x.h5", "--no-runner")
    assert "Traceback" not in warned.stderr and "~nobody-is-called-so/x.h5" in warned.stderr


@pytest.mark.parametrize("words", [["list"], ["top", "--once"], ["add", "quickstart"], ["repair"]])
def test_a_workspace_that_is_a_file_is_called_one(jobs: Shell, tmp_path: Path, words: list[str]) -> None:
    """Lost: the mistake in the path, to "the queue is empty" and advice that would begin a workspace there."""
    (tmp_path / "job.toml").touch()
    for path in ("job.toml", "job.toml/deeper"):
        done = jobs(*words, "--workspace", str(tmp_path / path))
        assert (done.returncode, done.stdout) == (2, "") and f"{tmp_path}/job.toml is a file" in done.stderr
        assert done.stderr.count("\n") == 1 and "--workspace" in done.stderr


@pytest.mark.parametrize("words", [["list"], ["repair"]])
def test_a_folder_in_the_job_logs_place_has_a_way_out(jobs: Shell, words: list[str]) -> None:
    """Lost: what to do about it."""
    jobs("add", "--command", "true", "--no-runner")
    place = jobs.workspace / "jobs" / "jobs.db"
    for path in place.parent.glob("jobs.db*"):
        path.unlink()
    place.mkdir()
    done = jobs(*words)
    assert done.returncode == 1 and "Is a directory. Move that folder away" in done.stderr
    place.rmdir()
    assert "true" in jobs("list").stdout, "what the hint said is so"
