"""The presets that a screen speaks of. Their folder may lie on a slow network, so a thread looks, and no key waits for
it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from textual.message import Message

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import Workspace

from .manager.presetfile import Draft
from .manager.presets import Preset, broken_presets, list_presets

PROMPT_S = 0.25  # a folder that answers within this is shown at once: whoever types `n enter` ahead means its presets


class PresetsRead(Message, bubble=False):
    """All presets, and what is wrong with files that are none; `why`: the folder cannot be read."""

    def __init__(self, presets: Sequence[Preset], broken: Sequence[PidecError], why: str = "") -> None:
        super().__init__()
        self.presets = presets
        self.broken = broken
        self.why = why


class PresetLooked(Message, bubble=False):
    """Whether there is a file already where a preset is to go; `why`: that cannot be told."""

    def __init__(self, draft: Draft, path: Path, taken: bool, why: str = "") -> None:
        super().__init__()
        self.draft = draft
        self.path = path
        self.taken = taken
        self.why = why


def read_presets(ws: Workspace, post: Callable[[Message], object]) -> bool:
    """Have them read; `post` takes the message, from the thread. Whether they were read at once."""

    def work() -> Message:
        try:
            return PresetsRead(list_presets(ws), broken_presets(ws))
        except Exception as error:  # noqa: BLE001 - one that may not be read, a server that is gone, a link to itself
            return PresetsRead([], [], f"{ws.presets} cannot be read: {_why(error)}")

    return _look(work, post)


def look_for(draft: Draft, path: Path, post: Callable[[Message], object]) -> bool:
    """Have it looked whether `path`, where the draft is to go, is taken. Whether that was told at once."""

    def work() -> Message:
        try:
            return PresetLooked(draft, path, path.exists())
        except Exception as error:  # noqa: BLE001 - as above
            return PresetLooked(draft, path, False, f"{path.parent} cannot be read: {_why(error)}")

    return _look(work, post)


def _why(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {error}"


def _look(work: Callable[[], Message], post: Callable[[Message], object]) -> bool:
    """In a thread that nobody waits for longer than `PROMPT_S`: one that hangs must not keep the dashboard from
    closing."""
    thread = threading.Thread(target=lambda: post(work()), name="preset files", daemon=True)
    thread.start()
    thread.join(PROMPT_S)
    return not thread.is_alive()
