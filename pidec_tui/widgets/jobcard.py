"""What the selected job is: state, config, attempts, warnings."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rich.text import Text

from ..alerting import needs_somebody
from ..board import Board
from ..manager.byhand import shown_id
from ..manager.jobs import Job
from ..sentences import jobs_ahead, sentence
from ..words import GLYPHS, STATE_COLOURS, Keys, moment
from .panel import Lines


def folded(text: str, width: int, style: str = "") -> Lines:
    """`text` in lines of at most `width` cells, broken between words where that can be."""
    from rich.console import Console

    lines = Text(text, style).wrap(Console(width=max(width, 1)), max(width, 1))
    return list(lines)


def first_values(job: Job, root: str = "") -> list[tuple[str, str]]:
    """The config values that people change first, and those that the job changed, as shown. None before the feed has
    brought in what knows the defaults: that takes a tenth of a second, and the queue is looked at first."""
    # A module is in sys.modules before it is read to its end, in the feed's thread: then it does not have them yet.
    models = getattr(sys.modules.get("pidec_train.protocol.config"), "CONFIG_MODELS", None)
    if models is None:
        return []
    model = models.get(job.kind)
    fields = model.model_fields if model else {}
    found = []
    for name, value in job.config.items():
        field = fields.get(name)
        extra = field.json_schema_extra if field and isinstance(field.json_schema_extra, dict) else {}
        default = list(field.default) if field and isinstance(field.default, tuple) else field and field.default
        if field is None or extra.get("first") or value != default:
            found.append((bool(extra.get("first")), name, shown(value, root)))
    found.sort(key=lambda item: not item[0])
    return [(name, text) for _, name, text in found]


def shown(value: object, root: str = "") -> str:
    """A config value as one types it; a path below `root` without it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(str(item) for item in value)
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.removeprefix(root.rstrip("/") + "/") if root else text


def card_lines(
    board: Board,
    now: float,
    colours: Mapping[str, str],
    width: int,
    height: int,
    *,
    key: Keys,
    root: str = "",
) -> Lines:
    """Name and state, then warnings, then config, as many as fit. `key`: what an id of a binding is called now; `root`:
    the workspace, left out of paths."""
    job = board.job()
    if job is None:
        return []
    lines: Lines = [
        Text(no_wrap=True)
        .append(f"{shown_id(job.id)} {job.name}"[: max(width - len(job.kind) - len(job.lane) - 6, 8)], "bold")
        .append(f"  {job.kind} · {job.lane}", colours["muted"])
    ]
    state = job.state.value
    said = sentence(job, board.lines.get(job.id), now, jobs_ahead(job, board.jobs or ()), key=key)
    lines += folded(f"{GLYPHS[state]} {said}", width, colours[STATE_COLOURS[state]])
    for event in [event for event in board.events if needs_somebody(event)][-2:]:
        text = f"! {moment(event.time, now)} {event.detail.get('message', '')}"
        lines += folded(text, width, colours["warning"])[:2]
    values = first_values(job, root)
    label = min(max((len(name) for name, _ in values), default=0), 20) + 2
    for name, text in values:
        line = Text(no_wrap=True).append(f"{name[: label - 2]:<{label}}", colours["muted"])
        if len(text) > width - label:
            text = "…" + text[-(width - label - 1) :] if "/" in text else text[: width - label - 1] + "…"
        lines.append(line.append(text))
    return lines[:height]
