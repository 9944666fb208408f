"""Learn a residual policy online, on top of a frozen base. Read `run` and `Session.train`; the rest are steps."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .beginning import Beginning, begin
from .checkpoint import base_payload, open_checkpoint
from .checkpoint_folder import CheckpointFolder, sha256_of
from .data.replay_buffer import BufferFile
from .decorator_learner import DecoratorLearner
from .eval_beside import EvaluationBeside
from .evaluate import BASE_SEED
from .keeping import Keeper
from .maniskill2 import match_observations
from .metrics import MetricWriter
from .models.diffusion_policy import DiffusionPolicy
from .placement import pick_device
from .protocol.config import DecoratorConfig
from .protocol.errors import PidecError, RunFailed
from .residual_rows import Rows
from .rollouts import Rollouts
from .stopping import StopRequest

BUFFER_FILE = "replay.bin"


def run(config: DecoratorConfig, *, run_dir: Path, checkpoint_dir: Path, resume: bool, stop: StopRequest) -> int:
    """The `decorator` command: train to the end, or until `stop`. Returns the exit code.

    Args:
        run_dir: attempt folder, for metrics.jsonl.
        checkpoint_dir: where checkpoints lie.
        resume: go on from the last good checkpoint there; without one, begin afresh.

    Raises:
        PidecError: a bad base or config, or a config that does not continue the checkpoint's.
        RunFailed: out of memory, a simulator died, disk full at the end.
        Stopped: a signal came; the state is saved.
    """
    if importlib.util.find_spec("mani_skill") is None:
        raise PidecError("a decorator needs ManiSkill, which is not installed", "See the README on how to install it.")
    device = pick_device(config.device)

    def out_of_memory(error: BaseException) -> RunFailed:
        return RunFailed(
            f"out of memory on {device.type} at batch_size {config.batch_size}, num_envs {config.num_envs}",
            "Try a smaller --buffer-size or --batch-size.",
        )

    with begin(
        config,
        kind="decorator",
        unit="decision step",
        last=config.last_step,
        run_dir=run_dir,
        checkpoint_dir=checkpoint_dir,
        resume=resume,
        out_of_memory=out_of_memory,
    ) as begun:
        _train(config, device, begun, stop)
    return 0


def _train(config: DecoratorConfig, device: torch.device, begun: Beginning, stop: StopRequest) -> None:
    """Load everything, then run a `Session`."""
    payload = begun.state(device, config.precision)
    with contextlib.ExitStack() as stack:
        base, base_part, rollouts = _base_and_simulators(config, device, begun.writer)
        stack.callback(rollouts.close)
        task = rollouts.env.task
        scale = (task.action_high - task.action_low) / 2
        if not np.isfinite(scale).all():
            raise PidecError(
                f"the actions of {task.env_id} with {task.control_mode} have no bounds: nothing scales them"
            )
        learner = DecoratorLearner(config, base, base_part, scale, device)
        if payload:
            begun.went_on(learner.step, learner.restore(payload))
        else:
            begun.folder.parent_sha256 = base_part["sha256"]
        begun.make_room(stop)
        buffer_file = _open_buffer(config, learner, begun.folder, payload, begun.writer)
        if buffer_file:
            stack.callback(buffer_file.close)
        session = Session(config, learner, rollouts, begun, stop, buffer_file)
        stack.callback(session.close)
        session.train()


def _base_and_simulators(
    config: DecoratorConfig, device: torch.device, writer: MetricWriter
) -> tuple[DiffusionPolicy, dict[str, Any], Rollouts]:
    """The base policy as it is decorated, its part of checkpoints, and the simulators that collect.

    Raises:
        PidecError: the base is missing, damaged, of another task, control mode or size.
    """
    checkpoint = open_checkpoint(config.base_policy_ckpt)
    for note in checkpoint.notes:
        writer.event("warning", message=note)
    base = checkpoint.diffusion_policy(checkpoint.weights[0], device)
    if checkpoint.env_id and checkpoint.env_id != config.env_id:
        raise PidecError(
            f"the base policy {config.base_policy_ckpt} was trained on {checkpoint.env_id}, not on {config.env_id}",
            f"Use --env-id {checkpoint.env_id}, or another base.",
        )
    task = checkpoint.on(config.env_id, config.control_mode)
    if not task.control_mode:
        raise PidecError(f"{config.base_policy_ckpt} does not say its control mode", "Give --control-mode.")
    if checkpoint.control_mode and task.control_mode != checkpoint.control_mode:
        raise PidecError(
            f"the base policy was trained with {checkpoint.control_mode}, not with {task.control_mode}: "
            "its actions mean something else there",
            "Leave out --control-mode.",
        )
    if base.obs_horizon + config.act_horizon - 1 > base.pred_horizon:
        raise PidecError(
            f"act_horizon {config.act_horizon} is more than the base policy predicts: with obs_horizon "
            f"{base.obs_horizon} and pred_horizon {base.pred_horizon} it is at most "
            f"{base.pred_horizon - base.obs_horizon + 1}"
        )
    if config.ddim_steps > base.num_diffusion_iters:
        raise PidecError(
            f"ddim_steps {config.ddim_steps} is not possible: the base policy was trained with "
            f"{base.num_diffusion_iters} diffusion steps"
        )
    base.act_horizon = config.act_horizon
    rollouts = Rollouts(config, task.control_mode, base.obs_horizon, writer)
    try:
        fitting, note = match_observations(base, config.env_id, rollouts.env.task.obs_dim, config.pad_obs_to)
        if note:
            writer.event("warning", message=note)
        if config.norm_obs and fitting.obs_norm.kind == "none":
            writer.event("warning", message="norm_obs changes nothing: the base policy does not normalise observations")
        rollouts.env.check_sizes(fitting.obs_dim, fitting.act_dim)
        part = base_payload(checkpoint, fitting, task.control_mode, sha256_of(checkpoint.path))
    except BaseException:
        rollouts.close()
        raise
    return fitting, part, rollouts


def _open_buffer(
    config: DecoratorConfig,
    learner: DecoratorLearner,
    folder: CheckpointFolder,
    payload: dict[str, Any],
    writer: MetricWriter,
) -> BufferFile | None:
    """The replay buffer's file, read back for a run that goes on. Says so where the buffer has to be filled anew."""
    path = folder.path / BUFFER_FILE
    if not (config.save_buffer and payload):
        path.unlink(missing_ok=True)  # an earlier run's, or soon out of date: it could be taken for this run's
    file = BufferFile(path, learner.replay.width) if config.save_buffer else None
    if not payload:
        return file
    held, capacity = payload["replay"], learner.replay.capacity
    in_place = held["capacity"] == capacity or held["added"] <= min(held["capacity"], capacity)
    if file and in_place and file.load(learner.replay, held["added"]):
        return file
    why = "it was not saved (--save-buffer)" if file is None else "its file is missing, cut or of another size"
    wanted = min(config.learning_starts, learner.replay.capacity)
    writer.event(
        "warning",
        learner.step,
        message=f"the replay buffer is empty: {why}; updates go on when it holds {wanted:,} decision steps again, "
        "which the policy collects as it is",
    )
    return file


