"""One word for how a run does, by the same rules as the alerts: for `top`, `--once` and the first screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import alerts
from .alerts import Key
from .intervals import wilson
from .jobs import Job, JobEvent
from .pulse import Pulse

if TYPE_CHECKING:
    from .settings import Settings

HEALTHY, BEGINS, STALLED, FINISHES = "healthy", "begins", "stalled", "finishes"
# Of several troubles the worst is told.
WORDS = {alerts.NAN: "NaN", alerts.STALLED: STALLED, alerts.SLOW: "slow", alerts.PLATEAU: "plateau"}


@dataclass(frozen=True)
class Health:
    """`word`: healthy, begins (no numbers yet), finishes (all its steps are done), or one of `WORDS`; `why`: a
    sentence, "" of one that is well."""

    word: str
    why: str = ""


@dataclass
class Checkup:
    """What is known of one attempt between two looks. Belongs to one thread.

    Attributes:
        last_event: row of what was taken in; the next read goes on behind it.
        evaluated: success of the newest evaluation that told how many episodes it had, with its 95 % interval.
    """

    attempt: int
    last_event: int = 0
    evaluated: tuple[float, tuple[float, float]] | None = None
    _judged_row: int = -1
    _found: dict[Key, str] = field(default_factory=dict)
    _evaluating: bool = False

    def take(self, events: Sequence[JobEvent]) -> None:
        """Add the events behind `last_event`."""
        for event in events:
            self.last_event = max(self.last_event, event.row_id)
            if event.event != "eval":
                continue
            phase, wins, episodes = (event.detail.get(name) for name in ("phase", "successes", "episodes"))
            if phase == "done" and isinstance(wins, int) and isinstance(episodes, int) and episodes > 0:
                self.evaluated = wins / episodes, wilson(wins, episodes)
            if event.attempt == self.attempt:
                self._evaluating = phase == "start"

    def interval(self, success: float | None) -> tuple[float, float] | None:
        """The 95 % interval of a success rate; None where it is another evaluation's."""
        told = self.evaluated
        return told[1] if told and success is not None and math.isclose(told[0], success, abs_tol=1e-6) else None

    def health(self, pulse: Pulse, job: Job, settings: Settings, now: float) -> Health:
        """How the run does by what was taken in. `now`: unix seconds."""
        if pulse.attempt != self.attempt or not pulse.row_times:
            return Health(BEGINS)
        if self._judged_row != pulse.last_row:
            self._judged_row = pulse.last_row
            self._found = alerts.findings(pulse, job, settings, self._found)
        found = {kind: text for (kind, _), text in reversed(self._found.items())}
        silence = alerts.stalled(pulse, settings, now, evaluating=self._evaluating)
        if silence:
            found[alerts.STALLED] = silence
        well = FINISHES if job.total_steps and (job.step or 0) >= job.total_steps else HEALTHY
        return next((Health(word, found[kind]) for kind, word in WORDS.items() if kind in found), Health(well))
