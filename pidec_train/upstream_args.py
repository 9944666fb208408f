"""What stands beside upstream's weights: the args.json of its program, found and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .protocol.errors import PidecError

# What upstream's program takes when nobody says otherwise; its checkpoints do not say.
UPSTREAM_DEFAULTS = {"obs_horizon": 2, "act_horizon": 4, "pred_horizon": 16, "n_groups": 8, "num_diffusion_iters": 100}
HORIZONS = ("obs_horizon", "act_horizon", "pred_horizon")
_LARGEST = {"num_diffusion_iters": 10_000}  # all others: below
_LARGEST_OTHER = 1_000
_MAX_BYTES = 1 << 20


def read_args(*files: Path) -> tuple[dict[str, Any], list[str]]:
    """The args.json beside a checkpoint or one folder above it (where upstream writes it), and what there is to say.

    Args:
        files: the checkpoint, under all names that it has.

    Raises:
        PidecError: there is one that cannot be read, or that says what cannot be.
    """
    folders = [folder for file in files for folder in (file.absolute().parent, file.absolute().parent.parent)]
    for folder in dict.fromkeys(folders):
        path = folder / "args.json"
        if not path.is_file():
            continue
        hint = "It says how the checkpoint was made; move it away to go by upstream's defaults."
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise ValueError(f"it has more than {_MAX_BYTES:,} bytes")
            found = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise PidecError(f"{path} cannot be read: {error}", hint) from None
        if not isinstance(found, dict):
            raise PidecError(f"{path} is no table of settings", hint)
        settings = checked_settings(found, str(path))
        missing = {name: UPSTREAM_DEFAULTS[name] for name in HORIZONS if name not in settings}
        return settings, [f"{path} does not say {_listed(missing)}: assumed"] if missing else []
    return {}, [
        f"no args.json beside or above {files[0].name}: assuming upstream's defaults, {_listed(UPSTREAM_DEFAULTS)}"
    ]


def checked_settings(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`settings` if what pidec reads of them can be so. Settings that nobody here knows pass.

    Raises:
        PidecError: a horizon that is no number or that does not fit the others, or a task that is no name.
    """
    found = dict(settings)
    for name in UPSTREAM_DEFAULTS:
        most = _LARGEST.get(name, _LARGEST_OTHER)
        if name in found and not (type(found[name]) is int and 1 <= found[name] <= most):
            raise PidecError(f"{where}: {name} = {str(found[name])[:40]!r} is not possible: allowed are 1 to {most:,}")
    for name in ("env_id", "control_mode"):
        text = found.get(name)
        if text is not None and not (isinstance(text, str) and text.isprintable() and 0 < len(text) <= 200):
            raise PidecError(f"{where}: {name} is not a name")
    obs, act, pred = (found.get(name, UPSTREAM_DEFAULTS[name]) for name in HORIZONS)
    if obs + act - 1 > pred:
        raise PidecError(
            f"{where}: obs_horizon {obs} + act_horizon {act} - 1 must not exceed pred_horizon {pred}",
            "The executed actions start at the last observation seen.",
        )
    return found


def _listed(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
