"""Writing a preset of a workspace from what stands in a form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from pidec_train.protocol.config import parse_config
from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import Workspace, write_atomic

from .presets import Preset, read_preset

_NAME = re.compile(r"[\w][\w.-]*")
_LONGEST = 100  # bytes: file systems take 255


@dataclass(frozen=True)
class Draft:
    """A preset that is to be. `config`: what differs from the kind's defaults; see `Preset` for the rest."""

    name: str
    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    lane: str | None = None
    first: str | None = None

    def path(self, ws: Workspace) -> Path:
        """Where it goes. It hides a shipped one of the same name. Raises PidecError: no file can have that name."""
        if not _NAME.fullmatch(self.name) or len(self.name.encode()) > _LONGEST:
            wrong = f'"{self.name[:_LONGEST]}" is no name for a preset' if self.name else "the preset needs a name"
            hint = (
                f"At most {_LONGEST} letters, digits, dots and dashes: it becomes a file; type it into the line `name`"
            )
            raise PidecError(wrong, hint)
        return ws.presets / f"{self.name}.toml"


def save_preset(ws: Workspace, draft: Draft, *, over: bool = False) -> Preset:
    """Write it, and read it back.

    Args:
        over: in the place of one that is there.

    Raises:
        PidecError: a name that no file can have, one that is taken, or a wrong value.
    """
    path = draft.path(ws)
    if path.exists() and not over:
        raise PidecError(f"{path} is there already", "Give it another name")
    about = {"title": draft.name, "kind": draft.kind, "lane": draft.lane, "first": draft.first}
    told = {name: value for name, value in about.items() if value is not None}
    typed = parse_config(draft.kind, draft.config).model_dump(mode="json")  # numbers are text as one types them
    config = {name: typed[name] for name in draft.config if typed[name] is not None}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, tomli_w.dumps({**told, "config": config}).encode())
    return read_preset(path, builtin=False)
