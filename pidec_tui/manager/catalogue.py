"""Every checkpoint of a workspace and of the extra folders, by their `.json` files. No torch: a `.pt` without one is
`inspecting`'s. Reading costs two file stats a checkpoint; a `.json` that did not change is not read again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import CheckpointInfo, Workspace, home_path, read_checkpoint_info, sidecar, step_of

from .inspecting import Inspected, Inspections
from .intervals import wilson
from .jobs import Job

MOST_FOLDERS = 20_000  # below all roots: somebody named his home folder
JUST_WRITTEN_S = 20.0  # a trainer writes the .json right after the .pt

Condition = Literal["ok", "cut", "unread", "foreign"]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of one checkpoint.

    Attributes:
        job: id of the `evaluate` job; None: the run's own, as the `.json` tells it.
        when: unix seconds; None: not told.
        settings: what was changed from the defaults, as one types it.
    """

    successes: int
    episodes: int
    job: int | None = None
    when: float | None = None
    settings: str = ""

    @property
    def rate(self) -> float:
        return self.successes / self.episodes

    def interval(self) -> tuple[float, float]:
        """95 % interval of the rate (Wilson)."""
        return wilson(self.successes, self.episodes)


@dataclass(frozen=True)
class Entry:
    """One checkpoint, as far as it is known.

    Attributes:
        run: its folder, from the workspace's `checkpoints/` or from the extra folder's parent on.
        job: id of the job that wrote it; None: no job of this workspace.
        tags: "best" and "last" by the links of its folder, or a foreign file's own name.
        created: unix seconds; without a `.json` the file's own time.
        origin: "ours", "upstream", "ManiSkill2" (upstream's, trained there) or "adapted"; "" where nobody knows.
        sha256: as the `.json` says, or as it was when the file was inspected; None: not known.
        base_path: the file that a decorator says to stand on.
        evaluations: the run's own first, then `evaluate` jobs, newest first.
        condition: "cut" if its size is not the `.json`'s, "unread" before it was inspected, "foreign" if it is none.
        note: why it is not "ok", a sentence.
    """

    path: Path
    root: Path
    run: str
    size: int
    created: float
    condition: Condition = "ok"
    note: str = ""
    job: int | None = None
    tags: tuple[str, ...] = ()
    kind: str = ""
    step: int | None = None
    env_id: str | None = None
    control_mode: str | None = None
    obs_dim: int | None = None
    act_dim: int | None = None
    obs_norm: str = "none"
    action_norm: str = "none"
    origin: str = ""
    sha256: str | None = None
    parent_sha256: str | None = None
    config: dict[str, Any] | None = None
    base_path: str | None = None
    evaluations: tuple[Evaluation, ...] = ()
    told: bool = False  # a .json tells it

    @property
    def normalised(self) -> str:
        """Which of the two sides are: "both", "actions", "obs" or "raw"; "" where nobody knows."""
        if not self.kind:
            return ""
        sides = (self.obs_norm != "none", self.action_norm != "none")
        return {(True, True): "both", (False, True): "actions", (True, False): "obs"}.get(sides, "raw")

    @property
    def evaluation(self) -> Evaluation | None:
        """What its success is said to be: that of the most episodes, of the run's own evaluation and those of jobs with
        the usual settings; else the newest job's."""
        usual = [each for each in self.evaluations if not each.settings] or self.evaluations[:1]
        return max(usual, key=lambda each: each.episodes, default=None)

    @property
    def is_policy(self) -> bool:
        """Whether it can be evaluated."""
        return self.condition == "ok" and self.kind in ("diffusion", "decorator")


@dataclass(frozen=True)
class Catalogue:
    """What was found.

    Attributes:
        entries: in the order of their folders.
        troubles: what could not be read, sentences.
        pending: files that nobody has looked into yet, newest first.
    """

    entries: tuple[Entry, ...] = ()
    troubles: tuple[str, ...] = ()
    pending: tuple[Path, ...] = ()

    def at(self, path: Path) -> Entry | None:
        """The entry of this file."""
        return next((entry for entry in self.entries if entry.path == path), None)


# Size and time of a file, its tags, time and size of its .json: while they stay, so does what is known of it.
_Look: TypeAlias = tuple[int, int, tuple[str, ...], tuple[int, int] | None]


