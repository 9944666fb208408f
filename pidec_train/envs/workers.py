"""A process of our own that does simulator work on request and never outlives its parent.

Started as a fresh interpreter (`subprocess`, not fork: the parent may have torch threads and a CUDA context; not
multiprocessing's spawn: it imports the parent's main module again). One request at a time, answered in order over a
pipe. The child ends when the pipe closes or its parent is gone, so a killed trainer leaves nothing behind.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

from ..protocol.errors import PidecError, RunFailed

_LOOK_SECONDS = 1.0  # how often either side looks whether the other one lives
_LAST_WORDS = 400  # characters of a dead worker's output that a user is shown


class WorkerDied(RunFailed):
    """The process is gone (a signal, a crash inside the simulator), not just an exception in it."""


class Worker:
    """One child process that holds an object and calls its methods.

    Args:
        target: "package.module:Class" of the object to hold.
        name: what to call the process in messages.
        kwargs: arguments of the class; they travel by pickle, as do arguments and results of `ask`.
    """

    def __init__(self, target: str, name: str, kwargs: dict[str, Any]) -> None:
        self.name = name
        self._pipe, child = connection.Pipe()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the worker)
        root = str(Path(__file__).resolve().parents[2])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        code = f"from {__name__} import child_main; child_main({child.fileno()}, {os.getpid()}, {target!r})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            pass_fds=[child.fileno()],
            env=environment,
        )
        child.close()
        self._pipe.send(kwargs)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def pipe(self) -> connection.Connection[Any, Any]:
        """For `multiprocessing.connection.wait`: readable when an answer has come, or the worker is gone."""
        return self._pipe

    def send(self, method: str, *arguments: Any) -> None:
        """Ask without waiting; exactly one `receive` must follow."""
        try:
            self._pipe.send((method, arguments))
        except (OSError, ValueError):
            raise self._died() from None

    def receive(self) -> Any:
        """The answer to the request before.

        Raises:
            PidecError, RunFailed: as the worker raised it, or with the last line of any other exception there.
            WorkerDied: the process is gone; its last words are in the message.
        """
        try:
            while not self._pipe.poll(_LOOK_SECONDS):
                if self._process.poll() is not None and not self._pipe.poll(0):
                    raise EOFError
            failure, value = self._pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if failure is None:
            return value
        if isinstance(failure, PidecError):
            raise failure
        raise RunFailed(f"{self.name} failed: {failure}") from RuntimeError(value)  # value: the traceback there

    def ask(self, method: str, *arguments: Any) -> Any:
        self.send(method, *arguments)
        return self.receive()

    def close(self) -> None:
        close_all([self])

    def _died(self) -> WorkerDied:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return WorkerDied(f"{self.name} (pid {self.pid}) closed its pipe")
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"exited with code {code}"
        hint = "The machine may be out of memory: use fewer environments." if code == -signal.SIGKILL else ""
        words = self._last_words()
        return WorkerDied(f"{self.name} (pid {self.pid}) {how}" + (f"; its last words: {words}" if words else ""), hint)

    def _last_words(self) -> str:
        if self._output.closed:
            return ""
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - _LAST_WORDS))
        return " ".join(self._output.read().decode(errors="replace").split())


def close_all(workers: Sequence[Worker], patience: float = 0.5) -> None:
    """End the processes: by closing their pipes, and by force where one is still busy `patience` seconds later."""
    for worker in workers:
        worker._pipe.close()
    deadline = time.monotonic() + patience
    for worker in workers:
        try:
            worker._process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker._process.kill()
            worker._process.wait()
        worker._output.close()


def child_main(pipe_fd: int, parent: int, target: str) -> None:
    """The child's whole life: make the object, then answer until the pipe closes or the parent is gone."""
    # Ctrl-C and a stop sent to the whole group are the parent's to handle: it may want one more answer to save.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pipe = connection.Connection(pipe_fd)
    held: Any = None
    try:
        kwargs = pipe.recv()
        while True:
            while not pipe.poll(_LOOK_SECONDS):
                if os.getppid() != parent:  # a fork of the parent may keep the other end of the pipe open
                    raise EOFError
            method, arguments = pipe.recv()
            answer: tuple[PidecError | str | None, Any]
            try:
                if held is None:
                    module, _, cls = target.partition(":")
                    held = getattr(importlib.import_module(module), cls)(**kwargs)
                answer = (None, getattr(held, method)(*arguments))
            except PidecError as error:
                error.__cause__ = None
                answer = (error, None)
            except Exception as error:  # noqa: BLE001  (it is the parent that decides what a failure means)
                answer = (f"{type(error).__name__}: {error}", traceback.format_exc())
            pipe.send(answer)
    except (EOFError, OSError):
        os._exit(0)  # nothing here is worth the second that taking down torch and sapien lasts
