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

from pidec_train.protocol.rundir import find_workspace

from . import control
from .byhand import refuse
from .joblog import JobLog
from .jobs import Job
from .reading import Reading
from .statedir import Mounts, Places
from .tomlfiles import settings_files

if TYPE_CHECKING:  # these know what a config may be, which takes long to import: a first paint goes without
    from .groups import Groups
    from .repair import RepairReport
    from .settings import Settings
    from .sweep import Combination


class Manager(Reading):
    """The jobs of one workspace: what is told of them (`Reading`), and what changes them. Use `open`."""

    def __init__(self, places: Places, log: JobLog, settings: Settings | None) -> None:
        super().__init__(places, log)
        self._settings = settings

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
        from .specs import chosen_lane

        chosen, values = load_preset(self.workspace, preset), dict(overrides or {})
        given = {**values, **sweep[0].values} if sweep else values
        check_open(chosen, given)
        own = NewJob(
            chosen.kind,
            values,
            from_workspace=chosen.config,
            name=name,
            lane=lane or chosen_lane(chosen.lane, chosen.kind, chosen.config),
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
        from .specs import chosen_lane
        from .sweep import label, renamed

        refuse(job_id)
        job = self._queue.job(job_id)
        cwd, environ = self._log.columns(job_id, "cwd", "environment")
        new = NewJob(
            job.kind,
            {**job.config, **self._queue.from_here(job.kind, changes)},
            name=name or (None if "command" in changes else renamed(job.name, label(changes))),
            lane=lane or chosen_lane(job.lane, job.kind, job.config),
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
