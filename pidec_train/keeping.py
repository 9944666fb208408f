"""What a training loop does not wait for: checkpoints, written by a thread, and evaluations, run by another process.

`Keeper` stands beside the loop of either trainer and does what follows from their outcomes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from .checkpoint_folder import CheckpointFolder
from .checkpoint_saver import CheckpointSaver, Saved, Snapshot
from .eval_beside import Begun, EvaluationBeside, Failed, Finished, Note, Progress
from .metrics import MetricWriter
from .protocol import metric_names as names
from .protocol.errors import RunFailed, Stopped
from .protocol.rundir import read_checkpoint_info, step_file, step_of
from .stopping import StopRequest

Waiting = Callable[[str, str], AbstractContextManager[None]]  # (metric that counts it, what is waited for)


def find_source(folder: CheckpointFolder, resume: bool) -> tuple[Path | None, list[str]]:
    """The checkpoint to go on from, and what a user should know about that choice.

    Raises:
        RunFailed: there are checkpoints, and all of them are damaged.
    """
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


class Learns(Protocol):
    """What a learner gives a `Keeper`."""

    def snapshot(self) -> Snapshot:
        """The state as it is now, for a checkpoint."""

    def info(self) -> dict[str, Any]:
        """Fields of the checkpoint's .json."""


