"""SIGTERM and SIGINT: the first one asks, the second one ends."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

from .protocol.errors import EXIT_STOPPED, Stopped

PATIENCE = 20.0  # seconds: who asks waits a minute, and a step and a checkpoint come after this


class StopRequest:
    """Remembers that a signal asked the run to stop; loops look at it where they can leave a whole state behind.

    Until `install` is called, and in tests, nothing but `request` sets it.
    """

    def __init__(self) -> None:
        self.signal_name = ""
        self._since = 0.0

    @property
    def presses(self) -> bool:
        """Whether it was asked so long ago that a loop should leave where it is, be it in the midst of something."""
        return bool(self) and time.monotonic() - self._since >= PATIENCE

    def __bool__(self) -> bool:
        return bool(self.signal_name)

    def install(self) -> None:
        """Take over SIGTERM and SIGINT of this process (main thread only)."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def request(self, signal_name: str) -> None:
        self.signal_name, self._since = signal_name, time.monotonic()

    def check(self, what: str = "") -> None:
        """Raises:
        Stopped: if a signal has come. `what` says what is left behind.
        """
        if self.signal_name:
            raise Stopped(f"stopped by {self.signal_name}" + (f": {what}" if what else ""))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name:
            os._exit(EXIT_STOPPED)  # asked twice: no more politeness; every file on disk is whole
        self.request(signal.Signals(number).name)
