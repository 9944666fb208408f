"""Taking the figures: turns, parts of an iteration, arithmetic and its peak."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ..algos.dispatches import count_dispatches
from .contenders import OurRacer, Racer, UpstreamRacer
from .upstream_net import UpstreamUnet

WARM_UP = 3  # iterations: libraries are loaded, kernels chosen, the optimizer makes its state


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that `work` takes, with all it left under way on the device."""
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - began


def iterations_for(racer: Racer, seconds: float, device: torch.device) -> int:
    """How many iterations fill a turn of `seconds`: found by running, which also warms up."""
    racer.settle()
    count = racer.granularity
    racer.run(max(WARM_UP, count))
    while (taken := timed(partial(racer.run, count), device)) < seconds / 8:
        count *= 2
    steps = round(count * seconds / taken / racer.granularity)
    return max(1, steps) * racer.granularity


def turn(racer: Racer, iterations: int, device: torch.device) -> float:
    """Iterations per minute over one turn."""
    racer.settle()
    return 60 * iterations / timed(lambda: racer.run(iterations), device)


class Stopwatch:
    """Time between marks. On CUDA between events on the device: where it waits for the next call, the part that is
    late with its calls gets the time, so that the parts add up to the whole.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._parts: list[str] = []
        self._moments: list[Any] = [self._now()]

    def mark(self, part: str) -> None:
        """`part` ends here."""
        self._parts.append(part)
        self._moments.append(self._now())

    def milliseconds(self) -> dict[str, float]:
        """Sum of each part."""
        synchronize(self._device)
        sums: dict[str, float] = defaultdict(float)
        for part, (before, after) in zip(self._parts, pairwise(self._moments), strict=True):
            cuda = self._device.type == "cuda"
            sums[part] += before.elapsed_time(after) if cuda else 1e3 * (after - before)
        return dict(sums)

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def time_parts(racer: UpstreamRacer | OurRacer, device: torch.device, iterations: int) -> dict[str, float]:
    """Milliseconds of each part of an eager iteration, the mean over `iterations`."""
    racer.settle()
    racer.run(1)
    watch = Stopwatch(device)
    for _ in range(iterations):
        racer.run_in_parts(watch.mark)
    return {part: total / iterations for part, total in watch.milliseconds().items()}


def dispatches(racer: Racer) -> int:
    """Operations that one eager iteration hands to torch's dispatcher."""
    racer.settle()
    return sum(count_dispatches(lambda: racer.run(1)).values())


def flops_of_iteration(
    batch_size: int, obs_dim: int, act_dim: int, obs_horizon: int = 2, pred_horizon: int = 16
) -> int:
    """Floating-point operations of one forward and backward, from the shapes of matrix products and convolutions."""
    meta = torch.device("meta")  # shapes alone: nothing is computed
    net = UpstreamUnet(act_dim, obs_horizon * obs_dim).to(meta)
    noisy = torch.empty(batch_size, pred_horizon, act_dim, device=meta)
    cond = torch.empty(batch_size, obs_horizon * obs_dim, device=meta)
    with FlopCounterMode(display=False) as counter:
        predicted = net(noisy, torch.zeros(batch_size, dtype=torch.int64, device=meta), cond)
        functional.mse_loss(predicted, noisy).backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def matmul_peaks(device: torch.device) -> dict[str, float]:
    """Floating-point operations a second of one large matrix product, by precision: the best of several."""
    if device.type != "cuda":
        return {"fp32": _matmul_peak(device, 2048, torch.float32)}
    peaks = {}
    for name, dtype, matmul in (
        ("fp32", torch.float32, "highest"),
        ("tf32", torch.float32, "high"),
        ("bf16", torch.bfloat16, "high"),
    ):
        torch.set_float32_matmul_precision(matmul)
        peaks[name] = _matmul_peak(device, 8192, dtype)
    return peaks


def _matmul_peak(device: torch.device, size: int, dtype: torch.dtype) -> float:
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    best, spent = float("inf"), 0.0
    timed(lambda: torch.matmul(left, right, out=out), device)
    while spent < 0.5:
        taken = timed(lambda: [torch.matmul(left, right, out=out) for _ in range(4)], device)
        best, spent = min(best, taken / 4), spent + taken
    return 2 * size**3 / best


class MemoryMeter:
    """Bytes of GPU memory that something takes at most, above what is taken at the beginning. 0 on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)

    def peak(self) -> int:
        if self._device.type != "cuda":
            return 0
        synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device) - self._before
