"""How far a success rate may be from the truth."""

from __future__ import annotations

import math


def wilson(successes: int, episodes: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a success rate. Source: Wilson 1927, score interval without continuity correction.

    Of a script that counts otherwise, and tells more successes than episodes or fewer than none, that of all or none.
    """
    p, n = min(max(successes / episodes, 0.0), 1.0), episodes
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(centre - half, 0.0), min(centre + half, 1.0)
