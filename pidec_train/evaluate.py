"""Success rate of a policy in the simulator.

Episode i starts from seed base+i and draws its noise from a generator of its own, seeded alike, whatever the number
of simulators: two policies meet the same starts, and no episode is counted for being short. (The network's rounding
does depend on how many observations share a batch, by about 1e-6.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .checkpoint import Policy
from .protocol import metric_names as names
from .protocol.episodes import Episode
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
        kept: episodes for watching, in seed order.
    """

    episodes: int
    successes: int
    success_at_end: int
    mean_return: float
    mean_length: float
    seconds: float
    per_episode: list[tuple[int, bool, int]]
    kept: list[Episode] = field(default_factory=list)

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


def sampling(policy: Policy, sampler: str | None, num_steps: int | None) -> tuple[str, int]:
    """Sampler and denoising steps: as asked, else as the policy is meant to be run.

    Steps that fit the policy's own sampler fit no other: with another one, all that it was trained with.
    """
    name = sampler or policy.default_sampler
    own = policy.default_num_steps if name == policy.default_sampler else policy.num_diffusion_iters
    return name, own if num_steps is None else num_steps


def run_episodes(
    policy: Policy,
    vec_env: Any,
    *,
    num_episodes: int,
    base_seed: int,
    sampler: str | None = None,
    num_steps: int | None = None,
    keep_seeds: Collection[int] = (),
    progress: Callable[[int], None] | None = None,
    stop: StopRequest | None = None,
) -> EvalResult:
    """Run episodes 0 … num_episodes-1, each to its end, in as many simulators as `vec_env` has.

    Args:
        policy: who acts; it is frozen.
        vec_env: see `envs.make_vector_env`, without autoreset; its obs_horizon and act_horizon are the policy's.
        base_seed: episode i starts from base_seed + i.
        sampler, num_steps: how to denoise, see `sampling`.
        keep_seeds: episodes to keep for watching besides the first failed and the first successful one.
        progress: called with the number of episodes that are over.

    Raises:
        Stopped: `stop` was requested.
    """
    began = time.perf_counter()
    policy.freeze()
    sampler, num_steps = sampling(policy, sampler, num_steps)
    device = policy.alphas_cumprod.device
    tally = _Tally(num_episodes, base_seed, vec_env.num_envs, Recorder(base_seed, keep_seeds))
    actions = np.zeros((vec_env.num_envs, policy.act_horizon, policy.act_dim), np.float32)
    observations = np.zeros(0)
    while tally.over < num_episodes:
        if stop:
            stop.check()
        begins = tally.begin()
        if begins.any():
            observations, _ = vec_env.reset(seed=tally.seeds(), options={"reset_mask": begins})
            tally.take_starts(begins, observations)
        active = tally.active
        chunk = policy.sample_actions(
            torch.from_numpy(observations[active]).to(device),
            sampler=sampler,
            num_steps=num_steps,
            generator=[tally.noise[i] for i in np.flatnonzero(active)],
        )
        actions[active] = chunk.cpu().numpy()
        observations, rewards, terminated, truncated, infos = vec_env.step(actions, active=active)
        if tally.take(active, rewards, terminated | truncated, infos) and progress:
            progress(tally.over)
    return tally.result(time.perf_counter() - began)


