"""TOML files that people write: where they lie, and what is in them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import home_path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def user_settings_path() -> Path:
    """`$XDG_CONFIG_HOME/pidec/settings.toml`, by default below ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return home_path(base) / "pidec" / "settings.toml"


def settings_files(jobs_folder: Path) -> tuple[Path, ...]:
    """Those that there are; a later one goes before."""
    return tuple(path for path in (user_settings_path(), jobs_folder / "settings.toml") if path.is_file())


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dict.

    Raises:
        PidecError: it cannot be read, or is not TOML (with the line that is wrong).
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return values
    except OSError as error:
        raise PidecError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PidecError(f"{path} is not valid TOML: {error}") from None
