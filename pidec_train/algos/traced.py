"""Work as TorchScript, which runs without Python.

Two threads that both call torch from Python wait for each other's interpreter lock at every call: updates beside base
actions took 20.8 and 21.2 ms, with the base's traced 15.7 and 15.2 (an update at batch 256; 32 chunks by four steps).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

Work = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def traced(work: Work, first: Tensor, second: Tensor) -> tuple[Work, str]:
    """`work`, recorded on these inputs, for any number of rows.

    Returns:
        What was recorded, and ""; or `work` itself, and why it cannot be recorded. (TorchScript is deprecated: a torch
        without it, or one whose recording gives other numbers, costs the speed and nothing else.)
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            recorded: Work = torch.jit.trace(work, (first, second), check_trace=False)  # type: ignore[no-untyped-call]
        for rows in (len(first), 1):
            torch.testing.assert_close(
                recorded(first[:rows], second[:rows]), work(first[:rows], second[:rows]), rtol=1e-3, atol=1e-4
            )
    except Exception as error:  # noqa: BLE001 - whatever a recorder raises, the work itself goes on
        lines = str(error).strip().splitlines() or [""]
        return work, f"{type(error).__name__}: {lines[0]}"
    return recorded, ""
