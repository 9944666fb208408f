"""Success rate of a policy in the simulator, and the `evaluate` command.

Episode i starts from seed base+i and draws its noise from a generator of its own, seeded alike, whatever the number
of simulators: two policies meet the same starts, and no episode is counted for being short. (The network's rounding
does depend on how many observations share a batch, by about 1e-6.)
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from .checkpoint import open_checkpoint
from .metrics import MetricWriter
from .models.diffusion_policy import DiffusionPolicy
from .placement import pick_device, set_threads
from .protocol import metric_names as names
from .protocol.config import EvaluateConfig
from .protocol.errors import PidecError
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


class SimulatorsInBackground:
    """Simulators for a policy, started in a thread: it takes seconds, and training can begin meanwhile.

    Args:
        policy: its sizes must be the task's.
        env_id, control_mode, max_episode_steps: the task.
        num_envs: how many.

    Raises:
        PidecError: ManiSkill is not installed.
    """

    def __init__(
        self, policy: DiffusionPolicy, *, env_id: str, control_mode: str, num_envs: int, max_episode_steps: int | None
    ) -> None:
        if importlib.util.find_spec("mani_skill") is None:
            raise PidecError("evaluation needs ManiSkill, which is not installed", "Install it, or use --eval-freq 0.")
        self._obs_dim, self._act_dim = policy.obs_dim, policy.act_dim
        self._env_id = env_id
        self._num_envs = num_envs
        self._kwargs: dict[str, Any] = {
            "control_mode": control_mode,
            "obs_horizon": policy.obs_horizon,
            "act_horizon": policy.act_horizon,
            "max_episode_steps": max_episode_steps,
        }
        self._env: Any = None
        self._error: BaseException | None = None
        self._unwanted = False
        self._lock = threading.Lock()
        self._ready = threading.Event()
        threading.Thread(target=self._start, name="simulators", daemon=True).start()

    def check(self) -> None:
        """Raises:
        PidecError: the simulators have failed to start, or their sizes are not the policy's.
        """
        if self._error:
            raise self._error

    def get(self, stop: StopRequest | None = None) -> Any:
        """The vector environment, as soon as it is ready. Raises what `check` raises, or Stopped."""
        while not self._ready.wait(0.2):
            if stop:
                stop.check()
        self.check()
        return self._env

    def close(self) -> None:
        """End the simulators, also those that are still starting."""
        with self._lock:
            self._unwanted = True
            if self._env is not None:
                self._env.close()

    def _start(self) -> None:
        try:
            from .envs.make import make_vector_env

            env = make_vector_env(self._env_id, self._num_envs, **self._kwargs)
            with self._lock:
                self._env = env
                if self._unwanted:
                    env.close()
            self._check_sizes(env.task)
        except BaseException as error:  # noqa: BLE001 - it belongs to the thread that asks for the simulators
            self._error = error
        self._ready.set()

    def _check_sizes(self, task: Any) -> None:
        for name, ours, theirs in (("obs_dim", self._obs_dim, task.obs_dim), ("act_dim", self._act_dim, task.act_dim)):
            if ours != theirs:
                raise PidecError(
                    f"the demos or the checkpoint have {name} {ours}, but {self._env_id} with control mode "
                    f"{task.control_mode} has {name} {theirs}",
                    "Were they made with this task, in this version of ManiSkill?",
                )


def run(config: EvaluateConfig, run_dir: Path | None, *, as_json: bool, table: bool, stop: StopRequest) -> int:
    """The `evaluate` command. Returns the exit code; the result goes to stdout, talk to stderr.

    Raises:
        PidecError: see `open_checkpoint`, `make_vector_env`; Stopped.
    """
    device = pick_device(config.device)
    set_threads()
    with MetricWriter(
        run_dir,
        kind="evaluate",
        step_name="episode",
        total_steps=config.num_eval_episodes,
        config=config.model_dump(mode="json"),
    ) as writer:
        checkpoint = open_checkpoint(config.ckpt)
        for note in checkpoint.notes:
            writer.event("warning", message=note)
        env_id, control_mode = config.env_id or checkpoint.env_id, config.control_mode or checkpoint.control_mode
        if not env_id or not control_mode:
            missing = "--control-mode" if env_id else "--env-id"
            raise PidecError(f"{config.ckpt} does not say on which task it was trained", f"Give {missing}.")
        policy = checkpoint.policy(config.weights, device)
        simulators = SimulatorsInBackground(
            policy,
            env_id=env_id,
            control_mode=control_mode,
            max_episode_steps=config.max_episode_steps,
            num_envs=min(config.num_eval_envs, config.num_eval_episodes),
        )
        try:
            env = simulators.get(stop)
            writer.event("eval", 0, phase="start", episodes=config.num_eval_episodes)
            result = run_episodes(
                policy,
                env,
                num_episodes=config.num_eval_episodes,
                base_seed=config.seed + BASE_SEED,
                sampler=config.sampler,
                num_steps=config.num_steps,
                progress=_Progress(writer),
                stop=stop,
            )
        finally:
            simulators.close()
        writer.event(
            "eval",
            result.episodes,
            phase="done",
            successes=result.successes,
            episodes=result.episodes,
            seconds=round(result.seconds, 1),
        )
        writer.log(result.episodes, result.metrics())
    _report(config, env_id, control_mode, result, as_json=as_json, table=table)
    return 0


class _Progress:
    """How many episodes are over: on the bar, and now and then in the file, for whoever watches the job."""

    EVERY_SECONDS = 2.0

    def __init__(self, writer: MetricWriter) -> None:
        self._writer, self._told = writer, 0.0

    def __call__(self, over: int) -> None:
        self._writer.advance(over)
        if time.monotonic() - self._told >= self.EVERY_SECONDS:
            self._told = time.monotonic()
            self._writer.event("progress", over)


def _report(
    config: EvaluateConfig, env_id: str, control_mode: str, result: EvalResult, *, as_json: bool, table: bool
) -> None:
    if as_json:
        low, high = result.wilson()
        answer: dict[str, Any] = {
            "ckpt": config.ckpt,
            "weights": config.weights,
            "env_id": env_id,
            "control_mode": control_mode,
            "sampler": config.sampler,
            "num_steps": config.num_steps,
            "episodes": result.episodes,
            "successes": result.successes,
            "success_rate": result.success_rate,
            "wilson_95": [low, high],
            "success_at_end": result.success_at_end / result.episodes,
            "return": result.mean_return,
            "episode_length": result.mean_length,
            "seconds": round(result.seconds, 2),
        }
        if table:
            answer["per_episode"] = [
                {"seed": seed, "success": success, "length": length} for seed, success, length in result.per_episode
            ]
        print(json.dumps(answer))
        return
    if table:
        rows = Table("seed", "success", "env steps")
        for seed, success, length in result.per_episode:
            rows.add_row(str(seed), "yes" if success else "no", str(length))
        Console(file=sys.stdout).print(rows)
    print(f"{env_id}: {result.line()}")
