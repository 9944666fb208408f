"""All that changes while a Diffusion Policy learns, and how it is saved and restored, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .algos.diffusion_step import DiffusionStep
from .algos.schedule import warmup_cosine
from .algos.stepping import Stepper
from .data.trajectories import Demos
from .data.windows import ABSOLUTE_MODES, Batches, Windows, build_windows
from .host_copy import host_copy
from .models.diffusion_policy import DiffusionPolicy
from .models.norm import Norm
from .protocol.config import DiffusionConfig
from .protocol.errors import PidecError, RunFailed

# A resumed run may change these; any other difference would make it another run. (The demos are compared by content.)
FREE_TO_CHANGE = {
    "demo_path",
    "log_freq",
    "eval_freq",
    "save_freq",
    "num_eval_episodes",
    "num_eval_envs",
    "max_episode_steps",
    "device",
    "engine",
    "extend_to",
    "track",
    "wandb_project_name",
    "wandb_entity",
    "exp_name",
}


class DiffusionLearner:
    """Windows, weights, optimizer, averaged weights and generators of one run.

    Args:
        config: of the run.
        demos: checked here against the config's task and control mode.
        device: where everything lives.

    Raises:
        PidecError: the demos do not suit the config.
    """

    def __init__(self, config: DiffusionConfig, demos: Demos, device: torch.device) -> None:
        demos.require(env_id=config.env_id, control_mode=config.control_mode)
        self.config, self.device = config, device
        raw = build_windows(demos, obs_horizon=config.obs_horizon, pred_horizon=config.pred_horizon)
        self.demos_sha256 = raw.fingerprint()
        obs_norm, action_norm = fit_norms(config, raw)
        self.windows = raw.mapped(obs_norm.normalise, action_norm.normalise).to(device)
        torch.manual_seed(config.seed)
        self.policy = DiffusionPolicy(
            demos.obs_dim,
            demos.act_dim,
            obs_horizon=config.obs_horizon,
            act_horizon=config.act_horizon,
            pred_horizon=config.pred_horizon,
            unet_dims=config.unet_dims,
            diffusion_step_embed_dim=config.diffusion_step_embed_dim,
            n_groups=config.n_groups,
            num_diffusion_iters=config.num_diffusion_iters,
            obs_norm=obs_norm,
            action_norm=action_norm,
        ).to(device)
        self.ema_policy = copy.deepcopy(self.policy).eval().requires_grad_(False)
        batch_seed, noise_seed = np.random.SeedSequence(config.seed).generate_state(2).tolist()
        self.noise = torch.Generator(device).manual_seed(noise_seed)
        self.batches = Batches(self.windows, config.batch_size, torch.Generator(device).manual_seed(batch_seed))
        graph, compiled = pick_engine(config, device)
        self.step = DiffusionStep(
            self.policy,
            self.ema_policy,
            self.windows,
            batch_size=config.batch_size,
            lr=config.lr,
            warmup_steps=config.warmup_steps,
            total_iters=config.last_iteration,
            noise=self.noise,
            precision=config.precision,
            compiled=compiled,
        )
        self.stepper = Stepper(self.step, self.batches, graph=graph)

    @property
    def iteration(self) -> int:
        """How many iterations are done."""
        return self.stepper.iteration

    @property
    def current_lr(self) -> float:
        """Learning rate of the last finished iteration."""
        return self.step.lr_at(max(1, self.iteration))

    def advice(self) -> list[str]:
        """What is legal, but probably not meant."""
        config, found = self.config, []
        if self.batches.oversampled:
            found.append(
                f"batch_size {config.batch_size} is more than the {len(self.windows)} windows of these demos: "
                "each batch holds every window about as often as any other, some of them twice or more"
            )
        if config.warmup_steps >= config.last_iteration:
            found.append(
                f"warmup_steps {config.warmup_steps} is not less than total_iters {config.last_iteration}: "
                "the learning rate never reaches its peak"
            )
        if config.engine == "graph" and self.device.type != "cuda":
            found.append("engine graph is for CUDA devices: here steps run eagerly")
        if config.extend_to and not self.iteration:
            found.append(
                f"extend_to {config.extend_to}, but nothing to go on from (--resume): this is a new run, of as many "
                "iterations from the start"
            )
        return found

    def advance(self, at_most: int) -> Tensor:
        """Some iterations, at most so many. Returns their losses (n,), on the device, valid until the next call."""
        return self.step.losses[: self.stepper.advance(at_most)]

    def snapshot(self) -> Callable[[], tuple[dict[str, Any], dict[str, Any]]]:
        """The state as it is now, for a checkpoint.

        Returns:
            A function for any thread, that waits for the device and gives payload and info (see
            `CheckpointFolder.save`). It raises RunFailed if a weight is not a number.
        """
        iteration, fetch, info = self.iteration, host_copy(self.payload()), self.info()

        def give() -> tuple[dict[str, Any], dict[str, Any]]:
            payload: dict[str, Any] = fetch()
            weights = [*payload["agent"].values(), *payload["ema_agent"].values()]
            if not all(bool(torch.isfinite(weight).all()) for weight in weights):
                raise RunFailed(f"the weights are not finite at iteration {iteration}")
            return payload, info

        return give

    def payload(self) -> dict[str, Any]:
        """Contents of a checkpoint. Its tensors go on changing: see `snapshot`."""
        return {
            "kind": "diffusion",
            "step": self.iteration,
            "agent": self.policy.state_dict(),
            "ema_agent": self.ema_policy.state_dict(),
            "config": self.config.model_dump(mode="json"),
            "obs_dim": self.policy.obs_dim,
            "act_dim": self.policy.act_dim,
            "obs_norm": self.policy.obs_norm.state(),
            "action_norm": self.policy.action_norm.state(),
            "optimizer": self.step.optimizer_state(self.iteration),
            "schedule": {"name": "cosine", "step": self.iteration},
            "ema": {"updates": self.iteration},
            "generators": {"batches": self.batches.state(), "noise": self.noise.get_state()},
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "demos_sha256": self.demos_sha256,
        }

    def info(self) -> dict[str, Any]:
        """Fields of the checkpoint's .json."""
        return {
            "kind": "diffusion",
            "env_id": self.config.env_id,
            "control_mode": self.config.control_mode,
            "obs_dim": self.policy.obs_dim,
            "act_dim": self.policy.act_dim,
            "action_norm": self.config.action_norm,
            "obs_norm": self.config.obs_norm,
            "config": self.config.model_dump(mode="json"),
        }

    def restore(self, payload: dict[str, Any]) -> list[str]:
        """Go on where a checkpoint stops. Returns what a user should know about it.

        Raises:
            PidecError: it belongs to a run with another config or other demos (the fields are named), or is no
                checkpoint to resume from.
        """
        self._check_continues(payload)
        notes = []
        self.policy.load_state_dict(payload["agent"])
        self.ema_policy.load_state_dict(payload["ema_agent"])
        self.step.load_optimizer_state(payload["optimizer"])
        self.stepper.iteration = payload["step"]
        notes += self._stretched(payload)
        if payload["device"] == self.device.type:
            self.noise.set_state(payload["generators"]["noise"])
            self.batches.restore(payload["generators"]["batches"])
        else:
            self.noise.manual_seed(self.config.seed + self.iteration)
            notes.append(
                f"the checkpoint was trained on {payload['device']}, this run is on {self.device.type}: "
                "it goes on with fresh random numbers"
            )
        return notes

    def _stretched(self, payload: dict[str, Any]) -> list[str]:
        """What another end does to the schedule."""
        old, new, at = ending_of(payload["config"]), self.config.last_iteration, self.iteration
        if old == new:
            return []
        rate = self.config.lr * warmup_cosine(at - 1, self.config.warmup_steps, old)
        return [
            f"extended from {old:,} to {new:,} iterations: the learning rate's cosine is stretched to the new end, so "
            f"it goes from {rate:.3g} at iteration {at:,} to {self.step.lr_at(at + 1):.3g} at the next and falls to 0 "
            f"at {new:,}"
        ]

    def _check_continues(self, payload: dict[str, Any]) -> None:
        missing = {"config", "optimizer", "generators", "step"} - payload.keys()
        if missing or payload.get("kind") != "diffusion":
            lacks = f"no {', '.join(sorted(missing))}" if missing else f"it is of kind {payload.get('kind')}"
            raise PidecError(f"the checkpoint holds no training state of this trainer to resume ({lacks})")
        # A field that is younger than the checkpoint had its default.
        ours = self.config.model_dump(mode="json")
        theirs = {**DiffusionConfig().model_dump(mode="json"), **payload["config"]}
        changed = [name for name in ours if name not in FREE_TO_CHANGE and ours[name] != theirs[name]]
        if changed:
            told = ", ".join(f"{name} is {ours[name]} but was {theirs[name]}" for name in changed)
            raise PidecError(
                f"cannot resume with another config: {told}", "Use the old values, or begin afresh without --resume."
            )
        if self.config.last_iteration < ending_of(theirs):
            raise PidecError(
                f"cannot resume: the run was extended to {ending_of(theirs)} iterations, past "
                f"{self.config.last_iteration}",
                f"Use --extend-to {ending_of(theirs)}.",
            )
        if payload["demos_sha256"] != self.demos_sha256:
            raise PidecError(
                f"cannot resume: demo_path {self.config.demo_path} does not hold the demos the run began with",
                "Use those, or begin afresh without --resume.",
            )


