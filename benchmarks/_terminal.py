"""A program in a pseudo-terminal, as its user has it: keys go in, what it writes is looked at."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Sequence

import psutil

from pidec_tui.looks import PART, UNATTENDED

SIZE = (160, 45)  # columns, lines
FOCUS = b"\x1b[I"  # what a terminal sends when somebody comes to its window: no key, but somebody is there
ATTENTION = 10.0  # seconds between two of them
LEFT_ALONE = UNATTENDED / PART  # seconds until a dashboard looks as seldom as it ever does


class Session:
    """Runs until `close`.

    Attributes:
        begun: when it was started, as time.perf_counter tells.
        pid: of its process.
    """

    def __init__(self, *command: str, env: dict[str, str] | None = None, size: tuple[int, int] = SIZE) -> None:
        self._screen, behind = pty.openpty()
        fcntl.ioctl(behind, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.begun = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=behind,
            stdout=behind,
            stderr=behind,
            close_fds=True,
            env={**os.environ, "TERM": "xterm-256color", **(env or {})},
        )
        self.pid = self._process.pid
        os.close(behind)

    @property
    def screen(self) -> int:
        """What is read to see what it writes, for those who read it themselves."""
        return self._screen

    def until(self, *words: bytes, seconds: float = 30.0) -> float:
        """Seconds until these words were written, in any order. Raises TimeoutError."""
        begun, seen = time.perf_counter(), b""
        while not all(word in seen for word in words):
            if not select.select([self._screen], [], [], seconds)[0]:
                raise TimeoutError(f"{words} did not come")
            seen += os.read(self._screen, 65536)
        return time.perf_counter() - begun

    def quiet(self, seconds: float, most: float = 30.0) -> float:
        """Read until nothing has come for so long; gives the seconds until the last bytes, 0 without any."""
        begun, last = time.perf_counter(), 0.0
        while time.perf_counter() - begun < most and select.select([self._screen], [], [], seconds)[0]:
            os.read(self._screen, 65536)
            last = time.perf_counter() - begun
        return last

    def answer(self, seconds: float = 5.0) -> float:
        """Seconds until the first bytes come. Raises TimeoutError."""
        begun = time.perf_counter()
        if not select.select([self._screen], [], [], seconds)[0]:
            raise TimeoutError("no answer")
        os.read(self._screen, 65536)
        return time.perf_counter() - begun

    def drain(self, seconds: float) -> int:
        """Read whatever comes for so long; gives how many bytes."""
        end, count = time.perf_counter() + seconds, 0
        while (left := end - time.perf_counter()) > 0:
            if select.select([self._screen], [], [], left)[0]:
                count += len(os.read(self._screen, 65536))
        return count

    def press(self, keys: bytes) -> None:
        os.write(self._screen, keys)

    def in_background(self) -> None:
        """Read what it writes in a thread from now on, until it ends, so that it never waits for a reader."""
        threading.Thread(target=self._read_on, daemon=True).start()

    def _read_on(self) -> None:
        try:
            while os.read(self._screen, 65536):
                pass
        except OSError:  # closed: it has left
            pass

    def end(self) -> None:
        """End it, whatever its keys are, and what it has started."""
        started = psutil.Process(self.pid).children(recursive=True)
        self._process.terminate()
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        self._process.wait(timeout=10)
        os.close(self._screen)

    def close(self) -> None:
        """Ask the dashboard to leave, and wait until it has."""
        self.press(b"q")
        try:
            while os.read(self._screen, 65536):
                pass
        except OSError:  # closed: it has left
            pass
        self._process.wait(timeout=10)
        os.close(self._screen)


def dashboard(workspace: str, *more: str) -> Sequence[str]:
    """The command that opens the dashboard there, as it was never left: what is remembered would change the picture."""
    return (sys.executable, "-m", "pidec_tui", "--workspace", workspace, "--fresh", *more)


def load() -> str:
    """How busy the machine is, to stand beside what was measured on it."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


@contextlib.contextmanager
def attention(session: Session) -> Iterator[None]:
    """Somebody is there, but presses nothing."""
    gone = threading.Event()

    def watch() -> None:
        while not gone.wait(ATTENTION):
            session.press(FOCUS)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        gone.set()
        thread.join()
