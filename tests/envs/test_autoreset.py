"""Autoreset: what ends up in a replay buffer. A scripted environment tells every right answer by arithmetic."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from pidec_train.envs.vector import WorkerVectorEnv
from pidec_train.protocol.errors import RunFailed
from tests.fakes.scripted_env import ACT_DIM, FACTORY, OBS_DIM, observation

ENVS, CHUNK, LIMIT = 5, 4, 10
SUCCEED_AT = (2, 7, 0, 4, 0)  # by seed % 5
FAIL_AT = (0, 0, 0, 0, 6)
PUSH = 0.125  # of each action number: exact sums


def make(*, num_workers: int = 2, num_envs: int = ENVS, autoreset: bool = True, **script: Any) -> WorkerVectorEnv:
    script = {"succeed_at": SUCCEED_AT, "fail_at": FAIL_AT, **script}
    return WorkerVectorEnv(
        num_envs,
        act_horizon=CHUNK,
        num_workers=num_workers,
        env_kwargs={"obs_horizon": 2, "max_episode_steps": LIMIT, **script},
        autoreset=autoreset,
        factory=FACTORY,
    )


def actions(num_envs: int = ENVS) -> NDArray[Any]:
    return np.full((num_envs, CHUNK, ACT_DIM), PUSH, np.float32)


def seed_of(run_seed: int, env: int, episode: int) -> int:
    return int(np.random.SeedSequence((run_seed, env, episode)).generate_state(1)[0] >> 1)


def length_of(seed: int) -> int:
    return min(steps[seed % 5] or LIMIT for steps in (SUCCEED_AT, FAIL_AT))


def history(seed: int, step: int) -> NDArray[Any]:
    return np.stack([observation(seed, max(at, 0), 2 * PUSH * max(at, 0)) for at in (step - 1, step)])


@pytest.fixture(scope="module")
def env() -> Iterator[WorkerVectorEnv]:
    made = make()
    yield made
    made.close()


def test_every_number_of_many_episodes_is_the_known_one(env: WorkerVectorEnv) -> None:
    """A frame of the episode before, a sum over its end or a wrong flag would teach the critic what never happened."""
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    run_seed, counts = 7, np.array([0, 3, 0, 11, 1])
    seen, infos = env.reset(seed=run_seed, options={"episodes": counts})
    assert infos["episodes"].tolist() == (counts + 1).tolist()
    begun, at = counts.copy(), np.zeros(ENVS, int)
    ends = set()
    for i in range(ENVS):
        np.testing.assert_array_equal(seen[i], history(seed_of(run_seed, i, begun[i]), 0))
    for _ in range(40):
        seen, rewards, terminated, truncated, infos = env.step(actions())
        for i in range(ENVS):
            seed = seed_of(run_seed, i, begun[i])
            before, at[i] = at[i], min(at[i] + CHUNK, length_of(seed))
            over = at[i] == length_of(seed)
            succeeds = over and at[i] == SUCCEED_AT[seed % 5]
            assert (infos["env_steps"][i], infos["episode_steps"][i]) == (at[i] - before, at[i])
            assert rewards[i] == infos["success"][i] == infos["success_at_end"][i] == succeeds
            assert terminated[i] == (over and at[i] in (SUCCEED_AT[seed % 5], FAIL_AT[seed % 5]))
            assert truncated[i] == (at[i] == LIMIT)
            frames = [observation(seed, step, 2 * PUSH * step) for step in range(before + 1, at[i] + 1)]
            np.testing.assert_array_equal(infos["frames"][i, : len(frames)], frames)
            assert infos["_final_obs"][i] == over
            np.testing.assert_array_equal(infos["final_obs"][i], history(seed, at[i]) if over else np.zeros((2, 4)))
            if over:
                ends.add((bool(terminated[i]), bool(truncated[i]), bool(succeeds)))
                begun[i], at[i] = begun[i] + 1, 0
            np.testing.assert_array_equal(seen[i], history(seed_of(run_seed, i, begun[i]), at[i]))
        assert infos["episodes"].tolist() == (begun + 1).tolist()
    assert ends == {(True, False, True), (True, False, False), (False, True, False)}, "all three ways to end were met"


def test_episodes_do_not_depend_on_the_number_of_workers_and_are_never_repeated(env: WorkerVectorEnv) -> None:
    """Two machines would else learn from different starts, and a resumed run from starts it has seen already."""
    first, _ = env.reset(seed=3)
    alone = make(num_workers=1)
    try:
        np.testing.assert_array_equal(alone.reset(seed=3)[0], first)
        for _ in range(6):
            several, one = env.step(actions()), alone.step(actions())
            np.testing.assert_array_equal(several[0], one[0])
        counts = one[4]["episodes"]
    finally:
        alone.close()
    resumed, infos = env.reset(seed=3, options={"episodes": counts})
    for i in range(ENVS):
        np.testing.assert_array_equal(resumed[i], history(seed_of(3, i, counts[i]), 0))
    assert counts.min() > 1 and infos["episodes"].tolist() == (counts + 1).tolist()


def test_results_come_before_the_resets_and_without_being_waited_for() -> None:
    """The learner works while simulators build the next scenes: a reset costs as much as some twenty steps."""
    patience = 0.4
    slow = make(num_envs=2, num_workers=1, succeed_at=(2,), fail_at=(0,), reset_seconds=patience)
    try:
        first, _ = slow.reset(seed=1)
        given, began = actions(2), time.monotonic()
        slow.step_async(given)
        given[:] = 9  # the caller's array is free again
        results = slow.step_results()
        assert time.monotonic() - began < patience
        assert results[1].all() and results[3]["_final_obs"].all()
        with pytest.raises(RuntimeError, match="under way"):
            slow.step_async(given)
        starts = slow.start_obs()
        assert time.monotonic() - began > 2 * patience
        assert results[3]["final_obs"][0, -1].tolist() == observation(seed_of(1, 0, 0), 2, 4 * PUSH).tolist()
        assert not np.array_equal(starts, first) and (starts[:, :, 2:] == 0).all()
    finally:
        slow.close()


def test_without_autoreset_an_episode_that_is_over_stays_so() -> None:
    """Evaluation chooses itself which episode comes next: it would else count starts of its own making."""
    plain = make(num_envs=2, num_workers=2, autoreset=False, succeed_at=(2,), fail_at=(0,))
    try:
        assert plain.metadata["autoreset_mode"] is AutoresetMode.DISABLED
        plain.reset(seed=[20, 21])
        seen, rewards, terminated, _, infos = plain.step(actions(2), active=np.array([True, False]))
        np.testing.assert_array_equal(seen, [history(20, 2), history(21, 0)])
        assert rewards.tolist() == [1, 0] and terminated.tolist() == [True, False]
        assert infos["success"].tolist() == [True, False] and infos["env_steps"].tolist() == [2, 0]
        np.testing.assert_array_equal(infos["frames"][0, 1], observation(20, 2, 4 * PUSH))
        assert not {"final_obs", "episodes"} & set(infos)
        with pytest.raises(ValueError, match="actions must be"):
            plain.step(np.zeros((2, CHUNK + 1, ACT_DIM)))
        with pytest.raises(RunFailed, match="over: reset"):
            plain.step(actions(2))
    finally:
        plain.close()


def test_an_action_that_is_not_finite_ends_the_run() -> None:
    broken = make(num_envs=1, num_workers=1)
    broken.reset(seed=0)
    with pytest.raises(RunFailed, match="not finite"):
        broken.step(np.full((1, CHUNK, ACT_DIM), np.nan))
    with pytest.raises(RuntimeError, match="closed"):
        broken.step(actions(1))


@pytest.mark.parametrize("how", ["crash", "kill"])
def test_a_worker_that_dies_is_named_with_its_last_words(how: str) -> None:
    """Else a night's run would hang, holding the GPU, and nobody would know which simulator it was."""
    count, crash_at = (1, 6) if how == "crash" else (2, 0)
    fragile = make(num_workers=count, succeed_at=(0,), fail_at=(0,), crash_at=crash_at)
    fragile.reset(seed=0)
    workers = [psutil.Process(worker.pid) for worker in fragile._workers]
    assert fragile.memory() == pytest.approx(sum(w.memory_info().rss for w in workers), rel=0.1)
    fragile.step(actions())
    if how == "kill":
        os.kill(workers[-1].pid, signal.SIGKILL)
    words = "exited with code 3; its last words: the scripted end" if how == "crash" else "was killed by SIGKILL"
    name = rf"simulator worker {count - 1} \(pid {workers[-1].pid}\)"
    began = time.monotonic()
    with pytest.raises(RunFailed, match=f"{name} {words}"):
        fragile.step_async(actions())
        fragile.step_results()
    assert time.monotonic() - began < 5
    assert not any(worker.is_running() for worker in workers)


