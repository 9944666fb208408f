"""Reads back what the real W&B library wrote offline, and stands in for a library that fails."""

from __future__ import annotations

import json
import struct
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2

_BLOCK, _HEADER = 32768, 7


@dataclass
class OfflineRun:
    """An offline run of W&B.

    Attributes:
        rows: as logged, in their order; `_step` is W&B's own count.
        step_metrics: (name or pattern of a metric, the metric that it is drawn over).
        artifacts: (name, type, aliases, metadata, {name of a file: where its content lies}).
    """

    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    step_metrics: list[tuple[str, str]] = field(default_factory=list)
    artifacts: list[tuple[str, str, list[str], dict[str, Any], dict[str, Path]]] = field(default_factory=list)
    name: str = ""
    project: str = ""
    exit_code: int | None = None


def read_offline(run_dir: Path) -> OfflineRun:
    """The one offline run below `run_dir`."""
    (path,) = (run_dir / "wandb").glob("offline-run-*/*.wandb")
    found = OfflineRun()
    for data in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.name, found.project = record.run.display_name, record.run.project
            found.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            found.rows.append(
                {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            )
        elif kind == "metric" and record.metric.step_metric:
            found.step_metrics.append((record.metric.name or record.metric.glob_name, record.metric.step_metric))
        elif kind == "artifact" or (kind == "request" and record.request.HasField("log_artifact")):
            one = record.artifact if kind == "artifact" else record.request.log_artifact.artifact
            files = {entry.path: Path(entry.local_path) for entry in one.manifest.contents}
            found.artifacts.append((one.name, one.type, list(one.aliases), json.loads(one.metadata or "{}"), files))
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    return found


def _records(data: bytes) -> list[bytes]:
    """The records of a `.wandb` file: LevelDB's log format behind a header of 7 bytes."""
    assert data[:4] == b":W&B"
    found, at, parts = [], _HEADER, b""
    while at + _HEADER <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:
            at += left
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole one, or its last part
            found.append(parts)
            parts = b""
    return found


def fake_wandb(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """From now on `import wandb` gives this module to every new process."""
    folder.mkdir()
    (folder / "wandb.py").write_text(textwrap.dedent(source))
    monkeypatch.setenv("PYTHONPATH", str(folder))
