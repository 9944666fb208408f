"""Checkpoints as they are read: without running anything that is in them. `checkpoint_folder` writes them.

A `.pt` holds only tensors, numbers, strings, None, lists, tuples and dicts. The weights lie under `agent` and
`ema_agent` with Policy Decorator's parameter names, so its own files (which hold nothing else) are read as well.
"""

from __future__ import annotations

import json
import pickle
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .models.diffusion_policy import DiffusionPolicy
from .models.norm import Norm
from .protocol.errors import PidecError

FORMAT_VERSION = 1
NET = "noise_pred_net."  # where the noise predictor lies in a policy's weights
# What upstream's program takes when nobody says otherwise; its checkpoints do not say.
UPSTREAM_DEFAULTS = {"obs_horizon": 2, "act_horizon": 4, "pred_horizon": 16, "n_groups": 8, "num_diffusion_iters": 100}


def load_policy(path: str | Path, weights: str = "ema_agent", device: str | torch.device = "cpu") -> DiffusionPolicy:
    """The policy in a checkpoint: ours, or Policy Decorator's best.pt with or without its args.json.

    Args:
        weights: "ema_agent" (averaged) or "agent".

    Raises:
        PidecError: see `read_payload`; or these weights are not in it.
    """
    checkpoint = open_checkpoint(path)
    for note in checkpoint.notes:
        print(f"note: {note}", file=sys.stderr)
    return checkpoint.policy(weights, device)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been read.

    Attributes:
        path: the file itself, links resolved.
        payload: its contents.
        settings: our config, or upstream's args.json, or nothing.
        origin: "pidec" or "policy_decorator".
        notes: what had to be assumed, to be said aloud.
    """

    path: Path
    payload: dict[str, Any]
    settings: dict[str, Any]
    origin: str
    notes: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return str(self.payload.get("kind", "diffusion"))

    @property
    def step(self) -> int | None:
        return self.payload.get("step")

    @property
    def env_id(self) -> str | None:
        return self.settings.get("env_id")

    @property
    def control_mode(self) -> str | None:
        return self.settings.get("control_mode")

    def policy(self, weights: str = "ema_agent", device: str | torch.device = "cpu") -> DiffusionPolicy:
        """The policy with these weights, in eval mode. Widths come from the weights' shapes.

        Raises:
            PidecError: the weights are missing, or not those of a diffusion policy.
        """
        state = self.payload.get(weights)
        if not isinstance(state, dict):
            have = ", ".join(name for name in ("agent", "ema_agent") if name in self.payload)
            raise PidecError(f'{self.path} holds no "{weights}" weights: it has {have}')
        if self.kind != "diffusion" or NET + "final_conv.1.weight" not in state:
            raise PidecError(f"{self.path} is not a diffusion policy: its weights have other names")
        try:
            return self._build(state).to(device).eval().requires_grad_(False)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise PidecError(f"{self.path}: the weights do not fit a diffusion policy ({reason[0]})") from None

    def _build(self, state: Mapping[str, Tensor]) -> DiffusionPolicy:
        def shape(name: str) -> torch.Size:
            return state[NET + name].shape

        chosen = {name: int(self.settings.get(name, default)) for name, default in UPSTREAM_DEFAULTS.items()}
        unet_dims: list[int] = []
        while NET + f"down_modules.{len(unet_dims)}.0.blocks.0.block.0.weight" in state:
            unet_dims.append(shape(f"down_modules.{len(unet_dims)}.0.blocks.0.block.0.weight")[0])
        embed = shape("diffusion_step_encoder.1.weight")[1]
        cond_dim = shape("mid_modules.0.cond_encoder.1.weight")[1] - embed
        obs_dim, odd = divmod(cond_dim, chosen["obs_horizon"])
        if odd:
            raise ValueError(f"a condition of {cond_dim} numbers is no {chosen['obs_horizon']} observations")
        act_dim = shape("final_conv.1.weight")[0]
        policy = DiffusionPolicy(
            obs_dim,
            act_dim,
            unet_dims=unet_dims,
            diffusion_step_embed_dim=embed,
            kernel_size=shape("down_modules.0.0.blocks.0.block.0.weight")[2],
            obs_norm=Norm.from_state(self.payload.get("obs_norm"), obs_dim),
            action_norm=Norm.from_state(self.payload.get("action_norm"), act_dim),
            **chosen,
        )
        policy.load_state_dict(state)
        return policy


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint and what is known about it.

    Raises:
        PidecError: see `read_payload`.
    """
    file = Path(path).expanduser()
    payload = read_payload(file)
    file = file.resolve()
    if isinstance(payload.get("config"), dict):
        return Checkpoint(file, payload, payload["config"], "pidec")
    settings, notes = _upstream_settings(file)
    return Checkpoint(file, payload, settings, "policy_decorator", notes)


