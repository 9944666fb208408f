"""Keys for what the job manager can do beyond the usual: groups as one, clones, extensions, the runner, a report."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import write_atomic

from ..manager.jobs import Job, JobState
from ..manager.manager import Manager
from ..messages import Done
from ..words import duration, plural
from .job_keys import JobKeys

if TYPE_CHECKING:
    from .question import Question

_AGAIN = (JobState.failed, JobState.cancelled)


class QueueKeys(JobKeys):
    """Mixed into screens with a selected job and room for all its keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("C", "clone", "clone with changes", show=False, id="job.clone"),
        Binding("T", "top", "to the top of the queue", show=False, id="job.top"),
        Binding("f", "fresh", "retry from nothing", show=False, id="job.fresh"),
        Binding("E", "extend", "lengthen it", show=False, id="job.extend"),
        Binding("X", "group_cancel", "cancel its group", show=False, id="group.cancel"),
        Binding("H", "group_hold", "hold or release its group", show=False, id="group.hold"),
        Binding("R", "group_retry", "retry its group", show=False, id="group.retry"),
        Binding("P", "report", "report as one HTML file", show=False, id="job.report"),
        Binding("D", "csv", "its metrics as CSV", show=False, id="job.csv"),
        Binding(
            "exclamation_mark", "runner", "start or stop the runner", show=False, key_display="!", id="queue.runner"
        ),
        Binding("B", "repair", "rebuild the job log", show=False, id="queue.repair"),
    ]

    # --- one job

    def action_clone(self) -> None:
        """A form with its config, that queues a new job."""
        if job := self.job():
            from .form import FormScreen

            title = f"New job from job {job.id}, {job.name}"
            self.app.push_screen(FormScreen(job.kind, job.config, title=title, clone=job))

    def action_top(self) -> None:
        if job := self.job():
            held = ", once it is released" if job.state is JobState.held else ""
            self.door.act(lambda m: m.move(job.id, 1), f"Job {job.id} is the next one{held}")

    def action_fresh(self) -> None:
        """Retry from nothing, after a question."""
        job = self.job()
        if job is None:
            return
        if job.state not in _AGAIN:
            self.notify(
                f"Job {job.id} is {job.state}: {self.key('job.fresh')} starts a failed or cancelled job from nothing.",
                timeout=5,
            )
            return
        lost = f" at step {job.step:,}" if job.step else ""
        text = (
            f"Start job {job.id}, {job.name}, {self._over(job)}{lost}, from nothing? "
            "Its checkpoints are kept in a folder beside, its curves begin anew."
        )
        self._ask(text, "from nothing", lambda m: m.retry(job.id, fresh=True), f"Job {job.id} begins anew")

    def action_extend(self) -> None:
        """Ask how far a job that is over shall go on."""
        job = self.job()
        if job is None:
            return
        from .lengthen import lengthen

        lengthen(self, job)

    def action_report(self) -> None:
        """Its report, into the workspace."""
        job = self.job()
        if job is None:
            return
        now = self.door.clock()

        def make(manager: Manager) -> bytes:
            from ..manager.report import report

            return report(manager, job.id, now).encode()

        self._export(f"{job.id:06d}.html", make, f"Job {job.id} is in")

    def action_csv(self) -> None:
        """Every value that it has logged, into the workspace."""
        job = self.job()
        if job is None:
            return

        def make(manager: Manager) -> bytes:
            from ..manager.curvetable import write_csv

            names, text = manager.metric_names(job.id), io.StringIO()
            if not names:
                raise PidecError(f"job {job.id} has logged no metrics yet", "They come with its first row")
            write_csv(text, manager.curves(job.id), names)
            return text.getvalue().encode()

        self._export(f"{job.id:06d}.csv", make, f"The metrics of job {job.id} are in")

    def _export(self, name: str, make: Callable[[Manager], bytes], said: str) -> None:
        """Write a file into `jobs/reports`, readable by its owner alone, and its path to the clipboard."""
        path = self.door.manager.workspace.jobs / "reports" / name

        def write(manager: Manager) -> None:
            data = make(manager)
            try:
                path.parent.mkdir(mode=0o700, exist_ok=True)
                write_atomic(path, data)
            except OSError as error:
                hint = "Free some space, or look whose it is"
                raise PidecError(f"{path} cannot be written: {error.strerror}", hint) from None
            self.app.call_later(self.app.copy_to_clipboard, str(path))

        self.door.act(write, f"{said} {path}. Its path is in the clipboard, if this terminal takes OSC 52")

    # --- its group

    def action_group_cancel(self) -> None:
        left = self._group_in("is over already", [state for state in JobState if not state.finished])
        if left:
            running = sum(job.state.active for job in left)
            text = f"Cancel {self._told(left)}" + (f", {running} of them running?" if running else "?")
            name = left[0].group_name
            self._ask(text, "cancel them", lambda m: m.cancel_group(name), f'Group "{name}" cancelled')

    def action_group_hold(self) -> None:
        """Hold what is queued of it; where nothing is, release what is held."""
        members = self._members()
        queued = [job for job in members if job.state is JobState.queued]
        held = queued or self._group_in("has no queued and no held job", [JobState.held])
        if held:
            name, does = held[0].group_name, "Hold" if queued else "Release"
            self._ask(
                f"{does} {self._told(held)}?",
                f"{does.lower()} them",
                (lambda m: m.groups.hold(name)) if queued else (lambda m: m.groups.release(name)),
                f'Group "{name}": {plural(len(held), "job")} {"held" if queued else "released"}',
            )

    def action_group_retry(self) -> None:
        again = self._group_in("has no failed and no cancelled job", _AGAIN)
        if again:
            name, text = again[0].group_name, f"Retry {self._told(again)}? Each resumes from its last checkpoint."
            self._ask(text, "retry them", lambda m: m.groups.retry(name), f"{plural(len(again), 'job')} queued again")

    def _members(self) -> list[Job]:
        job = self.job()
        if job is None or not job.group_name:
            return []
        return [other for other in self.door.board.jobs or () if other.group_name == job.group_name]

    def _group_in(self, otherwise: str, states: Sequence[JobState]) -> list[Job]:
        """The jobs of the selected one's group that are in these states; says why where there are none."""
        job, members = self.door.board.job(), self._members()
        found = [other for other in members if other.state in states]
        if job is not None and not members:
            self.say_ungrouped(job)
        elif job is not None and not found:
            self.notify(f'Group "{job.group_name}" {otherwise}.', timeout=5)
        return found

    def say_ungrouped(self, job: Job) -> None:
        """What a key that is about a group says where there is none."""
        self.notify(f"Job {job.id} is in no group: several values in a form make one (seed 1..3).", timeout=5)

    def _told(self, jobs: Sequence[Job]) -> str:
        """`3 jobs of group "peg", queued 2 h 05 to 40 min ago`."""
        ages = sorted(
            {duration(self.door.clock() - job.created): job.created for job in jobs}.items(), key=lambda a: a[1]
        )
        span = ages[0][0] if len(ages) == 1 else f"{ages[0][0]} to {ages[-1][0]}"
        return f'{plural(len(jobs), "job")} of group "{jobs[0].group_name}", queued {span} ago'

    # --- the runner, and the job log

    def action_runner(self) -> None:
        """Start it, or stop it after a question."""
        board = self.door.board
        if board.runner_pid is None:
            self.door.feed.keep_runner(True)
            self.door.act(lambda m: m.ensure_runner(), "The runner is up")
            return
        running = sum(job.state.active for job in board.jobs or ())
        goes_on = f" What runs now ({plural(running, 'job')}) goes on;" if running else ""
        key = self.key("queue.runner")
        text = f"Stop the runner, process {board.runner_pid}?{goes_on} nothing else starts until {key} starts it again."
        self.app.push_screen(_question(text, "stop it"), lambda yes: self._stop_runner() if yes else None)

    def _stop_runner(self) -> None:
        self.door.feed.keep_runner(False)  # else it would start one for the jobs that wait
        key = self.key("queue.runner")
        self.door.act(lambda m: m.stop_runner(), f"The runner has ended: {key} starts one")

    def action_repair(self) -> None:
        """Rebuild the job log from the run folders, after a question."""
        board = self.door.board
        running = sum(job.state.active for job in board.jobs or ())
        goes_on = f" What runs ({plural(running, 'job')}) goes on." if running else ""
        text = (
            "Rebuild the job log from the run folders? A damaged one is kept beside it, a runner that is up is stopped "
            f"meanwhile.{goes_on} Jobs whose folders are gone are in it no more."
        )
        self.app.push_screen(_question(text, "rebuild it"), lambda yes: self._repair() if yes else None)

    def _repair(self) -> None:
        door = self.door

        def rebuild(manager: Manager) -> None:
            with door.feed.rebuilding():
                found = manager.repair()
            said = f"The job log is rebuilt: {plural(found.jobs, 'job')}, {plural(found.points, 'value')}"
            if found.unreadable:
                said += f"; {plural(len(found.unreadable), 'run folder')} without a usable spec.json left out"
            if found.set_aside:
                said += f"; the damaged one is {found.set_aside}"
            door.post_message(Done(said))

        self.notify("Rebuilding the job log", timeout=3)
        door.act(rebuild)

    def _over(self, job: Job) -> str:
        return f"{job.state} {duration(self.door.clock() - (job.ended or job.created))} ago"

    def _ask(self, text: str, yes: str, does: Callable[[Manager], object], said: str) -> None:
        self.app.push_screen(_question(text, yes), lambda answer: self.door.act(does, said) if answer else None)


def _question(text: str, yes: str) -> Question:
    from .question import Question

    return Question(text, yes, "leave it")
