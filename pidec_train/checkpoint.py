"""What a checkpoint means: weights, sizes, task. `safe_load` reads the file, `checkpoint_folder` writes ours.

A `.pt` holds only tensors, numbers, strings, None, lists, tuples and dicts. The weights lie under `agent` and
`ema_agent` with Policy Decorator's parameter names, so its own files (which hold nothing else) are read as well.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pidec_train.protocol.rundir import home_path

from .maniskill2 import MANISKILL2_MODES, MANISKILL3_IDS, Task, task_of
from .models.decorated_policy import DecoratedPolicy
from .models.diffusion_policy import DiffusionPolicy
from .models.norm import Norm
from .models.padding import ConstantInputs
from .models.residual import ResidualActor
from .models.unet1d import ConditionalUnet1D
from .protocol.config import DecoratorConfig
from .protocol.errors import PidecError
from .safe_load import FORMAT_VERSION as FORMAT_VERSION
from .safe_load import read_payload as read_payload
from .safe_load import shown
from .upstream_args import UPSTREAM_DEFAULTS, checked_settings, read_args

NET = "noise_pred_net."  # where the noise predictor lies in a policy's weights
_FIRST = NET + "down_modules.{}.0.blocks.0.block.0.weight"
DEFAULT_OBS_HORIZON = UPSTREAM_DEFAULTS["obs_horizon"]
_LAST = NET + "final_conv.1.weight"


Policy = DiffusionPolicy | DecoratedPolicy


def load_policy(path: str | Path, weights: str = "ema_agent", device: str | torch.device = "cpu") -> Policy:
    """The policy in a checkpoint: ours, or Policy Decorator's best.pt with or without its args.json.

    A policy that was trained on ManiSkill2 takes larger observations than ManiSkill3 gives:
    `maniskill2.match_observations` makes it fit.

    Args:
        weights: "ema_agent" (averaged) or "agent".

    Raises:
        PidecError: see `open_checkpoint`; or these weights are not in it.
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
        payload: its contents; the weights in float32.
        settings: our config, or upstream's args.json, or nothing.
        origin: "pidec", "policy_decorator" or "adapted" (see `adapt`).
        env_id, control_mode: its task, in ManiSkill3's names; None where nobody knows.
        notes: what had to be assumed, translated or put up with, to be said aloud.
    """

    path: Path
    payload: dict[str, Any]
    settings: dict[str, Any]
    origin: str
    env_id: str | None = None
    control_mode: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return str(self.payload.get("kind", "diffusion"))

    @property
    def step(self) -> int | None:
        return self.payload.get("step")

    def on(self, env_id: str | None, control_mode: str | None) -> Task:
        """Its task, where somebody says otherwise: these go before what is known (None: nothing is said)."""
        env_id = MANISKILL3_IDS.get(env_id or "", env_id)
        if control_mode:
            notes = []
            if self.control_mode is not None and self.control_mode == MANISKILL2_MODES.get(control_mode):
                notes = [
                    f"trained on ManiSkill2, whose {control_mode} is {self.control_mode} here: "
                    f"as asked, it runs with ManiSkill3's {control_mode}, which means other motions"
                ]
            return Task(env_id or self.env_id, control_mode, tuple(notes))
        if env_id and env_id != self.env_id and self.origin == "policy_decorator":
            sizes = sizes_of(self.payload[self.weights[0]], self.settings.get("obs_horizon", DEFAULT_OBS_HORIZON))
            return task_of(env_id, self.settings.get("control_mode"), *sizes)
        return Task(env_id or self.env_id, self.control_mode)

    @property
    def weights(self) -> list[str]:
        """Which weights its (base) policy has, the averaged ones first."""
        holder = self.payload["base"] if self.kind == "decorator" else self.payload
        return [name for name in ("ema_agent", "agent") if isinstance(holder.get(name), dict)]

    @property
    def base(self) -> Checkpoint:
        """Of a decorator's checkpoint: its base policy's, as it was decorated."""
        return Checkpoint(
            self.path, self.payload["base"], self.settings, str(self.payload["base"].get("origin", "pidec"))
        )

    def policy(self, weights: str = "ema_agent", device: str | torch.device = "cpu") -> Policy:
        """The policy with these weights, in eval mode. Widths come from the weights' shapes.

        Raises:
            PidecError: the weights are missing, or not those of a policy.
        """
        if weights not in self.weights:
            raise PidecError(f'{self.path} holds no "{weights}" weights: it has {", ".join(self.weights)}')
        if self.kind not in ("diffusion", "decorator"):
            raise PidecError(f"{self.path} is not a diffusion policy: its kind is {shown(self.kind)}")
        try:
            made: Policy
            if self.kind == "decorator":
                made = self._decorated(weights)
            else:
                made = self._build(self.payload[weights])
            return made.to(device).eval().requires_grad_(False)
        except PidecError as error:
            raise PidecError(f"{self.path}: {error.message}", error.hint) from None
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, ArithmeticError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise PidecError(f"{self.path}: the weights do not fit a diffusion policy ({reason[0]})") from None

    def diffusion_policy(self, weights: str = "ema_agent", device: str | torch.device = "cpu") -> DiffusionPolicy:
        """As `policy`, of a checkpoint that holds a base policy alone.

        Raises:
            PidecError: it is a decorator's.
        """
        if self.kind == "decorator":
            raise PidecError(
                f"{self.path} is a decorated policy, not a base policy", "Take the checkpoint that it decorates."
            )
        made = self.policy(weights, device)
        assert isinstance(made, DiffusionPolicy)
        return made

    def _decorated(self, weights: str) -> DecoratedPolicy:
        config, state = DecoratorConfig.model_validate(self.payload["config"]), self.payload["res_actor"]
        base = self.base.diffusion_policy(weights)
        sees_base = config.actor_input == "obs_base_action"
        chunk = config.act_horizon * base.act_dim
        seen = base.obs_dim + (chunk if sees_base else 0)
        with torch.device("meta"):  # as in `_build`
            expected = ResidualActor(seen, torch.ones(chunk), config.hidden_dims, config.log_std_min).state_dict()
        if not isinstance(state, dict) or expected.keys() != state.keys():
            raise ValueError("res_actor is not a residual policy of these settings")
        for name, tensor in expected.items():
            if state[name].shape != tensor.shape or not bool(torch.isfinite(state[name]).all()):
                raise ValueError(f"res_actor: {name} is not {tuple(tensor.shape)} finite numbers")
        actor = ResidualActor(seen, state["action_scale"], config.hidden_dims, config.log_std_min)
        actor.load_state_dict(state)
        return DecoratedPolicy(
            base,
            actor,
            # Before the first update there is no residual to speak of: such a checkpoint is its base.
            res_scale=config.res_scale if self.payload["updates"] else 0.0,
            sees_base=sees_base,
            ddim_steps=config.ddim_steps,
            norm_obs=config.norm_obs,
        )

    def _build(self, state: Mapping[str, Tensor]) -> DiffusionPolicy:
        chosen = {name: int(self.settings.get(name, default)) for name, default in UPSTREAM_DEFAULTS.items()}
        unet_dims: list[int] = []
        while _FIRST.format(len(unet_dims)) in state:
            unet_dims.append(state[_FIRST.format(len(unet_dims))].shape[0])
        kernel_size = state[_FIRST.format(0)].shape[2]
        embed = state[NET + "diffusion_step_encoder.1.weight"].shape[1]
        obs_dim, act_dim = sizes_of(state, chosen["obs_horizon"])
        with torch.device("meta"):  # its size follows from a few shapes: it must not be taken before all are compared
            expected = ConditionalUnet1D(
                act_dim, chosen["obs_horizon"] * obs_dim, unet_dims, embed, kernel_size, chosen["n_groups"]
            ).state_dict()
        extra = [shown(key) for key in state if key.removeprefix(NET) not in expected]
        if extra:
            kind = "of a policy that sees images, " if any("visual" in key or "encoder" in key for key in extra) else ""
            raise ValueError(f"there are {len(extra)} more, {kind}the first is {extra[0]}")
        for name, tensor in expected.items():
            if state[NET + name].shape != tensor.shape:
                raise ValueError(f"{name} is {tuple(state[NET + name].shape)} instead of {tuple(tensor.shape)}")
        if chosen["pred_horizon"] % 2 ** (len(unet_dims) - 1):
            raise ValueError(f"pred_horizon {chosen['pred_horizon']} cannot be halved {len(unet_dims) - 1} times")
        obs_norm = Norm.from_state(self.payload.get("obs_norm"), obs_dim)
        if not bool((obs_norm.scale > 0).all()):
            raise ValueError("obs_norm divides by 0")
        policy = DiffusionPolicy(
            obs_dim,
            act_dim,
            unet_dims=unet_dims,
            diffusion_step_embed_dim=embed,
            kernel_size=kernel_size,
            obs_norm=obs_norm,
            action_norm=self._action_norm(act_dim),
            constant_inputs=ConstantInputs.from_state(self.payload.get("constant_inputs"), obs_dim),
            **chosen,
        )
        policy.load_state_dict(state)
        return policy

    def _action_norm(self, act_dim: int) -> Norm:
        """Ours, or the statistics that a fork of upstream's program keeps beside the weights; without either: raw."""
        mean, std = self.payload.get("action_mean"), self.payload.get("action_std")
        if self.payload.get("action_norm") is None and (mean is not None or std is not None):
            return Norm.from_action_statistics(mean, std, act_dim)
        return Norm.from_state(self.payload.get("action_norm"), act_dim)


