"""Where the job log and the locks of a workspace live: in it, or in a local folder if it is on a network.

SQLite's WAL and flock are not safe on a network file system; run folders and checkpoints are, and stay where they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import Workspace, home_path

STATE_DIR_ENV = "PIDEC_STATE_DIR"

_NETWORK = re.compile(
    r"nfs\d?|cifs|smb3|smbfs|9p|virtiofs|afs|lustre|beegfs|gpfs|ceph|glusterfs|orangefs|pvfs2|panfs|ncpfs|vboxsf|prl_fs"
    r"|moosefs|mfs|juicefs|ocfs2|gfs2"
)
_LOCAL_FUSE = frozenset({"fuseblk", "fuse.fuse-overlayfs", "fuse.lxcfs"})

Mounts = Sequence[tuple[str, str]]  # (mount point, file system type)


def forced_state_dir() -> Path | None:
    """`$PIDEC_STATE_DIR`, None if it is not set. A relative one counts from this process's folder."""
    forced = os.environ.get(STATE_DIR_ENV)
    return home_path(forced).absolute() if forced else None


def is_network(fstype: str) -> bool:
    """Whether files of this type may be seen from two machines. FUSE counts, unless known to be local."""
    fstype = fstype.lower()
    return bool(_NETWORK.fullmatch(fstype)) or (fstype.startswith("fuse") and fstype not in _LOCAL_FUSE)


def read_mounts() -> Mounts:
    """The mounts of this process, in the order in which they were made."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    fields = [line.split() for line in lines]
    return [(_unescaped(words[1]), words[2]) for words in fields if len(words) > 2]


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def fstype_of(path: Path, mounts: Mounts) -> str:
    """Type of the file system that holds `path` (or will, once it exists); "" if no mount is known."""
    real = os.path.realpath(path)
    best, found = -1, ""
    for point, fstype in mounts:
        prefix = point.rstrip("/") + "/"
        if (real + "/").startswith(prefix) and len(prefix) >= best:  # a later mount covers an earlier one
            best, found = len(prefix), fstype
    return found


def choose_state_dir(workspace: Path, mounts: Mounts | None = None) -> Path:
    """The folder for jobs.db, runner.lock, runner.log and, off the workspace, the attempts' locks.

    `<workspace>/jobs` on a local disk; `$XDG_STATE_HOME/pidec/<hash of the workspace>` for a workspace on a network
    file system, or below /var/tmp where the home folder is on the network too. `$PIDEC_STATE_DIR/<hash>` if that is
    set, whatever the file system.
    """
    mounts = read_mounts() if mounts is None else mounts
    if forced_state_dir() is not None or is_network(fstype_of(workspace, mounts)):
        return local_state_dir(workspace, mounts)
    return workspace / "jobs"


def local_state_dir(workspace: Path, mounts: Mounts | None = None) -> Path:
    """A folder of this user for this workspace that is on a local disk and not in the workspace.

    `$PIDEC_STATE_DIR/<hash of the workspace>`, else `$XDG_STATE_HOME/pidec/<hash>` (~/.local/state), or below /var/tmp
    where the home folder is on the network.
    """
    mark = hashlib.sha256(os.path.realpath(workspace).encode()).hexdigest()[:16]
    forced = forced_state_dir()
    if forced is not None:
        return forced / mark
    home = home_path(os.environ.get("XDG_STATE_HOME") or "")
    if not home.is_absolute():  # the standard has such a one ignored
        home = home_path("~/.local/state")
    home /= "pidec"
    if is_network(fstype_of(home, read_mounts() if mounts is None else mounts)):
        home = Path("/var/tmp") / f"pidec-{os.getuid()}"
    return home / mark


def make_private(folder: Path) -> None:
    """Create `folder` (and what is above it) with mode 0700, unless it is there.

    Raises:
        PidecError: it cannot be created or written, or belongs to somebody else.
    """
    if (file := _in_the_way(folder)) is not None:
        raise _unwritable(folder, f"{file} is a file")
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error.strerror or str(error)) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable(folder, "Permission denied")
    if str(folder).startswith("/var/tmp/pidec-") and folder.stat().st_uid != os.getuid():
        raise _unwritable(folder, "it belongs to another user")


def check_folder(workspace: Path) -> None:
    """Raises PidecError where a workspace cannot be, as there is a file."""
    if (file := _in_the_way(workspace)) is not None:
        raise PidecError(f"{file} is a file: no workspace is in it", "--workspace or PIDEC_WORKSPACE names a folder")


def _in_the_way(folder: Path) -> Path | None:
    """The file that is where the folder, or one that it lies in, would have to be; None where that cannot be seen."""
    with contextlib.suppress(OSError):
        for path in (folder, *folder.parents):
            if path.exists():
                return None if path.is_dir() else path
    return None


def _unwritable(folder: Path, why: str) -> PidecError:
    forced = forced_state_dir()
    if forced is not None and folder.is_relative_to(forced):
        hint = f"Set {STATE_DIR_ENV} to a folder that you own, or to none"
    else:
        hint = "Choose a workspace that you own with --workspace DIR or PIDEC_WORKSPACE"
    return PidecError(f"the folder {folder} cannot be written: {why}", hint)


@dataclass(frozen=True)
class Places:
    """Every file of the job manager that is not part of a run."""

    workspace: Workspace
    state_dir: Path

    @classmethod
    def of(cls, workspace: Path, mounts: Mounts | None = None) -> Places:
        return cls(Workspace(workspace), choose_state_dir(workspace, mounts))

    @property
    def db(self) -> Path:
        return self.state_dir / "jobs.db"

    @property
    def runner_lock(self) -> Path:
        return self.state_dir / "runner.lock"

    @property
    def runner_log(self) -> Path:
        return self.state_dir / "runner.log"

    @property
    def elsewhere(self) -> bool:
        """Whether job log and locks are not in the workspace."""
        return self.state_dir != self.workspace.jobs

    def attempt_lock(self, job_id: int, number: int) -> Path:
        """The attempt's lock: in its folder, or beside the job log where that is not in the workspace."""
        if not self.elsewhere:
            return self.workspace.run(job_id).attempt(number).lock
        return self.state_dir / "locks" / f"{job_id:06d}-{number}.lock"

    def make(self) -> None:
        """Create the folders, private to the user. Raises PidecError if that cannot be done."""
        make_private(self.workspace.runs)
        make_private(self.workspace.jobs)
        make_private(self.state_dir)
        if self.elsewhere:
            make_private(self.state_dir / "locks")


def is_no_workspace(root: Path) -> bool:
    """Whether nothing was ever queued there: no run folders, and no job log, which may outlive them elsewhere."""
    places = Places.of(root)
    return not any(path.exists() for path in (places.workspace.runs, places.workspace.jobs / "jobs.db", places.db))
