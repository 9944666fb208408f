"""flock, for the runner, the attempts and the machine-wide GPU slots."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path


class Lock:
    """An exclusive flock on a file, held until `release` (or until the last process that inherited `fd` is gone).

    Lock files are never deleted: a second process could then lock another file of the same name.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd

    @classmethod
    def take(cls, path: Path, *, wait_s: float = 0.0, mode: int = 0o600) -> Lock | None:
        """The lock, or None if somebody holds it for longer than `wait_s`. Raises OSError if the file is unusable."""
        deadline = time.monotonic() + wait_s
        while True:
            fd = _open(path, mode)
            if _flock(fd, fcntl.LOCK_EX) and _same_file(fd, path):
                return cls(path, fd)
            os.close(fd)
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.02)

    def release(self) -> None:
        """Let go. Processes that inherited the lock keep it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def write(self, text: str) -> None:
        """Put a note into the file, for those who wonder who holds it."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, text.encode(), 0)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock. Takes it in shared mode for an instant."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not _flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def read_note(path: Path) -> str:
    """What the holder wrote into the lock file; "" if that cannot be read."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _flock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same_file(fd: int, path: Path) -> bool:
    """Whether `path` still names the file that we locked (somebody may have cleaned the folder meanwhile)."""
    try:
        there, here = os.stat(path), os.fstat(fd)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _open(path: Path, mode: int) -> int:
    """Open an existing lock file without O_CREAT first: Linux refuses O_CREAT on another user's file in /tmp."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags)
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return os.open(path, flags)
    os.fchmod(fd, mode)  # whatever the umask
    return fd
