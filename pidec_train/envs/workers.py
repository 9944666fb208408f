"""A process of our own that does simulator work on request and never outlives its parent.

Started as a fresh interpreter (`subprocess`, not fork: the parent may have torch threads and a CUDA context; not
multiprocessing's spawn: it imports the parent's main module again). One request at a time, answered in order over a
pipe; on the way to an answer the child may `tell` how far it is. The child ends at once, in the middle of its work
too, when the pipe closes or its parent is gone, so a killed trainer leaves nothing behind; nor do workers of workers.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from ..protocol.errors import PidecError, RunFailed

_LOOK_SECONDS = 1.0  # how often either side looks whether the other one lives
_LAST_WORDS = 400  # characters of a dead worker's output that a user is shown
_BURIAL_SECONDS = 5.0  # a process whose pipe has closed may still be writing a core file


class WorkerDied(RunFailed):
    """The process is gone (a signal, a crash inside the simulator), not just an exception in it."""


@dataclass(frozen=True)
class _Told:
    """A message that is no answer: see `tell`."""

    value: Any


_to_parent: connection.Connection[Any, Any] | None = None  # in a child: its end of the pipe


def tell(value: Any) -> None:
    """In a worker, while it works on a request: send `value` to the parent, which finds it in `Worker.told`."""
    assert _to_parent is not None, "only a worker has a parent to tell"
    _to_parent.send(_Told(value))


class Worker:
    """One child process that holds an object and calls its methods.

    Args:
        target: "package.module:Class" of the object to hold.
        name: what to call the process in messages.
        kwargs: arguments of the class; they travel by pickle, as do arguments and results of `ask`.
        pass_fds: open files that the child gets too, under the same numbers.

    Attributes:
        told: what the child told on the way to its answer, oldest first; empty it at will.
    """

    def __init__(self, target: str, name: str, kwargs: dict[str, Any], pass_fds: Sequence[int] = ()) -> None:
        self.name = name
        self.told: list[Any] = []
        self._answer: tuple[PidecError | str | None, Any] | None = None  # one that has come and was not yet asked for
        self._pipe_ended: float | None = None  # when it was found closed
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
            pass_fds=[child.fileno(), *pass_fds],
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
        """Ask without waiting; exactly one `receive` must follow (for a generator, one for each value it yields)."""
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
        while not self.has_answer(_LOOK_SECONDS):
            pass
        if self._answer is None:
            raise self._died()
        (failure, value), self._answer = self._answer, None
        if failure is None:
            return value
        if isinstance(failure, PidecError):
            raise failure
        raise RunFailed(f"{self.name} failed: {failure}") from RuntimeError(value)  # value: the traceback there

    def has_answer(self, patience: float = 0.0) -> bool:
        """Whether `receive` would return or raise at once; waits up to `patience` seconds for something to come."""
        if self._answer is not None:
            return True
        if self._pipe_ended is not None:
            return self._is_buried(patience)
        try:
            while self._pipe.poll(patience):
                message = self._pipe.recv()
                if not isinstance(message, _Told):
                    self._answer = message
                    return True
                self.told.append(message.value)
                patience = 0.0
            if self._process.poll() is None or self._pipe.poll(0):
                return False  # it works on, or has just said something
        except (EOFError, OSError):
            pass
        self._pipe_ended = time.monotonic()
        return self._is_buried(0.0)

    def _is_buried(self, patience: float) -> bool:
        """Whether the process behind a closed pipe has ended too, or takes too long over it."""
        assert self._pipe_ended is not None
        try:
            self._process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            return time.monotonic() - self._pipe_ended > _BURIAL_SECONDS
        return True

    def ask(self, method: str, *arguments: Any) -> Any:
        self.send(method, *arguments)
        return self.receive()

    def close(self) -> None:
        close_all([self])

    def _died(self) -> WorkerDied:
        try:
            code = self._process.wait(timeout=_BURIAL_SECONDS if self._pipe_ended is None else 0)
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
    global _to_parent
    # Ctrl-C and a stop sent to the whole group are the parent's to handle: it may want one more answer to save.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _to_parent = pipe = connection.Connection(pipe_fd)
    threading.Thread(target=_end_with_parent, args=(pipe_fd, parent), daemon=True).start()
    held: Any = None
    try:
        kwargs = pipe.recv()
        while True:
            method, arguments = pipe.recv()
            try:
                if held is None:
                    module, _, cls = target.partition(":")
                    held = getattr(importlib.import_module(module), cls)(**kwargs)
                result = getattr(held, method)(*arguments)
                for value in result if isinstance(result, Iterator) else (result,):
                    pipe.send((None, value))
            except PidecError as error:
                error.__cause__ = None
                pipe.send((error, None))
            except Exception as error:  # noqa: BLE001  (it is the parent that decides what a failure means)
                pipe.send((f"{type(error).__name__}: {error}", traceback.format_exc()))
    except (EOFError, OSError):
        os._exit(0)  # nothing here is worth the second that taking down torch and sapien lasts


def _end_with_parent(pipe_fd: int, parent: int) -> None:
    """In a thread of the child: end the process when nobody is left to take its answers, whatever it is doing."""
    hung_up = select.poll()
    hung_up.register(pipe_fd, 0)  # no event asked for: only a closed other end is reported
    while not hung_up.poll(_LOOK_SECONDS * 1000):
        if os.getppid() != parent:  # a fork of the parent may keep the other end of the pipe open
            break
    os._exit(0)
