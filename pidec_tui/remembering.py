"""Between the app and its memory: what was remembered is put on the board, what changes is written by a thread."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pidec_train.protocol.errors import PidecError

from . import theme
from .glance import newest_start
from .memory import Memory, Remembered, restore, restore_jobs, snapshot
from .messages import Refused
from .ranking import weight_of

if TYPE_CHECKING:
    from .app import PidecApp

EVERY = 2.0  # seconds between two looks at what changed


class Remembering:
    """All of it runs on the UI thread, but for the writing.

    Args:
        memory: None: nothing is remembered, as in most tests.
    """

    def __init__(self, app: PidecApp, memory: Memory | None) -> None:
        self._app, self._memory = app, memory
        self._jobs_known = memory is None
        if memory is None:
            return
        restore(app.board, memory.first)
        wish = memory.first.theme
        if wish in app.available_themes and not theme.wished():
            app.theme = wish

    def begin(self) -> None:
        """The app is up: say what is wrong with the file, and look for changes from now on."""
        if self._memory is None:
            return
        if self._memory.trouble:
            self._app.notify(self._memory.trouble, severity="warning", timeout=10, markup=False)
        self._app.set_interval(EVERY, self._look)

    def jobs_known(self) -> int | None:
        """The queue was read. At the first time: the job that the user had chosen by hand, if it is still there, else
        the newest run; the queue itself, which would choose, may be behind another tab."""
        memory, board = self._memory, self._app.board
        if self._jobs_known or memory is None:
            return None
        self._jobs_known = True
        chosen = restore_jobs(board, memory.first)
        if board.overlay.marked:
            self._app.feed.beside(board.overlay.order())
        if board.ranking.metric:
            self._app.feed.rank(board.ranking.metric, weight_of(board.ranking.metric, board.charts.smooth))
        if chosen is not None:
            board.follow = False
            return chosen
        newest, shown = newest_start(board.shown()), board.shown()
        return newest[1] if newest else shown[0].id if shown else None

    def end(self) -> None:
        """Write what was changed last. The screen is gone, so this may wait for the disk."""
        if self._memory is not None and self._jobs_known:
            with contextlib.suppress(PidecError):  # nobody is there any more to read it
                self._memory.save(self._now(self._memory))

    def _now(self, memory: Memory) -> Remembered:
        wish = memory.first.theme if theme.wished() else None
        chosen = self._app.theme if self._app.theme != theme.chosen() else wish
        return snapshot(self._app.board, chosen, memory.first)

    def _look(self) -> None:
        memory = self._memory
        if memory is None or not self._jobs_known:
            return
        now = self._now(memory)
        if memory.changed(now):
            self._app.run_worker(lambda: self._write(memory, now), thread=True, name="memory", exit_on_error=False)

    def _write(self, memory: Memory, now: Remembered) -> None:
        try:
            memory.save(now)
        except PidecError as error:
            self._app.post_message(Refused(error.message, error.hint))
