"""A disk that is soon full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MOUNT = 'mount -t tmpfs -o size=3m none "$1" && shift && exec "$@"'


def on_a_small_disk(disk: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run `script` where `disk` is a file system of 3 MB that ends with it. Skips where nobody may mount one."""
    for namespace in (["unshare", "-m"], ["unshare", "-rm"]):
        probe = subprocess.run([*namespace, "sh", "-c", MOUNT, "sh", disk, "true"], capture_output=True, text=True)
        if probe.returncode == 0:
            command = [*namespace, "sh", "-c", MOUNT, "sh", disk, sys.executable, "-c", script, disk]
            return subprocess.run(command, capture_output=True, text=True)
    pytest.skip(f"no small file system can be mounted here: {probe.stderr.strip()}")
