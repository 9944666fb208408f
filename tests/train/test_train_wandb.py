"""`--track`: W&B gets what metrics.jsonl has, and nothing that W&B does stops, delays or betrays a run.

With the real library wherever it can be made to do it; a fake one only for what it must do wrong.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from pidec_train import wandb_run
from pidec_train.metrics import MetricWriter
from pidec_train.protocol.rundir import MetricsLine, parse_metrics
from tests.train.wandb_support import fake_wandb, read_offline

KEY = "0123456789abcdef" * 2 + "01234567"
CONFIG = {"wandb_project_name": "p", "wandb_entity": None, "exp_name": "peg & hole", "lr": 0.1}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")


def tracked(run_dir: Path, console: io.StringIO | None = None, config: Mapping[str, object] = CONFIG) -> MetricWriter:
    return MetricWriter(
        run_dir,
        kind="diffusion",
        step_name="iteration",
        total_steps=100,
        config=config,
        track=True,
        console=console or io.StringIO(),
    )


def lines(run_dir: Path) -> list[MetricsLine]:
    return [line for _, line in parse_metrics((run_dir / "metrics.jsonl").read_bytes())]


def warnings(run_dir: Path) -> list[str]:
    return [line.detail()["message"] for line in lines(run_dir) if line.event == "warning"]


def log_until(metrics: MetricWriter, happened: Callable[[], bool]) -> int:
    """Rows every 50 ms until `happened`. Returns how many."""
    for step in range(1, 1200):
        metrics.log(step, {"train/loss": 1.0})
        if happened():
            return step
        time.sleep(0.05)
    raise AssertionError("it never happened")


def checkpoint(folder: Path, step: int = 3) -> Path:
    path = folder / f"step-{step:09d}.pt"
    path.write_bytes(os.urandom(200_000))
    path.with_suffix(".json").write_text('{"step": 3}')
    return path


def test_curves_are_right_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    """An evaluation of iteration 10 ends when iteration 30 was logged: W&B drops rows whose own step goes back."""
    rows = [
        (10, {"train/loss": 1.0, "train/lr": 0.1}),
        (30, {"train/loss": 0.5, "train/lr": 0.05}),
        (10, {"eval/success_rate": 0.25}),
        (40, {"train/loss": 0.25, "train/lr": float("nan")}),
    ]
    with tracked(tmp_path) as metrics:
        for step, row in rows:
            metrics.log(step, row)
    run = read_offline(tmp_path)
    got = [{name: value for name, value in row.items() if not name.startswith("_")} for row in run.rows]
    assert got == [
        {"iteration": 10, "train/loss": 1.0, "train/lr": 0.1},
        {"iteration": 30, "train/loss": 0.5, "train/lr": 0.05},
        {"iteration": 10, "eval/success_rate": 0.25},
        {"iteration": 40, "train/loss": 0.25},
    ]
    assert [row["_step"] for row in run.rows] == [0, 1, 2, 3], "a step of W&B's own that repeats or falls loses rows"
    assert run.step_metrics == [("*", "iteration")]
    assert (run.name, run.project, run.exit_code) == ("peg & hole", "p", 0)
    assert {name: run.config[name] for name in CONFIG if name in run.config} == CONFIG


def test_a_failed_run_is_a_failed_run_on_wandb(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), tracked(tmp_path) as metrics:
        log_until(metrics, lambda: bool(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))))
        raise ZeroDivisionError
    assert read_offline(tmp_path).exit_code == 1


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "a file system without hard links"])
def test_a_checkpoint_is_stored_whole_though_it_is_deleted_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """The trainer keeps best and last only: a file is often gone before W&B has even started to read it."""
    if not links:

        def refuse(*_: object) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(wandb_run.os, "link", refuse)
    path = checkpoint(tmp_path)
    content, about = path.read_bytes(), path.with_suffix(".json").read_bytes()
    with tracked(tmp_path) as metrics:
        metrics.artifact(path, step=3, aliases=("best", "last"), info={"success_rate": 0.5})
        path.unlink()
        path.with_suffix(".json").unlink()
        metrics.log(4, {"train/loss": 1.0})
    assert warnings(tmp_path) == []
    ((name, kind, aliases, metadata, files),) = read_offline(tmp_path).artifacts
    assert (name, kind) == ("peg-hole", "model") and {"best", "last"} <= set(aliases)
    assert metadata == {"success_rate": 0.5, "iteration": 3}
    assert {file: where.read_bytes() for file, where in files.items()} == {
        "step-000000003.pt": content,
        "step-000000003.json": about,
    }


def test_a_checkpoint_that_is_not_there_costs_one_warning(tmp_path: Path) -> None:
    with tracked(tmp_path) as metrics:
        for step in (3, 4):
            metrics.artifact(tmp_path / f"step-{step:09d}.pt", step=step, aliases=("best",), info={})
        metrics.log(5, {"train/loss": 1.0})
    assert warnings(tmp_path) == ["W&B: step-000000003.pt is not stored: No such file or directory"]
    assert len(read_offline(tmp_path).rows) == 1


def test_without_a_login_nobody_is_asked_for_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B asks on a terminal: a run started by hand would stop at its prompt, under the progress bar."""
    monkeypatch.delenv("WANDB_MODE")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom pidec_train.metrics import MetricWriter\n"
        "with MetricWriter(Path(sys.argv[1]), kind='diffusion', step_name='iteration', total_steps=9, config={},"
        " track=True) as metrics:\n"
        "    while 'W&B is off' not in Path(sys.argv[1], 'metrics.jsonl').read_text():\n"
        "        metrics.log(1, {'train/loss': 1.0}); time.sleep(0.05)\n"
    )
    terminal, end = os.openpty()
    done = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=end, stdout=end, stderr=end)
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's end
        while more := os.read(terminal, 65536):
            shown += more
    assert done.wait(60) == 0
    os.close(terminal)
    assert warnings(tmp_path) == ["W&B is off for this run: No API key configured. Use `wandb login` to log in."], (
        shown.decode()
    )
    assert b"wandb:" not in shown, "no word of W&B's own between ours"


