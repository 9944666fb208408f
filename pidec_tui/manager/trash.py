"""Checkpoints go into a folder `.trash` of their root, never away: `mv` brings them back, `rm -r` frees the disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pidec_train.protocol.episodes import episodes_file
from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import (
    BEST,
    LAST,
    Workspace,
    fsync_dir,
    list_checkpoints,
    read_checkpoint_info,
    sidecar,
    step_of,
)

from .catalogue import Catalogue, Entry
from .catalogue_order import Lineage
from .inspecting import sha256_of
from .jobs import Job
from .specs import reference

TRASH = ".trash"


@dataclass(frozen=True)
class Thrown:
    """What was done.

    Attributes:
        folder: where the files are now.
        links: what became of the run's links, sentences.
        size: bytes, which stay on the disk for as long as they lie there.
    """

    folder: Path
    links: tuple[str, ...]
    size: int


def why_not(entry: Entry, catalogue: Catalogue, jobs: Sequence[Job], workspace: Workspace) -> str:
    """Why this checkpoint must stay, a sentence; "" if it may go. Quick: no file is read but links."""
    lineage = Lineage(catalogue.entries)
    decorators = [child for child in lineage.children(entry) if child.kind == "decorator"]
    decorators += [
        other
        for other in catalogue.entries
        if other.base_path and other not in decorators and Path(os.path.realpath(other.base_path)) == entry.path
    ]
    if decorators:
        more = f" and {len(decorators) - 1} more" if len(decorators) > 1 else ""
        return f"it is the base of {_name(decorators[0])}{more}"
    for job in jobs:
        if job.state.finished:
            continue
        if job.id == entry.job:
            return f"job {job.id}, which wrote it, is {job.state}: it goes on from what it saved"
        for name, value in job.config.items():
            if _means(value, entry, jobs, workspace):
                return f"job {job.id}, {job.name}, is {job.state} and reads it ({name})"
    return ""


def _name(entry: Entry) -> str:
    return f"{entry.run}" + (f" at step {entry.step:,}" if entry.step is not None else "")


def _means(value: object, entry: Entry, jobs: Sequence[Job], workspace: Workspace) -> bool:
    """Whether a config's value names this file, by itself or through a link."""
    if not isinstance(value, str):
        return False
    if asked := reference(value):
        job = next((job for job in jobs if job.id == asked[0]), None)
        if job is None:
            return False
        value = str(workspace.checkpoint_dir(job.id, job.name) / (BEST if asked[1] == "best" else LAST))
    return value.endswith(".pt") and Path(os.path.realpath(value)) == entry.path


def consequences(entry: Entry, catalogue: Catalogue) -> list[str]:
    """What goes with it, sentences for the question."""
    said = []
    if "best" in entry.tags and step_of(entry.path) is not None:
        best = _best(entry.path.parent, entry.path)
        said.append(f"best.pt will be {best.name}." if best else "best.pt goes with it.")
    others = [other for other in catalogue.entries if other.path.parent == entry.path.parent and other != entry]
    if entry.told and not others:
        said.append("It is the only checkpoint of its run.")
    elif "last" in entry.tags and step_of(entry.path) is not None:
        last = _last(entry.path.parent, entry.path)
        said.append(f"last.pt will be {last.name}: a resumed run goes on from there." if last else "")
    children = Lineage(catalogue.entries).children(entry)
    if children:
        said.append(f"{_name(children[0])} was made of it, and keeps working.")
    return [text for text in said if text]


def throw_away(entry: Entry, catalogue: Catalogue, jobs: Sequence[Job], workspace: Workspace) -> Thrown:
    """Move the checkpoint with its `.json` and its episodes into the trash; `best.pt` and `last.pt` move on before.

    Raises:
        PidecError: it must stay, it is gone, or the folder cannot be written; then nothing was changed.
    """
    why = why_not(entry, catalogue, jobs, workspace) or _unknown_base(entry, catalogue)
    if why:
        raise PidecError(f"{entry.path.name} of {entry.run} stays: {why}")
    folder = entry.path.parent
    with _alone(folder):
        files = [path for path in (episodes_file(entry.path), sidecar(entry.path), entry.path) if path.exists()]
        if entry.path not in files:
            raise PidecError(f"{entry.path} is gone already")
        if not entry.told:
            files = [entry.path]  # a .json beside a foreign file need not be its own
        target = entry.root / TRASH / time.strftime("%Y%m%d-%H%M%S") / folder.relative_to(entry.root)
        try:
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            taken = [path.name for path in files if (target / path.name).exists()]
            if taken:
                raise PidecError(f"{target / taken[0]} is there already", "Try again in a second")
            links = _move_links(entry.path) if step_of(entry.path) is not None else ()
            for path in files:
                os.rename(path, target / path.name)
            fsync_dir(folder)
        except OSError as error:
            hint = "Check who owns the folder"
            if error.errno == errno.EXDEV:
                hint = f"{folder} is another disk than {entry.root}: give that folder in checkpoint_folders"
            raise PidecError(f"{entry.path} cannot be moved to {target}: {error.strerror}", hint) from None
    return Thrown(target, links, entry.size)


def _unknown_base(entry: Entry, catalogue: Catalogue) -> str:
    """Whether a decorator whose base is not known by its hash stands on this file; reads it, if its hash is not known
    either."""
    hashes = {other.sha256 for other in catalogue.entries if other.sha256}
    wanted = {
        other.parent_sha256: other
        for other in catalogue.entries
        if other.kind == "decorator" and other.parent_sha256 and other.parent_sha256 not in hashes
    }
    if not wanted or entry.sha256 is not None:
        return ""
    with contextlib.suppress(OSError):
        if child := wanted.get(sha256_of(entry.path)):
            return f"it is the base of {_name(child)}"
    return ""


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The lock that a trainer holds on its folder for as long as it runs, whoever started it."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise PidecError(f"{folder} cannot be opened: {error.strerror}") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # some network file systems know no locks
            if error.errno == errno.EWOULDBLOCK:
                raise PidecError(f"a run writes its checkpoints to {folder} now", "Wait until it is over") from None
        yield
    finally:
        os.close(fd)


def _move_links(path: Path) -> tuple[str, ...]:
    """Point the links that mean `path` to what comes after it, or take them away. Never one that points to nothing."""
    said = []
    for name, other in ((BEST, _best(path.parent, path)), (LAST, _last(path.parent, path))):
        link = path.parent / name
        if not link.is_symlink() or os.path.basename(os.readlink(link)) != path.name:
            continue
        if other is None:
            link.unlink()
            said.append(f"{name} went with it")
            continue
        temporary = link.with_name(f".{name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(other.name)
        os.replace(temporary, link)
        said.append(f"{name} is {other.name} now")
    return tuple(said)


def _best(folder: Path, without: Path) -> Path | None:
    """The highest success rate, the earliest of several, as the trainer has it."""
    best, best_rate = None, -1.0
    for path in list_checkpoints(folder):
        info = read_checkpoint_info(path) if path != without else None
        if info is None or info.successes is None or not info.episodes:
            continue
        if info.successes / info.episodes > best_rate:
            best, best_rate = path, info.successes / info.episodes
    return best


def _last(folder: Path, without: Path) -> Path | None:
    return next((path for path in reversed(list_checkpoints(folder)) if path != without), None)
