"""The checkpoints of a workspace, for both doors: read, looked into, thrown away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pidec_train.protocol.errors import PidecError

from . import trash
from .catalogue import Catalogue, CatalogueReader, Entry
from .evaluations import Evaluations
from .inspecting import Inspected, Inspections
from .manager import Manager
from .settings import load_settings


class Shelf:
    """May be used from several threads; each call reads the disk.

    Args:
        manager: of the workspace.
        clock: unix seconds.
    """

    def __init__(self, manager: Manager, clock: Callable[[], float] = time.time) -> None:
        self._manager = manager
        self._clock = clock
        self._inspections = Inspections(manager.workspace.jobs)
        self._reader = CatalogueReader(manager.workspace, self._inspections)
        self._evaluations = Evaluations(manager)
        self._lock = threading.Lock()

    def read(self) -> Catalogue:
        """Everything as it is now. Settings that cannot be read are a trouble of the catalogue, not of the reader."""
        settings, troubles = self._manager.settings, []
        try:
            settings = load_settings(self._manager.workspace.jobs)
        except PidecError as error:
            troubles = [error.line()]
        with self._lock:
            jobs = self._manager.jobs()
            told = self._evaluations.of(jobs)
            found = self._reader.read(jobs, settings.checkpoint_folders, told, now=self._clock())
        return replace(found, troubles=(*troubles, *found.troubles))

    def inspect(self, path: Path) -> Inspected | None:
        """Look into a file without a `.json`; seconds. The next `read` knows. None: it is gone, or was broken off."""
        return self._inspections.look(path)

    def may_go(self, path: Path) -> tuple[str, list[str]]:
        """Why a checkpoint must stay, a sentence ("" if it may go), and what goes with it.

        Raises:
            PidecError: it is gone.
        """
        entry, catalogue = self._at(path)
        why = trash.why_not(entry, catalogue, self._manager.jobs(), self._manager.workspace)
        return why, trash.consequences(entry, catalogue)

    def throw_away(self, path: Path) -> trash.Thrown:
        """Put a checkpoint into the trash. Raises PidecError if it must stay, with the reason."""
        entry, catalogue = self._at(path)
        return trash.throw_away(entry, catalogue, self._manager.jobs(), self._manager.workspace)

    def _at(self, path: Path) -> tuple[Entry, Catalogue]:
        catalogue = self.read()
        entry = catalogue.at(path)
        if entry is None:
            raise PidecError(f"{path} is gone already")
        return entry, catalogue

    def stop(self) -> None:
        """End a look that goes on."""
        self._inspections.stop()
