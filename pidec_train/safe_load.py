"""Reading a checkpoint file that may come from anybody: nothing in it is executed, and it takes no more memory than its
size allows. Whoever wants to know what the contents mean goes on to `checkpoint`.
"""

from __future__ import annotations

import os
import pickle
import pickletools
import re
import shlex
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .protocol.errors import PidecError
from .protocol.rundir import home_path

FORMAT_VERSION = 1
MAX_FILE_BYTES = 4 << 30  # upstream's policy has 35 MB, with all that training needs 70 MB
# The part of a checkpoint that is no tensor data: names, shapes, numbers. Upstream's has 70 kB, ours 150 kB. A byte
# there can ask for some 70 bytes of memory.
MAX_INDEX_BYTES = 4 << 20
# Tensors may share storage, but what is made of a file must stay in proportion to it.
MAX_CLAIM = 8
_TENSORS_AND_NUMBERS = re.compile(
    r"collections OrderedDict|torch Size|torch (\w+Storage|bfloat16|float\w*|double|half|u?int\d+|bool)"
    r"|torch\.storage (Untyped|Typed)Storage|torch\._utils _rebuild_(tensor|tensor_v2|tensor_v3|parameter)"
)
_CONVERT = (
    "import sys, torch, numpy as np; f = lambda v: torch.as_tensor(v) if isinstance(v, np.ndarray) else v.item() if "
    "isinstance(v, np.generic) else {k: f(x) for k, x in v.items()} if isinstance(v, dict) else [f(x) for x in v] if "
    "isinstance(v, (list, tuple)) else v; torch.save(f(torch.load(sys.argv[1], 'cpu', weights_only=False)), "
    "sys.argv[2])"
)


def read_payload(path: str | Path) -> dict[str, Any]:
    """Contents of a checkpoint, tensors on the CPU. Nothing in the file is executed.

    Raises:
        PidecError: the file is missing, empty, cut, of another format, holds code, or claims more than its size.
    """
    path = home_path(path)
    size = _regular_file(path)
    _check_index(path, _check_container(path, size))
    try:
        # First the shapes alone: a view may claim terabytes out of a file of kilobytes.
        _check_claims(path, torch.load(path, map_location="meta", weights_only=True), size)
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except PidecError:
        raise
    except pickle.UnpicklingError:  # torch's own text goes on to say how to run such a file: not repeated
        raise PidecError(f"{path} is not a checkpoint: it holds more than tensors and numbers, or is damaged") from None
    except Exception as error:  # noqa: BLE001 - a hostile file may make the reader raise anything
        reason = shown((str(error).strip().splitlines() or [type(error).__name__])[0])
        raise PidecError(
            f"{path} is not a checkpoint: it holds more than tensors and numbers, or is damaged ({reason})"
        ) from None
    if not isinstance(payload, dict) or not (
        isinstance(payload.get("agent"), dict) or "ema_agent" in payload or isinstance(payload.get("res_actor"), dict)
    ):
        raise PidecError(f"{path} is not a checkpoint of a policy: it has neither agent nor ema_agent")
    decorated = "res_actor" in payload or payload.get("kind") == "decorator"
    if decorated and not isinstance(payload.get("base"), dict):
        raise PidecError(
            f"{path} is a residual policy without its base policy, as Policy Decorator's own program saves it",
            "pidec's decorator checkpoints hold both; decorate the base anew: pidec-train decorator.",
        )
    version = payload.get("format_version", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        written = version if isinstance(version, int) and version < 10**6 else "unknown"
        raise PidecError(f"{path} was written by a newer version of pidec (format {written})", "Update pidec.")
    return payload


def shown(text: str) -> str:
    """`text` from a file, fit for a terminal: short, and without escapes."""
    return (text if text.isprintable() else ascii(text))[:200]


def _regular_file(path: Path) -> int:
    """Its size. A pipe or a device would be waited for, or never end."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise PidecError(f"checkpoint {path} does not exist") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PidecError(f"checkpoint {path} cannot be read: {reason}") from None
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "no ordinary file (a pipe or a device)"
        raise PidecError(f"checkpoint {path} is {what}")
    if not status.st_size:
        raise PidecError(f"{path} is not a checkpoint: the file is empty")
    if status.st_size > MAX_FILE_BYTES:
        raise PidecError(
            f"{path} is not a checkpoint of a policy: it has {status.st_size:,} bytes, allowed are {MAX_FILE_BYTES:,}"
        )
    if not os.access(path, os.R_OK):
        raise PidecError(f"checkpoint {path} cannot be read: permission denied", "Check who owns it.")
    return status.st_size


def _check_container(path: Path, size: int) -> bytes:
    """A zip of stored entries, as torch.save writes it, no larger unpacked than packed. Returns its index."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(e.compress_type != zipfile.ZIP_STORED or e.compress_size != e.file_size for e in entries):
                raise PidecError(f"{path} is not a checkpoint of ours: it is compressed, which torch.save never does")
            if sum(entry.file_size for entry in entries) > size:
                raise PidecError(f"{path} is not a checkpoint of ours: its parts overlap, which torch.save never does")
            index = [entry for entry in entries if entry.filename.lower().endswith("data.pkl")]
            if len(index) != 1:
                raise PidecError(f"{path} is not a checkpoint (a zip, but not what torch.save writes)")
            if index[0].file_size > MAX_INDEX_BYTES:
                raise PidecError(
                    f"{path} is not a checkpoint of a policy: its index has {index[0].file_size:,} bytes, "
                    f"allowed are {MAX_INDEX_BYTES:,}"
                )
            return archive.read(index[0])
    except PidecError:
        raise
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError):
        raise PidecError(
            f"{path} is not a checkpoint, or only the beginning of one (not what torch.save writes)"
        ) from None


