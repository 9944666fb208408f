"""Success rate of a policy in the simulator.

Episode i starts from seed base+i and draws its noise from a generator of its own, seeded alike, whatever the number
of simulators: two policies meet the same starts, and no episode is counted for being short. (The network's rounding
does depend on how many observations share a batch, by about 1e-6.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .models.diffusion_policy import DiffusionPolicy
from .protocol import metric_names as names
from .stopping import StopRequest

BASE_SEED = 1000  # episodes start from the run's seed + this + i (upstream's choice)


@dataclass(frozen=True)
class EvalResult:
    """What some episodes gave.

    Attributes:
        episodes, successes: how many, and how many with success at any time (episodes end there).
        success_at_end: how many whose last step was a success.
        mean_return: mean undiscounted sum of rewards.
        mean_length: mean env steps of an episode.
        seconds: wall clock.
        per_episode: (seed, success, env steps) of each, in seed order.
    """

    episodes: int
    successes: int
    success_at_end: int
    mean_return: float
    mean_length: float
    seconds: float
    per_episode: list[tuple[int, bool, int]]

    @property
    def success_rate(self) -> float:
        return self.successes / self.episodes

    def wilson(self) -> tuple[float, float]:
        """95 % interval of the success rate."""
        return wilson_interval(self.successes, self.episodes)

    def metrics(self) -> dict[str, float]:
        return {
            names.EVAL_SUCCESS_RATE: self.success_rate,
            names.EVAL_SUCCESS_AT_END: self.success_at_end / self.episodes,
            names.EVAL_RETURN: self.mean_return,
            names.EVAL_EPISODE_LENGTH: self.mean_length,
        }

    def line(self) -> str:
        low, high = self.wilson()
        return (
            f"success {self.success_rate:.1%} ({self.successes} of {self.episodes} episodes, 95 % interval "
            f"{low:.1%} to {high:.1%}), return {self.mean_return:.4g}, mean length {self.mean_length:.0f} env steps, "
            f"{self.seconds:.0f} s"
        )


def wilson_interval(successes: int, episodes: int) -> tuple[float, float]:
    """95 % score interval of a rate (Wilson 1927); honest at 0 and 1, where the usual one has no width."""
    z = 1.959964
    rate, spread = successes / episodes, z * z / episodes
    centre = (rate + spread / 2) / (1 + spread)
    half = math.sqrt(rate * (1 - rate) * spread + spread * spread / 4) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def run_episodes(
    policy: DiffusionPolicy,
    vec_env: Any,
    *,
    num_episodes: int,
    base_seed: int,
    sampler: str = "ddpm",
    num_steps: int | None = None,
    progress: Callable[[int], None] | None = None,
    stop: StopRequest | None = None,
) -> EvalResult:
    """Run episodes 0 … num_episodes-1, each to its end, in as many simulators as `vec_env` has.

    Args:
        vec_env: see `envs.make_vector_env`; its obs_horizon and act_horizon are the policy's.
        base_seed: episode i starts from base_seed + i.
        num_steps: denoising steps; None: as many as the policy was trained with.
        progress: called with the number of episodes that are over.

    Raises:
        Stopped: `stop` was requested.
    """
    began = time.perf_counter()
    steps = policy.num_diffusion_iters if num_steps is None else num_steps
    device = policy.alphas_cumprod.device
    episode_of = np.full(vec_env.num_envs, -1)  # which episode runs in each simulator; -1: none
    noise: list[torch.Generator | None] = [None] * vec_env.num_envs
    lengths, returns = np.zeros(num_episodes, int), np.zeros(num_episodes)
    success, at_end = np.zeros(num_episodes, bool), np.zeros(num_episodes, bool)
    begun = over = 0
    observations = np.zeros(0)
    while over < num_episodes:
        if stop:
            stop.check()
        free = np.flatnonzero(episode_of < 0)[: num_episodes - begun]
        if len(free):
            episode_of[free] = np.arange(begun, begun + len(free))
            begun += len(free)
            for i in free:
                noise[i] = torch.Generator().manual_seed(base_seed + int(episode_of[i]))
            observations, _ = vec_env.reset(
                seed=[base_seed + int(e) for e in episode_of],
                options={"reset_mask": np.isin(np.arange(vec_env.num_envs), free)},
            )
        active = episode_of >= 0
        chunk = policy.sample_actions(
            torch.from_numpy(observations[active]).to(device),
            sampler=sampler,
            num_steps=steps,
            generator=[g for g, runs in zip(noise, active, strict=True) if runs and g],
        )
        actions = np.zeros((vec_env.num_envs, policy.act_horizon, policy.act_dim), np.float32)
        actions[active] = chunk.cpu().numpy()
        observations, rewards, terminated, truncated, infos = vec_env.step(actions, active=active)
        running = episode_of[active]
        lengths[running] += infos["env_steps"][active]
        returns[running] += rewards[active]
        done = active & (terminated | truncated)
        finished = episode_of[done]
        success[finished], at_end[finished] = infos["success"][done], infos["success_at_end"][done]
        episode_of[done] = -1
        over += len(finished)
        if progress and len(finished):
            progress(over)
    return EvalResult(
        episodes=num_episodes,
        successes=int(success.sum()),
        success_at_end=int(at_end.sum()),
        mean_return=float(returns.mean()),
        mean_length=float(lengths.mean()),
        seconds=time.perf_counter() - began,
        per_episode=[(base_seed + i, bool(success[i]), int(lengths[i])) for i in range(num_episodes)],
    )
