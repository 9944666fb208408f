"""The `evaluate` command: a checkpoint's success rate, on stdout. Also of upstream's best.pt, trained on ManiSkill2."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .checkpoint import Checkpoint, Policy, open_checkpoint
from .comparison import Comparison
from .evaluate import BASE_SEED, EvalResult, run_episodes, sampling
from .maniskill2 import Task, match_observations
from .metrics import MetricWriter
from .models.decorated_policy import DecoratedPolicy
from .models.diffusion_policy import DiffusionPolicy
from .placement import pick_device, set_threads
from .protocol import metric_names as names
from .protocol.config import EvaluateConfig
from .protocol.episodes import BASE_EPISODES, RUN_EPISODES, EpisodeFile, write_episodes
from .protocol.errors import PidecError
from .stopping import StopRequest


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
        total_steps=config.total_steps(),
        config=config.model_dump(mode="json"),
    ) as writer:
        checkpoint = open_checkpoint(config.ckpt)
        for note in checkpoint.notes:
            writer.event("warning", message=note)
        task = _task(config, checkpoint, writer)
        policy = checkpoint.policy(config.weights, device)
        sampler, num_steps = sampling(policy, config.sampler, config.num_steps)
        _check(config, policy, num_steps)  # before simulators are started
        env = _simulators(config, task, policy.obs_horizon, policy.act_horizon)
        try:
            if isinstance(policy, DiffusionPolicy):  # a decorated one was made to match when it was trained
                policy, note = match_observations(policy, str(task.env_id), env.task.obs_dim, config.pad_obs_to)
                if note:
                    writer.event("warning", message=note)
            env.check_sizes(policy.obs_dim, policy.act_dim)
            stop.check()
            episodes = _Episodes(config, env, sampler, num_steps, writer, stop)
            compared = episodes.run(policy.alone()) if config.compare and isinstance(policy, DecoratedPolicy) else None
            result = episodes.run(policy, keep_seeds=[episode.seed for episode in compared.kept] if compared else [])
        finally:
            env.close()
        _tell(writer, result, compared)
        if run_dir:
            _keep_episodes(run_dir / RUN_EPISODES, checkpoint.kind, checkpoint, task, result, writer)
            if compared:
                _keep_episodes(run_dir / BASE_EPISODES, "diffusion", checkpoint, task, compared, writer)
    comparison = Comparison(compared, result) if compared else None
    _report(config, task, (sampler, num_steps), result, comparison, as_json=as_json, table=table)
    return 0


def _check(config: EvaluateConfig, policy: Policy, num_steps: int) -> None:
    """Raises:
    PidecError: more denoising steps than the policy has, or nothing to compare it with.
    """
    if num_steps > policy.num_diffusion_iters:
        raise PidecError(
            f"num_steps {num_steps} is not possible: the policy was trained with "
            f"{policy.num_diffusion_iters} diffusion steps",
            f"Use --num-steps {policy.num_diffusion_iters}, or less.",
        )
    if config.compare and not isinstance(policy, DecoratedPolicy):
        raise PidecError(
            f"{config.ckpt} is a base policy: --compare is for the checkpoints of pidec-train decorator",
            "Leave out --compare.",
        )


@dataclass
class _Episodes:
    """Runs a policy on the starts that were asked for; a second one on the same."""

    config: EvaluateConfig
    env: Any
    sampler: str
    num_steps: int
    writer: MetricWriter
    stop: StopRequest
    over: int = 0

    def run(self, policy: Policy, keep_seeds: Sequence[int] = ()) -> EvalResult:
        self.writer.event("eval", self.over, phase="start", episodes=self.config.num_eval_episodes)
        progress = _Progress(self.writer, self.over)
        result = run_episodes(
            policy,
            self.env,
            num_episodes=self.config.num_eval_episodes,
            base_seed=self.config.seed + BASE_SEED,
            sampler=self.sampler,
            num_steps=self.num_steps,
            keep_seeds=keep_seeds,
            progress=progress,
            stop=self.stop,
        )
        self.over += result.episodes
        return result


def _tell(writer: MetricWriter, result: EvalResult, compared: EvalResult | None) -> None:
    """Event and row."""
    step = result.episodes + (compared.episodes if compared else 0)
    writer.event(
        "eval",
        step,
        phase="done",
        successes=result.successes,
        episodes=result.episodes,
        seconds=round(result.seconds, 1),
    )
    base = {names.EVAL_BASE_SUCCESS_RATE: compared.success_rate} if compared else {}
    writer.log(step, {**result.metrics(), **base})


def _task(config: EvaluateConfig, checkpoint: Checkpoint, writer: MetricWriter) -> Task:
    """What was asked for, else what the checkpoint knows."""
    task = checkpoint.on(config.env_id, config.control_mode)
    for note in task.notes:
        writer.event("warning", message=note)
    if not task.env_id or not task.control_mode:
        missing = "--control-mode" if task.env_id else "--env-id"
        raise PidecError(f"{config.ckpt} does not say on which task it was trained", f"Give {missing}.")
    return task


def _simulators(config: EvaluateConfig, task: Task, obs_horizon: int, act_horizon: int) -> Any:
    if importlib.util.find_spec("mani_skill") is None:
        raise PidecError("evaluation needs ManiSkill, which is not installed", "See the README on how to install it.")
    from .envs.make import make_vector_env

    return make_vector_env(
        str(task.env_id),
        min(config.num_eval_envs, config.num_eval_episodes),
        control_mode=str(task.control_mode),
        obs_horizon=obs_horizon,
        act_horizon=act_horizon,
        max_episode_steps=config.max_episode_steps,
    )


class _Progress:
    """How many episodes are over: on the bar, and now and then in the file, for whoever watches the job."""

    EVERY_SECONDS = 2.0

    def __init__(self, writer: MetricWriter, before: int) -> None:
        self._writer, self._before, self._told = writer, before, 0.0

    def __call__(self, over: int) -> None:
        over += self._before
        self._writer.advance(over)
        if time.monotonic() - self._told >= self.EVERY_SECONDS:
            self._told = time.monotonic()
            self._writer.event("progress", over)


def _keep_episodes(
    path: Path, policy: str, checkpoint: Checkpoint, task: Task, result: EvalResult, writer: MetricWriter
) -> None:
    """For watching; a full disk costs no more than them."""
    file = EpisodeFile(
        env_id=str(task.env_id),
        control_mode=str(task.control_mode),
        policy=policy,
        step=checkpoint.step or 0,
        episodes=result.kept,
    )
    try:
        write_episodes(path, file)
    except OSError as error:
        writer.event("warning", message=f"episodes are not kept: {error}")


def _report(
    config: EvaluateConfig,
    task: Task,
    sampling: tuple[str, int],
    result: EvalResult,
    comparison: Comparison | None,
    *,
    as_json: bool,
    table: bool,
) -> None:
    if as_json:
        low, high = result.wilson()
        answer: dict[str, Any] = {
            "ckpt": config.ckpt,
            "weights": config.weights,
            "env_id": task.env_id,
            "control_mode": task.control_mode,
            "sampler": sampling[0],
            "num_steps": sampling[1],
            "episodes": result.episodes,
            "successes": result.successes,
            "success_rate": result.success_rate,
            "wilson_95": [low, high],
            "success_at_end": result.success_at_end / result.episodes,
            "return": result.mean_return,
            "episode_length": result.mean_length,
            "seconds": round(result.seconds, 2),
            **(comparison.facts() if comparison else {}),
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
    for line in comparison.lines() if comparison else [result.line()]:
        print(f"{task.env_id}: {line}")
