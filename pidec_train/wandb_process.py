"""The process that talks to W&B for a run; see `wandb_run`, which starts it and explains why it is one.

It reads JSON objects, one a line, from its stdin, and answers in the same way on its stdout:

    in:  {"init": {…arguments of wandb.init}, "step_name": "iteration"}    the first line
         {"row": {"train/loss": 0.03}, "step": 2000}
         {"artifact": "step-000002000.pt", "folder": "/…", "step": 2000, "aliases": ["best"], "info": {…}}
         {"finish": 0}                                                     the last line, with the exit code
    out: {"up": "https://…"}  {"problem": "…"}  {"off": "…"}  {"finished": ""}

An end of input without `finish` is a trainer that was killed: what W&B has of the run is finished as failed. Either
way this process is gone FINISH_SECONDS later.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

from .protocol.rundir import slug

FINISH_SECONDS = 60.0  # an upload that hangs must not keep a machine

Say = Callable[[str, str], None]
Requests = SimpleQueue[dict[str, Any]]


def main() -> None:
    """Serve until the input ends; never returns. Exit code 0, also after a problem, which was said."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer, which then says `finish`
    requests, say = _pipes()
    try:
        _serve(requests, say)
    except BaseException as error:  # noqa: BLE001 - whatever W&B raises, it is said in one line
        say("off", one_line(error))
    os._exit(0)  # not through W&B's exit hooks: they would wait for an upload that was given up


def one_line(error: BaseException) -> str:
    """The first line of what `error` says, without the key."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    key = os.environ.get("WANDB_API_KEY", "").strip()
    return text.replace(key, "(key)") if key else text


def _pipes() -> tuple[Requests, Say]:
    """Input and output, moved away from stdin and stdout: W&B, which may ask or print there, gets nothing."""
    source, target = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    lock = threading.Lock()

    def say(what: str, text: str) -> None:
        with lock, contextlib.suppress(OSError):  # a dead trainer does not listen
            target.write(json.dumps({what: text}) + "\n")
            target.flush()

    requests: Requests = SimpleQueue()
    threading.Thread(target=_read, args=(source, requests), name="input", daemon=True).start()
    return requests, say


def _read(source: TextIO, requests: Requests) -> None:
    """Everything into the queue, also while W&B is still on its way up; then the time to finish begins."""
    request: dict[str, Any] = {}
    for line in source:
        if line.endswith("\n"):  # a killed trainer may leave half a line
            request = json.loads(line)
            requests.put(request)
            if "finish" in request:
                break
    else:
        requests.put({"finish": 1})
    watchdog = threading.Timer(FINISH_SECONDS, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()


def _serve(requests: Requests, say: Say) -> None:
    first = requests.get()
    step_name = first["step_name"]
    import wandb  # not before there is somebody to tell that it cannot be imported

    run = wandb.init(**first["init"])
    # Evaluations finish behind later rows of training. W&B drops rows that go back in its own step, so that is left to
    # count by itself, and the curves are drawn over ours.
    run.define_metric(step_name, summary="max")
    run.define_metric("*", step_metric=step_name)
    offline = Path(run.dir).parent if run.offline else None
    say("up", f"{offline} (`wandb sync` sends it)" if offline else str(run.url or ""))
    uploads: list[threading.Thread] = []
    while "finish" not in (request := requests.get()):
        if "row" in request:
            run.log({**request["row"], step_name: request["step"]})
        else:
            try:
                uploads += _log_artifact(wandb, run, step_name, request, say)
            except Exception as error:  # noqa: BLE001 - the curves go on without this file
                say("problem", _not_stored(request, error))
    for upload in uploads:
        upload.join()
    run.finish(exit_code=request["finish"])
    say("finished", "")


def _log_artifact(wandb: Any, run: Any, step_name: str, request: Mapping[str, Any], say: Say) -> list[threading.Thread]:
    """Store the files in `folder`. Returns the threads, if any, that remove them once they have arrived."""
    folder = Path(request["folder"])
    metadata = {**request["info"], step_name: request["step"]}
    artifact = wandb.Artifact(slug(run.name or f"run-{run.id}"), type="model", metadata=metadata)
    for path in sorted(folder.iterdir()):
        # Nobody changes these files: no second copy of them in W&B's staging folder, no third one in its cache.
        artifact.add_file(str(path), name=path.name, policy="immutable", skip_cache=True)
    logged = run.log_artifact(artifact, aliases=request["aliases"])
    if run.offline:
        return []  # `wandb sync` will want the files

    def tidy() -> None:
        try:
            logged.wait()
        except Exception as error:  # noqa: BLE001 - as above
            say("problem", _not_stored(request, error))
        shutil.rmtree(folder, ignore_errors=True)

    thread = threading.Thread(target=tidy, name="artifact", daemon=True)
    thread.start()
    return [thread]


def _not_stored(request: Mapping[str, Any], error: Exception) -> str:
    return f"{request['artifact']} is not stored: {one_line(error)}"
