"""Several values in one field of a form: `1..3` or `1e-4,3e-4` make a job for each, and for each combination. Pure."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping

from pidec_train.protocol.errors import PidecError

from .forms import FormField, errors_of, from_text
from .manager.sweep import MOST_JOBS, Combination, label, spread
from .typednumbers import numbers_in, plain, said

_RANGE = re.compile(r"-?\d+\.\.-?\d+")
Axes = dict[str, list[str]]


def axes_of(
    fields: Iterable[FormField], texts: Mapping[str, str], there: Mapping[str, bool]
) -> tuple[Axes, dict[str, str]]:
    """The values of each field that has several, as typed; and what is wrong with them, by field name.

    Args:
        there: whether there is a file, by the text that names it: a file's name may have a comma in it.
    """
    axes: Axes = {}
    errors: dict[str, str] = {}
    for field in fields:
        text = texts[field.name].strip()
        if not _several(field, text, there):
            continue
        try:
            values = _values(field, text)
        except PidecError as error:
            errors[field.name] = error.message
            continue
        if len(values) > 1:
            axes[field.name] = values
    if math.prod(map(len, axes.values())) > MOST_JOBS:
        errors[""] = f"{math.prod(map(len, axes.values())):,} jobs; the most are {MOST_JOBS}"
    return axes, errors


def _values(field: FormField, text: str) -> list[str]:
    """The values that a text names. Raises PidecError where that cannot be said, one is missing or there twice."""
    numbers = numbers_in(text) if field.shape == "number" and not _RANGE.fullmatch(text) else []
    if not any("," in number for number in numbers):
        return spread(text, "several values")
    spread(",".join(number.replace(",", "_") for number in numbers), "several values")  # the same checks
    return numbers


def understood(fields: Iterable[FormField], texts: Mapping[str, str], axes: Axes) -> dict[str, str]:
    """How the values of number fields were read where that is not plain to see, by field name; of all fields that have
    several, which ones."""
    told = {
        name: f"{len(values)} values, a job for each: {said(list(map(plain, values)))}" for name, values in axes.items()
    }
    for field in fields:
        text = texts[field.name].strip()
        if field.shape == "number" and field.name not in axes and re.search(r"[,_kKmMgG]", text):
            told[field.name] = plain(text)
    return told


def _several(field: FormField, text: str, there: Mapping[str, bool]) -> bool:
    """Whether a text names more than one value of its field."""
    if field.choices or not text:
        return False
    if field.shape == "number":
        return bool(_RANGE.fullmatch(text)) or "," in text
    if field.shape == "list":
        return re.search(r"\]\s*,\s*\[", text) is not None
    return field.path in {"demo", "checkpoint"} and "," in text and not there.get(text)


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
