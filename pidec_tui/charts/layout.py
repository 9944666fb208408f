"""How many charts fit, and how they stand. Pure."""

from __future__ import annotations

MOST = 9
_LEAST_WIDTH, _LEAST_HEIGHT = 40, 8  # cells below which a chart says little
_LEAST_STACKED = 5


def stacked(height: int) -> int:
    """How many charts fit one above the other, where one is looked at through all of them: lower ones will do."""
    return min(max(height // _LEAST_STACKED, 1), MOST)


def capacity(width: int, height: int) -> tuple[int, int]:
    """(columns, rows) of charts that fit, at least one and at most three each."""
    return min(max(width // _LEAST_WIDTH, 1), 3), min(max(height // _LEAST_HEIGHT, 1), 3)


def arranged(count: int, width: int, height: int) -> tuple[int, int]:
    """(columns, rows) for so many charts: as few columns as the rows allow, for time runs along the x axis."""
    most_columns, most_rows = capacity(width, height)
    columns = min(-(-max(count, 1) // most_rows), most_columns)
    return columns, min(-(-max(count, 1) // columns), most_rows)
