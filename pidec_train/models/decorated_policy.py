"""A base policy and its residual as one policy: action = base + res_scale * residual."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..protocol.errors import PidecError
from .diffusion_policy import DiffusionPolicy, Generators
from .residual import OBS_LIMIT, ResidualActor


class DecoratedPolicy(nn.Module):
    """What a decorator's checkpoint holds, ready to act; takes the place of a `DiffusionPolicy` in an evaluation.

    Args:
        base: the frozen base policy; its `act_horizon` is the decorator's.
        actor: the residual policy.
        res_scale: size of the residual; 0 leaves the base alone.
        sees_base: the actor takes the base's actions beside the observation.
        ddim_steps: denoising steps that the base is decorated with.
        norm_obs: the actor sees observations normalised as the base does.

    Raises:
        PidecError: the base has fewer diffusion steps than `ddim_steps`.
    """

    default_sampler = "ddim"

    def __init__(
        self,
        base: DiffusionPolicy,
        actor: ResidualActor,
        *,
        res_scale: float,
        sees_base: bool,
        ddim_steps: int,
        norm_obs: bool = False,
    ) -> None:
        super().__init__()
        if ddim_steps > base.num_diffusion_iters:
            raise PidecError(
                f"ddim_steps {ddim_steps} is not possible: the base policy was trained with "
                f"{base.num_diffusion_iters} diffusion steps"
            )
        self.base, self.actor = base, actor
        self.res_scale, self.sees_base, self.default_num_steps = res_scale, sees_base, ddim_steps
        self.norm_obs = norm_obs
        self.obs_dim, self.act_dim = base.obs_dim, base.act_dim
        self.obs_horizon, self.act_horizon, self.pred_horizon = base.obs_horizon, base.act_horizon, base.pred_horizon
        self.num_diffusion_iters = base.num_diffusion_iters

    def alone(self) -> DecoratedPolicy:
        """The base without its residual, run in the same way. Shares the networks."""
        return DecoratedPolicy(self.base, self.actor, res_scale=0.0, sees_base=False, ddim_steps=self.default_num_steps)

    def freeze(self) -> None:
        """See `DiffusionPolicy.freeze`."""
        self.base.freeze()

    @property
    def alphas_cumprod(self) -> Tensor:
        """The base's noise schedule; it lives where the policy does."""
        return self.base.alphas_cumprod

    @torch.no_grad()
    def sample_actions(
        self,
        obs_seq: Tensor,
        initial_noise: Tensor | None = None,
        sampler: str = "ddim",
        num_steps: int | None = None,
        generator: Generators = None,
    ) -> Tensor:
        """Actions to execute: the base's, and the residual at its mode. (B, obs_horizon, obs_dim) -> (B, act_horizon,
        act_dim), in the environment's own units and not clipped. Arguments as `DiffusionPolicy.sample_actions`."""
        base = self.base.sample_actions(obs_seq, initial_noise, sampler, num_steps or self.default_num_steps, generator)
        if not self.res_scale:
            return base
        seen = obs_seq[:, -1]
        if self.norm_obs:
            seen = self.base.env_obs_norm.within(seen, OBS_LIMIT)
        if self.sees_base:
            seen = torch.cat((seen, base.flatten(1)), dim=1)
        return base + self.res_scale * self.actor.best(seen).view_as(base)
