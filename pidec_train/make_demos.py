"""`pidec-train demos`: demonstrations from ManiSkill's motion planner, one seed after the other.

Every finished demo lies at once as a small file of its own in `<out>.parts/`; `out` itself is written whole, at the
end. So a stop at any moment, SIGKILL included, loses only the demos in the making, and the same command goes on.
The result depends on task, control mode, first seed and number of demos alone, not on the number of processes.
"""

from __future__ import annotations

import threading
from multiprocessing import connection
from pathlib import Path

from .envs import headless
from .envs.demo_store import DemoStore
from .envs.planner import SAVED
from .envs.workers import Worker, WorkerDied, close_all
from .metrics import MetricWriter
from .protocol.config import DemosConfig
from .protocol.errors import RunFailed
from .stopping import StopRequest

GIVE_UP_AFTER = 100  # seeds without a single success: this planner does not solve this task with this controller
MAX_DEATHS = 3  # of planner processes in a row; mplib crashes now and then, and not every time for the same seed
_LOOK_SECONDS = 0.2  # how soon a stop request is noticed


def run(config: DemosConfig, run_dir: Path | None, stop: StopRequest | None = None) -> int:
    """Write `config.num_demos` successful demos to `config.out`, going on from what an earlier call left.

    Args:
        run_dir: where metrics.jsonl goes; None: nowhere.
        stop: looked at all the time; None: SIGTERM and SIGINT of this process.

    Returns:
        0.

    Raises:
        PidecError: `out` is of another task, control mode, first seed or maker, or cannot be written; an unknown
            task or control mode; a task without a planner.
        RunFailed: no success in many seeds, or planner processes that keep dying.
        Stopped: a signal came; what was done is kept.
    """
    if stop is None:
        stop = StopRequest()
        if threading.current_thread() is threading.main_thread():
            stop.install()
    with (
        DemoStore(Path(config.out), config.env_id, config.control_mode, config.seed) as store,
        MetricWriter(
            run_dir,
            kind="demos",
            step_name="demo",
            total_steps=config.num_demos,
            start_step=min(len(store.kept), config.num_demos),
            config=config.model_dump(),
        ) as writer,
    ):
        if store.num_in_file >= config.num_demos:
            writer.say(f"{config.out} holds {store.num_in_file} demos already: nothing to do")
            return 0
        if store.kept:
            writer.say(f"going on from {len(store.kept)} demos")
        if not store.is_complete(config.num_demos):
            _collect(config, store, writer, stop)
        store.write(config.num_demos)
        writer.say(f"{config.num_demos} demos in {config.out}")
    return 0


def _collect(config: DemosConfig, store: DemoStore, writer: MetricWriter, stop: StopRequest) -> None:
    """Run planner processes until the store has the first `num_demos` successes."""
    pool = PlannerPool(config, store)
    try:
        while not store.is_complete(config.num_demos):
            stop.check(f"{len(store.kept)} of {config.num_demos} demos are kept, the same command goes on from there")
            pool.hand_out()
            for seed, outcome in pool.collect():
                store.record(seed, outcome == SAVED, outcome)
                _report(config, store, writer, outcome)
    finally:
        pool.close()


def _report(config: DemosConfig, store: DemoStore, writer: MetricWriter, outcome: str) -> None:
    kept, attempted = len(store.kept), store.attempted
    writer.log(min(kept, config.num_demos), {"demos/attempted": attempted, "demos/success_rate": kept / attempted})
    if attempted >= GIVE_UP_AFTER and not kept:
        raise RunFailed(
            f"not one successful demo of {config.env_id} with {config.control_mode} in {attempted} seeds; "
            f"the last one: {outcome}"
        )


class PlannerPool:
    """`num_procs` planner processes, each at one seed at a time; seeds are handed out in order."""

    def __init__(self, config: DemosConfig, store: DemoStore) -> None:
        self._config, self._store = config, store
        self._num_procs = min(config.num_procs, config.num_demos - len(store.kept)) or 1
        self._idle: list[Worker] = []
        self._busy: dict[Worker, int] = {}  # -> its seed
        self._started = 0
        self._deaths = 0
        self._died_on: set[int] = set()
        headless.has_render_device()  # asked once, inherited by every worker

    def hand_out(self) -> None:
        """Give every process that has nothing to do the next seed that is wanted; start those that are missing."""
        while len(self._busy) < self._num_procs:
            seed = self._store.next_seed(self._config.num_demos, set(self._busy.values()))
            if seed is None:
                return
            worker = self._idle.pop() if self._idle else self._start()
            self._busy[worker] = seed
            worker.send("make", seed, str(self._store.folder))

    def collect(self) -> list[tuple[int, str]]:
        """(seed, outcome) of those that are done, after a moment's wait.

        A process that dies (the planner's C++ code crashes now and then) is replaced; a seed on which that happens
        twice counts as failed.

        Raises:
            PidecError: as the worker raised it.
            WorkerDied: several in a row died.
        """
        done: list[tuple[int, str]] = []
        ready = connection.wait([worker.pipe for worker in self._busy], timeout=_LOOK_SECONDS)
        for worker in [worker for worker in self._busy if worker.pipe in ready]:
            seed = self._busy.pop(worker)
            try:
                done.append((seed, worker.receive()))
                self._idle.append(worker)
                self._deaths = 0
            except WorkerDied as error:
                worker.close()
                self._deaths += 1
                if self._deaths >= MAX_DEATHS:
                    raise
                if seed in self._died_on:
                    done.append((seed, error.line()))
                self._died_on.add(seed)
        return done

    def close(self) -> None:
        close_all([*self._idle, *self._busy])

    def _start(self) -> Worker:
        self._started += 1
        kwargs = {"env_id": self._config.env_id, "control_mode": self._config.control_mode}
        return Worker("pidec_train.envs.planner:DemoServer", f"planner {self._started}", kwargs)
