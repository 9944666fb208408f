"""Constant inputs: numbers that a policy was trained to see and that its environment does not give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..protocol.errors import PidecError


@dataclass(frozen=True)
class ConstantInputs:
    """Values to insert into every observation.

    Attributes:
        index: where the first of them lies in the complete observation.
        values: in the environment's own units.
    """

    index: int
    values: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def columns(self) -> range:
        """Their places in the complete observation."""
        return range(self.index, self.index + len(self.values))

    def insert(self, obs: Tensor, values: Tensor | None = None) -> Tensor:
        """(…, dim) -> (…, dim + n).

        Args:
            values: (n,) on the device of `obs`, if the caller keeps them there.
        """
        if values is None:
            values = torch.tensor(self.values, dtype=obs.dtype, device=obs.device)
        middle = values.expand(*obs.shape[:-1], len(self.values))
        return torch.cat((obs[..., : self.index], middle, obs[..., self.index :]), dim=-1)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"index": self.index, "values": list(self.values)}

    @staticmethod
    def from_state(state: Mapping[str, Any] | None, dim: int) -> ConstantInputs | None:
        """Reverse of `state`; None is None.

        Args:
            dim: size of the complete observation.

        Raises:
            PidecError: these are no constant inputs of an observation of that size.
        """
        if state is None:
            return None
        try:
            found = ConstantInputs(state["index"], tuple(float(value) for value in state["values"]))
            fits = type(found.index) is int and found.index >= 0 and found.values and found.columns[-1] < dim
        except (KeyError, TypeError, ValueError, OverflowError):
            fits = False
        if not fits:
            raise PidecError(f"its constant_inputs do not fit an observation of {dim} numbers")
        return found
