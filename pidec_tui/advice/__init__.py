"""Sentences on why a run is as fast as it is, with their evidence: figures in, advice out."""

from __future__ import annotations

from .earlier import earlier
from .facts import Advice as Advice
from .facts import Earlier as Earlier
from .facts import Facts as Facts
from .flat import FLAT_LOSS as FLAT_LOSS
from .flat import flat
from .machine import machine
from .slower import slower
from .waits import waits


def advise(facts: Facts) -> tuple[Advice, ...]:
    """All that the figures tell, the heaviest first; nothing where they are too few."""
    slow = slower(facts)
    found = [*([slow] if slow else []), *waits(facts), *flat(facts), *machine(facts, slow is not None), *earlier(facts)]
    return tuple(sorted(found, key=lambda advice: -advice.weight))
