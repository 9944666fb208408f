"""One optimizer step of Diffusion Policy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..models.diffusion_policy import DiffusionPolicy
from .ema import ema_update
from .schedule import warmup_cosine


def add_noise(actions: Tensor, noise: Tensor, steps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """`actions` (B, T, D) as they are after diffusion steps `steps` (B,): DDPM (2006.11239), eq. 4."""
    bar = alphas_cumprod[steps][:, None, None]
    return bar.sqrt() * actions + (1 - bar).sqrt() * noise


def diffusion_loss(policy: DiffusionPolicy, obs_seq: Tensor, actions: Tensor, generator: torch.Generator) -> Tensor:
    """Mean squared error of the predicted noise at random diffusion steps.

    Args:
        policy: being trained.
        obs_seq: (B, obs_horizon, obs_dim), normalised.
        actions: (B, pred_horizon, act_dim), normalised.
        generator: of noise and steps, on the batch's device.

    Returns:
        Scalar.
    """
    noise = torch.randn(actions.shape, generator=generator, device=actions.device)
    steps = torch.randint(0, policy.num_diffusion_iters, actions.shape[:1], generator=generator, device=actions.device)
    noisy = add_noise(actions, noise, steps, policy.alphas_cumprod)
    return functional.mse_loss(policy.predict_noise(noisy, steps, obs_seq), noise)


def make_optimizer(policy: DiffusionPolicy, lr: float) -> torch.optim.AdamW:
    """Upstream's AdamW; fused, which costs a quarter of the default on a CPU."""
    return torch.optim.AdamW(policy.parameters(), lr=lr, betas=(0.95, 0.999), weight_decay=1e-6, fused=True)


class DiffusionStep:
    """Loss, backward, AdamW at the scheduled rate, EMA.

    Args:
        policy, ema_policy: trained in place; the second holds the averaged weights.
        lr, warmup_steps, total_iters: of the learning-rate schedule.
    """

    def __init__(
        self, policy: DiffusionPolicy, ema_policy: DiffusionPolicy, *, lr: float, warmup_steps: int, total_iters: int
    ) -> None:
        self.policy, self.ema_policy = policy, ema_policy
        self.lr, self.warmup_steps, self.total_iters = lr, warmup_steps, total_iters
        self.optimizer = make_optimizer(policy, lr)
        self._weights = list(policy.parameters())
        self._averaged = list(ema_policy.parameters())

    def current_lr(self, iteration: int) -> float:
        """Learning rate of `iteration` (the first is 1)."""
        return self.lr * warmup_cosine(iteration - 1, self.warmup_steps, self.total_iters)

    def __call__(self, iteration: int, obs_seq: Tensor, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Run `iteration` (the first is 1). Returns the detached loss, still on the device: no wait for it here."""
        loss = diffusion_loss(self.policy, obs_seq, actions, generator)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            group["lr"] = self.current_lr(iteration)
        self.optimizer.step()
        ema_update(self._averaged, self._weights, iteration)
        return loss.detach()
