"""State-mode simulation without a renderer: what most cloud GPU containers are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from pidec_train.envs import headless

DATA = Path(__file__).parents[1] / "data"


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.sim
def test_tasks_are_built_without_a_render_device() -> None:
    """Without it nobody trains or evaluates in a container that has no Vulkan driver."""
    code = """
from pidec_train.envs import headless
assert headless.prepare() is headless.Renderer.stand_in
assert headless.prepare() is headless.Renderer.stand_in
from pidec_train.envs.make import make_env
import sapien.render, sapien.wrapper.urdf_loader
assert sapien.render.RenderMaterial is sapien.wrapper.urdf_loader.RenderMaterial is headless.InertRenderMaterial
# Plain materials; materials changed by setters; materials read back by the task.
for task in "PegInsertionSide-v1", "PlugCharger-v1", "PushT-v1":
    env = make_env(task, control_mode="pd_joint_delta_pos")
    observation, _ = env.reset(seed=0)
    print(task, observation.shape[-1])
"""
    done = python(code, PIDEC_RENDER_DEVICE="no")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["PegInsertionSide-v1", "43", "PlugCharger-v1", "46", "PushT-v1", "31"]
    assert done.stderr == ""  # warnings about a missing libvulkan would only worry people


@pytest.mark.sim
def test_nothing_is_stubbed_where_a_device_exists() -> None:
    """Else people with a working renderer would lose their pictures."""
    code = """
import sapien.render
real = sapien.render.RenderMaterial
from pidec_train.envs import headless
assert headless.prepare() is headless.Renderer.device
assert sapien.render.RenderMaterial is real
"""
    done = python(code, PIDEC_RENDER_DEVICE="yes")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("behaviour", ["import os; os.abort()", "import time; time.sleep(60)", "raise RuntimeError"])
def test_a_driver_that_crashes_or_hangs_counts_as_no_device(behaviour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a broken Vulkan driver would take the trainer down, or hang it at the start for ever."""
    monkeypatch.setenv(headless.RENDER_DEVICE_ENV, "")
    monkeypatch.setattr(headless, "_PROBE", behaviour)
    monkeypatch.setattr(headless, "_PROBE_SECONDS", 1.0)
    assert headless.has_render_device() is False
    assert os.environ[headless.RENDER_DEVICE_ENV] == "no"  # what workers inherit


def test_a_working_driver_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(headless.RENDER_DEVICE_ENV, "")
    monkeypatch.setattr(headless, "_PROBE", "pass")
    assert headless.has_render_device() is True


def test_the_stand_in_takes_what_the_real_material_takes() -> None:
    material = headless.InertRenderMaterial(base_color=[1, 0, 0, 1], roughness=0.5)
    material.set_metallic(0.3)
    material.diffuse_texture = None
    assert material.get_metallic() == material.metallic == 0.3
    assert material.base_color == [1, 0, 0, 1]
    assert material.emission is None


@pytest.mark.sim
def test_maniskills_own_replay_reads_our_demos(tmp_path: Path) -> None:
    """People cut, render and convert demos with ManiSkill's tools: a file that those cannot read is half a file."""
    import pidec_train.assets

    bundled = Path(pidec_train.assets.__file__).parent / "PushCube-v1.h5"
    for suffix in (".h5", ".json"):
        shutil.copy(bundled.with_suffix(suffix), tmp_path / f"demos{suffix}")
    words = "--traj-path demos.h5 -o state -c pd_ee_delta_pose --save-traj --count 1"
    done = subprocess.run(
        [sys.executable, "-m", "pidec_train.envs.headless", "mani_skill.trajectory.replay_trajectory", *words.split()],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    replayed = tmp_path / "demos.state.pd_ee_delta_pose.physx_cpu.h5"
    with h5py.File(bundled) as ours, h5py.File(replayed) as theirs:
        length = len(ours["traj_0/actions"])
        assert theirs["traj_0/actions"].shape == (length, 7)
        assert theirs["traj_0/obs"].shape == ours["traj_0/obs"].shape == (length + 1, 35)
        assert theirs["traj_0/success"][-1]


def test_a_file_of_maniskills_command_line_has_the_layout_of_ours() -> None:
    """The loader is written for one layout: ManiSkill's own files and ours must both have it."""
    import pidec_train.assets

    ours = Path(pidec_train.assets.__file__).parent / "PushCube-v1.h5"
    theirs = DATA / "maniskill_cli_pushcube.h5"

    def layout(path: Path) -> dict[str, object]:
        found: dict[str, object] = {}
        with h5py.File(path) as file:
            file["traj_0"].visititems(
                lambda name, item: (
                    found.update({name: (item.dtype, item.shape[1:])}) if hasattr(item, "dtype") else None
                )
            )
        return found

    assert layout(ours) == layout(theirs)
    for path in (ours, theirs):
        content = json.loads(path.with_suffix(".json").read_text())
        assert content["env_info"]["env_id"] == "PushCube-v1"
        with h5py.File(path) as file:
            assert list(file) == sorted(f"traj_{i}" for i in range(len(content["episodes"])))
            for episode in content["episodes"]:
                assert episode["control_mode"] == "pd_ee_delta_pose" and episode["success"] is True
                assert len(file[f"traj_{episode['episode_id']}/actions"]) == episode["elapsed_steps"]
