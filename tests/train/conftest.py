"""Small demos, small nets, one thread."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tests.train.running import Run


@pytest.fixture(autouse=True)
def _quiet_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One torch thread; whatever `main` does to signals and umask is undone."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # `set_threads` then leaves the count alone
    torch.set_num_threads(1)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    umask = os.umask(0o022)
    os.umask(umask)
    yield
    os.umask(umask)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def make_demos(tmp_path: Path) -> Callable[..., Path]:
    """Writes demos as ManiSkill does: `make_demos(lengths=(9, 20), …)` -> path of the .h5."""

    def make(
        name: str = "demos.h5",
        *,
        lengths: tuple[int, ...] = (23, 17, 30),
        obs_dim: int = 5,
        act_dim: int = 7,
        env_id: str = "PushCube-v1",
        control_mode: str = "pd_ee_delta_pose",
        mode_in_env_kwargs: bool = True,
        seed: int = 0,
    ) -> Path:
        rng = np.random.default_rng(seed)
        path = tmp_path / name
        with h5py.File(path, "w") as h5:
            for number, length in enumerate(lengths):
                group = h5.create_group(f"traj_{number}")
                group["obs"] = rng.normal(size=(length + 1, obs_dim)).astype(np.float32)
                group["actions"] = rng.uniform(-0.9, 0.9, size=(length, act_dim)).astype(np.float32)
        episode = {"episode_id": 0, "control_mode": control_mode}
        kwargs = {"obs_mode": "state"} | ({"control_mode": control_mode} if mode_in_env_kwargs else {})
        info = {"env_info": {"env_id": env_id, "env_kwargs": kwargs}, "episodes": [episode] * len(lengths)}
        path.with_suffix(".json").write_text(json.dumps(info))
        return path

    return make


@pytest.fixture
def run(tmp_path: Path, make_demos: Callable[..., Path]) -> Run:
    return Run(tmp_path, make_demos())
