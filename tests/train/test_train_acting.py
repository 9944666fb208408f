"""Choosing actions: base and residual together, switched on by degrees; captured as eager."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pidec_train.decorator_learner import DecoratorLearner
from tests.fakes import fake_cuda_graphs
from tests.train.decorating import base_policy, copy_of, learner, same

ENVS, CHUNK = 4, 6
SCALE = torch.tensor([1.0, 0.5]).repeat(3)


def seen(made: DecoratorLearner, seed: int = 0, count: int = ENVS) -> tuple[Tensor, Tensor]:
    """Observations and base actions of all simulators."""
    dice = torch.Generator().manual_seed(seed)
    obs = torch.randn((count, made.base.obs_dim), generator=dice)
    return obs, torch.randn((count, CHUNK), generator=dice)


def captured(**changes: Any) -> DecoratorLearner:
    made = learner(graph=True, cuda=fake_cuda_graphs, **changes)
    assert made.prepare() == []
    return made


def test_base_actions_are_those_of_ddim_with_the_runs_own_noise() -> None:
    """The noise that follows from the seed, as many denoising steps as asked for, the chunk that is executed."""
    made = learner(act_horizon=5, ddim_steps=7)
    obs_seq = torch.randn(ENVS, 2, made.base.obs_dim)
    noise = torch.randn((ENVS, 16, 2), generator=copy_of(made.generators["acting"]))
    base = base_policy(act_horizon=5)
    plain = base.sample_actions(obs_seq, noise, "ddim", 7)
    base.freeze()
    expected = base.sample_actions(obs_seq, noise, "ddim", 7)
    actions = made.acting.base_actions(obs_seq)
    assert torch.equal(actions, expected.reshape(ENVS, 10)) and actions.shape == (ENVS, 10)
    assert torch.equal(actions.view(ENVS, 5, 2)[:, 1], expected[:, 1])
    torch.testing.assert_close(expected, plain, rtol=1e-4, atol=1e-5)
    assert not torch.equal(made.acting.base_actions(obs_seq), actions), "the same noise twice"


@pytest.mark.parametrize("actor_input", ["obs", "obs_base_action"])
def test_the_policy_draws_from_its_gaussian(actor_input: str) -> None:
    made = learner(actor_input=actor_input)
    obs, base = seen(made)
    dice = copy_of(made.generators["acting"])
    torch.rand(ENVS, generator=dice)  # which are switched on
    noise = torch.randn((ENVS, CHUNK), generator=dice)
    mean, log_std = made.actor(obs if actor_input == "obs" else torch.cat((obs, base), 1))
    choice = made.acting.choose(obs, base, 1.0, explore=False)
    torch.testing.assert_close(choice.residual, torch.tanh(mean + log_std.exp() * noise) * SCALE)
    assert torch.equal(choice.actions, base + 0.1 * choice.residual)
    assert choice.on.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("explore", [True, False])
def test_a_residual_that_is_off_is_0_and_the_action_is_the_bases(explore: bool) -> None:
    """Also in the replay buffer: a residual there that was never executed would be learned from."""
    made = learner(num_envs=400, training_freq=400, utd=0.25)
    obs, base = seen(made, count=400)
    shares = {}
    for ratio in (0.0, 0.3, 1.0):
        choice = made.acting.choose(obs, base, ratio, explore=explore)
        on = choice.on.bool()
        assert torch.equal(choice.residual[~on], torch.zeros(int((~on).sum()), CHUNK))
        assert torch.equal(choice.actions[~on], base[~on])
        assert bool((choice.residual[on] != 0).all()) and bool((choice.actions[on] != base[on]).all())
        shares[ratio] = float(on.float().mean())
    assert shares[0.0] == 0 and shares[1.0] == 1 and abs(shares[0.3] - 0.3) < 4 * (0.3 * 0.7 / 400) ** 0.5


def test_exploring_is_even_over_the_whole_range() -> None:
    """Mean, spread and tenths of each action number; a Gaussian or half a range would explore something else."""
    made = learner(num_envs=2000, training_freq=2000, utd=0.25, res_scale=0.5)
    obs, base = seen(made, count=2000)
    choice = made.acting.choose(obs, base, 1.0, explore=True)
    share = choice.residual / SCALE
    assert bool((share.abs() <= 1).all())
    assert bool((share.mean(0).abs() < 0.06).all())
    for column in share.T:
        counts = torch.histc(column, 10, -1, 1)
        assert bool(((counts - 200).abs() < 5 * 200**0.5).all())
    assert float(torch.corrcoef(share.T).fill_diagonal_(0).abs().max()) < 0.1
    assert torch.equal(choice.actions, base + 0.5 * choice.residual)


def test_the_residual_comes_on_with_the_steps() -> None:
    """The paper's progressive exploration: min(step / prog_explore, 1), the steps of this one counted already."""
    made = learner(num_envs=50, training_freq=50, utd=0.5, prog_explore=5000)
    obs, base = seen(made, count=50)
    shares = []
    for number in range(150):
        shares.append(float(made.choose(obs, base).on.mean()))
        assert made.step == 50 * (number + 1)
    for part, expected in ((slice(0, 20), 0.105), (slice(40, 60), 0.505), (slice(80, 100), 0.905)):
        assert sum(shares[part]) / 20 == pytest.approx(expected, abs=4 * (0.25 / 1000) ** 0.5)
    assert set(shares[99:]) == {1.0}


