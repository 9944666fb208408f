"""The `inspect` command: what a checkpoint is, in words."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint, open_checkpoint
from .checkpoint_folder import damage
from .evaluate import wilson_interval
from .maniskill2 import LAYOUTS, MANISKILL2_MODES, inserted, is_maniskill2
from .models.decorated_policy import DecoratedPolicy
from .models.diffusion_policy import DiffusionPolicy
from .protocol.config import DecoratorConfig
from .protocol.rundir import CheckpointInfo, read_checkpoint_info, sidecar
from .safe_load import shown

_MADE_BY = {"pidec": "pidec", "policy_decorator": "Policy Decorator's own program"}


def run(ckpt: str, *, as_json: bool) -> int:
    """Describe `ckpt` on stdout. Returns the exit code: 0, or 1 if size or hash do not match its .json.

    Raises:
        PidecError: it is not a checkpoint.
    """
    facts = describe(open_checkpoint(ckpt))
    if as_json:
        print(json.dumps(facts))
    else:
        for name, value in in_words(facts):
            print(f"{name:<14} {value}")
    return 1 if facts["damage"] else 0


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """Everything that is known about a checkpoint, as JSON values.

    Raises:
        PidecError: its weights are not those of a policy.
    """
    info = read_checkpoint_info(checkpoint.path)
    weights = checkpoint.weights
    policy = checkpoint.policy(weights[0])
    base = policy.base if isinstance(policy, DecoratedPolicy) else policy
    total = checkpoint.settings.get("total_iters")
    if checkpoint.kind == "decorator":
        total = DecoratorConfig.model_validate(checkpoint.payload["config"]).last_step
    return {
        "path": str(checkpoint.path),
        "kind": checkpoint.kind,
        "origin": checkpoint.origin,
        "env_id": checkpoint.env_id,
        "control_mode": checkpoint.control_mode,
        "maniskill2": checkpoint.origin == "policy_decorator" and _is_from_maniskill2(checkpoint, base.obs_dim),
        "step": checkpoint.step,
        "total_steps": total if type(total) is int else None,
        "created": info.created if info else None,
        **_evaluation(info),
        "obs_dim": policy.obs_dim,
        "act_dim": policy.act_dim,
        "obs_horizon": policy.obs_horizon,
        "act_horizon": policy.act_horizon,
        "pred_horizon": policy.pred_horizon,
        "obs_norm": base.obs_norm.kind,
        "action_norm": base.action_norm.kind,
        "unet_dims": _unet_dims(base),
        "parameters": sum(p.numel() for p in policy.parameters()),
        "weights": weights,
        "resumable": bool({"optimizer", "optimizers"} & checkpoint.payload.keys()),
        "residual": _residual(checkpoint, policy),
        "parent_sha256": info.parent_sha256 if info else _parent(checkpoint),
        "adapted": _adapted(checkpoint),
        "constant_inputs": base.constant_inputs.state() if base.constant_inputs else None,
        "size": checkpoint.path.stat().st_size,
        "sha256": info.sha256 if info else None,
        "has_sidecar": info is not None,
        "damage": damage(checkpoint.path) if info else "",
        "notes": checkpoint.notes,
    }


def in_words(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """`describe`'s facts as (name, sentence) rows."""
    rows = [
        ("file", f"{facts['path']} ({facts['size'] / 2**20:.1f} MiB)"),
        ("is", f"a {facts['kind']} policy, {_origin(facts)}"),
        ("task", f"{facts['env_id'] or 'not told'}, control mode {facts['control_mode'] or 'not told'}"),
        ("step", _step(facts)),
        ("success", _success(facts)),
        (
            "horizons",
            "sees {obs_horizon} observations, predicts {pred_horizon} actions, executes {act_horizon}".format(**facts),
        ),
        ("sizes", f"observation {facts['obs_dim']}, action {facts['act_dim']}"),
        ("normalised", f"observations {facts['obs_norm']}, actions {facts['action_norm']}"),
        ("network", f"UNet {'/'.join(map(str, facts['unet_dims']))}, {facts['parameters'] / 1e6:.2f} M parameters"),
        ("weights", ", ".join(facts["weights"]) + f"; can{'' if facts['resumable'] else 'not'} be resumed"),
    ]
    if facts["residual"]:
        text = "{updates:,} updates, res_scale {res_scale:g}, {parameters:,} parameters; base {base_sha256}"
        rows.append(("residual", text.format(**facts["residual"])))
    if facts["constant_inputs"]:
        rows.append(
            (
                "inserts",
                "base_pose into each observation, by itself: {values} at {index}".format(**facts["constant_inputs"]),
            )
        )
    elif is_maniskill2(facts["env_id"], facts["obs_dim"]):
        layout = LAYOUTS[facts["env_id"]]
        rows.append(("on ManiSkill3", inserted(layout.missing, facts["obs_dim"], layout.obs_dim) + "; or adapt it"))
    if facts["created"]:
        rows.append(("saved", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["created"]))))
    if not facts["has_sidecar"]:
        verdict = f"unknown: no {sidecar(Path(facts['path'])).name} beside it"
    else:
        verdict = f"NOT OK: {facts['damage']}" if facts["damage"] else f"ok, sha256 {facts['sha256'][:16]}…"
    rows.append(("hash", verdict))
    return rows + [("note", note) for note in facts["notes"]]


