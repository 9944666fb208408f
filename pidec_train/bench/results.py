"""What was measured, and what follows from it. No torch here."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

FULL_RUN = 1_000_000  # iterations of upstream's training


@dataclass
class Row:
    """One contender at one batch size.

    Attributes:
        peak: name of the precision that its arithmetic is held against.
        reason: why there are no figures; "" if there are.
        rates: iterations per minute of each turn.
        setup_seconds: until it was ready to run (compiling, capturing).
        memory_bytes: of the GPU, at most; 0 on a CPU.
        dispatches: calls that one eager iteration hands to torch's dispatcher; None where it is not eager.
        parts_ms: time of each part of one eager iteration.
    """

    name: str
    title: str
    peak: str
    reason: str = ""
    rates: list[float] = field(default_factory=list)
    setup_seconds: float = 0.0
    memory_bytes: int = 0
    dispatches: int | None = None
    parts_ms: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float | None:
        """Median, iterations per minute."""
        return statistics.median(self.rates) if self.rates and not self.reason else None


@dataclass
class BatchResult:
    """All contenders at one batch size; the first row is the upstream way."""

    batch_size: int
    flops: int
    rows: list[Row]

    @property
    def fastest(self) -> Row | None:
        """Of ours."""
        return max((row for row in self.rows[1:] if row.rate), key=lambda row: row.rate or 0.0, default=None)

    def ratio(self, row: Row) -> float | None:
        """To the upstream way in the same run."""
        base = self.rows[0].rate
        return row.rate / base if row.rate and base else None

    def share_of_peak(self, row: Row, peaks: dict[str, float]) -> float | None:
        """Of the arithmetic that a large matrix product reaches, 0 to 1."""
        return row.rate / 60 * self.flops / peaks[row.peak] if row.rate and row.peak in peaks else None


@dataclass
class Results:
    """Attributes:
    peaks: floating-point operations a second by precision.
    guard: largest relative loss difference, captured against eager, or why it was not measured.
    """

    machine: dict[str, Any]
    turns: int
    turn_seconds: float
    peaks: dict[str, float]
    batches: list[BatchResult]
    guard: float | str

    def sentence(self) -> str:
        """What the reader came for; about the first batch size, as a run has one."""
        if not self.batches:
            return "nothing was measured"
        batch = self.batches[0]
        base, best = batch.rows[0], batch.fastest
        if base.rate is None:
            return f"upstream's way could not be measured at batch {batch.batch_size}: {base.reason}"
        if best is None or best.rate is None:
            reasons = "; ".join(f"{row.title}: {row.reason}" for row in batch.rows[1:] if row.reason)
            return f"pidec could not be measured at batch {batch.batch_size}: {reasons or 'no contender was asked for'}"
        return (
            f"upstream's way {base.rate:,.0f}/min, pidec {best.rate:,.0f}/min at batch {batch.batch_size}: your 1 M "
            f"run takes {duration(FULL_RUN / best.rate)} instead of {duration(FULL_RUN / base.rate)}"
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "turns": self.turns,
            "turn_seconds": self.turn_seconds,
            "peak_flops_per_second": self.peaks,
            "batches": [self._batch_json(batch) for batch in self.batches],
            "guard": {
                "largest_relative_loss_difference": self.guard if isinstance(self.guard, float) else None,
                "reason": self.guard if isinstance(self.guard, str) else None,
            },
            "sentence": self.sentence(),
        }

    def _batch_json(self, batch: BatchResult) -> dict[str, Any]:
        rows = [
            {
                "name": row.name,
                "reason": row.reason or None,
                "iterations_per_min": row.rate,
                "turns": [] if row.reason else row.rates,
                "ratio": batch.ratio(row),
                "share_of_peak": batch.share_of_peak(row, self.peaks),
                "peak": row.peak,
                "setup_seconds": row.setup_seconds,
                "memory_bytes": row.memory_bytes or None,
                "dispatches": row.dispatches,
                "parts_ms": row.parts_ms or None,
            }
            for row in batch.rows
        ]
        return {"batch_size": batch.batch_size, "flops_per_iteration": batch.flops, "contenders": rows}


def duration(minutes: float) -> str:
    """In the unit that a person would use: "40 s", "17 min", "17.5 h", "3.2 days"."""
    if minutes < 1.5:
        return f"{60 * minutes:.0f} s"
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 60 * 48 else f"{minutes / 60 / 24:.1f} days"
