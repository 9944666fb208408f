"""The fast environments against ManiSkill's own: the same demos and random episodes through both, step by step.

    python -m tests.envs.fast_equality [--tasks PushCube-v1 …] [--demos 50] [--episodes 50] [--folder DIR]

Needs FOLDER/TASK.h5, as `pidec-train demos --env-id TASK --num-demos 50 --out FOLDER/TASK.h5` makes it, for every task
whose demos do not ship. Prints a table and exits with 1 where success flags differ or observations do too much:
1e-4 over the first 20 steps of an episode, 5e-3 over the whole.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

import pidec_train.assets
from pidec_train.envs.fast_tasks import fast_tasks
from pidec_train.envs.make import make_env, registered_steps

MODE = "pd_ee_delta_pose"
EARLY_STEPS, EARLY, WHOLE = 20, 1e-4, 5e-3
BUNDLED = Path(pidec_train.assets.__file__).parent
Episode = tuple[int, NDArray[Any]]  # seed, actions (steps, 7) float32


@dataclass
class Comparison:
    """What a number of episodes through both environments showed."""

    episodes: int = 0
    steps: int = 0
    successes: int = 0  # episodes that ManiSkill's own environment calls a success at some step
    flags_apart: int = 0  # steps
    starts_apart: int = 0  # episodes
    early: list[float] = field(default_factory=list)  # largest difference of each episode, in the first 20 steps
    whole: list[float] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not (self.flags_apart or self.starts_apart) and max(self.early) <= EARLY and max(self.whole) <= WHOLE

    def __str__(self) -> str:
        return (
            f"{self.episodes:3d} episodes, {self.steps:5d} steps, {self.successes:3d} succeed; flags apart at "
            f"{self.flags_apart} steps, starts at {self.starts_apart}; observations by {max(self.early):.1e} in "
            f"{EARLY_STEPS} steps, {max(self.whole):.1e} in all, exactly equal in {self.whole.count(0.0)} episodes"
        )


class Both:
    """One task in ManiSkill's own environment and in the fast one, both without `ChunkedEnv`."""

    def __init__(self, env_id: str) -> None:
        import torch

        torch.set_num_threads(1)
        self.env_id = env_id
        self.stock, self.fast = (make_env(env_id, control_mode=MODE, env_backend=b).env for b in ("stock", "fast"))

    def compare(self, episodes: Iterable[Episode]) -> Comparison:
        result = Comparison()
        for seed, actions in episodes:
            starts = self.stock.reset(seed=seed)[0], self.fast.reset(seed=seed)[0]
            result.starts_apart += not np.array_equal(np.float32(starts[0]), starts[1])
            apart, success = [], False
            for action in actions:
                (stock, _, over, _, info), fast = self.stock.step(action), self.fast.step(action)
                flags = {bool(info["success"]), bool(over), fast[4]["success"], fast[2]}
                result.flags_apart += len(flags) > 1
                success |= bool(info["success"])
                apart.append(float(np.abs(np.float32(stock) - fast[0]).max()))
            result.episodes += 1
            result.steps += len(actions)
            result.successes += success
            result.early.append(max(apart[:EARLY_STEPS]))
            result.whole.append(max(apart))
        return result

    def close(self) -> None:
        self.stock.close()
        self.fast.close()


def demos(file: Path, count: int) -> Iterator[Episode]:
    """The first `count` demos of a file."""
    episodes = json.loads(file.with_suffix(".json").read_text())["episodes"]
    with h5py.File(file) as h5:
        for episode in episodes[:count]:
            yield episode["episode_seed"], h5[f"traj_{episode['episode_id']}"]["actions"][:]


def random_episodes(count: int, steps: int, seed: int = 0) -> Iterator[Episode]:
    """Of all kinds: large and small movements, jitter, and directions held long enough to run into things."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        hold = (1, 5, 20)[number % 3]
        drawn = rng.uniform(-1, 1, (steps // hold + 1, 7)) * rng.choice([0.3, 1.0])
        if number % 2:
            drawn[:, 2] -= 0.1  # down, to the table and what lies there
        yield 1000 + number, drawn.repeat(hold, axis=0)[:steps].astype(np.float32)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=sorted(fast_tasks()), choices=sorted(fast_tasks()))
    parser.add_argument("--demos", type=int, default=50)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--folder", type=Path, default=Path("demos"))
    args = parser.parse_args()
    equal = True
    for task in args.tasks:
        both = Both(task)
        gc.collect()
        gc.freeze()  # resets collect garbage, which scans all that lives
        file = next((f for f in (BUNDLED / f"{task}.h5", args.folder / f"{task}.h5") if f.exists()), None)
        kinds = {"random": random_episodes(args.episodes, registered_steps(task))}
        if file:
            kinds = {"demos": demos(file, args.demos), **kinds}
        else:
            print(f"{task} demos: no {args.folder / task}.h5")
            equal = False
        for kind, episodes in kinds.items():
            result = both.compare(episodes)
            equal &= result.equal
            print(f"{task} {kind}: {result}{'' if result.equal else '  NOT EQUAL'}", flush=True)
        both.close()
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
