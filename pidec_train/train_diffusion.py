"""Train a Diffusion Policy on demonstrations. Read `run` and `Session.train`; the rest are their steps."""

from __future__ import annotations

from pathlib import Path

import torch

from .checkpoint import read_payload
from .checkpoint_folder import CheckpointFolder, success_rate
from .data.demos import load_demos
from .diffusion_learner import DiffusionLearner
from .evaluate import BASE_SEED, SimulatorsInBackground, run_episodes
from .logwindow import LogWindow, is_log_step
from .metrics import MetricWriter
from .placement import pick_device, set_threads
from .protocol.config import DiffusionConfig
from .protocol.errors import RunFailed, Stopped
from .protocol.rundir import read_checkpoint_info, step_of
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
    folder = CheckpointFolder(checkpoint_dir)
    source, notes = _find_source(folder, resume)
    resumed_step = step_of(source) if source else None
    with MetricWriter(
        run_dir,
        kind="diffusion",
        step_name="iteration",
        total_steps=config.total_iters,
        start_step=resumed_step or 0,
        resumed_step=resumed_step,
        config=config.model_dump(mode="json"),
        track=config.track,
    ) as writer:
        for note in notes:
            writer.event("warning", resumed_step, message=note)
        try:
            _train(config, device, folder, source, writer, stop)
        except torch.OutOfMemoryError:
            smaller = max(1, config.batch_size // 2)
            raise RunFailed(
                f"CUDA out of memory at batch_size {config.batch_size}", f"Try --batch-size {smaller}."
            ) from None
    return 0


def _train(
    config: DiffusionConfig,
    device: torch.device,
    folder: CheckpointFolder,
    source: Path | None,
    writer: MetricWriter,
    stop: StopRequest,
) -> None:
    """Load everything, then run a `Session`."""
    payload = read_payload(source) if source else {}
    # Another number of threads adds in another order: it is part of the state, and comes before the first sum.
    set_threads(payload.get("threads") if device.type == "cpu" else None)
    learner = DiffusionLearner(config, load_demos(config.demo_path, config.num_demo_traj), device)
    if source:
        for note in learner.restore(payload):
            writer.event("warning", learner.iteration, message=note)
        writer.say(f"going on from {source} at iteration {learner.iteration:,}")
    stop.check("nothing was done yet")
    if source is None and (aside := folder.move_aside()):
        writer.event("warning", message=f"checkpoints of an earlier run were moved to {aside}")
    session = Session(config, learner, folder, writer, stop, source)
    try:
        for advice in session.advice():
            writer.event("warning", learner.iteration, message=advice)
        session.train()
    finally:
        session.close()


def _find_source(folder: CheckpointFolder, resume: bool) -> tuple[Path | None, list[str]]:
    """The checkpoint to go on from, and what a user should know about that choice."""
    if not resume:
        return None, []
    source, complaints = folder.latest_good()
    if source is None and complaints:
        raise RunFailed(
            f"no checkpoint in {folder.path} can be resumed: {'; '.join(complaints)}",
            "Run without --resume to begin afresh.",
        )
    if source is None:
        return None, [f"nothing to resume in {folder.path}: beginning afresh"]
    info = read_checkpoint_info(source)
    folder.parent_sha256 = info.sha256 if info else None
    return source, complaints


class Session:
    """One process's share of a run: the loop, and what it does at the steps where it does more than learn."""

    def __init__(
        self,
        config: DiffusionConfig,
        learner: DiffusionLearner,
        folder: CheckpointFolder,
        writer: MetricWriter,
        stop: StopRequest,
        source: Path | None,
    ) -> None:
        self.config, self.learner, self.folder, self.writer, self.stop = config, learner, folder, writer, stop
        self.saved = source  # the checkpoint of the present iteration, if there is one
        self.window = LogWindow(learner.device)
        self.simulators: SimulatorsInBackground | None = None
        if config.eval_freq:
            self.simulators = SimulatorsInBackground(
                learner.ema_policy,
                env_id=config.env_id,
                control_mode=config.control_mode,
                num_envs=min(config.num_eval_envs, config.num_eval_episodes),
                max_episode_steps=config.max_episode_steps,
            )

    def advice(self) -> list[str]:
        """What is legal, but probably not meant."""
        config, found = self.config, []
        if self.learner.batches.oversampled:
            found.append(
                f"batch_size {config.batch_size} is more than the {len(self.learner.windows)} windows of these demos: "
                "each batch holds every window about as often as any other, some of them twice or more"
            )
        if config.warmup_steps >= config.total_iters:
            found.append(
                f"warmup_steps {config.warmup_steps} is not less than total_iters {config.total_iters}: "
                "the learning rate never reaches its peak"
            )
        return found

    def train(self) -> None:
        """From the learner's iteration to the last one."""
        config, learner, start = self.config, self.learner, self.learner.iteration
        if self.saved and self._evaluation_is_due() and success_of(self.saved) is None:
            self._evaluate()  # it was cut off by whatever ended the attempt before
        self.window.restart()
        while learner.iteration < config.total_iters:
            self.window.add(*learner.iterate())
            iteration = learner.iteration
            self.writer.advance(iteration)
            if is_log_step(iteration, start, config.log_freq) or iteration == config.total_iters:
                self._log()
            due = self._evaluation_is_due()
            if due or self._save_is_due():
                self._save()
            if due:
                self._evaluate()
            if self.simulators:
                self.simulators.check()
            if self.stop:
                self._leave()
        self.writer.say(f"done after {learner.iteration:,} iterations; the last checkpoint is {self.saved}")

    def close(self) -> None:
        if self.simulators:
            self.simulators.close()

    def _evaluation_is_due(self) -> bool:
        at, freq = self.learner.iteration, self.config.eval_freq
        return bool(freq) and (at % freq == 0 or at == self.config.total_iters)

    def _save_is_due(self) -> bool:
        at, freq = self.learner.iteration, self.config.save_freq
        return at == self.config.total_iters or bool(freq and at % freq == 0)

    def _log(self) -> None:
        row = self.window.row(self.learner.current_lr)
        self.writer.log(self.learner.iteration, row)
        if not self.window.last_loss_is_finite:
            self._refuse_to_go_on("the loss is not finite")
        self.window.restart()

    def _refuse_to_go_on(self, why: str) -> None:
        last, _ = self.folder.latest_good()
        kept = f"The last good checkpoint is {last}." if last else "There is no checkpoint yet."
        raise RunFailed(
            f"{why} at iteration {self.learner.iteration}", f"Try a smaller --lr or normalised data. {kept}"
        )

    def _save(self) -> None:
        """Checkpoint of this iteration. A full disk costs this one, unless it is the last."""
        learner = self.learner
        if not learner.is_finite():
            self._refuse_to_go_on("the weights are not finite")
        self.saved = None
        try:
            self.saved = self.folder.save(learner.payload(), learner.info())
        except OSError as error:
            message = f"checkpoint of iteration {learner.iteration} is not saved: {error}"
            if learner.iteration == self.config.total_iters or self.stop:
                raise RunFailed(message) from None
            self.writer.event("warning", learner.iteration, message=message)
            return
        self.writer.event("checkpoint", learner.iteration, path=str(self.saved))

    def _evaluate(self) -> None:
        """Episodes with the averaged weights. The time it takes counts as waiting, not as training."""
        assert self.simulators
        config, at = self.config, self.learner.iteration
        with self.window.waiting():
            try:
                env = self.simulators.get(self.stop)
                self.writer.event("eval", at, phase="start", episodes=config.num_eval_episodes)
                self.writer.say(f"iteration {at:,}: evaluating {config.num_eval_episodes} episodes")
                result = run_episodes(
                    self.learner.ema_policy,
                    env,
                    num_episodes=config.num_eval_episodes,
                    base_seed=config.seed + BASE_SEED,
                    stop=self.stop,
                    progress=lambda over: self.writer.note(f"evaluated {over} of {config.num_eval_episodes}"),
                )
            except Stopped:
                self._leave()
                raise
        self.writer.event(
            "eval",
            at,
            phase="done",
            successes=result.successes,
            episodes=result.episodes,
            seconds=round(result.seconds, 1),
        )
        self.writer.log(at, result.metrics())
        self.writer.say(f"iteration {at:,}: {result.line()}")
        if self.saved and self.folder.record_evaluation(self.saved, result.successes, result.episodes):
            self.writer.say(f"best so far: {self.saved}")

    def _leave(self) -> None:
        """Save, and say so."""
        if self.saved is None or step_of(self.saved) != self.learner.iteration:
            self._save()
        raise Stopped(f"stopped by {self.stop.signal_name} at iteration {self.learner.iteration}; saved {self.saved}")


def success_of(path: Path) -> float | None:
    """Success rate in a checkpoint's .json; None if it was not evaluated."""
    info = read_checkpoint_info(path)
    return success_rate(info) if info else None
