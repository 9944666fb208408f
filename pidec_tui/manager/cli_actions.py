"""What each command of `pidec-jobs` does."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pidec_train.protocol.config import CONFIG_MODELS
from pidec_train.protocol.errors import EXIT_FAILED, PidecError
from pidec_train.protocol.rundir import Workspace, find_workspace

from . import cli_checkpoints
from . import cli_output as output
from .environment import missing_keys
from .jobs import Job, JobState
from .manager import Manager, repair_workspace
from .presets import broken_presets, list_presets, load_preset
from .settings import toml_value
from .specs import missing_files
from .statedir import Places

POLL_S = 0.2
FINISHED_SHOWN = 20
_EMPTY = "the queue is empty: pidec-jobs add quickstart"

Options = argparse.Namespace


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _workspace(options: Options) -> Workspace:
    return Workspace(find_workspace(options.workspace))


def _is_new(options: Options) -> bool:
    """Whether there is no workspace yet where the command looks."""
    return not any(path.exists() for path in (_workspace(options).runs, _workspace(options).jobs / "jobs.db"))


@contextlib.contextmanager
def _manager(options: Options, *, make: bool = False) -> Iterator[Manager]:
    """The manager of the workspace. Only with `make` is one begun: looking from $HOME must not turn it into one."""
    if not make and _is_new(options):
        raise PidecError(
            f"there is no workspace in {_workspace(options).root}",
            "pidec-jobs add quickstart begins one there; --workspace DIR names another",
        )
    manager = Manager.open(options.workspace)
    try:
        yield manager
    finally:
        manager.close()


def _id(text: str) -> int:
    if not text.lstrip("#").isdecimal():
        raise PidecError(f'"{text}" is no job: jobs have numbers', "pidec-jobs list shows them")
    return int(text.lstrip("#"))


def _values(kind: str, words: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` words as values: TOML, a list with or without brackets, else text."""
    values = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise PidecError(f"--set {word}: it must be KEY=VALUE, as in --set batch_size=256")
        key = key.strip().replace("-", "_")
        field = CONFIG_MODELS[kind].model_fields.get(key)
        values[key] = toml_value(text, as_text=field is not None and _is_text(field.annotation))
    return values


def _is_text(annotation: Any) -> bool:
    """Whether a field takes text only, so that `exp_name=123` means the three characters."""
    if typing.get_origin(annotation) is typing.Literal:
        return all(isinstance(choice, str) for choice in typing.get_args(annotation))
    parts = [part for part in typing.get_args(annotation) if part is not type(None)] or [annotation]
    return all(part is str or (part is not annotation and _is_text(part)) for part in parts)


def _ensure_runner(manager: Manager, options: Options) -> None:
    if not options.no_runner:
        manager.ensure_runner()


# --- changing --------------------------------------------------------------------------------------------------------


def add(options: Options) -> int:
    if bool(options.preset) == bool(options.command is not None):
        raise PidecError(
            "add takes either a preset or --command LINE",
            "pidec-jobs presets lists the presets; pidec-jobs add quickstart queues one",
        )
    after = [_id(word) for word in options.after]
    with _manager(options, make=True) as manager:
        if options.command is not None:
            values = {**_values("command", options.set), "command": options.command}
            made = [
                manager.add("command", values, name=options.name, lane=options.lane, after=after, held=options.held)
            ]
        else:
            preset = load_preset(manager.workspace, options.preset)
            chosen = preset.path if options.preset.endswith(".toml") else preset.name
            made = manager.add_preset_jobs(
                chosen,
                _values(preset.kind, options.set),
                name=options.name,
                lane=options.lane,
                after=after,
                held=options.held,
            )
        for job in made:
            _warn(job)
        _ensure_runner(manager, options)
        if options.json:
            first = {"first": made[0].id} if len(made) > 1 else {}
            output.as_json({"id": made[-1].id, **first})
            return 0
        for job in made:
            waits = f", waiting for {job.waiting_for}" if job.waiting_for else ""
            print(f"job {job.id} {job.state}: {job.name}{waits}{_because(job)}")
    return 0


