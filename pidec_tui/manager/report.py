"""`pidec-jobs report`: one job as one HTML file that needs no script, no network and no pidec."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from pidec_train.protocol.config import CONFIG_MODELS, parse_config, shell_line
from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import BEST, LAST, list_checkpoints, read_checkpoint_info, write_atomic

from .evaluations import Evaluations
from .gpus import DOOR_PATIENCE_S, GpuMonitor
from .host import sample_host
from .intervals import wilson
from .jobs import Job, JobEvent
from .manager import Manager
from .reportcurves import evaluated, machine_figures, metric_figures

_MANY_EVENTS = 30  # more are folded, and those that the page tells of elsewhere are left out above
_TOLD_ELSEWHERE = ("checkpoint", "eval")
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --quiet: #667; --rule: #ccd; --line: #0b62b0; --mark: #b06a00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dde3ea; --quiet: #99a; --rule: #3a4250; --line: #6cb2f0; --mark: #d8a45a; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); max-width: 1180px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: .2em } h2 { font-size: 1.1em; margin-top: 2em }
.quiet { color: var(--quiet) }
.charts { display: grid; gap: 1em; grid-template-columns: repeat(auto-fill, minmax(420px, 1fr)) }
figure { margin: 0 } figcaption { font-weight: 600 } figcaption span { font-weight: 400; color: var(--quiet) }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } td, th { text-align: left; vertical-align: top;
  padding: .15em 1.2em .15em 0; border-bottom: 1px solid var(--rule); white-space: nowrap }
td:last-child, .wraps td { white-space: normal; overflow-wrap: anywhere }
code { font-size: .92em; overflow-wrap: anywhere } .scroll { overflow-x: auto }
svg { width: 100%; height: auto } svg text { font-size: 11px; fill: var(--quiet) } .y { text-anchor: end }
.x { text-anchor: middle } .grid { stroke: var(--rule); stroke-width: .6 }
.mark { stroke: var(--mark); stroke-dasharray: 2 3 }
.line { fill: none; stroke: var(--line); stroke-width: 1.5 } .band { fill: var(--line); opacity: .22 }
.bar { stroke: var(--line); stroke-width: 1.5 } .dot { fill: var(--line) }
"""


def write_report(path: Path, html: str, *, force: bool) -> None:
    """Write a report with mode 0600. Raises PidecError if there is a file already, or none can be made there."""
    if path.is_dir():
        raise PidecError(f"{path} is a folder", "Name a file in it: --out FILE.html")
    if path.exists() and not force:
        raise PidecError(f"{path} is there already", "--force writes over it")
    try:
        write_atomic(path, html.encode())
    except OSError as error:
        raise PidecError(f"{path} cannot be written: {error.strerror}", "Choose another --out") from None


def report(manager: Manager, job_id: int, now: float) -> str:
    """The page of a job as it is now, unix seconds."""
    job = manager.job(job_id)
    events = manager.events(job_id)
    sections = [
        ("Curves", metric_figures(manager, job, events)),
        ("Speed and machine", machine_figures(manager, job, now)),
        ("Evaluations", _evaluations(manager, job, events)),
        ("Checkpoints", _checkpoints(manager, job)),
        ("Config", _config(job)),
        ("Attempts", _attempts(job)),
        ("Events", _events(events)),
        ("Machine", _machine(manager, job)),
    ]
    body = "".join(f"<h2>{title}</h2>{html}" for title, html in sections if html)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>job {job.id} {escape(job.name)}</title><style>{_STYLE}</style></head><body>"
        f"{_head(job, now)}{body}</body></html>\n"
    )


def _head(job: Job, now: float) -> str:
    states = [f"<b>{job.state}</b>", escape(job.reason or (f"waits for {job.waiting_for}" if job.waiting_for else ""))]
    if job.step is not None:
        whole = f" of {job.total_steps:,}" if job.total_steps else ""
        states.append(f"{job.step:,}{whole} {escape(job.step_name)}s")
    if job.started:
        states.append(f"{_duration((job.ended or now) - job.started)} since its last start")
    facts = " · ".join(text for text in states if text)
    preset = f", preset {escape(job.preset)}" if job.preset else ""
    group = f", group {escape(job.group_name)}" if job.group_name else ""
    return (
        f"<h1>{escape(job.name)}</h1><p>{facts}</p>"
        f'<p class="quiet">job {job.id}, {escape(job.kind)}{preset}{group}; written {_clock(now)}</p>'
    )


# --- tables ----------------------------------------------------------------------------------------------------------


def _evaluations(manager: Manager, job: Job, events: Sequence[JobEvent]) -> str:
    trained = "while it trained" if job.kind != "evaluate" else ""
    rows = [
        (f"{step:,}", *_share(wins, episodes), _in_attempt(trained, job, event), _clock(event.time))
        for step, wins, episodes, event in evaluated(events)
    ]
    folder = manager.checkpoint_dir(job.id).resolve()
    for path, found in Evaluations(manager).of(manager.jobs()).items():
        if path.parent == folder:
            for each in found:
                how = f"job {each.job} on {path.name}" + (f", {each.settings}" if each.settings else "")
                rows.append(("", *_share(each.successes, each.episodes), how, _clock(each.when)))
    return _table(("step", "success", "95 % interval (Wilson)", "episodes", "how", "when"), rows)


