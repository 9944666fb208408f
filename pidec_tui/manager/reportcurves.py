"""The curves of a report: each metric by step, then the rate above what the machine did, by hours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import pairwise

from pidec_train.protocol.metric_names import EVAL_SUCCESS_RATE, ITERS_PER_MIN, METRICS, TRAIN_LOSS, info

from . import machinelog as columns
from .curvetable import curve_rows
from .intervals import wilson
from .jobs import Job, JobEvent, MetricBlock
from .machinelog import GAP_S, HOST, MachineBlock, computed_on, gpu_of
from .manager import Manager
from .svgcurve import Bar, Point, curve

_FIRST = (TRAIN_LOSS, EVAL_SUCCESS_RATE, ITERS_PER_MIN)
_GPU = {
    "GPU": (columns.UTILIZATION, "percent of the time in which a kernel ran"),
    "GPU power": (columns.POWER, "W"),
    "GPU clock": (columns.CLOCK, "MHz"),
    "GPU memory": (columns.MEMORY, "GiB"),
}
_HOST = {"CPU": (columns.CPU, "percent of all cores"), "memory": (columns.MEMORY, "GiB of the host")}


def metric_figures(manager: Manager, job: Job, events: Sequence[JobEvent]) -> str:
    """All that the job has logged, by step, on one x axis; checkpoints and resumes as vertical lines. Attempts before
    one that began from nothing are void, with all that they told."""
    blocks = manager.curves(job.id)
    begun = min((block.attempt for block in blocks), default=0)
    events = [event for event in events if event.attempt >= begun]
    curves: dict[str, list[Point]] = {}
    for step, _, values in curve_rows(blocks):
        for name, value in values.items():
            curves.setdefault(name, []).append((step, value))
    newest = {step: (wins, episodes) for step, wins, episodes, _ in evaluated(events)}
    bars = [
        Bar(step, low, wins / episodes, high)
        for step, (wins, episodes) in newest.items()
        for low, high in [wilson(wins, episodes)]
    ]
    marks = [(event.step, text) for event in events if event.step is not None and (text := _mark(event))]
    resumes = [(each.resumed_step, f"attempt {each.number} resumed") for each in job.attempts if each.resumed_step]
    ends = [(points[0][0], points[-1][0]) for points in curves.values()]
    span = (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None
    names = [*(name for name in _FIRST if name in curves), *sorted(set(curves) - set(_FIRST))]
    figures = []
    for name in names:
        about, points = info(name), curves[name]
        shares = bars if name == EVAL_SUCCESS_RATE else ()
        svg = curve(points, bars=shares, marks=marks, resumes=resumes, log=about.log_scale, span=span)
        meaning = about.meaning if name in METRICS else ""
        figures.append(_figure(name, svg, points, about.better, meaning))
    return _grid(figures)


def machine_figures(manager: Manager, job: Job, now: float) -> str:
    """Its rate and what the machine did while its attempts ran, by hours since it began, on one x axis.

    Args:
        now: unix seconds.
    """
    if not job.attempts:
        return ""
    began, ended = job.attempts[0].started, job.attempts[-1].ended or now
    blocks = {block.device.uuid: block for block in manager.machine(began, ended)}
    chosen = gpu_of(job, blocks)
    figures = []
    for uuid, names in ((chosen, _GPU), (HOST, _HOST)):
        block = blocks.get(uuid) if uuid else None
        for name, (column, meaning) in names.items() if block is not None else ():
            assert block is not None
            points = _while_it_ran(block, column, job, began, now)
            if any(value is not None for _, value in points):
                figures.append(_machine_figure(name, points, (ended - began) / 3600, meaning))
    rates = _rates(manager.curves(job.id), began)
    if not figures or not rates:
        return ""
    about = info(ITERS_PER_MIN)
    unit = f"{job.step_name or 'step'}s a minute, by hours since it began; the same for those that follow"
    return _grid([_machine_figure("rate", rates, (ended - began) / 3600, unit, about.better), *figures])


def evaluated(events: Iterable[JobEvent]) -> Iterator[tuple[int, int, int, JobEvent]]:
    """(step, successes, episodes, event) of the evaluations that ended well."""
    for event in events:
        wins, episodes = event.detail.get("successes"), event.detail.get("episodes")
        done = event.event == "eval" and event.detail.get("phase") == "done"
        if done and isinstance(wins, int) and isinstance(episodes, int) and episodes > 0:
            yield event.step or 0, wins, episodes, event


def _while_it_ran(block: MachineBlock, column: str, job: Job, began: float, now: float) -> list[Point]:
    """(hours since it began, value) of the samples within its attempts, with a gap where nobody measured."""
    spans = [(each.started, each.ended or now) for each in job.attempts if computed_on(each, block.device.uuid)]
    times = [(at, when) for at, when in enumerate(block.times) if any(begin <= when <= end for begin, end in spans)]
    points: list[Point] = []
    for (_, before), (at, when) in pairwise([(-1, began), *times]):
        if points and when - before > GAP_S:
            points.append(((before + when) / 2 / 3600 - began / 3600, None))
        value = block.columns[column][at]
        points.append(((when - began) / 3600, value if value == value else None))
    return points


def _rates(blocks: Sequence[MetricBlock], began: float) -> list[Point]:
    """(hours since it began, steps a minute), by the trainer's own figure, with a gap between two attempts; none: it
    logs no such."""
    told: list[tuple[float, int, float]] = []
    for block in blocks:
        values = block.columns.get(ITERS_PER_MIN, ())
        told += [(when, block.attempt, value) for when, value in zip(block.times, values, strict=False)]
    told.sort()
    points: list[Point] = []
    for (before, earlier, _), (when, attempt, value) in pairwise([(began, 0, 0.0), *told]):
        if points and attempt != earlier:
            points.append(((before + when) / 2 / 3600 - began / 3600, None))
        points.append(((when - began) / 3600, value if value == value else None))
    return points


def _machine_figure(name: str, points: Sequence[Point], hours: float, meaning: str, better: str = "") -> str:
    svg = curve(points, span=(0.0, hours), from_zero=True)
    return _figure(name, svg, points, better, meaning)


def _figure(name: str, svg: str, points: Sequence[Point], better: str, meaning: str) -> str:
    numbers = [value for _, value in points if value is not None]
    best = {"up": max, "down": min}.get(better)
    told = [f"last {numbers[-1]:.4g}", f"best {best(numbers):.4g}" if best else ""] if numbers else []
    left_out = len(points) - len(numbers)
    told.append(f"{left_out:,} of {len(points):,} were no numbers" if left_out and name in METRICS else "")
    text = " · ".join(part for part in told if part)
    says = f'<br><span class="quiet">{escape(meaning)}</span>' if meaning else ""
    return f"<figure><figcaption>{escape(name)} <span>{text}</span></figcaption>{svg}{says}</figure>"


def _grid(figures: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(figures)}</div>' if figures else ""


def _mark(event: JobEvent) -> str:
    return f"checkpoint at {event.step:,}" if event.event == "checkpoint" else ""
