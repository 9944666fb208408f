"""Runs as the charts take them: curves, when they began, evaluations and marks. One, or several side by side: then each
has a letter, which stands in the legend and beside its curves, so that no meaning hangs on colour alone. Pure.

numpy is imported once there are curves: the dashboard's first paint goes without.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pidec_train.protocol.metric_names import EVAL, MACHINE

from .charts.series import Curve, Mark, XKind
from .machinetrace import attempt_of
from .manager.byhand import shown_id
from .manager.jobs import Job, JobEvent
from .overlay import LETTERS, members
from .plans import Plan
from .words import wilson

if TYPE_CHECKING:
    from .board import Board, TraceView
    from .machinesbeside import Machines

MOST_SAMPLES = 4096  # of a group's mean of the machine: each run was sampled at moments of its own
_RATES = ("success_rate", "success_at_end")  # shares of episodes, which have an interval


@dataclass(frozen=True, eq=False)
class RunTrace:
    """One run.

    Attributes:
        label: its number and name.
        curves: by metric, along its steps.
        began: unix seconds that "since start" counts from.
        episodes: how many were evaluated, by step.
        marks: checkpoints and resumes, by step.
        env_steps: simulator steps by step; None where the run does not tell.
        jobs: their numbers; several where this is the mean of a group.
        reference: the others are told against it.
        parts: the runs that this is the mean of.
    """

    label: str
    curves: Mapping[str, Curve]
    began: float
    episodes: Mapping[float, int] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    env_steps: Curve | None = None
    jobs: tuple[int, ...] = ()
    reference: bool = False
    parts: tuple[RunTrace, ...] = ()

    def longest(self) -> Curve | None:
        """The curve that tells best which step was when: not one of the machine, whose steps come from it."""
        own = [curve for name, curve in self.curves.items() if not name.startswith(MACHINE)]
        return max(own or self.curves.values(), key=lambda curve: len(curve.xs), default=None)

    def ends(self, name: str, kind: XKind) -> list[float]:
        """Where a curve that has points begins and ends on an axis."""
        curve = self.curves[name]
        if curve.times and kind in ("since start", "clock"):
            # By its own times: the machine is measured before the first row and after the last one, and the last
            # evaluation is told some time after the last step.
            import numpy as np

            times, offset = np.frombuffer(curve.times), self.began if kind == "since start" else 0.0
            return [float(times.min()) - offset, float(times.max()) - offset]
        return self.places([curve.xs[0], curve.xs[-1]], kind)

    def places(self, steps: Sequence[float], kind: XKind) -> list[float]:
        """Where these steps lie on an axis."""
        clock = self.longest()
        if kind == "step" or clock is None or not steps:
            return list(steps)
        import numpy as np

        from .charts.xaxis import moved

        at = moved(np.array(steps, dtype=float), clock, kind, began=self.began, env_steps=self.env_steps)
        places: list[float] = at.tolist()
        return places


def run_trace(job: Job, trace: TraceView, events: Sequence[JobEvent]) -> RunTrace:
    """A job as the charts take it."""
    episodes: dict[float, int] = {}
    marks: list[Mark] = []
    began = _began(job, trace.curves)
    anew = any(each.started == began and each.resumed_step is None for each in job.attempts)
    void = {each.number for each in job.attempts if anew and each.started < began}  # it began from nothing
    for event in events:
        if event.attempt in void:
            continue
        done = event.detail.get("episodes")
        if event.event == "eval" and event.step is not None and isinstance(done, int) and done > 0:
            episodes[event.step] = done
        elif event.event == "checkpoint" and event.step is not None:
            marks.append(Mark(event.step, "checkpoint"))
        elif event.event == "start" and event.attempt > 1:
            resumed = event.detail.get("resumed_step")
            if isinstance(resumed, int) and resumed:
                marks.append(Mark(resumed, "resume"))
    label = f"{shown_id(job.id)} {job.name}"
    if not trace.curves:
        return RunTrace(label, {}, began, episodes, tuple(marks), jobs=(job.id,))
    from .charts.xaxis import env_steps_of

    curves = {**trace.curves, **trace.machine}
    return RunTrace(label, curves, began, episodes, tuple(marks), env_steps_of(trace.curves), (job.id,))


def _began(job: Job, curves: Mapping[str, Curve]) -> float:
    """When the attempt with the first rows did: if a resumed one counted, all before it were at negative times."""
    first = min((curve.times[0] for curve in curves.values() if curve.times), default=None)
    if first is None:
        return job.started or 0.0
    began = attempt_of(job.attempts, first)
    return min(job.started or first, first) if began is None else began


def board_runs(board: Board, machines: Machines) -> list[RunTrace]:
    """The marked runs as far as they were read, then the selected one, unless it is among them.

    Args:
        machines: what the machine did during the marked ones.
    """
    overlay, job = board.overlay, board.job()
    runs = []
    for key in overlay.order():
        if run := overlay.runs.get(key):
            curves = {**run.curves, **machines.get(key, {})} if run.curves else run.curves
            whole = len(members(key, board.shown())) if run.parts else 0
            label = run.label.removesuffix(")") + f" of {whole})" if whole > _drawn(run.parts) else run.label
            runs.append(replace(run, label=label, curves=curves, reference=key == overlay.baseline))
    if job is not None and board.trace is not None and overlay.key_of(job) is None:
        runs.append(run_trace(job, board.trace, board.events))
    return runs if len(runs) > 1 else [replace(run, reference=False) for run in runs]


def _drawn(runs: Sequence[RunTrace]) -> int:
    """How many of them have curves: the others wait, or have not logged anything yet."""
    return sum(bool(run.curves) for run in runs)


class Groups:
    """Groups as one run each: the mean of their runs in a band from the lowest to the highest. What was made of the
    same curves is kept: a group that is over costs nothing more."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], tuple[tuple[Curve, ...], Curve]] = {}

    def run(self, name: str, runs: Sequence[RunTrace]) -> RunTrace:
        """Args: name: of the group. Time counts from the beginning of each run: the mean of that."""
        told = sorted({metric for run in runs for metric in run.curves})
        began = min((run.began for run in runs if run.curves), default=0.0)
        curves = {metric: self._mean(name, metric, runs, began) for metric in told}
        label = f"{name} (mean of {_drawn(runs)})"
        jobs = tuple(job for run in runs for job in run.jobs)
        return RunTrace(label, curves, began, jobs=jobs, parts=tuple(runs))

    def _mean(self, name: str, metric: str, runs: Sequence[RunTrace], began: float) -> Curve:
        parts = [(run, run.curves[metric]) for run in runs if metric in run.curves]
        curves = tuple(curve for _, curve in parts)
        before = self._made.get((name, metric))
        if before is None or before[0] != curves:  # by identity
            from .charts.group import mean_and_band

            most = MOST_SAMPLES if metric.startswith(MACHINE) else None
            mean = mean_and_band(curves, metric, most=most)
            clocks = [replace(curve, ys=array("d", run.places(curve.xs, "since start"))) for run, curve in parts]
            times = array("d", [began + second for second in mean_and_band(clocks, metric, most=most).ys])
            before = self._made[name, metric] = (curves, replace(mean, times=times))
        return before[1]


