"""The `adapt` command: a checkpoint from ManiSkill2 becomes one for ManiSkill3, with the same outputs.

ManiSkill2's observations hold numbers that never change (`maniskill2.LAYOUTS`). They reach the network in one place:
every FiLM encoder is a Mish, then a Linear, over (step embedding, observation, observation, …). What a constant input
adds to that Linear's output is a constant too. "fold" adds it to the bias and deletes the columns; "pad" leaves the
weights alone and records what is to be inserted on use.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .checkpoint import NET, Checkpoint, open_checkpoint
from .checkpoint_folder import plain, sha256_of
from .maniskill2 import LAYOUTS, mismatch
from .metrics import MetricWriter
from .models.diffusion_policy import DiffusionPolicy
from .models.padding import ConstantInputs
from .protocol.config import AdaptConfig
from .protocol.errors import PidecError, RunFailed
from .protocol.rundir import CheckpointInfo, atomic_file, home_path, sidecar, write_atomic
from .safe_load import FORMAT_VERSION, read_payload
from .upstream_args import HORIZONS, UPSTREAM_DEFAULTS

ORIGIN = "adapted"
_ENCODER = "cond_encoder.1."
_CHECK_ROWS = 64
_LARGEST_DIFFERENCE = 1e-4  # of actions; rounding makes some 1e-6


@dataclass(frozen=True)
class Adapted:
    """A checkpoint's contents after `adapt`, and the policies before and after, for comparing them."""

    payload: dict[str, Any]
    before: DiffusionPolicy
    after: DiffusionPolicy


def run(config: AdaptConfig, run_dir: Path | None) -> int:
    """The `adapt` command. Returns the exit code; the result goes to stdout.

    Raises:
        PidecError: `out` cannot be written or is taken; see `adapt` and `open_checkpoint`.
        RunFailed: the outputs would not be the same; nothing is written.
    """
    values = config.model_dump(mode="json")
    with MetricWriter(run_dir, kind="adapt", step_name="checkpoint", total_steps=1, config=values) as writer:
        checkpoint = open_checkpoint(config.ckpt)
        for note in checkpoint.notes:
            writer.event("warning", message=note)
        parent = sha256_of(checkpoint.path)
        out = _place(home_path(config.out), checkpoint, parent)
        adapted = adapt(checkpoint, parent, config.method, config.env_id)
        difference = largest_difference(adapted.before, adapted.after)
        if not difference < _LARGEST_DIFFERENCE:
            raise RunFailed(
                f"the adapted weights act otherwise (largest difference {difference:.1g}): nothing is written"
            )
        _write(out, adapted)
        writer.event("progress", 1)
    print(
        f"{out}: {config.method}, takes the {adapted.after.obs_dim} numbers that ManiSkill3 observes; "
        f"largest difference of an action on {_CHECK_ROWS} random observations {difference:.1g}"
    )
    return 0


def adapt(checkpoint: Checkpoint, parent_sha256: str, method: str, env_id: str | None = None) -> Adapted:
    """`checkpoint` without the constant inputs of its task.

    Args:
        method: "fold" or "pad".
        env_id: the task; None: the checkpoint's.

    Raises:
        PidecError: nobody knows the task, nothing is to be adapted, or what differs is not known.
    """
    task = checkpoint.on(env_id, None)
    if not task.env_id:
        raise PidecError(f"{checkpoint.path} does not say on which task it was trained", "Give --env-id.")
    before = checkpoint.diffusion_policy(checkpoint.weights[0])
    missing = _missing(checkpoint, task.env_id, before, method)
    chosen = {name: checkpoint.settings.get(name, default) for name, default in UPSTREAM_DEFAULTS.items()}
    fold = method == "fold"
    complete = before.obs_dim + (len(before.constant_inputs) if before.constant_inputs else 0)
    rows = before.obs_norm.normalise(missing.insert(torch.zeros(1, complete - len(missing))))  # normalised constants
    weights = {
        name: fold_constants(
            checkpoint.payload[name], rows[0, list(missing.columns)], missing, complete, before.obs_horizon
        )
        if fold
        else checkpoint.payload[name]
        for name in checkpoint.weights
    }
    obs_norm = before.obs_norm.without(missing.columns) if fold else before.obs_norm
    config = {**checkpoint.settings, **chosen, "env_id": task.env_id, "control_mode": task.control_mode}
    payload = {
        "format_version": FORMAT_VERSION,
        "kind": "diffusion",
        "origin": ORIGIN,
        "step": checkpoint.step,
        **weights,
        "config": config,
        "obs_dim": complete - len(missing),
        "act_dim": before.act_dim,
        "obs_norm": obs_norm.state(),
        "action_norm": before.action_norm.state(),
        "constant_inputs": None if fold else missing.state(),
        "adapted": {
            "method": method,
            "source": str(checkpoint.path),
            "parent_sha256": parent_sha256,
            "parent_origin": _maker(checkpoint),
            "assumed": {name: chosen[name] for name in HORIZONS if name not in checkpoint.settings},
            **missing.state(),
        },
    }
    after = Checkpoint(checkpoint.path, payload, config, ORIGIN).diffusion_policy(checkpoint.weights[0])
    padded = before if before.constant_inputs else before.with_constant_inputs(missing)
    return Adapted(payload, padded, after)


