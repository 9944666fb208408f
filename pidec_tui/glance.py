"""The first screen's answer: what runs, is it healthy, how fast, how well, until when, and what comes next. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.text import Text

from .board import Board
from .charts.ticks import number
from .manager.byhand import shown_id
from .manager.health import BEGINS, FINISHES, HEALTHY
from .manager.jobs import Job, JobState
from .manager.overview import JobLine, next_up
from .refusals import in_keys
from .widgets.queue import shortened
from .words import GLYPHS, STATE_COLOURS, Keys, duration, moment, percent

# A shape before each word, so that none hangs on colour alone.
_COLOURS = {HEALTHY: "success", BEGINS: "muted", FINISHES: "success", "NaN": "error", "stalled": "error"}
SHAPES = {HEALTHY: "✓", BEGINS: "·", FINISHES: "»", "slow": "▼", "stalled": "■", "NaN": "×", "plateau": "═"}
_LEAST_NAME, _WHOLE_NAME = 12, 24  # cells of a name at the worst, and before its figures are told in fewer words
_ONE_LINE = 90  # cells; below them a job takes two lines
_LANE_BUSY = re.compile(r"the \w+ lane: job (\d+) runs there")
Colours = Mapping[str, str]


def newest_start(jobs: Sequence[Job]) -> tuple[float, int] | None:
    """When the newest run that still goes on began, and its id; None: nothing runs."""
    starts = [(job.attempts[-1].started, job.id) for job in jobs if job.state.active and job.attempts]
    return max(starts, default=None)


def glance(board: Board, now: float, colours: Colours, width: int, most: int, *, key: Keys) -> list[Text]:
    """A line (two on a narrow terminal) for each run that goes on: the newest, those in trouble, the others; and one
    for what comes next.

    Args:
        most: of runs that get a line.
        key: what an id of a binding is called now.
    """
    jobs = board.shown()
    if not jobs:
        return []
    active = sorted((job for job in jobs if job.state.active), key=_begun, reverse=True)
    active[1:] = sorted(active[1:], key=lambda job: not _trouble(board, job))
    lines = [line for job in active[:most] for line in _run_lines(job, board.lines.get(job.id), now, colours, width)]
    if not active:
        lines.append(_nothing(board, now, colours))
    lines.append(_next_line(board, colours, _others(board, active[most:]), key))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def _trouble(board: Board, job: Job) -> str:
    """The word for it; "" of a run that is well, or of which nothing is known yet."""
    line = board.lines.get(job.id)
    return line.health if line and line.health not in (HEALTHY, BEGINS, FINISHES) else ""


def _others(board: Board, jobs: Sequence[Job]) -> str:
    """How many runs have no line of their own, and how many of those are in trouble; "" if there are none."""
    if not jobs:
        return ""
    words = Counter(word for job in jobs if (word := _trouble(board, job)))
    return ", ".join([f"and {len(jobs)} more that run", *(f"{count} {word}" for word, count in words.items())])


def _begun(job: Job) -> float:
    return job.attempts[-1].started if job.attempts else job.created


def _run_lines(job: Job, line: JobLine | None, now: float, colours: Colours, width: int) -> list[Text]:
    state = Text(f"{GLYPHS[job.state.value]} ", colours[STATE_COLOURS[job.state.value]])
    state.append(f"{shown_id(job.id)} ", f"not bold {colours['muted']}")
    two = width < _ONE_LINE
    health, wanted = _health(job, line, colours), min(len(job.name), _WHOLE_NAME)
    for brief, until in ((False, False), (False, True), (True, True)):
        facts, end = _facts(line, brief), _end(line, now, until)
        behind = [health, end] if two else [health, *facts, end]
        tail = Text().join(Text("   ").append_text(each) for each in behind if each)
        figures = Text("  ").append_text(Text("   ").join(facts) if facts else Text("no figures yet", colours["muted"]))
        if len(state) + wanted + len(tail) <= width and (not two or len(figures) <= width):
            break
    name = shortened(job.name, max(width - len(state) - len(tail), _LEAST_NAME), job.group_name)
    first = state.append(name, f"bold {colours['foreground']}").append_text(tail)
    return [first, figures] if two else [first]


def _health(job: Job, line: JobLine | None, colours: Colours) -> Text:
    if job.state is not JobState.running or line is None or not line.health:
        return Text(job.state.value, colours["muted"])
    colour = _COLOURS.get(line.health, "warning")
    return Text(f"{SHAPES.get(line.health, '!')} {line.health}", f"bold {colours[colour]}")


def _facts(line: JobLine | None, brief: bool) -> list[Text]:
    """Rate against its own median, loss, success with its interval."""
    if line is None:
        return []
    facts = []
    if line.rate is not None:
        share = "" if line.against_median is None else f", {line.against_median:.0%}"
        facts.append(Text(f"{_rate(line.rate)}/min{share}" + (" of its median" if share and not brief else "")))
    if line.loss is not None:
        facts.append(Text("loss NaN" if math.isnan(line.loss) else f"loss {number(line.loss)}"))
    if line.success is not None:
        low, high = line.interval or (0.0, 0.0)
        between = f" ({low * 100:.0f}–{high * 100:.0f})" if line.interval else ""
        facts.append(Text(f"success {percent(line.success)}{between}"))
    return facts


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _end(line: JobLine | None, now: float, brief: bool) -> Text:
    if line is None or line.ends is None or not math.isfinite(line.ends):
        return Text("")
    left = f", in {duration(line.ends - now)}" if line.ends > now and not brief else ""
    return Text(f"ends ~{moment(line.ends, now)}{left}")


def _nothing(board: Board, now: float, colours: Colours) -> Text:
    """Nothing runs: what ended last, and how well it did."""
    over = [job for job in board.shown() if job.state.finished]
    last = max(over, key=lambda job: job.ended or 0, default=None)
    text = Text("Nothing runs.")
    if last is None:
        return text
    line = board.lines.get(last.id)
    text.append("  Last: ").append(f"{GLYPHS[last.state.value]} ", colours[STATE_COLOURS[last.state.value]])
    text.append(f"{shown_id(last.id)} {last.name} {last.state.value}")
    text.append(f" {moment(last.ended, now)}" if last.ended else "")
    return text.append(f", success {percent(line.success)}" if line and line.success is not None else "")


def _next_line(board: Board, colours: Colours, more: str, key: Keys) -> Text:
    """For each lane the job that it takes next, and why it waits."""
    jobs = board.jobs or []
    parts = [
        f"{job.lane}: {job.id} {shortened(job.name, _WHOLE_NAME, job.group_name)}{in_keys(_why(job, jobs), key)}"
        for job in next_up(jobs)
    ]
    held = sum(job.state is JobState.held for job in jobs)
    if not parts:
        released = f" ({held} held: {key('job.hold')} releases one)" if held else ""
        parts = [f"nothing is queued: {key('queue.new')} queues a job{released}"]
    line = Text("next  ", colours["muted"]).append(" · ".join(parts))
    return line.append(f"  {more}" if more else "", colours["muted"])


def _why(job: Job, jobs: Sequence[Job]) -> str:
    if job.waiting_for:
        reason = _LANE_BUSY.sub(r"job \1", job.waiting_for.strip().rstrip("."))
        return f" after {reason}" if reason.startswith("job") else f", waits for {reason}"
    busy = next((other for other in jobs if other.state.active and other.lane == job.lane), None)
    return f" after job {busy.id}" if busy else ", starts in a moment"