class Lens:
    """Brings curves to an axis and gives evaluations their intervals; what was made of a curve is kept for as long as
    the curve is, so that a chart whose curve is the same has nothing to draw anew."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[Curve, dict[object, Curve]] = WeakKeyDictionary()

    def lines(self, runs: Sequence[RunTrace], plan: Plan, kind: XKind) -> list[Curve]:
        """The curves of a chart, those of one run together."""
        lines = []
        for place, run in enumerate(runs):
            for name, label in plan.metrics:
                if name not in run.curves:
                    continue
                curve = self._with_intervals(run, name)
                if kind != "step":
                    curve = self._along(run, curve, kind)
                markers = name in plan.markers
                if len(runs) > 1:
                    label = f"{LETTERS[place % len(LETTERS)]} {label}".rstrip()
                tone = place if len(runs) > 1 else None
                lines.append(replace(curve, name=label, markers=markers, tone=tone, reference=run.reference))
        return lines

    def _along(self, run: RunTrace, curve: Curve, kind: XKind) -> Curve:
        from .charts.xaxis import along

        # What was counted up to a step stays; behind the last count there is only a guess.
        counted = run.env_steps is not None and bool(curve.xs) and run.env_steps.xs[-1] >= curve.xs[-1]
        key = (kind, run.began, counted)
        return self._kept(curve, key, lambda: along(curve, kind, began=run.began, env_steps=run.env_steps))

    def _with_intervals(self, run: RunTrace, name: str) -> Curve:
        curve = run.curves[name]
        if not name.startswith(EVAL) or not name.endswith(_RATES) or not run.episodes:
            return curve
        known = sum(x in run.episodes for x in curve.xs)
        return self._kept(curve, ("intervals", known), lambda: with_intervals(curve, run.episodes))

    def _kept(self, curve: Curve, key: object, make: Callable[[], Curve]) -> Curve:
        made = self._made.setdefault(curve, {})
        if key not in made:
            made[key] = make()
        return made[key]


def with_intervals(curve: Curve, episodes: Mapping[float, int]) -> Curve:
    """Success rates with their 95 % intervals (Wilson), NaN where it is not known how many episodes there were."""
    lows, highs = array("d"), array("d")
    for step, rate in zip(curve.xs, curve.ys, strict=True):
        count = episodes.get(step)
        known = count is not None and 0 <= rate <= 1
        low, high = wilson(round(rate * count), count) if known and count else (float("nan"), float("nan"))
        lows.append(low)
        highs.append(high)
    return replace(curve, lows=lows, highs=highs)
