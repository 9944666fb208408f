"""Changing the queue: add, edit, move, hold, release, cancel, retry. Each in one transaction, spec.json with it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pidec_train.protocol.config import CONFIG_MODELS, JobConfig, parse_config
from pidec_train.protocol.errors import PidecError, did_you_mean
from pidec_train.protocol.rundir import LAST, Spec, Workspace, current_folder

from . import environment, specs
from .joblog import JobLog
from .jobs import LANES, Job, JobState
from .newjobs import NewJob
from .waiting import dead_predecessor, hold_dependents, waiting_sentence

CANCELLED_BY_HAND = "cancelled by hand"
MOST_STEPS = 2**63 - 1  # SQLite's integers


class Queue:
    """What a user may do to the queue of one workspace."""

    def __init__(self, log: JobLog, workspace: Workspace) -> None:
        self._log = log
        self._ws = workspace

    def job(self, job_id: int) -> Job:
        """One job. Raises PidecError if there is none of that id, with the nearest one that exists."""
        found = self._log.find(job_id)
        if found is None:
            ids = self._log.ids()
            if not ids:
                raise PidecError(f"there is no job {job_id}", "The queue is empty: pidec-jobs add quickstart")
            near = min(ids, key=lambda other: abs(other - job_id))
            raise PidecError(f"there is no job {job_id}", f"The nearest is job {near}; pidec-jobs list --all shows all")
        return found

    def add(
        self,
        new: Sequence[NewJob],
        *,
        held: bool = False,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> list[Job]:
        """Queue these jobs, all of them or none. Each comes after the one before it, whose checkpoint is `@first/best`
        in its values. Otherwise see `Manager.add`."""
        with self._adding() as made:
            for each in new:
                if made:
                    each = each.behind(made[-1])
                made.append(self._insert(each, held, os.environ if environ is None else environ, cwd))
        return [self.job(job_id) for job_id in made]

    def add_group(
        self,
        first: NewJob | None,
        new: Sequence[NewJob],
        *,
        held: bool = False,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> list[Job]:
        """Queue these jobs side by side, all of them or none; each comes after `first`, if there is one.

        They name one group; where another group bears that name already, theirs gets a number.
        """
        environ = os.environ if environ is None else environ
        with self._adding() as made:
            group = self._free_group(new[0].group)
            if first is not None:
                made.append(self._insert(first, held, environ, cwd))
            for each in new:
                each = replace(each.behind(made[0]) if first is not None else each, group=group)
                made.append(self._insert(each, held, environ, cwd))
        return [self.job(job_id) for job_id in made]

    @contextlib.contextmanager
    def _adding(self) -> Iterator[list[int]]:
        """A transaction that makes jobs; the block puts down their ids, so that nothing is left if it fails."""
        made: list[int] = []
        try:
            with self._log.write():
                yield made
        except BaseException:
            for job_id in made:  # the rows are rolled back; a spec.json would bring them back at the next repair
                specs.remove_spec(self._ws, job_id)
            raise

    def _free_group(self, name: str) -> str:
        taken = {row[0] for row in self._log.rows("SELECT DISTINCT group_name FROM jobs")}
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(each for each in names if each not in taken)

    def _insert(self, new: NewJob, held: bool, environ: Mapping[str, str], cwd: Path | None) -> int:
        """One row and its spec.json, inside a transaction. Gives the id."""
        cwd = (cwd or current_folder()).absolute()
        config = self._resolved(new.kind, new.values, new.from_workspace, cwd)
        lane = _checked_lane(new.lane or specs.default_lane(new.kind, config))
        waits = sorted({*new.after, *specs.references(config)})
        states = self._log.states(waits)
        for other in waits:
            if other not in states:
                self.job(other)  # raises, with the nearest id
        reason = dead_predecessor(states)
        job_id = max(self._log.next_id(), self._free_id())
        self._log.insert_job(
            job_id,
            kind=new.kind,
            name=_one_line(new.name or "") or new.preset or specs.default_name(new.kind, config),
            state=(JobState.held if held or reason else JobState.queued).value,
            lane=lane,
            config=json.dumps(config),
            preset=new.preset,
            group_name=_one_line(new.group),
            after=json.dumps(waits),
            position=self._log.last_position() + 1,
            waiting_for="" if held or reason else waiting_sentence(states),
            reason=reason,
            created=time.time(),
            total_steps=_length(parse_config(new.kind, config)),
            step_name=specs.STEP_NAMES.get(new.kind, "step"),
            cwd=str(cwd),
            environment=json.dumps(environment.captured(new.kind, environ)),
            code_version=specs.code_version(),
        )
        return self._written(job_id).id

    def edit(self, job_id: int, values: Mapping[str, Any], cwd: Path | None = None) -> Job:
        """Change values of the config of a job that waits."""
        with self._log.write():
            job = self._waiting(job_id, "edited")
            cwd = (cwd or current_folder()).absolute()
            values = specs.without_blanks(job.kind, values)
            changed = specs.resolved_paths(job.kind, values, (cwd, self._ws.root))
            model = parse_config(job.kind, {**job.config, **changed})
            config = model.model_dump(mode="json")
            waits = sorted({*job.after, *specs.references(config)})
            for other in waits:
                if other == job_id:
                    raise PidecError(f"job {job_id} cannot use its own checkpoint")
                self.job(other)
            lane = specs.chosen_lane(job.lane, job.kind, job.config) or specs.default_lane(job.kind, config)
            texts = {"config": json.dumps(config), "after": json.dumps(waits), "lane": lane}
            self._log.update_job(job_id, **texts, total_steps=_length(model), waiting_for="")
            return self._written(job_id)

    def move(self, job_id: int, to: int) -> Job:
        """Put a job that waits at place `to` among those that wait; 1 is next."""
        if to < 1:
            raise PidecError(f"place {to} does not exist in the queue", "1 is the next one")
        with self._log.write():
            self._waiting(job_id, "moved")
            others = [item for item in self._log.positions() if item[0] != job_id]
            index = min(to - 1, len(others))
            before = others[index - 1][1] if index else (others[0][1] - 2 if others else 0.0)
            behind = others[index][1] if index < len(others) else before + 2
            if behind - before > 1e-6:
                self._log.update_job(job_id, position=(before + behind) / 2)
                return self._written(job_id)
            order = [item[0] for item in others]  # the gap is used up: number them anew
            order.insert(index, job_id)
            for place, other in enumerate(order, start=1):
                self._log.update_job(other, position=float(place))
                self._written(other)
            return self.job(job_id)

    def hold(self, job_id: int) -> Job:
        """Keep a queued job from starting."""
        with self._log.write():
            return self.do_hold(job_id)

    def do_hold(self, job_id: int) -> Job:
        """`hold` inside a transaction."""
        job = self._waiting(job_id, "held")
        if job.state is JobState.queued:
            self._log.move(job_id, JobState.held, waiting_for="", reason="")
        return self._written(job_id)

    def release(self, job_id: int) -> Job:
        """Let a held job start when its turn comes."""
        with self._log.write():
            return self.do_release(job_id)

    def do_release(self, job_id: int) -> Job:
        """`release` inside a transaction."""
        job = self._waiting(job_id, "released")
        states = self._log.states(job.after)
        dead = dead_predecessor(states)
        if dead:
            raise PidecError(f"job {job_id} cannot be released: {dead}", "Retry that job first")
        if job.state is JobState.held:
            self._log.move(job_id, JobState.queued, reason="", waiting_for=waiting_sentence(states))
        return self._written(job_id)

    def cancel(self, job_id: int) -> Job:
        """Take a job out of the queue, or ask its trainer to stop."""
        with self._log.write():
            return self._cancel(job_id)

    def cancel_group(self, name: str) -> list[Job]:
        """Cancel what is left of a group, all at once. Raises PidecError if there is no such group, or it is over."""
        with self._log.write():
            found = self.group(name)
            left = [job for job in found if not job.state.finished]
            if not left:
                raise PidecError(f'all {len(found)} jobs of group "{name}" are over already')
            return [self._cancel(job.id) for job in left]

    def group(self, name: str) -> list[Job]:
        """The jobs of a group by their ids. Raises PidecError if there is none of that name, with the nearest one."""
        found = [row[0] for row in self._log.rows("SELECT id FROM jobs WHERE group_name = ? ORDER BY id", (name,))]
        if not found or not name:
            rows = self._log.rows("SELECT DISTINCT group_name FROM jobs WHERE group_name != ''")
            names = [row[0] for row in rows]
            hint = did_you_mean(name, names) if names else "No job is in a group: pidec-jobs add … --sweep makes one"
            raise PidecError(f'there is no group "{name}"', hint)
        return [self.job(job_id) for job_id in found]

    def _cancel(self, job_id: int) -> Job:
        """Inside a transaction."""
        job, now = self.job(job_id), time.time()
        if job.state.finished:
            raise PidecError(f"job {job_id} is over already ({job.state})")
        if job.state.waiting:
            self._log.move(job_id, JobState.cancelled, ended=now, reason=CANCELLED_BY_HAND, waiting_for="", announce=1)
            hold_dependents(self._log, job_id, JobState.cancelled)
        elif job.state is not JobState.stopping:
            self._log.move(job_id, JobState.stopping, cancel_asked=now)
        return self._written(job_id)

    def retry(self, job_id: int, *, fresh: bool, extend_to: int | None) -> Job:
        """Queue a failed or cancelled job again, at the end; to go on to `extend_to` a succeeded one, too."""
        with self._log.write():
            return self.do_retry(job_id, fresh=fresh, extend_to=extend_to)

    def do_retry(self, job_id: int, *, fresh: bool, extend_to: int | None) -> Job:
        """`retry` inside a transaction."""
        job = self.job(job_id)
        extends = extend_to is not None
        longer = {} if extend_to is None else self._longer(job, extend_to, fresh=fresh)
        if not job.state.finished or (job.state is JobState.succeeded and not extends):
            raise PidecError(f"job {job_id} is {job.state}, it cannot be retried", _instead_of_retry(job))
        self._log.move(
            job_id,
            JobState.queued,
            extends=extends,
            retry=len(job.attempts),
            fresh=int(fresh),
            cancel_asked=None,
            announce=0,
            ended=None,
            reason="",
            waiting_for=waiting_sentence(self._log.states(job.after)),
            position=self._log.last_position() + 1,
            **longer,
        )
        return self._written(job_id)

    def from_here(self, kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values that somebody gives now: relative paths made absolute, what was cleared as None."""
        return specs.resolved_paths(kind, specs.without_blanks(kind, values), (current_folder(), self._ws.root))

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _resolved(
        self, kind: str, values: Mapping[str, Any], from_workspace: Mapping[str, Any], cwd: Path
    ) -> dict[str, Any]:
        if kind in CONFIG_MODELS:
            values = specs.without_blanks(kind, values)
        parse_config(kind, {**from_workspace, **values})  # a wrong kind or key first, before any path is looked at
        given = specs.resolved_paths(kind, values, (cwd, self._ws.root))
        config = parse_config(kind, {**from_workspace, **given}).model_dump(mode="json")
        ours = {name: value for name, value in config.items() if name not in values}
        return {**config, **specs.resolved_paths(kind, ours, (self._ws.root, cwd))}

    def _longer(self, job: Job, extend_to: int, *, fresh: bool) -> dict[str, Any]:
        """The columns of a job that is to go on to `extend_to`. Raises PidecError if it cannot."""
        if fresh:
            raise PidecError(
                "--extend-to goes on from the last checkpoint, --fresh starts from nothing", "Leave one out"
            )
        end = specs.end_field(job.kind)
        if end is None:
            kinds = " and ".join(kind for kind in CONFIG_MODELS if specs.end_field(kind))
            raise PidecError(f"job {job.id} cannot be extended: its kind is {job.kind}", f"Only {kinds} jobs can be")
        if not job.state.finished:
            hint = f"pidec-jobs wait {job.id} tells when it is over"
            if job.state.waiting:
                hint = f"pidec-jobs edit {job.id} --set {end}={extend_to} lengthens a job that waits"
            raise PidecError(f"job {job.id} is {job.state}: only a job that is over can be extended", hint)
        before = job.config.get(end)
        if before is not None and extend_to <= before:
            went = "was extended to" if end == "extend_to" else "goes to"
            hint = "" if job.state is JobState.succeeded else f"pidec-jobs retry {job.id} goes on to {before}"
            raise PidecError(f"job {job.id} {went} {before} already: {extend_to} is not more", hint)
        model = parse_config(job.kind, {**job.config, end: extend_to})
        folder = self._ws.checkpoint_dir(job.id, job.name)
        if job.state is JobState.succeeded and not (folder / LAST).exists():  # it would begin anew, hours of it
            hint = f"To train as long from nothing: pidec-jobs add, with {_planned(end)}={extend_to}"
            raise PidecError(f"job {job.id} has no checkpoint to go on from in {folder}", hint)
        return {"config": json.dumps(model.model_dump(mode="json")), "total_steps": _length(model)}

    def _waiting(self, job_id: int, verb: str) -> Job:
        job = self.job(job_id)
        if not job.state.waiting:
            hint = f"pidec-jobs retry {job_id} queues it again" if job.state.finished else ""
            raise PidecError(f"job {job_id} is {job.state}: only a queued or held job can be {verb}", hint)
        return job

    def _free_id(self) -> int:
        """Above every run folder: an id whose job log was lost is not given again."""
        try:
            names = [entry.name for entry in os.scandir(self._ws.runs)]
        except OSError:
            return 1
        return max((int(name) for name in names if name.isdigit()), default=0) + 1

    def _written(self, job_id: int) -> Job:
        """Write spec.json as the row is now."""
        write_spec_of(self._log, self._ws, job_id)
        return self.job(job_id)


