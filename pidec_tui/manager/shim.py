"""Parent of one trainer: takes the attempt's lock, starts the trainer, waits for it, writes exit.json.

The standard library only, so that it starts in milliseconds and nothing on PYTHONPATH can get in its way. It never
looks at the job log: that may be locked or broken. What it needs lies in `attempt.json`, written by the runner before
the start, and whoever gives an attempt up changes the token in there *while holding the lock*. So once the shim has
the lock and still finds its own token, the attempt is its own for good.

    python shim.py ATTEMPT_DIR LOCK_FILE          with PIDEC_ATTEMPT_TOKEN in the environment
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

TOKEN_ENV = "PIDEC_ATTEMPT_TOKEN"
ATTEMPT_FILE = "attempt.json"  # written by the runner: token, argv, cwd, ...
STARTED_FILE = "started.json"  # written by the shim, before the trainer exists
EXIT_FILE = "exit.json"
CANNOT_START = 127
BEAT_S = 20.0
WRITE_TRIES = 600  # a second apart: a full disk is often noticed and cleared


def main(folder: str, lock_path: str) -> int:
    """Run the attempt in `folder`. 0 if it ran, or was not ours to run."""
    os.umask(0o077)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with contextlib.suppress(PermissionError):  # the launcher may have made the session already
        os.setsid()
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    attempt = _read(os.path.join(folder, ATTEMPT_FILE))
    token = os.environ.get(TOKEN_ENV)
    if not token or attempt.get("token") != token:
        return 0  # given up while we were on our way
    if os.path.exists(os.path.join(folder, STARTED_FILE)):
        return 0  # never twice
    started: dict[str, Any] = {
        "token": token,
        "boot_id": boot_id(),
        "shim": os.getpid(),
        "shim_ticks": start_ticks(os.getpid()),
        "pid": None,
        "pid_ticks": None,
        "started": time.time(),
    }
    write_json(os.path.join(folder, STARTED_FILE), started)  # durable before anything runs
    record = _run(folder, attempt, started, inherited=(lock, *attempt.get("fds", [])))
    return _write_exit(os.path.join(folder, EXIT_FILE), record)


def _run(folder: str, attempt: dict[str, Any], started: dict[str, Any], inherited: tuple[int, ...]) -> dict[str, Any]:
    """Start the trainer and wait; gives what exit.json says."""
    ooms = oom_kills()
    cwd = attempt.get("cwd") or folder
    if not os.path.isdir(cwd):
        return _record(started, CANNOT_START, None, f"cannot be started: there is no folder {cwd}")
    children: list[subprocess.Popen[bytes]] = []
    asked: list[int] = []

    def forward(number: int, frame: object) -> None:
        asked.append(number)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    try:
        child = subprocess.Popen(
            attempt["argv"],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            pass_fds=inherited,
            preexec_fn=_before_exec,  # one thread here, so this is safe; `process_group` needs Python 3.11
        )
    except OSError as error:
        return _record(started, CANNOT_START, None, f"cannot be started: {attempt['argv'][0]}: {error.strerror}")
    children.append(child)
    if asked:  # the signal came before there was a child
        forward(asked[-1], None)
    started.update(pid=child.pid, pid_ticks=start_ticks(child.pid))
    with contextlib.suppress(OSError):  # a full disk: the attempt's mark in the environment still finds it
        write_json(os.path.join(folder, STARTED_FILE), started)
    code = _wait(child, os.path.join(folder, STARTED_FILE))
    if code >= 0:
        killed = code == 128 + signal.SIGKILL and oom_kills() > ooms
        return _record(started, code, None, _OOM if killed else f"exit code {code}")
    number = -code
    cause = _OOM if number == signal.SIGKILL and oom_kills() > ooms else f"killed by {_name(number)}"
    return _record(started, None, number, cause)


def _wait(child: subprocess.Popen[bytes], started: str) -> int:
    """Wait for the trainer; meanwhile touch started.json, for those who see the file but not this process."""

    def beat(number: int, frame: object) -> None:
        with contextlib.suppress(OSError):
            os.utime(started)

    signal.signal(signal.SIGALRM, beat)  # `wait(timeout=...)` would wake up twenty times a second
    signal.setitimer(signal.ITIMER_REAL, BEAT_S, BEAT_S)
    return child.wait()


_OOM = "the host ran out of memory: the kernel killed it"


def _before_exec() -> None:
    os.setpgid(0, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _record(started: dict[str, Any], code: int | None, number: int | None, cause: str) -> dict[str, Any]:
    return {"code": code, "signal": number, "cause": cause, "started": started["started"], "ended": time.time()}


def _write_exit(path: str, record: dict[str, Any]) -> int:
    for _ in range(WRITE_TRIES):
        try:
            write_json(path, record)
            return 0
        except OSError as error:
            print(f"pidec: {path} cannot be written: {error}", file=sys.stderr, flush=True)
            time.sleep(1)
    return 1


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: str, value: dict[str, Any]) -> None:
    """Whole or not at all. As protocol.rundir's, which would cost this process the import of pydantic."""
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def boot_id() -> str:
    """Changes with every start of the machine; "" where the kernel does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks since boot: with it a process id names one process. None: not alive."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def oom_kills() -> int:
    """Processes that the kernel has killed for want of memory: in our cgroup, or on the host if no cgroup tells."""
    for path in (*_cgroup_events(), "/proc/vmstat"):
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                for line in file:
                    words = line.split()
                    if len(words) == 2 and words[0] == "oom_kill":
                        return int(words[1])
        except (OSError, ValueError):
            continue
    return 0


def _cgroup_events() -> list[str]:
    paths = []
    with contextlib.suppress(OSError), open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
        for line in file:
            _, controllers, group = line.rstrip("\n").split(":", 2)
            if not controllers:
                paths += [f"/sys/fs/cgroup{group.rstrip('/')}/memory.events", "/sys/fs/cgroup/memory.events"]
            elif "memory" in controllers.split(","):
                paths += [
                    f"/sys/fs/cgroup/memory{group.rstrip('/')}/memory.oom_control",
                    "/sys/fs/cgroup/memory/memory.oom_control",
                ]
    return paths


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
