"""A decorated policy beside its base alone, on the same starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .evaluate import EvalResult


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same episodes."""

    base: EvalResult
    decorated: EvalResult

    def counts(self) -> dict[str, int]:
        """How many starts each of the two succeeds from."""
        pairs = [
            (before[1], after[1])
            for before, after in zip(self.base.per_episode, self.decorated.per_episode, strict=True)
        ]
        return {
            "both": pairs.count((True, True)),
            "decorated_only": pairs.count((False, True)),
            "base_only": pairs.count((True, False)),
            "neither": pairs.count((False, False)),
        }

    def lines(self) -> list[str]:
        """For people."""
        told = (
            "{both} starts both succeed from, {decorated_only} the decorated policy alone, {base_only} the base alone, "
        )
        return [
            f"base       {self.base.line()}",
            f"decorated  {self.decorated.line()}",
            (told + "{neither} with neither").format(**self.counts()),
        ]

    def facts(self) -> dict[str, Any]:
        """The base's figures and the counts, as JSON values."""
        return {
            "base": {
                "successes": self.base.successes,
                "success_rate": self.base.success_rate,
                "wilson_95": list(self.base.wilson()),
                "episode_length": self.base.mean_length,
            },
            "starts": self.counts(),
        }
