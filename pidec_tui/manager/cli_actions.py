"""What each command of `pidec-jobs` does."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pidec_train.protocol.errors import EXIT_FAILED, PidecError
from pidec_train.protocol.rundir import find_workspace

from . import cli_checkpoints, cli_top
from . import cli_output as output
from .cli_common import (
    Options,
    because,
    changed,
    changed_all,
    ensure_runner,
    id_of,
    is_new,
    made,
    open_manager,
    say,
    values_of,
    warn_of_other_queue,
    workspace,
)
from .jobs import Job, JobState
from .manager import Manager, repair_workspace
from .presets import broken_presets, list_presets, load_preset
from .statedir import STATE_DIR_ENV, Places, forced_state_dir
from .sweep import combinations

POLL_S = 0.2
FINISHED_SHOWN = 20
_EMPTY = "the queue is empty: pidec-jobs add quickstart"


# --- changing --------------------------------------------------------------------------------------------------------


def add(options: Options) -> int:
    if bool(options.preset) == bool(options.command is not None):
        raise PidecError(
            "add takes either a preset or --command LINE",
            "pidec-jobs presets lists the presets; pidec-jobs add quickstart queues one",
        )
    after = [id_of(word) for word in options.after]
    how = {"name": options.name, "lane": options.lane, "after": after, "held": options.held, "group": options.group}
    with open_manager(options, make=True) as manager:
        if options.command is not None:
            combinations("command", options.sweep)
            values = {**values_of("command", options.set), "command": options.command}
            jobs = [manager.add("command", values, **how)]
        else:
            preset = load_preset(manager.workspace, options.preset)
            chosen = preset.path if options.preset.endswith(".toml") else preset.name
            values = values_of(preset.kind, options.set)
            jobs = manager.add_preset_jobs(
                chosen, values, sweep=combinations(preset.kind, options.sweep, values), **how
            )
        made(options, jobs, first=len(jobs) > 1 and not (options.sweep and jobs[0].group_name))
        ensure_runner(manager, options)  # last: who only reads that no runner came up would queue it once more
    return 0


def clone(options: Options) -> int:
    with open_manager(options) as manager:
        job = manager.job(id_of(options.job))
        values = values_of(job.kind, options.set)
        jobs = manager.clone(
            job.id,
            values,
            name=options.name,
            lane=options.lane,
            after=[id_of(word) for word in options.after],
            held=options.held,
            sweep=combinations(job.kind, options.sweep, values),
        )
        made(options, jobs)
        ensure_runner(manager, options)
    return 0


def cancel(options: Options) -> int:
    if (options.job is None) == (options.group is None):
        raise PidecError("cancel takes either the number of a job or --group NAME", "pidec-jobs list shows both")
    with open_manager(options) as manager:
        if options.group is not None:
            return _cancel_group(options, manager)
        job = manager.cancel(id_of(options.job))
        if job.state.active:
            ensure_runner(manager, options)
        return changed(options, job)


def _cancel_group(options: Options, manager: Manager) -> int:
    """After a question: a group may be the work of days."""
    left = [job for job in manager.group(options.group) if not job.state.finished]
    running = [job for job in left if job.state.active]
    if left and not options.yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise PidecError(f'cancel --group "{options.group}" would ask, but nobody is there', "--yes answers it")
        say(f'Cancel {len(left)} jobs of group "{options.group}", {len(running)} of them running? [y/N] ', end="")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            say("nothing was cancelled")
            return EXIT_FAILED
    jobs = manager.cancel_group(options.group)
    if any(job.state.active for job in jobs):
        ensure_runner(manager, options)
    return changed_all(options, jobs)


def retry(options: Options) -> int:
    if options.group is not None and options.extend_to is not None:
        raise PidecError("--extend-to is about one job", "Leave out --group, and name its number")
    with open_manager(options) as manager:
        jobs = _one_or_group(
            options,
            lambda job_id: manager.retry(job_id, fresh=options.fresh, extend_to=options.extend_to),
            lambda name: manager.groups.retry(name, fresh=options.fresh),
        )
        ensure_runner(manager, options)
        return changed_all(options, jobs)


def hold(options: Options) -> int:
    with open_manager(options) as manager:
        return changed_all(options, _one_or_group(options, manager.hold, manager.groups.hold))


def release(options: Options) -> int:
    with open_manager(options) as manager:
        jobs = _one_or_group(options, manager.release, manager.groups.release)
        ensure_runner(manager, options)
        return changed_all(options, jobs)


def _one_or_group(options: Options, one: Callable[[int], Job], group: Callable[[str], list[Job]]) -> Job | list[Job]:
    """One job, or those of a group, whichever was named."""
    if (options.job is None) == (options.group is None):
        wrong = f"{options.action} takes either the number of a job or --group NAME"
        raise PidecError(wrong, "pidec-jobs list shows both")
    return one(id_of(options.job)) if options.group is None else group(options.group)


def edit(options: Options) -> int:
    with open_manager(options) as manager:
        job_id = id_of(options.job)
        values = values_of(manager.job(job_id).kind, options.set)
        return changed(options, manager.edit(job_id, values))


def move(options: Options) -> int:
    with open_manager(options) as manager:
        return changed(options, manager.move(id_of(options.job), options.to))


# --- reading ---------------------------------------------------------------------------------------------------------


def list_jobs(options: Options) -> int:
    if is_new(options):
        output.as_json([]) if options.json else say(_EMPTY)
        return 0
    with open_manager(options) as manager:
        jobs = manager.jobs()
        others = manager.by_hand() if options.group is None else []
        if options.group is not None:
            members = {job.id for job in manager.group(options.group)}
            jobs = [job for job in jobs if job.id in members]
        if options.json:
            output.as_json([output.job_json(job) for job in [*jobs, *others]])
            return 0
        every = options.all or options.group is not None
        hidden = set() if every else {job.id for part in (jobs, others) for job in _over(part)[FINISHED_SHOWN:]}
        if jobs or others:
            output.job_table([job for job in [*jobs, *others] if job.id not in hidden])
        else:
            say(_EMPTY)
        if hidden:
            say(f"and {len(hidden)} more that are finished: pidec-jobs list --all")
        if manager.places.elsewhere:
            why = f"${STATE_DIR_ENV} says so" if forced_state_dir() else "the workspace is on a network file system"
            say(f"the job log is in {manager.state_dir}: {why}")
    return 0


def _over(jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if not job.state.active and not job.state.waiting]


def show(options: Options) -> int:
    with open_manager(options) as manager:
        job = manager.job(id_of(options.job))
        latest = manager.latest(job.id)
        if options.json:
            output.as_json(
                {**output.job_json(job), "latest": latest, "checkpoints": str(manager.checkpoint_dir(job.id))}
            )
        else:
            output.job_page(job, latest, manager.checkpoint_dir(job.id), manager.log_path(job.id))
    return 0


def log(options: Options) -> int:
    with open_manager(options) as manager:
        job = manager.job(id_of(options.job))
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
            say(f"job {job.id} has printed nothing yet: it is {job.state}{because(job)}")
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
            say(f"job {job_id} waits for {said}")
        over = job.state.finished or job.state is JobState.held
        path = manager.log_path(job_id, attempt)
        if path is not None:
            if path != shown:
                shown, offset = path, 0
            offset = _copy(path, offset)
        if over:
            if path is None or job.state is JobState.held:
                say(f"job {job_id} is {job.state}{because(job)}")
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


def wait(options: Options) -> int:
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    with open_manager(options) as manager:
        job_id = id_of(options.job)
        job = manager.job(job_id)
        if not job.state.finished:
            ensure_runner(manager, options)
        version = -1
        while not job.state.finished:
            if job.state is JobState.held and job.reason:
                break  # nobody but a user will let it go on
            if deadline is not None and time.monotonic() >= deadline:
                say(f"job {job_id} is still {job.state} after {options.timeout:g} s")
                break
            time.sleep(POLL_S)
            if manager.version() != version:
                version, job = manager.version(), manager.job(job_id)
            elif manager.runner_pid() is None and not job.state.finished:
                ensure_runner(manager, options)  # it was killed, or stopped, while we wait
        if options.json:
            output.as_json(output.job_json(job))
        elif job.state.finished or job.reason:
            say(f"job {job_id} {job.state}{because(job)}")
        return 0 if job.state is JobState.succeeded else EXIT_FAILED


def presets(options: Options) -> int:
    found = list_presets(workspace(options))
    for error in broken_presets(workspace(options)):
        say(f"warning: {error.line()}")
    if options.json:
        output.as_json([output.preset_json(preset) for preset in found])
    else:
        output.preset_table(found)
    return 0


def checkpoints(options: Options) -> int:
    with open_manager(options) as manager:
        return cli_checkpoints.checkpoints(manager, options)


# --- the manager itself ----------------------------------------------------------------------------------------------


def repair(options: Options) -> int:
    places = Places.of(find_workspace(options.workspace))
    warn_of_other_queue(places)
    report = repair_workspace(places)
    for folder in report.unreadable:
        say(f"warning: {folder} has no usable spec.json and was left out")
    if report.set_aside:
        say(f"the damaged job log is kept as {report.set_aside}")
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
    if options.what != "start" and is_new(options):
        output.as_json({"pid": None}) if options.json else print("no runner is up")
        return 0
    with open_manager(options, make=True) as manager:
        if options.what == "start":
            manager.ensure_runner()
        elif options.what == "stop" and manager.stop_runner():
            say("the runner has ended; jobs that run go on, and the next runner takes them over")
        pid = manager.runner_pid()
        if options.json:
            output.as_json({"pid": pid})
        elif pid is None:
            print("no runner is up")
        else:
            print(f"the runner is process {pid}, its log {manager.places.runner_log}")
    return 0


ACTIONS: dict[str, Callable[[Options], int]] = {
    "add": add, "clone": clone, "cancel": cancel, "retry": retry, "hold": hold, "release": release, "edit": edit,
    "move": move, "list": list_jobs, "show": show, "log": log, "metrics": cli_top.metrics, "top": cli_top.top,
    "report": cli_top.report, "wait": wait, "presets": presets, "checkpoints": checkpoints, "repair": repair,
    "runner": runner,
}  # fmt: skip
