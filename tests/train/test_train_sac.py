"""SAC on residuals, held against a plain computation: separate networks, `backward`, Adam as it comes, distributions.

Captures run on the stand-in for CUDA's graphs (tests/fakes/fake_cuda_graphs.py).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import AffineTransform, ComposeTransform, Normal, TanhTransform, TransformedDistribution

from pidec_train.algos.least_value import least_value
from pidec_train.algos.sac import SacUpdate
from pidec_train.data.replay_buffer import Transitions
from pidec_train.decorator_learner import DecoratorLearner
from pidec_train.models.residual import ResidualActor, TwinCritics
from tests.fakes import fake_cuda_graphs
from tests.train.decorating import copy_of, everything, learner, same, transitions

ROWS = 40
FREQUENCIES = {"policy_frequency": 2, "target_network_frequency": 3}


def stack(state: dict[str, Tensor], prefix: str, *, last_is_bare: bool) -> nn.Sequential:
    """Linear layers with ReLU between (and behind, unless `last_is_bare`), with these weights."""
    weights = [state[name] for name in state if name.startswith(prefix) and name.endswith("weight")]
    layers: list[nn.Module] = []
    for weight in weights:
        layers += [nn.Linear(weight.shape[1], weight.shape[0]), nn.ReLU()]
    made = nn.Sequential(*layers[:-1] if last_is_bare else layers)
    made.load_state_dict({name.removeprefix(prefix): t.clone() for name, t in state.items() if name.startswith(prefix)})
    return made


def head(state: dict[str, Tensor], prefix: str) -> nn.Linear:
    """One linear layer with these weights."""
    outputs, inputs = state[prefix + "weight"].shape
    made = nn.Linear(inputs, outputs)
    made.load_state_dict({name: state[prefix + name].clone() for name in ("weight", "bias")})
    return made


class Plain:
    """The algorithm of upstream's program, step by step, on its own copies of a learner's networks."""

    def __init__(self, made: DecoratorLearner, rows: Transitions) -> None:
        self.config, self.rows, self.count = made.config, rows, 0
        self.dice = copy_of(made.generators["updates"])
        state = made.sac.state()
        actor = state["res_actor"]
        self.scale = actor["action_scale"].clone()
        self.backbone = stack(actor, "backbone.", last_is_bare=False)
        self.mean, self.log_std = head(actor, "fc_mean."), head(actor, "fc_logstd.")
        self.critics = [stack(state[name], "net.", last_is_bare=True) for name in ("qf1", "qf2")]
        self.targets = [stack(state[f"{name}_target"], "net.", last_is_bare=True) for name in ("qf1", "qf2")]
        self.actor_weights = [*self.backbone.parameters(), *self.mean.parameters(), *self.log_std.parameters()]
        start = self.config.sac_alpha_init if self.config.autotune else self.config.sac_alpha
        self.log_alpha = torch.tensor([math.log(start)], requires_grad=True)
        self.q_adam = torch.optim.Adam([w for q in self.critics for w in q.parameters()], lr=self.config.q_lr)
        self.actor_adam = torch.optim.Adam(self.actor_weights, lr=self.config.policy_lr)
        self.alpha_adam = torch.optim.Adam([self.log_alpha], lr=self.config.q_lr)
        self.norms: list[float] = []
        self.q_losses: list[float] = []
        self.q_values: list[float] = []
        self.actor_losses: list[float] = []

    def draw(self) -> list[int]:
        """The rows of the next batch."""
        size = self.config.batch_size
        return [int(share * ROWS) for share in torch.rand(size, generator=self.dice, dtype=torch.float64).tolist()]

    def noise(self) -> Tensor:
        return torch.randn((self.config.batch_size, len(self.scale)), generator=self.dice)

    def batch(self) -> Transitions:
        chosen = self.draw()
        columns = {name: torch.stack([column[row] for row in chosen]) for name, column in vars(self.rows).items()}
        return Transitions(**columns)

    def residual(self, obs: Tensor, base: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        seen = obs if self.config.actor_input == "obs" else torch.cat([obs, base], dim=1)
        feature = self.backbone(seen)
        low, high = self.config.log_std_min, 2.0
        std = (low + (high - low) * (torch.tanh(self.log_std(feature)) + 1) / 2).exp()
        return squashed_gaussian(self.mean(feature), std, self.scale, noise)

    def action(self, residual: Tensor, base: Tensor) -> Tensor:
        if self.config.critic_input == "res":
            return residual
        if self.config.critic_input == "sum":
            return base + self.config.res_scale * residual
        return torch.cat([residual, base], dim=1)

    def values(self, critics: list[nn.Sequential], obs: Tensor, action: Tensor) -> list[Tensor]:
        return [critic(torch.cat([obs, action], dim=1))[:, 0] for critic in critics]

    def critic_loss(self, batch: Transitions, noise: Tensor) -> tuple[Tensor, list[Tensor]]:
        alpha, gamma = self.log_alpha.exp().item(), self.config.gamma
        with torch.no_grad():
            residual, log_prob = self.residual(batch.next_obs, batch.next_base, noise)
            first, second = self.values(self.targets, batch.next_obs, self.action(residual, batch.next_base))
        wanted = []
        for i in range(len(batch.reward)):
            least = min(first[i].item(), second[i].item())
            if self.config.bound_values:
                least = min(max(least, -1 / (1 - gamma)), 0.0)
            soft = least - alpha * log_prob[i].item()
            wanted.append(batch.reward[i].item() + (0.0 if batch.stop[i] else gamma * soft))
        values = self.values(self.critics, batch.obs, self.action(batch.residual, batch.base))
        return sum((nn.functional.mse_loss(value, torch.tensor(wanted)) for value in values), torch.zeros(())), values

    def actor_loss(self, batch: Transitions, noise: Tensor) -> Tensor:
        residual, log_prob = self.residual(batch.obs, batch.base, noise)
        first, second = self.values(self.critics, batch.obs, self.action(residual, batch.base))
        return (self.log_alpha.exp().item() * log_prob - torch.minimum(first, second)).mean()

    def update(self) -> None:
        self.count += 1
        batch, config = self.batch(), self.config
        loss, values = self.critic_loss(batch, self.noise())
        self.q_adam.zero_grad()
        loss.backward()
        for critic in self.critics:
            self.norms.append(float(nn.utils.clip_grad_norm_(critic.parameters(), config.max_grad_norm)))
        self.q_adam.step()
        self.q_losses.append(loss.item() / 2)
        self.q_values.append(torch.stack(values).mean().item())
        if self.count % config.policy_frequency == 0:
            self.update_actor(batch)
        if self.count % config.target_network_frequency == 0:
            for critic, target in zip(self.critics, self.targets, strict=True):
                for ours, theirs in zip(critic.parameters(), target.parameters(), strict=True):
                    theirs.data = config.tau * ours.data + (1 - config.tau) * theirs.data

    def update_actor(self, batch: Transitions) -> None:
        loss = self.actor_loss(batch, self.noise())
        self.actor_adam.zero_grad()
        loss.backward()
        self.norms.append(float(nn.utils.clip_grad_norm_(self.actor_weights, self.config.max_grad_norm)))
        self.actor_adam.step()
        self.actor_losses.append(loss.item())
        if self.config.autotune:
            with torch.no_grad():
                _, log_prob = self.residual(batch.obs, batch.base, self.noise())
            self.alpha_adam.zero_grad()
            (-self.log_alpha * (log_prob - len(self.scale))).mean().backward()  # wanted: one nat for each number
            self.alpha_adam.step()

    def compare(self, made: DecoratorLearner) -> None:
        """Weights to a hundredth of what one update may move them; both moments of Adam, which clipping scales."""
        state, lr = made.sac.state(), 1e-3
        actor = {
            **named(self.backbone, "backbone."),
            **named(self.mean, "fc_mean."),
            **named(self.log_std, "fc_logstd."),
        }
        close(state["res_actor"], {**actor, "action_scale": self.scale}, atol=lr / 100)
        for number, name in enumerate(("qf1", "qf2")):
            close(state[name], named(self.critics[number], "net."), atol=lr / 100)
            close(state[f"{name}_target"], named(self.targets[number], "net."), atol=lr / 100)
        close({"": state["log_sac_alpha"]}, {"": self.log_alpha.detach()}, atol=lr / 100)
        for name, adam in (("actor", self.actor_adam), ("alpha", self.alpha_adam)):
            for ours, theirs in zip(made.sac.optimizers[name].state.values(), adam.state.values(), strict=False):
                close(ours, theirs, atol=1e-6)
        told = made.sac.read_sums()
        updates, actor_updates = self.count, len(self.actor_losses)
        assert told == pytest.approx(
            [updates, sum(self.q_losses), sum(self.q_values), actor_updates, sum(self.actor_losses), 0],
            rel=1e-3,
            abs=1e-4,
        )


def squashed_gaussian(mean: Tensor, std: Tensor, scale: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A sample and its log-probability as torch.distributions has them."""
    squash = ComposeTransform([TanhTransform(cache_size=1), AffineTransform(0.0, scale, cache_size=1)], cache_size=1)
    plain = Normal(mean, std)
    before = mean + std * noise
    after = squash(before)
    return after, TransformedDistribution(plain, [squash]).log_prob(after).sum(1)


