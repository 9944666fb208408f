"""Learning-rate schedule, averaged weights and optimizer against diffusers and a plain AdamW."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

from pidec_train.algos.diffusion_step import add_noise, noise_loss
from pidec_train.algos.flat import flatten_weights
from pidec_train.algos.schedule import DeviceSchedule, ema_decay, warmup_cosine
from pidec_train.models.diffusion_policy import DiffusionPolicy
from tests.train.learning import ACT_DIM, BATCH, OBS_DIM, damaged_windows, learning, windows


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
        for mean, w in zip(averaged, weights, strict=True):
            mean.lerp_(w.data, torch.tensor(1.0 - ema_decay(update)))
        theirs.step(weights)
        assert ema_decay(update) == pytest.approx(theirs.cur_decay_value)
        for ours, other in zip(averaged, theirs.shadow_params, strict=True):
            assert torch.allclose(ours, other, atol=1e-6)
    assert ema_decay(1) == 0.0 and ema_decay(10**6) == 0.9999


def test_the_schedule_on_the_device_is_the_schedule() -> None:
    """A captured step takes rates from there: one wrong at a boundary would be a run with another schedule."""
    values = DeviceSchedule(lambda iteration: iteration / 7, torch.device("cpu"))
    for first, count in ((1, 10), (11, 1), (8185, 10), (20_000, 10), (5, 3)):
        wanted = torch.tensor([(first + i) / 7 for i in range(count)])
        assert torch.equal(values.take(first, count), wanted)


def test_flat_weights_are_the_same_weights() -> None:
    """Names, values, loading and saving: a checkpoint must not notice."""
    policy = DiffusionPolicy(OBS_DIM, ACT_DIM, unet_dims=(16, 32), n_groups=4)
    before = {name: weight.clone() for name, weight in policy.state_dict().items()}
    flat = flatten_weights(policy)
    assert all(torch.equal(weight, before[name]) for name, weight in policy.state_dict().items())
    assert all(weight.data_ptr() % 16 == 0 for weight in policy.parameters())
    policy.load_state_dict({name: torch.full_like(weight, 2.0) for name, weight in before.items()})
    assert int((flat == 2.0).sum()) == sum(w.numel() for w in policy.parameters())
    flat.zero_()
    assert not any(weight.any() for weight in policy.state_dict().values())


def test_a_step_equals_plain_adamw_with_the_papers_settings() -> None:
    """The whole step against the plain way, over eight iterations: loss, AdamW, schedule, average, in their order."""
    ours = learning(warmup_steps=2, total_iters=10)
    plain = copy.deepcopy(ours.policy)
    averages = [weight.detach().clone() for weight in plain.parameters()]
    optimizer = torch.optim.AdamW(
        plain.parameters(), lr=1e-3, betas=(0.95, 0.999), weight_decay=1e-6, foreach=False, fused=False
    )
    schedule = get_scheduler("cosine", optimizer=optimizer, num_warmup_steps=2, num_training_steps=10)
    noise_of, table = torch.Generator().manual_seed(2), windows()
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(1))  # the seeds of `learning`
    for iteration in range(6):
        chosen = order[iteration * BATCH : (iteration + 1) * BATCH]
        actions, obs = table.actions[table.index[chosen]], table.observations[table.index[chosen][:, :2]]
        noise = torch.randn(actions.shape, generator=noise_of)
        steps = torch.randint(0, 100, (BATCH,), generator=noise_of)
        noisy = add_noise(actions, noise, steps, plain.alphas_cumprod)
        plain_loss = ((plain.predict_noise(noisy, steps, obs) - noise) ** 2).mean()
        optimizer.zero_grad()
        plain_loss.backward()
        optimizer.step()
        schedule.step()
        for mean, weight in zip(averages, plain.parameters(), strict=True):
            mean.mul_(ema_decay(iteration + 1)).add_(weight.data, alpha=1 - ema_decay(iteration + 1))
        assert ours.run(1)[0] == pytest.approx(float(plain_loss), rel=1e-5)
    for one, other in zip(ours.weights(), [*plain.parameters(), *averages], strict=True):
        assert torch.allclose(one, other, atol=2e-6)


def test_an_update_that_is_not_finite_is_left_out() -> None:
    """One bad number in the demos, read a thousand iterations later, must not have cost the weights."""
    ours = learning(table=damaged_windows())
    losses = ours.run(20)
    bad = sum(loss != loss for loss in losses)
    assert 0 < bad < 20 and int(ours.step.skipped) == bad
    assert all(bool(torch.isfinite(weight).all()) for weight in ours.weights())
    steps = {float(entry["step"]) for entry in ours.step.optimizer.state.values()}
    assert steps == {20.0 - bad}, "an update that was left out counted for Adam's bias correction"


def test_weights_stay_as_they_are_when_every_update_is_left_out() -> None:
    table = windows()
    table.observations.fill_(float("inf"))
    ours = learning(table=table)
    before = ours.weights()
    ours.run(3)
    assert all(torch.equal(one, other) for one, other in zip(before, ours.weights(), strict=True))


def test_bf16_learns_the_same_thing_less_exactly() -> None:
    exact, short = learning().run(20), learning(precision="bf16").run(20)
    assert exact != short, "bf16 changed nothing: it was not on"
    assert short == pytest.approx(exact, rel=0.05)


def test_gradients_in_another_memory_order_are_the_same_gradients() -> None:
    """A compiler may hand them out so; the fused update would apply them to the wrong weights, without an error."""
    straight, turned = learning(), learning()
    for weight in turned.policy.parameters():
        if weight.ndim == 3:
            weight.register_hook(lambda gradient: gradient.permute(2, 0, 1).contiguous().permute(1, 2, 0))
    assert straight.run(8) == turned.run(8)
    assert all(torch.equal(one, other) for one, other in zip(straight.weights(), turned.weights(), strict=True))


def test_noise_loss_is_the_mean_over_everything() -> None:
    policy = learning().policy
    obs, actions, steps = torch.randn(4, 2, OBS_DIM), torch.randn(4, 16, ACT_DIM), torch.tensor([0, 3, 50, 99])
    noise = torch.randn(4, 16, ACT_DIM)
    predicted = policy.predict_noise(add_noise(actions, noise, steps, policy.alphas_cumprod), steps, obs)
    wanted = float(((predicted - noise) ** 2).mean())
    assert float(noise_loss(policy, obs, actions, noise, steps)) == pytest.approx(wanted, rel=1e-6)
