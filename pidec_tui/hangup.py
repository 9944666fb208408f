"""Leaving with the terminal, whoever starts the dashboard."""

from __future__ import annotations

import os
import select
import threading
import time

EXIT_HANGUP = 129  # as a shell reports SIGHUP
_GRACE_SECONDS = 1.0  # for the signal itself, which usually comes first


def leave_with_terminal(fd: int) -> None:
    """End this process soon after the terminal at `fd` is gone.

    Usually SIGHUP does that. It does not reach the dashboard below `make run` started by tmux itself (the kernel tells
    the first process of the session alone, and make waits for its child) or where it is ignored. Textual then reads the
    dead terminal in a loop, a whole core for ever. Nothing is lost: the jobs are not its own.
    """
    threading.Thread(target=_watch, args=(fd,), name="hangup", daemon=True).start()


def _watch(fd: int) -> None:
    poller = select.poll()
    poller.register(fd, 0)  # hang-up and errors are told whatever is asked for; asking for nothing else sleeps
    while not poller.poll():
        pass
    time.sleep(_GRACE_SECONDS)
    os._exit(EXIT_HANGUP)
