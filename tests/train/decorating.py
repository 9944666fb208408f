"""Small residual learners on top of an untrained base, and `pidec-train decorator` on the scripted environment."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

import pidec_train.rollouts
from pidec_train.__main__ import main
from pidec_train.checkpoint import read_payload
from pidec_train.data.replay_buffer import Transitions
from pidec_train.decorator_learner import DecoratorLearner
from pidec_train.envs.vector import WorkerVectorEnv
from pidec_train.models.diffusion_policy import DiffusionPolicy
from pidec_train.models.norm import Norm
from pidec_train.protocol.config import DecoratorConfig
from pidec_train.rollouts import Rollouts
from tests.fakes.scripted_env import ACT_DIM, FACTORY, OBS_DIM
from tests.train.running import Run

OBS_STD = torch.tensor([2e4, 4e4, 0.5, 0.5])
TASK, MODE = "Scripted-v1", "pd_scripted"
SCRIPT: dict[str, Any] = {"succeed_at": (3, 0, 8, 5), "fail_at": (0, 0, 0, 0, 7), "max_episode_steps": 12}


# --- a learner -------------------------------------------------------------------------------------------------------


def base_policy(obs_dim: int = OBS_DIM, act_dim: int = ACT_DIM, **kwargs: Any) -> DiffusionPolicy:
    """Untrained; it sees the scripted environment's numbers, which are large, in proportion."""
    torch.manual_seed(7)
    if obs_dim == OBS_DIM:
        kwargs.setdefault("obs_norm", Norm("mean_std", torch.zeros(4), OBS_STD))
    return DiffusionPolicy(obs_dim, act_dim, unet_dims=(8, 16), **kwargs).eval().requires_grad_(False)


def config(**changes: Any) -> DecoratorConfig:
    """Small. `changes` go before it."""
    small: dict[str, Any] = {
        "env_id": TASK,
        "base_policy_ckpt": "-",
        "total_timesteps": 64,
        "num_envs": 4,
        "training_freq": 8,
        "utd": 0.5,
        "learning_starts": 16,
        "batch_size": 8,
        "hidden_dims": (16, 12),
        "act_horizon": 3,
        "prog_explore": 100,
        "ddim_steps": 2,
        "log_std_min": -4,
        "policy_lr": 1e-3,
        "q_lr": 2e-3,
        "sac_alpha_init": 0.3,
        "eval_freq": 0,
        "device": "cpu",
        "env_backend": "stock",
        "num_workers": 1,
    }
    return DecoratorConfig(**{**small, **changes})


def learner(graph: bool = False, cuda: Any = torch.cuda, **changes: Any) -> DecoratorLearner:
    """With the same seeds whatever the arguments; one action number has half the range of the other."""
    chosen = config(**changes)
    base = base_policy()
    base.act_horizon = chosen.act_horizon
    part = {"control_mode": MODE, "sha256": "0"}
    made = DecoratorLearner(chosen, base, part, np.array([1.0, 0.5]), torch.device("cpu"), cuda=cuda)
    made.graph = made.acting._graph = graph  # as on a GPU
    if graph:
        made.sac._sorted_rows = False
    return made


def transitions(count: int, chunk: int = 3 * ACT_DIM, seed: int = 0) -> Transitions:
    """Random ones."""
    made = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=made)

    return Transitions(
        obs=normal(count, OBS_DIM),
        next_obs=normal(count, OBS_DIM),
        residual=normal(count, chunk).clamp(-1, 1),
        base=normal(count, chunk),
        next_base=normal(count, chunk),
        reward=normal(count),
        stop=(normal(count) > 0).float(),
    )


def actor_weights(made: DecoratorLearner) -> list[Tensor]:
    return [weight.detach().clone() for weight in made.actor.parameters()]


