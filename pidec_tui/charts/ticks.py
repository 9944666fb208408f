"""Ticks that people would choose, and numbers short enough to stand beside an axis."""

from __future__ import annotations

import math

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float, digits: int = 3) -> str:
    """`value` in at most six characters or so: 948, 1.25k, 0.031, 3.1e-5."""
    if not math.isfinite(value):
        return "-"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e15:
        mantissa, exponent = f"{value:.{max(digits - 2, 0)}e}".split("e")
        return f"{_trim(mantissa)}e{int(exponent)}"
    for factor, unit in _UNITS:
        # 999.6 has no unit yet is written 1k with three digits, so compare what would be written.
        if round(size, digits - 1 - math.floor(math.log10(size))) >= factor:
            return _significant(value / factor, digits) + unit
    return _significant(value, digits)


def _significant(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return _trim(f"{value:.{decimals}f}")


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def nice_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that cuts `span` into at most `most` pieces."""
    rough = span / max(most, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    # 1e-9: 0.30000000000000004 / 0.1 must count as 3.
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round numbers within [low, high], ascending."""
    if not high > low:
        return [low]
    step = nice_step(high - low, most)
    while True:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most or last <= first:
            break
        step = nice_step(step * 1.01, 1)
    return [round(i * step, 12 - math.floor(math.log10(step))) for i in range(first, last + 1)] or [low]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round numbers within [low, high] for a logarithmic axis; both ends positive."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [f * 10.0**p for p in range(first, last + 1) for f in factors]
        ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if 2 <= len(ticks) <= most:
            return ticks
        if len(ticks) < 2:  # less than one round factor apart: as good as linear
            return linear_ticks(low, high, most)
    every = math.ceil(len(ticks) / most)
    return ticks[::every]