def _in_attempt(text: str, job: Job, event: JobEvent) -> str:
    """Which attempt it was, where there is more than one: of one that was begun anew the earlier ones are void."""
    return text if len(job.attempts) < 2 else ", ".join(filter(None, (text, f"attempt {event.attempt}")))


def _share(wins: int, episodes: int) -> tuple[str, str, str]:
    low, high = wilson(wins, episodes)
    return f"{wins / episodes:.1%}", f"{low:.1%} to {high:.1%}", f"{wins:,} of {episodes:,}"


def _checkpoints(manager: Manager, job: Job) -> str:
    folder = manager.checkpoint_dir(job.id)
    links = {name: os.path.basename(os.path.realpath(folder / name)) for name in (BEST, LAST)}
    rows = []
    for path in list_checkpoints(folder):
        told = read_checkpoint_info(path)
        if told is None:
            continue
        tags = " ".join(name.removesuffix(".pt") for name, target in links.items() if target == path.name)
        share = _share(told.successes or 0, told.episodes) if told.episodes else ("", "", "")
        size = f"{told.size / 1e6:.1f} MB"
        rows.append((path.name, tags, f"{told.step:,}", *share[:2], size, _clock(told.created), told.sha256))
    place = f'<p class="quiet"><code>{escape(str(folder))}</code></p>' if rows else ""
    return place + _table(("file", "", "step", "success", "95 % interval", "size", "saved", "sha256"), rows)


def _config(job: Job) -> str:
    """What differs from the defaults; the rest folded."""
    fields = CONFIG_MODELS[job.kind].model_fields if job.kind in CONFIG_MODELS else {}
    changed: list[tuple[str, str, str]] = []
    usual: list[tuple[str, str, str]] = []
    for name, value in job.config.items():
        field = fields.get(name)
        default = None if field is None or field.is_required() else _plain(field.default)
        row = (name, _text(value), "" if field is None or field.is_required() else _text(default))
        (usual if field is not None and not field.is_required() and value == default else changed).append(row)
    try:
        line = f"<p><code>{escape(shell_line(job.kind, parse_config(job.kind, job.config)))}</code></p>"
    except PidecError:  # of a job that an older version has queued
        line = ""
    rest = _table(("setting", "value"), [row[:2] for row in usual], wraps=True)
    folded = f"<details><summary>{len(usual)} settings as by default</summary>{rest}</details>" if usual else ""
    return line + _table(("setting", "value", "default"), changed, wraps=True) + folded


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _attempts(job: Job) -> str:
    rows = [
        (
            str(each.number),
            each.state,
            _clock(each.started),
            _clock(each.ended),
            _duration(each.ended - each.started) if each.ended else "",
            "" if each.resumed_step is None else f"{each.resumed_step:,}",
            each.gpu or "",
            each.cause,
        )
        for each in job.attempts
    ]
    return _table(("attempt", "state", "started", "ended", "took", "resumed at", "GPU", "how it ended"), rows)


def _events(events: Sequence[JobEvent]) -> str:
    whole = _event_table(events)
    if len(events) <= _MANY_EVENTS:
        return whole
    rest = _event_table([event for event in events if event.event not in _TOLD_ELSEWHERE])
    return f"{rest}<details><summary>all {len(events):,} events</summary>{whole}</details>"


def _event_table(events: Sequence[JobEvent]) -> str:
    rows = []
    for event in events:
        told = {key: value for key, value in event.detail.items() if value is not None and key != "config"}
        detail = ", ".join(f"{key} {_text(value)}" for key, value in told.items())
        step = "" if event.step is None else f"{event.step:,}"
        rows.append((_clock(event.time), str(event.attempt), step, event.event, detail[:500]))
    return _table(("when", "attempt", "step", "event", ""), rows)


def _machine(manager: Manager, job: Job) -> str:
    """As it is where and when the report is written."""
    monitor = GpuMonitor(patience_s=DOOR_PATIENCE_S)
    gpus, host = monitor.sample(), sample_host(manager.workspace.root)
    monitor.close()
    cards = ", ".join(f"{gpu.name}, {gpu.memory_total / 2**30:.0f} GiB, {gpu.uuid}" for gpu in gpus)
    rows = [
        ("host", f"{platform.node()}, {platform.system()} {platform.release()}"),
        ("CPU and memory", f"{host.cores} cores, {host.memory_total / 2**30:.1f} GiB"),
        ("GPU", cards or monitor.why_none),
        ("Python", platform.python_version()),
        ("pidec", manager.code_version(job.id)),
        ("workspace", str(manager.workspace.root)),
    ]
    return _table(("", ""), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, wraps: bool = False) -> str:
    """`wraps`: cells of any length; else the last column alone is broken."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    kind = ' class="wraps"' if wraps else ""
    return f'<div class="scroll"><table{kind}><tr>{head}</tr>{lines}</table></div>'


def _clock(moment: float | None) -> str:
    if moment is None:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
    except (OverflowError, ValueError, OSError):
        return "-"


def _duration(seconds: float) -> str:
    whole = max(int(seconds), 0)
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min" if whole >= 3600 else f"{whole // 60} min {whole % 60} s"
