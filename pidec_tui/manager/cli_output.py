"""How `pidec-jobs` answers: the shapes of its JSON, and tables for people."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pidec_train.protocol.config import parse_config, shell_line
from pidec_train.protocol.errors import PidecError, did_you_mean

from .byhand import shown_id
from .jobs import Job
from .presets import Preset

if TYPE_CHECKING:
    from rich.table import Table

WIDTH_OF_A_PIPE = 160
_NUMBERS = frozenset({"id", "step", "done", "per min", "of median", "loss", "ends"})


def as_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def job_json(job: Job) -> dict[str, Any]:
    """A job as `show --json` gives it: the fields of `Job` by their names."""
    return {**asdict(job), "state": job.state.value, "after": list(job.after)}


def preset_json(preset: Preset) -> dict[str, Any]:
    return {**asdict(preset), "path": str(preset.path)}


def check_key(key: str | None, names: Sequence[str], job_id: int) -> None:
    """Raise PidecError if the job has curves, but none of this name."""
    if key is not None and names and key not in names:
        raise PidecError(f'job {job_id} has no metric "{key}": {did_you_mean(key, names)}')


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, header: bool = True) -> None:
    """Rows as wide as they need to be; text is printed as it is, whatever brackets it holds."""
    from rich.console import Console  # 30 ms that an answer in JSON need not pay

    table = table_of(columns, rows, header=header)
    Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE, highlight=False).print(table)


def table_of(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, header: bool = True, whole: bool = False
) -> Table:
    """A table for the console; `whole`: a row is one line, and the name gives way where there is no room."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", show_header=header)
    for column in columns:
        right = column in _NUMBERS
        table.add_column(
            column,
            justify="right" if right else "left",
            overflow="ellipsis" if whole else "fold",
            no_wrap=whole and column != "name",  # rich takes room from columns that may wrap before any other
            ratio=1 if whole and column == "name" else None,
        )
    for row in rows:
        table.add_row(*(Text(cell, no_wrap=whole or None, overflow="ellipsis" if whole else None) for cell in row))
    return table


def job_table(jobs: Sequence[Job]) -> None:
    rows = []
    grouped = any(job.group_name for job in jobs)
    for job in jobs:
        what = f"waits for {job.waiting_for}" if job.waiting_for else job.reason
        name = (job.name, job.group_name) if grouped else (job.name,)
        rows.append((shown_id(job.id), job.state.value, job.lane, *name, progress(job), _clock(job.started), what))
    names = ("name", "group") if grouped else ("name",)
    print_table(("id", "state", "lane", *names, "progress", "started", "what"), rows)


def job_page(job: Job, latest: Mapping[str, float | None], checkpoints: Path, log: Path | None) -> None:
    facts = [
        ("job", f"{shown_id(job.id)} {job.name}"), ("kind", job.kind), ("state", job.state.value), ("lane", job.lane),
        ("waits for", job.waiting_for), ("because", job.reason), ("after", ", ".join(map(str, job.after))),
        ("progress", progress(job)), ("preset", job.preset or ""), ("group", job.group_name),
        ("checkpoints", str(checkpoints) if checkpoints.is_dir() else ""), ("log", str(log or "")),
        ("command", _command(job)),
    ]  # fmt: skip
    config = [(f"  {name}", str(value)) for name, value in job.config.items()]
    print_table(("", ""), [*(fact for fact in facts if fact[1]), *config], header=False)
    if job.attempts:
        rows = [
            (str(item.number), item.state, _clock(item.started), _clock(item.ended), item.gpu or "", item.cause)
            for item in job.attempts
        ]
        print_table(("attempt", "state", "started", "ended", "gpu", "how it ended"), rows)
    if latest:
        metric_table([{"step": job.step, "time": None, "metrics": latest}])


def _command(job: Job) -> str:
    try:
        return shell_line(job.kind, parse_config(job.kind, job.config))
    except PidecError:
        return ""


def metric_table(rows: Sequence[Mapping[str, Any]]) -> None:
    names = sorted({name for row in rows for name in row["metrics"]})
    print_table(
        ("step", *names), [(str(row["step"]), *(_number(row["metrics"].get(name)) for name in names)) for row in rows]
    )


def preset_table(presets: Sequence[Preset]) -> None:
    rows = [
        (item.name, item.kind, item.lane or "", item.title, "shipped" if item.builtin else "workspace")
        for item in presets
    ]
    print_table(("name", "kind", "lane", "title", "from"), rows)


def checkpoint_table(rows: Iterable[Sequence[str]]) -> None:
    columns = ("run", "", "step", "success", "kind", "task", "obs", "normalised", "size", "saved", "origin", "")
    print_table(columns, rows)


def progress(job: Job) -> str:
    """ "2,000 of 10,000 iterations"; "" before the first step."""
    if job.step is None:
        return ""
    unit = f" {job.step_name}s" if job.step_name else ""
    return f"{job.step:,} of {job.total_steps:,}{unit}" if job.total_steps else f"{job.step:,}{unit}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _clock(moment: float | None) -> str:
    if moment is None:
        return ""
    today = time.strftime("%Y-%m-%d") == time.strftime("%Y-%m-%d", time.localtime(moment))
    return time.strftime("%H:%M:%S" if today else "%m-%d %H:%M", time.localtime(moment))


def moment(when: float | None) -> str:
    """Time of day, with the date where it is not today's; "" for none, "-" beyond any calendar."""
    if when is None:
        return ""
    try:
        then = time.localtime(when)
    except (OverflowError, ValueError, OSError):
        return "-"
    return time.strftime("%H:%M" if then[:3] == time.localtime()[:3] else "%m-%d %H:%M", then)
