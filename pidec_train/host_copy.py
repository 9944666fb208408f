"""A checkpoint's contents as they are at this moment, brought to the host while training goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def host_copy(contents: Any) -> Callable[[], Any]:
    """Copy every tensor in `contents` (dicts, lists and tuples of anything) as it is now.

    On CUDA the copies to the host run on a stream of their own, beside the training: only a copy on the device, some
    microseconds, lies in its way.

    Returns:
        A function that waits until the copies are there and gives `contents` with them; any thread may call it.
    """
    on_device: list[Tensor] = []
    frozen = _map(contents, lambda tensor: _freeze(tensor, on_device))
    if not on_device:
        return lambda: frozen
    side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    hosted: dict[int, Tensor] = {}
    with torch.cuda.stream(side):
        for tensor in on_device:
            host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            host.copy_(tensor, non_blocking=True)
            tensor.record_stream(side)  # its memory is not given to others before this stream has read it
            hosted[id(tensor)] = host
    arrived = side.record_event()

    def wait() -> Any:
        arrived.synchronize()
        return _map(frozen, lambda tensor: hosted.get(id(tensor), tensor))

    return wait


def _freeze(tensor: Tensor, on_device: list[Tensor]) -> Tensor:
    copy = tensor.detach().clone()
    if copy.is_cuda:
        on_device.append(copy)
    return copy


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_map(item, change) for item in value)
    return value
