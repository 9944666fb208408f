"""Times, sizes, states and keys as people read them. Pure; used by every screen."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from .charts.ticks import number
from .charts.timeticks import moment_label
from .manager.intervals import wilson as wilson

Keys = Callable[[str], str]  # the key that an id of a binding has now, as it is shown
_NAMED = re.compile(r"<([a-z]+\.[a-z-]+)>")

# A shape and a word each, so that no meaning hangs on colour alone. All one cell wide in every common font.
GLYPHS = {
    "held": "□",
    "queued": "○",
    "starting": "◌",
    "running": "●",
    "stopping": "◍",
    "succeeded": "✓",
    "failed": "✗",
    "cancelled": "⊘",
    "interrupted": "↻",
}
# Colour by state, names of the theme's variables.
STATE_COLOURS = {
    "held": "warning",
    "queued": "foreground",
    "starting": "primary",
    "running": "primary",
    "stopping": "warning",
    "succeeded": "success",
    "failed": "error",
    "cancelled": "foreground",
    "interrupted": "warning",
}


def duration(seconds: float) -> str:
    """12 s, 4 min, 1 h 05, 3 d 4 h."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d}"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def moment(when: float, now: float) -> str:
    """Time of day, with the weekday or the date where it is not today's: 14:32, Tue 14:32, 12 Mar."""
    return moment_label(when, now, brief=True)


def size(count: float) -> str:
    """Bytes: 512 B, 18 MB, 18.2 GB (powers of ten, as disks and pip count them)."""
    if count < 1000:
        return f"{count:.0f} B"
    power = min(int(math.log10(count) // 3), 4)
    return f"{number(count / 1000**power)} {'kMGT'[power - 1]}B"


def gib(count: float) -> str:
    """GPU and host memory, in the unit that drivers use: 18.2."""
    value = count / 2**30
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def percent(share: float) -> str:
    """0.624 -> 62%."""
    return f"{share * 100:.0f}%"


def bar(share: float, width: int) -> tuple[str, str]:
    """The filled and the empty part of a progress bar."""
    filled = round(min(max(share, 0.0), 1.0) * width)
    return "━" * filled, "─" * (width - filled)


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def keyed(text: str, key: Keys) -> str:
    """`<job.retry> tries again` with the key in it. What is no id stays: a user's text may look like that."""
    return _NAMED.sub(lambda found: key(found[1]) or found[0], text)