def _check_index(path: Path, index: bytes) -> None:
    """Nothing but tensors, numbers, strings and containers, told from the opcodes alone.

    torch.load(weights_only=True) refuses code as well; this names what was found, and also keeps away what it lets pass
    (sparse, quantised and nested tensors, tensor subclasses, byte arrays of any claimed length).
    """
    try:
        found = [
            str(argument) if opcode.name != "STACK_GLOBAL" else "STACK_GLOBAL"
            for opcode, argument, _ in pickletools.genops(index)
            if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL")
        ]
    except Exception as error:  # noqa: BLE001 - as in read_payload
        reason = shown((str(error).strip().splitlines() or [type(error).__name__])[0])
        raise PidecError(f"{path} is not a checkpoint, or is damaged ({reason})") from None
    foreign = [name for name in found if not _TENSORS_AND_NUMBERS.fullmatch(name)]
    if not foreign:
        return
    name = (
        "an object of another pickle protocol" if foreign[0] == "STACK_GLOBAL" else shown(foreign[0].replace(" ", "."))
    )
    if all(other.startswith(("numpy", "_codecs ")) for other in foreign):
        target = path.with_name(f"{path.stem}-tensors.pt").name
        raise PidecError(
            f"{path} holds numpy arrays ({name}), and reading those could run code: pidec does not load it",
            "If you trust the file, convert it once: "
            f'python -c "{_CONVERT}" {shlex.quote(str(path))} {shlex.quote(target)}',
        )
    raise PidecError(
        f"{path} is not a checkpoint of ours: it holds {name}, more than tensors and numbers",
        "Such a file can run code when it is loaded; pidec does not load it.",
    )


def _check_claims(path: Path, shapes: Any, size: int) -> None:
    """Raises PidecError if the tensors would take more memory than the file is worth."""
    claims = [tensor.numel() * tensor.element_size() for tensor in _tensors(shapes)]
    if max(claims, default=0) > size:
        raise PidecError(f"{path} is not a checkpoint of ours: a tensor in it claims {max(claims):,} bytes")
    if sum(claims) > MAX_CLAIM * size:
        raise PidecError(
            f"{path} is not a checkpoint of ours: its tensors claim {sum(claims):,} bytes out of a file of {size:,}"
        )


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested containers. Each container once: nested references can fan out without end."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, (Mapping, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, Mapping) else item)
