"""The reference of `benchmarks/decorator_throughput.py`: what upstream computes, no more work and no less."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from benchmarks import decorator_throughput
from benchmarks._parts import PARTS
from benchmarks._upstream_decorator import Batch, NumpyReplay, QuietInfos, UpstreamBase, UpstreamSac, UpstreamWay
from pidec_train.algos.sac import SacUpdate
from pidec_train.data.replay_buffer import Transitions
from pidec_train.decorator_learner import DecoratorLearner
from pidec_train.envs.vector import WorkerVectorEnv
from pidec_train.envs.wrappers import ChunkedEnv
from pidec_train.models.diffusion_policy import DiffusionPolicy
from pidec_train.protocol.config import DecoratorConfig
from tests.fakes.scripted_env import ACT_DIM, FACTORY, OBS_DIM, ScriptedEnv

CPU = torch.device("cpu")
BATCH, ROUNDS = 32, 3
EPISODE = 8  # env steps
CONFIG = DecoratorConfig(
    base_policy_ckpt="-",
    batch_size=BATCH,
    hidden_dims=(16, 16),
    num_envs=2,
    training_freq=4,
    utd=0.5,
    buffer_size=256,
    learning_starts=1,
    max_grad_norm=0.5,  # so that clipping is part of the comparison
    q_lr=3e-3,
    policy_lr=1e-3,
    tau=0.3,
    log_std_min=-2,  # torch.distributions loses digits where the noise is much smaller than the mean
)
CHUNK = CONFIG.act_horizon * ACT_DIM


class SeededEnv(ScriptedEnv):
    """Also starts without a seed, as an autoreset asks for it."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return super().reset(seed=self._seed + 1 if seed is None else seed)


def make_learner(config: DecoratorConfig = CONFIG) -> DecoratorLearner:
    base = DiffusionPolicy(OBS_DIM, ACT_DIM, unet_dims=(8, 16)).eval().requires_grad_(False)
    return DecoratorLearner(config, base, {}, np.ones(ACT_DIM, np.float32), CPU)


def with_our_weights(sac: SacUpdate) -> UpstreamSac:
    """Upstream's, with our networks, which are shaken first."""
    theirs = UpstreamSac(CONFIG, OBS_DIM, CHUNK, CPU)
    with torch.no_grad():  # at the start gradients are mostly rounding, which Adam blows up
        for tensor in (*sac.actor.parameters(), *sac.critics.parameters(), *sac.targets.parameters()):
            tensor.add_(0.3 * torch.randn(tensor.shape))
    ours = copy.deepcopy({name: value for name, value in sac.state().items() if name != "optimizers"})
    theirs.actor.load_state_dict(ours["res_actor"], strict=False)  # the middle of the actions is 0, and not in ours
    for name in ("qf1", "qf2", "qf1_target", "qf2_target"):
        getattr(theirs, name).load_state_dict(ours[name])
    return theirs


@pytest.fixture
def same_noise(monkeypatch: pytest.MonkeyPatch) -> Callable[[SacUpdate], None]:
    """Both ways draw the same noise: three times an update."""

    def share(sac: SacUpdate) -> None:
        ours, theirs = (torch.Generator().manual_seed(7) for _ in range(2))
        monkeypatch.setattr(sac, "_noise", lambda: torch.randn(BATCH, CHUNK, generator=ours))
        monkeypatch.setattr(
            "torch.distributions.normal._standard_normal",
            lambda shape, dtype, device: torch.randn(shape, generator=theirs),
        )

    return share


