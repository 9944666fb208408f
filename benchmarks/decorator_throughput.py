"""How fast a residual policy learns: decision steps a second of an upstream-like loop against pidec's.

    python -m benchmarks.decorator_throughput [--setting quickstart|paper|all] [--rounds N] [--seconds S] [--json FILE]

Both run the whole loop (simulators, base policy, replay buffer, updates; no evaluation, no checkpoint) on the same
cores, in turns, so that a slow minute hits both. A turn is a whole number of episodes in each simulator: the base has
random weights and never succeeds, so all turns have as many resets. pidec's is the trainer's own code, as configured:

- pidec: the order of the algorithm exactly upstream's
- overlap: as many updates, done while the simulators step (`--overlap`)
- reuse: the base action is computed once per observation (`--reuse-base-action`)
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from pidec_train.bench.machine import describe
from pidec_train.data.replay_buffer import Transitions
from pidec_train.decorator_learner import DecoratorLearner
from pidec_train.models.diffusion_policy import DiffusionPolicy
from pidec_train.placement import pick_device, set_precision, set_threads
from pidec_train.protocol.config import DecoratorConfig
from pidec_train.rollouts import Rollouts

from ._parts import BASE, PARTS, REST, SIMULATORS, UPDATES, Parts
from ._upstream_decorator import NumpyReplay, UpstreamBase, UpstreamWay, make_simulators

CONTROL_MODE = "pd_ee_delta_pose"
REPLAY = 100_000  # transitions that are there from the start: a batch is then drawn from more than the caches hold


@dataclass(frozen=True)
class Setting:
    """A task, its base policy's widths and what differs from the defaults of `DecoratorConfig`."""

    env_id: str
    unet_dims: tuple[int, ...]
    config: dict[str, Any]


SETTINGS = {
    "quickstart": Setting(
        "PushCube-v1",
        (32, 64),
        {
            "num_envs": 16,
            "training_freq": 32,
            "utd": 0.25,
            "batch_size": 256,
            "hidden_dims": (256, 256),
            "policy_lr": 3e-4,
            "q_lr": 3e-4,
            "sac_alpha_init": 0.003,
        },  # as in jobs/presets/decorator-quickstart.toml
    ),
    "paper": Setting("PegInsertionSide-v1", (64, 128, 256), {}),
}
VARIANTS: dict[str, dict[str, bool]] = {
    "pidec": {},
    "pidec, overlap": {"overlap": True},
    "pidec, reuse": {"reuse_base_action": True},
    "pidec, overlap and reuse": {"overlap": True, "reuse_base_action": True},
}


class Way(Protocol):
    """One contender: a loop that can be run round by round."""

    name: str
    steps: int
    parts: Parts

    def enter(self) -> None:
        """Its turn begins."""

    def round(self) -> None:
        """`training_freq` decision steps and the updates that belong to them."""


class Quiet:
    """Stands in for the writer of metrics."""

    def say(self, line: str) -> None:
        print(f"  {line}", file=sys.stderr)


class PidecWay:
    """The trainer's own learner and rollouts, driven as the trainer drives them.

    Args:
        variant: fields of the config that differ.
        learner: shared by the variants.
        rollouts: with the workers that such a run would have.
    """

    def __init__(self, name: str, variant: dict[str, bool], learner: DecoratorLearner, rollouts: Rollouts) -> None:
        self.name, self._learner, self._rollouts = name, learner, rollouts
        self._config = learner.config.model_copy(update=variant)
        self.parts = Parts(learner.device)

    @property
    def steps(self) -> int:
        return self._learner.step

    def enter(self) -> None:
        set_threads()
        set_precision(self._config.precision)
        torch.backends.cudnn.deterministic = False
        self._rollouts.config = self._config
        for holder, method, part in (
            (self._learner.acting, "base_actions", BASE),
            (self._learner, "update", UPDATES),
            (self._rollouts.env, "step_async", SIMULATORS),
            (self._rollouts.env, "step_results", SIMULATORS),
            (self._rollouts.env, "start_obs", SIMULATORS),
        ):
            vars(holder).pop(method, None)  # another variant's watch
            self.parts.watch(holder, method, part)

    def round(self) -> None:
        self._rollouts.round(self._learner)


