"""Curves as rows, for CSV and reports: one row for each line that was logged, by step."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from typing import TextIO

from .jobs import MetricBlock

Row = tuple[int, float, dict[str, float | None]]  # step, unix seconds, values by metric


def curve_rows(blocks: Sequence[MetricBlock], keys: Sequence[str] = ()) -> Iterator[Row]:
    """The lines of a job by step, then by time; a value that was no number is None.

    Args:
        blocks: a full read of `Manager.curves`.
        keys: only these metrics; all if empty. Lines that name none of them are left out.
    """
    kept = _not_said_again(blocks)
    places = [(block, at) for block in blocks for at in range(len(block.steps))]
    places.sort(key=lambda place: (place[0].steps[place[1]], place[0].times[place[1]]))
    for block, at in places:
        step = block.steps[at]
        values = {
            name: None if math.isnan(column[at]) else column[at]
            for name, column in block.columns.items()
            if (not keys or name in keys) and kept.get((name, step), block.attempt) == block.attempt
        }
        if values:
            yield int(step), block.times[at], values


def write_csv(file: TextIO, blocks: Sequence[MetricBlock], columns: Sequence[str], keys: Sequence[str] = ()) -> None:
    """The rows under a head of step, time (unix seconds) and these metrics; `keys` as for `curve_rows`."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["step", "time", *columns])
    for step, when, values in curve_rows(blocks, keys):
        writer.writerow([step, f"{when:.3f}", *(values.get(name) for name in columns)])


def _not_said_again(blocks: Sequence[MetricBlock]) -> dict[tuple[str, float], int]:
    """The attempt that counts, for each metric and step of a job that has run more than once."""
    if len({block.attempt for block in blocks}) < 2:
        return {}
    newest: dict[tuple[str, float], int] = {}
    for block in sorted(blocks, key=lambda block: block.attempt):
        for name in block.columns:
            newest.update(((name, step), block.attempt) for step in block.steps)
    return newest
