"""One demonstration per seed: ManiSkill's own motion planner, then its own replay to the wanted control mode.

The worker's side of `pidec-train demos`. A demo depends on its seed alone, not on what the worker did before: every
episode starts with a rebuilt scene, and the solutions use the planner's deterministic screw motions.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym

from ..protocol.errors import PidecError

PLANNED_MODE = "pd_joint_pos"  # what the planner's solutions speak
SAVED, PLAN_FAILED, REPLAY_FAILED = "saved", "plan failed", "replay failed"
WORK_PREFIX = ".work-"  # folders of demos in the making; without use once their worker is gone
_PLAN, _REPLAY = "plan", "replay"


class DemoServer:
    """Makes demos of one task; each `make` leaves one small trajectory file behind, or none.

    Raises:
        PidecError: unknown task or control mode, or a task that ManiSkill has no planner solution for.
    """

    def __init__(self, env_id: str, control_mode: str) -> None:
        import torch

        from .make import check_env_id, make_maniskill_env, registered_steps

        torch.set_num_threads(1)
        check_env_id(env_id)
        from mani_skill.examples.motionplanning.panda.run import MP_SOLUTIONS

        if env_id not in MP_SOLUTIONS:
            have = ", ".join(sorted(MP_SOLUTIONS))
            raise PidecError(f"ManiSkill has no motion planner for {env_id}; it has one for: {have}")
        self.env_id, self.control_mode = env_id, control_mode
        self._solve = MP_SOLUTIONS[env_id]
        # A scene rebuilt at each reset costs 0.1 s and makes an episode independent of those before it.
        common = {"reconfiguration_freq": 1, "max_episode_steps": registered_steps(env_id)}
        self._target = make_maniskill_env(env_id, control_mode=control_mode, obs_mode="state", **common)
        self._planned = make_maniskill_env(env_id, control_mode=PLANNED_MODE, obs_mode="none", **common)

    def make(self, seed: int, folder: str) -> str:
        """Try the episode of `seed`; a success is left as `<folder>/<seed>.h5` with its `.json`.

        Returns:
            SAVED, or why there is none: PLAN_FAILED (with the planner's error, if it had one) or REPLAY_FAILED.

        Raises:
            PidecError: ManiSkill's replay cannot convert to this control mode.
        """
        work = Path(folder) / f"{WORK_PREFIX}{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            if failure := self._plan(seed, work):
                return failure
            made = self._replay(work)
            if made is None:
                return REPLAY_FAILED
            part = part_path(Path(folder), seed)
            os.replace(made.with_suffix(".json"), part.with_suffix(".json"))
            os.replace(made, part)  # last: the .h5 is what says that this part is there, and whole
            return SAVED
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _plan(self, seed: int, work: Path) -> str:
        """Record the planner's episode as work/plan.h5; what went wrong, "" if it succeeded."""
        recorder = _recorder(self._planned, work, _PLAN)
        failure = ""
        try:
            result = self._solve(recorder, seed=seed, debug=False, vis=False)
        except Exception as error:  # noqa: BLE001  (solutions raise whatever goes wrong in their geometry)
            failure = f"{PLAN_FAILED}: {type(error).__name__}: {error}"
        else:
            if isinstance(result, int) or not result[-1]["success"].item():  # -1: it found no path
                failure = PLAN_FAILED
            else:
                recorder.flush_trajectory()
        recorder.close()
        return failure

    def _replay(self, work: Path) -> Path | None:
        """Replay work/plan.h5 in the wanted control mode; the file made, None where it does not end in success."""
        import h5py
        from mani_skill.trajectory.replay_trajectory import Args, replay_cpu_sim

        recorder = _recorder(self._target, work, _REPLAY)
        arguments = Args(traj_path="", target_control_mode=self.control_mode, obs_mode="state", save_traj=True)
        episodes = json.loads((work / f"{_PLAN}.json").read_text())["episodes"]
        try:
            with h5py.File(work / f"{_PLAN}.h5", "r") as planned:
                done = replay_cpu_sim(arguments, recorder, self._planned, None, episodes, planned)
        except (NotImplementedError, AssertionError) as error:
            reason = str(error) or type(error).__name__
            raise PidecError(f"ManiSkill's replay cannot convert demos to {self.control_mode}: {reason}") from None
        recorder.close()
        if not done.successful_replays:
            return None
        self._name_task(work / f"{_REPLAY}.json")
        return work / f"{_REPLAY}.h5"

    def _name_task(self, path: Path) -> None:
        """Write the id that users and ManiSkill's own tools know into the file; ours exists only in our processes."""
        content = json.loads(path.read_text())
        content["env_info"]["env_id"] = self.env_id
        path.write_text(json.dumps(content))


class _KeepOpen(gym.Wrapper[Any, Any, Any, Any]):
    """`close` of a recorder finishes its files; the environment below it is still needed."""

    def close(self) -> None:
        return


def _recorder(env: gym.Env[Any, Any], folder: Path, name: str) -> Any:
    """ManiSkill's recorder of trajectories, writing folder/name.h5 and .json."""
    from mani_skill.utils.wrappers.record import RecordEpisode

    return RecordEpisode(
        _KeepOpen(env),
        output_dir=str(folder),
        trajectory_name=name,
        save_video=False,
        save_on_reset=False,
        record_reward=False,
        source_type="motionplanning",
        source_desc="ManiSkill's motion planner and its replay, by pidec-train demos",
    )


def part_path(folder: Path, seed: int) -> Path:
    """The trajectory file of one seed."""
    return folder / f"{seed:09d}.h5"
