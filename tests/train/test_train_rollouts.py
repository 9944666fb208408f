"""Collecting on an environment whose right answers are known by arithmetic: what ends up in the replay buffer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from pidec_train.data.replay_buffer import Transitions
from pidec_train.decorator_learner import DecoratorLearner
from pidec_train.metrics import MetricWriter
from pidec_train.protocol.errors import RunFailed
from pidec_train.rollouts import RECENT, Rollouts
from pidec_train.stopping import StopRequest
from tests.envs.test_autoreset import seed_of
from tests.fakes.scripted_env import ACT_DIM, observation
from tests.train.decorating import OBS_STD, learner, on_scripted_env

ENVS, CHUNK, LIMIT = 4, 3, 11
# By seed % 5 and seed % 7: at the end of a chunk, in its midst, with the last step that there is, never.
SUCCEED_AT, FAIL_AT = (3, 5, 0, LIMIT, 0), (0, 0, 0, 0, 7, 0, 0)

Collect = Callable[..., tuple[DecoratorLearner, Rollouts]]


@pytest.fixture
def collect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collect]:
    """A learner and its simulators, begun."""
    opened: list[Rollouts] = []

    def make(**changes: Any) -> tuple[DecoratorLearner, Rollouts]:
        on_scripted_env(monkeypatch, succeed_at=SUCCEED_AT, fail_at=FAIL_AT)
        usual = {"prog_explore": 1, "total_timesteps": 1000, "res_scale": 0.5, "max_episode_steps": LIMIT}
        made = learner(**{**usual, **changes})
        opened.append(Rollouts(made.config, "pd_scripted", 2, cast(MetricWriter, None)))
        return made, opened[-1]

    yield make
    for rollouts in opened:
        rollouts.close()


def plain_base(obs_seq: Tensor) -> Tensor:
    """A base policy that tells which frames it saw: (N, 2, 4) -> (N, 6)."""
    size = torch.tensor([3e3, 7e3, 2.0, 1.0])
    told = (obs_seq / size * torch.tensor([[0.7], [0.3]])).sum((1, 2))
    return 0.4 * torch.sin(told[:, None] * torch.arange(1, CHUNK * ACT_DIM + 1))


class Known:
    """What one simulator must do, by arithmetic."""

    def __init__(self, run_seed: int, env: int) -> None:
        self.run_seed, self.env, self.episode = run_seed, env, -1
        self.begin()

    def begin(self) -> None:
        self.episode += 1
        self.seed = seed_of(self.run_seed, self.env, self.episode)
        self.step, self.pushed = 0, 0.0
        self.frames = deque([observation(self.seed, 0)] * 2, maxlen=2)

    def history(self) -> Tensor:
        return torch.from_numpy(np.stack(self.frames))

    def execute(self, actions: Tensor) -> tuple[float, bool, bool, int]:
        """Sum of rewards, terminated, truncated, env steps."""
        succeed, fail = SUCCEED_AT[self.seed % len(SUCCEED_AT)], FAIL_AT[self.seed % len(FAIL_AT)]
        before = self.step
        for action in actions.view(CHUNK, ACT_DIM).clamp(-1, 1).numpy():
            self.step += 1
            self.pushed += float(action.sum())
            self.frames.append(observation(self.seed, self.step, self.pushed))
            if self.step in (succeed, fail, LIMIT):
                break
        success = self.step == succeed
        return float(success), success or self.step == fail, self.step == LIMIT, self.step - before


def rows(made: DecoratorLearner) -> Transitions:
    """All that was remembered, in order."""
    filled = made.replay._rows[: len(made.replay)]
    obs, next_obs, residual, base, next_base, reward, stop = torch.split(filled, made.replay._sizes, dim=1)
    return Transitions(obs, next_obs, residual, base, next_base, reward[:, 0], stop[:, 0])


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("bootstrap", ["always", "never", "truncated"])
def test_every_number_in_the_replay_buffer_is_the_known_one(collect: Collect, bootstrap: str, reuse: bool) -> None:
    """Chunk rewards, ends, final observations, histories and base actions: the critic believes all of it."""
    made, rollouts = collect(bootstrap_at_done=bootstrap, reuse_base_action=reuse)
    made.acting.base_actions = plain_base  # type: ignore[method-assign]
    rollouts.begin(made)
    known = [Known(made.config.seed, env) for env in range(ENVS)]
    for _ in range(40):
        rollouts.step(made)
    found, ends, env_steps = rows(made), set(), 0
    for at in range(40 * ENVS):
        env = known[at % ENVS]
        assert torch.equal(found.obs[at], env.history()[-1]), "the newest frame, in a new episode its first"
        torch.testing.assert_close(found.base[at], plain_base(env.history()[None])[0])
        reward, terminated, truncated, steps = env.execute(found.base[at] + 0.5 * found.residual[at])
        over, env_steps = terminated or truncated, env_steps + steps
        assert torch.equal(found.next_obs[at], env.history()[-1]), "before the reset"
        assert found.reward[at] == reward - 1
        stop = {"always": False, "never": over, "truncated": terminated}[bootstrap]
        assert found.stop[at] == stop
        if not stop:  # elsewhere nobody asks
            torch.testing.assert_close(found.next_base[at], plain_base(env.history()[None])[0])
        if over:
            ends.add((reward, terminated, truncated))
            env.begin()
    assert ends == {(1, True, False), (1, True, True), (0, True, False), (0, False, True)}, "all ways to end were met"
    assert made.episodes.tolist() == [env.episode + 1 for env in known]
    assert rollouts.read() == (env_steps, 1.0) and rollouts.read() == (0, 0.0)
    assert made.step == 40 * ENVS == made.replay.added


def test_actor_and_critics_see_normalised_observations_where_that_is_asked_for(collect: Collect) -> None:
    """Those before and after alike, and within ten deviations; the base goes on seeing what there is."""
    plain, normed = collect(), collect(norm_obs=True)
    for made, rollouts in (plain, normed):
        made.acting.base_actions = plain_base  # type: ignore[method-assign]
        made.acting._res_scale = 0.0  # so that both go the same way, which they see otherwise
        rollouts.begin(made)
        for _ in range(15):
            rollouts.step(made)
    raw, seen = (rows(made) for made, _ in (plain, normed))
    assert torch.equal(raw.base, seen.base)
    for before, after in ((raw.obs, seen.obs), (raw.next_obs, seen.next_obs)):
        torch.testing.assert_close(after, (before / OBS_STD).clamp(-10, 10))
        assert float(after.max()) == 10 and not torch.equal(before, after)


def test_success_while_training_is_that_of_the_last_episodes(collect: Collect) -> None:
    made, rollouts = collect()
    rollouts.begin(made)
    known = [Known(made.config.seed, env) for env in range(ENVS)]
    expected: list[tuple[bool, int]] = []
    for _ in range(60):
        rollouts.step(made)
        for env in known:
            reward, terminated, truncated, _ = env.execute(torch.zeros(CHUNK * ACT_DIM))
            if terminated or truncated:
                expected.append((reward == 1, env.step))
                env.begin()
    assert len(expected) > RECENT and list(rollouts.recent) == expected[-RECENT:]


def test_the_next_base_action_is_executed_where_that_is_asked_for(collect: Collect) -> None:
    """`reuse_base_action` saves half of the sampling: what the critic learned of the next action is then what comes."""
    for reuse in (True, False):
        made, rollouts = collect(reuse_base_action=reuse, num_envs=2)
        rollouts.begin(made)
        for _ in range(40):
            rollouts.step(made)
        found = rows(made)
        goes_on = found.obs[2:, :2].eq(found.obs[:-2, :2]).all(1)  # the same episode's seed
        same = found.base[2:].eq(found.next_base[:-2]).all(1)
        assert 20 < int(goes_on.sum()) < 70
        ended = found.stop[:-2].bool()  # there nobody asks for the next one
        assert torch.equal(same[~ended], goes_on[~ended]) if reuse else not same.any()


def test_no_base_actions_are_sampled_that_nobody_asks_for(collect: Collect) -> None:
    """Critics that see the residual alone, and an actor that sees observations: half of the sampling is saved."""
    made, rollouts = collect(critic_input="res")
    asked: list[int] = []

    def count(obs_seq: Tensor) -> Tensor:
        asked.append(len(obs_seq))
        return plain_base(obs_seq)

    made.acting.base_actions = count  # type: ignore[method-assign]
    rollouts.begin(made)
    for _ in range(10):
        rollouts.step(made)
    found, known = rows(made), [Known(made.config.seed, env) for env in range(ENVS)]
    assert asked == [ENVS] * 11 and not found.next_base.any()
    for at in range(10 * ENVS):
        env = known[at % ENVS]
        torch.testing.assert_close(found.base[at], plain_base(env.history()[None])[0])
        if any(env.execute(found.base[at] + 0.5 * found.residual[at])[1:3]):
            env.begin()


def test_the_residual_is_executed_and_remembered_as_often_as_the_step_says(collect: Collect) -> None:
    made, rollouts = collect(prog_explore=160, res_scale=1.0)
    rollouts.begin(made)
    for _ in range(80):
        rollouts.step(made)
    on = rows(made).residual.ne(0).any(1).float()
    assert float(on[:80].mean()) == pytest.approx(82 / 320, abs=0.2)
    assert bool((on[160:] == 1).all())
    assert rollouts.read()[1] == pytest.approx(float(on.mean()))


@pytest.mark.parametrize(("starts", "updates"), [(16, 28), (24, 24), (20, 24), (1, 32)])
@pytest.mark.parametrize("overlap", [False, True])
def test_as_many_updates_with_overlap(collect: Collect, overlap: bool, starts: int, updates: int) -> None:
    """Else two runs of one config would not be comparable: learning starts with a round, within one, at once."""
    made, rollouts = collect(overlap=overlap, learning_starts=starts, training_freq=8)
    done: list[tuple[int, int]] = []  # (transitions that are there, updates)
    update = made.update
    made.update = lambda count: (done.append((made.replay.added, count)), update(count))[1]  # type: ignore[method-assign, assignment, func-returns-value]
    rollouts.begin(made)
    for _ in range(8):
        rollouts.round(made)
    assert made.step == 64 and made.updates == updates == sum(count for _, count in done)
    assert min(added for added, _ in done) >= starts
    if overlap:  # the first round may catch up at its end, then each step has its share
        assert [count for _, count in done[-8:]] == [2] * 8
    else:
        assert [count for _, count in done] == [4] * (updates // 4)


@pytest.mark.parametrize(("overlap", "updates"), [(False, 4), (True, 3)])
def test_a_round_that_was_broken_off_is_finished(collect: Collect, overlap: bool, updates: int) -> None:
    """A run whose simulator died goes on in the midst of a round; else all that follows would be at odd steps. With
    `overlap` it does not repeat the updates that were done beside the steps before."""
    made, rollouts = collect(num_envs=2, training_freq=8, learning_starts=1, overlap=overlap)
    rollouts.begin(made)
    rollouts.round(made)
    assert (made.step, made.replay.added, made.updates) == (8, 8, 4)
    made.step = 10
    rollouts.round(made)
    assert (made.step, made.replay.added, made.updates) == (16, 14, 4 + updates)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_simulator_that_dies_in_the_last_step_costs_no_updates(collect: Collect, overlap: bool) -> None:
    """The round is over by its steps then, and the next one would begin without what this one was to learn."""
    made, rollouts = collect(num_envs=2, training_freq=8, learning_starts=1, overlap=overlap)
    rollouts.begin(made)
    rollouts.round(made)
    look = rollouts.env.step_results

    def dies() -> None:
        if made.step == 16:
            raise RunFailed("the simulator died")
        return look()  # type: ignore[return-value]

    rollouts.env.step_results = dies  # type: ignore[method-assign, assignment]
    with pytest.raises(RunFailed):
        rollouts.round(made)
    assert (made.step, made.updates, made.owed) == ((16, 8, 0) if overlap else (16, 4, 4))
    if not overlap:  # else they were done beside the steps
        rollouts.round(made)
        assert (made.step, made.updates, made.owed) == (16, 8, 0)


def test_a_stop_that_presses_ends_a_round_and_loses_none_of_it(collect: Collect, monkeypatch: Any) -> None:
    """A round may last for minutes; who asked for the end waits one at most."""
    monkeypatch.setattr("pidec_train.stopping.PATIENCE", 0.0)
    monkeypatch.setattr("pidec_train.rollouts.AT_ONCE", 1)
    made, rollouts = collect(num_envs=2, training_freq=8, learning_starts=1)
    rollouts.begin(made)
    stop, goes_on = StopRequest(), rollouts.step

    def asked_after(step: int, updates: int) -> None:
        """A stop that comes then; the run goes on afterwards."""

        def stepped(learner: DecoratorLearner, *, updates: int = 0) -> None:
            goes_on(learner, updates=updates)
            if learner.step == step:
                stop.request("SIGTERM")

        def updated(count: int) -> None:
            update(count)
            if made.updates == updates:
                stop.request("SIGTERM")

        rollouts.step, made.update = stepped, updated  # type: ignore[method-assign, assignment]
        rollouts.round(made, stop)
        assert stop, "nobody asked"
        stop.request("")

    update = made.update
    asked_after(4, -1)
    assert (made.step, made.updates, made.owed) == (4, 0, 0)
    asked_after(-1, 3)
    assert (made.step, made.updates, made.owed) == (8, 3, 1)
    rollouts.round(made, stop)
    assert (made.step, made.updates, made.owed) == (8, 4, 0)
