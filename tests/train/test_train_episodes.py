"""Episodes kept for watching: which ones, what is in them, and that they come and go with their checkpoint."""

from __future__ import annotations

import contextlib
import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pidec_train.checkpoint_folder import CheckpointFolder
from pidec_train.envs.vector import WorkerVectorEnv
from pidec_train.eval_beside import Finished
from pidec_train.evaluate import EvalResult, Recorder, run_episodes, sampling
from pidec_train.keeping import Keeper
from pidec_train.models.diffusion_policy import DiffusionPolicy
from pidec_train.protocol.episodes import BASE_EPISODES, Episode, episodes_file, read_episodes
from pidec_train.protocol.rundir import sidecar
from pidec_train.stopping import StopRequest
from tests.fakes.scripted_env import ACT_DIM, FACTORY, OBS_DIM, observation

LIMIT = 30
# By seed % 7: the first failure (0) and the first success (2) take long, later ones are over sooner.
SUCCEED_AT = (0, 0, 25, 3, 1, 9, 0)
FAIL_AT = (0, 5, 0, 0, 0, 0, 2)
LENGTHS = (LIMIT, 5, 25, 3, 1, 9, 2)


def simulators(num_envs: int) -> WorkerVectorEnv:
    kwargs = {"obs_horizon": 2, "max_episode_steps": LIMIT, "succeed_at": SUCCEED_AT, "fail_at": FAIL_AT}
    return WorkerVectorEnv(num_envs, act_horizon=4, num_workers=1, env_kwargs=kwargs, factory=FACTORY)


@pytest.fixture(scope="module")
def policy() -> DiffusionPolicy:
    torch.manual_seed(0)
    return DiffusionPolicy(OBS_DIM, ACT_DIM, unet_dims=(8,), num_diffusion_iters=2).eval()


@pytest.mark.parametrize("num_envs", [1, 3, 12])
def test_first_failure_and_first_success_by_number_whatever_the_simulators(
    policy: DiffusionPolicy, num_envs: int
) -> None:
    """Whichever ends first would be kept instead: two checkpoints could not be watched on the same start."""
    env = simulators(num_envs)
    try:
        result = run_episodes(policy, env, num_episodes=20, base_seed=70, keep_seeds=[75, 81, 4711])
    finally:
        env.close()
    assert result.per_episode == [(70 + i, SUCCEED_AT[i % 7] > 0, LENGTHS[i % 7]) for i in range(20)]
    assert [(e.seed, e.success, e.length) for e in result.kept] == [
        (70, False, LIMIT),
        (72, True, 25),
        (75, True, 9),
        (81, True, 1),
    ]
    for episode in result.kept:
        frames = np.array(episode.frames)
        np.testing.assert_array_equal(frames[0], observation(episode.seed, 0))
        for step, frame in enumerate(frames):
            np.testing.assert_array_equal(frame[:3], observation(episode.seed, step)[:3])


def test_frames_that_nobody_can_want_are_dropped() -> None:
    """An evaluation of a thousand episodes would else hold gigabytes."""
    recorder = Recorder(0, [500])
    for first in range(0, 1000, 10):
        for episode in range(first, first + 10):
            recorder.start(episode, np.zeros(3))
            recorder.extend(episode, np.ones((5, 3)))
        for episode in reversed(range(first, first + 10)):
            recorder.finish(episode, success=episode >= 30)
        assert len(recorder._frames) <= 3
    assert [(e.seed, e.success, e.length) for e in recorder.kept()] == [(0, False, 5), (30, True, 5), (500, True, 5)]


def test_the_policys_own_way_of_sampling_is_the_default(policy: DiffusionPolicy) -> None:
    """A decorated policy learned on its base's DDIM actions: another sampler is another base."""
    assert sampling(policy, None, None) == ("ddpm", 2)
    assert sampling(policy, "ddim", None) == ("ddim", 2)
    assert sampling(policy, None, 1) == ("ddpm", 1)


# --- beside the checkpoint --------------------------------------------------------------------------------------------

KEPT = [Episode(seed=1, success=True, frames=[[0.123456, 1.0], [0.5, 2.0]])]


def save(folder: CheckpointFolder, step: int) -> Path:
    info = {"kind": "diffusion", "env_id": "PushCube-v1", "control_mode": "pd_ee_delta_pose"}
    return folder.save({"step": step, "agent": {"w": torch.zeros(3)}}, info)


def test_episodes_lie_beside_their_checkpoint_and_go_with_it(tmp_path: Path) -> None:
    """Those of deleted checkpoints would fill the disk, and be shown for a checkpoint that is not there."""
    folder = CheckpointFolder(tmp_path)
    (tmp_path / BASE_EPISODES).write_text("{}")
    paths = []
    for step in (1, 2, 3):
        paths.append(save(folder, step))
        folder.keep(paths[-1])
        folder.record_evaluation(paths[-1], successes=3 - step, episodes=4)
        folder.record_episodes(paths[-1], KEPT)
    file = read_episodes(episodes_file(paths[0]))
    assert file and (file.env_id, file.policy, file.step) == ("PushCube-v1", "diffusion", 1)
    assert file.episodes[0].frames[0][0] == 0.1235
    for path in paths:
        folder.release(path)
    assert [episodes_file(path).exists() for path in paths] == [True, False, True], "best and last stay"
    for path in (paths[2], sidecar(paths[2])):
        path.unlink()  # as a kill between the deletions leaves it
    save(folder, 4)
    assert not episodes_file(paths[2]).exists()
    assert (tmp_path / BASE_EPISODES).exists()
    aside = folder.move_aside()
    assert aside and (aside / episodes_file(paths[0]).name).exists() and not episodes_file(paths[0]).exists()
    assert (aside / BASE_EPISODES).exists() and not (tmp_path / BASE_EPISODES).exists(), "another run has another base"


def test_a_full_disk_costs_the_episodes_and_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night's training must not end for a picture."""

    class Writer:
        events: list[Any] = []  # noqa: RUF012  (one writer)

        def event(self, name: str, step: int, **more: Any) -> None:
            self.events.append((name, more.get("message", "")))

        def __getattr__(self, name: str) -> Any:
            return lambda *args, **kwargs: None

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder, writer = CheckpointFolder(tmp_path), Writer()
    path = save(folder, 1)
    folder.keep(path)
    keeper = Keeper(
        Writer(),  # type: ignore[arg-type]  (answers to everything)
        folder,
        writer,  # type: ignore[arg-type]
        StopRequest(),
        unit="iteration",
        start=0,
        last=2,
        evaluation_is_due=lambda step: True,
        beside=None,
        source=None,
        waiting=lambda *args: contextlib.nullcontext(),
        advice="",
    )
    monkeypatch.setattr("pidec_train.checkpoint_folder.write_episodes", full)
    monkeypatch.setattr(keeper, "_artifact", lambda *args, **kwargs: None)
    result = EvalResult(4, 2, 2, 0.5, 10.0, 1.0, [], KEPT)
    keeper._after_note(Finished(1, path, result, "", 1.0))
    keeper.close()
    assert [message for name, message in writer.events if name == "warning"] == [
        "episodes of iteration 1 are not kept: [Errno 28] No space left on device"
    ]
    assert json.loads(sidecar(path).read_text())["successes"] == 2 and not episodes_file(path).exists()
