"""`--sweep seed=1..3 lr=1e-4,3e-4`: which values, in which combinations, and what each job is called."""

from __future__ import annotations

import itertools
import math
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pidec_train.protocol.config import CONFIG_MODELS
from pidec_train.protocol.errors import PidecError, did_you_mean

from .settings import toml_value

MOST_JOBS = 200
_EXAMPLE = "as in --sweep seed=1..3 lr=1e-4,3e-4"
_RANGE = re.compile(r"(-?\d{1,18})\.\.(-?\d{1,18})")


@dataclass(frozen=True)
class Combination:
    """The values of one job of a sweep. `label` tells it from the others: `seed=1 lr=3e-4`."""

    label: str
    values: Mapping[str, Any]


def combinations(kind: str, words: Sequence[str], fixed: Mapping[str, Any] | None = None) -> list[Combination]:
    """Every combination of what `KEY=VALUES` words name, none without any; the last key changes fastest.

    Args:
        kind: of the jobs.
        words: `seed=1..3` (a range of whole numbers, both ends in it) or `lr=1e-4,3e-4`.
        fixed: values that all jobs share, which cannot be swept as well.

    Raises:
        PidecError: a command job, a key that does not exist or comes twice, no value, or more than `MOST_JOBS` jobs.
    """
    if not words:
        return []
    if kind == "command":
        raise PidecError(
            "a shell command has no settings to sweep", "Add one job each, with --group NAME to keep them together"
        )
    axes: dict[str, list[tuple[str, Any]]] = {}
    for word in words:
        key, values = _axis(kind, word)
        if key in axes:
            raise PidecError(f"--sweep names {key} twice", "Give all its values at once, with commas between them")
        if key in (fixed or {}):
            raise PidecError(f"{key} is given by --set and by --sweep", "Leave one out")
        axes[key] = values
    count = math.prod(len(values) for values in axes.values())
    if count > MOST_JOBS:
        raise PidecError(f"the sweep would make {count:,} jobs", f"The most are {MOST_JOBS}: sweep fewer values")
    return [
        Combination(
            label({key: text for key, (text, _) in zip(axes, chosen, strict=True)}),
            {key: value for key, (_, value) in zip(axes, chosen, strict=True)},
        )
        for chosen in itertools.product(*axes.values())
    ]


def _axis(kind: str, word: str) -> tuple[str, list[tuple[str, Any]]]:
    """A key, and its values with the words that gave them."""
    key, equals, text = word.partition("=")
    key = key.strip().replace("-", "_")
    if not equals or not key:
        raise PidecError(f"--sweep {word}: it must be KEY=VALUES", f"Write it {_EXAMPLE}")
    field = CONFIG_MODELS[kind].model_fields.get(key)
    if field is None:
        raise PidecError(f'{kind} has no setting "{key}": {did_you_mean(key, CONFIG_MODELS[kind].model_fields)}')
    as_text = takes_text(field.annotation)
    return key, [(each, toml_value(each, as_text=as_text)) for each in spread(text, f"--sweep {word}")]


def spread(text: str, said: str) -> list[str]:
    """The values that `1..3` or `1e-4,3e-4` names; one, if it names one. Raises PidecError that begins with `said`."""
    span = _RANGE.fullmatch(text.strip())
    words = _span(said, int(span[1]), int(span[2])) if span else _split(text)
    if not words or not all(words):
        raise PidecError(f"{said}: a value is missing", f"Write it {_EXAMPLE}")
    twice = next((each for each in words if words.count(each) > 1), None)
    if twice is not None:
        raise PidecError(f"{said}: {twice} is there twice", "Two jobs alike tell nothing: leave one out")
    return words


def _span(said: str, first: int, last: int) -> list[str]:
    if last < first:
        raise PidecError(f"{said}: there is nothing between {first} and {last}", f"Write {last}..{first}")
    if last - first >= MOST_JOBS:
        raise PidecError(f"the sweep would make {last - first + 1:,} jobs", f"The most are {MOST_JOBS}")
    return [str(number) for number in range(first, last + 1)]


def _split(text: str) -> list[str]:
    """The values between commas; those inside brackets or quotes separate nothing: `[16,32],[64,128]`."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if char == quote:
            quote = ""
        elif not quote and char in "\"'":
            quote = char
        if not quote:
            depth += (char == "[") - (char == "]")
        if char == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


def label(values: Mapping[str, Any]) -> str:
    """`seed=1 lr=3e-4`."""
    return " ".join(f"{key}={_short(str(value))}" for key, value in values.items())


def renamed(name: str, told: str) -> str:
    """A name with what a label tells: `peg seed=1` and `seed=2 lr=3e-4` make `peg seed=2 lr=3e-4`."""
    for pair in told.split():
        key = pair.partition("=")[0]
        name, known = re.subn(rf"(?<!\S){key}=\S*", pair.replace("\\", r"\\"), name)
        if not known:
            name = f"{name} {pair}"
    return name


def _short(text: str) -> str:
    """Of a path its end: names are for lists."""
    path, word = Path(text), "".join(text.split())
    return f"{path.parent.name}/{path.stem}" if path.is_absolute() else word


def takes_text(annotation: Any) -> bool:
    """Whether a field takes text only, so that `exp_name=123` means the three characters."""
    if typing.get_origin(annotation) is typing.Literal:
        return all(isinstance(choice, str) for choice in typing.get_args(annotation))
    parts = [part for part in typing.get_args(annotation) if part is not type(None)] or [annotation]
    return all(part is str or (part is not annotation and takes_text(part)) for part in parts)
