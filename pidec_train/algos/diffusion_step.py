"""One optimizer step of Diffusion Policy, written so that it can be captured into a CUDA graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..data.windows import Batches, Windows
from ..models.diffusion_policy import DiffusionPolicy
from .flat import flatten_weights
from .schedule import DeviceSchedule, ema_decay, warmup_cosine

BLOCK = 10  # iterations whose batches, rates and losses lie on the device at a time: as many as one replay runs


def add_noise(actions: Tensor, noise: Tensor, steps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """`actions` (B, T, D) as they are after diffusion steps `steps` (B,): DDPM (2006.11239), eq. 4."""
    bar = alphas_cumprod.index_select(0, steps)[:, None, None]
    return bar.sqrt() * actions + (1 - bar).sqrt() * noise


def noise_loss(policy: DiffusionPolicy, obs_seq: Tensor, actions: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
    """Mean squared error of the predicted noise; a scalar.

    Args:
        obs_seq: (B, obs_horizon, obs_dim), normalised.
        actions: (B, pred_horizon, act_dim), normalised.
        noise: like actions, standard normal.
        steps: (B,) diffusion steps.
    """
    noisy = add_noise(actions, noise, steps, policy.alphas_cumprod)
    return functional.mse_loss(policy.predict_noise(noisy, steps, obs_seq), noise)


def make_optimizer(policy: DiffusionPolicy, lr: float) -> torch.optim.AdamW:
    """Upstream's AdamW; fused, which costs a quarter of the default on a CPU, and capturable on CUDA."""
    return torch.optim.AdamW(
        policy.parameters(), lr=lr, betas=(0.95, 0.999), weight_decay=1e-6, fused=True, **_how(policy.alphas_cumprod)
    )


def _how(anywhere: Tensor) -> dict[str, bool]:
    return {"capturable": anywhere.is_cuda}


