"""Presets: TOML files with `title`, `kind`, `lane`, `first`, `notes`, `[config]`; the workspace's own and shipped ones.

`first` names another preset that is queued before this one; a value `@first/best` or `@first/last` is then the
checkpoint of that job. A setting that must be given may be left open: whoever adds the preset gives it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

import pidec_tui
from pidec_train.protocol.config import CONFIG_MODELS, parse_config
from pidec_train.protocol.errors import PidecError, did_you_mean
from pidec_train.protocol.rundir import Workspace, home_path

from .jobs import LANES
from .tomlfiles import read_toml

FIRST = "@first/"
_FIRST_CHECKPOINT = re.compile(re.escape(FIRST) + "(best|last)")


@dataclass(frozen=True)
class Preset:
    """A named full configuration. `config` holds what the file sets; the rest are the kind's defaults.

    Attributes:
        first: name of the preset that is queued before this one.
    """

    name: str
    title: str
    kind: str
    lane: str | None
    notes: str
    config: dict[str, Any]
    path: Path
    builtin: bool
    first: str | None = None

    @property
    def open(self) -> tuple[str, ...]:
        """Settings that must be given, and that the file leaves to whoever adds the preset."""
        fields = CONFIG_MODELS[self.kind].model_fields
        return tuple(name for name, field in fields.items() if field.is_required() and name not in self.config)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str = ""
    kind: str
    lane: str | None = None
    first: str | None = None
    notes: str = ""
    config: dict[str, Any] = {}


def builtin_folder() -> Path:
    """The presets that ship with pidec: `jobs/presets` of a source tree, or the folder inside the installed package."""
    package = Path(pidec_tui.__file__).parent
    source = package.parent / "jobs" / "presets"
    if (package.parent / "pyproject.toml").is_file() and source.is_dir():
        return source
    return package / "builtin_presets"


def list_presets(ws: Workspace) -> list[Preset]:
    """The workspace's own presets, then the shipped ones that none of them hides. Broken files are passed over."""
    found: dict[str, Preset] = {}
    for path, builtin in _files(ws):
        try:
            preset = read_preset(path, builtin=builtin)
        except PidecError:
            continue
        found.setdefault(preset.name, preset)
    return list(found.values())


def broken_presets(ws: Workspace) -> list[PidecError]:
    """What is wrong with the preset files that cannot be used."""
    errors = []
    for path, builtin in _files(ws):
        try:
            read_preset(path, builtin=builtin)
        except PidecError as error:
            errors.append(error)
    return errors


def _files(ws: Workspace) -> list[tuple[Path, bool]]:
    builtin = builtin_folder()
    own = [] if os.path.realpath(ws.presets) == os.path.realpath(builtin) else sorted(ws.presets.glob("*.toml"))
    return [*((path, False) for path in own), *((path, True) for path in sorted(builtin.glob("*.toml")))]


def load_preset(ws: Workspace, name_or_path: str | Path) -> Preset:
    """A preset by its name, or any .toml file by its path.

    Raises:
        PidecError: there is none of that name (with the nearest one), or the file is wrong.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text:
        path = home_path(text)
        if not path.is_file():
            raise PidecError(f'there is no preset file "{text}"', "pidec-jobs presets lists the presets by name")
        return read_preset(path.absolute(), builtin=False)
    for path, builtin in _files(ws):
        if path.stem == text:
            return read_preset(path, builtin=builtin)
    raise PidecError(f'there is no preset "{text}": {did_you_mean(text, {path.stem for path, _ in _files(ws)})}')


def read_preset(path: Path, *, builtin: bool) -> Preset:
    """Read and check one file. Raises PidecError that names the file and what is wrong in it."""
    try:
        file = _File.model_validate(read_toml(path))
    except ValidationError as error:
        item = error.errors()[0]
        name = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            hint = f"values of the job go under [config]; {did_you_mean(name, _File.model_fields)}"
            raise PidecError(f'{path} has an entry "{name}" that a preset does not know', hint) from None
        raise PidecError(f"{path}: {name}: {item['msg']}") from None
    if file.kind not in CONFIG_MODELS:
        raise PidecError(f'{path}: unknown job kind "{file.kind}": {did_you_mean(file.kind, CONFIG_MODELS)}')
    if file.lane is not None and file.lane not in LANES:
        raise PidecError(f'{path}: unknown lane "{file.lane}": {did_you_mean(file.lane, LANES)}')
    title = file.title or path.stem
    preset = Preset(path.stem, title, file.kind, file.lane, file.notes, file.config, path, builtin, file.first)
    _check_config(preset)
    return preset


def _check_config(preset: Preset) -> None:
    """Raises PidecError for values that are wrong, or that speak of a job that is not there."""
    for name, value in preset.config.items():
        if not isinstance(value, str) or not value.startswith(FIRST):
            continue
        if not _FIRST_CHECKPOINT.fullmatch(value):
            raise PidecError(f'{preset.path}: {name} = "{value}"', "Write @first/best or @first/last")
        if preset.first is None:
            hint = 'Say first = "NAME", the preset that makes that checkpoint, above [config]'
            raise PidecError(f'{preset.path}: {name} = "{value}", but no preset comes first', hint)
    given_later = dict.fromkeys(preset.open, "later.pt")  # what must be given is text: checkpoint, file or command
    try:
        parse_config(preset.kind, {**given_later, **preset.config})
    except PidecError as error:
        raise PidecError(f"{preset.path}: {error.message}", error.hint) from None


def preset_before(ws: Workspace, preset: Preset, overrides: Mapping[str, Any]) -> Preset | None:
    """The preset that has to be queued before this one; None where there is none, or where `overrides` give in its
    stead every value that would come from it.

    Raises:
        PidecError: there is none of that name, or it wants one before itself.
    """
    values = [name for name, value in preset.config.items() if is_from_first(value)]
    if preset.first is None or (values and all(not is_from_first(overrides.get(n, FIRST)) for n in values)):
        return None
    try:
        first = load_preset(ws, preset.first)
    except PidecError as error:
        raise PidecError(f'preset "{preset.name}" comes after another one: {error.message}', error.hint) from None
    if first.first is not None:
        raise PidecError(
            f'preset "{preset.name}" comes after "{first.name}", which itself comes after "{first.first}"',
            f"Add {first.name} by itself, then this one with the checkpoint of that job",
        )
    return first


def is_from_first(value: object) -> bool:
    """Whether a value is the checkpoint of the job that a preset queues first."""
    return isinstance(value, str) and value.startswith(FIRST)


def with_first(values: Mapping[str, Any], job_id: int) -> dict[str, Any]:
    """`values` with `@41/best` for `@first/best`, where 41 is `job_id`."""
    return {
        name: f"@{job_id}/{value.removeprefix(FIRST)}" if is_from_first(value) else value
        for name, value in values.items()
    }


def check_open(preset: Preset, overrides: Mapping[str, Any]) -> None:
    """Raises PidecError if a setting that the preset leaves open is not given, saying how to give it."""
    for name in preset.open:
        if overrides.get(name) in (None, ""):
            field = CONFIG_MODELS[preset.kind].model_fields[name]
            how = f"pidec-jobs add {preset.name} --set {name}=PATH, or {name}=@ID/best for the checkpoint of job ID"
            raise PidecError(f'preset "{preset.name}" leaves {name} to you: {field.description}', how)
