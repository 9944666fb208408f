"""Train a Diffusion Policy on demonstrations. Read `run` and `Session.train`; the rest are their steps."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import torch

from .algos.diffusion_step import BLOCK
from .beginning import Beginning, begin
from .data.demos import load_demos
from .diffusion_learner import DiffusionLearner
from .eval_beside import EvaluationBeside
from .evaluate import BASE_SEED
from .keeping import Keeper
from .logwindow import LogWindow, Row, is_log_step
from .loss_health import LossHealth
from .placement import pick_device
from .protocol.config import DiffusionConfig
from .protocol.errors import RunFailed
from .sharing import SharingMeter
from .stopping import StopRequest


def run(config: DiffusionConfig, *, run_dir: Path, checkpoint_dir: Path, resume: bool, stop: StopRequest) -> int:
    """The `diffusion` command: train to the end, or until `stop`. Returns the exit code.

    Args:
        run_dir: attempt folder, for metrics.jsonl.
        checkpoint_dir: where checkpoints lie.
        resume: go on from the last good checkpoint there; without one, begin afresh.

    Raises:
        PidecError: bad demos or config, or a config that does not continue the checkpoint's.
        RunFailed: out of memory, loss not finite, disk full at the end.
        Stopped: a signal came; the state is saved.
    """
    device = pick_device(config.device)

    def out_of_memory(error: BaseException) -> RunFailed:
        where = "CUDA " if device.type == "cuda" or isinstance(error, torch.OutOfMemoryError) else ""
        smaller = max(1, config.batch_size // 2)
        return RunFailed(f"{where}out of memory at batch_size {config.batch_size}", f"Try --batch-size {smaller}.")

    with begin(
        config,
        kind="diffusion",
        unit="iteration",
        last=config.last_iteration,
        run_dir=run_dir,
        checkpoint_dir=checkpoint_dir,
        resume=resume,
        out_of_memory=out_of_memory,
    ) as begun:
        _train(config, device, begun, stop)
    return 0


def _train(config: DiffusionConfig, device: torch.device, begun: Beginning, stop: StopRequest) -> None:
    """Load everything, then run a `Session`."""
    payload = begun.state(device, config.precision)
    learner = DiffusionLearner(config, load_demos(config.demo_path, config.num_demo_traj), device)
    if payload:
        begun.went_on(learner.iteration, learner.restore(payload))
    begun.make_room(stop)
    session = Session(config, learner, begun, stop)
    try:
        for advice in learner.advice():
            begun.writer.event("warning", learner.iteration, message=advice)
        session.train()
    finally:
        session.close()


class Session:
    """One process's share of a run: the loop, and what it does at the steps where it does more than learn.

    Nothing in the loop waits: checkpoints and evaluations come and go beside it (`keeper`), losses are read when they
    have come from the device (`rows`).
    """

    def __init__(
        self,
        config: DiffusionConfig,
        learner: DiffusionLearner,
        begun: Beginning,
        stop: StopRequest,
    ) -> None:
        self.config, self.learner, self.folder, self.writer, self.stop = (
            config,
            learner,
            begun.folder,
            begun.writer,
            stop,
        )
        self.start, self.last = learner.iteration, config.last_iteration
        self.resumes = begun.source is not None
        self.window, self.rows, self.sharing = LogWindow(learner.device), deque[Row](), SharingMeter()
        self.health = LossHealth(self.last)
        self.keeper = Keeper(
            learner,
            begun.folder,
            begun.writer,
            stop,
            unit="iteration",
            start=self.start,
            last=self.last,
            evaluation_is_due=self._evaluation_is_due,
            beside=_evaluation_beside(config, learner) if config.eval_freq else None,
            source=begun.source,
            waiting=self._waiting,
            advice="Try a smaller --lr or normalised data.",
        )

    def train(self) -> None:
        """From the learner's iteration to the last one."""
        if self.resumes:
            with contextlib.suppress(OSError):  # a full disk: tried again after the next evaluation
                self.folder.link_best()
            self.keeper.evaluate_what_was_cut_off()
        if self.learner.iteration < self.last:
            self._prepare()
        while self.learner.iteration < self.last:
            self._advance()
            if self._row_is_due(self.learner.iteration):
                self._ask_for_row()
            if self._save_is_due(self.learner.iteration):
                self.keeper.save(self.learner.iteration)
            self._take_in()
            if self.stop:
                self.keeper.leave(self.learner.iteration)
        self._finish()

    def close(self) -> None:
        self.keeper.close()

    # --- when -----------------------------------------------------------------------------------------------------

    def _row_is_due(self, at: int) -> bool:
        return is_log_step(at, self.start, self.config.log_freq) or at == self.last

    def _evaluation_is_due(self, at: int) -> bool:
        freq = self.config.eval_freq
        return bool(freq) and (at % freq == 0 or at == self.last)

    def _save_is_due(self, at: int) -> bool:
        freq = self.config.save_freq
        return at == self.last or bool(freq and at % freq == 0) or self._evaluation_is_due(at)

    def _room(self) -> int:
        """How many iterations may run before there is more to do than learning; at most a block."""
        at = self.learner.iteration
        for ahead in range(1, BLOCK):
            if self._row_is_due(at + ahead) or self._save_is_due(at + ahead):
                return ahead
        return BLOCK

    # --- learning -------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        stepper = self.learner.stepper
        if self.learner.step.compiled or stepper.graph:
            self.writer.say("preparing the training step for this GPU" if stepper.graph else "compiling the step")
        stepper.prepare()
        for note in stepper.notes:
            self.writer.event("warning", self.learner.iteration, message=note)
        self.window.restart()

    def _advance(self) -> None:
        with self.sharing.measure(self.keeper.evaluates):
            losses = self.learner.advance(self._room())
        self.sharing.count(len(losses))
        self.window.add(losses, self.learner.stepper.data_seconds)
        self.writer.advance(self.learner.iteration)

    def _ask_for_row(self) -> None:
        learner = self.learner
        self.rows.append(self.window.row(learner.iteration, learner.current_lr, learner.step.skipped))
        self.window.restart()

    def _take_in(self) -> None:
        """Whatever has come meanwhile: losses, checkpoints, evaluations."""
        while self.rows and self.rows[0].is_there():
            self._log(self.rows.popleft())
        self.keeper.take_in()

    def _log(self, row: Row) -> None:
        metrics, warnings = self.health.take(row)
        self.writer.log(row.iteration, metrics)
        for message in warnings:
            self.writer.event("warning", row.iteration, message=message)
        if self.health.verdict:
            self.keeper.refuse_to_go_on(self.health.verdict)

    @contextlib.contextmanager
    def _waiting(self, ratio: str, what: str) -> Iterator[None]:
        with self.window.waiting(ratio), self.sharing.waiting(what):
            yield

    def _finish(self) -> None:
        """Everything is learned: wait for the last row, the last checkpoint and its evaluation."""
        while self.rows:
            self._log(self.rows.popleft())
        self.keeper.finish()
        self.writer.log(self.last, self.window.waits())
        for line in self.sharing.lines():
            self.writer.say(line)
        self.writer.say(f"done after {self.learner.iteration:,} iterations; the last checkpoint is {self.keeper.saved}")


def _evaluation_beside(config: DiffusionConfig, learner: DiffusionLearner) -> EvaluationBeside:
    policy = learner.policy
    return EvaluationBeside(
        env_id=config.env_id,
        control_mode=config.control_mode,
        obs_dim=policy.obs_dim,
        act_dim=policy.act_dim,
        obs_horizon=policy.obs_horizon,
        act_horizon=policy.act_horizon,
        num_envs=min(config.num_eval_envs, config.num_eval_episodes),
        num_episodes=config.num_eval_episodes,
        max_episode_steps=config.max_episode_steps,
        base_seed=config.seed + BASE_SEED,
        device=learner.device.type,
    )
