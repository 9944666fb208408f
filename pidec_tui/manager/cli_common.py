"""What the commands of `pidec-jobs` share: opening the workspace, reading words, saying what was done."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from pidec_train.protocol.config import CONFIG_MODELS
from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import Workspace, find_workspace

from . import cli_output as output
from .environment import missing_keys
from .jobs import Job
from .manager import Manager
from .otherqueue import check_other_queue
from .settings import toml_value
from .specs import missing_files
from .statedir import Places, check_folder, is_no_workspace
from .sweep import takes_text

Options = argparse.Namespace


def say(text: str, end: str = "\n") -> None:
    """To the user; stdout is for data."""
    print(text, file=sys.stderr, end=end, flush=True)


def workspace(options: Options) -> Workspace:
    return Workspace(find_workspace(options.workspace))


def is_new(options: Options) -> bool:
    """Whether there is no workspace yet where the command looks. Raises PidecError where there can be none."""
    root = workspace(options).root
    check_folder(root)
    return is_no_workspace(root)


@contextlib.contextmanager
def open_manager(options: Options, *, make: bool = False) -> Iterator[Manager]:
    """The manager of the workspace. Only with `make` is one begun: looking from $HOME must not turn it into one."""
    if not make and is_new(options):
        raise PidecError(
            f"there is no workspace in {workspace(options).root}",
            "pidec-jobs add quickstart begins one there; --workspace DIR names another",
        )
    manager = Manager.open(options.workspace)
    try:
        warn_of_other_queue(manager.places)
        yield manager
    finally:
        manager.close()


def warn_of_other_queue(places: Places) -> None:
    """Say whether another runner works for the same workspace."""
    try:
        check_other_queue(places)
    except PidecError as error:
        say(f"warning: {error.line()}")


def ensure_runner(manager: Manager, options: Options) -> None:
    if not options.no_runner:
        manager.ensure_runner()


def id_of(text: str) -> int:
    """The number of a job; `h1` names a run by hand, which has a negative one. Raises PidecError if it is none."""
    if text[:1] == "h" and text[1:].isdecimal():
        return -int(text[1:])
    if not text.lstrip("#").isdecimal():
        raise PidecError(f'"{text}" is no job: jobs have numbers', "pidec-jobs list shows them")
    return int(text.lstrip("#"))


def values_of(kind: str, words: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` words as values: TOML, a list with or without brackets, else text."""
    values = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise PidecError(f"--set {word}: it must be KEY=VALUE, as in --set batch_size=256")
        key = key.strip().replace("-", "_")
        field = CONFIG_MODELS[kind].model_fields.get(key)
        values[key] = toml_value(text, as_text=field is not None and takes_text(field.annotation))
    return values


def made(options: Options, jobs: Sequence[Job], *, first: bool = False) -> None:
    """Say which jobs were queued, and what may go wrong with them; `first`: the others come after the first one."""
    for job in jobs:
        _warn(job)
    own = jobs[1:] if first else jobs
    if options.json:
        group = {"ids": [job.id for job in own], "group": own[-1].group_name} if own[-1].group_name else {}
        output.as_json({"id": own[-1].id, **({"first": jobs[0].id} if first else {}), **group})
        return
    for job in jobs:
        waits = f", waiting for {job.waiting_for}" if job.waiting_for else ""
        print(f"job {job.id} {job.state}: {job.name}{waits}{because(job)}")
    if len(own) > 1:
        name = own[0].group_name
        say(f'{len(own)} jobs, group "{name}": pidec-jobs cancel --group "{name}" would cancel them all')


def _warn(job: Job) -> None:
    """What may go wrong with a job that was just added."""
    warning = missing_keys(job.config)
    if warning:
        say(f"warning: {warning}")
    for missing in [] if job.after else missing_files(job.kind, job.config):
        say(f"warning: {missing}: there is no such file yet. If a job makes it: pidec-jobs add … --after ID")


def because(job: Job) -> str:
    return f" ({job.reason})" if job.reason else ""


def changed(options: Options, job: Job) -> int:
    """Say what became of a job."""
    if options.json:
        output.as_json(output.job_json(job))
    else:
        print(f"job {job.id} {job.state}: {job.name}{because(job)}")
    return 0


def changed_all(options: Options, jobs: Job | list[Job]) -> int:
    """Say what became of a job, or of several."""
    if isinstance(jobs, Job):
        return changed(options, jobs)
    if options.json:
        output.as_json([output.job_json(job) for job in jobs])
    else:
        for job in jobs:
            print(f"job {job.id} {job.state}: {job.name}{because(job)}")
    return 0
