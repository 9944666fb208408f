"""State-mode simulation on a machine without a renderer.

ManiSkill's tasks and sapien's URDF loader construct `sapien.render.RenderMaterial` even when nothing will ever be
drawn, and that constructor fails where no Vulkan device is found ("failed to find a rendering device": the
commonest failure of ManiSkill in cloud GPU containers). `prepare` puts an inert class in its place, but only there.

`python -m pidec_train.envs.headless MODULE ARGUMENTS…` runs one of ManiSkill's own command lines the same way.
"""

from __future__ import annotations

import logging
import os
import runpy
import subprocess
import sys
import types
import warnings
from enum import Enum
from typing import Any

RENDER_DEVICE_ENV = "PIDEC_RENDER_DEVICE"  # "yes" or "no": the answer for this process and its children
_PROBE = "import sapien; sapien.render.RenderMaterial()"
_PROBE_SECONDS = 120  # a cold import of sapien from a network disk takes half a minute

_outcome: Renderer | None = None


class Renderer(str, Enum):
    """What `prepare` found, and so what it did."""

    device = "device"  # a render device exists: nothing was touched
    stand_in = "stand-in"  # none: RenderMaterial is inert in this process


class InertRenderMaterial:
    """Takes what `sapien.render.RenderMaterial` takes, keeps it, and draws nothing."""

    def __init__(self, **properties: Any) -> None:
        self.__dict__.update(properties)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("set_"):
            return lambda value: setattr(self, name[len("set_") :], value)
        if name.startswith("get_"):
            return lambda: getattr(self, name[len("get_") :])
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def prepare() -> Renderer:
    """Make state-mode environments constructible in this process. Call it before any environment is made.

    Also quiets what ManiSkill and sapien say at import and construction and no user of ours can act on. The second
    call does nothing and says the same.
    """
    global _outcome
    if _outcome is None:
        _quiet()
        if has_render_device():
            _outcome = Renderer.device
        else:
            _install_stand_in()
            _outcome = Renderer.stand_in
    return _outcome


def has_render_device() -> bool:
    """Whether sapien can open a Vulkan device.

    Asked in a process of its own, because a broken driver may crash or hang instead of answering, and once for the
    whole process tree (the answer is left in $PIDEC_RENDER_DEVICE, where a user can also give it).
    """
    known = os.environ.get(RENDER_DEVICE_ENV, "").lower()
    if known not in ("yes", "no"):
        try:
            probe = subprocess.run(
                [sys.executable, "-c", _PROBE],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_PROBE_SECONDS,
            )
            known = "yes" if probe.returncode == 0 else "no"
        except (subprocess.TimeoutExpired, OSError):
            known = "no"
        os.environ[RENDER_DEVICE_ENV] = known
    return known == "yes"


def _install_stand_in() -> None:
    """Replace the class wherever a module of sapien or ManiSkill holds it; several import it by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "Failed to find system libvulkan": we know
        import sapien.render
        import sapien.wrapper.urdf_loader

    real = sapien.render.RenderMaterial
    for name, module in list(sys.modules.items()):
        if not name.startswith(("sapien", "mani_skill")) or not isinstance(module, types.ModuleType):
            continue
        for attribute, value in list(vars(module).items()):
            if value is real:
                setattr(module, attribute, InertRenderMaterial)


def _quiet() -> None:
    """Notes about a missing libvulkan, initial poses and float precision: true, and of no use to our users."""
    warnings.filterwarnings("ignore", message="Failed to find system libvulkan")
    warnings.filterwarnings("ignore", message=".*pkg_resources.*")
    warnings.filterwarnings("ignore", message=".*precision lowered by casting.*")
    # The name really ends in a blank; a filter, because importing mani_skill sets the level.
    logging.getLogger("mani_skill ").addFilter(lambda record: record.levelno >= logging.ERROR)
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # ManiSkill's recorder imports git, which may not be there


def run_module(arguments: list[str]) -> None:
    """Run `python -m <arguments>` after `prepare`, and without asking for a renderer where there is none.

    ManiSkill's command lines have no option for the latter.
    """
    if prepare() is Renderer.stand_in:
        from mani_skill.envs import sapien_env

        parse = sapien_env.parse_sim_and_render_backend
        sapien_env.parse_sim_and_render_backend = lambda sim_backend, render_backend: parse(sim_backend, "none")
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m pidec_train.envs.headless MODULE [ARGUMENTS …]")
    run_module(sys.argv[1:])
