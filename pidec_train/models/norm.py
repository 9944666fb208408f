"""Normalisation by the statistics of the demos: `normalised = (raw - offset) / scale`, per dimension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..protocol.errors import PidecError

# Below this (metres, radians, action units) a dimension counts as constant: dividing by its spread would only
# magnify rounding, and a task that later moves it a little would see inputs of thousands.
CONSTANT = 1e-4


@dataclass(frozen=True)
class Norm:
    """One normalisation.

    Attributes:
        kind: "none", "mean_std" (mean 0, standard deviation 1) or "min_max" (into [-1, 1]).
        offset, scale: (dim,) float32.
    """

    kind: str
    offset: Tensor
    scale: Tensor

    @staticmethod
    def fit(kind: str, rows: Tensor) -> Norm:
        """Statistics of `rows` (N, dim). A constant dimension is only shifted, to 0."""
        wide = rows.double()  # sums over millions of rows
        if kind == "none":
            return Norm.identity(rows.shape[1])
        if kind == "mean_std":
            offset, scale = wide.mean(0), wide.std(0, correction=0)
        elif kind == "min_max":
            low, high = wide.amin(0), wide.amax(0)
            offset, scale = (high + low) / 2, (high - low) / 2
        else:
            raise PidecError(f'unknown normalisation "{kind}": allowed are none, mean_std and min_max')
        scale = torch.where(scale < CONSTANT, torch.ones_like(scale), scale)
        return Norm(kind, offset.float().cpu(), scale.float().cpu())

    @staticmethod
    def identity(dim: int) -> Norm:
        return Norm("none", torch.zeros(dim), torch.ones(dim))

    def normalise(self, raw: Tensor) -> Tensor:
        """Last dimension `dim`. "none" returns `raw` itself, bit for bit."""
        return raw if self.kind == "none" else (raw - self.offset.to(raw.device)) / self.scale.to(raw.device)

    def to(self, device: torch.device) -> Norm:
        """The same with its statistics there, for use in every step."""
        return Norm(self.kind, self.offset.to(device), self.scale.to(device))

    def within(self, raw: Tensor, limit: float) -> Tensor:
        """Normalised and clipped to ±limit: a policy that learns online comes to states far outside the demos."""
        return raw if self.kind == "none" else self.normalise(raw).clamp(-limit, limit)

    def state(self) -> dict[str, Any] | None:
        """For a checkpoint; None for "none"."""
        if self.kind == "none":
            return None
        return {"kind": self.kind, "offset": self.offset, "scale": self.scale}

    @staticmethod
    def from_action_statistics(mean: Any, std: Any, act_dim: int) -> Norm:
        """What a fork of upstream's program keeps beside the weights: tensors or lists of act_dim numbers.

        Raises:
            PidecError: one of the two is missing, of another length, not finite, or a deviation is negative.
        """
        for name, value, other in (("action_mean", mean, "action_std"), ("action_std", std, "action_mean")):
            if value is None:
                raise PidecError(f"it holds {other} but no {name}: actions cannot be brought back to their units")
        return Norm("mean_std", _numbers("action_mean", mean, act_dim), _numbers("action_std", std, act_dim))

    def without(self, columns: range) -> Norm:
        """The same for observations that lack these dimensions."""
        kept = [i for i in range(len(self.offset)) if i not in columns]
        return Norm(self.kind, self.offset[kept], self.scale[kept])

    @staticmethod
    def from_state(state: Mapping[str, Any] | None, dim: int) -> Norm:
        """Reverse of `state`; None is "none".

        Raises:
            PidecError: these are no statistics of `dim` numbers.
        """
        if state is None:
            return Norm.identity(dim)
        if not isinstance(state, Mapping) or state.get("kind") not in ("mean_std", "min_max"):
            raise PidecError('its normalisation is of no known kind: allowed are "mean_std" and "min_max"')
        kind = state["kind"]
        return Norm(kind, _numbers("offset", state.get("offset"), dim), _numbers("scale", state.get("scale"), dim))


def _numbers(name: str, value: Any, dim: int) -> Tensor:
    """`value` (a tensor, or a list of numbers) as (dim,) float32; a scale must not be negative.

    0 is a legal scale: of actions, which are only multiplied on sampling, it is a dimension that never moved.
    """
    try:
        numbers = torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise PidecError(f"its {name} is not a list of {dim} numbers") from None
    if numbers.numel() != dim or numbers.dtype.is_complex:
        raise PidecError(f"its {name} has {numbers.numel()} numbers instead of {dim}")
    numbers = numbers.flatten().float()
    if not bool(torch.isfinite(numbers).all()):
        raise PidecError(f"its {name} holds a number that is not finite")
    if name in ("scale", "action_std") and bool((numbers < 0).any()):
        raise PidecError(f"its {name} holds {numbers.min().item():.4g}: allowed are 0 and more")
    return numbers
