"""Several values in one field of a form: `1..3` or `1e-4,3e-4` make a job for each, and for each combination. Pure."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from pidec_train.protocol.errors import PidecError

from .forms import FormField, errors_of, from_text
from .manager.sweep import MOST_JOBS, Combination, label, spread

_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})*,000")  # 300,000 is one number; 128,256 are two
_RANGE = re.compile(r"-?\d+\.\.-?\d+")
Axes = dict[str, list[str]]


def axes_of(fields: Iterable[FormField], texts: Mapping[str, str]) -> tuple[Axes, dict[str, str]]:
    """The values of each field that has several, as typed; and what is wrong with them, by field name."""
    axes: Axes = {}
    errors: dict[str, str] = {}
    for field in fields:
        text = texts[field.name].strip()
        if not _several(field, text):
            continue
        try:
            values = spread(text, "several values")
        except PidecError as error:
            errors[field.name] = error.message
            continue
        if len(values) > 1:
            axes[field.name] = values
    if math.prod(map(len, axes.values())) > MOST_JOBS:
        errors[""] = f"{math.prod(map(len, axes.values())):,} jobs; the most are {MOST_JOBS}"
    return axes, errors


def _several(field: FormField, text: str) -> bool:
    """Whether a text names more than one value of its field."""
    if field.choices or not text:
        return False
    if field.shape == "number":
        return bool(_RANGE.fullmatch(text)) or ("," in text and not _GROUPED.fullmatch(text))
    if field.shape == "list":
        return re.search(r"\]\s*,\s*\[", text) is not None
    return field.path in {"demo", "checkpoint"} and "," in text and not Path(text).expanduser().exists()


def errors_of_axes(kind: str, fields: list[FormField], texts: Mapping[str, str], axes: Axes) -> dict[str, str]:
    """What is wrong with any of the values, each tried among the first values of the others."""
    first = one_of(texts, axes)
    errors = errors_of(kind, fields, first)
    for name, values in axes.items():
        for value in values[1:]:
            for wrong, text in errors_of(kind, fields, {**first, name: value}).items():
                errors.setdefault(wrong, f"{value}: {text}" if wrong == name else text)
    return errors


def one_of(texts: Mapping[str, str], axes: Axes) -> dict[str, str]:
    """The texts of the first job."""
    return {**texts, **{name: values[0] for name, values in axes.items()}}


def count(axes: Axes) -> int:
    """How many jobs these make: 1 without any."""
    return math.prod(map(len, axes.values()))


def combinations_of(fields: Iterable[FormField], axes: Axes) -> list[Combination]:
    """A combination for each job, none without axes; the last field changes fastest."""
    if not axes:
        return []
    known = {field.name: field for field in fields}
    return [
        Combination(
            label(dict(zip(axes, chosen, strict=True))),
            {name: from_text(known[name], text) for name, text in zip(axes, chosen, strict=True)},
        )
        for chosen in itertools.product(*axes.values())
    ]


def told(axes: Axes) -> str:
    """`6 jobs, a group: seed 1, 2, 3 × lr 1e-4, 3e-4`."""
    each = " × ".join(f"{name} {', '.join(values)}" for name, values in axes.items())
    return f"{count(axes)} jobs, a group: {each}"
