"""Demonstrations: ManiSkill's trajectory file (.h5) and the .json beside it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from .. import assets
from ..protocol.config import BUNDLED
from ..protocol.errors import PidecError
from ..protocol.rundir import home_path
from .trajectories import Demos, replay_command

_TRAJECTORY = re.compile(r"traj_(\d+)")
_RIGHT_JSON = "Copy the .json that was written with the .h5."


def resolve_demo_path(path: str | Path) -> Path:
    """`path` as a file; "bundled:NAME.h5" names one that ships with the package.

    Raises:
        PidecError: there is no such file.
    """
    text = str(path)
    if text.startswith(BUNDLED):
        folder = Path(assets.__file__).parent
        found = folder / text[len(BUNDLED) :]
        if not found.is_file():
            have = ", ".join(sorted(p.name for p in folder.glob("*.h5"))) or "none"
            raise PidecError(f'no bundled demos "{text[len(BUNDLED) :]}": there are {have}')
        return found
    file = home_path(text)
    if file.is_dir():
        raise PidecError(f"demo file {file} is a folder", "Name the .h5 file in it.")
    if not file.exists():
        raise PidecError(f"demo file {file} does not exist", "Make one with: pidec-train demos --out FILE.h5")
    return file


def load_demos(path: str | Path, num_traj: int | None = None) -> Demos:
    """The first `num_traj` demos of a file (all of them for None).

    Raises:
        PidecError: the file is missing, cut, not HDF5, without its .json, without state observations, holds fewer
            demos than asked for, or numbers that are not finite.
    """
    file = resolve_demo_path(path)
    if not os.access(file, os.R_OK):
        raise PidecError(f"demo file {file} cannot be read: permission denied", "Check who owns it.")
    if not h5py.is_hdf5(file):
        raise PidecError(f"demo file {file} is not an HDF5 file", "Copy it again, or name the right one.")
    env_id, control_mode = _read_json(file)
    try:
        with h5py.File(file, "r") as h5:
            names = sorted((n for n in h5 if _TRAJECTORY.fullmatch(n)), key=lambda n: int(n.split("_")[1]))
            if not names:
                raise PidecError(f"demo file {file} holds no demos (no traj_0, traj_1, …)", "Record some first.")
            if num_traj is not None and num_traj > len(names):
                raise PidecError(f"num_demo_traj {num_traj} is more than the {len(names)} demos in {file}")
            pairs = [_read_trajectory(file, h5, name, control_mode) for name in names[:num_traj]]
    except OSError as error:
        what = " ".join(str(error).split())
        raise PidecError(f"demo file {file} cannot be read, it seems damaged: {what}", "Copy it again.") from None
    demos = Demos(file, env_id, control_mode, [pair[0] for pair in pairs], [pair[1] for pair in pairs])
    for name, obs, actions in zip(names, demos.observations, demos.actions, strict=False):
        _check_trajectory(demos, name, obs, actions)
    return demos


def _read_json(file: Path) -> tuple[str, str]:
    """Env id and control mode, looked up where upstream looks: env_kwargs first, then the first episode."""
    path = file.with_suffix(".json")
    try:
        info: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise PidecError(
            f"{path} is missing: it says with which task and control mode {file.name} was recorded",
            "ManiSkill writes it beside the .h5; copy it too.",
        ) from None
    except (OSError, ValueError) as error:
        raise PidecError(f"{path} cannot be read: {error}", f"Copy it again, with {file.name}.") from None
    try:
        env_info = info["env_info"]
        env_id = env_info["env_id"]
        episodes = info.get("episodes") or [{}]
        mode = env_info.get("env_kwargs", {}).get("control_mode") or episodes[0].get("control_mode")
    except (KeyError, TypeError, AttributeError):
        raise PidecError(
            f"{path} is not the json of a ManiSkill recording: it has no env_info.env_id", _RIGHT_JSON
        ) from None
    if not mode:
        raise PidecError(
            f"{path} names no control mode, neither in env_info.env_kwargs nor in episodes[0]", _RIGHT_JSON
        )
    return env_id, mode


def _read_trajectory(
    file: Path, h5: h5py.File, name: str, control_mode: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    group = h5[name]
    replay = f"Replay it with state observations: {replay_command(file, control_mode)}"
    if not isinstance(group, h5py.Group) or "actions" not in group:
        raise PidecError(f"{file}: {name} has no actions")
    if "obs" not in group:
        raise PidecError(f"{file} holds no observations ({name} has no obs)", replay)
    if isinstance(group["obs"], h5py.Group):
        parts = ", ".join(group["obs"])
        raise PidecError(f"{file}: the observations are not of obs_mode state but hold {parts or 'nothing'}", replay)
    if isinstance(group["actions"], h5py.Group):
        raise PidecError(f"{file}: {name} has actions for several robots, which is not supported")
    return np.asarray(group["obs"], np.float32), np.asarray(group["actions"], np.float32)


def _check_trajectory(demos: Demos, name: str, obs: NDArray[np.float32], actions: NDArray[np.float32]) -> None:
    where = f"{demos.path}: {name}"
    if obs.ndim != 2 or actions.ndim != 2 or len(obs) != len(actions) + 1 or not len(actions):
        raise PidecError(
            f"{where} has obs {obs.shape} and actions {actions.shape}; expected (L+1, obs_dim) and (L, act_dim)"
        )
    if obs.shape[1] != demos.obs_dim or actions.shape[1] != demos.act_dim:
        raise PidecError(
            f"{where} has {obs.shape[1]} observation and {actions.shape[1]} action numbers, the first demo "
            f"{demos.obs_dim} and {demos.act_dim}"
        )
    for what, values in (("obs", obs), ("actions", actions)):
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0, 0])
            raise PidecError(f"{where}: {what} at step {row} holds NaN or infinity", "Record that demo again.")
