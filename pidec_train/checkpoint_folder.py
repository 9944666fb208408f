"""Checkpoints as they are written: whole or not at all, two kept, the rest dropped. `checkpoint` reads them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoint import FORMAT_VERSION
from .protocol.errors import PidecError, RunFailed
from .protocol.rundir import (
    BEST,
    LAST,
    CheckpointInfo,
    atomic_file,
    fsync_dir,
    list_checkpoints,
    read_checkpoint_info,
    sidecar,
    step_file,
    step_of,
    write_atomic,
)


class CheckpointFolder:
    """One run's checkpoints. Only the trainer of that run writes here.

    Args:
        path: the folder; created if missing.
        parent_sha256: hash of the checkpoint that the run goes on from.
    """

    def __init__(self, path: Path, parent_sha256: str | None = None) -> None:
        self.path = path
        self.parent_sha256 = parent_sha256
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise PidecError(f"checkpoint folder {path} cannot be made: {error.strerror}") from None

    def save(self, payload: Mapping[str, Any], info: Mapping[str, Any]) -> Path:
        """Write step-….pt, its .json and last.pt; then drop what is neither best nor last.

        Args:
            payload: contents; tensors are copied to the CPU. Must hold `step`.
            info: fields of `CheckpointInfo`, but for those that follow from the file.

        Raises:
            OSError: the disk is full, or the folder cannot be written. What was there before is whole.
        """
        step = int(payload["step"])
        path = self.path / step_file(step)
        size, sha256 = _save_atomic(path, {"format_version": FORMAT_VERSION, **payload})
        record = CheckpointInfo(
            size=size, sha256=sha256, step=step, created=time.time(), parent_sha256=self.parent_sha256, **info
        )
        self._write_info(path, record)
        _link(self.path / LAST, path)
        self._prune()
        return path

    def record_evaluation(self, path: Path, successes: int, episodes: int) -> bool:
        """Note the result in `path`'s .json; best.pt moves there if its rate is higher. Returns whether it moved."""
        info = read_checkpoint_info(path)
        if info is None:
            raise RunFailed(f"{sidecar(path)} is gone or damaged: somebody else writes to {self.path}")
        self._write_info(path, info.model_copy(update={"successes": successes, "episodes": episodes}))
        best = read_checkpoint_info((self.path / BEST).resolve())
        better = best is None or success_rate(best) is None or successes / episodes > (success_rate(best) or 0.0)
        if better:
            _link(self.path / BEST, path)
            self._prune()
        return better

    def latest_good(self) -> tuple[Path | None, list[str]]:
        """The checkpoint of the highest step whose size and hash hold, and what is wrong with those above it."""
        return latest_good(self.path)

    def move_aside(self) -> Path | None:
        """Put what an earlier run left into a subfolder, so that a fresh run cannot be taken for its continuation."""
        old = [p for p in self.path.iterdir() if step_of(p) is not None or p.name in (BEST, LAST)]
        if not old:
            return None
        aside = self.path / time.strftime("before-%Y%m%d-%H%M%S")
        aside.mkdir(exist_ok=True)
        for path in old:
            for file in (path, sidecar(path)):
                if file.exists() or file.is_symlink():
                    file.rename(aside / file.name)
        return aside

    def _write_info(self, path: Path, info: CheckpointInfo) -> None:
        write_atomic(sidecar(path), (info.model_dump_json(indent=1) + "\n").encode())

    def _prune(self) -> None:
        """Delete all but best and last, and what a killed save left behind."""
        kept = {(self.path / link).resolve().name for link in (BEST, LAST)}
        for path in self.path.iterdir():
            stale = path.name.startswith(".step-")
            if stale or (step_of(path) is not None and path.name not in kept):
                with contextlib.suppress(OSError):
                    path.unlink()
                    sidecar(path).unlink(missing_ok=True)


def success_rate(info: CheckpointInfo) -> float | None:
    """Share of successes of the evaluation at that step; None if there was none."""
    if info.successes is None or not info.episodes:
        return None
    return info.successes / info.episodes


def latest_good(folder: Path) -> tuple[Path | None, list[str]]:
    """See `CheckpointFolder.latest_good`; creates nothing."""
    complaints: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        problem = damage(path)
        if not problem:
            return path, complaints
        complaints.append(f"{path.name} is passed over: {problem}")
    return None, complaints


def damage(path: Path) -> str:
    """What is wrong with a checkpoint's size or hash against its .json; "" if both hold."""
    info = read_checkpoint_info(path)
    if info is None:
        return "its .json is missing or damaged"
    try:
        size = path.stat().st_size
        if size != info.size:
            return f"it has {size:,} bytes instead of {info.size:,}"
        if _sha256(path) != info.sha256:
            return "its contents do not match the hash in its .json"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return ""


def _save_atomic(path: Path, payload: Mapping[str, Any]) -> tuple[int, str]:
    """Write a checkpoint whole or not at all. Returns size and sha256 of what lies there now."""
    with atomic_file(path) as file:
        torch.save(plain(payload), file)
    return path.stat().st_size, _sha256(path)


def plain(value: Any) -> Any:
    """`value` with tensors detached and on the CPU, and mappings as plain dicts."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value


def _link(link: Path, target: Path) -> None:
    """Point `link` to `target` (in the same folder), in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.name)
    os.replace(temporary, link)
    fsync_dir(link.parent)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:  # hashlib.file_digest came with Python 3.11
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