def _warn(job: Job) -> None:
    """What may go wrong with a job that was just added."""
    warning = missing_keys(job.config)
    if warning:
        _say(f"warning: {warning}")
    for missing in [] if job.after else missing_files(job.kind, job.config):
        _say(f"warning: {missing}: there is no such file yet. If a job makes it: pidec-jobs add … --after ID")


def _because(job: Job) -> str:
    return f" ({job.reason})" if job.reason else ""


def _changed(options: Options, manager: Manager, job: Job) -> int:
    if options.json:
        output.as_json(output.job_json(job))
    else:
        print(f"job {job.id} {job.state}: {job.name}{_because(job)}")
    return 0


def cancel(options: Options) -> int:
    with _manager(options) as manager:
        job = manager.cancel(_id(options.job))
        if job.state.active:
            _ensure_runner(manager, options)
        return _changed(options, manager, job)


def retry(options: Options) -> int:
    with _manager(options) as manager:
        job = manager.retry(_id(options.job), fresh=options.fresh, extend_to=options.extend_to)
        _ensure_runner(manager, options)
        return _changed(options, manager, job)


def hold(options: Options) -> int:
    with _manager(options) as manager:
        return _changed(options, manager, manager.hold(_id(options.job)))


def release(options: Options) -> int:
    with _manager(options) as manager:
        job = manager.release(_id(options.job))
        _ensure_runner(manager, options)
        return _changed(options, manager, job)


def edit(options: Options) -> int:
    with _manager(options) as manager:
        job_id = _id(options.job)
        values = _values(manager.job(job_id).kind, options.set)
        return _changed(options, manager, manager.edit(job_id, values))


def move(options: Options) -> int:
    with _manager(options) as manager:
        return _changed(options, manager, manager.move(_id(options.job), options.to))


# --- reading ---------------------------------------------------------------------------------------------------------


def list_jobs(options: Options) -> int:
    if _is_new(options):
        output.as_json([]) if options.json else _say(_EMPTY)
        return 0
    with _manager(options) as manager:
        jobs = manager.jobs()
        if options.json:
            output.as_json([output.job_json(job) for job in jobs])
            return 0
        finished = [job for job in jobs if job.state.finished]
        hidden = set() if options.all else {job.id for job in finished[FINISHED_SHOWN:]}
        if jobs:
            output.job_table([job for job in jobs if job.id not in hidden])
        else:
            _say(_EMPTY)
        if hidden:
            _say(f"and {len(hidden)} more that are finished: pidec-jobs list --all")
        if manager.places.elsewhere:
            _say(f"{manager.workspace.root} is on a network file system: the job log is in {manager.state_dir}")
    return 0


def show(options: Options) -> int:
    with _manager(options) as manager:
        job = manager.job(_id(options.job))
        latest = manager.latest(job.id)
        if options.json:
            output.as_json(
                {**output.job_json(job), "latest": latest, "checkpoints": str(manager.checkpoint_dir(job.id))}
            )
        else:
            output.job_page(job, latest, manager.checkpoint_dir(job.id), manager.log_path(job.id))
    return 0


def log(options: Options) -> int:
    with _manager(options) as manager:
        job = manager.job(_id(options.job))
        path = manager.log_path(job.id, options.attempt)
        if options.json:
            text = path.read_text(encoding="utf-8", errors="replace") if path else ""
            output.as_json({"id": job.id, "path": str(path) if path else None, "text": text})
        elif options.follow:
            _follow(manager, job.id, options.attempt)
        elif path is None:
            known = [attempt.number for attempt in job.attempts]
            if options.attempt is not None and known:
                raise PidecError(f"job {job.id} has no attempt {options.attempt}", f"It has {known}")
            _say(f"job {job.id} has printed nothing yet: it is {job.state}{_because(job)}")
        else:
            _copy(path, 0)
    return 0


def _follow(manager: Manager, job_id: int, attempt: int | None) -> None:
    """Print as it comes, from attempt to attempt, until the job is over (or held)."""
    shown, offset, said = None, 0, ""
    while True:
        job = manager.job(job_id)
        if job.waiting_for and job.waiting_for != said:
            said = job.waiting_for
            _say(f"job {job_id} waits for {said}")
        over = job.state.finished or job.state is JobState.held
        path = manager.log_path(job_id, attempt)
        if path is not None:
            if path != shown:
                shown, offset = path, 0
            offset = _copy(path, offset)
        if over:
            if path is None or job.state is JobState.held:
                _say(f"job {job_id} is {job.state}{_because(job)}")
            return
        time.sleep(POLL_S)


