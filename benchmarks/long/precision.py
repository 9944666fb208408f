"""Whether bf16 learns what fp32 learns: final losses over several seeds, side by side.

    python -m benchmarks.long.precision [--device auto] [--seeds 3] [--iterations 1500] [--precisions fp32 bf16]

The quickstart's run on the bundled demonstrations. "loss" is the mean training loss of the last tenth of the
iterations; "averaged" is the loss of the averaged weights on all windows, on the same noise for every run.
"""

from __future__ import annotations

import argparse
import time

import torch

from pidec_train.algos.diffusion_step import noise_loss
from pidec_train.data.demos import load_demos
from pidec_train.diffusion_learner import DiffusionLearner
from pidec_train.placement import pick_device, set_precision, set_threads
from pidec_train.protocol.config import DiffusionConfig

DRAWS = 16  # of noise for every window


def config_of(seed: int, iterations: int, precision: str) -> DiffusionConfig:
    return DiffusionConfig(
        env_id="PushCube-v1",
        demo_path="bundled:PushCube-v1.h5",
        total_iters=iterations,
        batch_size=128,
        lr=1e-3,
        unet_dims=(32, 64),
        warmup_steps=100,
        action_norm="min_max",
        obs_norm="mean_std",
        seed=seed,
        precision=precision,  # type: ignore[arg-type]
    )


@torch.no_grad()
def averaged_loss(learner: DiffusionLearner) -> float:
    """In fp32 whatever the run computed in."""
    policy, windows, device = learner.ema_policy, learner.windows, learner.device
    draw = torch.Generator().manual_seed(0)
    obs, actions = windows.gather(torch.arange(len(windows), device=device))
    losses = []
    for _ in range(DRAWS):
        noise = torch.randn(actions.shape, generator=draw).to(device)
        steps = torch.randint(0, policy.num_diffusion_iters, actions.shape[:1], generator=draw).to(device)
        losses.append(float(noise_loss(policy, obs, actions, noise, steps)))
    return sum(losses) / len(losses)


def one_run(seed: int, iterations: int, precision: str, device: torch.device) -> tuple[float, float, float]:
    """Final loss, averaged weights' loss, seconds."""
    set_precision(precision)
    learner = DiffusionLearner(
        config_of(seed, iterations, precision), load_demos("bundled:PushCube-v1.h5", None), device
    )
    learner.stepper.prepare()
    began, last = time.perf_counter(), []
    while learner.iteration < iterations:
        losses = learner.advance(iterations - learner.iteration)
        if learner.iteration > iterations * 0.9:
            last.append(losses.clone())
    loss = float(torch.cat(last).double().mean())
    return loss, averaged_loss(learner), time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    given = parser.parse_args()
    device = pick_device(given.device)
    set_threads()
    results: dict[str, list[tuple[float, float]]] = {precision: [] for precision in given.precisions}
    print(f"{device}, torch {torch.__version__}, {given.iterations:,} iterations", flush=True)
    for seed in range(1, given.seeds + 1):
        for precision in given.precisions:
            loss, averaged, seconds = one_run(seed, given.iterations, precision, device)
            results[precision].append((loss, averaged))
            print(f"seed {seed}  {precision:<5} loss {loss:.5f}  averaged {averaged:.5f}  {seconds:.0f} s", flush=True)
    first = given.precisions[0]
    for which, name in enumerate(("loss", "averaged")):
        low, high = (end(pair[which] for pair in results[first]) for end in (min, max))
        for precision in given.precisions[1:]:
            mean = sum(pair[which] for pair in results[precision]) / given.seeds
            inside = sum(low <= pair[which] <= high for pair in results[precision])
            print(
                f"{name}: {first} from {low:.5f} to {high:.5f}; {precision} mean {mean:.5f}"
                f" ({'within' if low <= mean <= high else 'NOT within'}), {inside} of {given.seeds} seeds within"
            )


if __name__ == "__main__":
    main()