@pytest.fixture
def silent_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that takes connections and never answers, and a key for it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield


@pytest.mark.usefixtures("silent_server")
def test_a_server_that_does_not_answer_delays_neither_start_nor_rows_and_no_secret_gets_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took W&B 90 s to give up, before the first iteration."""
    monkeypatch.setattr(wandb_run, "FIRST_SECONDS", 0.0)
    console = io.StringIO()
    with tracked(tmp_path, console) as metrics:
        ours = psutil.Process().children(recursive=True)
        # The rows are there while W&B is still on its way: its folder appears when it has begun.
        log_until(metrics, lambda: bool(list(tmp_path.glob("wandb/run-*/logs/debug-internal.log"))))
        ours = psutil.Process().children(recursive=True)
        arguments = [" ".join(process.cmdline()) for process in ours if process.is_running()]
        assert any("wandb_process" in argument for argument in arguments) and warnings(tmp_path) == []
    (warning,) = warnings(tmp_path)
    assert re.fullmatch(r"W&B is off for this run: no answer in \d+ s", warning)
    assert lines(tmp_path)[-1].detail()["state"] == "succeeded"
    assert not any(KEY in argument for argument in arguments)
    assert KEY not in console.getvalue()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    _, alive = psutil.wait_procs(ours, timeout=30)
    assert not alive, "W&B's processes stay behind"


@pytest.mark.usefixtures("silent_server")
def test_the_files_of_a_run_that_wandb_never_heard_of_do_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to each best checkpoint keeps its 70 MB although the trainer has deleted it."""
    monkeypatch.setattr(wandb_run, "FIRST_SECONDS", 0.0)
    with tracked(tmp_path) as metrics:
        metrics.artifact(checkpoint(tmp_path), step=3, aliases=("best",), info={})
        held = list(tmp_path.glob("wandb-files/*/*.pt"))
    assert len(held) == 1 and not list(tmp_path.glob("wandb-files/*"))


def test_a_killed_trainer_leaves_no_process_and_a_run_that_can_be_read(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom pidec_train.metrics import MetricWriter\n"
        "metrics = MetricWriter(Path(sys.argv[1]), kind='diffusion', step_name='iteration', total_steps=9, config={},"
        " track=True)\n"
        "metrics.log(1, {'train/loss': 1.0})\ntime.sleep(600)\n"
    )
    trainer = psutil.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL)
    for _ in range(600):
        if any(path.stat().st_size for path in tmp_path.glob("wandb/offline-run-*/*.wandb")):
            break
        time.sleep(0.1)
    children = trainer.children(recursive=True)
    assert children
    trainer.kill()
    trainer.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    run = read_offline(tmp_path)
    assert [row["train/loss"] for row in run.rows] == [1.0] and run.exit_code == 1


BROKEN = {
    "missing": ("raise ModuleNotFoundError(\"No module named 'wandb'\")", "No module named 'wandb'"),
    "half installed": ("import json\njson.no_such_thing", "module 'json' has no attribute 'no_such_thing'"),
    "exits": ("import sys\nsys.exit('numpy is too old')", "numpy is too old"),
    "crashes": ("import os\nos.kill(os.getpid(), 11)", "its process ended with code -11"),
    "init fails": (
        "import os\ndef init(**kwargs):\n"
        "    raise RuntimeError('no such team, key ' + os.environ['WANDB_API_KEY'] + '\\nsecond line')",
        "no such team, key (key)",
    ),
}

