"""The policy against the programs it must equal: Policy Decorator's network and diffusers' schedulers."""

from __future__ import annotations

import hashlib

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from pidec_train.algos.diffusion_step import add_noise
from pidec_train.models.diffusion_policy import DiffusionPolicy, cosine_alphas_cumprod
from pidec_train.models.norm import Norm
from pidec_train.models.unet1d import ConditionalUnet1D
from pidec_train.protocol.errors import PidecError


def small_policy(**kwargs: object) -> DiffusionPolicy:
    torch.manual_seed(0)
    return DiffusionPolicy(5, 3, unet_dims=(8, 16), **kwargs)  # type: ignore[arg-type]


def test_network_equals_the_papers() -> None:
    """Numbers recorded from Policy Decorator's ConditionalUnet1D(7, 86, 64, dims) under the same seeds: its
    initialisation, its parameter count and its output. Another structure would not load its checkpoints."""
    values, mean = [0.37204069, 0.50433493, 0.00244898, 0.05041397, -0.14450322], 0.35765260
    torch.manual_seed(0)
    net = ConditionalUnet1D(7, 86, (64, 128, 256))
    torch.manual_seed(1)
    sample, steps, cond = torch.randn(3, 16, 7), torch.randint(0, 100, (3,)), torch.randn(3, 86)
    out = net(sample, steps, cond)
    assert sum(p.numel() for p in net.parameters()) == 4_398_663
    assert torch.allclose(out.flatten()[:5], torch.tensor(values), atol=1e-5)
    assert out.abs().mean().item() == pytest.approx(mean, abs=1e-5)


def test_parameter_names_are_the_papers() -> None:
    """Recorded from Policy Decorator's network: its checkpoints load by these names."""
    prefix = "noise_pred_net."
    names = DiffusionPolicy(43, 7).state_dict()
    assert all(name.startswith(prefix) for name in names), "buffers would break loading elsewhere"
    listed = "\n".join(sorted(name.removeprefix(prefix) for name in names))
    assert len(names) == 148
    assert hashlib.sha256(listed.encode()).hexdigest()[:16] == "2b661347da8e8325"


@pytest.mark.parametrize("num_steps", [100, 50])
def test_noise_schedule_equals_diffusers(num_steps: int) -> None:
    theirs = DDPMScheduler(num_train_timesteps=num_steps, beta_schedule="squaredcos_cap_v2")
    assert torch.allclose(cosine_alphas_cumprod(num_steps), theirs.alphas_cumprod, rtol=1e-6, atol=0)
    torch.manual_seed(0)
    actions, noise, steps = torch.randn(9, 16, 3), torch.randn(9, 16, 3), torch.randint(0, num_steps, (9,))
    ours = add_noise(actions, noise, steps, cosine_alphas_cumprod(num_steps))
    assert torch.allclose(ours, theirs.add_noise(actions, noise, steps), atol=1e-6)


@pytest.mark.parametrize(
    ("sampler", "num_steps"), [("ddpm", 100), ("ddpm", 10), ("ddim", 4), ("ddim", 100), ("ddim", 7)]
)
def test_samplers_equal_diffusers(sampler: str, num_steps: int) -> None:
    """Another sampler than the paper's gives other actions from the same weights."""
    policy = small_policy()
    kwargs = {
        "num_train_timesteps": 100,
        "beta_schedule": "squaredcos_cap_v2",
        "clip_sample": True,
        "prediction_type": "epsilon",
    }
    scheduler = DDIMScheduler(**kwargs) if sampler == "ddim" else DDPMScheduler(**kwargs)
    scheduler.set_timesteps(num_steps)
    torch.manual_seed(1)
    obs, start = torch.randn(4, 2, 5), torch.randn(4, 16, 3)
    generator = torch.Generator().manual_seed(5)
    expected = start
    with torch.no_grad():
        for step in scheduler.timesteps:
            noise = policy.noise_pred_net(expected, step.expand(4), obs.flatten(1))
            extra = {"generator": generator} if sampler == "ddpm" else {}
            expected = scheduler.step(noise, step, expected, **extra).prev_sample
    ours = policy.sample_actions(obs, start, sampler, num_steps, torch.Generator().manual_seed(5))
    assert ours.shape == (4, 4, 3)
    assert torch.allclose(ours, expected[:, 1:5], atol=2e-5)


def test_sampler_refuses_what_it_cannot_do() -> None:
    policy, obs = small_policy(num_diffusion_iters=20), torch.zeros(1, 2, 5)
    with pytest.raises(PidecError, match=r"num_steps 100 is not possible.*20 diffusion steps"):
        policy.sample_actions(obs)
    with pytest.raises(PidecError, match='unknown sampler "dpm"'):
        policy.sample_actions(obs, sampler="dpm", num_steps=4)


def test_noise_of_a_row_does_not_depend_on_its_neighbours() -> None:
    """Otherwise a success rate would depend on how many simulators ran at once."""
    policy, obs = small_policy(), torch.randn(3, 2, 5)

    def sample(rows: list[int]) -> torch.Tensor:
        own = [torch.Generator().manual_seed(40 + row) for row in rows]
        return policy.sample_actions(obs[rows], num_steps=10, generator=own)

    together = sample([0, 1, 2])
    assert torch.allclose(sample([1])[0], together[1], atol=1e-5)
    assert torch.allclose(sample([2, 0])[0], together[2], atol=1e-5)


def test_actions_leave_in_the_environments_units() -> None:
    """A policy that forgot to denormalise would move the robot a hundred times too far."""
    rows = torch.tensor([[-0.01, 2.0, 5.0], [0.03, 4.0, 5.0]])
    norm = Norm.fit("min_max", rows)
    assert torch.allclose(norm.normalise(rows), torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0]]))
    policy = small_policy(action_norm=norm)
    actions = policy.sample_actions(torch.randn(32, 2, 5), num_steps=10)
    assert actions[..., 0].min() >= -0.0101 and actions[..., 0].max() <= 0.0301
    assert actions[..., 1].min() >= 1.999 and actions[..., 1].max() <= 4.001


def test_clips_only_where_actions_live_in_one() -> None:
    wide = Norm.fit("mean_std", torch.randn(100, 3))
    for norm, clips in ((None, True), (Norm.fit("min_max", torch.randn(100, 3)), True), (wide, False)):
        assert small_policy(action_norm=norm).clip_sample is clips


def test_observations_are_normalised_inside() -> None:
    torch.manual_seed(3)
    rows = torch.randn(50, 5) * 7 + 3
    norm = Norm.fit("mean_std", rows)
    assert norm.normalise(rows).mean(0).abs().max() < 1e-5
    raw, start = rows[:8].view(4, 2, 5), torch.randn(4, 16, 3)
    with_norm, without = small_policy(obs_norm=norm), small_policy()
    assert torch.allclose(
        with_norm.sample_actions(raw, start, "ddim", 4),
        without.sample_actions(norm.normalise(raw), start, "ddim", 4),
        atol=1e-6,
    )


def test_a_constant_observation_does_not_explode() -> None:
    """Peg sizes and goal heights hardly vary: dividing by their spread would turn rounding into thousands."""
    rows = torch.randn(100, 2)
    rows[:, 1] = 0.001 + 1e-8 * torch.randn(100)
    assert Norm.fit("mean_std", rows).normalise(torch.tensor([[0.0, 0.05]]))[0, 1].abs() < 1
