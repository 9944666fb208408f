"""What the tests of the job manager share: waiting, a stand-in trainer, counting executions."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pidec_tui.manager.jobs import Job, JobState
from pidec_tui.manager.manager import Manager

# A trainer that keeps the agreement (metrics.jsonl, checkpoints, exit codes) without torch. What it does is said in
# PIDEC_FAKE: "steps=5 pause=0.1 checkpoint_at=2 exit=0 end=succeeded ignore_term=1 child=1".
TRAINER = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
words = sys.argv[1:]
def option(name, default=None):
    return words[words.index(name) + 1] if name in words else default
run, checkpoints = Path(option("--run-dir")), Path(option("--checkpoint-dir"))
does = dict(word.split("=") for word in os.environ.get("PIDEC_FAKE", "").split())
print("argv", json.dumps(words), flush=True)
print("cuda", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
if does.get("ignore_term"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if does.get("child"):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    print("child", child.pid, flush=True)
seq = 0
def say(**line):
    global seq
    with open(run / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"seq": seq, "time": time.time(), **line}) + "\\n")
    seq += 1
saved = sorted(int(p.stem[5:]) for p in checkpoints.glob("step-*.pt")) if checkpoints.is_dir() else []
begin = saved[-1] if saved and "--resume" in words else 0
total = int(does.get("steps", 3))
say(event="start", kind=words[0], step_name="iteration", total_steps=total, resumed_step=begin or None)
for step in range(begin + 1, total + 1):
    time.sleep(float(does.get("pause", 0.02)))
    say(step=step, metrics={"train/loss": 1 / step})
    if step == int(does.get("checkpoint_at", -1)):
        checkpoints.mkdir(parents=True, exist_ok=True)
        name = f"step-{step:09d}.pt"
        (checkpoints / name).write_bytes(b"weights")
        for link in ("last.pt", "best.pt"):
            (checkpoints / (link + ".tmp")).symlink_to(name)
            os.replace(checkpoints / (link + ".tmp"), checkpoints / link)
        say(event="checkpoint", step=step, path=name)
    if step == int(does.get("die_at", -1)):
        os.kill(os.getpid(), signal.SIGKILL)
if does.get("end"):
    say(event="end", state=does["end"], reason=does.get("reason", ""))
print(does.get("last_words", "bye"), file=sys.stderr, flush=True)
time.sleep(float(does.get("linger", 0)))
sys.exit(int(does.get("exit", 0)))
"""

# What `inspect` says of a file of upstream's.
UPSTREAM = {
    "kind": "diffusion",
    "origin": "policy_decorator",
    "env_id": "PegInsertionSide-v1",
    "control_mode": "pd_ee_delta_pose_ms2",
    "maniskill2": True,
    "obs_dim": 50,
    "act_dim": 7,
}
QUICK = "poll_s = 0.05\ncancel_grace_s = 0.6\n"


def fake_trainer(folder: Path, **does: object) -> dict[str, str]:
    """An environment in which `python -m pidec_train` is the stand-in, with its instructions."""
    package = folder / "fake" / "pidec_train"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(TRAINER)
    words = " ".join(f"{name}={value}" for name, value in does.items())
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(package.parent), "PIDEC_FAKE": words}


def until(question: Callable[[], object], limit_s: float = 20.0, what: str = "it") -> None:
    """Wait until `question` says yes."""
    deadline = time.monotonic() + limit_s
    while not question():
        assert time.monotonic() < deadline, f"{what} did not happen within {limit_s} s"
        time.sleep(0.02)


def wait_for(manager: Manager, job_id: int, *states: JobState, limit_s: float = 20.0) -> Job:
    """Wait until a job is in one of these states (by default: over)."""
    deadline = time.monotonic() + limit_s
    while True:
        job = manager.job(job_id)
        if job.state in states if states else job.state.finished:
            return job
        assert time.monotonic() < deadline, f"job {job_id} is {job.state} ({job.reason}{job.waiting_for}): {states}"
        time.sleep(0.02)


def command(manager: Manager, line: str, **keywords: object) -> Job:
    return manager.add("command", {"command": line}, **keywords)  # type: ignore[arg-type]


def python_line(script: Path, *words: str) -> str:
    return " ".join([sys.executable, str(script), *words])


def started(manager: Manager, job_id: int, attempt: int = 1) -> dict[str, int]:
    """started.json of an attempt, once the trainer runs."""
    path = manager.workspace.run(job_id).attempt(attempt).path / "started.json"
    until(lambda: path.exists() and json.loads(path.read_text())["pid"], what=f"the start of job {job_id}")
    return dict(json.loads(path.read_text()))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill_runner(manager: Manager) -> None:
    pid = manager.runner_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: manager.runner_pid() is None, what="the end of the runner")


def argv_of(manager: Manager, job_id: int, attempt: int) -> list[str]:
    """What the stand-in trainer was called with."""
    text = manager.workspace.run(job_id).attempt(attempt).output.read_text()
    line = next(line for line in text.splitlines() if line.startswith("argv "))
    return list(json.loads(line[5:]))
