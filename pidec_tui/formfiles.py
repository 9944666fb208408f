"""The files that a form speaks of: which there are, and which are missing. A folder may lie on a slow network, so a
thread looks, and the keyboard waits for nothing."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping

from textual.message import Message

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import Workspace, current_folder, home_path

from .forms import found_paths
from .manager.jobs import Job


class PathsFound(Message, bubble=False):
    """What path fields may name, by their `path`."""

    def __init__(self, paths: Mapping[str, list[str]]) -> None:
        super().__init__()
        self.paths = paths


class FilesSeen(Message, bubble=False):
    """Whether there is a file, by the text that names it."""

    def __init__(self, there: Mapping[str, bool]) -> None:
        super().__init__()
        self.there = there


class FormFiles:
    """Looks for a form, in a thread that nobody waits for: one that hangs must not keep the dashboard from closing.

    Args:
        ws: the workspace; relative paths count from the current folder, or from its root.
        jobs: the queue as it is now.
        kinds: of paths that are to be found first, as `FormField.path` has them.
        post: takes the messages, from the thread.
    """

    def __init__(
        self, ws: Workspace, jobs: Iterable[Job], kinds: Iterable[str], post: Callable[[Message], object]
    ) -> None:
        self._ws, self._jobs, self._kinds, self._post = ws, list(jobs), list(kinds), post
        self._wish: frozenset[str] = frozenset()
        self._wake, self._over = threading.Event(), False
        threading.Thread(target=self._run, name="form files", daemon=True).start()

    def ask(self, texts: Iterable[str]) -> None:
        """Look which of these there are; the newest wish counts."""
        self._wish = frozenset(texts)
        self._wake.set()

    def end(self) -> None:
        self._over = True
        self._wake.set()

    def _run(self) -> None:
        self._post(PathsFound({kind: self._found(kind) for kind in self._kinds}))
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._over:
                return
            self._post(FilesSeen({text: self._is_there(text) for text in self._wish}))

    def _found(self, kind: str) -> list[str]:
        try:
            return found_paths(kind, self._ws, self._jobs)
        except OSError:  # a folder that may not be read, or whose server has gone: it can still be typed
            return []

    def _is_there(self, text: str) -> bool:
        places = [self._ws.root]
        with contextlib.suppress(PidecError):
            places.append(current_folder())
        return any(os.path.exists(place / home_path(text)) for place in places)