def _upstream_settings(file: Path) -> tuple[dict[str, Any], list[str]]:
    """args.json beside the checkpoint or one folder above it (where upstream writes it)."""
    for folder in (file.parent, file.parent.parent):
        path = folder / "args.json"
        try:
            settings = json.loads(path.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            hint = "It says how the checkpoint beside it was made."
            raise PidecError(f"{path} cannot be read: {error}", hint) from None
        if isinstance(settings, dict):
            return settings, []
    horizons = ", ".join(f"{name} {value}" for name, value in UPSTREAM_DEFAULTS.items())
    return {}, [f"no args.json beside or above {file.name}: assuming upstream's defaults, {horizons}"]


def read_payload(path: str | Path) -> dict[str, Any]:
    """Contents of a checkpoint, tensors on the CPU. Nothing in the file is executed.

    Raises:
        PidecError: the file is missing, empty, cut, of another format, holds code, or claims more than its size.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise PidecError(f"checkpoint {path} " + ("is a folder" if path.is_dir() else "does not exist"))
    _check_container(path)
    try:
        # First the shapes alone: a view may claim terabytes out of a file of kilobytes.
        shapes = torch.load(path, map_location="meta", weights_only=True)
        claimed = max((tensor.numel() * tensor.element_size() for tensor in _tensors(shapes)), default=0)
        if claimed > path.stat().st_size:
            raise PidecError(f"{path} is not a checkpoint of ours: a tensor in it claims {claimed:,} bytes")
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except PidecError:
        raise
    except pickle.UnpicklingError as error:  # torch's own text goes on to say how to run such a file: not repeated
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it holds {found[1]}, " if found else ""
        raise PidecError(
            f"{path} is not a checkpoint of ours: {what}more than tensors and numbers, or is damaged",
            "Such a file can run code when it is loaded; pidec does not load it.",
        ) from None
    except Exception as error:  # noqa: BLE001 - a hostile file may make the reader raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PidecError(
            f"{path} is not a checkpoint: it holds more than tensors and numbers, or is damaged ({reason})"
        ) from None
    if not isinstance(payload, dict) or not (isinstance(payload.get("agent"), dict) or "ema_agent" in payload):
        raise PidecError(f"{path} is not a checkpoint of a policy: it has neither agent nor ema_agent")
    version = payload.get("format_version", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise PidecError(f"{path} was written by a newer version of pidec (format {version})", "Update pidec.")
    return payload


def _check_container(path: Path) -> None:
    """A zip of stored entries, as torch.save writes it, no larger unpacked than packed."""
    size = path.stat().st_size
    if not size:
        raise PidecError(f"{path} is not a checkpoint: the file is empty")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except PermissionError:
        raise PidecError(f"checkpoint {path} cannot be read: permission denied", "Check who owns it.") from None
    except (zipfile.BadZipFile, OSError, ValueError):
        raise PidecError(
            f"{path} is not a checkpoint, or only the beginning of one (not what torch.save writes)"
        ) from None
    if any(e.compress_type != zipfile.ZIP_STORED for e in entries) or sum(e.file_size for e in entries) > size:
        raise PidecError(f"{path} is not a checkpoint of ours: it is compressed, which torch.save never does")


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