def named(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in module.state_dict().items()}


def close(ours: dict[str, Tensor], theirs: dict[str, Tensor], *, atol: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(
            ours[name], tensor, rtol=2e-3, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


def filled(rows: Transitions, **changes: Any) -> DecoratorLearner:
    made = learner(**changes)
    made.remember(rows)
    return made


@pytest.mark.parametrize("engine", ["auto", "eager"])  # the actor's gradient through each row's critic, or through both
@pytest.mark.parametrize("actor_input", ["obs", "obs_base_action"])
@pytest.mark.parametrize("critic_input", ["res", "sum", "concat"])
def test_losses_are_those_of_the_plain_computation(critic_input: str, actor_input: str, engine: str) -> None:
    """The two formulas that everything learned rests on."""
    rows = transitions(ROWS)
    made = filled(rows, critic_input=critic_input, actor_input=actor_input, engine=engine)
    plain = Plain(made, rows)
    for _ in range(3):  # targets, critics and alpha apart from each other
        made.update(1)
        plain.update()
    noise = torch.randn(ROWS, len(plain.scale))
    loss, values = made.sac.critic_loss(rows, noise)
    expected, (first, second) = plain.critic_loss(rows, noise)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(values, torch.stack([first, second]), rtol=1e-3, atol=1e-5)
    assert made.sac.actor_loss(rows, noise).item() == pytest.approx(plain.actor_loss(rows, noise).item(), rel=1e-4)


@pytest.mark.parametrize("bias", [-500.0, 500.0])
def test_critics_cannot_run_away_where_values_are_bound(bias: float) -> None:
    """Seen in a run of 200,000 steps: values of -100 where rewards allow no less than -20, and success that fell."""
    rows = transitions(ROWS)
    made = {bound: filled(rows, bound_values=bound) for bound in (False, True)}
    noise, losses = torch.randn(ROWS, len(made[True].actor.action_scale)), {}
    for bound, each in made.items():
        with torch.no_grad():
            each.sac.targets.biases[-1].fill_(bias)
        losses[bound] = each.sac.critic_loss(rows, noise)[0].item()
        assert losses[bound] == pytest.approx(Plain(each, rows).critic_loss(rows, noise)[0].item(), rel=1e-4)
    assert losses[False] > 10 * losses[True]


@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("actor_input", ["obs", "obs_base_action"])
@pytest.mark.parametrize("critic_input", ["res", "sum", "concat"])
def test_whole_updates_are_those_of_the_plain_computation(critic_input: str, actor_input: str, engine: str) -> None:
    """Every weight, moment and count; with gradients clipped and not, alpha learned and not, parts left for later."""
    rows = transitions(ROWS)
    for most, autotune, often in itertools.product((0.02, 1e6), (True, False), (True, False)):
        changes = {} if often else FREQUENCIES
        inputs = {"critic_input": critic_input, "actor_input": actor_input, "engine": engine}
        made = filled(rows, **inputs, **changes, max_grad_norm=most, autotune=autotune)
        plain = Plain(made, rows)
        for _ in range(6):
            made.update(1)
            plain.update()
        assert (min(plain.norms) > most) if most < 1 else (max(plain.norms) < most), "clipping was not what it should"
        plain.compare(made)
        assert torch.equal(made.generators["updates"].get_state(), plain.dice.get_state())


def test_each_critic_is_clipped_by_itself() -> None:
    """A common norm would let one critic's bad day slow down the other."""
    rows = transitions(ROWS)
    made = filled(rows, max_grad_norm=0.02)
    made.update(1)
    moments = [entry["exp_avg"] for entry in made.sac.optimizers["q"].state.values()]
    for which in range(2):
        norm = math.sqrt(sum(float(moment[which].square().sum()) for moment in moments))
        assert norm == pytest.approx(0.1 * 0.02, rel=1e-3)  # Adam takes a tenth of the first gradient


@pytest.mark.parametrize("log_std_min", [-20.0, -4.0])
def test_log_probability_is_that_of_torch_distributions(log_std_min: float) -> None:
    """But for the 1e-6 against log 0, which can be told in advance: it only takes away, and only at the edge."""
    torch.manual_seed(3)
    scale = torch.tensor([1.0, 0.5, 2.0])
    actor = ResidualActor(5, scale, (32, 32), log_std_min)
    with torch.no_grad():
        for layer in (actor.fc_mean, actor.fc_logstd):
            layer.weight.normal_(0, 0.3)
    seen, noise = 3 * torch.randn(500, 5), torch.randn(500, 3)
    mean, log_std = actor(seen)
    assert float(log_std.detach().min()) > log_std_min and float(log_std.detach().max()) < 2
    residual, log_prob = actor.sample(seen, noise)
    expected, exact = squashed_gaussian(mean.double(), log_std.double().exp(), scale.double(), noise.double())
    torch.testing.assert_close(residual.double(), expected, rtol=1e-4, atol=1e-6)
    slope = scale.double() * (1 - (expected / scale).square())
    inside = (slope > 1e-3).all(1)
    assert int(inside.sum()) == 500 if log_std_min < -10 else 100 < int(inside.sum()) < 500
    torch.testing.assert_close(log_prob.double()[inside], exact[inside], rtol=1e-4, atol=5e-3)
    assert bool((log_prob <= exact + 1e-3).all() and torch.isfinite(log_prob).all())


def test_the_mode_is_what_an_evaluation_executes() -> None:
    made = learner()
    seen = torch.randn(9, 4)
    residual, _ = made.actor.sample(seen, torch.zeros(9, 6))
    assert torch.equal(made.actor.best(seen), residual)
    assert bool((made.actor.best(1e6 * seen).abs() <= made.actor.action_scale).all())


def test_the_twins_are_two_networks() -> None:
    """Split for a checkpoint, joined after it: upstream's names, and no weight in the other's place."""
    torch.manual_seed(0)
    twins, others = TwinCritics(4, 3, (8, 6)), TwinCritics(4, 3, (8, 6))
    obs, action = torch.randn(5, 4), torch.randn(5, 3)
    values = twins(obs, action)
    for state, value in zip(twins.split(), values, strict=True):
        expected = stack(state, "net.", last_is_bare=True)(torch.cat([obs, action], 1))[:, 0]
        torch.testing.assert_close(value, expected)
    others.join(*twins.split())
    assert torch.equal(others(obs, action), values) and not torch.equal(values[0], values[1])


def test_the_gradient_through_the_least_critic_is_that_of_autograd() -> None:
    """Half the products, not half the gradient; also where one critic is the lesser one of no row at all."""
    torch.manual_seed(0)
    twins, obs = TwinCritics(4, 3, (8, 6)), torch.randn(9, 4)
    for shift in (0.0, 100.0, -100.0):
        with torch.no_grad():
            twins.biases[-1][0].fill_(shift)
        mine, autograds = torch.randn(9, 3).requires_grad_(), torch.zeros(9, 3).requires_grad_()
        autograds.data.copy_(mine)
        weights = torch.randn(9)
        value, expected = least_value(twins, obs, mine), twins(obs, autograds).amin(0)
        assert torch.equal(value, expected)
        (value * weights).sum().backward()
        (expected * weights).sum().backward()
        torch.testing.assert_close(mine.grad, autograds.grad)
        assert bool(mine.grad.any()), "a gradient of nothing but zeros compares nothing"


# --- numbers that are none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", [False, True])
def test_an_update_with_a_number_that_is_none_is_left_out_and_counted(graph: bool) -> None:
    """Losses are read thousands of updates later: one bad transition must not have poisoned the weights by then."""
    rows = transitions(ROWS)
    rows.obs[11] = float("nan")
    rows.reward[12] = float("inf")
    made = filled(rows, graph=graph, cuda=fake_cuda_graphs, batch_size=4)
    assert made.prepare() == []
    plain, left_out, before = Plain(made, rows), 0, everything(made)
    for _ in range(30):
        chosen = plain.draw()
        for _ in range(3):
            plain.noise()
        bad = bool({11, 12} & set(chosen))
        left_out += bad
        made.update(1)
        after = everything(made)
        weights_and_moments = [i for i, tensor in enumerate(made.sac.tensors()) if tensor is not made.sac.sums]
        unchanged = [torch.equal(before[i], after[i]) for i in weights_and_moments if after[i].numel() > 1]
        assert all(unchanged) if bad else not any(unchanged)
        before = after
    assert 3 < left_out < 27
    assert all(bool(torch.isfinite(tensor).all()) for tensor in before)
    assert int(made.sac.optimizers["actor"].state_dict()["state"][0]["step"]) == 30 - left_out
    told = made.sac.read_sums()
    assert told[5] == left_out and all(math.isfinite(number) for number in told)


# --- captured --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {**FREQUENCIES, "critic_input": "concat", "actor_input": "obs_base_action"}])
def test_captured_equals_eager_bit_for_bit(changes: dict[str, Any]) -> None:
    """Also while the replay buffer fills: what a graph knows of it must not be what it knew at the capture."""
    eager, captured = learner(engine="eager", **changes), learner(graph=True, cuda=fake_cuda_graphs, **changes)
    assert captured.prepare() == [] and same(everything(eager), everything(captured)), "preparing left traces"
    for turn in range(4):
        for made in (eager, captured):
            made.remember(transitions(ROWS, seed=turn))
            made.update(5)
    assert same(everything(eager), everything(captured))
    assert torch.equal(eager.generators["updates"].get_state(), captured.generators["updates"].get_state())
    assert eager.sac.read_sums() == captured.sac.read_sums()


def test_batches_and_noise_change_between_replays() -> None:
    """Rates of almost 0 keep the weights, so the losses would all be one number if the draws were frozen."""
    made = filled(transitions(ROWS), graph=True, cuda=fake_cuda_graphs, q_lr=1e-12, policy_lr=1e-12)
    assert made.prepare() == []
    losses = []
    for _ in range(6):
        made.update(1)
        told = made.sac.read_sums()
        losses.append((told[1], told[4]))
    assert len({q for q, _ in losses}) == len({actor for _, actor in losses}) == 6
    alone = filled(
        transitions(1), graph=True, cuda=fake_cuda_graphs, q_lr=1e-12, policy_lr=1e-12
    )  # one row: noise alone
    alone.prepare()
    told = set()
    for _ in range(6):
        alone.update(1)
        told.add(alone.sac.read_sums()[4])
    assert len(told) == 6


class Forgetful:
    """Captures without registering a generator."""

    def __getattr__(self, name: str) -> Any:
        return getattr(fake_cuda_graphs, name)

    class CUDAGraph(fake_cuda_graphs.CUDAGraph):
        def register_generator_state(self, generator: torch.Generator) -> None:
            pass


@pytest.mark.parametrize("harm", ["a generator that is not registered", "a question to the device"])
def test_updates_that_cannot_be_captured_run_eagerly_and_say_so(monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    """A driver that refuses must cost speed, not the night, and leave nothing behind."""
    if harm.startswith("a question"):
        count = SacUpdate._count
        monkeypatch.setattr(SacUpdate, "_count", lambda self, at, *told: (float(told[0]), count(self, at, *told)))
    eager = filled(transitions(ROWS))
    refused = filled(transitions(ROWS), graph=True, cuda=Forgetful() if "generator" in harm else fake_cuda_graphs)
    notes = refused.prepare()
    assert sum("updates cannot be captured" in note for note in notes) == 1
    assert len(refused.replay) == int(refused.replay.size) == ROWS
    eager.update(5)
    refused.update(5)
    assert same(everything(eager), everything(refused))


def test_a_captured_run_goes_on_from_a_saved_state() -> None:
    """Loading replaces the optimizers' tensors; a capture of the old ones would train something else."""
    rows, changes = transitions(ROWS), {**FREQUENCIES, "log_std_min": -4.5}
    undisturbed = filled(rows, **changes)
    undisturbed.update(7)
    saved, _ = undisturbed.snapshot()()
    resumed = learner(graph=True, cuda=fake_cuda_graphs, seed=1, **changes)
    assert not resumed.restore(saved)
    resumed.remember(rows)
    assert resumed.prepare() == []
    undisturbed.sac.read_sums()
    for made in (undisturbed, resumed):
        made.update(8)
    assert resumed.updates == 15 and same(everything(undisturbed), everything(resumed))
