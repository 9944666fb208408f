"""What a job stores at `add`: resolved paths, references to other jobs, its name, its spec.json."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import pidec_tui
from pidec_train.protocol.config import BUNDLED, CONFIG_MODELS, PathKind
from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import Spec, Workspace, home_path, write_atomic

GPU_KINDS = frozenset({"diffusion", "decorator", "evaluate"})
STEP_NAMES = {
    "diffusion": "iteration",
    "decorator": "decision step",
    "evaluate": "episode",
    "adapt": "checkpoint",
    "demos": "demo",
}

_REFERENCE = re.compile(r"@(\d+)/(best|last)")


def default_lane(kind: str, config: Mapping[str, Any]) -> str:
    """A trainer that is to compute on the CPU waits for no GPU."""
    return "gpu" if kind in GPU_KINDS and config.get("device") != "cpu" else "cpu"


def chosen_lane(lane: str | None, kind: str, config: Mapping[str, Any]) -> str | None:
    """None where the lane is the usual one of such a job: with another `device` it is another."""
    return None if lane == default_lane(kind, config) else lane


def end_field(kind: str) -> str | None:
    """The setting by which a job of this kind goes on past the end that it was given; None: it cannot.

    A schedule that was stretched must stay apart from the length it was planned for, so diffusion has a field of its
    own; a decorator has no schedule, and goes on to a higher `total_timesteps`.
    """
    model = CONFIG_MODELS.get(kind)
    names = ("extend_to", "total_timesteps") if model is not None else ()
    return next((name for name in names if model and name in model.model_fields), None)


def default_name(kind: str, config: Mapping[str, Any]) -> str:
    """Kind and task; for a command its beginning."""
    if kind == "command":
        text = " ".join(str(config["command"]).split())
        return text if len(text) <= 40 else text[:39] + "…"
    about = config.get("env_id") or config.get("ckpt")
    if about and ("/" in str(about)) and not str(about).startswith("@"):
        path = Path(str(about))
        about = f"{path.parent.name}/{path.stem}"
    return f"{kind} {about}" if about else kind


def without_blanks(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with "" as None in those fields of which empty is the default (a cleared field of a form)."""
    fields = CONFIG_MODELS[kind].model_fields
    return {
        name: None if value == "" and name in fields and fields[name].default is None else value
        for name, value in values.items()
    }


def resolved_paths(kind: str, values: Mapping[str, Any], bases: Sequence[Path]) -> dict[str, Any]:
    """`values` with absolute paths in the config's path fields.

    A relative path counts from the first of `bases` below which it exists, else from the first one.
    References to other jobs and bundled files stay as they are.

    Raises:
        PidecError: what looks like a reference is none; found out tonight it would have cost the night.
    """
    out = dict(values)
    for name, field in CONFIG_MODELS[kind].model_fields.items():
        extra = field.json_schema_extra
        value = out.get(name)
        if not isinstance(extra, dict) or extra.get("path") is None or not isinstance(value, str) or not value:
            continue
        if value.startswith(BUNDLED) or reference(value):
            continue
        if value.startswith("@") and not any((base / value).exists() for base in bases):
            raise PidecError(
                f'{name} = "{value}" names no checkpoint of a job', "Write @ID/best or @ID/last, as in @41/best"
            )
        if extra["path"] == PathKind.output.value:
            out[name] = _absolute(value, bases[:1])
        else:
            out[name] = _absolute(value, bases)
    return out


def _absolute(value: str, bases: Sequence[Path]) -> str:
    path = home_path(value)
    if path.is_absolute():
        return str(path)
    candidates = [Path(os.path.normpath(base / path)) for base in bases]
    return str(next((candidate for candidate in candidates if candidate.exists()), candidates[0]))


def reference(value: object) -> tuple[int, str] | None:
    """(41, "best") for "@41/best"; None for anything else."""
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return (int(match[1]), match[2]) if match else None


def references(config: Mapping[str, Any]) -> list[int]:
    """The jobs whose checkpoints a config speaks of."""
    return sorted({found[0] for value in config.values() if (found := reference(value))})


def missing_files(kind: str, config: Mapping[str, Any]) -> list[str]:
    """`name = "path"` of each file that a job reads and that is not there (yet)."""
    found = []
    for name, field in CONFIG_MODELS[kind].model_fields.items():
        extra, value = field.json_schema_extra, config.get(name)
        if not isinstance(extra, dict) or extra.get("path") not in (PathKind.demo.value, PathKind.checkpoint.value):
            continue
        if isinstance(value, str) and not value.startswith((BUNDLED, "@")) and not Path(value).exists():
            found.append(f'{name} = "{value}"')
    return found


def write_spec(ws: Workspace, spec: Spec) -> None:
    """Write `jobs/runs/<id>/spec.json` whole or not at all. Raises PidecError if it cannot be written."""
    run = ws.run(spec.id)
    try:
        run.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(run.spec, spec.model_dump_json(indent=1).encode() + b"\n")
    except OSError as error:
        hint = "Free some space, or check who owns the folder"
        raise PidecError(f"{run.spec} cannot be written: {error.strerror}", hint) from None


def remove_spec(ws: Workspace, job_id: int) -> None:
    """Take back the spec.json of a job that was never queued."""
    with contextlib.suppress(OSError):
        ws.run(job_id).spec.unlink(missing_ok=True)
        ws.run(job_id).path.rmdir()


def read_spec(ws: Workspace, job_id: int) -> Spec | None:
    """A job's spec.json; None where there is none that can be read."""
    try:
        return Spec.model_validate_json(ws.run(job_id).spec.read_bytes())
    except (OSError, ValidationError, ValueError):
        return None


@functools.lru_cache(maxsize=1)
def code_version() -> str:
    """pidec's version and, in a source tree, the commit: what a result was made with."""
    from importlib import metadata  # 25 ms that a reading command need not pay

    try:
        version = metadata.version("pidec")
    except metadata.PackageNotFoundError:
        version = "unknown"
    commit = _git_commit(Path(pidec_tui.__file__).parent.parent / ".git")
    return f"{version}+{commit[:10]}" if commit else version


def _git_commit(git: Path) -> str:
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        loose = git / ref
        if loose.is_file():
            return loose.read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(" " + ref)), "")
    except OSError:
        return ""
