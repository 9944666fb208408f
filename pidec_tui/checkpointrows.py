"""The checkpoints of one folder, as the main screen lists them."""

from __future__ import annotations

import os
from pathlib import Path

from pidec_train.protocol.rundir import BEST, LAST, list_checkpoints, read_checkpoint_info

from .board import CheckpointRow


def checkpoint_rows(folder: Path) -> tuple[CheckpointRow, ...]:
    """The checkpoints in `folder` by their sidecars, newest first."""
    links = {name: Path(os.readlink(folder / name)).name for name in (BEST, LAST) if (folder / name).is_symlink()}
    rows = []
    for path in reversed(list_checkpoints(folder)):
        info = read_checkpoint_info(path)
        if info is not None:
            tags = tuple(name.removesuffix(".pt") for name, target in links.items() if target == path.name)
            rows.append(CheckpointRow(path, info.step, tags, info.successes, info.episodes, info.created, info.size))
    return tuple(rows)
