"""What the machine did during runs that are drawn side by side. Only the charts want it, so they have it read while
they are open, by a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from textual.message import Message

from .charts.series import Curve
from .machinetrace import MachineTrace
from .manager.jobs import Job
from .manager.manager import Manager
from .overlay import Key
from .runtraces import Groups, RunTrace

PAUSE_S = 5.0  # between two looks: the machine is sampled no more often
Machines = Mapping[Key, Mapping[str, Curve]]


class MachinesRead(Message, bubble=False):
    """The machine's curves of each marked run, or of a group their mean and band, by metric name."""

    def __init__(self, machines: Machines) -> None:
        super().__init__()
        self.machines = machines


class MachinesBeside:
    """Reads in a thread that ends with the screen, and that nobody waits for.

    Args:
        post: takes the messages, from the thread.
        clock: unix seconds.
    """

    def __init__(self, manager: Manager, post: Callable[[Message], object], clock: Callable[[], float]) -> None:
        self._manager, self._post, self._clock = manager, post, clock
        self._runs: Mapping[Key, RunTrace] = {}
        self._jobs: Mapping[int, Job] = {}
        self._traces: dict[tuple[int, int], MachineTrace] = {}  # by job and how many attempts it has
        self._whole: set[tuple[int, int]] = set()  # those of which all was read: the job is over
        self._groups = Groups()
        self._wake, self._over = threading.Event(), threading.Event()
        threading.Thread(target=self._run, name="machines beside", daemon=True).start()

    def ask(self, runs: Mapping[Key, RunTrace], jobs: Mapping[int, Job]) -> None:
        """Read for these, as the feed has read them; the same ones as before are read already."""
        if runs is not self._runs:
            self._runs, self._jobs = runs, jobs
            self._wake.set()

    def end(self) -> None:
        self._over.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._over.is_set():
            self._wake.wait()
            self._wake.clear()
            if self._over.is_set():
                return
            try:
                self._post(MachinesRead(self.read(self._runs, self._jobs)))
            except Exception:  # noqa: BLE001 - the feed says what is wrong with the job log; the next look tries again
                self._runs = {}
            self._over.wait(PAUSE_S)

    def read(self, runs: Mapping[Key, RunTrace], jobs: Mapping[int, Job]) -> Machines:
        """The curves of each; empty for those during which nobody measured."""
        made: dict[Key, Mapping[str, Curve]] = {}
        for key, run in runs.items():
            parts = [RunTrace(each.label, self._of(each, jobs), each.began) for each in run.parts or (run,)]
            made[key] = self._groups.run(str(key), parts).curves if run.parts else parts[0].curves
        return made

    def _of(self, run: RunTrace, jobs: Mapping[int, Job]) -> Mapping[str, Curve]:
        job = jobs.get(run.jobs[0]) if run.jobs else None
        if job is None:
            return {}
        which = job.id, len(job.attempts)
        trace = self._traces.setdefault(which, MachineTrace())
        if which not in self._whole:
            trace.read_on(job, self._manager.machine, self._clock())
            if job.state.finished:
                self._whole.add(which)
        return trace.curves(job, run.longest())