@dataclass
class Result:
    """One contender's figures.

    Attributes:
        rates: decision steps a second, one a turn.
        parts: of each turn, milliseconds that a decision step of all simulators takes, by part. On CUDA of one turn
            more, in which each part waits for the device.
    """

    rates: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def part(self, name: str) -> float:
        return statistics.median(parts[name] for parts in self.parts)


def config_of(setting: Setting, options: argparse.Namespace) -> DecoratorConfig:
    """As the setting's run would have it, but past its beginning: the buffer is full, the residual always on."""
    fields = {**DecoratorConfig(base_policy_ckpt="-").model_dump(), **setting.config}
    num_envs = options.num_envs or fields["num_envs"]
    fields |= {
        "env_id": setting.env_id,
        "num_envs": num_envs,
        "training_freq": -(-fields["training_freq"] // num_envs) * num_envs,
        "num_workers": options.num_workers,
        "env_backend": options.env_backend,
        "total_timesteps": 1_000_000_000,
        "buffer_size": REPLAY,
        "learning_starts": 1,
        "prog_explore": 1,
        "device": options.device,
    }
    return DecoratorConfig(**fields)


def fill_ours(learner: DecoratorLearner) -> None:
    """Transitions as random as those of the other way."""
    obs, chunk = learner.base.obs_dim, len(learner.actor.action_scale)
    shapes = ((REPLAY, obs), (REPLAY, obs), *[(REPLAY, chunk)] * 3)
    parts = [torch.rand(shape, device=learner.device) * 2 - 1 for shape in shapes]
    zero = torch.zeros(REPLAY, device=learner.device)
    learner.remember(Transitions(*parts, reward=zero - 1, stop=zero))


def fill_theirs(replay: NumpyReplay) -> None:
    rng = np.random.default_rng(0)
    rows = REPLAY // replay.rewards.shape[1]
    for array in (replay.observations, replay.next_observations, replay.actions):
        array[:rows] = rng.uniform(-1, 1, array[:rows].shape)
    replay.rewards[:rows] = -1
    replay.mark_filled(rows)


@contextmanager
def contenders(setting: Setting, config: DecoratorConfig, device: torch.device) -> Iterator[tuple[list[Way], int]]:
    """Both ways on the same base, and the decision steps of an episode."""
    with ExitStack() as stack:
        torch.manual_seed(0)
        rollouts = {}
        for overlap in (False, True):  # which decides about the number of workers
            overlapping = config.model_copy(update={"overlap": overlap})
            rollouts[overlap] = Rollouts(overlapping, CONTROL_MODE, 2, Quiet())  # type: ignore[arg-type]
            stack.callback(rollouts[overlap].close)
        task = rollouts[False].env.task
        base = DiffusionPolicy(task.obs_dim, task.act_dim, act_horizon=config.act_horizon, unet_dims=setting.unet_dims)
        theirs = UpstreamBase(
            task.obs_dim,
            task.act_dim,
            setting.unet_dims,
            act_horizon=config.act_horizon,
            ddim_steps=config.ddim_steps,
        )
        theirs.load_state_dict(base.state_dict())
        for policy in (base, theirs):
            policy.to(device).eval().requires_grad_(False)
        scale = (task.action_high - task.action_low) / 2
        learner = DecoratorLearner(config, base, {"control_mode": CONTROL_MODE, "sha256": ""}, scale, device)
        set_precision(config.precision)
        for note in learner.prepare():
            print(f"  {note}", file=sys.stderr)
        for each in rollouts.values():
            each.begin(learner)
        fill_ours(learner)
        envs = make_simulators(config.env_id, CONTROL_MODE, base.obs_horizon, config.num_envs)
        stack.callback(envs.close)
        upstream = UpstreamWay(config, theirs, envs, device)
        fill_theirs(upstream.replay)
        ours = [
            PidecWay(name, variant, learner, rollouts[variant.get("overlap", False)])
            for name, variant in VARIANTS.items()
        ]
        yield [upstream, *ours], -(-task.max_episode_steps // config.act_horizon)


def run_turn(way: Way, rounds: int) -> float:
    """Seconds of so many rounds."""
    way.enter()
    way.parts.restart()
    began = time.perf_counter()
    for _ in range(rounds):
        way.round()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def turn_length(way: Way, seconds: float, whole: int) -> int:
    """Rounds that take at least `seconds`, a multiple of `whole`. Also warms up."""
    run_turn(way, 2)
    taken = run_turn(way, 2) / 2
    return max(1, math.ceil(seconds / (taken * whole))) * whole


def measure(
    ways: list[Way], config: DecoratorConfig, episode: int, options: argparse.Namespace, device: torch.device
) -> dict[str, Result]:
    """Turns of all contenders, one after the other, `options.rounds` times."""
    per_round = config.training_freq // config.num_envs
    whole = math.lcm(episode, per_round) // per_round
    lengths = {way.name: turn_length(way, options.seconds, whole) for way in ways}
    results = {way.name: Result() for way in ways}
    for waits in [False] * options.rounds + [True] * (device.type == "cuda"):
        for way in ways:
            way.parts.waits, before = waits, way.steps
            seconds = run_turn(way, lengths[way.name])
            done = way.steps - before
            if not waits:
                results[way.name].rates.append(done / seconds)
            if waits or device.type == "cpu":
                rest = {REST: seconds - sum(way.parts.seconds.values())}
                each = {
                    part: 1000 * spent * config.num_envs / done for part, spent in (way.parts.seconds | rest).items()
                }
                results[way.name].parts.append(each)
    return results


def report(results: dict[str, Result]) -> None:
    """A row for each contender."""
    reference = results[UpstreamWay.name].rate
    print(f"  {'':<26}{'decision steps/s':>17}  {'lowest-highest':<15}{'ratio':>6}   ms a step: {', '.join(PARTS)}")
    for name, result in results.items():
        span = f"{min(result.rates):.0f}-{max(result.rates):.0f}"
        parts = "  ".join(f"{result.part(part):7.1f}" for part in PARTS)
        print(f"  {name:<26}{result.rate:>17.0f}  {span:<15}{result.rate / reference:>6.2f}   {parts}", flush=True)


def compare(name: str, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """One setting: prints its table and returns its figures."""
    setting = SETTINGS[name]
    config = config_of(setting, options)
    print(
        f"{name}: {setting.env_id}, base {'/'.join(map(str, setting.unet_dims))}, {config.num_envs} simulators, batch "
        f"{config.batch_size}, hidden {'/'.join(map(str, config.hidden_dims))}, {config.utd:g} updates a decision step",
        flush=True,
    )
    with contenders(setting, config, device) as (ways, episode):
        results = measure(ways, config, episode, options, device)
    report(results)
    return {
        "setting": name,
        "config": config.model_dump(mode="json"),
        "unet_dims": setting.unet_dims,
        "load_after": os.getloadavg()[0],
        "results": {
            way: {**asdict(result), "rate": result.rate, "ratio": result.rate / results[UpstreamWay.name].rate}
            for way, result in results.items()
        },
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decorator_throughput", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--setting", choices=[*SETTINGS, "all"], default="all")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    parser.add_argument("--seconds", type=float, default=10.0, help="a turn takes at least so long")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--num-envs", type=int, help="simulators; default: the setting's")
    parser.add_argument("--num-workers", type=int, help="pidec's simulator processes; default: as a run has")
    parser.add_argument("--env-backend", choices=["auto", "fast", "stock"], default="auto", help="pidec's simulators")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    device = pick_device(options.device)
    machine = describe(device)
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    names = list(SETTINGS) if options.setting == "all" else [options.setting]
    figures = [compare(name, options, device) for name in names]
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "settings": figures}, indent=1))


if __name__ == "__main__":
    main()
