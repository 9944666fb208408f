"""Choosing actions for all simulators at once: the base policy's, and the residual on top."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.diffusion_policy import DiffusionPolicy
from ..models.residual import ResidualActor
from .capture import capture, put_back
from .sac import ActorInput, actor_sees
from .traced import Work, traced


@dataclass(frozen=True)
class Choice:
    """What N simulators are to do; on the device.

    Attributes:
        residual: (N, chunk_dim), unscaled; 0 where it is switched off.
        actions: (N, chunk_dim), base + res_scale * residual, not clipped.
        on: (N,) 1 where the residual is switched on.
    """

    residual: Tensor
    actions: Tensor
    on: Tensor


class Acting:
    """Base policy and residual actor, for batches of a fixed number of simulators.

    Args:
        base: the base policy; it is frozen.
        actor: the residual policy.
        num_envs: simulators.
        res_scale, actor_input, ddim_steps: see `protocol.decorator_config`.
        generator: of all noise here, on the networks' device.
        graph: capture into CUDA graphs.
        trace: run the base policy without Python, for updates in another thread.
        cuda: the interface of `torch.cuda`.

    Attributes:
        notes: what did not work as wanted, for the user.
    """

    def __init__(
        self,
        base: DiffusionPolicy,
        actor: ResidualActor,
        *,
        num_envs: int,
        res_scale: float,
        actor_input: ActorInput,
        ddim_steps: int,
        generator: torch.Generator,
        graph: bool = False,
        trace: bool = False,
        cuda: Any = torch.cuda,
    ) -> None:
        device, chunk = actor.action_scale.device, len(actor.action_scale)
        base.freeze()
        self._base, self._actor, self._generator = base, actor, generator
        self._res_scale, self._actor_input = res_scale, actor_input
        self._graph, self._trace, self._cuda = graph, trace, cuda
        self._denoise: Work = lambda obs_seq, noise: base.sample_actions(obs_seq, noise, "ddim", ddim_steps)
        self._graphs: dict[str, Any] = {}
        self.notes: list[str] = []
        # What a captured piece reads and writes: two observations of each simulator, as an episode may end between.
        self._obs_seq = torch.zeros(2 * num_envs, base.obs_horizon, base.obs_dim, device=device)
        self._actions = torch.zeros(2 * num_envs, chunk, device=device)
        self._obs = torch.zeros(num_envs, base.obs_dim, device=device)
        self._base_actions = torch.zeros(num_envs, chunk, device=device)
        self._ratio = torch.zeros((), device=device)
        self._choice = Choice(
            torch.zeros(num_envs, chunk, device=device),
            torch.zeros(num_envs, chunk, device=device),
            torch.zeros(num_envs, device=device),
        )

    def prepare(self) -> None:
        """Capture or trace, where that is wanted and works. The actor's weights must be what will be trained: see
        `capture`."""
        if self._trace and not self._graph:
            dice = torch.Generator().manual_seed(0)
            shape = (len(self._obs_seq), self._base.pred_horizon, self._base.act_dim)
            examples = [torch.randn(each, generator=dice) for each in (self._obs_seq.shape, shape)]
            self._denoise, why = traced(self._denoise, *examples)
            if why:
                self.notes.append(f"the base policy cannot be traced, going on more slowly without: {why}")
        if not self._graph:
            return
        works: dict[str, Callable[[], None]] = {
            "base": self._run_base,
            "explore": lambda: self._run_residual(explore=True),
            "policy": lambda: self._run_residual(explore=False),
        }

        def warm_up() -> None:
            for work in works.values():
                work()

        def attempt() -> None:
            self._graphs = capture(works, [self._generator], warm_up=warm_up, cuda=self._cuda)

        if why := put_back(attempt, [], [self._generator]):
            self.notes.append(f"acting cannot be captured into CUDA graphs, going on slowly without them: {why}")
            self._graphs = {}

    @torch.no_grad()
    def base_actions(self, obs_seq: Tensor) -> Tensor:
        """The base policy's chunks, by DDIM with fresh noise: (N, obs_horizon, obs_dim) -> (N, chunk_dim).

        N is at most twice `num_envs`.
        """
        count = len(obs_seq)
        if "base" not in self._graphs:
            return self._sample(obs_seq)
        self._obs_seq[:count].copy_(obs_seq)
        self._graphs["base"].replay()
        return self._actions[:count].clone()

    @torch.no_grad()
    def choose(self, obs: Tensor, base_actions: Tensor, ratio: float, *, explore: bool) -> Choice:
        """Add residuals.

        Args:
            obs: (num_envs, obs_dim), the newest frames.
            base_actions: (num_envs, chunk_dim).
            ratio: probability with which the residual is on, for each simulator by itself: the paper's progressive
                exploration, min(step / prog_explore, 1).
            explore: residuals are drawn evenly, as before learning starts; else by the actor.

        Returns:
            Valid until the next call.
        """
        self._obs.copy_(obs)
        self._base_actions.copy_(base_actions)
        self._ratio.fill_(ratio)
        name = "explore" if explore else "policy"
        if name in self._graphs:
            self._graphs[name].replay()
        else:
            self._run_residual(explore=explore)
        return self._choice

    def _sample(self, obs_seq: Tensor) -> Tensor:
        shape = (len(obs_seq), self._base.pred_horizon, self._base.act_dim)
        noise = torch.randn(shape, generator=self._generator, device=obs_seq.device)
        return self._denoise(obs_seq, noise).flatten(1)

    @torch.no_grad()
    def _run_base(self) -> None:
        self._actions.copy_(self._sample(self._obs_seq))

    @torch.no_grad()
    def _run_residual(self, *, explore: bool) -> None:
        shape, device = self._base_actions.shape, self._base_actions.device
        on = torch.rand(shape[0], generator=self._generator, device=device) < self._ratio
        if explore:
            even = torch.rand(shape, generator=self._generator, device=device)
            residual = (2 * even - 1) * self._actor.action_scale
        else:
            noise = torch.randn(shape, generator=self._generator, device=device)
            seen = actor_sees(self._actor_input, self._obs, self._base_actions)
            residual, _ = self._actor.sample(seen, noise)
        residual = residual * on[:, None]
        self._choice.residual.copy_(residual)
        self._choice.actions.copy_(self._base_actions + self._res_scale * residual)
        self._choice.on.copy_(on)
