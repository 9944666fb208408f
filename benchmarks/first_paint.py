"""How long `pidec-tui` takes from the key press in the shell to its first picture, and `--help` to its end.

    python benchmarks/first_paint.py [RUNS]

Each run is a fresh process in a fresh pseudo-terminal over an empty workspace; the clock stops at the first bytes that
hold the header's word. `python -c pass` in the same run says how much of it is the interpreter itself.
"""

from __future__ import annotations

import fcntl
import os
import pty
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time

SIZE = struct.pack("HHHH", 45, 160, 0, 0)
HEADER = b"No jobs yet"


def first_paint(workspace: str) -> float:
    """Seconds until the header is on the screen. The dashboard is ended then, and with it nothing else."""
    screen, behind = pty.openpty()
    fcntl.ioctl(behind, termios.TIOCSWINSZ, SIZE)
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "pidec_tui", "--workspace", workspace],
        stdin=behind,
        stdout=behind,
        stderr=behind,
        close_fds=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(behind)
    seen = b""
    while HEADER not in seen:
        seen += os.read(screen, 65536)
    seconds = time.perf_counter() - begun
    os.write(screen, b"q")
    try:
        while os.read(screen, 65536):
            pass
    except OSError:  # closed: it has left
        pass
    process.wait(timeout=10)
    os.close(screen)
    return seconds


def run(*arguments: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as workspace:
        first_paint(workspace)  # compiles what is not compiled yet
        results = {
            "python -c pass": [run("-c", "pass") for _ in range(runs)],
            "pidec-tui --help": [run("-m", "pidec_tui", "--help") for _ in range(runs)],
            "pidec-tui, first picture": [first_paint(workspace) for _ in range(runs)],
        }
        subprocess.run(
            [sys.executable, "-m", "pidec_tui.manager.cli", "--workspace", workspace, "runner", "stop"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    for name, seconds in results.items():
        print(f"{name:<26} median {statistics.median(seconds):.2f} s, best {min(seconds):.2f} s of {runs}")


if __name__ == "__main__":
    main()
