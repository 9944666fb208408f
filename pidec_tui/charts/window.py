"""Which stretch of the x axis all charts show: zooming and panning. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .ticks import nice_step

_MOST_ZOOM = 1e6
_GRAINS = 128  # of the axis, about as many as a chart has columns of dots


@dataclass(frozen=True)
class Window:
    """A stretch; plain, it is the whole.

    Attributes:
        width: how long it is; None: the whole.
        end: its right end; None: that of the whole, also when this moves on.
    """

    width: float | None = None
    end: float | None = None

    def span(self, whole: tuple[float, float]) -> tuple[float, float]:
        """Its two ends, within `whole`."""
        low, high = whole
        if self.width is None:
            return whole
        width = min(self.width, high - low)
        end = high if self.end is None else min(max(self.end, low + width), high)
        return end - width, end

    def zoomed(self, whole: tuple[float, float], factor: float, about: float | None = None) -> Window:
        """`factor` times as long (above 1: less close), with `about` in the place where it was.

        Without `about` the right end stays where it is: what is newest, mostly.
        """
        low, high = self.span(whole)
        length = whole[1] - whole[0]
        if length <= 0:
            return self
        width = max((high - low) * factor, length / _MOST_ZOOM)
        if width >= length * (1 - 1e-9):
            return Window()
        pivot = high if about is None else min(max(about, low), high)
        return Window(width)._ending(whole, pivot + (high - pivot) * width / (high - low))

    def panned(self, whole: tuple[float, float], share: float) -> Window:
        """Moved by this share of its length, to the right if positive; it stops at the ends of the whole."""
        low, high = self.span(whole)
        return self if self.width is None else self._ending(whole, high + share * (high - low))

    def showing(self, whole: tuple[float, float], x: float) -> Window:
        """Moved just so far that `x` is in it."""
        low, high = self.span(whole)
        if low <= x <= high:
            return self
        return self._ending(whole, x if x > high else x + (high - low))

    def _ending(self, whole: tuple[float, float], end: float) -> Window:
        """With this right end; at that of the whole it stays there from now on."""
        width = self.width if self.width is not None else whole[1] - whole[0]
        end = max(end, whole[0] + width)
        return Window(width, None if end >= whole[1] - 1e-9 * (whole[1] - whole[0]) else end)


def rounded_end(low: float, high: float) -> float:
    """An end for the axis a little behind `high`, the same for some time while a run goes on: then a chart without a
    new point has nothing to draw anew, and in the others little changes."""
    if not high > low:
        return high
    grain = nice_step(high - low, _GRAINS)
    return low + math.ceil((high - low) / grain * (1 - 1e-9)) * grain
