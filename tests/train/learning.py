"""A small Diffusion Policy on random demos, ready to learn: for tests of the step and of its capture."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pidec_train.algos.diffusion_step import DiffusionStep
from pidec_train.algos.stepping import Stepper
from pidec_train.data.windows import Batches, Windows
from pidec_train.models.diffusion_policy import DiffusionPolicy

OBS_DIM, ACT_DIM, BATCH = 5, 3, 8


@dataclass
class Learning:
    policy: DiffusionPolicy
    averaged: DiffusionPolicy
    step: DiffusionStep
    stepper: Stepper
    batches: Batches

    def run(self, iterations: int) -> list[float]:
        """Losses of so many iterations."""
        losses: list[float] = []
        while len(losses) < iterations:
            done = self.stepper.advance(iterations - len(losses))
            losses += self.step.losses[:done].tolist()
        return losses

    def weights(self) -> list[Tensor]:
        return [w.detach().cpu().clone() for w in (*self.policy.parameters(), *self.averaged.parameters())]


def windows(device: str = "cpu", lengths: Sequence[int] = (30, 25)) -> Windows:
    rng = np.random.default_rng(0)
    rows = sum(length + 1 for length in lengths)
    index = rng.integers(0, rows, size=(sum(lengths) - len(lengths), 16))
    return Windows(
        observations=torch.from_numpy(rng.normal(size=(rows, OBS_DIM)).astype(np.float32)),
        actions=torch.from_numpy(rng.uniform(-1, 1, size=(rows, ACT_DIM)).astype(np.float32)),
        padding=torch.zeros(rows, dtype=torch.bool),
        index=torch.from_numpy(index),
        obs_horizon=2,
    ).to(torch.device(device))


def damaged_windows() -> Windows:
    """One window alone holds a number that is none: about every sixth batch meets it."""
    table = windows()
    last = len(table.actions) - 1
    table.index[table.index == last] = 0
    table.index[5, 3] = last
    table.actions[last] = float("nan")
    return table


def learning(
    *, graph: bool = False, device: str = "cpu", table: Windows | None = None, cuda: Any = torch.cuda, **kwargs: Any
) -> Learning:
    """With the same seeds whatever the arguments."""
    torch.manual_seed(0)
    # Two channels a group at least: a bias before a group of one has no gradient but rounding, which Adam blows up.
    policy = DiffusionPolicy(OBS_DIM, ACT_DIM, unet_dims=(16, 32), n_groups=4).to(device)
    averaged = copy.deepcopy(policy).eval().requires_grad_(False)
    table = table or windows(device)
    batches = Batches(table, BATCH, torch.Generator(device).manual_seed(1))
    settings = {"batch_size": BATCH, "lr": 1e-3, "warmup_steps": 4, "total_iters": 60, **kwargs}
    step = DiffusionStep(policy, averaged, table, noise=torch.Generator(device).manual_seed(2), **settings)
    return Learning(policy, averaged, step, Stepper(step, batches, graph=graph, cuda=cuda), batches)