def ending_of(config: dict[str, Any]) -> int:
    """Where a run with this stored config was going to end."""
    return int(config.get("extend_to") or config["total_iters"])


# A compiler needs about a minute; shorter runs are over sooner without it.
WORTH_COMPILING = 20_000


def pick_engine(config: DiffusionConfig, device: torch.device) -> tuple[bool, bool]:
    """Whether steps are captured into CUDA graphs, and whether they are compiled."""
    if config.engine == "auto":
        return device.type == "cuda", device.type == "cuda" and config.last_iteration >= WORTH_COMPILING
    return device.type == "cuda" and config.engine != "eager", config.engine == "compile"


def fit_norms(config: DiffusionConfig, raw: Windows) -> tuple[Norm, Norm]:
    """Normalisations of observations and actions, from the raw windows' tables.

    min_max counts the padding actions too: the sampler clips to [-1, 1], so every target must lie in there.

    Raises:
        PidecError: actions in joint units without normalisation, which that clipping would cut off.
    """
    demonstrated = raw.actions[~raw.padding]
    largest = float(demonstrated.abs().max())
    if config.action_norm == "none" and config.control_mode in ABSOLUTE_MODES and largest > 1:
        raise PidecError(
            f"action_norm none needs actions within [-1, 1], but those of {config.control_mode} reach {largest:.2f}",
            "Use --action-norm min_max.",
        )
    rows = raw.actions if config.action_norm == "min_max" else demonstrated
    return Norm.fit(config.obs_norm, raw.observations), Norm.fit(config.action_norm, rows)
