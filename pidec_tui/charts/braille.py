"""Dots -> braille cells, two dots wide and four high."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DOTS_X, DOTS_Y = 2, 4
# Unicode numbers the dots of a cell 1-2-3-7 down the left side and 4-5-6-8 down the right.
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.uint8)


def dots_of_spans(top: NDArray[np.float64], bottom: NDArray[np.float64], height: int) -> NDArray[np.bool_]:
    """(height, columns) grid of dots: column c is filled from row `top[c]` down to row `bottom[c]`, rows counted
    from 0 at the top; NaN leaves a column empty."""
    rows = np.arange(height)[:, None]
    dots: NDArray[np.bool_] = (rows >= top[None, :]) & (rows <= bottom[None, :])
    return dots


def cells_of_dots(dots: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(4 h, 2 w) grid of dots -> (h, w) braille patterns, 0 where a cell is empty."""
    height, width = dots.shape[0] // DOTS_Y, dots.shape[1] // DOTS_X
    grid = dots.reshape(height, DOTS_Y, width, DOTS_X).astype(np.uint8)
    cells: NDArray[np.uint8] = (grid * _BITS[None, :, None, :]).sum(axis=(1, 3), dtype=np.uint8)
    return cells


def text_of_cells(cells: NDArray[np.uint8]) -> list[str]:
    """(h, w) patterns -> h lines of w characters; an empty cell is a blank, which copies better than U+2800."""
    codes = np.where(cells > 0, cells.astype(np.uint32) + 0x2800, 0x20).astype("<u4")
    return [row.tobytes().decode("utf-32-le") for row in codes]
