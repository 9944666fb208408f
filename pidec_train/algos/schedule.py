"""Learning rate: linear warm-up, then half a cosine down to 0. A function of the iteration, without state."""

from __future__ import annotations

import math


def warmup_cosine(done: int, warmup_steps: int, total_iters: int) -> float:
    """Factor on the peak learning rate for the iteration after `done` finished ones (diffusers' "cosine")."""
    if done < warmup_steps:
        return done / max(1, warmup_steps)
    progress = (done - warmup_steps) / max(1, total_iters - warmup_steps)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
