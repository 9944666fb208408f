"""Running iterations: one by one, or captured into CUDA graphs, a block of them a replay.

A captured step runs without Python and without the dispatcher: of some thousand small calls an iteration, which a GPU
finishes faster than a CPU can ask for them, one is left for a whole block.
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from ..data.windows import Batches
from .capture import WARM_UP, capture, put_back
from .diffusion_step import BLOCK, DiffusionStep

AHEAD = 2  # blocks that may be queued on the device: enough to keep it busy, few enough to stop at once


class Stepper:
    """Runs `step` on `batches`.

    Args:
        step: one iteration; loaded from a checkpoint, if at all, before the first `advance`.
        batches: what it learns from.
        graph: capture into CUDA graphs. What fails there costs speed and not the run: see `notes`.
        cuda: the interface of `torch.cuda`.

    Attributes:
        iteration: how many are done (on CUDA: asked for).
        data_seconds: what the last `advance` spent on getting its batches (captured: on choosing them).
        notes: what did not work as wanted, for the user.
    """

    def __init__(self, step: DiffusionStep, batches: Batches, *, graph: bool, cuda: Any = torch.cuda) -> None:
        self.step, self.batches = step, batches
        self.iteration = 0
        self.data_seconds = 0.0
        self.notes: list[str] = []
        self.graph = graph
        self._cuda = cuda
        self._graphs: dict[int, Any] = {}
        self._queued: deque[Any] = deque()
        self._prepared = False

    def advance(self, at_most: int) -> int:
        """Run some iterations, at most so many. Returns how many; on CUDA they are only queued.

        Raises:
            torch.OutOfMemoryError: the batch does not fit.
        """
        if not self._prepared:
            self.prepare()
        count = BLOCK if self._graphs and at_most >= BLOCK else 1
        began = time.perf_counter()
        self.step.load(self.batches, self.iteration, count)
        if self._graphs:
            self.data_seconds = time.perf_counter() - began
            self._graphs[count].replay()
            self._do_not_run_away()
        else:
            batch = self.step.fetch(0)
            self.data_seconds = time.perf_counter() - began
            self.step.learn(0, *batch)
        self.iteration += count
        return count

    def _do_not_run_away(self) -> None:
        event = self._cuda.Event()
        event.record()
        self._queued.append(event)
        if len(self._queued) > AHEAD:
            self._queued.popleft().synchronize()

    def prepare(self) -> None:
        """Compile and capture what is wanted; without one or the other where that does not work here.

        Takes up to some minutes. `advance` does it if nobody has.

        Raises:
            torch.OutOfMemoryError: the batch does not fit.
        """
        self._prepared = True
        if self.step.compiled and (why := self._try(self._warm_up)):
            self.notes.append(f"torch.compile does not work here, going on without it: {why}")
            self.step.compiled = False
        if self.graph and (why := self._try(self._capture)):
            self.notes.append(f"the step cannot be captured into a CUDA graph, going on slowly without it: {why}")
            self._graphs, self.graph = {}, False

    def _try(self, attempt: Callable[[], None]) -> str:
        return put_back(attempt, self.step.tensors(), [self.step.noise])

    def _warm_up(self) -> None:
        for _ in range(WARM_UP):
            self.step(0)

    def _capture(self) -> None:
        # Besides a block a single iteration, for what is left before a row, a checkpoint or the end.
        works = {count: functools.partial(self._run, count) for count in (BLOCK, 1)}
        self._graphs = capture(works, [self.step.noise], warm_up=lambda: self.step(0), cuda=self._cuda)

    def _run(self, count: int) -> None:
        for slot in range(count):
            self.step(slot)
