"""CUDA graphs of work that is the same each time: captured once, then run without Python and without the dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

WARM_UP = 3  # eager runs before a capture: libraries choose their kernels and allocate their workspaces
Key = TypeVar("Key", bound=Hashable)


def put_back(attempt: Callable[[], None], tensors: Sequence[Tensor], generators: Sequence[torch.Generator]) -> str:
    """Run `attempt`, then put back all it changed. Returns why it failed, "" if it did not.

    Raises:
        torch.OutOfMemoryError: the work does not fit.
    """
    before = [tensor.clone() for tensor in tensors]
    states = [generator.get_state() for generator in generators]
    try:
        attempt()
        return ""
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - compilers and drivers raise anything; each is survivable here
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[0]}"
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        with torch.no_grad():
            for tensor, old in zip(tensors, before, strict=True):
                tensor.copy_(old)


def capture(
    works: Mapping[Key, Callable[[], None]],
    generators: Sequence[torch.Generator],
    *,
    warm_up: Callable[[], None],
    cuda: Any = torch.cuda,
) -> dict[Key, Any]:
    """One graph for each of `works`, which share their memory: they are replayed one after another, never at once.

    Args:
        generators: those that the work draws from.
        warm_up: runs the work eagerly, once.
        cuda: the interface of `torch.cuda`.
    """
    side = cuda.Stream()
    side.wait_stream(cuda.current_stream())
    with cuda.stream(side):
        for _ in range(WARM_UP):
            warm_up()
    cuda.current_stream().wait_stream(side)
    graphs: dict[Key, Any] = {}
    pool = None
    for key, work in works.items():
        graph = cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        # thread_local: the thread that writes checkpoints may talk to the device meanwhile.
        with cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
            work()
        pool = graph.pool()
        graphs[key] = graph
    return graphs
