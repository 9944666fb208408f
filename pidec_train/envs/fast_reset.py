"""Resets of ManiSkill's environments without what nobody reads."""

from __future__ import annotations

from typing import Any


def lean_reset(env: Any, seed: int | None, options: dict[str, Any] | None) -> None:
    """`env.reset(seed, options)` of ManiSkill's unwrapped environment, without its observation and success test."""
    env.get_info = dict
    env.get_obs = lambda info=None, unflattened=False: None
    env.reset(seed=seed, options=options)
