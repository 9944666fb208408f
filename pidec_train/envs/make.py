"""Environments by their ManiSkill id: checked, headless where there is no renderer, with the right episode length."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ..protocol.errors import PidecError, RunFailed, did_you_mean, nearest
from . import headless
from .fast_panda import FastPandaEnv, check_fast
from .vector import WorkerVectorEnv
from .wrappers import ChunkedEnv

ENV_BACKENDS = ("stock", "fast")


@dataclass(frozen=True)
class TaskInfo:
    """Sizes and bounds of a task under one controller; bounds are (act_dim,) float32 in the environment's units."""

    env_id: str
    control_mode: str
    obs_dim: int
    act_dim: int
    action_low: NDArray[Any]
    action_high: NDArray[Any]
    max_episode_steps: int


def check_env_id(env_id: str) -> str:
    """`env_id` if ManiSkill knows it. Imports mani_skill (seconds).

    Raises:
        PidecError: an id nobody registered, with the nearest right one.
    """
    registered, fixed_tasks = _simulator()
    if env_id not in registered:
        allowed = [name for name in registered if fixed_tasks.public_id(name) == name]
        raise PidecError(f'unknown env id "{env_id}": {did_you_mean(env_id, allowed)}')
    return env_id


def task_info(env_id: str, control_mode: str, max_episode_steps: int | None = None) -> TaskInfo:
    """Sizes and bounds of a task, read off an environment that is made for it and closed again.

    Raises:
        PidecError: see `make_env`.
    """
    env = make_env(env_id, control_mode=control_mode, max_episode_steps=max_episode_steps)
    try:
        return describe(env, env_id, control_mode)
    finally:
        env.close()


def describe(env: ChunkedEnv, env_id: str, control_mode: str) -> TaskInfo:
    """Sizes and bounds of an environment that `make_env` made."""
    actions, observations = env.env.action_space, env.observation_space
    assert isinstance(actions, gym.spaces.Box) and observations.shape is not None
    return TaskInfo(
        env_id=env_id,
        control_mode=control_mode,
        obs_dim=observations.shape[-1],
        act_dim=actions.shape[0],
        action_low=actions.low.astype(np.float32),
        action_high=actions.high.astype(np.float32),
        max_episode_steps=env.max_episode_steps,
    )


def make_env(
    env_id: str,
    *,
    control_mode: str,
    obs_horizon: int = 1,
    max_episode_steps: int | None = None,
    env_backend: str = "stock",
) -> ChunkedEnv:
    """One environment on the CPU: state observations, chunks of actions, reward 1 at success (see `ChunkedEnv`).

    Args:
        env_id: ManiSkill's id; `PegInsertionSide-v1` gives the task with the fixed success test.
        control_mode: one of the robot's controllers, such as "pd_ee_delta_pose".
        max_episode_steps: None: ours where ManiSkill's is too short to imitate demos, else ManiSkill's.
        env_backend: "stock" steps ManiSkill's environment, "fast" the same scene without torch (`has_fast` says where).

    Raises:
        PidecError: unknown id (with the nearest right one) or control mode (with the allowed ones), a task or control
            mode that the fast backend does not know, files that must be downloaded first.
        RunFailed: ManiSkill could not build the task.
    """
    check_env_id(env_id)
    steps = max_episode_steps or registered_steps(env_id)
    if env_backend == "fast":
        check_fast(env_id, control_mode)
        scene = make_maniskill_env(env_id, control_mode=control_mode, obs_mode="state")
        return ChunkedEnv(FastPandaEnv(scene, env_id, control_mode), obs_horizon, steps)
    if env_backend != "stock":
        raise PidecError(f'unknown env backend "{env_backend}"; allowed: {", ".join(ENV_BACKENDS)}')
    from mani_skill.utils.wrappers.flatten import FlattenActionSpaceWrapper
    from mani_skill.utils.wrappers.gymnasium import CPUGymWrapper

    env = make_maniskill_env(env_id, control_mode=control_mode, obs_mode="state")
    if isinstance(env.action_space, gym.spaces.Dict):  # several robots
        env = FlattenActionSpaceWrapper(env)
    action_space = env.action_space
    env = CPUGymWrapper(env)
    env.action_space = action_space  # CPUGymWrapper looks past the flattening
    return ChunkedEnv(env, obs_horizon, steps)


def registered_steps(env_id: str) -> int:
    """Env steps of an episode: ours where ManiSkill's registration is too short to imitate demos, else ManiSkill's."""
    registered, fixed_tasks = _simulator()
    return int(fixed_tasks.EPISODE_STEPS.get(env_id) or registered[env_id].max_episode_steps)