@dataclass(frozen=True)
class _Found:
    """A `.pt` in a folder."""

    path: Path
    root: Path
    run: str
    status: os.stat_result
    tags: tuple[str, ...]
    told: tuple[int, int] | None  # time and size of its .json


class CatalogueReader:
    """Reads the folders, again and again. Belongs to one thread at a time.

    Args:
        workspace: whose `checkpoints/` come first.
        inspections: what earlier looks into files without a `.json` have found.
    """

    def __init__(self, workspace: Workspace, inspections: Inspections) -> None:
        self._workspace = workspace
        self._inspections = inspections
        self._known: dict[Path, tuple[_Look, Entry]] = {}  # those whose .json could be read

    def read(
        self,
        jobs: Sequence[Job],
        folders: Iterable[str] = (),
        evaluations: dict[Path, list[Evaluation]] | None = None,
        *,
        now: float,
    ) -> Catalogue:
        """Everything as it is now. Files that vanish meanwhile are left out.

        Args:
            jobs: of the workspace.
            folders: extra ones; relative paths count from the workspace.
            evaluations: by file, what `evaluate` jobs said of it.
            now: unix seconds.
        """
        troubles: list[str] = []
        runs = {self._workspace.checkpoint_dir(job.id, job.name): job.id for job in jobs}
        entries = []
        for found in self._files(folders, troubles):
            entry = self._entry(found, now)
            # A file that is newer than what was said of it is another one under its name.
            more = [e for e in (evaluations or {}).get(found.path, []) if (e.when or now) >= found.status.st_mtime]
            job = runs.get(found.path.parent)
            if more or job != entry.job:
                entry = replace(entry, job=job, evaluations=(*entry.evaluations, *more))
            entries.append(entry)
        self._known = {path: self._known[path] for entry in entries if (path := entry.path) in self._known}
        pending = [e for e in entries if e.condition == "unread" and not _in_making(e, now)]
        pending.sort(key=lambda entry: -entry.created)
        return Catalogue(tuple(entries), tuple(troubles), tuple(entry.path for entry in pending))

    # --- files

    def _files(self, folders: Iterable[str], troubles: list[str]) -> Iterator[_Found]:
        roots = [(self._workspace.checkpoints, self._workspace.checkpoints)]
        for text in folders:
            path = Path(os.path.normpath(self._workspace.root / home_path(text)))
            if not path.is_dir():
                what = "is no folder" if path.exists() else "is not there"
                troubles.append(f"{path} {what}: see checkpoint_folders in the settings")
                continue
            roots.append((path, path.parent))
        seen: set[str] = set()
        budget = MOST_FOLDERS
        for root, named_from in roots:
            for folder in _folders_below(root, seen, troubles):
                budget -= 1
                if budget < 0:
                    troubles.append(f"{root} holds more than {MOST_FOLDERS:,} folders: the rest was not looked at")
                    return
                yield from _checkpoints_in(folder, root, str(folder.relative_to(named_from)), troubles)

    # --- what they are

    def _entry(self, found: _Found, now: float) -> Entry:
        status = found.status
        look = (status.st_size, status.st_mtime_ns, found.tags, found.told)
        known = self._known.get(found.path)
        if known is not None and known[0] == look:
            return known[1]
        plain = Entry(
            found.path,
            found.root,
            found.run,
            status.st_size,
            status.st_mtime,
            tags=found.tags,
            step=step_of(found.path),
        )
        info = read_checkpoint_info(found.path) if found.told else None
        if info is not None:
            entry = _told(plain, info)
            self._known[found.path] = (look, entry)
            return entry
        broken = "its .json is damaged: " if found.told else ""
        looked = self._inspections.known(found.path, status)
        if looked is None:
            return replace(plain, condition="unread", note=f"{broken}not looked into yet")
        return _looked_into(plain, looked, broken)


def _folders_below(root: Path, seen: set[str], troubles: list[str]) -> Iterator[Path]:
    """`root` and all below it, but for hidden ones and links; each once, whichever root it is reached from."""
    for folder, names, _ in os.walk(root, onerror=lambda error: _complain(error, root, troubles)):
        real = os.path.realpath(folder)
        names[:] = sorted(name for name in names if not name.startswith("."))
        if real in seen:
            names.clear()
            continue
        seen.add(real)
        yield Path(folder)


