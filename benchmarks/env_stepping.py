"""Env steps per second of one core: ManiSkill's own environments against the fast ones, resets included.

    python -m benchmarks.env_stepping [--tasks …] [--rounds 5] [--episodes 0]

Both step in this process with one torch thread and the garbage collector frozen after set-up, as workers do, and take
turns: an episode each, same seed, same random actions, as many steps as an episode of the task has. Medians over the
rounds, of processor time, so that somebody else's load does not count (memory bandwidth shared with them still does).

With `--episodes N`, instead: how much memory the fast environment holds after N episodes, beyond the first ten.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections import defaultdict

import numpy as np
import psutil

from pidec_train.envs.fast_tasks import fast_tasks
from pidec_train.envs.make import make_env
from pidec_train.envs.wrappers import ChunkedEnv

TASKS = ["PegInsertionSide-v1", "PushCube-v1"]
MODE, CHUNK, WARM_UP = "pd_ee_delta_pose", 4, 10
MUST, AIM, MUST_MIB = 4.0, 7.0, 50.0


def episode(env: ChunkedEnv, seed: int, steps: int) -> tuple[float, float]:
    """Seconds of processor time of the reset and of `steps` env steps, in chunks as a policy gives them."""
    inner = env.env  # an episode that succeeds by chance goes on
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, 7)).astype(np.float32)
    start = time.process_time()
    inner.reset(seed=seed)
    between = time.process_time()
    for action in actions:
        inner.step(action)
    return between - start, time.process_time() - between


def speed(task: str, rounds: int) -> bool:
    envs = {name: make_env(task, control_mode=MODE, env_backend=name) for name in ("stock", "fast")}
    gc.collect()
    gc.freeze()
    steps = envs["stock"].max_episode_steps
    for env in envs.values():
        episode(env, 0, 20)
    resets, runs = defaultdict(list), defaultdict(list)
    for seed in range(rounds):
        for name, env in envs.items():
            reset, run = episode(env, seed, steps)
            resets[name].append(reset)
            runs[name].append(run)
    rates = {}
    for name in envs:
        reset, run = statistics.median(resets[name]), statistics.median(runs[name])
        rates[name] = steps / (reset + run)
        print(
            f"  {name:5s} {rates[name]:6.0f} env steps/s (step {run / steps * 1e3:.3f} ms, reset {reset * 1e3:.1f} ms)"
        )
    ratio = rates["fast"] / rates["stock"]
    print(f"  {ratio:.1f} times (must {MUST:.0f}, aim {AIM:.0f}); {rounds} episodes of {steps} steps each")
    for env in envs.values():
        env.close()
    return ratio >= MUST


def memory(task: str, episodes: int) -> bool:
    env = make_env(task, control_mode=MODE, env_backend="fast")
    gc.collect()
    gc.freeze()
    process, before = psutil.Process(), 0
    for seed in range(WARM_UP + episodes):
        if seed == WARM_UP:
            before = process.memory_info().rss
        episode(env, seed, CHUNK)
    grown = (process.memory_info().rss - before) / 2**20
    print(f"  {grown:+.1f} MiB over {episodes} episodes (must stay below {MUST_MIB:.0f})")
    env.close()
    return grown < MUST_MIB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=sorted(fast_tasks()))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=0)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    print(f"load of the machine: {psutil.getloadavg()[0]:.1f} on {psutil.cpu_count()} cores")
    good = True
    for task in args.tasks:
        print(task, flush=True)
        good &= memory(task, args.episodes) if args.episodes else speed(task, args.rounds)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
