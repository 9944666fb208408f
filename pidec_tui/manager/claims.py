"""Claiming: from a queued job to a started shim."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pidec_train.protocol.config import command_line, parse_config
from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import BEST, LAST, Workspace

from . import environment, specs
from .attempts import AttemptNote
from .joblog import JobLog
from .jobs import Job, JobState
from .lanes import Slot
from .launchers.local import launch
from .queueing import write_spec_of
from .statedir import Places
from .waiting import dead_predecessor, waiting_sentence

log = logging.getLogger("pidec.runner")

RESUMABLE = frozenset({"diffusion", "decorator"})  # the others have no checkpoints, or go on from their file anyway


@dataclass(frozen=True)
class Claim:
    """A job that is ours to start."""

    job: Job
    number: int
    token: str
    fresh: bool
    config: dict[str, Any]  # with references resolved


def claim(joblog: JobLog, ws: Workspace, job_id: int, gpu: str | None) -> Claim | None:
    """Take a queued job in one transaction: a new attempt with a fresh token, state `starting`.

    None if it is no longer queued, still waits for another job, or cannot start (it is then held, with the reason).
    """
    with joblog.write():
        job = joblog.find(job_id)
        if job is None or job.state is not JobState.queued:
            return None
        states = joblog.states(job.after)
        dead = dead_predecessor(states)
        if dead or waiting_sentence(states):
            return None
        try:
            config = resolved_references(joblog, ws, job)
        except PidecError as error:
            joblog.move(job_id, JobState.held, reason=error.line(), waiting_for="")
            write_spec_of(joblog, ws, job_id)
            return None
        (fresh,) = joblog.columns(job_id, "fresh")
        number = max((attempt.number for attempt in job.attempts), default=0) + 1
        token, now = uuid.uuid4().hex, time.time()
        fresh = bool(fresh) or number == 1
        joblog.insert_attempt(
            job_id, number, state=JobState.starting.value, token=token, started=now, gpu=gpu, fresh=int(fresh)
        )
        joblog.move(job_id, JobState.starting, started=now, ended=None, waiting_for="", reason="")
    return Claim(job, number, token, fresh, config)


def start(joblog: JobLog, places: Places, claimed: Claim, slot: Slot) -> subprocess.Popen[bytes]:
    """Start the shim of a claimed job. Raises OSError if nothing could be started."""
    ws, job = places.workspace, claimed.job
    folder = ws.run(job.id).attempt(claimed.number)
    checkpoints = ws.checkpoint_dir(job.id, job.name)
    if claimed.fresh and claimed.number > 1:
        set_aside(checkpoints)
    cwd, stored_text = joblog.columns(job.id, "cwd", "environment")
    stored = stored_environment(stored_text)
    environ = environment.for_attempt(
        job.kind, stored, os.environ, token=claimed.token, run_dir=folder.path, workspace=ws.root
    )
    environ.update(slot.environ())
    if job.lane == "cpu" and job.kind != "command":
        environ["CUDA_VISIBLE_DEVICES"] = ""  # the cpu lane holds no GPU's slot
    if job.kind != "command":  # `python -m` looks for modules in the job's folder first: a types.py there would win
        environ.setdefault("PYTHONSAFEPATH", "1")
    note = AttemptNote(
        token=claimed.token,
        job=job.id,
        attempt=claimed.number,
        argv=arguments(job.kind, claimed.config, folder.path, checkpoints, resume=not claimed.fresh),
        cwd=cwd or str(ws.root),
        fds=slot.fds,
        gpu=slot.gpu,
        fresh=claimed.fresh,
        created=time.time(),
    )
    return launch(folder, places.attempt_lock(job.id, claimed.number), note, environ)


def arguments(kind: str, config: dict[str, Any], run_dir: Path, checkpoints: Path, *, resume: bool) -> list[str]:
    """What the shim executes."""
    words = command_line(kind, parse_config(kind, config))
    if kind == "command":
        return words
    places = ["--run-dir", str(run_dir), "--checkpoint-dir", str(checkpoints)]
    resumes = ["--resume"] if resume and kind in RESUMABLE else []
    return [sys.executable, "-m", "pidec_train", *words, *places, *resumes]


def resolved_references(joblog: JobLog, ws: Workspace, job: Job) -> dict[str, Any]:
    """The job's config with "@41/best" replaced by the file that this link points to now.

    Raises:
        PidecError: there is no such job or checkpoint.
    """
    config = dict(job.config)
    for name, value in config.items():
        found = specs.reference(value)
        if not found:
            continue
        other = joblog.find(found[0])
        if other is None:
            raise PidecError(f"{name} = {value}: there is no job {found[0]}")
        link = ws.checkpoint_dir(other.id, other.name) / (BEST if found[1] == "best" else LAST)
        target = link.resolve()
        if not target.is_file():
            raise PidecError(
                f"{name} = {value}: job {other.id} has no {link.name}",
                f"Its checkpoints are in {link.parent}; edit {name}, then release the job",
            )
        config[name] = str(target)
    return config


def set_aside(checkpoints: Path) -> None:
    """Rename the checkpoints of an earlier attempt, so that one that starts from nothing never resumes from them."""
    if not checkpoints.is_dir() or not any(checkpoints.iterdir()):
        return
    number = 1
    while (other := checkpoints.with_name(f"{checkpoints.name}.old-{number}")).exists():
        number += 1
    checkpoints.rename(other)
    log.info("%s is now %s", checkpoints.name, other.name)


def stored_environment(text: str) -> dict[str, str]:
    """The environment column of a job, as `add` stored it."""
    stored: dict[str, str] = json.loads(text)
    return stored
