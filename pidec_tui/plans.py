"""Which charts a job gets, from the names of the metrics that it logs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pidec_train.protocol.metric_names import (
    ENV_STEPS_PER_MIN,
    EVAL,
    EVAL_SUCCESS_AT_END,
    EVAL_SUCCESS_RATE,
    ITERS_PER_MIN,
    MACHINE,
    METRICS,
    TRAIN_ACTOR_LOSS,
    TRAIN_LOSS,
    TRAIN_QF_LOSS,
    TRAIN_SUCCESS_RATE,
    info,
)

from .charts.series import Axes
from .trace import RATE

_RATES = (ITERS_PER_MIN, ENV_STEPS_PER_MIN, RATE)
_LOSSES = (TRAIN_LOSS, TRAIN_QF_LOSS, TRAIN_ACTOR_LOSS)
_SUCCESSES = (EVAL_SUCCESS_RATE, TRAIN_SUCCESS_RATE)
_SHARES = ("success_rate", "success_at_end", "residual_fraction")  # ends of the names of shares


@dataclass(frozen=True)
class Plan:
    """One chart: its title, the metrics in it with their short names, how to draw them, which of them as points, and
    what stands in its place while there is nothing."""

    title: str
    metrics: tuple[tuple[str, str], ...]
    axes: Axes
    markers: tuple[str, ...] = ()
    note: str = "no numbers yet"


def plans(names: Iterable[str], step_name: str, *, turn: int = 0, pins: Sequence[str] = ()) -> list[Plan]:
    """Three charts: how fast, how well it fits, how often it succeeds; a job's own metrics where it has none of these.

    Args:
        names: metrics that the job has logged.
        step_name: what it counts ("iteration", "demo", "episode"); "" if unknown.
        turn: the middle chart goes through all the other metrics, one further each time.
        pins: metrics that come first in the middle chart.
    """
    have = {name for name in names if not name.startswith(MACHINE) or name in pins}
    unit = step_name or "step"
    rate = next((name for name in _RATES if name in have), None)
    success = next((name for name in _SUCCESSES if name in have), None)
    first = Plan(
        _rate_title(rate, unit), ((rate or RATE, ""),), Axes(unit, from_zero=True), note="starts with the first metrics"
    )

    losses = [name for name in _LOSSES if name in have]
    rest = sorted(have - {*_RATES, *_SUCCESSES, EVAL_SUCCESS_AT_END, *losses})
    middle = list(dict.fromkeys([*(pin for pin in pins if pin in have), *losses, *rest]))
    own_curves = not losses and not success and bool(rest)  # a job that speaks only of metrics of its own
    second = _single(middle[turn % len(middle)], unit) if middle else _single(TRAIN_LOSS, unit)
    if own_curves and len(rest) > 1:
        third = _single(rest[(turn + 1) % len(rest)], unit)
    else:
        third = _success(success or EVAL_SUCCESS_RATE, have, unit)
    return [first, second, third]


def every_plan(names: Iterable[str], step_name: str, *, pins: Sequence[str] = ()) -> list[Plan]:
    """A chart for every metric: pinned ones, then the usual three, then all the others."""
    names = list(names)
    unit = step_name or "step"
    usual = [plan for plan in plans(names, step_name) if any(name in names for name, _ in plan.metrics)]
    pinned = [pin for pin in pins if pin in names]
    alone = {plan.metrics[0][0]: plan for plan in usual if len(plan.metrics) == 1}
    first = [alone.get(pin) or _single(pin, unit) for pin in pinned]
    rest = [plan for plan in usual if plan.metrics[0][0] not in pinned or len(plan.metrics) > 1]
    shown = {name for plan in (*first, *rest) for name, _ in plan.metrics}
    others = sorted((name for name in names if name not in shown), key=lambda name: (name.startswith(MACHINE), name))
    return [*first, *rest, *(_single(name, unit) for name in others)]


def machine_plans(names: Iterable[str], step_name: str) -> list[Plan]:
    """Why a run is as fast as it is: its rate, and below it what the machine did, most telling first."""
    have = set(names)
    unit = step_name or "step"
    rate = next((name for name in _RATES if name in have), None)
    first = [Plan(_rate_title(rate, unit), ((rate, ""),), Axes(unit, from_zero=True))] if rate else []
    order = [name for name in METRICS if name.startswith(MACHINE)]
    return [*first, *(_single(name, unit) for name in order if name in have)]


def _rate_title(rate: str | None, unit: str) -> str:
    return "env steps/min" if rate == ENV_STEPS_PER_MIN else f"{unit}s/min"


def _single(name: str, unit: str) -> Plan:
    about = info(name)
    group, _, short = name.rpartition("/")
    plain = group in {"train", "machine", ""}
    words = " ".join(word.upper() if word in ("gpu", "cpu") else word for word in short.split("_"))
    title = "loss" if name == TRAIN_LOSS else words if plain else name
    title = f"{title} ({about.unit})" if about.unit else title
    share = name.endswith(_SHARES) and name in METRICS
    points = (name,) if name.startswith(EVAL) else ()
    measured = name.startswith(MACHINE)  # where nobody measured, a gap says so
    axes = Axes(unit, log_y=about.log_scale, percent=share, from_zero=measured, nan_marks=not measured)
    return Plan(title, ((name, ""),), axes, markers=points)


def _success(name: str, have: set[str], unit: str) -> Plan:
    """Evaluations as points; with them the training episodes of a run that has any, else success at the end."""
    metrics, title = [(name, "")], "training success"
    if name == EVAL_SUCCESS_RATE:
        title = "eval success"
        if TRAIN_SUCCESS_RATE in have:
            title, metrics = "success", [(TRAIN_SUCCESS_RATE, "train"), (name, "eval")]
        elif EVAL_SUCCESS_AT_END in have:
            metrics = [(name, "once"), (EVAL_SUCCESS_AT_END, "at end")]
    axes, points = Axes(unit, percent=True), (EVAL_SUCCESS_RATE, EVAL_SUCCESS_AT_END)
    return Plan(title, tuple(metrics), axes, markers=points, note="no evaluation yet")
