"""What ManiSkill2 does otherwise than ManiSkill3, for policies that were trained there. No simulator is needed here.

Two things differ for the tasks that both have. ManiSkill2's state observation holds the pose of the robot's base, which
never moves; ManiSkill3 leaves it out. And "pd_ee_delta_pose" means other motions (see `envs/maniskill2_control.py`).
Read off ManiSkill2 0.5.3 (`mani_skill2/envs`, `mani_skill2/agents/configs/panda`), the release that upstream pins.
"""

from __future__ import annotations

from dataclasses import dataclass

from .models.diffusion_policy import DiffusionPolicy
from .models.padding import ConstantInputs
from .protocol.errors import PidecError

# ManiSkill2's ids, upstream's own registrations (PegInsertionSide-v2) among them.
MANISKILL3_IDS = {
    "PegInsertionSide-v0": "PegInsertionSide-v1",
    "PegInsertionSide-v2": "PegInsertionSide-v1",
    "StackCube-v0": "StackCube-v1",
    "PlugCharger-v0": "PlugCharger-v1",
    "PickCube-v0": "PickCube-v1",
    "PickSingleYCB-v0": "PickSingleYCB-v1",
    "AssemblingKits-v0": "AssemblingKits-v1",
}

_SUFFIX = "_ms2"
# Controllers that keep their name and changed their meaning; those of the joints did not.
_CHANGED_MODES = ("pd_ee_delta_pos", "pd_ee_delta_pose", "pd_ee_target_delta_pos", "pd_ee_target_delta_pose")
MANISKILL2_MODES = {mode: mode + _SUFFIX for mode in _CHANGED_MODES}
_MODE_OF_ACT_DIM = {4: "pd_ee_delta_pos", 7: "pd_ee_delta_pose"}  # with a gripper; eight may be one of several

UPSTREAM_TASK, UPSTREAM_ACT_DIM = "PegInsertionSide-v1", 7  # what its program trains on when nobody says otherwise
TURN_FAUCET_DIM = 43  # ManiSkill2's TurnFaucet-v2, by chance as many numbers as ManiSkill3's PegInsertionSide-v1


@dataclass(frozen=True)
class Layout:
    """How a task's state observation differs.

    Attributes:
        robot: ManiSkill3's name of the robot that the values hold for.
        obs_dim: size of ManiSkill3's observation.
        missing: what ManiSkill2's has besides.
    """

    robot: str
    obs_dim: int
    missing: ConstantInputs

    @property
    def maniskill2_dim(self) -> int:
        return self.obs_dim + len(self.missing)


# Behind 9 joint positions and 9 velocities: x, y, z in metres, then the quaternion (w first). All else that these tasks
# observe is the same, in the same order. Left out, since more than this pose differs: PickCube (51 numbers, here 42),
# PickSingleYCB and AssemblingKits (other numbers in between), TurnFaucet (its robot stands elsewhere).
_PANDA_BASE = ConstantInputs(18, (-0.615, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0))
LAYOUTS = {
    "PegInsertionSide-v1": Layout("panda_wristcam", 43, _PANDA_BASE),
    "StackCube-v1": Layout("panda_wristcam", 48, _PANDA_BASE),
    "PlugCharger-v1": Layout("panda_wristcam", 46, _PANDA_BASE),
}


@dataclass(frozen=True)
class Task:
    """The task of a policy, in ManiSkill3's names (None: nobody knows). `notes` say what was translated or assumed."""

    env_id: str | None
    control_mode: str | None
    notes: tuple[str, ...] = ()