def _copy(path: Path, offset: int) -> int:
    with open(path, "rb") as file:
        file.seek(offset)
        while data := file.read(1 << 16):
            sys.stdout.buffer.write(data)
            offset += len(data)
    sys.stdout.buffer.flush()
    return offset


def metrics(options: Options) -> int:
    with _manager(options) as manager:
        job = manager.job(_id(options.job))
        output.check_key(options.key, manager.metric_names(job.id), job.id)
        rows = output.metric_rows(manager.metrics(job.id, key=options.key))
        if options.json:
            output.as_json(rows)
        elif rows:
            output.metric_table(rows)
        else:
            _say(f"job {job.id} has logged no metrics yet")
    return 0


def wait(options: Options) -> int:
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    with _manager(options) as manager:
        job_id = _id(options.job)
        job = manager.job(job_id)
        if not job.state.finished:
            _ensure_runner(manager, options)
        version = -1
        while not job.state.finished:
            if job.state is JobState.held and job.reason:
                break  # nobody but a user will let it go on
            if deadline is not None and time.monotonic() >= deadline:
                _say(f"job {job_id} is still {job.state} after {options.timeout:g} s")
                break
            time.sleep(POLL_S)
            if manager.version() != version:
                version, job = manager.version(), manager.job(job_id)
            elif manager.runner_pid() is None and not job.state.finished:
                _ensure_runner(manager, options)  # it was killed, or stopped, while we wait
        if options.json:
            output.as_json(output.job_json(job))
        elif job.state.finished or job.reason:
            _say(f"job {job_id} {job.state}{_because(job)}")
        return 0 if job.state is JobState.succeeded else EXIT_FAILED


def presets(options: Options) -> int:
    found = list_presets(_workspace(options))
    for error in broken_presets(_workspace(options)):
        _say(f"warning: {error.line()}")
    if options.json:
        output.as_json([output.preset_json(preset) for preset in found])
    else:
        output.preset_table(found)
    return 0


def checkpoints(options: Options) -> int:
    with _manager(options) as manager:
        return cli_checkpoints.checkpoints(manager, options)


# --- the manager itself ----------------------------------------------------------------------------------------------


def repair(options: Options) -> int:
    report = repair_workspace(Places.of(find_workspace(options.workspace)))
    for folder in report.unreadable:
        _say(f"warning: {folder} has no usable spec.json and was left out")
    if report.set_aside:
        _say(f"the damaged job log is kept as {report.set_aside}")
    if options.json:
        output.as_json(
            {
                "jobs": report.jobs,
                "points": report.points,
                "unreadable": list(report.unreadable),
                "set_aside": report.set_aside,
            }
        )
    else:
        print(f"{report.jobs} jobs and {report.points} metric values are back from the run folders")
    return 0


def runner(options: Options) -> int:
    if options.what != "start" and _is_new(options):
        output.as_json({"pid": None}) if options.json else print("no runner is up")
        return 0
    with _manager(options, make=True) as manager:
        if options.what == "start":
            manager.ensure_runner()
        elif options.what == "stop" and manager.stop_runner():
            _say("the runner has ended; jobs that run go on, and the next runner takes them over")
        pid = manager.runner_pid()
        if options.json:
            output.as_json({"pid": pid})
        elif pid is None:
            print("no runner is up")
        else:
            print(f"the runner is process {pid}, its log {manager.places.runner_log}")
    return 0


ACTIONS: dict[str, Callable[[Options], int]] = {
    "add": add, "list": list_jobs, "show": show, "log": log, "metrics": metrics, "cancel": cancel, "retry": retry,
    "hold": hold, "release": release, "edit": edit, "move": move, "wait": wait, "presets": presets, "repair": repair,
    "runner": runner, "checkpoints": checkpoints,
}  # fmt: skip
