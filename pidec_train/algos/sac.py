"""SAC on residuals (Policy Decorator), written so that an update can be captured into a CUDA graph."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..data.replay_buffer import ReplayBuffer, Transitions
from ..models.residual import ResidualActor, TwinCritics
from .flat import flatten_weights
from .fused_adam import FusedAdam
from .least_value import least_value

CriticInput = Literal["res", "sum", "concat"]
ActorInput = Literal["obs", "obs_base_action"]


@dataclass(frozen=True)
class SacSettings:
    """What an update needs to know; see `protocol.decorator_config` for each."""

    batch_size: int
    gamma: float
    tau: float
    policy_lr: float
    q_lr: float
    autotune: bool
    sac_alpha: float  # what it starts from, or stays
    max_grad_norm: float
    res_scale: float
    critic_input: CriticInput
    actor_input: ActorInput
    bound_values: bool = False

    @property
    def lowest_value(self) -> float:
        """Of a chunk's reward, which is between -1 and 0, for ever."""
        return -1 / (1 - self.gamma) if self.gamma < 1 else -math.inf


def actor_sees(how: ActorInput, obs: Tensor, base: Tensor) -> Tensor:
    """(B, obs_dim), (B, chunk_dim) -> what the actor takes."""
    return obs if how == "obs" else torch.cat((obs, base), dim=1)


def critic_sees(how: CriticInput, residual: Tensor, base: Tensor, res_scale: float) -> Tensor:
    """(B, chunk_dim) twice -> the action as the critics take it: "concat" has both, the residual first and unscaled."""
    if how == "res":
        return residual
    return base + res_scale * residual if how == "sum" else torch.cat((residual, base), dim=1)


def td_target(reward: Tensor, stop: Tensor, gamma: float, next_value: Tensor) -> Tensor:
    """reward + gamma * next_value where nothing stops it; all (B,)."""
    return reward + (1 - stop) * gamma * next_value


def clip_norm(gradients: Sequence[Tensor], largest: float) -> None:
    """Scale `gradients` in place so that their common norm is at most `largest` (as torch's `clip_grad_norm_`)."""
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    torch._foreach_mul_(list(gradients), (largest / (norm + 1e-6)).clamp(max=1))


