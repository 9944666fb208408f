"""The tasks that can be stepped without torch: one file each (docs/new_task.md), found by being here."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from .base import FastTask, Panda

__all__ = ["FastTask", "Panda", "fast_tasks"]


@functools.cache
def fast_tasks() -> dict[str, type[FastTask]]:
    """The tasks of this folder by ManiSkill's id. Imports neither torch nor the simulator."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return {task.env_id: task for task in FastTask.__subclasses__()}
