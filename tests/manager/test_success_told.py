"""Which of a checkpoint's evaluations its success is said to be."""

from __future__ import annotations

from pathlib import Path

from pidec_tui.manager.catalogue import Entry, Evaluation

OWN = Evaluation(1, 4)
FEW, MANY = Evaluation(2, 4, 8), Evaluation(30, 100, 9)
OTHER = Evaluation(90, 200, 7, settings="sampler ddim")


def _told(*evaluations: Evaluation) -> Evaluation | None:
    return Entry(Path("a.pt"), Path(), "run", 1, 0.0, evaluations=evaluations).evaluation


def test_success_is_that_of_the_most_episodes() -> None:
    """Lost: the hundred episodes that somebody asked for, behind the four of a short training; or a figure that comes
    from another sampler."""
    assert _told(OWN, FEW, MANY, OTHER) == MANY
    assert _told(OWN, FEW) == OWN, "as many episodes are no reason to change"
    assert _told(OWN, OTHER) == OWN
    assert _told(OTHER) == OTHER and _told() is None
