"""The environment of a job: what is stored when it is added, and what its process gets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from pidec_train.protocol.rundir import RUN_DIR_ENV, TOKEN_ENV, WORKSPACE_ENV, home_path

_KEPT = re.compile(r"PATH|VIRTUAL_ENV|PYTHONPATH|CUDA_.*|PIDEC_.*")
_SECRET = re.compile(
    r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|BEARER|COOKIE|PASS$|(^|_)(PAT|DSN|AUTH)$|._PWD$", re.IGNORECASE
)
_URL_WITH_PASSWORD = re.compile(r"://[^/\s:@]*:[^/\s@]+@|https?://[^/\s@]+@")
_LEAST = 6  # characters of a secret; of shorter ones any text is full
# Belong to one process of the shell that added the job, or to the job from within which it was added.
_OF_ONE_PROCESS = frozenset({"_", "PWD", "OLDPWD", "SHLVL", TOKEN_ENV, RUN_DIR_ENV})


def is_secret(name: str, value: str = "") -> bool:
    """Whether a variable looks like a key, token or password (or like a URL that carries one)."""
    return bool(_SECRET.search(name) or _URL_WITH_PASSWORD.search(value))


def without_secrets(text: str, environ: Mapping[str, str]) -> str:
    """A text that is kept or shown: each value of a variable that looks like a secret becomes its name."""
    secrets = [(value, name) for name, value in environ.items() if len(value) >= _LEAST and is_secret(name, value)]
    for value, name in sorted(secrets, key=lambda secret: -len(secret[0])):
        text = text.replace(value, f"${name}")
    return _URL_WITH_PASSWORD.sub("://…@", text)


def captured(kind: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What `add` stores: all but secrets for a command, PATH, VIRTUAL_ENV, PYTHONPATH, CUDA_* and PIDEC_* otherwise."""
    return {
        name: value
        for name, value in sorted(environ.items())
        if name not in _OF_ONE_PROCESS and not is_secret(name, value) and (kind == "command" or _KEPT.fullmatch(name))
    }


def for_attempt(
    kind: str, stored: Mapping[str, str], runner: Mapping[str, str], *, token: str, run_dir: Path, workspace: Path
) -> dict[str, str]:
    """The environment of an attempt's process.

    What was stored, and under it what the runner has: keys and tokens for a command (which otherwise runs as in the
    shell that added it), for a trainer everything that is not among the stored kinds of names.
    """
    base = {
        name: value
        for name, value in runner.items()
        if name not in _OF_ONE_PROCESS and (is_secret(name, value) or (kind != "command" and not _KEPT.fullmatch(name)))
    }
    return {**base, **stored, TOKEN_ENV: token, RUN_DIR_ENV: str(run_dir), WORKSPACE_ENV: str(workspace)}


def for_runner(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a runner: not marked as part of the job from within which it may be started."""
    return {name: value for name, value in environ.items() if name not in (TOKEN_ENV, RUN_DIR_ENV)}


def missing_keys(config: Mapping[str, object], environ: Mapping[str, str] | None = None) -> str:
    """A warning if a job logs to Weights & Biases and no key is to be found; "" otherwise."""
    environ = os.environ if environ is None else environ
    if not config.get("track") or environ.get("WANDB_API_KEY") or environ.get("WANDB_MODE") in ("offline", "disabled"):
        return ""
    netrc = home_path(environ.get("NETRC") or "~/.netrc")
    try:
        if "api.wandb.ai" in netrc.read_text(encoding="utf-8", errors="replace"):
            return ""
    except OSError:
        pass
    return "track is on, but there is neither WANDB_API_KEY nor an entry in ~/.netrc: run `wandb login` on this machine"
