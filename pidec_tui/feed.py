"""The thread that reads for the screens: job log, selected job, machine. It tells the app by messages, and goes on
whatever happens: what cannot be read is said once, tried again, and said to be well when it is."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.message import Message

from pidec_train.protocol.errors import PidecError

from .board import Machine
from .checkpointrows import checkpoint_rows
from .faults import Behind, LostGpus, check_run_folder, check_workspace
from .looks import ATTENDED, Looks
from .manager.gpus import GpuMonitor
from .manager.host import sample_host
from .manager.jobs import Job, JobEvent, JobState
from .manager.manager import Manager
from .manager.overview import Overview
from .manager.reading import REBUILT
from .messages import (
    AdviceChanged,
    AlertsRaised,
    CheckpointsChanged,
    LinesRead,
    LogChanged,
    MachineSampled,
    OverlayChanged,
    QueueChanged,
    RankingRead,
    RunnerSeen,
    TraceChanged,
    Trouble,
)
from .news import News
from .overlay import MOST_RUNS, Key, members
from .plainlog import LogTail
from .ranks import Ranks
from .runtraces import Groups, RunTrace, run_trace
from .trace import Trace

if TYPE_CHECKING:
    from .advising import Adviser

BREATH = 0.3  # seconds behind the first look, in which the queue is drawn: two threads would be in each other's way
MACHINE_EVERY = 2.0
BY_HAND_EVERY = 2.0
LINES_EVERY = 5.0  # whether a run has stalled is a matter of time alone
RUNNER_EVERY = 10.0  # a runner that cannot start is not asked for more often than this
KEEP_TRACES = 8  # jobs whose metrics stay in memory, so that going back to one is instant


class Feed:
    """Reads in its own thread; `post` and `together` are the only ways out.

    Args:
        together: posts what one look has found at once; without it each message is posted by itself.
        start_runner: ask for a runner when there is work and none is up.
        clock: unix seconds.
    """

    def __init__(
        self,
        manager: Manager,
        monitor: GpuMonitor,
        post: Callable[[Message], object],
        *,
        start_runner: bool = True,
        clock: Callable[[], float] = time.time,
        together: Callable[[Sequence[Message]], object] | None = None,
    ) -> None:
        self.manager = manager
        self.monitor = monitor
        self.ticks = 0
        self._looks = Looks()
        self._news = News(post, together and self._looks.told_by(together))
        self._post = self._news.post
        self._start_runner = start_runner
        self._selected: int | None = None
        self._tell_anew = False
        self._beside: tuple[Key, ...] = ()  # runs that are drawn side by side
        self._groups = Groups()
        self._traces: dict[int, Trace] = {}
        self._clock = clock
        self._behind, self._lost = Behind(manager), LostGpus()
        self._log_tail = LogTail()
        self._runner: int | None = None  # the process at the look before
        self._ranks = Ranks(manager)
        self._overview = Overview(manager, clock)
        self._events: tuple[JobEvent, ...] = ()
        self._jobs: list[Job] = []
        self._by_hand: list[Job] = []
        self._next_by_hand = 0.0
        self._last_event: int | None = None  # of any job, at the look before; None: there was none
        self._seen: dict[str, object] = {}  # what each part looked like when it was last told
        self._troubles: dict[str, str] = {}  # what each part that cannot be read was last said to have
        self._next_machine = 0.0
        self._next_runner = 0.0
        self._runner_error: PidecError | None = None
        self._work_waits = False  # a job is queued or active: it needs a runner
        self._rebuilds = 0  # of the job log by this dashboard, that go on
        self._rebuilt: int | None = None  # see `Manager.version`; None: it was not asked yet

    @functools.cached_property
    def _adviser(self) -> Adviser:
        from .advising import Adviser  # late: its rules take long to import, and the queue is looked at first

        return Adviser(self.manager, lambda job: self._overview.pulse(job), self._clock)

    # --- called from the UI thread

    def watch(self, job_id: int | None) -> None:
        """Read this job's metrics, log and checkpoints from now on."""
        self._selected = job_id
        self._tell_anew = True
        self._looks.at_once()

    def beside(self, keys: tuple[Key, ...]) -> None:
        """Read these runs, too, from now on."""
        self._beside = keys
        self._looks.at_once()

    def rank(self, metric: str, weight: float) -> None:
        """Read what runs are sorted by, from now on: see `Ranks`."""
        self._ranks.by(metric, weight)
        self._looks.at_once()

    def keep_runner(self, keep: bool) -> None:
        """Whether to ask for a runner where there is work and none is up."""
        self._start_runner = keep
        self._looks.at_once()

    @contextmanager
    def rebuilding(self) -> Iterator[None]:
        """While this dashboard rebuilds the job log: no runner is started."""
        self._rebuilds += 1
        try:
            yield
        finally:
            self._rebuilds -= 1
            self._runner = None  # the one before has made room for it: nobody need be told that it was gone
            self._looks.at_once()

    def wake(self) -> None:
        """Look at once: something was just changed."""
        self._next_runner = self._next_machine = 0.0
        self._looks.at_once()

    def touched(self) -> None:
        """Somebody sits at the keys: look as often as one who watches wants."""
        self._looks.touched()

    def drawn(self) -> None:
        """What was told together is drawn."""
        self._looks.drawn()

    def stop(self) -> None:
        self._looks.end()

    # --- the thread

    def run(self) -> None:
        with self._part("job log"):
            self._read_log(None)
        looks = self._looks.first(BREATH)
        importlib.import_module("pidec_train.protocol.config")  # for the job's card, which the next message draws
        while looks:
            self.tick()
            looks = self._looks.next()

    def tick(self) -> None:
        """Look at everything once, and tell what is new at the end: all of it is drawn once."""
        with self._news.together():
            self._look()
        self.ticks += 1

    def _look(self) -> None:
        if self._tell_anew:  # even of a job that was told before: the board has forgotten it
            self._tell_anew = False
            for part in ("trace", "advice", "advice told", "log file", "checkpoints"):
                self._seen.pop(part, None)
            for part in {"log file", "checkpoints", "run folder"} & self._troubles.keys():  # of the job before
                del self._troubles[part]
                self._post(Trouble(part, "", quiet=True))
        selected, now = self._selected, time.monotonic()
        due = now >= self._next_machine
        if due:  # before the job log: advice on a run tells of the machine
            # The CPU's load is measured since the look before: after the first one, look again soon.
            self._next_machine = now + (MACHINE_EVERY if self.ticks else ATTENDED)
            with self._part("machine"):
                self._read_machine()
        with self._part("job log"):
            self._read_log(selected)
        with self._part("how runs do"):
            self._read_lines()
        with self._part("sorting"):
            if self._ranks.read([*self._jobs, *self._by_hand]):
                self._post(RankingRead(self._ranks.metric, dict(self._ranks.values)))
        with self._part("runs side by side"):
            self._read_beside(self._beside)
        if selected is not None:
            with self._part("log file"):
                self._read_tail(selected)
            with self._part("checkpoints"):
                self._read_checkpoints(selected)
            with self._part("run folder"):
                for job in (job for job in self._jobs if job.id == selected):
                    check_run_folder(self.manager, job)
        if due:
            with self._part("workspace"):
                check_workspace(self.manager.places)
            with self._part("metrics"):
                self._behind.check(self._jobs)
            with self._part("runner"):
                self._look_after_runner(now)

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a dashboard that stays open beats any single reading
            self._seen.pop(name, None)  # so that it is read again, changed or not
            text = error.line() if isinstance(error, PidecError) else f"{type(error).__name__}: {error}"
            before, text = self._troubles.get(name), " ".join(text.split())
            if text != before:  # another process id, another cause: what to do about it is another thing
                self._troubles[name] = text
                self._post(Trouble(name, text, quiet=before is not None))
        else:
            if self._troubles.pop(name, None) is not None:
                self._forget()
                self._post(Trouble(name, ""))

    def _forget(self) -> None:
        """Read all of the job log anew: one that was rebuilt numbers its rows anew."""
        self._seen.clear()
        self._traces.clear()
        self._adviser.forget()
        self._ranks.forget()
        self._overview = Overview(self.manager, self._clock)

    def _changed(self, part: str, now: object) -> bool:
        if self._seen.get(part) == now:
            return False
        self._seen[part] = now
        return True

    def _read_log(self, selected: int | None) -> None:
        version = self.manager.version()
        if version >> REBUILT != self._rebuilt:  # by whomever
            if self._rebuilt is not None:
                self._last_event = None  # alerts of old have new ids
                self._forget()
            self._rebuilt = version >> REBUILT
        self._look_by_hand()
        news = self._changed("by hand", self._by_hand)
        if self._changed("job log", version):
            news = True
            self._jobs = self.manager.jobs()
            self._work_waits = any(not j.state.finished and j.state is not JobState.held for j in self._jobs)
            self._read_alerts()
        shown = [*self._jobs, *self._by_hand]
        if news:
            self._post(QueueChanged(self._jobs, self._by_hand))
        known = any(job.id == selected for job in shown)
        if selected is not None and known and (news or "trace" not in self._seen):
            self._read_trace(selected)

    def _look_by_hand(self) -> None:
        """Runs of pidec-train are files that nobody tells of: look now and then."""
        now = time.monotonic()
        if now >= self._next_by_hand:
            self._next_by_hand = now + BY_HAND_EVERY
            self._by_hand = self.manager.by_hand()

    def _read_alerts(self) -> None:
        """Those that are new since the dashboard was opened."""
        last = self.manager.last_event()
        before, self._last_event = self._last_event, last
        if before is None or last <= before:
            return
        raised = self.manager.alerts(after_row=before)
        if raised and self.manager.version() >> REBUILT == self._rebuilt:  # else all of them, with new ids
            self._last_event = max(last, raised[-1].row_id)  # one may have come in between
            self._post(AlertsRaised(raised, self._jobs))

    def _trace(self, job_id: int) -> Trace:
        if job_id not in self._traces:
            self._news.tell()  # a long run takes a fifth of a second
        trace = self._traces.pop(job_id, None) or Trace(job_id)
        self._traces[job_id] = trace  # newest last
        while len(self._traces) > KEEP_TRACES + MOST_RUNS * bool(self._beside):
            del self._traces[next(iter(self._traces))]
        blocks = self.manager.curves(job_id, after_row=trace.last_row)
        if trace.attempt and any(block.attempt > trace.attempt for block in blocks):
            # A new attempt may have started afresh, which makes the earlier ones' curves void: only a full read knows.
            trace = self._traces[job_id] = Trace(job_id)
            blocks = self.manager.curves(job_id)
        trace.take(blocks)
        return trace

    def _read_trace(self, job_id: int) -> None:
        trace = self._trace(job_id)
        events = tuple(self.manager.events(job_id))
        job = next(job for job in [*self._jobs, *self._by_hand] if job.id == job_id)
        view = trace.view()
        view = replace(view, machine=self._adviser.machine(job, view.curves))
        if self._changed("trace", (job_id, trace.last_row, len(events), self._adviser.last_sample)):
            self._post(TraceChanged(view, events))
        with self._part("advice"):
            if self._adviser.is_due(job) and self._changed("advice", (job, trace.last_row, self._adviser.compared)):
                advice = self._adviser.advise(job, view, events, self._jobs)
                if self._changed("advice told", (job_id, advice)):
                    self._post(AdviceChanged(job_id, advice))

    def _read_lines(self) -> None:
        """Health, rate, loss, success and end of what runs, and of what ended last."""
        shown = [*self._jobs, *self._by_hand]
        now = time.monotonic() // LINES_EVERY
        if not self._changed("how runs do", (self._seen.get("job log"), self._by_hand, now)):
            return
        told = [job for job in shown if job.state.active]
        if not told:
            told = sorted((job for job in shown if job.state.finished), key=lambda job: job.ended or 0)[-1:]
        lines = {line.job.id: line for line in self._overview.lines(told)}
        if self._changed("lines", lines):
            self._post(LinesRead(lines))

    def _read_beside(self, keys: tuple[Key, ...]) -> None:
        """At most `MOST_RUNS`, whatever became of their groups since they were marked."""
        if not self._changed("runs side by side", (self._seen.get("job log"), self._by_hand, keys)):
            return
        runs: dict[int, RunTrace] = {}
        rows: list[object] = [keys]
        drawn: dict[Key, RunTrace] = {}
        for behind, key in zip(reversed(range(len(keys))), keys, strict=True):  # room for one of each mark behind it
            jobs = members(key, [*self._jobs, *self._by_hand])
            for job in jobs:
                if job.id not in runs and len(runs) < MOST_RUNS - behind:
                    trace, events = self._trace(job.id), tuple(self.manager.events(job.id))
                    rows.append((job.id, trace.last_row, len(events)))
                    runs[job.id] = run_trace(job, trace.view(), events)
            there = [runs[job.id] for job in jobs if job.id in runs]
            if there:
                drawn[key] = self._groups.run(key, there) if isinstance(key, str) else there[0]
        if self._changed("rows side by side", rows):
            self._post(OverlayChanged(drawn))

    def _read_tail(self, job_id: int) -> None:
        path = self.manager.log_path(job_id)
        if path is None or not path.exists():
            if self._changed("log file", (job_id, None)):
                self._post(LogChanged(job_id, None))
            return
        stat = path.stat()
        if self._changed("log file", (job_id, path, stat.st_size, stat.st_mtime_ns)):
            self._post(LogChanged(job_id, self._log_tail.read(path, stat.st_size)))

    def _read_checkpoints(self, job_id: int) -> None:
        folder = self.manager.checkpoint_dir(job_id)
        stamp = folder.stat().st_mtime_ns if folder.is_dir() else None
        if self._changed("checkpoints", (job_id, stamp)):
            self._post(CheckpointsChanged(job_id, checkpoint_rows(folder)))

    def _read_machine(self) -> None:
        gpus = tuple(self.monitor.sample())
        machine = Machine(gpus, self.monitor.why_none, sample_host(self.manager.workspace.root))
        self._adviser.sampled(machine)
        self._post(MachineSampled(machine))
        self._lost.check(machine)

    def _look_after_runner(self, now: float) -> None:
        pid = self.manager.runner_pid()
        if pid is None and self._start_runner and self._work_waits and not self._rebuilds:
            if now >= self._next_runner:
                self._next_runner, self._runner_error = now + RUNNER_EVERY, None
                try:
                    pid = self.manager.ensure_runner()
                except PidecError as error:
                    self._runner_error = error
            if self._runner_error is not None:
                raise self._runner_error  # until it is tried again, the trouble stays
        before, self._runner = self._runner, pid
        if self._changed("runner", ("pid", pid)):
            self._seen.pop("job log", None)  # what a queued job waits for depends on it
            self._post(RunnerSeen(pid, before if pid is not None and pid != before else None))