class Session:
    """One process's share of a run: collect, update, and what is done at the steps where it does more than that.

    Nothing in the loop waits for checkpoints or evaluations: they come and go beside it (`keeper`).
    """

    def __init__(
        self,
        config: DecoratorConfig,
        learner: DecoratorLearner,
        rollouts: Rollouts,
        begun: Beginning,
        stop: StopRequest,
        buffer_file: BufferFile | None,
    ) -> None:
        self.config, self.learner, self.rollouts, self.writer, self.stop = config, learner, rollouts, begun.writer, stop
        self.folder, self.buffer_file, self.fresh = begun.folder, buffer_file, begun.source is None
        self.start, self.last = learner.step, config.last_step
        self.rows = Rows(config, learner, rollouts, begun.writer)
        self.keeper = Keeper(
            learner,
            begun.folder,
            begun.writer,
            stop,
            unit="decision step",
            start=self.start,
            last=self.last,
            evaluation_is_due=self._evaluation_is_due,
            beside=self._evaluation_beside() if config.eval_freq else None,
            source=begun.source,
            waiting=self._waiting,
            advice="Try a smaller --q-lr and --policy-lr.",
        )

    def train(self) -> None:
        """From the learner's step to the last one."""
        self._begin()
        while self.learner.step < self.last or self.learner.owed:
            try:
                self.rollouts.round(self.learner, self.stop)
            except RunFailed:  # a simulator died, the policy diverged: what was learned is kept
                self._keep_what_there_is()
                raise
            at = self.learner.step
            self.writer.advance(at)
            if verdict := self.rows.log_if_due(at):
                self.keeper.refuse_to_go_on(verdict)
            if self._save_is_due(at) and not self.stop.presses:
                self._save(at)
            self.keeper.take_in()
            if self.stop:
                self._save_buffer()
                self.keeper.leave(at)
        self._finish()

    def close(self) -> None:
        self.keeper.close()

    # --- when -----------------------------------------------------------------------------------------------------

    def _crosses(self, at: int, freq: int) -> bool:
        """Whether the round that ended at `at` reached a multiple of `freq`."""
        return bool(freq) and at // freq > (at - self.config.training_freq) // freq

    def _evaluation_is_due(self, at: int) -> bool:
        """Also at 0: the base policy alone."""
        return bool(self.config.eval_freq) and (at in (0, self.last) or self._crosses(at, self.config.eval_freq))

    def _save_is_due(self, at: int) -> bool:
        return at == self.last or self._crosses(at, self.config.save_freq) or self._evaluation_is_due(at)

    # --- learning -------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        for note in self.learner.prepare():
            self.writer.event("warning", self.learner.step, message=note)
        if self.fresh and self.config.eval_freq:
            self.keeper.save(0)  # its evaluation is the base policy's: what all others are compared with
        elif not self.fresh:
            with contextlib.suppress(OSError):  # a full disk: tried again after the next evaluation
                self.folder.link_best()
            self.keeper.evaluate_what_was_cut_off()
        if self.learner.step < self.last or self.learner.owed:
            self.rollouts.begin(self.learner)
        self.rows.restart()

    # --- checkpoints and the end ----------------------------------------------------------------------------------

    def _save(self, at: int) -> None:
        self._save_buffer()
        self.keeper.save(at)

    def _save_buffer(self) -> None:
        """Before the checkpoint that counts on it."""
        if not self.buffer_file:
            return
        try:
            self.buffer_file.save(self.learner.replay)
        except OSError as error:
            message = f"the replay buffer is not saved: {error.strerror}; a resumed run would fill it anew"
            self.writer.event("warning", self.learner.step, message=message)

    def _keep_what_there_is(self) -> None:
        with contextlib.suppress(RunFailed, OSError):
            self._save_buffer()
            self.keeper.save(self.learner.step)
            self.keeper.wait_for_saves()

    def _finish(self) -> None:
        self.rollouts.close()  # the last evaluation may have their cores and memory
        self.keeper.finish()
        self.writer.log(self.last, self.rows.time.shares())
        self.writer.say(
            f"done after {self.learner.step:,} decision steps and {self.learner.updates:,} updates; the last "
            f"checkpoint is {self.keeper.saved}"
        )

    @contextlib.contextmanager
    def _waiting(self, ratio: str, what: str) -> Iterator[None]:
        with self.rows.time.measure(ratio):
            yield

    def _evaluation_beside(self) -> EvaluationBeside:
        config, base = self.config, self.learner.base
        return EvaluationBeside(
            env_id=config.env_id,
            control_mode=self.rollouts.control_mode,
            obs_dim=base.obs_dim,
            act_dim=base.act_dim,
            obs_horizon=base.obs_horizon,
            act_horizon=base.act_horizon,
            num_envs=min(config.num_eval_envs, config.num_eval_episodes),
            num_episodes=config.num_eval_episodes,
            max_episode_steps=config.max_episode_steps,
            base_seed=config.seed + BASE_SEED,
            device=self.learner.device.type,
            env_backend=self.rollouts.backend,
        )
