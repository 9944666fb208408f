"""What `evaluate` jobs have said of which checkpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pidec_train.protocol.config import CONFIG_MODELS

from .attempts import read_note
from .catalogue import Evaluation
from .jobs import Job, JobState
from .specs import reference

if TYPE_CHECKING:
    from .manager import Manager

_NOT_THE_RESULTS = frozenset({"ckpt", "num_eval_episodes", "num_eval_envs", "device", "compare"})


class Evaluations:
    """Reads each finished job once. Belongs to one thread at a time."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._known: dict[tuple[int, float | None], tuple[Path, Evaluation] | None] = {}

    def of(self, jobs: Sequence[Job]) -> dict[Path, list[Evaluation]]:
        """By file, newest first."""
        found: dict[Path, list[Evaluation]] = {}
        for job in jobs:
            if job.kind != "evaluate" or job.state is not JobState.succeeded:
                continue
            key = (job.id, job.ended)
            if key not in self._known:
                self._known[key] = self._read(job)
            if told := self._known[key]:
                found.setdefault(told[0], []).append(told[1])
        for evaluations in found.values():
            evaluations.sort(key=lambda evaluation: -(evaluation.when or 0))
        return found

    def _read(self, job: Job) -> tuple[Path, Evaluation] | None:
        path = evaluated_file(self._manager, job)
        if path is None:
            return None
        for event in reversed(self._manager.events(job.id)):
            wins, episodes = event.detail.get("successes"), event.detail.get("episodes")
            if event.event == "eval" and event.detail.get("phase") == "done" and episodes:
                return path, Evaluation(int(wins or 0), int(episodes), job.id, job.ended, settings_of(job))
        return None


def evaluated_file(manager: Manager, job: Job) -> Path | None:
    """The file that an `evaluate` job read; None where that cannot be said any more (a link that has moved since)."""
    text = str(job.config.get("ckpt", ""))
    if reference(text):  # "@41/best" became a file at the claim; only the attempt knows which
        attempts = manager.workspace.run(job.id).attempts()
        note = read_note(attempts[-1][1]) if attempts else None
        words = note.argv if note else []
        text = words[words.index(job.kind) + 1] if job.kind in words[:-1] else ""
    path = Path(text)
    try:
        if path.is_symlink() and path.lstat().st_mtime > (job.started or 0):
            return None
        return Path(os.path.realpath(path)) if text and path.is_file() else None
    except OSError:
        return None


def settings_of(job: Job) -> str:
    """What is not as usual: `sampler ddim, num_steps 4`."""
    fields = CONFIG_MODELS[job.kind].model_fields
    changed: dict[str, Any] = {
        name: value
        for name, value in job.config.items()
        if name in fields and name not in _NOT_THE_RESULTS and value != fields[name].default
    }
    return ", ".join(f"{name} {value}" for name, value in changed.items())
