"""The part of `torch.cuda` that captures graphs, for a machine without a GPU.

A capture records every operation with the very tensors it works on and leaves no effect; a replay runs them again on
those tensors. So what goes wrong on a GPU goes wrong here too: a number that comes from Python stays what it was at the
capture, a tensor that was replaced meanwhile is not the one that is written, a generator that is not registered and a
question to the device are refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class CUDAGraph:
    def __init__(self) -> None:
        self.tape: list[tuple[Any, Any, Any, Any]] = []
        self.generators: list[torch.Generator] = []

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.generators.append(generator)

    def pool(self) -> tuple[int, int]:
        return (0, 1)

    def replay(self) -> None:
        with torch._C._AutoDispatchBelowAutograd():  # a replay is kernels: autograd has done its part at the capture
            for func, args, kwargs, out in self.tape:
                again = func(*args, **kwargs)
                given = {_storage(t) for t in _tensors((args, kwargs))}
                for old, new in zip(_tensors(out), _tensors(again), strict=True):
                    if _storage(old) not in given:  # else it is a view, or was written in place
                        old.copy_(new)


class _Recorder(TorchDispatchMode):
    def __init__(self, graph: CUDAGraph) -> None:
        super().__init__()
        self.graph = graph
        self.born: set[int] = set()
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        for leaf in tree_leaves((args, kwargs)):
            # Each call wraps the generator anew, so objects cannot be compared.
            known = [generator.initial_seed() for generator in self.graph.generators]
            if isinstance(leaf, torch.Generator) and leaf.initial_seed() not in known:
                raise RuntimeError("Attempt to increase offset for a CUDA generator not in capture mode")
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in _tensors(value):
                    self._remember(tensor)
        out = func(*args, **kwargs)
        given = {_storage(t) for t in _tensors((args, kwargs))}
        self.born |= {_storage(t) for t in _tensors(out)} - given
        if func.namespace != "profiler":
            self.graph.tape.append((func, args, kwargs, out))
        return out

    def _remember(self, tensor: Tensor) -> None:
        key = _storage(tensor)
        if key not in self.born and key not in self.before:
            storage = tensor.untyped_storage()
            self.before[key] = (storage, storage.clone())

    def undo(self) -> None:
        for storage, old in self.before.values():
            storage.copy_(old)


@contextlib.contextmanager
def graph(
    cuda_graph: CUDAGraph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global"
) -> Iterator[None]:
    states = [generator.get_state() for generator in cuda_graph.generators]
    recorder = _Recorder(cuda_graph)
    try:
        with recorder:
            yield
    finally:
        recorder.undo()
        for generator, state in zip(cuda_graph.generators, states, strict=True):
            generator.set_state(state)


class Stream:
    def wait_stream(self, other: Stream) -> None:
        pass


@contextlib.contextmanager
def stream(wanted: Stream) -> Iterator[None]:
    yield


def current_stream() -> Stream:
    return Stream()


class Event:
    """Counts how many are waited for, and how many were never."""

    pending: ClassVar[list[Event]] = []

    def record(self) -> None:
        self.pending.append(self)

    def synchronize(self) -> None:
        self.pending.remove(self)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
