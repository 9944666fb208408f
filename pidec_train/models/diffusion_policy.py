"""Diffusion Policy: from the last observations to a chunk of actions, by denoising.

How the horizons lie in time, for obs_horizon 2, act_horizon 4, pred_horizon 16 (t = the newest observation):

    time         t-1  t   t+1  t+2  t+3  t+4 … t+14
    observed      o   o
    predicted     p   p   p    p    p    p   … p
    executed          a   a    a    a
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..protocol.errors import PidecError
from .norm import Norm
from .padding import ConstantInputs
from .unet1d import ConditionalUnet1D
from .unet1d_frozen import FrozenUnet

Generators = torch.Generator | Sequence[torch.Generator] | None


def cosine_alphas_cumprod(num_steps: int) -> Tensor:
    """Cumulative product of 1 - beta for the squared-cosine schedule, betas capped at 0.999; (num_steps,).

    Nichol and Dhariwal 2021 (https://arxiv.org/abs/2102.09672), eq. 17; diffusers' "squaredcos_cap_v2".
    """

    def alpha_bar(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [
        min(1 - alpha_bar((step + 1) / num_steps) / alpha_bar(step / num_steps), 0.999) for step in range(num_steps)
    ]
    return torch.cumprod(1 - torch.tensor(betas, dtype=torch.float32), dim=0)


class DiffusionPolicy(nn.Module):
    """The policy: a noise predictor, the noise schedule and the normalisations.

    `state_dict()` holds the noise predictor alone, under upstream's names (`noise_pred_net.…`).

    Args:
        obs_dim, act_dim: sizes of one observation and one action, as the network sees them. (The attribute `obs_dim` is
            what the environment has to give, which is less by the constant inputs.)
        obs_horizon, act_horizon, pred_horizon: observations seen, actions executed, actions predicted.
        obs_norm, action_norm: normalisation of what comes in and what goes out; None: raw.
        constant_inputs: numbers to insert into each observation, before it is normalised; None: it is complete.
        The rest: see `ConditionalUnet1D`.
    """

    default_sampler = "ddpm"

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        *,
        obs_horizon: int = 2,
        act_horizon: int = 4,
        pred_horizon: int = 16,
        unet_dims: Sequence[int] = (64, 128, 256),
        diffusion_step_embed_dim: int = 64,
        kernel_size: int = 5,
        n_groups: int = 8,
        num_diffusion_iters: int = 100,
        obs_norm: Norm | None = None,
        action_norm: Norm | None = None,
        constant_inputs: ConstantInputs | None = None,
    ) -> None:
        super().__init__()
        self.obs_dim, self.act_dim = obs_dim, act_dim
        self.constant_inputs: ConstantInputs | None = None
        self._frozen: FrozenUnet | None = None
        self.obs_horizon, self.act_horizon, self.pred_horizon = obs_horizon, act_horizon, pred_horizon
        self.num_diffusion_iters = num_diffusion_iters
        self.noise_pred_net = ConditionalUnet1D(
            act_dim, obs_horizon * obs_dim, unet_dims, diffusion_step_embed_dim, kernel_size, n_groups
        )
        self.obs_norm = obs_norm or Norm.identity(obs_dim)
        self.action_norm = action_norm or Norm.identity(act_dim)
        # Clipping is right only where the actions that the net learned live in [-1, 1].
        self.clip_sample = self.action_norm.kind in ("none", "min_max")
        self.register_buffer("alphas_cumprod", cosine_alphas_cumprod(num_diffusion_iters), persistent=False)
        for name, norm in (("obs", self.obs_norm), ("action", self.action_norm)):  # buffers follow `.to(device)`
            self.register_buffer(f"_{name}_offset", norm.offset.clone(), persistent=False)
            self.register_buffer(f"_{name}_scale", norm.scale.clone(), persistent=False)
        self.register_buffer("_constants", torch.zeros(0), persistent=False)
        if constant_inputs:
            self._insert(constant_inputs)

    alphas_cumprod: Tensor
    _obs_offset: Tensor
    _obs_scale: Tensor
    _action_offset: Tensor
    _action_scale: Tensor
    _constants: Tensor

    @property
    def default_num_steps(self) -> int:
        """Denoising steps of `default_sampler`: as many as it was trained with."""
        return self.num_diffusion_iters

    def with_constant_inputs(self, constant_inputs: ConstantInputs) -> DiffusionPolicy:
        """A copy that takes observations without these numbers and inserts them itself: its `obs_dim` is smaller."""
        other = copy.deepcopy(self)
        other._insert(constant_inputs)
        return other

    def _insert(self, constant_inputs: ConstantInputs) -> None:
        if self.constant_inputs:
            raise ValueError("the policy inserts constant inputs already")
        self.constant_inputs = constant_inputs
        self.obs_dim -= len(constant_inputs)
        self._constants = torch.tensor(constant_inputs.values, device=self.alphas_cumprod.device)

    @property
    def env_obs_norm(self) -> Norm:
        """`obs_norm` for observations as the environment gives them: without the constant inputs."""
        return self.obs_norm.without(self.constant_inputs.columns) if self.constant_inputs else self.obs_norm

    def freeze(self) -> None:
        """Act from now on with the weights as they are now: on a CPU in half the time, elsewhere nothing changes."""
        if self.alphas_cumprod.device.type == "cpu":
            self._frozen = FrozenUnet(self.noise_pred_net)

    def predict_noise(self, noisy: Tensor, steps: Tensor, obs_seq: Tensor) -> Tensor:
        """Noise in `noisy` (B, pred_horizon, act_dim) at `steps` (B,), given normalised `obs_seq`."""
        noise: Tensor = self.noise_pred_net(noisy, steps, obs_seq.flatten(start_dim=1))
        return noise

    @torch.no_grad()
    def sample_actions(
        self,
        obs_seq: Tensor,
        initial_noise: Tensor | None = None,
        sampler: str = "ddpm",
        num_steps: int = 100,
        generator: Generators = None,
    ) -> Tensor:
        """Actions to execute after `obs_seq`, in the environment's own units.

        Args:
            obs_seq: (B, obs_horizon, obs_dim), raw, oldest first.
            initial_noise: (B, pred_horizon, act_dim); None: drawn.
            sampler: "ddpm" (https://arxiv.org/abs/2006.11239, variance "fixed small") or "ddim"
                (https://arxiv.org/abs/2010.02502, eta 0).
            num_steps: denoising steps, at most the schedule's; fewer are spread evenly ("leading").
            generator: where noise comes from; a sequence gives each of the B rows its own.

        Returns:
            (B, act_horizon, act_dim).

        Raises:
            PidecError: for an unknown sampler or a number of steps that the schedule does not have.
        """
        if sampler not in ("ddpm", "ddim"):
            raise PidecError(f'unknown sampler "{sampler}": allowed are ddpm and ddim')
        if not 1 <= num_steps <= self.num_diffusion_iters:
            raise PidecError(
                f"num_steps {num_steps} is not possible: the policy was trained with "
                f"{self.num_diffusion_iters} diffusion steps"
            )
        obs = self.constant_inputs.insert(obs_seq, self._constants) if self.constant_inputs else obs_seq
        if self.obs_norm.kind != "none":
            obs = (obs - self._obs_offset) / self._obs_scale
        shape = (obs.shape[0], self.pred_horizon, self.act_dim)
        sample = self._noise(shape, generator) if initial_noise is None else initial_noise
        stride, predict = self.num_diffusion_iters // num_steps, self._predictor(obs)
        for step in range((num_steps - 1) * stride, -1, -stride):
            sample = self._denoise(sample, predict(sample, step), step, step - stride, sampler, generator)
        if self.action_norm.kind != "none":
            sample = sample * self._action_scale + self._action_offset
        start = self.obs_horizon - 1
        return sample[:, start : start + self.act_horizon]

    def _predictor(self, obs: Tensor) -> Callable[[Tensor, int], Tensor]:
        """Noise in a sample at a diffusion step, given these normalised observations."""
        if self._frozen and obs.device.type == "cpu":
            return self._frozen.given(obs.flatten(start_dim=1))
        return lambda sample, step: self.predict_noise(sample, torch.full((len(obs),), step, device=obs.device), obs)

    def _denoise(
        self, sample: Tensor, noise: Tensor, step: int, next_step: int, sampler: str, generator: Generators
    ) -> Tensor:
        """From diffusion step `step` to `next_step` (below 0: the clean actions)."""
        one = self.alphas_cumprod.new_ones(())
        bar = self.alphas_cumprod[step]
        next_bar = self.alphas_cumprod[next_step] if next_step >= 0 else one
        clean = (sample - (1 - bar).sqrt() * noise) / bar.sqrt()
        if self.clip_sample:
            clean = clean.clamp(-1, 1)
        if sampler == "ddim":  # eq. 12 with sigma 0; the direction uses the noise as predicted, not as clipped
            return next_bar.sqrt() * clean + (1 - next_bar).sqrt() * noise
        alpha = bar / next_bar
        mean = (next_bar.sqrt() * (1 - alpha) * clean + alpha.sqrt() * (1 - next_bar) * sample) / (1 - bar)  # eq. 7
        if step == 0:
            return mean
        variance = ((1 - next_bar) / (1 - bar) * (1 - alpha)).clamp(min=1e-20)
        return mean + variance.sqrt() * self._noise(tuple(sample.shape), generator)

    def _noise(self, shape: tuple[int, ...], generator: Generators) -> Tensor:
        """Standard normal noise, drawn where the generator lives (row by row for a sequence)."""
        device = self.alphas_cumprod.device
        if generator is None:
            return torch.randn(shape, device=device)
        if isinstance(generator, torch.Generator):
            return torch.randn(shape, generator=generator, device=generator.device).to(device)
        rows = [torch.randn(shape[1:], generator=own, device=own.device) for own in generator]
        return torch.stack(rows).to(device)