def _maker(checkpoint: Checkpoint) -> str:
    """Who trained it, in the words of `Checkpoint.origin`."""
    made = checkpoint.payload.get("adapted")
    return str(made.get("parent_origin")) if isinstance(made, dict) else checkpoint.origin


def _missing(checkpoint: Checkpoint, env_id: str, policy: DiffusionPolicy, method: str) -> ConstantInputs:
    """The constant inputs to take out."""
    if policy.constant_inputs and method == "fold":
        return policy.constant_inputs  # padded before, to be folded now
    layout = LAYOUTS.get(env_id)
    if policy.constant_inputs or (layout and policy.obs_dim == layout.obs_dim):
        raise PidecError(
            f"{checkpoint.path} needs no adapting: it takes the {policy.obs_dim} numbers that {env_id} observes",
            "Evaluate it as it is.",
        )
    if layout is None:
        message = f"the policy has obs_dim {policy.obs_dim}, and how {env_id} differs from ManiSkill2's is not known"
        raise PidecError(message, mismatch(env_id, policy.obs_dim, 0)[1])
    if layout.maniskill2_dim != policy.obs_dim:
        raise PidecError(*mismatch(env_id, policy.obs_dim, layout.obs_dim))
    return layout.missing


def fold_constants(
    weights: Mapping[str, Tensor], values: Tensor, missing: ConstantInputs, obs_dim: int, obs_horizon: int
) -> dict[str, Tensor]:
    """The weights of a network that is not given these inputs and computes the same.

    Args:
        values: (n,) the constants as the network sees them: normalised.
        obs_dim: size of one observation with them.
    """
    share = functional.mish(values.double())  # (n,)
    folded = dict(weights)
    embed = weights[NET + "diffusion_step_encoder.1.weight"].shape[1]
    gone = [embed + step * obs_dim + i for step in range(obs_horizon) for i in missing.columns]
    for name in weights:
        if not name.endswith(_ENCODER + "weight"):
            continue
        matrix = weights[name].double()  # (2 C, embed + obs_horizon * obs_dim)
        kept = [i for i in range(matrix.shape[1]) if i not in set(gone)]
        bias = name.removesuffix("weight") + "bias"
        folded[bias] = (weights[bias].double() + matrix[:, gone] @ share.repeat(obs_horizon)).float()
        folded[name] = weights[name][:, kept].contiguous()
    return folded


def largest_difference(before: DiffusionPolicy, after: DiffusionPolicy) -> float:
    """Of the actions of two policies for the same random observations and the same noise (DDIM, 4 steps)."""
    generator = torch.Generator().manual_seed(0)
    shape = (_CHECK_ROWS, before.obs_horizon, before.obs_dim)
    obs = torch.randn(shape, generator=generator)
    if after.constant_inputs is None:  # what such observations look like
        obs = obs * after.obs_norm.scale + after.obs_norm.offset
    noise = torch.randn((_CHECK_ROWS, before.pred_horizon, before.act_dim), generator=generator)
    steps = min(4, before.num_diffusion_iters)
    actions = [policy.sample_actions(obs, noise, "ddim", steps) for policy in (before, after)]
    return float((actions[0] - actions[1]).abs().max())


def _place(out: Path, checkpoint: Checkpoint, parent_sha256: str) -> Path:
    """`out` if it may be written: it is free, or holds what this command made of the same checkpoint.

    The latter lets an interrupted job run again.
    """
    if out.resolve() == checkpoint.path:
        raise PidecError(f"out is the checkpoint itself ({out}): it would be lost", "Choose another --out.")
    if out.is_symlink() or out.exists():
        try:
            made = read_payload(out).get("adapted")
        except PidecError:
            made = None
        if out.is_symlink() or not isinstance(made, dict) or made.get("parent_sha256") != parent_sha256:
            hint = "Choose another --out, or move that file away."
            raise PidecError(f"{out} is there already and was not made of {checkpoint.path.name}", hint)
    try:
        out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PidecError(f"{out.parent} cannot be made: {error.strerror}", "Choose another --out.") from None
    return out


def _write(out: Path, adapted: Adapted) -> None:
    """The .pt, then its .json. Each whole or not at all."""
    payload, after = adapted.payload, adapted.after
    try:
        with atomic_file(out) as file:
            torch.save(plain(payload), file)
        info = CheckpointInfo(
            size=out.stat().st_size,
            sha256=sha256_of(out),
            kind="diffusion",
            step=payload["step"] or 0,
            created=time.time(),
            env_id=payload["config"]["env_id"],
            control_mode=payload["config"]["control_mode"],
            obs_dim=after.obs_dim,
            act_dim=after.act_dim,
            action_norm=after.action_norm.kind,
            obs_norm=after.obs_norm.kind,
            origin=ORIGIN,
            parent_sha256=payload["adapted"]["parent_sha256"],
            config=payload["config"],
        )
        write_atomic(sidecar(out), (info.model_dump_json(indent=1) + "\n").encode())
    except (OSError, RuntimeError) as error:  # a full disk, in torch's words or the system's
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise PidecError(f"{out} cannot be written: {reason}", "Choose another --out.") from None
