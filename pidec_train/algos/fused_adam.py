"""Adam in one call, without the way there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class FusedAdam(torch.optim.Adam):
    """torch's fused Adam, one group of weights; `step_with` takes gradients and asks nothing on the way.

    For networks as small as SAC's, `step` takes most of its time to look at groups, devices and hooks.

    Args:
        weights: trained in place.
        lr: learning rate.
        found_inf: scalar on the weights' device: where it is not 0, a step changes nothing.
    """

    def __init__(self, weights: Sequence[Tensor], lr: float, found_inf: Tensor) -> None:
        weights = list(weights)
        super().__init__(weights, lr=lr, fused=True, capturable=found_inf.is_cuda)
        self._found_inf = found_inf
        for weight in weights:  # as torch's own first step would
            self.state[weight] = {
                "step": torch.zeros((), device=found_inf.device),
                "exp_avg": torch.zeros_like(weight, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(weight, memory_format=torch.preserve_format),
            }
        self._collect()

    def _collect(self) -> None:
        self._weights: list[Tensor] = self.param_groups[0]["params"]
        state = [self.state[weight] for weight in self._weights]
        self._steps, self._means, self._squares = (
            [entry[name] for entry in state] for name in ("step", "exp_avg", "exp_avg_sq")
        )

    def step_with(self, gradients: list[Tensor]) -> None:
        """One step down `gradients`, in the weights' order."""
        group: dict[str, Any] = self.param_groups[0]
        torch._foreach_add_(self._steps, 1)
        torch._fused_adam_(
            self._weights,
            gradients,
            self._means,
            self._squares,
            [],
            self._steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
            grad_scale=None,
            found_inf=self._found_inf,
        )
        torch._foreach_sub_(self._steps, [self._found_inf] * len(self._steps))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's: the state's tensors are others afterwards."""
        super().load_state_dict(state_dict)
        self._collect()
