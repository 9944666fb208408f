"""Environments with a Panda that step almost without torch: ManiSkill's own scene, read and driven through sapien.

ManiSkill builds the task, places everything and seeds it. Its `step` then spends nine tenths of its time in torch
operations on single numbers; here controller, observation and success are numpy, in float32 and in ManiSkill's order of
operations, so that rounding agrees too. What a task shows and when it is solved is in `fast_tasks`, one file each.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ..protocol.errors import PidecError, RunFailed
from .fast_reset import LeanReset
from .fast_tasks import Panda, fast_tasks

CONTROL_MODES = ("pd_ee_delta_pose",)
_FRAME = "root_translation:root_aligned_body_rotation"
_IK_ITERATIONS = 100  # `Kinematics.compute_ik`
_ARM = 7  # joints
_ONE = np.float32(1)
_USE_STOCK = "Use --env-backend stock."

# Hamilton product: term k of the sum is a[k] * b[_FACTOR[k]] * _SIGN[k].
_FACTOR = np.array([[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]])
_SIGN = np.array([[1, 1, 1, 1], [-1, 1, -1, 1], [-1, 1, 1, -1], [-1, -1, 1, 1]], np.float32)


def has_fast(env_id: str, control_mode: str) -> bool:
    """Whether the fast backend knows this task under this controller. Builds nothing, imports no simulator."""
    return env_id in fast_tasks() and control_mode in CONTROL_MODES


def check_fast(env_id: str, control_mode: str) -> None:
    """Raises:
    PidecError: the fast backend does not know this task or this controller; names those it knows.
    """
    if env_id not in fast_tasks():
        known = ", ".join(sorted(fast_tasks()))
        raise PidecError(f'the fast environments do not know "{env_id}"; known: {known}', _USE_STOCK)
    if control_mode not in CONTROL_MODES:
        raise PidecError(
            f'the fast environments do not know the control mode "{control_mode}"; known: {", ".join(CONTROL_MODES)}',
            _USE_STOCK,
        )


class FastPandaEnv(gym.Env[NDArray[Any], NDArray[Any]]):
    """One unbatched environment: what `CPUGymWrapper` around ManiSkill's gives, with reward 0.

    Observations are (obs_dim,) and actions (7,) in [-1, 1], both float32. `terminated` and info["success"] are the
    success of the state; `truncated` is never set. The same seed gives ManiSkill's own start.

    Args:
        stock: ManiSkill's environment, as `make_maniskill_env` makes it. It is ours from now on.

    Raises:
        PidecError: see `check_fast`.
        RunFailed: this ManiSkill's controller is not the one that is written here.
    """

    def __init__(self, stock: gym.Env[Any, Any], env_id: str, control_mode: str) -> None:
        check_fast(env_id, control_mode)
        base: Any = stock.unwrapped
        self._stock = base
        self._task_class = fast_tasks()[env_id]
        self._controller = PandaController(base)
        self._reset = LeanReset(base)
        self.observation_space = base.single_observation_space
        self.action_space = base.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        self._reset(seed, options)
        self._controller.begin(self._stock)
        self._task = self._task_class(self._stock)
        self._robot = self._stock.agent.robot._objs[0]
        self._tcp = self._stock.agent.tcp._objs[0]
        self._physics = self._stock.scene.px.step
        self._sim_steps = range(self._stock._sim_steps_per_control)
        observation, success = self._look()
        return observation, {"success": success}

    def step(self, action: NDArray[Any]) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        self._controller.set_action(action, self._panda)
        for _ in self._sim_steps:
            self._physics()
        observation, success = self._look()
        return observation, 0.0, success, False, {"success": success}

    def close(self) -> None:
        self._stock.close()

    def _look(self) -> tuple[NDArray[Any], bool]:
        tcp = self._tcp.entity_pose
        panda = Panda(self._robot.qpos, self._robot.qvel, tcp.p, tcp.q)
        self._panda = panda
        extra, success = self._task.look(panda)
        return np.concatenate([panda.qpos, panda.qvel, *extra]), success


class PandaController:
    """ManiSkill 3.0.1's `pd_ee_delta_pose`: PDEEPoseController for the arm, PDJointPosMimicController for the fingers.

    A target pose of the gripper = its current one, moved along the base's axes and turned about them; the drives of the
    seven joints are set to what inverse kinematics gives (the arm stays where it is if that finds nothing).
    """

    def __init__(self, env: Any) -> None:
        import sapien

        self._rounding = _TorchRounding()
        arm, gripper = (env.agent.controller.controllers[name] for name in ("arm", "gripper"))
        self._check(arm, gripper)
        self._pose = sapien.Pose
        self._inverse_kinematics = _arm_model(arm.config.urdf_path, [joint.name for joint in arm.joints])
        low, high = (bound.numpy()[:3] for bound in (arm.action_space_low, arm.action_space_high))
        self._middle, self._metres = _middle_and_scale(low, high)
        self._radians = np.float32(arm.config.rot_lower)  # negative: turns are reversed, see maniskill2_control
        low, high = (bound.numpy() for bound in (gripper.action_space_low, gripper.action_space_high))
        self._finger_middle, self._finger_scale = _middle_and_scale(low, high)

    def begin(self, env: Any) -> None:
        """After each reset: the joints of this episode's scene."""
        controllers = env.agent.controller.controllers
        self._arm = [joint._objs[0].set_drive_target for joint in controllers["arm"].joints]
        self._fingers = [joint._objs[0].set_drive_target for joint in controllers["gripper"].joints]
        base = controllers["arm"].root_link._objs[0].entity_pose
        if base.q[1:].any():
            raise RunFailed("the robot's base is turned, which the fast environments do not know", _USE_STOCK)
        # PhysX gives the base, which stands still, a real part of 1 + 1e-7; and rounding shall be ManiSkill's.
        self._scale = base.q[0]
        self._shift = -base.p * self._scale * self._scale

    def set_action(self, action: NDArray[Any], panda: Panda) -> None:
        """Drive towards `action` (7,) float32 from where the robot is."""
        clipped = np.minimum(np.maximum(action, -1), 1)
        # The gripper's pose as seen from the base: `root_link.pose.inv() * pose`, without a rotation in it.
        position = self._shift + panda.tcp_p * self._scale * self._scale
        attitude = panda.tcp_q * self._scale
        target = self._pose(
            position + (self._middle + self._metres * clipped[:3]), _product(self._turn(action[3:6]), attitude)
        )
        joints, found = self._inverse_kinematics(target, panda.qpos[:_ARM])
        for drive, angle in zip(self._arm, joints.tolist() if found else panda.qpos.tolist(), strict=False):
            drive(angle)
        width = (self._finger_middle + self._finger_scale * clipped[6:]).item()
        for drive in self._fingers:
            drive(width)

    def _turn(self, action: NDArray[Any]) -> NDArray[Any]:
        """Euler angles (3,), clipped to the unit ball, to the quaternion (4,) of the rotation Rx·Ry·Rz.

        By way of the matrix, as ManiSkill does it. The angles are small: the real part is the largest component.
        """
        x, y, z = action.tolist()
        if x * x + y * y + z * z > 0.999:
            norm = self._rounding.norm(action)
            if norm > 1:
                action = action * (_ONE / norm)
        (cx, cy, cz), (sx, sy, sz) = self._rounding.cos_and_sin(action * self._radians)
        xy, yx = sx * sy, cx * sy  # of the matrix Rx·Ry
        real = self._rounding.root(_ONE + cy * cz + (cx * cz - xy * sz) + cx * cy)
        # Four times each component by the real part; the imaginary ones are differences across the diagonal.
        parts = (real * real, sx * cz + yx * sz + sx * cy, sy - (sx * sz - yx * cz), xy * cz + cx * sz + cy * sz)
        quaternion: NDArray[Any] = np.array(parts, np.float32) / (real + real)
        return quaternion

    @staticmethod
    def _check(arm: Any, gripper: Any) -> None:
        config = arm.config
        as_written = (
            config.frame == _FRAME
            and (config.use_delta, config.use_target, config.interpolate, config.normalize_action)
            == (True, False, False, True)
            and (gripper.config.use_delta, gripper.config.interpolate, gripper.config.normalize_action)
            == (False, False, True)
            and len(arm.joints) == _ARM
            and (gripper._multiplier == 1).all()
            and (gripper._offset == 0).all()
        )
        if not as_written:
            raise RunFailed(
                "this ManiSkill's pd_ee_delta_pose is not the one that the fast environments are written for",
                _USE_STOCK,
            )


