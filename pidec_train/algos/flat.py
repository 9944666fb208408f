"""All weights of a network in one piece of memory, so that what is done to each of them is done by one call."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ALIGNMENT = 64  # numbers: 256 bytes, as an allocation of its own would be aligned (tensor cores want 16)


@torch.no_grad()
def flatten_weights(module: nn.Module) -> Tensor:
    """Move `module`'s parameters into one buffer and return it; each parameter becomes a view of its part.

    Names, values, `state_dict` and in-place loading stay as they are. The gaps between parameters are 0 and stay so
    under averaging. Call after `.to(device)`, which would take the parameters out again.
    """
    parameters = list(module.parameters())
    room = [-(-weight.numel() // ALIGNMENT) * ALIGNMENT for weight in parameters]
    flat = torch.zeros(sum(room), device=parameters[0].device, dtype=parameters[0].dtype)
    start = 0
    for weight, taken in zip(parameters, room, strict=True):
        view = flat[start : start + weight.numel()].view(weight.shape)
        view.copy_(weight)
        weight.data = view
        start += taken
    return flat
