"""Which step of its run a line of a log is about. Pure."""

from __future__ import annotations

import re

_NAMES = ("iteration", "decision step", "global step", "step", "iter", "episode", "demo", "epoch")
_NUMBER = r"(\d[\d,_]*(?:\.\d+(?=[kKM]))?)([kKM]?)(?!\w|\.\d)"
_OF_A_BAR = re.compile(rf"(?<![\w./]){_NUMBER}/\d[\d,_]*[kKM]?\s*\[")  # 25%|██▌  | 4000/16000 [00:10<00:30]
_TIMES = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6}


def step_of(text: str, step_name: str = "") -> float | None:
    """The step that a line tells: `iteration 4,000/16,000`, `decision step 20,000: …`, `step=123`, `step-000500.pt`, a
    progress bar's count; None: it tells none.

    Args:
        step_name: what the run calls its steps; where a line tells several things, this one counts.
    """
    for name in dict.fromkeys((*([step_name] if step_name else []), *_NAMES)):
        words = r"[ _-]?".join(map(re.escape, name.split()))
        found = re.search(rf"(?<!env[ _])(?<![a-zA-Z]){words}[\"']?\s*[=:#\-\[(]?\s*{_NUMBER}", text, re.IGNORECASE)
        if found:
            return _value(found)
    found = _OF_A_BAR.search(text)
    return _value(found) if found else None


def _value(found: re.Match[str]) -> float:
    return float(found[1].replace(",", "").replace("_", "")) * _TIMES[found[2]]