def test_before_the_first_update_it_explores_and_then_the_policy_acts() -> None:
    made = learner(prog_explore=1)
    obs, base = seen(made)
    with torch.no_grad():  # so that the policy does one thing alone
        made.actor.fc_mean.bias.fill_(50.0)
    assert not torch.equal(made.choose(obs, base).residual, SCALE.expand(ENVS, -1))
    made.updates = 1
    assert torch.equal(made.choose(obs, base).residual, SCALE.expand(ENVS, -1))


# --- captured --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actor_input", ["obs", "obs_base_action"])
def test_captured_equals_eager_bit_for_bit(actor_input: str) -> None:
    """All three pieces in turns, with new observations, shares and weights at each: none may be the capture's."""
    eager, made = learner(actor_input=actor_input), captured(actor_input=actor_input)
    assert torch.equal(*(one.generators["acting"].get_state() for one in (eager, made))), "preparing left traces"
    for turn in range(4):
        obs_seq = torch.randn(2 * ENVS, 2, made.base.obs_dim)
        both = [one.acting.base_actions(obs_seq) for one in (eager, made)]
        assert torch.equal(*both)
        for explore in (True, False):
            obs, base = seen(made, seed=turn)
            one, other = (m.acting.choose(obs, base, 0.25 * turn, explore=explore) for m in (eager, made))
            assert same(list(vars(one).values()), list(vars(other).values()))
        with torch.no_grad():
            for one in (eager, made):
                for weight in one.actor.parameters():
                    weight.add_(0.05)
    assert torch.equal(*(one.generators["acting"].get_state() for one in (eager, made)))


def test_noise_changes_between_replays() -> None:
    """A graph with frozen noise would explore one and the same residual all night."""
    made = captured()
    obs, base = seen(made)
    obs_seq = torch.randn(ENVS, 2, made.base.obs_dim)
    assert len({tuple(made.acting.base_actions(obs_seq).flatten().tolist()) for _ in range(5)}) == 5
    for explore in (True, False):
        drawn = [made.acting.choose(obs, base, 1.0, explore=explore).residual.clone() for _ in range(5)]
        assert len({tuple(residual.flatten().tolist()) for residual in drawn}) == 5
    on = [tuple(made.acting.choose(obs, base, 0.5, explore=True).on.tolist()) for _ in range(20)]
    assert len(set(on)) > 3


def test_fewer_observations_than_were_captured() -> None:
    """At a run's start, and with `reuse_base_action`: each row has its own answer, none the one of a row before."""
    made = captured()
    full = torch.randn(2 * ENVS, 2, made.base.obs_dim)
    for count in (1, ENVS, ENVS + 1, 2 * ENVS):
        made.acting.base_actions(torch.full_like(full, 9.0))  # what a smaller batch leaves behind it
        noise = torch.randn((2 * ENVS, 16, 2), generator=copy_of(made.generators["acting"]))
        first = made.acting.base_actions(full[:count])
        expected = made.base.sample_actions(full[:count], noise[:count], "ddim", 2).flatten(1)
        torch.testing.assert_close(first, expected)
        kept = first.clone()
        made.acting.base_actions(full)
        assert torch.equal(first, kept), "the next call wrote into what it had given before"


def test_acting_that_cannot_be_captured_goes_on_and_says_so() -> None:
    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(fake_cuda_graphs, name)

        def CUDAGraph(self) -> Any:
            raise RuntimeError("driver too old\nand more")

    eager, refused = learner(), learner(graph=True, cuda=Refusing())
    notes = refused.prepare()
    assert notes[0] == (
        "acting cannot be captured into CUDA graphs, going on slowly without them: RuntimeError: driver too old"
    )
    obs, base = seen(eager)
    one, other = (made.acting.choose(obs, base, 1.0, explore=False) for made in (eager, refused))
    assert torch.equal(one.actions, other.actions)


def test_a_traced_base_takes_the_same_actions_for_any_number_of_simulators() -> None:
    """It runs beside the updates on a CPU; another rounding is all that may differ, and nothing from call to call."""
    eager, made = learner(ddim_steps=7), learner(ddim_steps=7)
    assert made.prepare() == [], "it was not traced"
    for count in (2 * ENVS, 1, ENVS, ENVS):
        obs_seq = torch.randn(count, 2, made.base.obs_dim)
        ours, theirs = made.acting.base_actions(obs_seq), eager.acting.base_actions(obs_seq)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        made.generators["acting"].set_state(copy_of(eager.generators["acting"]).get_state())


def test_a_torch_that_cannot_trace_costs_speed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """TorchScript is on its way out: the run goes on, and says why it is slower."""

    def gone(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such thing\nand more")

    monkeypatch.setattr(torch.jit, "trace", gone)
    made = learner()
    notes = made.prepare()
    assert len(notes) == 1 and "RuntimeError: no such thing" in notes[0] and "more slowly" in notes[0]
    assert made.acting.base_actions(torch.randn(ENVS, 2, made.base.obs_dim)).shape == (ENVS, CHUNK)


def test_a_trace_that_gives_other_numbers_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.jit, "trace", lambda work, examples, **_: lambda *args: work(*args) + 0.1)
    eager, made = learner(), learner()
    (note,) = made.prepare()
    assert "cannot be traced" in note
    obs_seq = torch.randn(ENVS, 2, made.base.obs_dim)
    assert torch.equal(made.acting.base_actions(obs_seq), eager.acting.base_actions(obs_seq))
