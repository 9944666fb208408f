"""The one facade through which both doors, dashboard and `pidec-jobs`, use the job manager.

Every method is synchronous and quick, and may be called from any thread.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pidec_train.protocol.rundir import Workspace, find_workspace

from . import control
from .byhand import ByHand, refuse
from .joblog import JobLog
from .jobs import Alert, Job, JobEvent, JobState, MetricBlock, MetricPoint
from .machinelog import MachineBlock, MachineLog
from .metriclog import MetricLog
from .statedir import Mounts, Places
from .tomlfiles import settings_files

if TYPE_CHECKING:  # these know what a config may be, which takes long to import: a first paint goes without
    from .groups import Groups
    from .queueing import Queue
    from .repair import RepairReport
    from .settings import Settings
    from .sweep import Combination

NO_RUNNER = "a runner: none is up (pidec-jobs runner start)"


class Manager:
    """The jobs of one workspace. Use `open`.

    Attributes:
        workspace: its folders.
        state_dir: where the job log and the locks live: `<workspace>/jobs`, or a local folder for a workspace on a
            network file system.
    """

    def __init__(self, places: Places, log: JobLog, settings: Settings | None) -> None:
        self.places = places
        self.workspace: Workspace = places.workspace
        self.state_dir: Path = places.state_dir
        self._settings = settings
        self._log = log
        self._metrics = MetricLog(log)
        self._machine = MachineLog(log)
        self._by_hand = ByHand(places.workspace)

    @classmethod
    def open(cls, workspace: str | Path | None = None, *, mounts: Mounts | None = None) -> Manager:
        """Open a workspace's job log, or create it; a lost one is rebuilt from the run folders.

        Args:
            workspace: its folder; by default as `find_workspace` says.
            mounts: for tests: the mounts to believe in.

        Raises:
            PidecError: the folder cannot be written, the job log is damaged or from a newer version, or a settings
                file is wrong.
        """
        places = Places.of(find_workspace(workspace), mounts)
        places.make()
        settings = _load_settings(places) if settings_files(places.workspace.jobs) else None
        return cls(places, JobLog(places.db, make=lambda: _make_missing(places)), settings)

    def close(self) -> None:
        """Close the job log."""
        self._log.close()

    @functools.cached_property
    def groups(self) -> Groups:
        """Jobs that were queued as one."""
        from .groups import Groups

        return Groups(self._queue, self._log, self.workspace)

    @property
    def settings(self) -> Settings:
        """As they were when it was opened: where no file had any, the defaults, once somebody asks."""
        if self._settings is None:
            from .settings import Settings

            self._settings = Settings()
        return self._settings

    @functools.cached_property
    def _queue(self) -> Queue:
        from .queueing import Queue

        return Queue(self._log, self.workspace)

    # --- reading -----------------------------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """All jobs: active first, then queued and held by position, then finished ones, newest first."""
        jobs = self._log.jobs()
        if any(job.state is JobState.queued for job in jobs) and self.runner_pid() is None:
            jobs = [_without_runner(job) for job in jobs]
        return jobs

    def by_hand(self) -> list[Job]:
        """The runs that somebody has started with pidec-train: running ones first, then the newest.

        They have negative ids, which `job`, `curves`, `latest`, `metric_names`, `events`, `log_path` and
        `checkpoint_dir` take, too. What would change one is refused.
        """
        return self._by_hand.jobs()

    def job(self, job_id: int) -> Job:
        """One job. Raises PidecError if there is none of that id."""
        if job_id < 0:
            return self._by_hand.job(job_id)
        job = self._queue.job(job_id)
        if job.state is JobState.queued and self.runner_pid() is None:
            job = _without_runner(job)
        return job

    def version(self) -> int:
        """A number that changes whenever anything in the job log has changed. Costs microseconds."""
        replaced, version = self._log.version()
        return (replaced << 40) + version

    def metric_names(self, job_id: int) -> list[str]:
        """The names of the job's curves, sorted."""
        return sorted(self._by_hand.latest(job_id)) if job_id < 0 else self._metrics.names(job_id)

    def metrics(
        self, job_id: int, *, key: str | None = None, after_row: int = 0, limit: int | None = None
    ) -> list[MetricPoint]:
        """Points with a `row_id` above `after_row`, oldest first, of at most `limit` lines.

        A full read (neither `after_row` nor `limit`) leaves out points that a later attempt has said again. One that
        goes on from its last row gets every new point; the later one counts there too.
        """
        return self._metrics.points(job_id, key=key, after_row=after_row, limit=limit)

    def curves(self, job_id: int, *, after_row: int = 0) -> list[MetricBlock]:
        """What lies behind `after_row`, as arrays: a million values in a tenth of a second.

        Earlier attempts come first. A full read leaves out the attempts before one that began from nothing, but not
        single points that a later attempt has said again: where two speak of one step, the reader takes the later one.
        """
        return self._by_hand.curves(job_id, after_row) if job_id < 0 else self._metrics.blocks(job_id, after_row)

    def machine(self, after: float, until: float) -> list[MachineBlock]:
        """What GPUs and host did between two moments (unix seconds), as far as jobs of the queue ran."""
        return self._machine.blocks(after, until)

    def taken_in(self, job_id: int, attempt: int) -> int:
        """How many bytes of an attempt's metrics.jsonl the job log has."""
        return int(self._log.attempt_columns(job_id, attempt, "offset")[0])

    def all_metric_names(self) -> list[str]:
        """The names of all jobs' curves, sorted."""
        return self._metrics.all_names()

    def tail(self, job_id: int, name: str, count: int) -> list[float]:
        """The newest `count` values of one curve, oldest first, without those that are no numbers."""
        if job_id < 0:
            value = self._by_hand.latest(job_id).get(name)
            return [] if value is None else [value]
        return self._metrics.tail(job_id, name, count)

    def latest(self, job_id: int) -> dict[str, float | None]:
        """The newest value of each curve, without looking through the curves."""
        return self._by_hand.latest(job_id) if job_id < 0 else self._metrics.latest(job_id)

    def events(self, job_id: int, *, after_row: int = 0) -> list[JobEvent]:
        """Events with a `row_id` above `after_row`, oldest first."""
        return self._by_hand.events(job_id, after_row) if job_id < 0 else self._metrics.events(job_id, after_row)

    def alerts(self, *, after_row: int = 0) -> list[Alert]:
        """Alerts of all jobs with a `row_id` above `after_row`, oldest first."""
        return self._metrics.alerts(after_row)

    def last_event(self) -> int:
        """The `row_id` of the newest event of any job: alerts behind it are new."""
        return self._metrics.last_event()

    def log_path(self, job_id: int, attempt: int | None = None) -> Path | None:
        """output.log of an attempt, by default the latest; None before there is one."""
        if job_id < 0:
            return None  # what a run by hand prints is on its terminal
        attempts = dict(self.workspace.run(job_id).attempts())
        number = attempt if attempt is not None else max(attempts, default=0)
        if number not in attempts:
            return None
        path = attempts[number].output
        return path if path.exists() else None

    def checkpoint_dir(self, job_id: int) -> Path:
        """The folder of the job's checkpoints; it need not exist yet."""
        if job_id < 0:
            return self._by_hand.checkpoint_dir(job_id)
        return self.workspace.checkpoint_dir(job_id, self._queue.job(job_id).name)

    def code_version(self, job_id: int) -> str:
        """Version and commit of the pidec that queued the job."""
        if job_id < 0:
            return ""
        return str(self._log.columns(self._queue.job(job_id).id, "code_version")[0])

    # --- changing ----------------------------------------------------------------------------------------------------

    def add(
        self,
        kind: str,
        values: Mapping[str, Any],
        *,
        name: str | None = None,
        lane: str | None = None,
        after: Sequence[int] = (),
        preset: str | None = None,
        held: bool = False,
        group: str = "",
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Job:
        """Queue a job.

        Args:
            kind: diffusion, evaluate, demos, command, ...
            values: of the kind's config; the rest are defaults. Relative paths count from `cwd`, or from the
                workspace if they exist only there; a default's from the workspace. "@41/best" is job 41's best
                checkpoint when this job starts, which then comes after job 41.
            name: by default the preset's, or kind and task.
            lane: "gpu" or "cpu"; by default as the kind needs.
            after: ids of the jobs that must succeed before.
            preset: name of the preset that the values came from.
            held: it waits for `release`.
            group: name of a group that it joins, to be cancelled and compared with it.
            environ, cwd: to run in; by default this process's.

        Raises:
            PidecError: a wrong kind, key, value, lane or job id.
        """
        from .newjobs import NewJob

        new = NewJob(kind, values, name=name, lane=lane, after=after, preset=preset, group=group)
        return self._queue.add([new], held=held, environ=environ, cwd=cwd)[-1]

    def add_preset(self, preset: str | Path, overrides: Mapping[str, Any] | None = None, **more: Any) -> Job:
        """`add_preset_jobs`, giving the preset's own job."""
        return self.add_preset_jobs(preset, overrides, **more)[-1]

    def add_preset_jobs(
        self,
        preset: str | Path,
        overrides: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        lane: str | None = None,
        after: Sequence[int] = (),
        held: bool = False,
        group: str = "",
        sweep: Sequence[Combination] = (),
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> list[Job]:
        """Queue a preset (its name, or a .toml file), with some values of one's own. Otherwise as `add`.

        A preset that names a `first` one gets that one queued before itself, unless `overrides` give every value
        that would come from it. `overrides`, `name` and `lane` are the preset's own; `after` is what the first of the
        two waits for, and `held` keeps both.

        With a `sweep`, one job for each of its combinations is queued, all behind the same `first` one. They are a
        group, called `group`, else `name`, else as the preset; with a number behind it where there is one of that name.

        Returns:
            The jobs in the order in which they run, the preset's own last. All are made, or none.
        """
        from .newjobs import NewJob, swept
        from .presets import check_open, load_preset, preset_before

        chosen, values = load_preset(self.workspace, preset), dict(overrides or {})
        given = {**values, **sweep[0].values} if sweep else values
        check_open(chosen, given)
        own = NewJob(
            chosen.kind,
            values,
            from_workspace=chosen.config,
            name=name,
            lane=lane or chosen.lane,
            preset=chosen.name,
            after=after,
            group=group,
        )
        before, first = None, preset_before(self.workspace, chosen, given)
        if first is not None:
            check_open(first, {})
            before = NewJob(
                first.kind, {}, from_workspace=first.config, lane=first.lane, preset=first.name, after=after
            )
            own = replace(own, after=())
        if sweep:
            return self._queue.add_group(before, swept(own, sweep), held=held, environ=environ, cwd=cwd)
        return self._queue.add([before, own] if before else [own], held=held, environ=environ, cwd=cwd)

    def clone(
        self,
        job_id: int,
        changes: Mapping[str, Any],
        *,
        name: str | None = None,
        lane: str | None = None,
        after: Sequence[int] = (),
        held: bool = False,
        sweep: Sequence[Combination] = (),
    ) -> list[Job]:
        """Queue a new job with the config of this one, whatever has become of it, and some changes.

        It runs in the same folder and environment, and comes after the same jobs, and those in `after`. A changed
        relative path counts from this process's folder. With a `sweep`, one job for each combination, as a group.

        Raises:
            PidecError: there is no such job, or a wrong key or value.
        """
        from .newjobs import NewJob, swept
        from .sweep import label, renamed

        refuse(job_id)
        job = self._queue.job(job_id)
        cwd, environ = self._log.columns(job_id, "cwd", "environment")
        new = NewJob(
            job.kind,
            {**job.config, **self._queue.from_here(job.kind, changes)},
            name=name or (None if "command" in changes else renamed(job.name, label(changes))),
            lane=lane or job.lane,
            preset=job.preset,
            after=[*job.after, *after],
        )
        if sweep:
            jobs = swept(new, [replace(each, values=self._queue.from_here(job.kind, each.values)) for each in sweep])
        else:
            jobs = [new]
        how = {"held": held, "environ": json.loads(environ), "cwd": Path(cwd)}
        return self._queue.add_group(None, jobs, **how) if sweep else self._queue.add(jobs, **how)

    def edit(self, job_id: int, values: Mapping[str, Any]) -> Job:
        """Change values of a queued or held job's config. Raises PidecError for other states and wrong values."""
        refuse(job_id)
        return self._queue.edit(job_id, values)

    def move(self, job_id: int, to: int) -> Job:
        """Put a queued or held job at place `to` of those that wait; 1 is next."""
        refuse(job_id)
        return self._queue.move(job_id, to)

    def hold(self, job_id: int) -> Job:
        """Keep a queued job from starting."""
        refuse(job_id)
        return self._queue.hold(job_id)

    def release(self, job_id: int) -> Job:
        """Let a held job start when its turn comes."""
        refuse(job_id)
        return self._queue.release(job_id)

    def cancel(self, job_id: int) -> Job:
        """Take a waiting job out of the queue; ask the trainer of an active one to save its state and stop."""
        refuse(job_id)
        return self._queue.cancel(job_id)

    def group(self, name: str) -> list[Job]:
        """The jobs that were queued as this group, by id. Raises PidecError if there is none of that name."""
        return self._queue.group(name)

    def cancel_group(self, name: str) -> list[Job]:
        """`cancel` for each job of a group that is not over, all of them or none. Gives those."""
        return self._queue.cancel_group(name)

    def retry(self, job_id: int, *, fresh: bool = False, extend_to: int | None = None) -> Job:
        """Queue a failed or cancelled job again: it resumes from its last checkpoint unless `fresh`.

        Args:
            job_id: of a job that is over.
            fresh: start from nothing.
            extend_to: go on to this iteration, past the end that it had. A succeeded job may be queued so, too.

        Raises:
            PidecError: it is not over, its kind has no end that can be moved, or that end is none.
        """
        refuse(job_id)
        return self._queue.retry(job_id, fresh=fresh, extend_to=extend_to)

    # --- runner ------------------------------------------------------------------------------------------------------

    def runner_pid(self) -> int | None:
        """The runner's process id, None if none is up."""
        return control.runner_pid(self.places)

    def ensure_runner(self) -> int:
        """Start a runner unless one is up; gives its process id once it is at work. Raises PidecError if it fails."""
        return control.ensure_runner(self.places)

    def stop_runner(self) -> bool:
        """End the runner; jobs keep running, and the next runner takes them over. False if none was up."""
        return control.stop_runner(self.places)

    def repair(self) -> RepairReport:
        """Rebuild the job log from the run folders. A runner that is up is stopped meanwhile; jobs keep running."""
        return repair_workspace(self.places)


def _load_settings(places: Places) -> Settings:
    from .settings import load_settings

    return load_settings(places.workspace.jobs)


def _make_missing(places: Places) -> None:
    from .repair import make_missing

    make_missing(places)


def repair_workspace(places: Places) -> RepairReport:
    """`Manager.repair`, for a job log that is too damaged to be opened."""
    places.make()
    had_runner = control.stop_runner(places)
    from .repair import repair

    report = repair(places)
    if had_runner:
        control.ensure_runner(places)
    return report


def _without_runner(job: Job) -> Job:
    if job.state is JobState.queued and not job.waiting_for:
        return replace(job, waiting_for=NO_RUNNER)
    return job
