"""A form from a config model: its fields, their values as text and back, and the files that a path may name. Pure."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pidec_train
from pidec_train.protocol.config import BUNDLED, CONFIG_MODELS, field_errors
from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import BEST, Workspace, list_checkpoints

from .manager.jobs import Job
from .typednumbers import number_of, numbers_in

YES, NO = "yes", "no"


@dataclass(frozen=True)
class FormField:
    """One line of a form.

    Attributes:
        first: one of those that people change first.
        path: "demo", "checkpoint" or "output" for a path, None for other fields.
        choices: the texts it can have, "" for None; empty where it is typed.
        optional: empty means None.
        shape: what is typed: "number", "list" (of numbers) or "text".
        default: as text; None where a value must be given.
    """

    name: str
    description: str
    first: bool
    path: str | None
    choices: tuple[str, ...]
    optional: bool
    shape: Literal["number", "list", "text"]
    default: str | None


def form_fields(kind: str) -> list[FormField]:
    """The fields of a kind's config model, those that people change first ahead of the rest."""
    fields = []
    for name, info in CONFIG_MODELS[kind].model_fields.items():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        inner, optional = _without_none(info.annotation)
        path = extra.get("path")
        fields.append(
            FormField(
                name,
                info.description or "",
                bool(extra.get("first")),
                str(path) if path else None,
                _choices(inner, optional=optional),
                optional,
                _shape(inner),
                None if info.is_required() else to_text(info.default),
            )
        )
    return sorted(fields, key=lambda field: not field.first)


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [part for part in typing.get_args(annotation) if part is not type(None)]
        return rest[0], len(rest) < len(typing.get_args(annotation))
    return annotation, False


def _choices(annotation: Any, *, optional: bool) -> tuple[str, ...]:
    if annotation is bool:
        return (NO, YES)
    named = typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()
    return ("", *named) if named and optional else named


def _shape(annotation: Any) -> Literal["number", "list", "text"]:
    if annotation in (int, float):
        return "number"
    return "list" if typing.get_origin(annotation) in (tuple, list) else "text"


def to_text(value: Any) -> str:
    """A config value as one types it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return YES if value else NO
    if isinstance(value, (list, tuple)):
        return " ".join(to_text(item) for item in value)
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)  # a clone's settings must be the same, digit by digit
    return str(value)


def from_text(field: FormField, text: str) -> Any:
    """What was typed, as the config model takes it; 300k and 1,000,000 are numbers. The model judges the rest."""
    text = text.strip()
    if not text and field.optional:
        return None
    if field.choices == (NO, YES):
        return text == YES
    if field.shape == "number":
        return number_of(text)
    if field.shape == "list":
        return [number_of(part) for part in re.split(r"[\s,;x×()\[\]]+", text) if part]
    return text


def whole_number(text: str) -> int | None:
    """300k, 1M or 1,000,000 as a number; None where it is none, or more than one."""
    try:
        values = numbers_in(text)
        return int(number_of(values[0])) if len(values) == 1 else None
    except (PidecError, ValueError, OverflowError):
        return None


def values_of(fields: Iterable[FormField], texts: Mapping[str, str]) -> dict[str, Any]:
    """The config's values; a field that must be given and is empty is left out, so that the model says so."""
    return {
        field.name: from_text(field, texts[field.name])
        for field in fields
        if texts[field.name].strip() or field.default is not None or field.optional
    }


def errors_of(kind: str, fields: Iterable[FormField], texts: Mapping[str, str]) -> dict[str, str]:
    """What is wrong, by field name; "" for a check that spans fields."""
    errors = field_errors(kind, values_of(fields, texts))
    return {
        name: "needs a value" if text == "field required" else text.partition(", unable")[0]
        for name, text in errors.items()
    }


def files_of(fields: Iterable[FormField], texts: Mapping[str, str]) -> dict[str, str]:
    """The files that a job would read, as they are named, by field."""
    named = {field.name: texts[field.name].strip() for field in fields if field.path in {"demo", "checkpoint"}}
    return {name: text for name, text in named.items() if text and not text.startswith((BUNDLED, "@"))}


def missing_files(fields: Iterable[FormField], texts: Mapping[str, str], there: Mapping[str, bool]) -> dict[str, str]:
    """What to say of the files that a job would read and that are not there, by field name. No errors: another job may
    make them first.

    Args:
        there: whether there is a file, by the text that names it; of others nobody knows yet.
    """
    said = "no such file yet: right as long as another job makes it first"
    return {name: said for name, text in files_of(fields, texts).items() if there.get(text) is False}


def found_paths(path: str | None, ws: Workspace, jobs: Iterable[Job] = ()) -> list[str]:
    """What a path field may name: demos of the workspace and the bundled ones, checkpoints on disk and those of jobs.

    Args:
        path: the field's `path`.
        jobs: the queue; `@41/best` names the best checkpoint that job 41 will have.
    """
    if path == "demo":
        assets = Path(pidec_train.__file__).parent / "assets"
        found = [*_below(ws.root, "demos/*.h5"), *_below(ws.root, "*.h5")]
        return found + [BUNDLED + file.name for file in sorted(assets.glob("*.h5"))]
    if path == "checkpoint":
        waiting = [f"@{job.id}/best" for job in jobs if job.kind == "diffusion" and not job.state.finished]
        return waiting + _checkpoints(ws)
    return []


def _below(root: Path, pattern: str) -> list[str]:
    return [str(file.relative_to(root)) for file in sorted(root.glob(pattern))]


def _checkpoints(ws: Workspace) -> list[str]:
    """Newest run first; of each its best, then its steps, newest first."""
    found: list[Path] = []
    folders = [folder for folder in ws.checkpoints.glob("*") if folder.is_dir()]
    for folder in sorted(folders, reverse=True):
        found += [folder / BEST] if (folder / BEST).exists() else []
        found += reversed(list_checkpoints(folder))
    return [str(file.relative_to(ws.root)) for file in found]
