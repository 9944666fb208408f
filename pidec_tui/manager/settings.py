"""Settings of the job manager: ~/.config/pidec/settings.toml, over it <workspace>/jobs/settings.toml."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pidec_train.protocol.errors import PidecError, did_you_mean

from .tomlfiles import read_toml, settings_files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Settings(BaseModel):
    """All settings with their defaults. A key that nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    on_end: str = Field("", description="shell command to run when a job ends")
    on_end_timeout_s: float = Field(60, gt=0, description="seconds after which that command is killed")
    on_alert: str = Field("", description="shell command to run when a running job needs somebody")
    on_alert_timeout_s: float = Field(60, gt=0, description="seconds after which that command is killed")
    stalled_minutes: float = Field(5, ge=0, description="least minutes without metrics that are an alert; 0: never")
    slow_share: float = Field(0.6, ge=0, le=1, description="of its own median rate, below which it is slow; 0: never")
    slow_minutes: float = Field(5, ge=0, description="minutes for which it must be that slow")
    plateau_minutes: float = Field(60, ge=0, description="least minutes for which loss or success is flat; 0: never")
    disk_low_gib: float = Field(5, ge=0, description="GiB left on the workspace's disk that are an alert; 0: never")
    foreign_gpu_gib: float = Field(1.0, ge=0, description="GiB that somebody else's process may hold on a GPU")
    cpu_slots: int = Field(1, ge=1, description="jobs of the cpu lane at the same time")
    cancel_grace_s: float = Field(60, ge=0, description="seconds between SIGTERM and SIGKILL when a job is cancelled")
    idle_minutes: float = Field(15, gt=0, description="minutes without work after which the runner ends")
    poll_s: float = Field(0.4, ge=0.05, le=10, description="seconds between two looks of the runner")
    checkpoint_folders: tuple[str, ...] = Field(
        (), description="further folders with checkpoints, for the checkpoint browser"
    )


def load_settings(jobs_folder: Path) -> Settings:
    """The defaults, overlaid by the user's file, overlaid by the workspace's.

    Raises:
        PidecError: an unknown key (with the nearest right one) or a value out of range; names the file.
    """
    settings = Settings()
    for path in settings_files(jobs_folder):
        settings = _overlaid(settings, read_toml(path), path)
    return settings


def _overlaid(settings: Settings, values: dict[str, Any], path: Path) -> Settings:
    try:
        return Settings.model_validate({**settings.model_dump(), **values})
    except ValidationError as error:
        item = error.errors()[0]
        name = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            hint = did_you_mean(name, Settings.model_fields)
            raise PidecError(f'{path} has a setting "{name}" that does not exist', hint) from None
        raise PidecError(f"{path}: {name} = {item['input']!r}: {item['msg']}") from None


def toml_value(text: str, *, as_text: bool = False) -> Any:
    """What somebody typed as a value: TOML; `64,128` as a list of numbers; everything else as text.

    Args:
        as_text: only a quoted TOML string loses its quotes, all else stays as it was typed.
    """
    value = _toml(text)
    if as_text:
        return value if isinstance(value, str) else text
    if isinstance(value, (bool, int, float, str)):
        return value
    if not isinstance(value, list) and "," in text:
        value = _toml(f"[{text}]")
    if isinstance(value, list) and all(isinstance(item, (bool, int, float, str)) for item in value):
        return value
    return text


def _toml(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return None
    return table["value"] if set(table) == {"value"} else None
