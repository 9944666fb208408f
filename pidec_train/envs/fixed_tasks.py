"""Our own registrations: ManiSkill's tasks with episodes long enough to imitate, and success tests that hold.

Users keep writing ManiSkill's ids; `own_id` says what is really made. Import this module after `headless.prepare()`.
"""

from __future__ import annotations

import torch
from mani_skill.envs.tasks.tabletop import push_t
from mani_skill.envs.tasks.tabletop.peg_insertion_side import PegInsertionSideEnv
from mani_skill.utils.registration import register_env
from mani_skill.utils.scene_builder.table import TableSceneBuilder

from . import headless

# Env steps per episode where ManiSkill's registration (50, for PegInsertionSide and PullCubeTool 100, for PlugCharger
# 200) cuts off a policy that imitates the planner's demos perfectly. Latest first success seen among demos that were
# replayed to pd_ee_delta_pose: PickCube 84, PullCube 65, PushCube 68, StackCube 115, PlaceSphere 132, LiftPegUpright
# 189, PegInsertionSide 194 (of 54 demos; 200 is what the paper uses), PlugCharger 228, PullCubeTool 265.
EPISODE_STEPS = {
    "PegInsertionSide-v1": 200,
    "PushCube-v1": 100,
    "PullCube-v1": 100,
    "PickCube-v1": 100,
    "StackCube-v1": 200,
    "LiftPegUpright-v1": 250,
    "PlaceSphere-v1": 200,
    "PullCubeTool-v1": 300,
    "PlugCharger-v1": 300,
}

_OWN_IDS = {"PegInsertionSide-v1": "PegInsertionSideFixed-v1"}


@register_env(_OWN_IDS["PegInsertionSide-v1"], max_episode_steps=EPISODE_STEPS["PegInsertionSide-v1"])
class PegInsertionSideFixedEnv(PegInsertionSideEnv):  # type: ignore[misc]
    """PegInsertionSide-v1 whose success test is bounded on both sides along the hole.

    The stock test asks only that the peg's head is not more than 15 mm before the hole's centre, so a peg pushed far
    through, or lying behind the box in line with the hole, counts as inserted. The upper bound of 75 mm is the one of
    the paper's fixed task (github.com/tongzhoumu/policy_decorator, envs/maniskill_fixed.py).
    """

    max_head_depth = 0.075  # metres beyond the hole's centre, along the hole

    def has_peg_inserted(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(success (num_envs,) bool, position of the peg's head in the hole's frame (num_envs, 3) in metres)."""
        inserted, head_at_hole = super().has_peg_inserted()
        return inserted & (head_at_hole[:, 0] <= self.max_head_depth), head_at_hole


if headless.prepare() is headless.Renderer.stand_in:
    # Its own `build` does nothing more than paint the table white, which needs a renderer.
    push_t.WhiteTableSceneBuilder.build = TableSceneBuilder.build


def own_id(env_id: str) -> str:
    """The registration that is made when a user asks for `env_id`."""
    return _OWN_IDS.get(env_id, env_id)


def public_id(registered: str) -> str:
    """The id that users and files know, for one of our registrations; any other id is returned as it is."""
    return next((public for public, own in _OWN_IDS.items() if own == registered), registered)