def _in_making(entry: Entry, now: float) -> bool:
    """Whether it is one of ours whose .json is about to come."""
    return step_of(entry.path) is not None and now - entry.created < JUST_WRITTEN_S


def _complain(error: OSError, root: Path, troubles: list[str]) -> None:
    """Only of what is there: the workspace's own folder comes with its first run, others may vanish at any time."""
    if not isinstance(error, FileNotFoundError):
        troubles.append(f"{error.filename or root} cannot be read: {error.strerror}")


def _checkpoints_in(folder: Path, root: Path, run: str, troubles: list[str]) -> Iterator[_Found]:
    """The `.pt` files of one folder; links among them become tags of what they point to."""
    tags: dict[str, list[str]] = {}
    files: dict[str, os.stat_result] = {}
    told: dict[str, tuple[int, int]] = {}
    try:
        for item in sorted(os.scandir(folder), key=lambda item: item.name):
            name = item.name
            if name.startswith(".") or not name.endswith((".pt", ".json")):
                continue
            try:
                target = os.readlink(item.path) if item.is_symlink() and name.endswith(".pt") else ""
                if target and os.path.basename(target) == target.removeprefix("./"):
                    tags.setdefault(os.path.basename(target), []).append(Path(name).stem)
                elif item.is_file() and name.endswith(".pt"):
                    files[name] = item.stat()
                elif item.is_file():
                    status = item.stat()
                    told[name] = (status.st_mtime_ns, status.st_size)
            except OSError:
                continue  # gone since
    except OSError as error:
        _complain(error, folder, troubles)
    for name, status in files.items():
        path = folder / name
        own = () if step_of(path) is not None else (path.stem,)
        yield _Found(path, root, run, status, (*tags.get(name, ()), *own), told.get(sidecar(path).name))


def _told(plain: Entry, info: CheckpointInfo) -> Entry:
    """What the `.json` says, held against the file's size."""
    cut = plain.size != info.size
    own = (Evaluation(info.successes, info.episodes),) if info.successes is not None and info.episodes else ()
    base = info.config.get("base_policy_ckpt")
    return replace(
        plain,
        condition="cut" if cut else "ok",
        note=f"it has {plain.size:,} bytes, its .json says {info.size:,}" if cut else "",
        kind=info.kind,
        step=info.step,
        created=info.created,
        env_id=info.env_id,
        control_mode=info.control_mode,
        obs_dim=info.obs_dim,
        act_dim=info.act_dim,
        obs_norm=info.obs_norm,
        action_norm=info.action_norm,
        origin={"pidec": "ours", "policy_decorator": "upstream"}.get(info.origin, info.origin),
        sha256=info.sha256,
        parent_sha256=info.parent_sha256,
        config=info.config,
        base_path=base if isinstance(base, str) else None,
        evaluations=own,
        told=True,
    )


def _looked_into(plain: Entry, looked: Inspected, broken: str) -> Entry:
    facts = looked.facts
    if facts is None:
        return replace(plain, condition="foreign", note=f"{broken}{looked.why}")
    origin = {"pidec": "ours", "policy_decorator": "ManiSkill2" if facts.maniskill2 else "upstream"}
    return replace(
        plain,
        note=f"{broken}known from the file itself" if broken else "",
        kind=facts.kind,
        step=facts.step if facts.step is not None else plain.step,
        env_id=facts.env_id,
        control_mode=facts.control_mode,
        obs_dim=facts.obs_dim,
        act_dim=facts.act_dim,
        obs_norm=facts.obs_norm,
        action_norm=facts.action_norm,
        origin=origin.get(facts.origin, facts.origin),
        sha256=looked.sha256,
        parent_sha256=facts.parent_sha256,
    )


def check_hash(entry: Entry) -> str:
    """The file's hash, read whole. Raises PidecError if it cannot be read or is not what the `.json` says."""
    from .inspecting import sha256_of

    try:
        found = sha256_of(entry.path)
    except OSError as error:
        raise PidecError(f"{entry.path} cannot be read: {error.strerror}") from None
    if entry.told and entry.sha256 != found:
        raise PidecError(
            f"{entry.path.name} of {entry.run} is damaged: its contents do not match the hash in its .json",
            "Do not use it; x puts it into the trash",
        )
    return found
