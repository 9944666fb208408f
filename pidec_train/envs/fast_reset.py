"""Resets of ManiSkill's environments without what is done again each time or read by nobody.

Tasks whose geometry follows from the seed, such as PegInsertionSide, build a new scene at every reset. Two thirds of
that is the robot: its URDF is parsed, every controller of every mode configured, and a model for inverse kinematics
made, which `fast_panda` has already. ManiSkill has no switch for this, so while one of its resets runs, a few names of
its modules mean something leaner. Random numbers, scene, drives and initial states are ManiSkill's, in its order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any


class LeanReset:
    """Resets one environment, unwrapped and already reset once, in its one control mode."""

    def __init__(self, env: Any) -> None:
        import torch
        from mani_skill.agents.controllers import pd_ee_pose
        from mani_skill.utils.building.urdf_loader import URDFLoader

        self._env = env
        # Nobody reads what a reset would return.
        env.get_info = dict
        env.get_obs = lambda info=None, unflattened=False: None
        mode, configs = env.agent.control_mode, env.agent._controller_configs
        parse, parsed = URDFLoader.parse, {}

        def parse_once(loader: Any, urdf_file: str, *more: Any) -> Any:
            if urdf_file not in parsed:
                parsed[urdf_file] = parse(loader, urdf_file, *more)
            for builder in parsed[urdf_file]["articulation_builders"]:
                builder.set_scene(loader.scene)
            return parsed[urdf_file]

        def end_link_only(urdf_path: str, end_link: str, articulation: Any, joints: Any) -> Any:
            return SimpleNamespace(end_link=articulation.links_map[end_link])

        self._leaner: list[tuple[Any, str, Any]] = [
            (URDFLoader, "parse", parse_once),
            (pd_ee_pose, "Kinematics", end_link_only),
            (type(env.agent), "_controller_configs", property(lambda agent: {mode: dict(configs[mode])})),
            # The CPU's generator alone: torch formats a stack trace for each accelerator that is not there.
            (torch, "manual_seed", lambda seed: torch.default_generator.manual_seed(int(seed))),
        ]

    def __call__(self, seed: int | None, options: dict[str, Any] | None) -> None:
        with contextlib.ExitStack() as stack:
            for owner, name, value in self._leaner:
                stack.enter_context(_meaning(owner, name, value))
            self._env.reset(seed=seed, options=options)


@contextlib.contextmanager
def _meaning(owner: Any, name: str, value: Any) -> Iterator[None]:
    """While this lasts, `owner.name` is `value`."""
    own, before = name in vars(owner), vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