def _is_from_maniskill2(checkpoint: Checkpoint, obs_dim: int) -> bool:
    """Whether its observations or its controller are ManiSkill2's."""
    return checkpoint.control_mode in MANISKILL2_MODES.values() or is_maniskill2(checkpoint.env_id, obs_dim)


def _parent(checkpoint: Checkpoint) -> str | None:
    """Hash of the checkpoint that this one was made of, as it says itself: for those without a .json."""
    holder, name = (checkpoint.payload.get("adapted"), "parent_sha256")
    if checkpoint.kind == "decorator":
        holder, name = checkpoint.payload["base"], "sha256"
    told = holder.get(name) if isinstance(holder, dict) else None
    return told if isinstance(told, str) and len(told) == 64 else None


def _adapted(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Where an adapted checkpoint comes from, as far as it says so."""
    found = checkpoint.payload.get("adapted")
    if checkpoint.origin != "adapted" or not isinstance(found, dict):
        return None
    names = ("method", "source", "parent_sha256", "parent_origin", "index", "values", "assumed")
    return {name: found.get(name) for name in names if isinstance(found.get(name), (str, int, list, dict))}


def _residual(checkpoint: Checkpoint, policy: DiffusionPolicy | DecoratedPolicy) -> dict[str, Any] | None:
    """What a decorator adds to its base; None for a base policy."""
    if not isinstance(policy, DecoratedPolicy):
        return None
    base_sha256 = checkpoint.payload["base"].get("sha256")
    return {
        "updates": checkpoint.payload["updates"],
        "res_scale": float(checkpoint.payload["config"].get("res_scale", policy.res_scale)),
        "parameters": sum(p.numel() for p in policy.actor.parameters()),
        "base_sha256": f"sha256 {shown(base_sha256)[:16]}…" if isinstance(base_sha256, str) else "not told",
    }


def _origin(facts: dict[str, Any]) -> str:
    if facts["origin"] != "adapted":
        return f"trained by {_MADE_BY[facts['origin']]}"
    told = {name: shown(str(value)) for name, value in (facts["adapted"] or {}).items()}
    maker = _MADE_BY.get(told.get("parent_origin", ""), "another program")
    words = f"trained by {maker}, adapted from ManiSkill2 to ManiSkill3 ({told.get('method', 'method not told')})"
    if "source" in told:
        words += f" from {told['source']}"
    return words + (f", sha256 {told['parent_sha256'][:16]}…" if "parent_sha256" in told else "")


def _evaluation(info: CheckpointInfo | None) -> dict[str, Any]:
    if info is None or info.successes is None or not info.episodes:
        return {"successes": None, "episodes": None, "success_rate": None, "wilson_95": None}
    return {
        "successes": info.successes,
        "episodes": info.episodes,
        "success_rate": info.successes / info.episodes,
        "wilson_95": list(wilson_interval(info.successes, info.episodes)),
    }


def _success(facts: dict[str, Any]) -> str:
    if facts["success_rate"] is None:
        return "not evaluated"
    low, high = facts["wilson_95"]
    return (
        f"{facts['success_rate']:.1%}, {facts['successes']} of {facts['episodes']} episodes "
        f"(95 % interval {low:.1%} to {high:.1%})"
    )


def _step(facts: dict[str, Any]) -> str:
    if facts["step"] is None:
        return "not told"
    total = facts["total_steps"]
    unit = "decision steps" if facts["kind"] == "decorator" else "iterations"
    return f"{facts['step']:,}" + (f" of {total:,} {unit}" if total else "")


def _unet_dims(policy: DiffusionPolicy) -> list[int]:
    net = policy.noise_pred_net.state_dict()
    levels = range(len(policy.noise_pred_net.down_modules))
    return [net[f"down_modules.{level}.0.blocks.0.block.0.weight"].shape[0] for level in levels]
