"""Checkpoints written beside the training: the loop hands over a snapshot and learns the outcome later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checkpoint_folder import CheckpointFolder
from .protocol.errors import RunFailed
from .protocol.rundir import step_file

Snapshot = Callable[[], tuple[dict[str, Any], dict[str, Any]]]


@dataclass(frozen=True)
class Saved:
    """How one save ended.

    Attributes:
        step: of the checkpoint.
        path: where it lies; None if it was not written.
        error: why it was not: OSError (the disk), RunFailed (the snapshot, such as weights that are not finite).
        seconds: from the hand-over to the end.
    """

    step: int
    path: Path | None
    error: OSError | RunFailed | None
    seconds: float


class CheckpointSaver:
    """Writes checkpoints into a folder, one at a time, each in a thread that ends with it.

    The thread is no daemon: an interpreter that ends while one is written waits for it.
    """

    def __init__(self, folder: CheckpointFolder) -> None:
        self._folder = folder
        self._thread: threading.Thread | None = None
        self._outcomes: list[Saved] = []
        self._crash: BaseException | None = None
        self._lock = threading.Lock()  # around the two before

    def submit(self, step: int, snapshot: Snapshot, *, keep: bool = False) -> None:
        """Save a checkpoint; waits for the save before it, if that is still under way.

        Args:
            step: of the snapshot.
            snapshot: gives payload and info for `CheckpointFolder.save`. Called in the thread: it may wait for a copy
                from the device, and may raise RunFailed.
            keep: the checkpoint is still wanted (see `CheckpointFolder.keep`); it is let go if it cannot be written.
        """
        self._join()
        self._thread = threading.Thread(target=self._save, args=(step, snapshot, keep), name="checkpoint saver")
        self._thread.start()

    def finished(self) -> list[Saved]:
        """Outcomes since the last call, oldest first. Does not wait.

        Raises:
            Exception: whatever else than OSError and RunFailed a save ended with; that is a bug.
        """
        with self._lock:
            crash, self._crash = self._crash, None
            if crash:
                raise crash
            outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def wait(self) -> list[Saved]:
        """As `finished`, once nothing is under way."""
        self._join()
        return self.finished()

    def close(self) -> None:
        """Wait until nothing is under way."""
        self._join()

    def _join(self) -> None:
        if self._thread:
            self._thread.join()
            self._thread = None

    def _save(self, step: int, snapshot: Snapshot, keep: bool) -> None:
        try:
            outcome = self._outcome(step, snapshot, keep)
        except BaseException as crash:  # noqa: BLE001 - it is raised again where somebody can hear it
            with self._lock:
                self._crash = crash
            return
        with self._lock:
            self._outcomes.append(outcome)

    def _outcome(self, step: int, snapshot: Snapshot, keep: bool) -> Saved:
        began = time.monotonic()
        path = self._folder.path / step_file(step)
        if keep:
            self._folder.keep(path)  # before the save, which drops what nobody wants
        try:
            self._folder.save(*snapshot())
        except (OSError, RunFailed) as failure:
            if keep:
                self._folder.release(path)
            # Without the traceback, whose frames hold the payload.
            return Saved(step, None, failure.with_traceback(None), time.monotonic() - began)
        return Saved(step, path, None, time.monotonic() - began)
