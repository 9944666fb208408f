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

    def state(self) -> dict[str, Any] | None:
        """For a checkpoint; None for "none"."""
        if self.kind == "none":
            return None
        return {"kind": self.kind, "offset": self.offset, "scale": self.scale}

    @staticmethod
    def from_state(state: Mapping[str, Any] | None, dim: int) -> Norm:
        """Reverse of `state`; None is "none"."""
        return Norm(state["kind"], state["offset"], state["scale"]) if state else Norm.identity(dim)
