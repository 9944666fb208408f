"""Acting on a CPU goes through a noise predictor of its own: it must be the one that was trained."""

from __future__ import annotations

import copy

import pytest
import torch

from pidec_train.models.diffusion_policy import DiffusionPolicy
from pidec_train.models.unet1d import ConditionalUnet1D
from pidec_train.models.unet1d_frozen import FrozenUnet, mish


@pytest.mark.parametrize(
    ("dims", "kernel", "groups", "steps"),
    [((32, 64), 5, 8, 16), ((64, 128, 256), 5, 8, 16), ((16,), 3, 4, 7), ((8, 24, 16), 7, 4, 8)],
)
def test_frozen_predicts_the_same_noise(dims: tuple[int, ...], kernel: int, groups: int, steps: int) -> None:
    """Else every rollout, evaluation and residual is about another policy than the one in the checkpoint."""
    torch.manual_seed(3)
    net = ConditionalUnet1D(5, 6, dims, diffusion_step_embed_dim=12, kernel_size=kernel, n_groups=groups)
    for weight in net.parameters():  # as after a training: no bias is 0
        weight.data.add_(0.05 * torch.randn_like(weight))
    frozen = FrozenUnet(net)
    for step in (99, 40, 0, 40):
        sample, cond = torch.randn(6, steps, 5), 3 * torch.randn(6, 6)
        with torch.no_grad():
            expected = net(sample, torch.full((6,), step), cond)
        torch.testing.assert_close(frozen.given(cond)(sample, step), expected, rtol=1e-4, atol=1e-5)


def test_mish_holds_far_out() -> None:
    """An activation of a hundred, or minus a hundred, must not become a NaN action."""
    x = torch.tensor([-1e4, -100.0, -20.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 20.0, 88.0, 100.0, 1e4])
    torch.testing.assert_close(mish(x), torch.nn.functional.mish(x), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(("sampler", "num_steps"), [("ddim", 4), ("ddpm", 10)])
def test_a_frozen_policy_takes_the_same_actions(sampler: str, num_steps: int) -> None:
    torch.manual_seed(5)
    plain = DiffusionPolicy(9, 3, unet_dims=(16, 32), num_diffusion_iters=10).eval()
    frozen = copy.deepcopy(plain)
    frozen.freeze()
    obs_seq, noise = torch.randn(7, 2, 9), torch.randn(7, 16, 3)
    chunks = [
        policy.sample_actions(obs_seq, noise, sampler, num_steps, torch.Generator().manual_seed(1))
        for policy in (plain, frozen)
    ]
    torch.testing.assert_close(chunks[1], chunks[0], rtol=1e-3, atol=1e-4)
    assert not torch.equal(chunks[1], chunks[0]), "it was not frozen at all"


def test_frozen_is_as_of_then() -> None:
    """What trains on does not move what acts: the two would be half one policy and half the other."""
    torch.manual_seed(5)
    policy = DiffusionPolicy(9, 3, unet_dims=(16, 32)).eval()
    policy.freeze()
    obs_seq, noise = torch.randn(2, 2, 9), torch.randn(2, 16, 3)
    before = policy.sample_actions(obs_seq, noise, "ddim", 4)
    for weight in policy.parameters():
        weight.data.mul_(1.5)
    assert torch.equal(policy.sample_actions(obs_seq, noise, "ddim", 4), before)
