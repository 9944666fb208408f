"""Stands in for `EvalServer` where a test is about who waits for whom: it does what stands in FILE.do. No torch."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pidec_train.envs.workers import tell


class Server:
    def __init__(self, **kwargs: Any) -> None:
        if Path(kwargs["env_id"]).exists():  # a file that says how the start goes
            self._do(Path(kwargs["env_id"]))

    def start(self) -> None:
        """It is here."""

    def evaluate(self, path: str, stock: bool, keep_seeds: tuple[int, ...]) -> SimpleNamespace:
        told = 0
        while True:
            if told < 2:
                told += 1
                tell(told)
            if (answer := Path(path + ".do")).exists():
                return self._do(answer)
            time.sleep(0.01)

    def _do(self, file: Path) -> SimpleNamespace:
        """The first line, which is used up if there is another."""
        first, _, rest = file.read_text().partition("\n")
        if rest:
            file.write_text(rest)
        if first == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if first == "raise":
            raise ValueError("not today")
        return SimpleNamespace(episodes=int(first))
