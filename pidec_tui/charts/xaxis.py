"""The same curve along another x axis: env steps, time since the beginning, time of day. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pidec_train.protocol.metric_names import ENV_STEPS_PER_MIN, ITERS_PER_MIN

from .points import Floats, doubles
from .series import Curve, XKind
from .series import Floats as Doubles


def along(curve: Curve, kind: XKind, *, began: float = 0.0, env_steps: Curve | None = None) -> Curve:
    """The curve with another x, its points in the order of that.

    Args:
        began: unix seconds that "since start" counts from.
        env_steps: simulator steps by step (see `env_steps_of`).
    """
    if kind == "step" or not len(curve.xs):
        return curve
    if kind in ("since start", "clock") and curve.times is not None:  # several points of one step have their own times
        xs = np.frombuffer(curve.times) - (began if kind == "since start" else 0.0)
    else:
        xs = moved(np.frombuffer(curve.xs), curve, kind, began=began, env_steps=env_steps)
    order = np.argsort(xs, kind="stable")

    def ordered(values: Doubles | None) -> Doubles | None:
        return None if values is None else doubles(np.frombuffer(values)[order])

    ys = doubles(np.frombuffer(curve.ys)[order])
    return replace(
        curve,
        xs=doubles(xs[order]),
        ys=ys,
        times=ordered(curve.times),
        lows=ordered(curve.lows),
        highs=ordered(curve.highs),
    )


def moved(steps: Floats, clock: Curve, kind: XKind, *, began: float = 0.0, env_steps: Curve | None = None) -> Floats:
    """(N,) where these steps lie on another axis; between the points of `clock`, whose times are known, by the line."""
    if kind == "env steps" and env_steps is not None:
        return np.interp(steps, np.frombuffer(env_steps.xs), np.frombuffer(env_steps.ys))
    if kind in ("since start", "clock") and clock.times is not None:
        times = np.interp(steps, np.frombuffer(clock.xs), np.frombuffer(clock.times))
        return times - began if kind == "since start" else times
    return steps


def env_steps_of(curves: Mapping[str, Curve]) -> Curve | None:
    """Simulator steps since the beginning, by step; None: the run does not tell.

    A metric called `env_steps` says it. Else both rates of a row are over the same time, so their ratio is how many
    simulator steps a step took since the row before.
    """
    own = next((curve for name, curve in curves.items() if name.rpartition("/")[2] == "env_steps"), None)
    if own is not None:
        shown = np.isfinite(np.frombuffer(own.ys))
        xs, ys = np.frombuffer(own.xs)[shown], np.maximum.accumulate(np.frombuffer(own.ys)[shown])
        return Curve(own.name, doubles(xs), doubles(ys)) if len(xs) else None
    rate, env_rate = curves.get(ITERS_PER_MIN), curves.get(ENV_STEPS_PER_MIN)
    if rate is None or env_rate is None or not len(rate.xs) or len(rate.xs) != len(env_rate.xs):
        return None
    xs = np.frombuffer(rate.xs)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.frombuffer(env_rate.ys) / np.frombuffer(rate.ys)
    known = np.isfinite(ratio) & (ratio >= 0)
    if not known.any():
        return None
    ratio = np.interp(xs, xs[known], ratio[known])
    total = np.cumsum(ratio * np.diff(xs, prepend=min(xs[0], 0.0)))
    return Curve("env steps", doubles(np.append(min(xs[0], 0.0), xs)), doubles(np.append(0.0, total)))
