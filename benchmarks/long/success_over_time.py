"""After how many minutes of training a run's success is reached: its averaged weights evaluated on the way.

    python -m benchmarks.long.success_over_time [--every 150] [--episodes 100] [--envs 20]

The quickstart's run on the bundled demonstrations, one seed. It is not disturbed: snapshots of the averaged weights are
kept in memory, and evaluated when the training is over, all on the same starts.
"""

from __future__ import annotations

import argparse
import copy
import time

import torch

from benchmarks.long.precision import config_of
from pidec_train.data.demos import load_demos
from pidec_train.diffusion_learner import DiffusionLearner
from pidec_train.envs.make import make_vector_env
from pidec_train.evaluate import BASE_SEED, run_episodes
from pidec_train.models.diffusion_policy import DiffusionPolicy
from pidec_train.placement import pick_device, set_threads


def train(iterations: int, every: int, seed: int, device: torch.device) -> list[tuple[int, float, DiffusionPolicy]]:
    """(iteration, seconds of training, averaged weights) on the way."""
    learner = DiffusionLearner(config_of(seed, iterations, "tf32"), load_demos("bundled:PushCube-v1.h5", None), device)
    learner.stepper.prepare()
    snapshots, seconds, began = [], 0.0, time.perf_counter()
    while learner.iteration < iterations:
        at = learner.iteration
        learner.advance(min(iterations, (at // every + 1) * every) - at)
        if learner.iteration % every == 0 or learner.iteration == iterations:
            float(learner.step.losses[0])  # until the device has come so far
            seconds += time.perf_counter() - began
            snapshots.append((learner.iteration, seconds, copy.deepcopy(learner.ema_policy)))
            began = time.perf_counter()
    return snapshots


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--every", type=int, default=150)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--envs", type=int, default=20)
    given = parser.parse_args()
    set_threads()
    snapshots = train(given.iterations, given.every, given.seed, pick_device(given.device))
    policy = snapshots[0][2]
    env = make_vector_env(
        "PushCube-v1",
        given.envs,
        control_mode="pd_ee_delta_pose",
        obs_horizon=policy.obs_horizon,
        act_horizon=policy.act_horizon,
    )
    try:
        for iteration, seconds, averaged in snapshots:
            result = run_episodes(averaged, env, num_episodes=given.episodes, base_seed=given.seed + BASE_SEED)
            print(f"{seconds / 60:5.2f} min  iteration {iteration:>5,}  {result.line()}", flush=True)
    finally:
        env.close()


if __name__ == "__main__":
    main()
