"""Environments in worker processes: the same episodes whatever the number of workers, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from pidec_train.envs.make import make_env, make_vector_env
from pidec_train.envs.vector import WorkerVectorEnv
from pidec_train.protocol.errors import PidecError, RunFailed

pytestmark = pytest.mark.sim
PEG, MODE = "PegInsertionSide-v1", "pd_ee_delta_pose"


def make(num_envs: int = 3, num_workers: int = 2, env_id: str = PEG, mode: str = MODE) -> WorkerVectorEnv:
    return make_vector_env(env_id, num_envs, control_mode=mode, obs_horizon=2, act_horizon=4, num_workers=num_workers)


def pids(env: WorkerVectorEnv) -> list[int]:
    return [worker.pid for worker in env._workers]


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def env() -> Iterator[WorkerVectorEnv]:
    made = make()
    yield made
    made.close()


def test_episodes_are_alike_whatever_the_number_of_workers(env: WorkerVectorEnv) -> None:
    """Success rates of two machines would else not be comparable: each would have played other episodes."""
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 3, 4, 7)).astype(np.float32)
    env.reset(seed=[1, 2, 3])  # a different past
    env.step(actions[0])
    starts, _ = env.reset(seed=[11, 12, 13])
    assert starts.shape == env.observation_space.shape == (3, 2, 43)
    steps = [env.step(chunk)[0] for chunk in actions]
    single = make_env(PEG, control_mode=MODE, obs_horizon=2)
    for index, seed in enumerate([11, 12, 13]):
        np.testing.assert_array_equal(single.reset(seed=seed)[0], starts[index])
        for chunk, seen in zip(actions, steps, strict=True):
            np.testing.assert_array_equal(single.step(chunk[index])[0], seen[index])
    single.close()


def test_only_the_masked_are_reset_and_only_the_active_step(env: WorkerVectorEnv) -> None:
    """A reset or a step too many would cut an episode, or count actions that no policy chose."""
    starts, infos = env.reset(seed=[1, 2, 3])
    assert set(infos) == {"success", "success_at_end", "env_steps"}
    active = np.array([True, False, True])
    after, rewards, terminated, truncated, infos = env.step(np.full((3, 4, 7), 0.3), active=active)
    np.testing.assert_array_equal(after[1], starts[1])
    assert not np.array_equal(after[0], starts[0])
    assert infos["env_steps"].tolist() == [4, 0, 4]
    assert rewards.shape == terminated.shape == truncated.shape == (3,) and not terminated.any()
    again, _ = env.reset(seed=[9, 9, 3], options={"reset_mask": np.array([False, False, True])})
    np.testing.assert_array_equal(again[:2], after[:2])
    np.testing.assert_array_equal(again[2], starts[2])


def test_nothing_is_reset_on_its_own(env: WorkerVectorEnv) -> None:
    """With autoreset the last observation of an episode would be the first of the next one."""
    from gymnasium.vector import AutoresetMode

    assert env.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    env.reset(seed=0)
    for _ in range(50):
        _, _, _, truncated, infos = env.step(np.zeros((3, 4, 7)))
    assert truncated.all() and infos["env_steps"].tolist() == [4, 4, 4]


def test_a_wrong_name_comes_back_from_the_worker_as_it_is_said_there() -> None:
    """The parent does not import the simulator: its errors must survive the way back, hint and all."""
    with pytest.raises(PidecError) as caught:
        make(num_envs=1, env_id="PushCube-v1", mode="pd_ee_delta_pos_")
    assert caught.value.line().endswith('Did you mean "pd_ee_delta_pos"?') and caught.value.exit_code == 2


def test_workers_end_when_their_parent_is_killed() -> None:
    """Orphans would hold memory and cores until somebody notices."""
    code = """
import sys, time
from pidec_train.envs.make import make_vector_env
env = make_vector_env("PushCube-v1", 2, control_mode="pd_ee_delta_pose", obs_horizon=1, act_horizon=1, num_workers=1)
assert not {"mani_skill", "sapien"} & set(sys.modules)
print(*[worker.pid for worker in env._workers], flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert len(workers) == 1 and all(is_running(pid) for pid in workers)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(is_running(pid) for pid in workers)


def test_a_worker_that_is_killed_is_named_at_once(env: WorkerVectorEnv) -> None:
    """Else a run whose simulator ran out of memory would hang for the rest of the night, holding the GPU.

    The last test here: it uses up the environments of the others.
    """
    env.reset(seed=0)
    _, victim = workers = pids(env)
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(RunFailed, match=rf"simulator worker 1 \(pid {victim}\) was killed by SIGKILL") as caught:
        env.step(np.zeros((3, 4, 7)))
    assert time.monotonic() - began < 5
    assert caught.value.exit_code == 1
    assert not any(is_running(pid) for pid in workers)
    with pytest.raises(RuntimeError, match="closed"):
        env.step(np.zeros((3, 4, 7)))
