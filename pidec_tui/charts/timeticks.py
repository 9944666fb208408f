"""Ticks of an axis of time: round minutes, hours and days, as a clock shows them or as time that has passed."""

from __future__ import annotations

import math
import time

_SECOND_STEPS = (1, 2, 5, 10, 15, 30)
_STEPS = (
    *_SECOND_STEPS,
    *(60 * step for step in _SECOND_STEPS),
    *(3600 * step for step in (1, 2, 3, 6, 12)),
    *(86400 * step for step in (1, 2, 7, 14, 30, 90, 365)),
)


def time_ticks(low: float, high: float, most: int, *, clock: bool) -> tuple[list[float], list[str]]:
    """At most `most` round times within [low, high], and their labels.

    Args:
        low, high: seconds; unix time for a clock.
        clock: local times of day, with the date at midnight; else durations ("1h30").
    """
    step = _step(high - low, most)
    offset = 0.0
    if clock:
        try:  # round in local time: 06:00, not 06:00 UTC
            offset = float(time.localtime(low).tm_gmtoff)
        except (OverflowError, ValueError, OSError):  # beyond any calendar
            return [low], ["-"]
    first = math.ceil((low + offset) / step - 1e-9)
    last = math.floor((high + offset) / step + 1e-9)
    ticks = [index * step - offset for index in range(first, min(last, first + most) + 1)] or [low]
    return ticks, [_clock_label(tick, step) if clock else duration_label(tick, step) for tick in ticks]


def _step(span: float, most: int) -> float:
    rough = span / max(most - 1, 1)
    if rough < 1:  # a stretch of less than seconds: decimals
        return float(10.0 ** math.ceil(math.log10(rough))) if rough > 0 else 1.0
    return next((float(step) for step in _STEPS if step >= rough), 365 * 86400.0 * math.ceil(rough / (365 * 86400)))


def _clock_label(when: float, step: float) -> str:
    try:
        local = time.localtime(when)
    except (OverflowError, ValueError, OSError):
        return "-"
    if step >= 365 * 86400:
        return time.strftime("%Y", local)
    if step >= 86400 or (local.tm_hour, local.tm_min, local.tm_sec) == (0, 0, 0):
        return f"{local.tm_mday} {time.strftime('%b', local)}"
    return time.strftime("%H:%M" if step >= 60 else "%H:%M:%S", local)


def moment_label(when: float, now: float, *, seconds: bool = False, brief: bool = False) -> str:
    """One time on a clock: 14:32 today, Tue 14:32 within six days, else 12 Mar 14:32; - beyond any calendar (a job
    that says it has 1e18 steps).

    Args:
        when, now: unix seconds.
        seconds: of times that lie close: with seconds, which take the place of the day.
        brief: another date has no time of day.
    """
    try:
        then, today = time.localtime(when), time.localtime(now)
    except (OverflowError, ValueError, OSError):
        return "-"
    if seconds:
        return time.strftime("%H:%M:%S", then)
    clock = time.strftime("%H:%M", then)
    if then[:3] == today[:3]:
        return clock
    if abs(when - now) < 6 * 86400:
        return f"{time.strftime('%a', then)} {clock}"
    date = f"{then.tm_mday} {time.strftime('%b', then)}"
    return date if brief else f"{date} {clock}"


def duration_label(seconds: float, step: float = 1.0) -> str:
    """0, 30s, 5m, 1h30, 2d6h: as exact as `step` needs, without parts that are nothing."""
    if step < 1:
        return f"{seconds:.{max(-math.floor(math.log10(step)), 0)}f}s"
    sign, whole = "-" if seconds < 0 else "", abs(round(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{sign}{days}d{hours}h" if hours else f"{sign}{days}d"
    if hours:
        return f"{sign}{hours}h{minutes:02d}" if minutes else f"{sign}{hours}h"
    if minutes:
        return f"{sign}{minutes}m{left:02d}" if left else f"{sign}{minutes}m"
    return f"{sign}{left}s" if left else "0"