class DiffusionStep:
    """Gather, noise, loss, backward, AdamW, EMA: all on the device, nothing from the host but what `load` puts there.

    An update whose gradients are not finite is left out (weights and optimizer stay as they are): its loss is read
    much later, and by then it would have poisoned everything.

    Args:
        policy, ema_policy: trained in place; the second holds the averaged weights. Their parameters become views of
            one buffer each.
        windows: where batches are gathered from, on the policy's device.
        batch_size: windows per iteration.
        lr, warmup_steps, total_iters: of the learning-rate schedule.
        noise: generator of noise and diffusion steps, on that device.
        precision: "bf16" runs the network under autocast; "tf32" and "fp32" are the same here (see
            `placement.set_precision`).
        compiled: run loss and gradients through torch.compile.

    Attributes:
        losses: (BLOCK,) loss of each iteration of the last block.
        skipped: updates left out so far, a scalar.
    """

    def __init__(
        self,
        policy: DiffusionPolicy,
        ema_policy: DiffusionPolicy,
        windows: Windows,
        *,
        batch_size: int,
        lr: float,
        warmup_steps: int,
        total_iters: int,
        noise: torch.Generator,
        precision: str = "tf32",
        compiled: bool = False,
    ) -> None:
        device = policy.alphas_cumprod.device
        self.policy, self.windows, self.noise = policy, windows, noise
        self.lr, self.warmup_steps, self.total_iters = lr, warmup_steps, total_iters
        self._precision = precision
        self._flat, self._flat_averaged = flatten_weights(policy), flatten_weights(ema_policy)
        self._weights = list(policy.parameters())
        self._chosen = torch.zeros(BLOCK, batch_size, dtype=torch.int64, device=device)
        self._lrs, self._shares = torch.zeros(BLOCK, device=device), torch.zeros(BLOCK, device=device)
        self._lr_values = DeviceSchedule(self.lr_at, device)
        self._share_values = DeviceSchedule(lambda iteration: 1.0 - ema_decay(iteration), device)
        self._lr = torch.zeros((), device=device)
        self._one, self._not_finite = torch.ones((), device=device), torch.zeros((), device=device)
        self.losses, self.skipped = torch.zeros(BLOCK, device=device), torch.zeros((), device=device)
        self.optimizer = make_optimizer(policy, lr)
        self._attach_optimizer()
        self._fill_optimizer()
        self.compiled = compiled

    @property
    def compiled(self) -> bool:
        return self._compiled

    @compiled.setter
    def compiled(self, wanted: bool) -> None:
        self._compiled = wanted
        self._loss = torch.compile(noise_loss, fullgraph=True, dynamic=False) if wanted else noise_loss

    def lr_at(self, iteration: int) -> float:
        """Learning rate of `iteration` (the first is 1)."""
        return self.lr * warmup_cosine(iteration - 1, self.warmup_steps, self.total_iters)

    def load(self, batches: Batches, done: int, count: int) -> None:
        """Put onto the device what iterations done + 1 … done + count take: windows, learning rates, EMA shares."""
        batches.choose(self._chosen[:count])
        self._lrs[:count].copy_(self._lr_values.take(done + 1, count))
        self._shares[:count].copy_(self._share_values.take(done + 1, count))

    def __call__(self, slot: int) -> None:
        """The iteration that `load` put at `slot` of the block."""
        self.learn(slot, *self.fetch(slot))

    def fetch(self, slot: int) -> tuple[Tensor, Tensor]:
        """The batch at `slot`: see `Windows.gather`."""
        return self.windows.gather(self._chosen[slot])

    def learn(self, slot: int, obs_seq: Tensor, actions: Tensor) -> None:
        """Loss, backward, AdamW and EMA on a batch."""
        device = actions.device
        noise = torch.randn(actions.shape, generator=self.noise, device=device)
        steps = torch.randint(
            0, self.policy.num_diffusion_iters, actions.shape[:1], generator=self.noise, device=device
        )
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._precision == "bf16", cache_enabled=False):
            loss = self._loss(self.policy, obs_seq, actions, noise, steps)
        gradients = torch.autograd.grad(loss, self._weights)
        with torch.no_grad():
            self._update(slot, loss, [_laid_out_as(w, g) for w, g in zip(self._weights, gradients, strict=True)])

    def _update(self, slot: int, loss: Tensor, gradients: list[Tensor]) -> None:
        self._not_finite.zero_()
        torch._amp_foreach_non_finite_check_and_unscale_(gradients, self._not_finite, self._one)
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = gradient
        self._lr.copy_(self._lrs[slot])
        self.optimizer.step()  # looks at its `found_inf`, which is `_not_finite`
        self._flat_averaged.lerp_(self._flat, self._shares[slot])
        self.losses[slot].copy_(loss)
        self.skipped.add_(self._not_finite)

    def tensors(self) -> list[Tensor]:
        """All that iterations change on the device, but for generators and the next block's input."""
        state = [tensor for entry in self.optimizer.state.values() for tensor in entry.values()]
        return [self._flat, self._flat_averaged, self.losses, self.skipped, *state]

    def optimizer_state(self, done: int) -> dict[str, Any]:
        """The optimizer's state after `done` iterations, without what belongs to this device."""
        state: dict[str, Any] = self.optimizer.state_dict()
        state["param_groups"] = [group | {"lr": self.lr_at(max(1, done))} for group in state["param_groups"]]
        return state

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Reverse of `optimizer_state`. Replaces the optimizer's tensors: not after a capture."""
        groups = [group | {"fused": True, **_how(self._lr)} for group in state["param_groups"]]
        self.optimizer.load_state_dict({**state, "param_groups": groups})
        self._attach_optimizer()

    def _attach_optimizer(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr
        # How torch.amp.GradScaler tells a fused optimizer to leave an update out; on the device, without a question.
        self.optimizer.found_inf = self._not_finite  # type: ignore[attr-defined]
        # Capturable and run eagerly, before the capture: torch warns of that as of a mistake.
        self.optimizer._warned_capturable_if_run_uncaptured = True

    def _fill_optimizer(self) -> None:
        """Let the optimizer make its tensors now, all 0, by an update that is left out."""
        for weight in self._weights:
            weight.grad = torch.zeros_like(weight)
        self._not_finite.fill_(1.0)
        self.optimizer.step()


def _laid_out_as(weight: Tensor, gradient: Tensor) -> Tensor:
    """`gradient` with the strides of `weight`.

    The fused update walks through both as through one row of numbers; compilers and convolutions like to hand out
    gradients in an order of their own. (`backward` would have taken care of that.)
    """
    if gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight).copy_(gradient)
