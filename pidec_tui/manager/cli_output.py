"""How `pidec-jobs` answers: the shapes of its JSON, and tables for people."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pidec_train.protocol.config import parse_config, shell_line
from pidec_train.protocol.errors import PidecError, did_you_mean

from .jobs import Job, MetricPoint
from .presets import Preset

WIDTH_OF_A_PIPE = 160


def as_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def job_json(job: Job) -> dict[str, Any]:
    """A job as `show --json` gives it: the fields of `Job` by their names."""
    return {**asdict(job), "state": job.state.value, "after": list(job.after)}


def preset_json(preset: Preset) -> dict[str, Any]:
    return {**asdict(preset), "path": str(preset.path)}


def metric_rows(points: Sequence[MetricPoint]) -> list[dict[str, Any]]:
    """Points that were logged together as one row, by step: `{"step", "time", "metrics": {name: value}}`."""
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for point in points:
        row = rows.setdefault((point.attempt, point.seq), {"step": point.step, "time": point.time, "metrics": {}})
        row["metrics"][point.name] = point.value
    return sorted(rows.values(), key=lambda row: int(row["step"]))


def check_key(key: str | None, names: Sequence[str], job_id: int) -> None:
    """Raise PidecError if the job has curves, but none of this name."""
    if key is not None and names and key not in names:
        raise PidecError(f'job {job_id} has no metric "{key}"', did_you_mean(key, names))


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE, highlight=False)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in ("id", "step") else "left", overflow="fold")
    return table


def job_table(jobs: Sequence[Job]) -> None:
    table = _table("id", "state", "lane", "name", "progress", "started", "what")
    for job in jobs:
        what = f"waits for {job.waiting_for}" if job.waiting_for else job.reason
        cells = (str(job.id), job.state.value, job.lane, job.name, progress(job), _clock(job.started), what)
        table.add_row(*(Text(cell) for cell in cells))
    _console().print(table)


def job_page(job: Job, latest: Mapping[str, float | None], checkpoints: Path, log: Path | None) -> None:
    console = _console()
    facts = [
        ("job", f"{job.id} {job.name}"), ("kind", job.kind), ("state", job.state.value), ("lane", job.lane),
        ("waits for", job.waiting_for), ("because", job.reason), ("after", ", ".join(map(str, job.after))),
        ("progress", progress(job)), ("preset", job.preset or ""),
        ("checkpoints", str(checkpoints) if checkpoints.is_dir() else ""), ("log", str(log or "")),
        ("command", _command(job)),
    ]  # fmt: skip
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        if value:
            table.add_row(name, Text(value))
    for name, value in job.config.items():
        table.add_row(f"  {name}", Text(str(value)))
    console.print(table)
    if job.attempts:
        attempts = _table("attempt", "state", "started", "ended", "gpu", "how it ended")
        for item in job.attempts:
            cells = (str(item.number), item.state, _clock(item.started), _clock(item.ended), item.gpu or "", item.cause)
            attempts.add_row(*(Text(cell) for cell in cells))
        console.print(attempts)
    if latest:
        metric_table([{"step": job.step, "time": None, "metrics": latest}])


def _command(job: Job) -> str:
    try:
        return shell_line(job.kind, parse_config(job.kind, job.config))
    except PidecError:
        return ""


def metric_table(rows: Sequence[Mapping[str, Any]]) -> None:
    names = sorted({name for row in rows for name in row["metrics"]})
    table = _table("step", *names)
    for row in rows:
        table.add_row(str(row["step"]), *(_number(row["metrics"].get(name)) for name in names))
    _console().print(table)


def preset_table(presets: Sequence[Preset]) -> None:
    table = _table("name", "kind", "lane", "title", "from")
    for item in presets:
        origin = "shipped" if item.builtin else "workspace"
        table.add_row(*(Text(cell) for cell in (item.name, item.kind, item.lane or "", item.title, origin)))
    _console().print(table)


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
