"""Learning-rate schedule, averaged weights and optimizer against diffusers and a plain AdamW."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

from pidec_train.algos.diffusion_step import DiffusionStep, diffusion_loss
from pidec_train.algos.ema import ema_decay, ema_update
from pidec_train.algos.schedule import warmup_cosine
from pidec_train.models.diffusion_policy import DiffusionPolicy


@pytest.mark.parametrize(("warmup", "total"), [(500, 3000), (0, 50), (20, 20), (100, 40)])
def test_schedule_equals_diffusers(warmup: int, total: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler("cosine", optimizer=optimizer, num_warmup_steps=warmup, num_training_steps=total)
    for done in range(total):
        assert warmup_cosine(done, warmup, total) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_ema_equals_diffusers_as_the_paper_called_it() -> None:
    """`power=0.75` is ignored there: the averaged weights must be those that the paper evaluated."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(40, 3)), torch.nn.Parameter(torch.randn(7))]
    averaged = [w.detach().clone() for w in weights]
    theirs = EMAModel(weights, power=0.75)
    for update in range(1, 60):
        for w in weights:
            w.data += 0.1 * torch.randn_like(w)
        ema_update(averaged, [w.data for w in weights], update)
        theirs.step(weights)
        assert ema_decay(update) == pytest.approx(theirs.cur_decay_value)
        for ours, other in zip(averaged, theirs.shadow_params, strict=True):
            assert torch.allclose(ours, other, atol=1e-6)
    assert ema_decay(1) == 0.0 and ema_decay(10**6) == 0.9999


def test_a_step_equals_plain_adamw_with_the_papers_settings() -> None:
    """The fused optimizer, the schedule and the order of things against the plain way, over five iterations."""
    torch.manual_seed(0)
    # Two channels a group at least: a bias before a group of one has no gradient but rounding, which Adam blows up.
    policy = DiffusionPolicy(5, 3, unet_dims=(16, 32), n_groups=4)
    plain = copy.deepcopy(policy)
    average = copy.deepcopy(policy)
    step = DiffusionStep(policy, average, lr=1e-3, warmup_steps=2, total_iters=10)
    optimizer = torch.optim.AdamW(
        plain.parameters(), lr=1e-3, betas=(0.95, 0.999), weight_decay=1e-6, foreach=False, fused=False
    )
    schedule = get_scheduler("cosine", optimizer=optimizer, num_warmup_steps=2, num_training_steps=10)
    obs, actions = torch.randn(6, 2, 5), torch.rand(6, 16, 3)
    ours, theirs = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    for iteration in range(1, 6):
        loss = step(iteration, obs, actions, ours)
        plain_loss = diffusion_loss(plain, obs, actions, theirs)
        optimizer.zero_grad()
        plain_loss.backward()
        optimizer.step()
        schedule.step()
        assert float(loss) == pytest.approx(float(plain_loss), rel=1e-4)
    for one, other in zip(policy.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-6)
    assert any(not torch.equal(a, w) for a, w in zip(average.parameters(), policy.parameters(), strict=True))
