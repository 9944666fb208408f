"""Going on after a stop (`kill -STOP`, then `fg` or `kill -CONT`)."""

from __future__ import annotations

import asyncio
import contextlib
from types import FrameType

from textual.drivers.linux_driver import LinuxDriver


class ContinuedDriver(LinuxDriver):
    """Takes the terminal back once.

    Textual lets go of the terminal at SIGTSTP (`ctrl+z`), and takes it at SIGCONT. No SIGTSTP comes before a SIGCONT
    where it was stopped by SIGSTOP, or was not stopped at all. Then Textual took it a second time: another thread read
    the keys, and now and then one of the two was never told to end, so that `q` left a process that did not.
    """

    def _sigcont_application(self, signum: int, frame: FrameType | None) -> None:
        if self._must_signal_resume:
            super()._sigcont_application(signum, frame)
            return
        # Not here: a second signal in the middle of it would wait for locks that the first one holds.
        with contextlib.suppress(RuntimeError):  # no loop yet, or no more
            asyncio.get_running_loop().call_soon_threadsafe(self._take_back)

    def _take_back(self) -> None:
        """The shell may have changed the terminal meanwhile: all of it is set anew."""
        if self._auto_restart and not self._must_signal_resume and self._key_thread is not None and not self._app._exit:
            self.suspend_application_mode()
            self.resume_application_mode()