class _TorchRounding:
    """Three functions of float32 as torch computes them: the only ones whose last bit is not numpy's.

    Its vector library rounds them otherwise, and contact would make a different motion out of that bit. Buffers that
    both see spare the conversions, which would cost more than the functions.
    """

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._in, self._cos, self._sin, self._one = (torch.zeros(size) for size in (3, 3, 3, 1))
        self._in_view, self._one_view = self._in.numpy(), self._one.numpy()
        self._views = self._cos.numpy(), self._sin.numpy()

    def norm(self, vector: NDArray[Any]) -> Any:
        """Of (3,)."""
        self._in_view[:] = vector
        return self._torch.linalg.vector_norm(self._in).numpy()

    def cos_and_sin(self, angles: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Of (3,) each; valid until the next call."""
        self._in_view[:] = angles
        self._torch.cos(self._in, out=self._cos)
        self._torch.sin(self._in, out=self._sin)
        return self._views

    def root(self, square: np.float32) -> np.float32:
        self._one_view[0] = square
        self._one.sqrt_()
        root: np.float32 = self._one_view[0]
        return root


def _product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Of two quaternions (4,), with a real part of 0 or more."""
    product: NDArray[Any] = np.add.reduce(a[:, None] * _SIGN * b.take(_FACTOR))
    return -product if product[0] < 0 else product


def _middle_and_scale(low: NDArray[Any], high: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of the interval that actions in [-1, 1] are mapped to."""
    half = np.float32(0.5)
    return half * (high + low), half * (high - low)


def _arm_model(urdf_path: str, joints: list[str]) -> Any:
    """Inverse kinematics of the chain of `joints`: (target pose in the base's frame, (7,) start) to ((7,), found).

    Sapien's own, as `Kinematics` sets it up, but with the fingers fixed: they lie behind the end of the chain, and a
    model without them gives the same numbers in four fifths of the time.
    """
    from sapien.wrapper.pinocchio_model import PinocchioModel

    urdf = ElementTree.parse(urdf_path).getroot()
    for joint in urdf.iterfind("joint"):
        if joint.get("name") not in joints:
            joint.set("type", "fixed")
    model = PinocchioModel(ElementTree.tostring(urdf, encoding="unicode"), [0, 0, -9.81])
    model.set_joint_order(joints)
    model.set_link_order(["panda_hand_tcp"])

    def inverse_kinematics(target: Any, start: NDArray[Any]) -> tuple[NDArray[Any], bool]:
        joints, found, _ = model.compute_inverse_kinematics(
            0, target, initial_qpos=start, max_iterations=_IK_ITERATIONS
        )
        return joints, found

    return inverse_kinematics
