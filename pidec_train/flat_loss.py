"""Says when the training loss has been flat for long, with its evidence.

The rule, also in docs/metrics.md: of the newest stretch of the run (see `_needed`) ten blocks of equal length are
averaged. The loss is called flat where the means of the first and the last five differ by less than the 95 % margin of
such a difference, "within noise" (Student's t with 8 degrees of freedom, from the scatter of the blocks in each half),
and where difference and margin together are below TOLERANCE of the loss: with more noise than that, a fall that matters
could hide in it.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 0.004  # of the loss, between the halves of the stretch
# Of the stretch; the share is of the whole run: half of it hides a fall of 5 % from the run's begin to its end.
LEAST_ITERATIONS, LEAST_SHARE = 20_000, 0.2
SHARE_OF_PAST = 1 / 3  # a loss like t^-0.3 falls by 6 % between the halves of the newest third, however long the run
_CELLS = 256  # that a whole run is divided into: all that is kept of it
_ROWS_PER_CELL = 5  # at least, so that the median drops a spike
_BLOCKS = 10
_T_95 = 2.306  # two-sided 95 % of Student's t, 8 degrees of freedom
USUALLY_ENOUGH = 500_000


@dataclass(frozen=True)
class _Cell:
    """The median loss of the rows in (start, end]."""

    start: int
    end: int
    loss: float


class FlatLoss:
    """Takes the rows of one run in their order; speaks once, and again when the flat stretch has doubled.

    Args:
        total_iters: of the whole run; the learning rate is taken to fall on a cosine until then.
    """

    def __init__(self, total_iters: int) -> None:
        self._total = total_iters
        self._cells: list[_Cell] = []
        self._rows: list[float] = []  # of the cell that is not full yet
        self._start: int | None = None  # where that one begins
        self._said = 0  # iterations of the stretch that was told last

    def add(self, iteration: int, loss: float | None) -> str | None:
        """One row: `loss` is the mean since the row before. Returns a warning when one is due.

        A loss that is not a positive number is passed over.
        """
        if loss is None or not math.isfinite(loss) or loss <= 0:
            return None
        if self._start is None:
            self._start = iteration  # of what came before nothing is known
            return None
        self._rows.append(loss)
        if len(self._rows) < _ROWS_PER_CELL or iteration - self._start < self._total / _CELLS:
            return None
        self._cells.append(_Cell(self._start, iteration, statistics.median(self._rows)))
        self._start, self._rows = iteration, []
        return self._look(iteration)

    def _needed(self, iteration: int) -> float:
        """How long a flat stretch must be to be worth a word."""
        least = max(LEAST_ITERATIONS, LEAST_SHARE * self._total, SHARE_OF_PAST * iteration)
        return max(least, 2 * self._said)

    def _look(self, iteration: int) -> str | None:
        needed = self._needed(iteration)
        first = next((i for i in reversed(range(len(self._cells))) if iteration - self._cells[i].start >= needed), None)
        if first is None or len(self._cells) - first < _BLOCKS:
            return None
        stretch = self._cells[first:]
        change, margin = _change([cell.loss for cell in stretch])
        if abs(change) >= margin or abs(change) + margin >= TOLERANCE:
            return None
        self._said = iteration - stretch[0].start
        return self._sentence(stretch, change, margin)

    def _sentence(self, stretch: Sequence[_Cell], change: float, margin: float) -> str:
        half = len(stretch) // 2
        start, middle, end = stretch[0].start, stretch[half].start, stretch[-1].end
        before = statistics.fmean(cell.loss for cell in stretch[:half])
        after = statistics.fmean(cell.loss for cell in stretch[half:])
        words = [
            f"loss flat for {(end - start) / 1000:.0f} k iterations (mean {before:#.4g} over iterations "
            f"{start:,}-{middle:,}, {after:#.4g} over {middle:,}-{end:,}: {change:+.1%}, within noise of "
            f"±{margin:.1%})"
        ]
        rate = 0.5 * (1 + math.cos(math.pi * min(end / self._total, 1)))
        if rate > 0.1:
            words.append(
                f"the learning rate is still at {rate:.0%} of its peak, and the loss usually falls once more on its "
                "way down"
            )
        if self._total > USUALLY_ENOUGH:
            words.append("300-500 k iterations are usually enough")
        return "; ".join(words)


def _change(losses: Sequence[float]) -> tuple[float, float]:
    """Change from the first half to the second and its 95 % margin, both as shares of the mean loss."""
    edges = [round(i * len(losses) / _BLOCKS) for i in range(_BLOCKS + 1)]
    blocks = [statistics.fmean(losses[a:b]) for a, b in itertools.pairwise(edges)]
    half = _BLOCKS // 2
    before, after = blocks[:half], blocks[half:]
    spread = (statistics.variance(before) + statistics.variance(after)) / half
    mean = statistics.fmean(blocks)
    return (statistics.fmean(after) - statistics.fmean(before)) / mean, _T_95 * math.sqrt(spread) / mean
