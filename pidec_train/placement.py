"""Where a run computes and how wide."""

from __future__ import annotations

import os

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
        count = max(1, min(ours, _physical_cores() or ours, MAX_THREADS + 1) - 1)
    if count is not None:
        torch.set_num_threads(count)
    return torch.get_num_threads()


def _physical_cores() -> int | None:
    try:
        import psutil  # `bench` also runs where there is nothing but torch and numpy
    except ImportError:
        return None
    count: int | None = psutil.cpu_count(logical=False)
    return count


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory is short, on the GPU or on the host: torch has several ways to say so."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    words = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def set_precision(precision: str) -> None:
    """How a GPU multiplies fp32 matrices: "fp32" exactly; "tf32" and "bf16" (for what stays fp32) by tensor cores."""
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.benchmark = True  # shapes never change: let it look for the fastest convolution once
