"""A run's copy on W&B, kept by a process of its own (`wandb_process`).

A process and not a thread, because W&B must not be able to stop or delay a run: importing it may fail, its start may
wait for a server that cannot be reached, it may ask for a key on stdin, wait at the interpreter's exit for an upload,
or take the interpreter for itself while it hashes a checkpoint. What is logged meanwhile waits in a queue.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, BinaryIO

from .protocol.rundir import sidecar
from .wandb_process import FINISH_SECONDS

INIT_SECONDS = 600  # costs nobody anything: rows wait in the queue
FIRST_SECONDS = 30.0  # a run that is over sooner waits so long for W&B to come up
HURRIED_SECONDS = 10.0  # what a run that was stopped leaves for the upload: whoever stopped it wants the machine
_TIDY_SECONDS = 5.0  # for a process that was killed to be gone
FILES = "wandb-files"  # in the run folder: checkpoints on their way


class WandbRun:
    """One W&B run. No method waits for W&B but `finish`, and that only for a while.

    Args:
        kind: job kind.
        step_name: the metric that curves are drawn over ("iteration").
        config: stored with the run; reads `wandb_project_name`, `wandb_entity` and `exp_name`.
        run_dir: attempt folder; W&B's own files go into `wandb/` there.

    Raises:
        OSError: no process could be started.
    """

    def __init__(self, kind: str, step_name: str, config: Mapping[str, Any], run_dir: Path) -> None:
        self._run_dir = run_dir
        self._began = time.monotonic()
        self._folders: list[Path] = []  # of artifacts
        self._up = self._given_up = False
        self._news: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._requests: SimpleQueue[tuple[bytes, _Held | None] | None] = SimpleQueue()
        self._process = _start()
        threading.Thread(target=self._send, name="to W&B", daemon=True).start()
        self._reader = threading.Thread(target=self._receive, name="from W&B", daemon=True)
        self._reader.start()
        init = {
            "project": config.get("wandb_project_name"),
            "entity": config.get("wandb_entity"),
            "name": config.get("exp_name") or None,
            "job_type": kind,
            "config": dict(config),
            "dir": str(run_dir.absolute()),
        }
        self._ask({"init": init, "step_name": step_name.replace(" ", "_")})

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One row; steps may come in any order."""
        self._ask({"row": dict(metrics), "step": step})

    def artifact(self, path: Path, *, step: int, aliases: Sequence[str], info: Mapping[str, Any]) -> None:
        """A checkpoint and the `.json` beside it. Both may be deleted as soon as this returns.

        Raises:
            OSError: it cannot be read, or the run folder cannot take it.
        """
        files = self._run_dir.absolute() / FILES
        files.mkdir(mode=0o700, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{path.stem}-", dir=files))
        self._folders.append(folder)
        request = {"artifact": path.name, "folder": str(folder), "step": step, "aliases": list(aliases)}
        try:
            held = _hold(path, folder)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._ask({**request, "info": dict(info)}, held)

    def news(self) -> Iterator[tuple[str, str]]:
        """What came from W&B since the last call: ("up", where the run is to be seen), ("problem", text) or
        ("off", reason), which is the last."""
        with contextlib.suppress(Empty):
            while True:
                yield self._news.get_nowait()

    def finish(self, exit_code: int, *, hurried: bool = False) -> None:
        """Let it send what is left, but not for long; then end its process. What went wrong is in `news`.

        Args:
            hurried: the run was stopped.
        """
        self._ask({"finish": exit_code})
        seconds = HURRIED_SECONDS if hurried else FINISH_SECONDS
        if not self._up:
            seconds = min(seconds, max(0.0, self._began + FIRST_SECONDS - time.monotonic()))
        self._reader.join(seconds)
        if self._reader.is_alive():
            self._given_up = True
            self._process.kill()
            self._reader.join(_TIDY_SECONDS)
            why = f"upload not finished after {seconds:.0f} s; `wandb sync` can do it later"
            waited = time.monotonic() - self._began
            self._news.put(("off", why if self._up else f"no answer in {waited:.0f} s"))

    def _ask(self, request: Mapping[str, Any], held: _Held | None = None) -> None:
        self._requests.put((json.dumps(request, default=str).encode() + b"\n", held))

    def _send(self) -> None:
        """Thread: from the queue into the pipe, until the process ends."""
        pipe = self._process.stdin
        assert pipe
        with contextlib.suppress(OSError), pipe:  # a dead process is noticed by the other thread
            while request := self._requests.get():
                line, held = request
                if held and (problem := held.copy()):
                    self._news.put(("problem", problem))
                    continue
                pipe.write(line)
                pipe.flush()

    def _receive(self) -> None:
        """Thread: from the pipe into `news`, until the process ends."""
        answers = self._process.stdout
        assert answers
        last = ""
        for line in answers:
            for last, text in json.loads(line).items():
                self._up |= last == "up"
                self._news.put((last, text))
        code = self._process.wait()
        if last not in ("off", "finished") and not self._given_up:
            self._news.put(("off", f"its process ended with code {code}"))
        if not self._up:  # nobody will come for them
            for folder in self._folders:
                shutil.rmtree(folder, ignore_errors=True)
        self._requests.put(None)


def _start() -> subprocess.Popen[bytes]:
    """The process; secrets reach it by the environment only."""
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment.setdefault("WANDB_INIT_TIMEOUT", str(INIT_SECONDS))
    environment.pop("WANDB_ANONYMOUS", None)  # never a run that belongs to nobody
    return subprocess.Popen(
        [sys.executable, "-c", "from pidec_train.wandb_process import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C reaches the trainer alone
    )


@dataclass(frozen=True)
class _Held:
    """The content of some files that are about to be deleted.

    Attributes:
        name: of the checkpoint.
        folder: where its files are, or will be.
        sources: those that could not be linked there; opened, so that their content stays.
    """

    name: str
    folder: Path
    sources: list[BinaryIO]

    def copy(self) -> str:
        """Bring the rest into `folder`. Returns a complaint, or ""."""
        try:
            for source in self.sources:
                with source, open(self.folder / Path(source.name).name, "xb") as target:
                    shutil.copyfileobj(source, target)
        except OSError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            return f"{self.name} is not stored: {error.strerror or error}"
        return ""


def _hold(path: Path, folder: Path) -> _Held:
    """Keep a checkpoint and its `.json` for `folder`, by hard links or open files: neither takes time, and both
    outlive the deletion of the original."""
    sources: list[BinaryIO] = []
    for file in (path, sidecar(path)):
        try:
            os.link(file, folder / file.name)
        except FileNotFoundError:
            if file == path:
                raise
        except OSError:  # another file system, or one without links
            sources.append(open(file, "rb"))  # noqa: SIM115 - `copy` closes it
    return _Held(path.name, folder, sources)