class Keeper:
    """Saves and evaluates beside a loop. Nothing here blocks but `leave`, `finish` and `close`.

    Args:
        learner: what is saved.
        folder, writer, stop: of the run.
        unit: what one step is, for messages ("iteration").
        start, last: steps at which this process begins and the run ends.
        evaluation_is_due: whether the checkpoint of a step is evaluated.
        beside: the evaluation process; None: nothing is evaluated.
        source: the checkpoint that the run goes on from.
        waiting: goes around time that the loop loses here.
        advice: what to do where learning diverges, such as "Try a smaller --lr."

    Attributes:
        saved: the newest checkpoint that is on disk.
    """

    def __init__(
        self,
        learner: Learns,
        folder: CheckpointFolder,
        writer: MetricWriter,
        stop: StopRequest,
        *,
        unit: str,
        start: int,
        last: int,
        evaluation_is_due: Callable[[int], bool],
        beside: EvaluationBeside | None,
        source: Path | None,
        waiting: Waiting,
        advice: str,
    ) -> None:
        self.learner, self.folder, self.writer, self.stop = learner, folder, writer, stop
        self.unit, self.last, self.beside = unit, last, beside
        self.saved = source
        self._evaluation_is_due, self._waiting, self._advice = evaluation_is_due, waiting, advice
        self._submitted = start if source else -1  # step of the newest one that was handed to the saver
        self._saver = CheckpointSaver(folder)

    @property
    def evaluates(self) -> bool:
        """Whether the evaluation process takes its share of the machine now."""
        return self.beside is not None and self.beside.works

    def close(self) -> None:
        self._saver.close()
        if self.beside:
            self.beside.close()

    def take_in(self) -> None:
        """Whatever has come meanwhile: checkpoints, evaluations."""
        for outcome in self._saver.finished():
            self._after_save(outcome)
        if self.beside:
            self.beside.check()
            for note in self.beside.poll():
                self._after_note(note)

    def refuse_to_go_on(self, why: str) -> None:
        """Raises:
        RunFailed: always; it names the last good checkpoint.
        """
        self._saver.close()
        last, _ = self.folder.latest_good()
        kept = f"The last good checkpoint is {last}." if last else "There is no checkpoint yet."
        raise RunFailed(why, f"{self._advice} {kept}")

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def save(self, at: int) -> None:
        """Hand the learner's state at step `at` to the saver."""
        self._submitted = at
        with self._waiting(names.TIME_SAVE_WAIT_RATIO, "checkpoints"):
            self._saver.submit(at, self.learner.snapshot(), keep=self._evaluation_is_due(at))

    def _after_save(self, outcome: Saved) -> None:
        """A full disk costs this checkpoint, unless it is the last."""
        if isinstance(outcome.error, RunFailed):
            self.refuse_to_go_on(outcome.error.message)
        if outcome.path is None:
            message = f"checkpoint of {self.unit} {outcome.step} is not saved: {outcome.error}"
            if outcome.step == self.last or self.stop:
                raise RunFailed(message)
            if self._evaluation_is_due(outcome.step):
                message += "; it is not evaluated either"
            self.writer.event("warning", outcome.step, message=message)
            return
        self.saved = outcome.path
        self.writer.event("checkpoint", outcome.step, path=str(outcome.path))
        if self._evaluation_is_due(outcome.step):
            self._request_evaluation(outcome.path, outcome.step)

    def leave(self, at: int) -> None:
        """Save, and say so.

        Raises:
            Stopped: always, once the state of step `at` is on disk.
        """
        if self._submitted != at:
            self.save(at)
        self.wait_for_saves()
        raise Stopped(f"stopped by {self.stop.signal_name} at {self.unit} {at}; saved {self.saved}")

    def wait_for_saves(self) -> None:
        """Until nothing is under way."""
        for outcome in self._saver.wait():
            self._after_save(outcome)

    # --- evaluations ----------------------------------------------------------------------------------------------

    def evaluate_what_was_cut_off(self) -> None:
        """By whatever ended the attempt before; the newest, if there are several."""
        for path in self.folder.unevaluated(self._evaluation_is_due)[:1]:
            self.folder.keep(path)
            step = step_of(path)
            assert step is not None
            self.writer.say(f"{self.unit} {step:,} has not been evaluated yet: evaluating it now")
            self._request_evaluation(path, step)

    def _request_evaluation(self, path: Path, step: int) -> None:
        if self.beside is None:
            return
        # The last word on a run is ManiSkill's own; and what its base was seen doing, it is seen doing from there too.
        skipped = self.beside.request(path, step, stock=step == self.last, keep_seeds=self.folder.base_seeds())
        if skipped is not None:
            self.folder.release(self.folder.path / step_file(skipped))
            self.writer.event("eval", skipped, phase="skipped", by=step)
            self.writer.say(f"{self.unit} {skipped:,} is not evaluated: {self.unit} {step:,} is newer and goes first")

    def _after_note(self, note: Note) -> None:
        if isinstance(note, Begun):
            self.writer.event("eval", note.step, phase="start", episodes=note.episodes)
            self.writer.say(f"{self.unit} {note.step:,}: evaluating {note.episodes} episodes")
        elif isinstance(note, Progress):
            self.writer.note(f"evaluated {note.over} of {note.episodes}")
        elif isinstance(note, Failed):
            self.writer.event("warning", note.step, message=f"{note.error}; it is started anew")
        else:
            self._after_evaluation(note)

    def _after_evaluation(self, note: Finished) -> None:
        at, result = note.step, note.result
        if result is None:
            self._after_failure(note)
            return
        self.writer.event(
            "eval",
            at,
            phase="done",
            successes=result.successes,
            episodes=result.episodes,
            seconds=round(result.seconds, 1),
        )
        self.writer.log(at, result.metrics())
        self.writer.say(f"{self.unit} {at:,}: {result.line()}")
        try:
            if self.folder.record_evaluation(note.path, result.successes, result.episodes):
                self.writer.say(f"best so far: {note.path}")
                self._artifact(note.path, "best", at, success_rate=result.success_rate)
        except OSError as error:
            message = f"the result of {self.unit} {at:,} is not noted beside it: {error}"
            self.writer.event("warning", at, message=message)
        try:
            self.folder.record_episodes(note.path, result.kept)
            if at == 0:
                self.folder.record_base_episodes(note.path, result.kept)
        except OSError as error:  # nothing but a picture is lost
            self.writer.event("warning", at, message=f"episodes of {self.unit} {at:,} are not kept: {error}")
        self.folder.release(note.path)

    def _after_failure(self, note: Finished) -> None:
        """An evaluation was given up: the last one's absence is a failure, since nobody would look for it."""
        at = note.step
        self.folder.release(note.path)
        self.writer.event("eval", at, phase="failed", message=note.error)
        if at == self.last:
            why = f"all {at:,} {self.unit}s are done and saved in {note.path}, but could not be evaluated: {note.error}"
            raise RunFailed(why, f"Try: pidec-train evaluate {note.path}")
        self.writer.event("warning", at, message=f"{self.unit} {at:,} is not evaluated: {note.error}")

    def _artifact(self, path: Path, alias: str, step: int, **more: float) -> None:
        """For W&B, if asked."""
        self.writer.artifact(path, step=step, aliases=(alias,), info={**self.learner.info(), **more})

    # --- the end --------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Everything is learned: wait for the last checkpoint and its evaluation."""
        with self._waiting(names.TIME_SAVE_WAIT_RATIO, "checkpoints"):
            outcomes = self._saver.wait()
        for outcome in outcomes:
            self._after_save(outcome)
        if self.beside:
            with self._waiting(names.TIME_EVAL_WAIT_RATIO, "evaluations"):
                what = f"all {self.last:,} {self.unit}s are done and saved; --resume makes up for the evaluation"
                for note in self.beside.wait(self.stop, what):
                    self._after_note(note)
        if self.saved:
            self._artifact(self.saved, "last", self.last)