def test_a_killed_trainer_leaves_neither_workers_nor_shared_memory(repo: Path) -> None:
    """Named segments in /dev/shm would fill the memory of a machine that many runs are killed on."""
    code = """
import time
from tests.envs.test_autoreset import actions, make
env = make()
env.reset(seed=0)
env.step(actions())
print(*[worker.pid for worker in env._workers], flush=True)
time.sleep(60)
"""
    named = set(os.listdir("/dev/shm"))
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=repo)
    assert parent.stdout is not None
    workers = [psutil.Process(int(word)) for word in parent.stdout.readline().split()]
    assert len(workers) == 2
    assert set(os.listdir("/dev/shm")) <= named
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert len(gone) == 2 and not alive
    assert set(os.listdir("/dev/shm")) <= named


def test_the_memory_of_many_episodes_is_that_of_the_first(env: WorkerVectorEnv) -> None:
    """A few kilobytes an episode are gigabytes after the paper's run."""
    env.reset(seed=0)
    for _ in range(50):
        env.step(actions())
    before = env.memory()
    for _ in range(400):
        _, _, _, _, infos = env.step(actions())
    assert infos["episodes"].sum() > 500
    assert env.memory() - before < 2 << 20


def test_only_one_number_seeds_an_autoreset_run(env: WorkerVectorEnv) -> None:
    for seed, options in (([1] * ENVS, None), (None, None), (1, {"reset_mask": np.zeros(ENVS, bool)})):
        with pytest.raises(ValueError, match="one number"):
            env.reset(seed=seed, options=options)
    assert env.observation_space.shape == (ENVS, 2, OBS_DIM)