def clip_norm_each(gradients: Sequence[Tensor], largest: float) -> None:
    """As `clip_norm`, for each of the networks that the first dimension counts by itself."""
    norms = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0).sqrt()
    share = (largest / (norms + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(share.view(-1, *[1] * (gradient.dim() - 1)))


class SacUpdate:
    """One gradient update: critics, then the actor and sac_alpha, then the target networks.

    Soft Actor-Critic (https://arxiv.org/abs/1812.05905) as upstream has it (`online/pi_dec_diffusion_maniskill2.py`).
    An update whose gradients are not finite is left out on the device: its losses are read much later.

    Args:
        actor, critics: trained in place; the parameters of the critics become views of one buffer.
        replay: where batches are drawn from.
        settings: see there.
        generator: of batches and noise, on the networks' device.
        sorted_rows: the actor's gradient comes by `least_value`: faster on a CPU, cannot be captured.

    Attributes:
        targets: the target networks.
        log_alpha: (1,) logarithm of the entropy coefficient.
        sums: (6,) since `read_sums`: updates, loss of the critics, Q value, actor updates, loss, updates left out.
    """

    def __init__(
        self,
        actor: ResidualActor,
        critics: TwinCritics,
        replay: ReplayBuffer,
        settings: SacSettings,
        generator: torch.Generator,
        *,
        sorted_rows: bool = False,
    ) -> None:
        device = actor.action_scale.device
        self.actor, self.critics, self.replay, self.settings = actor, critics, replay, settings
        self._generator, self._sorted_rows = generator, sorted_rows
        self.targets = copy.deepcopy(critics).requires_grad_(False)
        self._flat, self._flat_targets = flatten_weights(critics), flatten_weights(self.targets)
        self.log_alpha = torch.full((1,), math.log(settings.sac_alpha), device=device)
        # Upstream's is minus the size of the action space, which `concat` doubles there by accident.
        self._target_entropy = -float(len(actor.action_scale))
        self._actor_weights, self._critic_weights = list(actor.parameters()), list(critics.parameters())
        self._bad, self._one = torch.zeros((), device=device), torch.ones((), device=device)
        self.sums = torch.zeros(6, dtype=torch.float64, device=device)
        self.optimizers = {
            "q": FusedAdam(self._critic_weights, settings.q_lr, self._bad),
            "actor": FusedAdam(self._actor_weights, settings.policy_lr, self._bad),
            "alpha": FusedAdam([self.log_alpha], settings.q_lr, self._bad),
        }

    def __call__(self, *, with_actor: bool = True, with_targets: bool = True) -> None:
        """One update, on a batch of its own."""
        batch = self.replay.sample(self.settings.batch_size, self._generator)
        self._bad.zero_()
        self._update_critics(batch)
        if with_actor:
            self._update_actor(batch)
        if with_targets:
            self._flat_targets.lerp_(self._flat, self.settings.tau * (1 - self._bad))
        self.sums[5].add_(self._bad)

    def critic_loss(self, batch: Transitions, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of both critics' mean squared TD errors, and their values (2, B).

        Args:
            noise: (B, chunk_dim), of the next residual.
        """
        how = self.settings
        with torch.no_grad():
            seen = actor_sees(how.actor_input, batch.next_obs, batch.next_base)
            residual, log_prob = self.actor.sample(seen, noise)
            action = critic_sees(how.critic_input, residual, batch.next_base, how.res_scale)
            value = self.targets(batch.next_obs, action).amin(0)
            if how.bound_values:  # else critics that feed on themselves may run away
                value = value.clamp(how.lowest_value, 0)
            value = value - self.log_alpha.exp() * log_prob
            target = td_target(batch.reward, batch.stop, how.gamma, value)
        action = critic_sees(how.critic_input, batch.residual, batch.base, how.res_scale)
        values = self.critics(batch.obs, action)
        return (values - target).square().mean(1).sum(), values

    def actor_loss(self, batch: Transitions, noise: Tensor) -> Tensor:
        """Mean of sac_alpha * log-probability - least Q value, over residuals drawn now."""
        how = self.settings
        residual, log_prob = self.actor.sample(actor_sees(how.actor_input, batch.obs, batch.base), noise)
        action = critic_sees(how.critic_input, residual, batch.base, how.res_scale)
        if self._sorted_rows:
            value = least_value(self.critics, batch.obs, action)
        else:
            value = self.critics(batch.obs, action).amin(0)
        return (self.log_alpha.exp() * log_prob - value).mean()

    def _update_critics(self, batch: Transitions) -> None:
        loss, values = self.critic_loss(batch, self._noise())
        gradients = list(torch.autograd.grad(loss, self._critic_weights))
        with torch.no_grad():
            clip_norm_each(gradients, self.settings.max_grad_norm)
            self._step("q", gradients)
            self._count(0, loss / 2, values.mean())

    def _update_actor(self, batch: Transitions) -> None:
        loss = self.actor_loss(batch, self._noise())
        gradients = list(torch.autograd.grad(loss, self._actor_weights))
        with torch.no_grad():
            clip_norm(gradients, self.settings.max_grad_norm)
            self._step("actor", gradients)
            self._count(3, loss)
            if self.settings.autotune:
                seen = actor_sees(self.settings.actor_input, batch.obs, batch.base)
                _, log_prob = self.actor.sample(seen, self._noise())
                # The gradient of -log_alpha * (log_prob + target entropy), upstream's loss of it.
                self._step("alpha", [-(log_prob.mean() + self._target_entropy).view(1)])

    def _step(self, name: str, gradients: list[Tensor]) -> None:
        """Adam, unless these gradients, or those before them in this update, are not finite."""
        torch._amp_foreach_non_finite_check_and_unscale_(gradients, self._bad, self._one)
        self.optimizers[name].step_with(gradients)

    def _count(self, first: int, *values: Tensor) -> None:
        told = torch.stack([self._one.double(), *(value.detach().double() for value in values)])
        self.sums[first : first + len(told)].add_(torch.where(told.isfinite(), told, 0.0))

    def _noise(self) -> Tensor:
        shape = (self.settings.batch_size, len(self.actor.action_scale))
        return torch.randn(shape, generator=self._generator, device=self.log_alpha.device)

    def read_sums(self) -> list[float]:
        """`sums`, set back to 0. Waits for the device."""
        told: list[float] = self.sums.tolist()
        self.sums.zero_()
        return told

    def tensors(self) -> list[Tensor]:
        """All that an update changes on the device, but for the generator."""
        state = [t for o in self.optimizers.values() for entry in o.state.values() for t in entry.values()]
        return [self._flat, self._flat_targets, self.log_alpha, self.sums, self._bad, *self._actor_weights, *state]

    def state(self) -> dict[str, Any]:
        """For a checkpoint: networks under upstream's names, the target networks under their own. Views."""
        (qf1, qf2), (qf1_target, qf2_target) = self.critics.split(), self.targets.split()
        return {
            "res_actor": self.actor.state_dict(),
            "qf1": qf1,
            "qf2": qf2,
            "qf1_target": qf1_target,
            "qf2_target": qf2_target,
            "log_sac_alpha": self.log_alpha,
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Reverse of `state`. Replaces the optimizers' tensors: not after a capture."""
        self.actor.load_state_dict(state["res_actor"])
        self.critics.join(state["qf1"], state["qf2"])
        self.targets.join(state["qf1_target"], state["qf2_target"])
        with torch.no_grad():
            self.log_alpha.copy_(state["log_sac_alpha"])
        for name, optimizer in self.optimizers.items():
            groups = [
                {**saved, "fused": True, "capturable": self.log_alpha.is_cuda, "lr": group["lr"]}
                for saved, group in zip(state["optimizers"][name]["param_groups"], optimizer.param_groups, strict=True)
            ]
            optimizer.load_state_dict({**state["optimizers"][name], "param_groups": groups})