def make_vector_env(
    env_id: str,
    num_envs: int,
    *,
    control_mode: str,
    obs_horizon: int,
    act_horizon: int,
    max_episode_steps: int | None = None,
    num_workers: int | None = None,
    autoreset: bool = False,
    env_backend: str = "stock",
) -> WorkerVectorEnv:
    """`num_envs` environments as `make_env` makes them, in worker processes (see `WorkerVectorEnv`).

    Args:
        act_horizon: length of the chunks that `step` takes: (num_envs, act_horizon, act_dim).
        num_workers: None: as many as there are cores, at most one per environment.
        autoreset: an episode that is over is followed by the next one within the same step.
        env_backend: see `make_env`.

    Raises:
        PidecError: see `make_env`.
    """
    env_kwargs = {
        "env_id": env_id,
        "control_mode": control_mode,
        "obs_horizon": obs_horizon,
        "max_episode_steps": max_episode_steps,
    }
    if env_backend != "stock":
        env_kwargs["env_backend"] = env_backend
    return WorkerVectorEnv(
        num_envs, act_horizon=act_horizon, num_workers=num_workers, env_kwargs=env_kwargs, autoreset=autoreset
    )


def make_maniskill_env(env_id: str, *, control_mode: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """ManiSkill's own environment for `env_id` (batched, torch), on the CPU and without a renderer.

    Raises:
        PidecError: the robot has no such control mode, or files must be downloaded first.
        RunFailed: ManiSkill could not build the task.
    """
    registered, fixed_tasks = _simulator()
    own = fixed_tasks.own_id(env_id)
    modes = registered[own].cls.SUPPORTED_REWARD_MODES
    arguments = {
        "num_envs": 1,
        "sim_backend": "physx_cpu",
        "render_backend": "none",
        # Ours is computed from the success flag: some tasks have no sparse reward, and the dense ones cost time.
        "reward_mode": next((mode for mode in ("none", "sparse") if mode in modes), modes[0]),
        **kwargs,
    }
    try:
        with _no_questions(env_id):
            return gym.make(own, control_mode=control_mode, **arguments)
    except PidecError:
        raise
    except Exception as error:
        allowed = _control_modes(own, arguments)
        if allowed and control_mode not in allowed:
            best = nearest(control_mode, allowed)
            raise PidecError(
                f'{env_id} has no control mode "{control_mode}"; allowed: {", ".join(allowed)}',
                f'Did you mean "{best}"?' if best else "",
            ) from None
        raise RunFailed(f"ManiSkill could not build {env_id}: {type(error).__name__}: {error}") from error


def _control_modes(own: str, arguments: dict[str, Any]) -> Sequence[str]:
    """The controllers of the task's robot; empty if the task cannot be made with any."""
    try:
        env = gym.make(own, **arguments)
    except Exception:  # noqa: BLE001  (the caller reports the first failure)
        return []
    agent = env.unwrapped.agent  # type: ignore[attr-defined]
    modes = list(getattr(agent, "agents", [agent])[0].supported_control_modes)
    env.close()
    return modes


@contextlib.contextmanager
def _no_questions(env_id: str) -> Iterator[None]:
    """While a task is built: missing files are an error, not a question that waits for an answer on standard input.

    What ManiSkill prints meanwhile is dropped: stdout is for data, and the error says it all.

    Raises:
        PidecError: the task or its robot needs files that must be downloaded.
    """
    from mani_skill.utils import download_asset

    def refuse(question: str) -> bool:
        group = question.split()[1]  # "Environment TurnFaucet-v1 requires …", "Robot anymal_c has assets …"
        raise PidecError(
            f"{env_id} needs files of {group} that are not on this machine",
            f"Get them with: python -m mani_skill.utils.download_asset {group}",
        )

    ask = download_asset.prompt_yes_no
    download_asset.prompt_yes_no = refuse
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        download_asset.prompt_yes_no = ask


def _simulator() -> tuple[dict[str, Any], Any]:
    """ManiSkill's registry with our registrations in it, and the module that made them."""
    headless.prepare()
    import mani_skill.envs  # noqa: F401  (registers ManiSkill's tasks)
    from mani_skill.utils.registration import REGISTERED_ENVS

    from . import fixed_tasks, maniskill2_control  # noqa: F401  (the latter adds control modes)

    return REGISTERED_ENVS, fixed_tasks
