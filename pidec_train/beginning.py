"""How a training run begins, or goes on: the same for both trainers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .checkpoint import read_payload
from .checkpoint_folder import CheckpointFolder
from .keeping import find_source
from .metrics import MetricWriter
from .placement import is_out_of_memory, set_precision, set_threads
from .protocol.config import DecoratorConfig, DiffusionConfig
from .protocol.errors import RunFailed
from .protocol.rundir import step_of
from .stopping import StopRequest


@dataclass
class Beginning:
    """What a run has before it has learned anything.

    Attributes:
        folder: its checkpoints, held by this process alone.
        source: the checkpoint it goes on from; None: it begins afresh.
        writer: of its metrics and messages.
        unit: what one step is, for messages ("iteration").
    """

    folder: CheckpointFolder
    source: Path | None
    writer: MetricWriter
    unit: str

    def state(self, device: torch.device, precision: str) -> dict[str, Any]:
        """The checkpoint's content, {} without one. Threads and precision are set as it says.

        Another number of threads adds in another order: it is part of the state, and comes before the first sum.
        """
        payload = read_payload(self.source) if self.source else {}
        set_threads(payload.get("threads") if device.type == "cpu" else None)
        set_precision(precision)
        return payload

    def went_on(self, step: int, notes: Sequence[str]) -> None:
        """Say that the state was taken in, and what its user should know of that."""
        for note in notes:
            self.writer.event("warning", step, message=note)
        self.writer.say(f"going on from {self.source} at {self.unit} {step:,}")

    def make_room(self, stop: StopRequest) -> None:
        """The last moment to stop with nothing done; then an earlier run's checkpoints give way to one that is new.

        Raises:
            Stopped: a signal came.
        """
        stop.check("nothing was done yet")
        if self.source is None and (aside := self.folder.move_aside()):
            self.writer.event("warning", message=f"checkpoints of an earlier run were moved to {aside}")


@contextlib.contextmanager
def begin(
    config: DiffusionConfig | DecoratorConfig,
    *,
    kind: str,
    unit: str,
    last: int,
    run_dir: Path,
    checkpoint_dir: Path,
    resume: bool,
    out_of_memory: Callable[[BaseException], RunFailed],
) -> Iterator[Beginning]:
    """Goes around a whole run.

    Args:
        kind: of the run, as its metrics name it.
        unit, last: what one step is, and which is the last.
        run_dir, checkpoint_dir, resume: as of the trainers' `run`.
        out_of_memory: what is raised in place of an error that says so.

    Raises:
        RunFailed: out of memory; checkpoints to resume from are there, and all of them are damaged.
    """
    folder = CheckpointFolder(checkpoint_dir)
    with folder.alone():
        source, notes = find_source(folder, resume)
        resumed_step = step_of(source) if source else None
        with MetricWriter(
            run_dir,
            kind=kind,
            step_name=unit,
            total_steps=last,
            start_step=resumed_step or 0,
            resumed_step=resumed_step,
            config=config.model_dump(mode="json"),
            track=config.track,
        ) as writer:
            for note in notes:
                writer.event("warning", resumed_step, message=note)
            try:
                yield Beginning(folder, source, writer, unit)
            except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is one
                if not is_out_of_memory(error):
                    raise
                raise out_of_memory(error) from None
