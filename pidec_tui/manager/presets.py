"""Presets: TOML files with `title`, `kind`, `lane`, `notes`, `[config]`; the workspace's own and the shipped ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

import pidec_tui
from pidec_train.protocol.config import CONFIG_MODELS, parse_config
from pidec_train.protocol.errors import PidecError, did_you_mean
from pidec_train.protocol.rundir import Workspace

from .jobs import LANES
from .settings import read_toml


@dataclass(frozen=True)
class Preset:
    """A named full configuration. `config` holds what the file sets; the rest are the kind's defaults."""

    name: str
    title: str
    kind: str
    lane: str | None
    notes: str
    config: dict[str, Any]
    path: Path
    builtin: bool


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str = ""
    kind: str
    lane: str | None = None
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
    own = [] if ws.presets.resolve() == builtin.resolve() else sorted(ws.presets.glob("*.toml"))
    return [*((path, False) for path in own), *((path, True) for path in sorted(builtin.glob("*.toml")))]


def load_preset(ws: Workspace, name_or_path: str | Path) -> Preset:
    """A preset by its name, or any .toml file by its path.

    Raises:
        PidecError: there is none of that name (with the nearest one), or the file is wrong.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text:
        path = Path(text).expanduser()
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
    try:
        parse_config(file.kind, file.config)
    except PidecError as error:
        raise PidecError(f"{path}: {error.message}", error.hint) from None
    return Preset(path.stem, file.title or path.stem, file.kind, file.lane, file.notes, file.config, path, builtin)