def everything(made: DecoratorLearner) -> list[Tensor]:
    """All numbers that learning changes, as they are now."""
    return [tensor.detach().clone() for tensor in made.sac.tensors()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def copy_of(generator: torch.Generator) -> torch.Generator:
    """Draws what `generator` is going to draw."""
    made = torch.Generator()
    made.set_state(generator.get_state())
    return made


# --- the scripted environment ----------------------------------------------------------------------------------------


def scripted_env(
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
    **script: Any,
) -> WorkerVectorEnv:
    """In place of `make_vector_env`."""
    limit = max_episode_steps or {**SCRIPT, **script}["max_episode_steps"]
    kwargs = {**SCRIPT, **script, "obs_horizon": obs_horizon, "max_episode_steps": limit}
    return WorkerVectorEnv(
        num_envs,
        act_horizon=act_horizon,
        num_workers=num_workers,
        env_kwargs=kwargs,
        autoreset=autoreset,
        factory=FACTORY,
    )


def on_scripted_env(monkeypatch: pytest.MonkeyPatch, **script: Any) -> None:
    monkeypatch.setattr(pidec_train.rollouts, "make_vector_env", functools.partial(scripted_env, **script))


# --- the command -----------------------------------------------------------------------------------------------------


def save_base(path: Path, policy: DiffusionPolicy | None = None, **changes: Any) -> Path:
    """A base policy's checkpoint as `pidec-train diffusion` writes it. `changes` go into its config."""
    made = policy or base_policy()
    settings = {"env_id": TASK, "control_mode": MODE, "n_groups": 8, "num_diffusion_iters": made.num_diffusion_iters}
    horizons = {name: getattr(made, name) for name in ("obs_horizon", "act_horizon", "pred_horizon")}
    payload = {
        "format_version": 1,
        "kind": "diffusion",
        "step": 5,
        "config": {**settings, **horizons, **changes},
        "agent": made.state_dict(),
        "ema_agent": made.state_dict(),
        "obs_norm": made.obs_norm.state(),
        "action_norm": made.action_norm.state(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(payload, path)
    return path


SCRIPTED_MAIN = """
import functools, sys
import pidec_train.rollouts
from pidec_train.__main__ import main
from tests.train.decorating import scripted_env
pidec_train.rollouts.make_vector_env = functools.partial(scripted_env, **{script!r})
sys.exit(main(sys.argv[1:]))
"""


class DecoratorRun(Run):
    """`pidec-train decorator` on the scripted environment, in folders of its own."""

    def __init__(self, tmp_path: Path, base: Path, name: str = "a") -> None:
        super().__init__(tmp_path, base, name)
        self.base = base

    def __call__(self, *flags: str) -> int:
        self._attempt += 1
        return main(["decorator", *self.arguments(*flags)])

    def start(self, *flags: str, **script: Any) -> subprocess.Popen[bytes]:
        """The same in a process of its own; its last words go to `said`."""
        self._attempt += 1
        program = SCRIPTED_MAIN.format(script=script)
        command = [sys.executable, "-c", program, "decorator", *self.arguments(*flags)]
        self.run_dir.mkdir(parents=True)
        with self.said.open("wb") as file:
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)

    @property
    def said(self) -> Path:
        """Standard error of the process that `start` started."""
        return self.run_dir / "said"

    def arguments(self, *flags: str) -> list[str]:
        made: list[str] = []
        for name, value in config().model_dump(exclude_unset=True, exclude={"base_policy_ckpt"}).items():
            made += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
        where = ["--run-dir", str(self.run_dir), "--checkpoint-dir", str(self.checkpoints)]
        return [*made, "--base-policy-ckpt", str(self.base), *where, *flags]

    def checkpoint(self, step: int) -> dict[str, Any]:
        return read_payload(self.checkpoints / f"step-{step:09d}.pt")


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Its simulators."""
    return psutil.Process(process.pid).children()


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Deliver a real SIGTERM to this process in the midst of the round in which `step` is collected."""
    before = Rollouts.step

    def step_and_signal(self: Rollouts, made: DecoratorLearner, *, updates: int = 0) -> None:
        if made.step < step <= made.step + made.config.num_envs:
            signal.raise_signal(signal.SIGTERM)
        before(self, made, updates=updates)

    monkeypatch.setattr(Rollouts, "step", step_and_signal)
