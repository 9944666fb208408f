"""Checkpoints as they are written: whole or not at all, two kept, the rest dropped. `checkpoint` reads them.

`checkpoint_saver` writes them beside the training, so one thread may save here while another records an evaluation.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from torch import Tensor

from .checkpoint import FORMAT_VERSION
from .protocol.episodes import BASE_EPISODES, Episode, EpisodeFile, episodes_file, read_episodes, write_episodes
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
    """One run's checkpoints. Only the trainer of that run writes here; its threads may do so at the same time.

    Args:
        path: the folder; created if missing.
        parent_sha256: hash of the checkpoint that the run goes on from.
    """

    def __init__(self, path: Path, parent_sha256: str | None = None) -> None:
        self.path = path
        self.parent_sha256 = parent_sha256
        # Held around links, .json files and deletions, not around the writing of a .pt, which may take seconds.
        self._lock = threading.RLock()
        self._kept: set[str] = set()  # names of checkpoints that somebody still wants
        self._in_making: set[str] = set()  # names of those that are being written
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise PidecError(f"checkpoint folder {path} cannot be made: {error.strerror}") from None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Around a run: no other one may write here meanwhile, their checkpoints would replace each other.

        The lock is the kernel's (flock on the folder) and ends with the process, whatever ends it.

        Raises:
            PidecError: another run is at it, or the folder cannot be written: better said now than after a night.
        """
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise PidecError(f"checkpoint folder {self.path} cannot be written", "Choose another --checkpoint-dir.")
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:  # some network file systems know no locks: then nobody is kept out
                if error.errno == errno.EWOULDBLOCK:
                    hint = "Wait until it is over, or choose another --checkpoint-dir."
                    raise PidecError(f"another run writes its checkpoints to {self.path}", hint) from None
            yield
        finally:
            os.close(fd)

    def save(self, payload: Mapping[str, Any], info: Mapping[str, Any]) -> Path:
        """Write step-….pt, its .json and last.pt; then drop what is neither best, last nor kept.

        Args:
            payload: contents; tensors are copied to the CPU. Must hold `step`.
            info: fields of `CheckpointInfo`, but for those that follow from the file.

        Raises:
            OSError: the disk is full, or the folder cannot be written. What was there before is whole.
        """
        step = int(payload["step"])
        path = self.path / step_file(step)
        with self._lock:
            self._sweep()  # what a killed save left may be what fills the disk
            self._in_making.add(path.name)
        try:
            size, sha256 = _save_atomic(path, {"format_version": FORMAT_VERSION, **payload})
            record = CheckpointInfo(
                size=size, sha256=sha256, step=step, created=time.time(), parent_sha256=self.parent_sha256, **info
            )
            with self._lock:
                self._write_info(path, record)
                _link(self.path / LAST, path)
                self._prune()
        finally:
            with self._lock:
                self._in_making.discard(path.name)
                self._sweep()  # a .pt whose .json did not fit beside it
        return path

    def record_evaluation(self, path: Path, successes: int, episodes: int) -> bool:
        """Note the result in `path`'s .json; best.pt moves there if its rate is higher. Returns whether it moved.

        Raises:
            OSError: the disk is full, or the folder cannot be written. What was there before is whole.
            RunFailed: the checkpoint is not there any more.
        """
        with self._lock:
            info = read_checkpoint_info(path)
            if info is None:
                raise RunFailed(f"{sidecar(path)} is gone or damaged: somebody else writes to {self.path}")
            self._write_info(path, info.model_copy(update={"successes": successes, "episodes": episodes}))
            moved_to = self.link_best()
            return moved_to is not None and moved_to.name == path.name

    def record_episodes(self, path: Path, episodes: Sequence[Episode]) -> None:
        """Put episodes of `path`'s evaluation beside it; they go when it goes.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        self._write_episodes(episodes_file(path), path, episodes)

    def record_base_episodes(self, path: Path, episodes: Sequence[Episode]) -> None:
        """Put the base policy's episodes into the folder, to stay. `path`: the decorator's checkpoint of step 0.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        self._write_episodes(self.path / BASE_EPISODES, path, episodes)

    def _write_episodes(self, target: Path, path: Path, episodes: Sequence[Episode]) -> None:
        with self._lock:  # else a save would take the file in the making for what a kill has left
            if info := read_checkpoint_info(path):
                file = EpisodeFile(
                    env_id=info.env_id or "",
                    control_mode=info.control_mode or "",
                    policy=info.kind if info.step else "diffusion",  # at 0 the base acts alone
                    step=info.step,
                    episodes=list(episodes),
                )
                write_episodes(target, file)

    def base_seeds(self) -> list[int]:
        """Seeds of the base policy's episodes that the folder keeps."""
        file = read_episodes(self.path / BASE_EPISODES)
        return [episode.seed for episode in file.episodes] if file else []

    def link_best(self) -> Path | None:
        """Let best.pt point to the best; it does, but where a kill came before it could move. Returns where it moved.

        Raises:
            OSError: the folder cannot be written.
        """
        with self._lock:
            best, linked = self._best(), self.path / BEST
            if best is None or best.name == linked.resolve().name:
                return None
            _link(linked, best)
            self._prune()
            return best

    def keep(self, path: Path) -> None:
        """Do not drop this checkpoint until `release`. It need not be there yet. Forgotten when the process ends."""
        with self._lock:
            self._kept.add(path.name)

    def release(self, path: Path) -> None:
        """Undo `keep`: the checkpoint is dropped now if it is neither best nor last."""
        with self._lock:
            if path.name in self._kept:
                self._kept.discard(path.name)
                self._prune()

    def unevaluated(self, due: Callable[[int], bool]) -> list[Path]:
        """Undamaged checkpoints without a result whose step is `due`, newest first."""
        found = []
        for path in reversed(list_checkpoints(self.path)):
            info = read_checkpoint_info(path)
            if info and due(info.step) and success_rate(info) is None and not damage(path):
                found.append(path)
        return found

    def latest_good(self) -> tuple[Path | None, list[str]]:
        """The checkpoint of the highest step whose size and hash hold, and what is wrong with those above it."""
        return latest_good(self.path)

    def move_aside(self) -> Path | None:
        """Put what an earlier run left into a subfolder, so that a fresh run cannot be taken for its continuation."""
        ours = (BEST, LAST, BASE_EPISODES)
        old = [p for p in self.path.iterdir() if step_of(p) is not None or p.name in ours]
        if not old:
            return None
        aside = self.path / time.strftime("before-%Y%m%d-%H%M%S")
        aside.mkdir(exist_ok=True)
        for path in old:
            for file in (path, sidecar(path), episodes_file(path)):
                if file.exists() or file.is_symlink():
                    file.rename(aside / file.name)
        return aside

    def _write_info(self, path: Path, info: CheckpointInfo) -> None:
        write_atomic(sidecar(path), (info.model_dump_json(indent=1) + "\n").encode())

    def _best(self) -> Path | None:
        """The checkpoint of the highest success rate, the earliest of several; None: none was evaluated.

        Read off all of them: a kill may come between a result's .json and best.pt's move.
        """
        best, best_rate = None, -1.0
        for path in list_checkpoints(self.path):
            info = read_checkpoint_info(path)
            rate = success_rate(info) if info else None
            if rate is not None and rate > best_rate:
                best, best_rate = path, rate
        return best

    def _prune(self) -> None:
        """Delete all but best, last, those that are kept and the one in the making."""
        with contextlib.suppress(OSError):  # what cannot be deleted now is no reason not to go on
            wanted = self._linked() | self._kept | self._in_making
            if best := self._best():
                wanted.add(best.name)
            for path in list_checkpoints(self.path):
                if path.name not in wanted:  # the .json first: without it the .pt is not listed any more
                    sidecar(path).unlink(missing_ok=True)
                    path.unlink()
                    episodes_file(path).unlink(missing_ok=True)
        self._sweep()

    def _sweep(self) -> None:
        """Delete what a killed or failed save left behind: temporary files, a .pt or a .json without the other, and
        episodes without their checkpoint.
        """
        wanted = self._linked() | self._in_making
        temporary = (".step-", f".{BEST}.", f".{LAST}.", f".{BASE_EPISODES}.")
        in_making = tuple(f".{name}." for name in self._in_making)
        with contextlib.suppress(OSError):  # as above
            for path in list(self.path.iterdir()):
                if path.name.startswith("."):
                    stale = path.name.startswith(temporary) and not path.name.startswith(in_making)
                elif path.suffix == ".json":
                    weights = path.with_name(path.name.partition(".")[0] + ".pt")
                    stale = step_of(weights) is not None and not weights.exists()
                else:
                    stale = step_of(path) is not None and path.name not in wanted and not sidecar(path).exists()
                if stale:
                    path.unlink()

    def _linked(self) -> set[str]:
        return {(self.path / link).resolve().name for link in (BEST, LAST)}


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
        if sha256_of(path) != info.sha256:
            return "its contents do not match the hash in its .json"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return ""


def _save_atomic(path: Path, payload: Mapping[str, Any]) -> tuple[int, str]:
    """Write a checkpoint whole or not at all. Returns its size and sha256."""
    with atomic_file(path) as file:
        sink = _Sink(file)
        try:
            torch.save(plain(payload), cast("IO[bytes]", sink))  # it asks for no more than `write`
        except RuntimeError:
            if sink.error:
                raise sink.error from None
            raise
    return sink.size, sink.digest.hexdigest()


class _Sink:
    """A file for torch.save: hashes what goes through, and remembers why a write failed.

    In the middle of a file torch (2.13) answers a full disk with "unexpected pos 400704 vs 598" and no OSError.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        try:
            self._file.write(data)
        except OSError as error:
            self.error = error
            raise
        self.digest.update(data)
        count = memoryview(data).nbytes
        self.size += count
        return count

    def flush(self) -> None:
        self._file.flush()


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


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:  # hashlib.file_digest came with Python 3.11
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