WORKING = """
class Run:
    name, id, url, dir, offline = "n", "i", "", "/tmp/x", False
    def define_metric(self, *args, **kwargs): pass
    def log(self, row): pass
    def finish(self, exit_code): pass
def init(**kwargs): return Run()
"""
BROKEN["log fails"] = (
    WORKING + "def fail(self, row): raise OSError(28, 'No space left on device')\nRun.log = fail",
    "[Errno 28] No space left on device",
)


@pytest.mark.parametrize(("source", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_a_wandb_that_fails_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    fake_wandb(tmp_path / "fake", monkeypatch, source)
    console = io.StringIO()
    with tracked(tmp_path, console) as metrics:
        rows = log_until(metrics, lambda: "W&B is off" in console.getvalue())
        metrics.log(rows + 1, {"train/loss": 1.0})
    assert warnings(tmp_path) == [f"W&B is off for this run: {said}"]
    assert len([line for line in lines(tmp_path) if line.metrics]) == rows + 1
    assert lines(tmp_path)[-1].detail()["state"] == "succeeded"


ONLINE = (
    WORKING
    + """
import sys, time
from pathlib import Path
Run.url = "https://somewhere/p/runs/i"
Run.log = lambda self, row: print(row, file=open(NOTES, "a"))
class Artifact:
    def __init__(self, name, type, metadata): self.files = []
    def add_file(self, path, **how): self.files.append(path)
    def wait(self):
        if any("000000004" in path for path in self.files): raise ValueError("quota exceeded")
        for path in self.files: print(Path(path).stat().st_size, file=open(NOTES, "a"))
def log_artifact(self, artifact, aliases): return artifact
Run.log_artifact = log_artifact
"""
)


def test_online_a_checkpoint_goes_from_the_run_folder_once_it_has_arrived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each best checkpoint of a long run would stay on the disk; one that W&B refuses does not cost the curves."""
    notes = tmp_path / "notes"
    fake_wandb(tmp_path / "fake", monkeypatch, f"NOTES = {str(notes)!r}\n{ONLINE}")
    with tracked(tmp_path) as metrics:
        for step in (3, 4):
            metrics.artifact(checkpoint(tmp_path, step), step=step, aliases=("best",), info={})
        metrics.log(5, {"train/loss": 1.0})
    assert warnings(tmp_path) == ["W&B: step-000000004.pt is not stored: quota exceeded"]
    assert sorted(notes.read_text().splitlines()) == ["11", "200000", "{'train/loss': 1.0, 'iteration': 5}"]
    assert list((tmp_path / "wandb-files").iterdir()) == []


def test_an_upload_that_hangs_does_not_keep_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_wandb(
        tmp_path / "fake",
        monkeypatch,
        WORKING + "import time, atexit\nRun.finish = lambda self, exit_code: time.sleep(999)\n"
        "atexit.register(time.sleep, 999)\nRun.url = 'https://somewhere/p/runs/i'",
    )
    monkeypatch.setattr(wandb_run, "FINISH_SECONDS", 0.5)
    console = io.StringIO()
    with tracked(tmp_path, console) as metrics:
        log_until(metrics, lambda: "W&B: https://somewhere/p/runs/i" in console.getvalue())
        (process,) = psutil.Process().children()
    assert warnings(tmp_path) == [
        "W&B is off for this run: upload not finished after 0 s; `wandb sync` can do it later"
    ]
    assert lines(tmp_path)[-1].event == "end"
    psutil.wait_procs([process], timeout=10)
    assert not process.is_running()


def test_a_full_disk_under_wandb_does_not_stop_the_run(tmp_path: Path) -> None:
    """metrics.jsonl lies elsewhere than W&B's files only in this test; there the rows must all be."""
    small = tmp_path / "wandb"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can make a small file system")
    try:
        with tracked(tmp_path) as metrics:
            for step in range(1, 2001):
                metrics.log(step, {f"train/number_{i}": float(step) for i in range(8)})
        assert len([line for line in lines(tmp_path) if line.metrics]) == 2000
        assert lines(tmp_path)[-1].detail()["state"] == "succeeded"
        assert len(warnings(tmp_path)) <= 1
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_only_the_owner_may_read_what_waits_for_wandb(tmp_path: Path) -> None:
    with tracked(tmp_path) as metrics:
        metrics.artifact(checkpoint(tmp_path), step=3, aliases=("best",), info={})
    (folder,) = (tmp_path / "wandb-files").iterdir()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)] == [0o700, 0o700]


def test_a_run_resumed_in_the_same_folder_keeps_what_the_first_one_stored(tmp_path: Path) -> None:
    """`wandb sync` of the first half would find its checkpoints gone, and the second half could store none."""
    path = checkpoint(tmp_path)
    for _ in range(2):
        with tracked(tmp_path) as metrics:
            metrics.artifact(path, step=3, aliases=("last",), info={})
    assert warnings(tmp_path) == [] and len(list(tmp_path.glob("wandb-files/*/*.pt"))) == 2