def write_spec_of(log: JobLog, ws: Workspace, job_id: int) -> None:
    """Bring a job's spec.json up to date with its row, inside the transaction that changed the row."""
    job = log.find(job_id)
    assert job is not None
    retry, fresh, cwd, env, code, asked = log.columns(
        job_id, "retry", "fresh", "cwd", "environment", "code_version", "cancel_asked"
    )
    specs.write_spec(
        ws,
        Spec(
            id=job.id,
            kind=job.kind,
            name=job.name,
            config=job.config,
            lane=job.lane,
            after=list(job.after),
            position=job.position,
            held=job.state is JobState.held,
            retry=retry,
            fresh=bool(fresh),
            cancelled=job.state is JobState.cancelled or asked is not None,
            preset=job.preset,
            group_name=job.group_name,
            created=job.created,
            code_version=code,
            cwd=cwd,
            environment=json.loads(env),
        ),
    )


def _length(model: JobConfig) -> int | None:
    """Steps of a job with this config. Raises PidecError where they are more than the job log can count."""
    steps = model.total_steps()
    if steps is not None and steps > MOST_STEPS:
        raise PidecError(f"{steps} steps are more than a job can count", f"The most are {MOST_STEPS}")
    return steps


def _instead_of_retry(job: Job) -> str:
    """What to do with a job that cannot be retried."""
    if job.state is JobState.held:
        return f"pidec-jobs release {job.id} lets it start"
    if job.state is not JobState.succeeded:
        return "Only a failed or cancelled job can be retried"
    if specs.end_field(job.kind):
        return f"pidec-jobs retry {job.id} --extend-to N goes on to step N; to run it once more, add it again"
    return "To run it once more, add it again"


def _planned(end: str) -> str:
    return "total_iters" if end == "extend_to" else end


def _one_line(name: str) -> str:
    """A name without line breaks, escapes and other control characters, which terminals would obey."""
    return " ".join("".join(char if char.isprintable() else " " for char in name).split())


def _checked_lane(lane: str) -> str:
    if lane not in LANES:
        raise PidecError(f'unknown lane "{lane}": {did_you_mean(lane, LANES)}')
    return lane