def sizes_of(state: Mapping[str, Tensor], obs_horizon: int) -> tuple[int, int]:
    """(obs_dim, act_dim) as the network sees them.

    Raises:
        ValueError, KeyError, IndexError: these are not the weights of such a network.
    """
    embed = state[NET + "diffusion_step_encoder.1.weight"].shape[1]
    cond_dim = state[NET + "mid_modules.0.cond_encoder.1.weight"].shape[1] - embed
    obs_dim, odd = divmod(cond_dim, obs_horizon)
    if odd or obs_dim < 1:
        raise ValueError(f"its condition of {cond_dim} numbers is no {obs_horizon} observations (obs_horizon)")
    if embed < 4 or embed % 2:
        raise ValueError(f"its step embedding has {embed} numbers")
    return obs_dim, state[_LAST].shape[0]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint and what is known about it.

    Raises:
        PidecError: see `read_payload`; the weights are those of another kind of policy, or what stands beside them is
            not what it should be.
    """
    file = home_path(path)
    payload = read_payload(file)
    _check_fields(file, payload)
    file, notes = file.resolve(), []
    holder = payload["base"] if payload.get("kind") == "decorator" else payload
    for name in ("agent", "ema_agent"):
        if payload.get("kind", "diffusion") in ("diffusion", "decorator") and holder.get(name) is not None:
            holder[name], said = _checked_weights(file, name, holder[name])
            notes += said
    if not any(isinstance(holder.get(name), dict) for name in ("agent", "ema_agent")):
        raise PidecError(f"{file} is not a checkpoint of a policy: it holds no weights of one")
    if payload.get("kind") == "decorator":
        settings = _decorator_settings(file, payload)
        return Checkpoint(file, payload, settings, "pidec", settings["env_id"], settings["control_mode"], notes)
    if isinstance(payload.get("config"), dict):
        settings = checked_settings(payload["config"], f"{file}: config")
        origin = "adapted" if payload.get("origin") == "adapted" else "pidec"
        task = (settings.get("env_id"), settings.get("control_mode"))
        return Checkpoint(file, payload, settings, origin, *task, notes)
    settings, said = read_args(home_path(path), file)
    notes += said
    if "obs_mean" in payload or "obs_std" in payload:
        notes.append(f"{file.name} holds obs_mean or obs_std, which pidec does not use: observations go in raw")
    horizon = settings.get("obs_horizon", DEFAULT_OBS_HORIZON)
    state = payload.get("ema_agent") or payload["agent"]
    try:
        told = task_of(settings.get("env_id"), settings.get("control_mode"), *sizes_of(state, horizon))
    except (KeyError, ValueError, IndexError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise PidecError(f"{file}: the weights do not fit a diffusion policy ({reason})") from None
    notes += told.notes
    return Checkpoint(file, payload, settings, "policy_decorator", told.env_id, told.control_mode, notes)


def _decorator_settings(file: Path, payload: Mapping[str, Any]) -> dict[str, Any]:
    """The base's settings, with the task and the horizon that it was decorated with.

    Raises:
        PidecError: what a decorator's checkpoint says of itself cannot be so.
    """
    own, base = payload.get("config"), payload["base"].get("config")
    updates = payload.get("updates")
    counted = type(updates) is int and 0 <= updates < 2**63
    if not isinstance(own, dict) or not isinstance(base, dict) or not counted:
        raise PidecError(f"{file} is not a checkpoint of ours: a decorator's config, base or updates are missing")
    chosen = {name: own.get(name) for name in ("env_id", "control_mode", "act_horizon")}
    settings = checked_settings({**base, **chosen}, f"{file}: config")
    if not settings["env_id"] or not settings["control_mode"]:
        raise PidecError(f"{file} is not a checkpoint of ours: it does not say on which task it was trained")
    return settings


def base_payload(checkpoint: Checkpoint, policy: DiffusionPolicy, control_mode: str, sha256: str) -> dict[str, Any]:
    """What a decorator's checkpoint holds of its base: enough to build `policy` again, on the CPU.

    Args:
        checkpoint: the base's.
        policy: built from it, with constant inputs and horizon as they are decorated.
        sha256: of the checkpoint's file.
    """
    horizons = {name: getattr(policy, name) for name in ("obs_horizon", "act_horizon", "pred_horizon")}
    known = {**checkpoint.settings, **horizons, "num_diffusion_iters": policy.num_diffusion_iters}
    kept = {name: known[name] for name in UPSTREAM_DEFAULTS if name in known}
    return {
        "kind": "diffusion",
        "ema_agent": {name: tensor.cpu() for name, tensor in policy.state_dict().items()},
        "config": {**kept, "env_id": checkpoint.env_id},
        "control_mode": control_mode,
        "obs_norm": policy.obs_norm.state(),
        "action_norm": policy.action_norm.state(),
        "constant_inputs": policy.constant_inputs.state() if policy.constant_inputs else None,
        "origin": checkpoint.origin,
        "step": checkpoint.step,
        "sha256": sha256,
    }


def _check_fields(file: Path, payload: Mapping[str, Any]) -> None:
    """What is shown or counted with has its type: a number of a million digits cannot even be printed."""
    step, kind = payload.get("step"), payload.get("kind", "diffusion")
    if step is not None and not (type(step) is int and 0 <= step < 2**63):
        raise PidecError(f"{file} is not a checkpoint of ours: its step is no number of iterations")
    if not isinstance(kind, str):
        raise PidecError(f"{file} is not a checkpoint of ours: its kind is no text")


def _checked_weights(file: Path, name: str, state: Any) -> tuple[dict[str, Tensor], list[str]]:
    """`state` in float32, and what there is to say about it."""
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise PidecError(f"{file} is not a checkpoint of a policy: its {name} is no table of weights")
    if _LAST not in state:
        other = (
            "a Behavior Transformer" if any("transformer" in key or "gpt" in key for key in state) else "something else"
        )
        raise PidecError(
            f"{file} is not a diffusion policy: its weights have other names, those of {other}",
            "pidec reads Diffusion Policies (UNet, state observations).",
        )
    notes, weights = [], {}
    for key, tensor in state.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            found = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise PidecError(f"{file}: {name} holds {found} under {shown(key)}: weights are floating-point tensors")
        weights[key] = tensor.detach().float()
    others = sorted({str(tensor.dtype) for tensor in state.values()} - {"torch.float32"})
    if others:
        notes.append(f"{name} holds {', '.join(others)} weights: computing in float32")
    broken = sum(not bool(torch.isfinite(tensor).all()) for tensor in weights.values())
    if broken:
        notes.append(f"{broken} of the {len(weights)} tensors of {name} hold NaN or Inf: this policy cannot work")
    return weights, notes


__all__ = [
    "FORMAT_VERSION",
    "UPSTREAM_DEFAULTS",
    "Checkpoint",
    "base_payload",
    "load_policy",
    "open_checkpoint",
    "read_payload",
    "sizes_of",
]