class Recorder:
    """Frames of the episodes that are worth watching: the first failed and the first successful one (by number, not by
    the clock), and those with certain seeds. Of all others it forgets what it has, as soon as that is certain.
    """

    def __init__(self, base_seed: int, keep_seeds: Collection[int]) -> None:
        self._base_seed, self._keep = base_seed, frozenset(keep_seeds)
        self._frames: dict[int, list[NDArray[Any]]] = {}  # by episode
        self._outcomes: dict[int, bool] = {}  # of those of `_frames` that are over
        self._first: dict[bool, int] = {}  # the first one so far that is over, by success

    def start(self, episode: int, frame: NDArray[Any]) -> None:
        """An episode begins with this observation (obs_dim,)."""
        if self._may_be_wanted(episode):
            self._frames[episode] = [frame[None]]

    def extend(self, episode: int, frames: NDArray[Any]) -> None:
        """It goes on with these, (n, obs_dim)."""
        if episode in self._frames:
            self._frames[episode].append(frames)

    def finish(self, episode: int, success: bool) -> None:
        """It is over."""
        self._first[success] = min(episode, self._first.get(success, episode))
        if episode in self._frames:
            self._outcomes[episode] = success
        self._frames = {e: frames for e, frames in self._frames.items() if self._may_be_wanted(e)}

    def kept(self) -> list[Episode]:
        """In the order of their seeds; ask when all episodes are over."""
        return [
            Episode(
                seed=self._base_seed + episode,
                success=self._outcomes[episode],
                frames=np.concatenate(self._frames[episode]).tolist(),
            )
            for episode in sorted(self._frames)
        ]

    def _may_be_wanted(self, episode: int) -> bool:
        if self._base_seed + episode in self._keep:
            return True
        outcomes = [self._outcomes[episode]] if episode in self._outcomes else [True, False]
        return any(episode <= self._first.get(success, episode) for success in outcomes)


class _Tally:
    """Which episode runs in which simulator, and what has come of each.

    Attributes:
        over: how many episodes are over.
        noise: each simulator's source of noise, of the episode that runs there.
    """

    def __init__(self, num_episodes: int, base_seed: int, num_envs: int, recorder: Recorder) -> None:
        self.over = 0
        self.noise = [torch.Generator() for _ in range(num_envs)]
        self._num_episodes, self._base_seed, self._recorder = num_episodes, base_seed, recorder
        self._begun = 0
        self._episode_of = np.full(num_envs, -1)  # which episode runs in each simulator; -1: none
        self._lengths, self._returns = np.zeros(num_episodes, int), np.zeros(num_episodes)
        self._success, self._at_end = np.zeros(num_episodes, bool), np.zeros(num_episodes, bool)

    @property
    def active(self) -> NDArray[Any]:
        """(num_envs,) bool: where an episode runs."""
        return self._episode_of >= 0

    def begin(self) -> NDArray[Any]:
        """Give the next episodes to the simulators that are free; (num_envs,) bool: which those are."""
        free = np.flatnonzero(self._episode_of < 0)[: self._num_episodes - self._begun]
        self._episode_of[free] = np.arange(self._begun, self._begun + len(free))
        self._begun += len(free)
        for i in free:
            self.noise[i] = torch.Generator().manual_seed(self._base_seed + int(self._episode_of[i]))
        return np.isin(np.arange(len(self._episode_of)), free)

    def seeds(self) -> list[int]:
        """Of the episode in each simulator."""
        return [self._base_seed + int(episode) for episode in self._episode_of]

    def take_starts(self, begins: NDArray[Any], observations: NDArray[Any]) -> None:
        for i in np.flatnonzero(begins):
            self._recorder.start(int(self._episode_of[i]), observations[i, -1])

    def take(
        self, active: NDArray[Any], rewards: NDArray[Any], done: NDArray[Any], infos: dict[str, NDArray[Any]]
    ) -> int:
        """What a step gave. Returns how many episodes are over by it."""
        running = self._episode_of[active]
        self._lengths[running] += infos["env_steps"][active]
        self._returns[running] += rewards[active]
        for i in np.flatnonzero(active):
            self._recorder.extend(int(self._episode_of[i]), infos["frames"][i, : infos["env_steps"][i]])
        done = active & done
        finished = self._episode_of[done]
        self._success[finished], self._at_end[finished] = infos["success"][done], infos["success_at_end"][done]
        for episode in finished:
            self._recorder.finish(int(episode), bool(self._success[episode]))
        self._episode_of[done] = -1
        self.over += len(finished)
        return len(finished)

    def result(self, seconds: float) -> EvalResult:
        seeds = range(self._base_seed, self._base_seed + self._num_episodes)
        each = zip(seeds, self._success.tolist(), self._lengths.tolist(), strict=True)
        return EvalResult(
            episodes=self._num_episodes,
            successes=int(self._success.sum()),
            success_at_end=int(self._at_end.sum()),
            mean_return=float(self._returns.mean()),
            mean_length=float(self._lengths.mean()),
            seconds=seconds,
            per_episode=list(each),
            kept=self._recorder.kept(),
        )
