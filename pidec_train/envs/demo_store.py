"""Where demos lie while they are made, and how they become one file. No simulator here.

FILE.h5, FILE.json             the result: appears, and grows, only as a whole
FILE.parts/task.json        task and control mode of the parts
FILE.parts/000000012.h5     the demo of seed 12, with its .json, exactly as ManiSkill recorded it
FILE.parts/000000013.none   seed 13 gave no demo; the text says why
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import h5py

from ..protocol.errors import PidecError
from ..protocol.rundir import fsync_dir, write_atomic, write_json
from .planner import WORK_PREFIX, part_path

_MARK = "pidec"  # our entry in the .json: which seeds the file stands for


class DemoStore:
    """The demos of one output file. Use as a context manager: it holds a lock, so that no two processes write.

    Args:
        out: the .h5 to write.
        first_seed: the file stands for the seeds from here on, in order.

    Raises:
        PidecError: `out` holds something else, cannot be written, or somebody else writes it.
    """

    def __init__(self, out: Path, env_id: str, control_mode: str, first_seed: int) -> None:
        if out.suffix != ".h5":
            raise PidecError(f'--out "{out}" must end in .h5')
        if ".h5" in str(out.absolute().parent):  # it would take the folder's .h5 for the file's and write elsewhere
            raise PidecError(f'--out "{out}" lies in a folder with .h5 in its name, which ManiSkill cannot write to')
        self.out, self.first_seed = out, first_seed
        self.env_id, self.control_mode = env_id, control_mode
        self.folder = out.with_suffix(".parts")
        self._in_file: list[dict[str, Any]] = []  # the .json's episodes
        self._outcomes: dict[int, bool] = {}  # by seed: did it give a demo?

    def __enter__(self) -> DemoStore:
        self._read_file()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.folder / "lock", "w")
        except OSError as error:
            raise PidecError(f'cannot write "{self.out}": {error.strerror}') from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise PidecError(
                f'another process is making "{self.out}"', "Wait for it, or choose another --out."
            ) from None
        try:
            self._read_parts()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.folder.is_dir() and not any(path.suffix in (".h5", ".none") for path in self.folder.iterdir()):
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    @property
    def num_in_file(self) -> int:
        """Demos in `out`."""
        return len(self._in_file)

    @property
    def kept(self) -> list[int]:
        """Seeds that gave a demo, lowest first."""
        return sorted(seed for seed, success in self._outcomes.items() if success)

    @property
    def attempted(self) -> int:
        """Seeds that were tried."""
        return len(self._outcomes)

    def record(self, seed: int, success: bool, reason: str = "") -> None:
        """Note the outcome of a seed. The demo itself must already lie at `part_path(folder, seed)`."""
        if not success:
            write_atomic(part_path(self.folder, seed).with_suffix(".none"), reason.encode())
        self._outcomes[seed] = success

    def next_seed(self, num_demos: int, under_way: set[int]) -> int | None:
        """The lowest seed that is still wanted for a file of `num_demos` demos, None if none is."""
        seed = self.first_seed
        while seed in self._outcomes or seed in under_way:
            seed += 1
        last = self._last_seed(num_demos)
        return seed if last is None or seed < last else None

    def is_complete(self, num_demos: int) -> bool:
        """Whether the first `num_demos` successes are known: no seed below the last of them is open."""
        last = self._last_seed(num_demos)
        return last is not None and all(seed in self._outcomes for seed in range(self.first_seed, last))

    def write(self, num_demos: int) -> None:
        """Make `out` and its .json hold the first `num_demos` successes, then drop the parts."""
        seeds = self.kept[:num_demos]
        places = {episode["episode_seed"]: episode["episode_id"] for episode in self._in_file}
        content: dict[str, Any] = {}
        episodes: list[dict[str, Any]] = []
        temporary = self.out.with_name(f".{self.out.name}.tmp")
        with h5py.File(temporary, "w", libver=("v110", "v110")) as target:
            for number, seed in enumerate(seeds):
                source = self.out if seed in places else part_path(self.folder, seed)
                with h5py.File(source, "r") as file:
                    _copy(file[f"traj_{places.get(seed, 0)}"], target.create_group(f"traj_{number}", track_order=True))
                whole = json.loads(source.with_suffix(".json").read_text())
                episode = next(one for one in whole["episodes"] if one["episode_seed"] == seed)
                episodes.append({**episode, "episode_id": number})
                content = content or whole
        content["episodes"] = episodes
        content[_MARK] = {"first_seed": self.first_seed, "seeds_tried": seeds[-1] + 1 - self.first_seed}
        self._publish(temporary, content)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _publish(self, temporary: Path, content: dict[str, Any]) -> None:
        """Put the new pair in place so that a kill between the two renames leaves a pair that can be read.

        A first file: the .json first, since without an .h5 there is no file yet. A longer one: the .h5 first, since it
        begins with the very demos that the old .json lists.
        """
        _fsync(temporary)
        names = self.out.with_suffix(".json")
        if not self.out.exists():
            write_json(names, content)
            os.replace(temporary, self.out)
        else:
            os.replace(temporary, self.out)
            write_json(names, content)
        for path in (self.out, names):
            path.chmod(0o666 & ~_umask())
        fsync_dir(self.out.parent)

    def _last_seed(self, num_demos: int) -> int | None:
        kept = self.kept
        return kept[num_demos - 1] if len(kept) >= num_demos else None

    def _read_file(self) -> None:
        """Take over what `out` holds.

        Raises:
            PidecError: it cannot be read or is of another task, control mode, first seed or maker.
        """
        if not self.out.exists():
            return
        elsewhere = "Choose another --out, or remove the file."
        try:
            content = json.loads(self.out.with_suffix(".json").read_text())
            episodes, task = content["episodes"], content["env_info"]["env_id"]
            mode = episodes[0]["control_mode"]
            with h5py.File(self.out, "r") as file:
                whole = all(f"traj_{episode['episode_id']}" in file for episode in episodes)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise PidecError(f'"{self.out}" exists but is no demo file that can be read ({error})', elsewhere) from None
        if task != self.env_id or mode != self.control_mode:
            raise PidecError(
                f'"{self.out}" holds demos of {task} with {mode}, not of {self.env_id} with {self.control_mode}',
                elsewhere,
            )
        mark = content.get(_MARK)
        if not mark or not whole:
            raise PidecError(f'"{self.out}" was not made by pidec-train demos and cannot be extended', elsewhere)
        if mark["first_seed"] != self.first_seed:
            raise PidecError(
                f'"{self.out}" holds demos from seed {mark["first_seed"]} on, not {self.first_seed}', elsewhere
            )
        self._in_file = episodes
        self._outcomes = dict.fromkeys(range(self.first_seed, self.first_seed + mark["seeds_tried"]), False)
        self._outcomes |= {episode["episode_seed"]: True for episode in episodes}

    def _read_parts(self) -> None:
        """Take over the parts of an earlier call that was stopped; clear away what it left half-made."""
        task = self.folder / "task.json"
        mine = {"env_id": self.env_id, "control_mode": self.control_mode}
        if not task.exists():
            write_json(task, mine)
        elif (other := json.loads(task.read_text())) != mine:
            raise PidecError(
                f'"{self.folder}" holds half-made demos of {other["env_id"]} with {other["control_mode"]}',
                "Choose another --out, or remove that folder.",
            )
        for path in self.folder.iterdir():
            if path.name.startswith(WORK_PREFIX):
                shutil.rmtree(path, ignore_errors=True)
            elif path.stem.isdigit() and path.suffix in (".h5", ".none") and int(path.stem) >= self.first_seed:
                self._read_part(path)

    def _read_part(self, path: Path) -> None:
        seed = int(path.stem)
        if seed in self._outcomes:  # a kill between writing `out` and dropping its parts
            path.unlink()
        elif path.suffix == ".none" or _is_whole(path):
            self._outcomes[seed] = path.suffix == ".h5"


def _is_whole(part: Path) -> bool:
    """False for what a power cut may leave: a renamed file whose content never reached the disk."""
    try:
        json.loads(part.with_suffix(".json").read_text())
        with h5py.File(part, "r") as file:
            return "traj_0" in file
    except (OSError, ValueError):
        return False


def _copy(source: h5py.Group, target: h5py.Group) -> None:
    """Copy a trajectory, compressed: states hardly change from step to step.

    One chunk per array, in HDF5 1.10's format: the older format's indices would be larger than the data.
    """
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy(item, target.create_group(name, track_order=True))
        else:
            options = {"chunks": item.shape, "compression": "gzip", "compression_opts": 9, "shuffle": True}
            target.create_dataset(name, data=item[()], **options)


def _fsync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
