"""How many operations a piece of work hands to torch's dispatcher.

Small networks on a GPU do not wait for arithmetic but for these calls: each costs several microseconds of one CPU core
before its kernel, if it has one, can start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


def count_dispatches(work: Callable[[], object]) -> Counter[str]:
    """Run `work` once, eagerly. Returns the calls by operation ("mm.default", "view.default", …).

    Counted below autograd: forward, backward and optimizer alike, views too. The sum is the number to compare.
    """
    counts: Counter[str] = Counter()

    class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            counts[str(func).removeprefix("aten.")] += 1
            return func(*args, **(kwargs or {}))

    with Counting():  # type: ignore[no-untyped-call]
        work()
    return counts