def test_an_update_of_the_upstream_way_is_an_update_of_ours(
    same_noise: Callable[[SacUpdate], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The speed-up would be that over another computation."""
    learner = make_learner()
    sac, theirs = learner.sac, with_our_weights(learner.sac)
    same_noise(sac)
    batches = iter([_transitions(seed) for seed in range(ROUNDS)])
    monkeypatch.setattr(learner.replay, "sample", lambda count, generator: next(batches))
    for seed in range(ROUNDS):
        learner.update(1)
        given = _transitions(seed)
        actions = torch.cat((given.residual, given.base, given.next_base), dim=1)
        theirs.update(Batch(given.obs, actions, given.next_obs, given.stop[:, None], given.reward[:, None]))
    ours = sac.state()
    for name, net in (("res_actor", theirs.actor), ("qf1", theirs.qf1), ("qf2_target", theirs.qf2_target)):
        for weight, value in net.named_parameters():
            torch.testing.assert_close(ours[name][weight], value.detach(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(sac.log_alpha, theirs.log_sac_alpha.detach())
    assert sac.log_alpha.item() != 0.0


def _transitions(seed: int) -> Transitions:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(BATCH, *shape, generator=generator) * 2 - 1

    parts = (draw(OBS_DIM), draw(OBS_DIM), draw(CHUNK), draw(CHUNK), draw(CHUNK))
    return Transitions(*parts, reward=draw() - 1, stop=(draw() > 0.5).float())


def test_the_upstream_way_asks_the_same_base_policy() -> None:
    base = DiffusionPolicy(OBS_DIM, ACT_DIM, unet_dims=(8, 16))
    theirs = UpstreamBase(OBS_DIM, ACT_DIM, (8, 16), act_horizon=4, ddim_steps=4)
    theirs.load_state_dict(base.state_dict())
    obs, noise = torch.randn(3, 2, OBS_DIM), torch.randn(3, 16, ACT_DIM)
    ours = base.sample_actions(obs, noise, sampler="ddim", num_steps=4)
    torch.testing.assert_close(theirs.get_action(obs, noise), ours, atol=1e-5, rtol=1e-4)


def test_the_numpy_replay_gives_back_rows_that_belong_together() -> None:
    """Its batches would otherwise cost other memory accesses than stable-baselines3's."""
    replay = NumpyReplay(6, 1, 3, 2, CPU)
    for step in range(5):  # three rows: the first two are written over
        both = np.array([[step], [step + 10.0]])
        replay.add(both, both + 100, np.repeat(both, 3, axis=1), both[:, 0] - 1, both[:, 0] % 2)
    drawn = replay.sample(200)
    assert set(drawn.observations.flatten().tolist()) == {2.0, 3.0, 4.0, 12.0, 13.0, 14.0}
    torch.testing.assert_close(drawn.next_observations, drawn.observations + 100)
    torch.testing.assert_close(drawn.actions, drawn.observations.expand(-1, 3))
    torch.testing.assert_close(drawn.rewards, drawn.observations - 1)
    torch.testing.assert_close(drawn.dones, drawn.observations % 2)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways' simulators are scripted environments."""

    def make_vector_env(env_id: str, num_envs: int, **how: Any) -> WorkerVectorEnv:
        kwargs = {"obs_horizon": how["obs_horizon"], "max_episode_steps": EPISODE, "succeed_at": (0,)}
        return WorkerVectorEnv(
            num_envs, act_horizon=how["act_horizon"], num_workers=1, env_kwargs=kwargs, autoreset=True, factory=FACTORY
        )

    def make_simulators(env_id: str, control_mode: str, obs_horizon: int, count: int) -> SyncVectorEnv:
        def make() -> QuietInfos:
            return QuietInfos(ChunkedEnv(SeededEnv((0,)), obs_horizon, EPISODE))

        return SyncVectorEnv([make] * count, autoreset_mode=AutoresetMode.SAME_STEP)

    monkeypatch.setattr("pidec_train.rollouts.make_vector_env", make_vector_env)
    monkeypatch.setattr(decorator_throughput, "make_simulators", make_simulators)
    monkeypatch.setitem(
        decorator_throughput.SETTINGS,
        "tiny",
        decorator_throughput.Setting(
            "Scripted-v0",
            (8, 16),
            {"batch_size": 8, "hidden_dims": (16,), "ddim_steps": 2, "training_freq": 8, "utd": 0.5},
        ),
    )
    monkeypatch.setattr(decorator_throughput, "REPLAY", 64)


def test_all_contenders_take_as_many_steps_and_updates(scripted: None) -> None:
    """A contender that does less in a round would win."""
    options = decorator_throughput.parse(["--num-envs", "4", "--env-backend", "stock", "--device", "cpu"])
    setting = decorator_throughput.SETTINGS["tiny"]
    config = decorator_throughput.config_of(setting, options)
    with decorator_throughput.contenders(setting, config, CPU) as (ways, episode):
        assert episode == EPISODE // config.act_horizon
        upstream, *ours = ways
        assert isinstance(upstream, UpstreamWay)
        theirs = (upstream.steps, upstream.sac.updates)
        decorator_throughput.run_turn(upstream, 2)
        done = (upstream.steps - theirs[0], upstream.sac.updates - theirs[1])
        assert done == (2 * config.training_freq, 2 * config.updates_per_round)
        for way in ours:
            learner = way._learner
            before = (learner.step, learner.updates, learner.replay.added)
            decorator_throughput.run_turn(way, 2)
            assert (learner.step - before[0], learner.updates - before[1]) == done, way.name
            assert learner.replay.added - before[2] == done[0]
            assert all(seconds > 0 for seconds in way.parts.seconds.values()), way.name


def test_the_figures_are_written(scripted: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of the benchmark ends in a table and, if asked, in a file that holds the same."""
    file = tmp_path / "figures.json"
    tiny = ["--setting", "tiny", "--num-envs", "4", "--env-backend", "stock", "--device", "cpu"]
    decorator_throughput.main([*tiny, "--rounds", "2", "--seconds", "0", "--json", str(file)])
    figures = json.loads(file.read_text())
    results = figures["settings"][0]["results"]
    assert results["upstream's way"]["ratio"] == 1.0
    assert len(results["pidec"]["rates"]) == 2 and set(results["pidec"]["parts"][0]) == set(PARTS)
    table = capsys.readouterr().out
    assert all(name in table for name in results)
