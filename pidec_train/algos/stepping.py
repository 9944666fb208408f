"""Running iterations: one by one, or captured into CUDA graphs, a block of them a replay.

A captured step runs without Python and without the dispatcher: of some thousand small calls an iteration, which a GPU
finishes faster than a CPU can ask for them, one is left for a whole block.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import torch

from ..data.windows import Batches
from .diffusion_step import BLOCK, DiffusionStep

WARM_UP = 3  # eager iterations before a capture: libraries choose their kernels and allocate their workspaces
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

    def _try(self, attempt: Any) -> str:
        """Run `attempt`, then put back all it changed. Returns why it failed, "" if it did not."""
        tensors = self.step.tensors()
        before = [tensor.clone() for tensor in tensors]
        noise = self.step.noise.get_state()
        try:
            attempt()
            return ""
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - compilers and drivers raise anything; each is survivable here
            lines = str(error).strip().splitlines() or [""]
            return f"{type(error).__name__}: {lines[0]}"
        finally:
            self.step.noise.set_state(noise)
            with torch.no_grad():
                for tensor, old in zip(tensors, before, strict=True):
                    tensor.copy_(old)

    def _warm_up(self) -> None:
        for _ in range(WARM_UP):
            self.step(0)

    def _capture(self) -> None:
        cuda, side = self._cuda, self._cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            self._warm_up()
        cuda.current_stream().wait_stream(side)
        pool = None
        for count in (BLOCK, 1):  # the second for what is left before a row, a checkpoint or the end
            graph = cuda.CUDAGraph()
            graph.register_generator_state(self.step.noise)
            # thread_local: the thread that writes checkpoints may talk to the device meanwhile.
            with cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
                for slot in range(count):
                    self.step(slot)
            pool = graph.pool()  # replays follow one another, so both may use the same memory
            self._graphs[count] = graph
