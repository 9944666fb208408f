"""Where the time of a loop goes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

SIMULATORS, BASE, UPDATES, REST = PARTS = ("simulators", "base", "updates", "rest")


class Parts:
    """Adds up seconds by part. Parts do not overlap: what is left of the whole is the rest.

    Attributes:
        waits: on CUDA, each part waits for the device, so that it has the time that it caused. Slows down the loop.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self.waits = device, False
        self.restart()

    def restart(self) -> None:
        self.seconds = dict.fromkeys(PARTS[:-1], 0.0)

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        self._wait()
        began = time.perf_counter()
        yield
        self._wait()
        self.seconds[part] += time.perf_counter() - began

    def watch(self, holder: object, method: str, part: str) -> None:
        """From now on, calls of that method count for `part`."""
        work: Callable[..., Any] = getattr(holder, method)

        @functools.wraps(work)
        def measured(*args: Any, **kwargs: Any) -> Any:
            with self.measure(part):
                return work(*args, **kwargs)

        setattr(holder, method, measured)

    def _wait(self) -> None:
        if self.waits and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
