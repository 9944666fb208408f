"""The lesser of two critics' values, and its gradient without the other critic's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..models.residual import TwinCritics


def least_value(critics: TwinCritics, obs: Tensor, action: Tensor) -> Tensor:
    """`critics(obs, action).amin(0)`, (B,), differentiable by `action` (B, action_dim) alone.

    Of each row only the critic with the lesser value has a gradient. The way back here takes each critic's own rows
    instead of all rows through both: half the products. How many rows that are is read by the host: not for a capture.
    """
    value: Tensor = _LeastValue.apply(action, obs, critics)  # type: ignore[no-untyped-call]
    return value


class _LeastValue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, action: Tensor, obs: Tensor, critics: TwinCritics) -> Tensor:
        ctx.hidden, values = critics.layers(obs, action)
        ctx.weights, ctx.action_dim = [weight.detach() for weight in critics.weights], action.shape[1]
        least, ctx.critic = values.min(dim=0)
        return least

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_value: Tensor) -> tuple[Tensor, None, None]:
        by_action = by_value.new_empty(len(by_value), ctx.action_dim)
        for critic in range(2):
            rows = (ctx.critic == critic).nonzero().squeeze(1)
            grad = by_value[rows, None] * ctx.weights[-1][critic].t()
            for x, weight in zip(reversed(ctx.hidden), reversed(ctx.weights[:-1]), strict=True):
                grad = torch.ops.aten.threshold_backward(grad, x[critic].index_select(0, rows), 0)
                inputs = -ctx.action_dim if x is ctx.hidden[0] else 0  # of the first layer the action's alone
                grad = grad @ weight[critic, inputs:].t()
            by_action.index_copy_(0, rows, grad)
        return by_action, None, None
