"""Which episodes there are to watch, and which of them belong together. Reads files; no numpy, no screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pidec_train.protocol.episodes import (
    BASE_EPISODES,
    RUN_EPISODES,
    Episode,
    EpisodeFile,
    episodes_file,
    read_episodes,
)
from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import step_of

from ..manager.jobs import Job
from ..manager.manager import Manager


@dataclass(frozen=True)
class Take:
    """The kept episodes of one policy.

    Attributes:
        label: "base policy", "decorated" or "policy".
    """

    label: str
    file: EpisodeFile

    def episode(self, seed: int) -> Episode | None:
        """The one that began at this start."""
        return next((episode for episode in self.file.episodes if episode.seed == seed), None)


def find_takes(manager: Manager, job: Job, checkpoint: Path | None = None) -> list[Take]:
    """The episodes of a job: those of its base policy, where it has one, and of its newest evaluation.

    Args:
        checkpoint: the newest evaluation of this one instead.

    Raises:
        PidecError: there are none, with what to do.
    """
    try:
        files = _files(manager, job, checkpoint)
        found = [file for path in files if (file := _read(path)) is not None]
    except OSError as error:
        raise PidecError(f"the episodes of job {job.id} cannot be read: {error}") from None
    if not found:
        raise _nothing(job, checkpoint, files)
    both = len({file.policy for file in found}) > 1
    if not both:  # a decorator's first evaluation is of its base: the same episodes twice
        found = found[-1:]
    return [Take(_label(file.policy, both), file) for file in found]


def takes_beside(checkpoint: Path) -> list[Take]:
    """The episodes that lie beside a checkpoint, whoever wrote it, with its base policy's.

    Raises:
        PidecError: there are none, with what to do.
    """
    try:
        files = [path for path in (checkpoint.parent / BASE_EPISODES, episodes_file(checkpoint)) if path.exists()]
        found = [file for path in files if (file := _read(path)) is not None]
    except OSError as error:
        raise PidecError(f"the episodes of {checkpoint.name} cannot be read: {error}") from None
    if not episodes_file(checkpoint).exists() or not found:
        raise PidecError(
            f"{checkpoint.name} has no episodes to watch: its evaluation kept none, or it had none",
            "<checkpoints.evaluate> evaluates it; <checkpoints.watch> then plays what that job has kept",
        )
    both = len({file.policy for file in found}) > 1
    return [Take(_label(file.policy, both), file) for file in (found if both else found[-1:])]


def starts(takes: Sequence[Take]) -> list[int]:
    """Seeds to watch: first those from which the policies fared differently, then the others of all, then the rest."""
    seeds = {episode.seed for take in takes for episode in take.file.episodes}

    def rank(seed: int) -> tuple[bool, bool, int]:
        ends = [episode.success for take in takes if (episode := take.episode(seed)) is not None]
        return len(ends) < len(takes), len(set(ends)) < 2, seed

    return sorted(seeds, key=rank)


def _files(manager: Manager, job: Job, checkpoint: Path | None) -> list[Path]:
    """Files that exist, the base policy's first."""
    if checkpoint is not None:
        own = [episodes_file(checkpoint)]
        folder = checkpoint.parent
    elif job.kind == "evaluate":
        attempts = [attempt.path / RUN_EPISODES for _, attempt in manager.workspace.run(job.id).attempts()]
        own = [path for path in reversed(attempts) if path.exists()][:1]
        folder = own[0].parent if own else manager.workspace.run(job.id).path
    else:
        folder = manager.checkpoint_dir(job.id)
        kept = [path for path in folder.glob("step-*.pt") if episodes_file(path).exists()]
        own = [episodes_file(path) for path in sorted(kept, key=lambda path: step_of(path) or 0)[-1:]]
    return [path for path in (folder / BASE_EPISODES, *own) if path.exists()]


def _read(path: Path) -> EpisodeFile | None:
    """The file, if every state in it has the same length."""
    file = read_episodes(path)
    if file is None or not file.episodes:
        return None
    widths = {len(row) for episode in file.episodes for row in episode.frames}
    return file if len(widths) == 1 and widths != {0} else None


def _label(policy: str, both: bool) -> str:
    if policy == "decorator":
        return "decorated"
    return "base policy" if both else "policy"


def _nothing(job: Job, checkpoint: Path | None, files: Sequence[Path]) -> PidecError:
    if files:
        return PidecError(f"the episodes in {files[-1]} cannot be read", "The next evaluation writes new ones")
    if checkpoint is not None:
        hint = "<job.open> on it evaluates it; <job.watch> on the job shows the newest evaluation"
        return PidecError(f"{checkpoint.name} has no episodes to watch: its evaluation kept none, or it had none", hint)
    if job.kind in ("diffusion", "decorator"):
        over = job.state.finished
        hint = "<job.open> on a checkpoint evaluates it" if over else "They come with its next evaluation"
        return PidecError(f"job {job.id} has no episodes to watch yet: evaluations keep them", hint)
    if job.kind == "evaluate":
        hint = "They come when it is done" if not job.state.finished else "Evaluate once more: newer versions keep some"
        return PidecError(f"job {job.id} has no episodes to watch", hint)
    return PidecError(
        f"job {job.id} is of kind {job.kind}: it has no episodes to watch",
        "diffusion, decorator and evaluate jobs have",
    )