def task_of(env_id: str | None, control_mode: str | None, obs_dim: int, act_dim: int) -> Task:
    """The task of one of upstream's checkpoints, from what its args.json says (None: nothing) and from its sizes."""
    notes = []
    if env_id is None:
        env_id, note = _assumed_task(obs_dim, act_dim)
        notes += [note] if note else []
    old = env_id in MANISKILL3_IDS
    if env_id is not None and old:
        notes.append(f"{env_id} is ManiSkill2's: taken as {MANISKILL3_IDS[env_id]}")
        env_id = MANISKILL3_IDS[env_id]
    old = old or is_maniskill2(env_id, obs_dim)
    if env_id is not None and control_mode is None and act_dim in _MODE_OF_ACT_DIM:
        control_mode = _MODE_OF_ACT_DIM[act_dim]
        notes.append(f"control mode not told: with {act_dim} action numbers assumed to be {control_mode}")
    if old and control_mode in MANISKILL2_MODES:
        notes.append(
            f"trained on ManiSkill2, where {control_mode} moves along the gripper's own axes: the control mode "
            f"{MANISKILL2_MODES[control_mode]} does so here (--control-mode {control_mode} for ManiSkill3's own)"
        )
        control_mode = MANISKILL2_MODES[control_mode]
    return Task(env_id, control_mode, tuple(notes))


def _assumed_task(obs_dim: int, act_dim: int) -> tuple[str | None, str]:
    layout = LAYOUTS[UPSTREAM_TASK]
    if act_dim != UPSTREAM_ACT_DIM or obs_dim not in (layout.obs_dim, layout.maniskill2_dim):
        return None, ""
    simulator = "ManiSkill2's" if obs_dim == layout.maniskill2_dim else "ManiSkill3's"
    note = (
        f"task not told: {obs_dim} observation and {act_dim} action numbers are those of {simulator} PegInsertionSide"
    )
    if obs_dim == TURN_FAUCET_DIM:
        note += " (and of ManiSkill2's TurnFaucet-v2, which ManiSkill3 does not have like this)"
    return UPSTREAM_TASK, note


def is_maniskill2(env_id: str | None, obs_dim: int) -> bool:
    """Whether a policy for ManiSkill3's `env_id` takes as many numbers as ManiSkill2's task of that name gives."""
    layout = LAYOUTS.get(env_id or "")
    return layout is not None and layout.maniskill2_dim == obs_dim


def match_observations(
    policy: DiffusionPolicy, env_id: str, obs_dim: int, pad_obs_to: str = "auto"
) -> tuple[DiffusionPolicy, str]:
    """`policy` for observations as `env_id` gives them, and a sentence if something is inserted ("" if not).

    Args:
        obs_dim: size of the task's observation; ask the simulator.
        pad_obs_to: "auto" (insert what is known to be missing), "off", or the size that the policy must take, as text.

    Raises:
        PidecError: the sizes differ, and what lies between them is not known, or nothing is to be inserted.
    """
    takes = policy.obs_dim
    if pad_obs_to not in ("auto", "off") and int(pad_obs_to) != takes:
        raise PidecError(f"pad_obs_to {pad_obs_to} is not what the policy takes: its obs_dim is {takes}")
    if takes == obs_dim:
        return policy, ""
    layout = LAYOUTS.get(env_id)
    if layout is None or (layout.obs_dim, layout.maniskill2_dim) != (obs_dim, takes):
        raise PidecError(*mismatch(env_id, takes, obs_dim))
    if pad_obs_to == "off":
        raise PidecError(
            f"the policy has obs_dim {takes}, but {env_id} has obs_dim {obs_dim}: it lacks ManiSkill2's base_pose",
            "Give --pad-obs-to auto.",
        )
    return policy.with_constant_inputs(layout.missing), inserted(layout.missing, takes, obs_dim)


def inserted(missing: ConstantInputs, takes: int, obs_dim: int) -> str:
    """What is done to observations, as a sentence."""
    values = ", ".join(f"{value:g}" for value in missing.values)
    return (
        f"observations of {obs_dim} numbers become {takes}: base_pose [{values}] is inserted at index {missing.index}"
    )


def mismatch(env_id: str, takes: int, obs_dim: int) -> tuple[str, str]:
    """Message and hint where sizes differ and nobody knows why."""
    known = ", ".join(f"{name} {layout.maniskill2_dim} to {layout.obs_dim}" for name, layout in LAYOUTS.items())
    return (
        f"the policy has obs_dim {takes}, but {env_id} has obs_dim {obs_dim}, and what lies between them is not known",
        f"Is it the task it was trained on (--env-id)? Known from ManiSkill2: {known}. "
        "Anything else would be guesswork: train on demos of this simulator.",
    )
