"""`pidec-tui --once`: the state of a workspace as plain text. No Textual, no colours: for slow lines and scripts."""

from __future__ import annotations

import math
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence

from rich.console import Console

from .advising import Adviser
from .charts.ticks import number
from .manager.byhand import shown_id
from .manager.cli_common import is_new, warn_of_other_queue
from .manager.cli_output import table_of
from .manager.gpus import DOOR_PATIENCE_S, GpuMonitor, GpuSample
from .manager.host import HostSample, sample_host
from .manager.jobs import Job, JobState
from .manager.manager import Manager
from .manager.overview import JobLine, Overview
from .trace import Trace
from .words import GLYPHS, duration, gib, moment, percent, size

FINISHED_SHOWN = 5
LOAD_S = 0.2  # the CPU's load is that since the look before
NOTHING = "No jobs yet: pidec-jobs add quickstart queues the first one"
_COLUMNS = ("id", "state", "health", "name", "step", "per min", "of median", "loss", "success", "ends")


class _Console(Console):
    """Leaves a pipe that is closed early (`… | head`) to the caller, for whom that is no error."""

    def on_broken_pipe(self) -> None:
        """Called while BrokenPipeError is handled: Rich would end the process with 1."""
        raise BrokenPipeError


def show(workspace: str | None) -> int:
    """Print it and end. A folder without a workspace stays one."""
    if is_new(Namespace(workspace=workspace)):
        print(NOTHING)
        return 0
    manager = Manager.open(workspace)
    try:
        warn_of_other_queue(manager.places)
        width = shutil.get_terminal_size((120, 40)).columns
        monitor, now = GpuMonitor(patience_s=DOOR_PATIENCE_S), time.time()
        sample_host(manager.workspace.root)
        time.sleep(LOAD_S)
        host, gpus = sample_host(manager.workspace.root), monitor.sample()
        console = _Console(file=sys.stdout, width=width, color_system=None, highlight=False, soft_wrap=False)
        for line in _head(manager, manager.jobs(), gpus, monitor.why_none, host, now):
            console.print(line, markup=False, overflow="fold")
        _queue(manager, console, now)
    finally:
        manager.close()
    return 0


def _head(
    manager: Manager, jobs: Sequence[Job], gpus: Sequence[GpuSample], why_none: str, host: HostSample, now: float
) -> Iterator[str]:
    """Where this is, what goes on, and how the machine does."""
    states = [job.state for job in jobs]
    counts = [
        f"{sum(state.active for state in states)} running",
        f"{states.count(JobState.queued)} queued",
        f"{states.count(JobState.held)} held",
        f"{states.count(JobState.failed)} failed",
    ]
    pid = manager.runner_pid()
    runner = f"runner {pid}" if pid else "no runner is up"
    yield f"pidec  {manager.workspace.root}  {' · '.join(counts)} · {runner}  {time.strftime('%a %d %b %H:%M')}"
    for gpu in gpus:
        facts = [
            "" if gpu.utilization is None else f"{gpu.utilization:.0f}%",
            f"{gib(gpu.memory_used)} of {gib(gpu.memory_total)} GiB",
            "" if gpu.power_w is None else f"{gpu.power_w:.0f} W",
            "" if gpu.temperature_c is None else f"{gpu.temperature_c:.0f} °C",
            *(f"pid {each.pid or '?'} {each.name} {gib(each.memory)} GiB" for each in gpu.processes),
        ]
        yield f"GPU {gpu.index}  {gpu.name}  {' · '.join(fact for fact in facts if fact)}"
    if not gpus:
        yield f"GPU  {why_none}"
    memory = f"memory {gib(host.memory_used)} of {gib(host.memory_total)} GiB"
    yield f"CPU  {host.cpu_percent:.0f}% of {host.cores} cores · {memory} · disk {size(host.disk_free)} free"
    yield ""


def _queue(manager: Manager, console: Console, now: float) -> None:
    """The jobs as a table, and below it a sentence for each that runs or needs somebody."""
    jobs = manager.jobs()
    over = {job.id for job in [job for job in jobs if job.state.finished][FINISHED_SHOWN:]}
    shown = [*(job for job in jobs if job.id not in over), *manager.by_hand()[:FINISHED_SHOWN]]
    overview = Overview(manager)
    lines = overview.lines(shown)
    if not lines:
        console.print(NOTHING, markup=False)
        return
    narrow = console.width < 100
    columns = [name for name in _COLUMNS if not (narrow and name in ("of median", "step", "health"))]
    rows = [[cell for name, cell in zip(_COLUMNS, _cells(line, now), strict=True) if name in columns] for line in lines]
    console.print(table_of(columns, rows, whole=True))
    said = [text for line in lines if (text := _sentence(line, now))]
    if said:
        console.print()
    for text in said:
        console.print(text, markup=False)
    for line in lines:
        if line.job.state.active and (advice := _advice(manager, overview, line.job, jobs)):
            console.print(f"{_who(line.job)}: {advice}", markup=False)
    if over:
        console.print(f"and {len(over)} more that are over: pidec-jobs list --all", markup=False)


def _advice(manager: Manager, overview: Overview, job: Job, jobs: Sequence[Job]) -> str:
    """The heaviest sentence on why a run is as fast as it is; "" while there is none."""
    trace, adviser = Trace(job.id), Adviser(manager, overview.pulse, time.time)
    trace.take(manager.curves(job.id))
    view = trace.view()
    adviser.machine(job, view.curves)
    return next((each.text for each in adviser.advise(job, view, manager.events(job.id), jobs)), "")


def _cells(line: JobLine, now: float) -> tuple[str, ...]:
    job = line.job
    when = line.ends if job.state.active else job.ended
    return (
        shown_id(job.id),
        f"{GLYPHS[job.state.value]} {job.state.value}",
        line.health,
        job.name,
        ""
        if job.step is None
        else f"{number(job.step)}/{number(job.total_steps)}"
        if job.total_steps
        else str(job.step),
        "" if line.rate is None else number(line.rate),
        "" if line.against_median is None else percent(line.against_median),
        "" if line.loss is None else "NaN" if math.isnan(line.loss) else number(line.loss),
        "" if line.success is None else percent(line.success),
        "" if when is None else ("~" if job.state.active else "") + moment(when, now),
    )


def _who(job: Job) -> str:
    return f"{'job' if job.id > 0 else 'run'} {shown_id(job.id)} {job.name}"


def _sentence(line: JobLine, now: float) -> str:
    """What waits and why, what has gone wrong, how long it goes on."""
    job = line.job
    who = _who(job)
    if job.state.active:
        since = f"runs for {duration(now - job.started)}" if job.started else str(job.state)
        left = f", {duration(line.ends - now)} to go" if line.ends and line.ends > now else ""
        return f"{who}: {since}{left}" + (f"; {line.why}" if line.why else "")
    if job.state is JobState.queued:
        return f"{who}: waits for {job.waiting_for}" if job.waiting_for else ""
    if job.state is JobState.held:
        return f"{who}: {job.reason}" if job.reason else ""
    return f"{who}: failed, {job.reason}" if job.state is JobState.failed else ""
