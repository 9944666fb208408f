"""Where a run computes and how wide."""

from __future__ import annotations

import os

import psutil
import torch

from .protocol.errors import PidecError

MAX_THREADS = 8  # the policy's matrices are small: more threads mostly wait for each other


def pick_device(wanted: str) -> torch.device:
    """Device for "cpu", "cuda" or "auto" (cuda if there is one).

    Raises:
        PidecError: cuda was asked for and torch sees none.
    """
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
        raise PidecError(
            f"device cuda: torch {torch.__version__} (built for {built}) sees no CUDA device",
            "Use --device cpu or auto, or install a CUDA build of torch.",
        )
    return torch.device("cuda" if wanted != "cpu" and has_cuda else "cpu")


def set_threads(count: int | None = None) -> int:
    """Let torch use `count` threads; None: the physical cores that are ours but one, at most MAX_THREADS.

    One core stays for simulators and dashboard: threads that lose theirs to somebody else keep all others waiting
    (small UNet, batch 128, two cores of which another process wants one: two threads 350 iterations/min, one 600).
    $OMP_NUM_THREADS, if set, stands (for None). Returns the number in use.
    """
    if count is None and not os.environ.get("OMP_NUM_THREADS"):
        ours = len(os.sched_getaffinity(0))
        count = max(1, min(ours, psutil.cpu_count(logical=False) or ours, MAX_THREADS + 1) - 1)
    if count is not None:
        torch.set_num_threads(count)
    return torch.get_num_threads()
