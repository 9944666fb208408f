"""`make bench`: every benchmark, one after the other, each in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

SHORTER = {
    "decorator_throughput": ("--setting", "quickstart", "--rounds", "3", "--seconds", "3"),
    "open_dashboard": ("--seconds", "20"),
    "watched_training": ("--minutes", "3"),
}
TOOLS = {"workspace"}  # makes something to measure on


def main() -> int:
    print(f"{platform.platform()}, Python {platform.python_version()}", flush=True)
    failed = 0
    for script in sorted(Path(__file__).parent.glob("*.py")):
        if script.name.startswith("_") or script.stem in TOOLS:
            continue
        print(f"\n== {script.stem}", flush=True)
        command = [sys.executable, "-m", f"{__package__}.{script.stem}", *SHORTER.get(script.stem, ())]
        failed += subprocess.run(command, check=False, cwd=Path(__file__).parents[1]).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
