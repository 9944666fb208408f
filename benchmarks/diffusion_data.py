"""What fetching a batch costs: one gather over the window index against slicing each sample, as upstream does.

    python benchmarks/diffusion_data.py

The bundled demonstrations, batch 1024, one thread. Also the averaging of the weights: one call over all against a
loop over the parameters. Ways are interleaved in one run; the ratio is of medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from pidec_train.algos.flat import flatten_weights
from pidec_train.data.demos import load_demos
from pidec_train.data.windows import Batches, build_windows
from pidec_train.models.diffusion_policy import DiffusionPolicy

BATCH, OBS_HORIZON, PRED_HORIZON, ROUNDS = 1024, 2, 16, 15


def plain_windows(demos: object) -> Callable[[], tuple[Tensor, Tensor]]:
    """Slice, pad and stack window by window."""
    obs = [torch.as_tensor(o) for o in demos.observations]  # type: ignore[attr-defined]
    actions = [torch.as_tensor(a) for a in demos.actions]  # type: ignore[attr-defined]
    slices = [
        (i, start)
        for i, a in enumerate(actions)
        for start in range(-(OBS_HORIZON - 1), len(a) - PRED_HORIZON + (PRED_HORIZON - OBS_HORIZON))
    ]

    def one(index: int) -> tuple[Tensor, Tensor]:
        i, start = slices[index]
        end, length = start + PRED_HORIZON, len(actions[i])
        o, a = obs[i][max(0, start) : start + OBS_HORIZON], actions[i][max(0, start) : end]
        if start < 0:
            o, a = torch.cat([o[:1].repeat(-start, 1), o]), torch.cat([a[:1].repeat(-start, 1), a])
        if end > length:
            still = torch.cat([torch.zeros(a.shape[1] - 1), a[-1, -1:]])
            a = torch.cat([a, still.repeat(end - length, 1)])
        return o, a

    def batch() -> tuple[Tensor, Tensor]:
        chosen = torch.randperm(len(slices))[:BATCH].tolist()
        pairs = [one(index) for index in chosen]
        return torch.stack([o for o, _ in pairs]), torch.stack([a for _, a in pairs])

    return batch


def plain_ema(policy: DiffusionPolicy, averaged: DiffusionPolicy) -> Callable[[], None]:
    def step() -> None:
        with torch.no_grad():
            for mean, now in zip(averaged.parameters(), policy.parameters(), strict=True):
                mean.sub_(0.001 * (mean - now))

    return step


def compare(name: str, plain: Callable[[], object], ours: Callable[[], object]) -> None:
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(ROUNDS):
        for key, call in (("plain", plain), ("ours", ours)):
            began = time.perf_counter()
            call()
            times[key].append(time.perf_counter() - began)
    slow, fast = (statistics.median(times[key]) * 1e3 for key in ("plain", "ours"))
    print(f"{name:<28}  plain {slow:8.3f} ms   ours {fast:7.3f} ms   {slow / fast:6.1f}x")


def main() -> None:
    torch.set_num_threads(1)
    demos = load_demos("bundled:PushCube-v1.h5")
    windows = build_windows(demos, obs_horizon=OBS_HORIZON, pred_horizon=PRED_HORIZON)
    batches = Batches(windows, BATCH, torch.Generator().manual_seed(0))
    print(f"batch {BATCH}, {len(windows):,} windows, torch {torch.__version__}, one thread")
    chosen = torch.zeros(1, BATCH, dtype=torch.int64)

    def gather() -> object:
        batches.choose(chosen)
        return windows.gather(chosen[0])

    compare("batch of windows", plain_windows(demos), gather)
    policy, averaged = (DiffusionPolicy(demos.obs_dim, demos.act_dim) for _ in range(2))
    plain = plain_ema(policy, averaged)
    weights, means, share = flatten_weights(policy), flatten_weights(averaged), torch.tensor(0.001)
    compare("averaging 4.4 M weights", plain, lambda: means.lerp_(weights, share))


if __name__ == "__main__":
    main()
