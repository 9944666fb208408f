"""`pidec-jobs top`: a line a job, refreshed like top on a terminal, once in a pipe; `metrics` and `report`."""

from __future__ import annotations

import math
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import home_path

from . import cli_output as output
from .byhand import shown_id
from .cli_common import Options, id_of, open_manager, say
from .curvetable import curve_rows, write_csv
from .manager import Manager
from .overview import JobLine, Overview

EVERY_S = 2.0
LONGEST_S = 86400.0
FINISHED_SHOWN = 5
_COLUMNS = ("id", "name", "state", "health", "step", "done", "per min", "of median", "loss", "success", "ends")


def top(options: Options) -> int:
    if not 0 < options.every <= LONGEST_S:  # NaN is in no range
        raise PidecError(f"--every {options.every:g}: there is no such pause", "2 is the default, in seconds")
    with open_manager(options) as manager:
        overview = Overview(manager)
        if options.json:
            output.as_json([line_json(line) for line in _lines(manager, overview)])
        elif options.once or not (sys.stdout.isatty() and sys.stdin.isatty()):
            lines = _lines(manager, overview)
            if lines:
                output.print_table(_COLUMNS, [line_cells(line) for line in lines])
            else:
                say("the queue is empty: pidec-jobs add quickstart")
        else:
            _refresh(manager, overview, options.every)
    return 0


def _lines(manager: Manager, overview: Overview) -> list[JobLine]:
    """What is active or waits, and what ended last."""
    overview.keep_up()
    jobs = manager.jobs()
    over = {job.id for job in [job for job in jobs if job.state.finished][FINISHED_SHOWN:]}
    return overview.lines([*(job for job in jobs if job.id not in over), *manager.by_hand()[:FINISHED_SHOWN]])


def _refresh(manager: Manager, overview: Overview, every: float) -> None:
    """Until q or Ctrl-C."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(screen=True, auto_refresh=False) as live, _keys():
        while True:
            lines = _lines(manager, overview)
            states = [line.job.state for line in lines]
            runner = "" if manager.runner_pid() else " · no runner is up"
            active, waiting = sum(s.active for s in states), sum(s.waiting for s in states)
            head = f"{manager.workspace.root}  {active} active · {waiting} waiting{runner}  {time.strftime('%H:%M:%S')}"
            table = output.table_of(_COLUMNS, [line_cells(line) for line in lines], whole=True)
            live.update(
                Group(Text(f"{head}  q: leave", no_wrap=True, overflow="ellipsis"), Text(), table), refresh=True
            )
            if _pressed(every):
                return


@contextmanager
def _keys() -> Iterator[None]:
    """Keys come one by one, without a line; the terminal is left as it was. Ctrl-C is a way to leave."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    except KeyboardInterrupt:
        pass
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pressed(seconds: float) -> bool:
    """Whether q came within this time, or the terminal has closed."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left)[0] and sys.stdin.read(1) in ("q", "Q", ""):
            return True
    return False


def line_json(line: JobLine) -> dict[str, Any]:
    """A line as `top --json` gives it."""
    job = line.job
    about = {"id": job.id, "name": job.name, "state": job.state.value, "group_name": job.group_name}
    told = {key: value for key, value in asdict(line).items() if key != "job"}
    told["loss"] = None if line.loss is None or math.isnan(line.loss) else line.loss
    steps = {"step": job.step, "total_steps": job.total_steps, "step_name": job.step_name}
    return {**about, **steps, **told, "against_median": line.against_median, "waiting_for": job.waiting_for}


def line_cells(line: JobLine) -> tuple[str, ...]:
    job = line.job
    share = job.step / job.total_steps if job.step is not None and job.total_steps else None
    steps = "" if job.step is None else f"{job.step:,}/{job.total_steps:,}" if job.total_steps else f"{job.step:,}"
    return (
        shown_id(job.id),
        job.name,
        job.state.value,
        line.health,
        steps,
        "" if share is None else f"{share:.0%}",
        "" if line.rate is None else f"{line.rate:,.{0 if line.rate >= 100 else 1}f}",
        "" if line.against_median is None else f"{line.against_median:.0%}",
        "" if line.loss is None else "NaN" if math.isnan(line.loss) else f"{line.loss:.4g}",
        "" if line.success is None else f"{line.success:.0%}",
        output.moment(line.ends if job.state.active else job.ended),
    )


def report(options: Options) -> int:
    from .report import report, write_report  # what the other commands need not load

    with open_manager(options) as manager:
        path, job = home_path(options.out), manager.job(id_of(options.job))
        if path.exists() and not options.force:
            write_report(path, "", force=False)  # says so, before a long job is read
        write_report(path, report(manager, job.id, time.time()), force=options.force)
        if options.json:
            output.as_json({"id": job.id, "path": str(path.absolute())})
        else:
            print(f"job {job.id} is in {path}")
    return 0


def metrics(options: Options) -> int:
    if options.csv and options.json:
        raise PidecError("metrics answers in CSV or in JSON", "Leave out --csv or --json")
    with open_manager(options) as manager:
        job, keys = manager.job(id_of(options.job)), options.key
        names = manager.metric_names(job.id)
        for key in keys:
            output.check_key(key, names, job.id)
        blocks = manager.curves(job.id)
        if options.csv:
            write_csv(sys.stdout, blocks, keys or names, keys)
            return 0
        found = [{"step": step, "time": when, "metrics": values} for step, when, values in curve_rows(blocks, keys)]
        if options.json:
            output.as_json(found)
        elif found:
            output.metric_table(found)
        else:
            say(f"job {job.id} has logged no metrics yet")
    return 0
