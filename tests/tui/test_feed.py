"""The thread that reads: what it tells, and that nothing stops it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import apsw
import pytest
from textual.message import Message

from pidec_train.protocol.errors import PidecError
from pidec_tui.checkpointrows import checkpoint_rows
from pidec_tui.faults import Behind
from pidec_tui.feed import Feed
from pidec_tui.manager.gpus import GpuMonitor
from pidec_tui.manager.jobs import JobState
from pidec_tui.messages import (
    CheckpointsChanged,
    LinesRead,
    LogChanged,
    MachineSampled,
    QueueChanged,
    RunnerSeen,
    TraceChanged,
    Trouble,
)
from pidec_tui.plainlog import plain_lines
from tests.fakes.fake_pynvml import FakeGpu, FakeNvml
from tests.tui.scene import GIB, H200, NOW, FixedGpus, Scene, training


class Listener:
    """A feed whose messages are kept."""

    def __init__(self, scene: Scene, monitor: GpuMonitor | None = None) -> None:
        self.said: list[Message] = []
        gpus = monitor or FixedGpus([H200])
        self.feed = Feed(scene.manager, gpus, self.said.append, start_runner=False, clock=lambda: NOW)

    def tick(self) -> list[Message]:
        self.said.clear()
        self.feed._next_machine = 0.0
        self.feed.tick()
        return list(self.said)

    def one(self, kind: type[Message]) -> Any:
        """The one message of this kind in a tick."""
        found = [message for message in self.tick() if type(message) is kind]
        assert len(found) == 1, self.said
        return found[0]


def running(scene: Scene) -> Any:
    job = scene.add("diffusion", {"total_iters": 1000}, name="peg")
    scene.start(job, ago=600)
    return job


def lines(first: int, last: int) -> list[dict[str, Any]]:
    return [{"time": NOW + step, "step": step, "metrics": {"train/loss": 1.0 / step}} for step in range(first, last)]


def test_only_news_is_told(scene: Scene) -> None:
    """Lost: a dashboard that redraws everything twice a second, over ssh."""
    job = running(scene)
    listener = Listener(scene)
    listener.feed.watch(job.id)
    assert {type(m) for m in listener.tick()} >= {QueueChanged, TraceChanged, LogChanged, CheckpointsChanged}
    listener.tick()  # the runner was seen, which may change what jobs wait for
    assert [type(m) for m in listener.tick()] == [MachineSampled]


def test_curves_grow_by_rows_past_the_last(scene: Scene) -> None:
    """Lost: every refresh reads a million-iteration run from its start."""
    job = running(scene)
    scene.write(job, lines(1, 11))
    listener = Listener(scene)
    listener.feed.watch(job.id)
    assert len(listener.one(TraceChanged).trace.curves["train/loss"].xs) == 10
    asked: list[int] = []
    real = scene.manager.curves
    scene.manager.curves = lambda job_id, **k: asked.append(k["after_row"]) or real(job_id, **k)  # type: ignore
    scene.write(job, lines(11, 16))
    assert len(listener.one(TraceChanged).trace.curves["train/loss"].xs) == 15
    assert asked and min(asked) == 10


def test_an_attempt_that_starts_afresh_voids_the_old_curve(scene: Scene) -> None:
    """Lost: two runs drawn as one."""
    job = running(scene)
    scene.write(job, lines(1, 11))
    listener = Listener(scene)
    listener.feed.watch(job.id)
    listener.tick()
    scene.end(job, JobState.failed, ago=0, code=1)
    scene.manager.retry(job.id, fresh=True)
    scene.start(job, ago=0)
    scene.write(job, [{"event": "start", "time": NOW, "step_name": "iteration", "total_steps": 1000}, *lines(1, 4)])
    assert list(listener.one(TraceChanged).trace.curves["train/loss"].xs) == [1, 2, 3]


def test_choosing_another_job_tells_all_about_it_again(scene: Scene) -> None:
    """Lost: going to another job and back leaves empty charts."""
    job = running(scene)
    scene.write(job, lines(1, 4))
    listener = Listener(scene)
    listener.feed.watch(job.id)
    listener.tick()
    listener.feed.watch(None)
    listener.feed.watch(job.id)
    assert {TraceChanged, LogChanged, CheckpointsChanged} <= {type(m) for m in listener.tick()}


def test_rate_and_end_of_every_active_job(scene: Scene) -> None:
    """Lost: rate and ETA of all jobs but the one under the cursor."""
    job = running(scene)
    scene.write(job, training(1000, 500, 10, began=NOW - 300, per_min=lambda step: 100.0))
    line = Listener(scene).one(LinesRead).lines[job.id]
    assert line.rate == 100.0 and line.ends == pytest.approx(NOW + 300)


def test_a_locked_job_log_is_a_notice_and_it_goes_on(scene: Scene) -> None:
    """Lost: the dashboard of a whole day, to a backup program that locked the file for a minute."""
    listener = Listener(scene)
    listener.tick()
    real = scene.manager.version

    def locked() -> int:
        raise apsw.BusyError("database is locked")

    scene.manager.version = locked  # type: ignore[method-assign]
    troubles = [m for m in listener.tick() if isinstance(m, Trouble)]
    assert [m.part for m in troubles] == ["job log"] and "locked" in troubles[0].text
    assert not [m for m in listener.tick() if isinstance(m, Trouble)]  # said once
    scene.manager.version = real  # type: ignore[method-assign]
    assert [m.text for m in listener.tick() if isinstance(m, Trouble)] == [""]
    assert listener.one(QueueChanged) is not None


def test_what_to_do_about_a_trouble_is_what_it_is_now(scene: Scene) -> None:
    """Lost: a process that has nothing to do with it, to a `kill` that was about the one before."""
    listener = Listener(scene)
    listener.tick()

    def told(pid: int) -> list[tuple[str, bool]]:
        def broken() -> int:
            raise PidecError(f"process {pid} is in the way", f"`kill {pid}` ends it")

        scene.manager.version = broken  # type: ignore[method-assign]
        return [(m.text, m.quiet) for m in listener.tick() if isinstance(m, Trouble)]

    assert told(41) == [("process 41 is in the way. `kill 41` ends it", False)]
    assert told(41) == []
    assert told(42) == [("process 42 is in the way. `kill 42` ends it", True)], "no second toast"


def test_a_vanished_workspace_does_not_stop_the_feed(scene: Scene) -> None:
    """Lost: an unmounted network drive closes the dashboard, and nobody knows why."""
    job = running(scene)
    scene.output(job, "hello\n")
    listener = Listener(scene)
    listener.feed.watch(job.id)
    listener.tick()
    root = scene.manager.workspace.root
    os.rename(root, root.with_name("gone"))
    listener.tick()
    os.rename(root.with_name("gone"), root)
    scene.output(job, "hello again\n")
    assert listener.one(LogChanged).lines == ("hello again",)


def test_where_the_job_log_is_was_decided_when_it_was_opened(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: a warning of a second queue that is there, to a relative `$PIDEC_STATE_DIR` and a folder that is gone; and
    the time to read all mounts, at every look."""
    monkeypatch.setattr("pidec_tui.manager.statedir.read_mounts", lambda: pytest.fail("decided again"))
    assert not [m for m in Listener(scene).tick() if isinstance(m, Trouble)]


def test_a_rule_of_advice_that_breaks_costs_the_advice_alone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: every curve, and the word that the job log is broken, for one figure that a rule did not expect."""
    job = running(scene)
    scene.write(job, lines(1, 20))

    def breaks(*arguments: object) -> Any:
        raise ZeroDivisionError("a rule")

    monkeypatch.setattr("pidec_tui.advising.Adviser.advise", breaks)
    listener = Listener(scene)
    listener.feed.watch(job.id)
    told = listener.tick()
    assert [m.part for m in told if isinstance(m, Trouble)] == ["advice"]
    assert [m for m in told if isinstance(m, TraceChanged)]
    listener.tick()  # the runner was seen
    assert not [m for m in listener.tick() if isinstance(m, QueueChanged)], "nothing is read anew for it"


def test_losing_nvml_is_survived(scene: Scene) -> None:
    """Lost: a driver update at noon closes everybody's dashboard."""
    monitor = FixedGpus([H200])
    listener = Listener(scene, monitor)
    assert listener.one(MachineSampled).machine.gpus == (H200,)

    def lost() -> list[Any]:
        raise RuntimeError("GPU is lost")

    real: Callable[[], Any] = monitor.sample
    monitor.sample = lost  # type: ignore[method-assign]
    assert [m.part for m in listener.tick() if isinstance(m, Trouble)] == ["machine"]
    monitor.sample = real  # type: ignore[method-assign]
    assert [m.text for m in listener.tick() if isinstance(m, Trouble)] == [""]


def test_checkpoints_are_read_from_their_sidecars(scene: Scene) -> None:
    """Lost: the list of what can be evaluated; and a half-written one must not hide the others."""
    job = running(scene)
    scene.checkpoint(job, 100, ago=50, successes=12)
    scene.checkpoint(job, 200, ago=5, best=True, last=True)
    broken = scene.checkpoint(job, 300, ago=1)
    broken.with_suffix(".json").write_text("{")
    rows = checkpoint_rows(scene.manager.checkpoint_dir(job.id))
    assert [(row.step, row.tags, row.successes) for row in rows] == [(200, ("best", "last"), None), (100, (), 12)]


def test_a_log_reads_like_a_terminal() -> None:
    """Lost: a progress bar as ten thousand lines, and colours as rubbish."""
    data = b"\x1b[32mgreen\x1b[0m\n  1%\r 50%\r100%\ncrlf\r\ntab\tend\n\x1b]0;title\x07last \xff\x00"
    assert plain_lines(data) == ["green", "100%", "crlf", "tab     end", "last \ufffd "]


def test_a_runner_is_asked_for_when_there_is_work_and_not_too_often(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: jobs that nobody starts; or a runner that cannot start, tried twice a second all night."""
    asked: list[int] = []
    monkeypatch.setattr("pidec_tui.manager.control.runner_pid", lambda places: None)

    def ensure(places: object) -> int:
        asked.append(1)
        raise PidecError("the runner did not start", "see runner.log")

    monkeypatch.setattr("pidec_tui.manager.control.ensure_runner", ensure)
    listener = Listener(scene)
    listener.feed._start_runner = True
    scene.add("command", {"command": "true"}, name="kept back", held=True)
    listener.tick()
    assert not asked
    scene.add("command", {"command": "true"}, name="waits")
    troubles = [m for m in listener.tick() if isinstance(m, Trouble)]
    assert len(asked) == 1 and "see runner.log" in troubles[0].text
    assert not [m for m in listener.tick() if isinstance(m, Trouble)] and len(asked) == 1  # neither well nor said twice
    listener.feed.wake()  # the user did something: now is a good moment
    listener.tick()
    assert len(asked) == 2


def troubles(listener: Listener) -> list[tuple[str, str]]:
    """What is said of a look: which part, and what."""
    listener.feed._next_machine = 0.0
    return [(m.part, m.text) for m in listener.tick() if isinstance(m, Trouble)]


def test_a_run_folder_that_is_gone_is_a_notice_while_its_job_is_looked_at(scene: Scene) -> None:
    """Lost: why a job has no log any more."""
    job, other = running(scene), scene.add("command", {"command": "true"}, name="other")
    listener = Listener(scene)
    listener.feed.watch(job.id)
    assert troubles(listener) == []
    folder = scene.manager.workspace.run(job.id).path
    folder.rename(folder.with_name("gone"))
    ((part, text),) = troubles(listener)
    assert part == "run folder" and f"the folder of job {job.id} is gone" in text
    assert troubles(listener) == []
    listener.feed.watch(other.id)
    told = [m for m in listener.tick() if isinstance(m, Trouble)]
    assert [(m.part, m.text, m.quiet) for m in told] == [("run folder", "", True)], "it is not well: nobody asks"
    listener.feed.watch(job.id)
    assert len(troubles(listener)) == 1
    folder.with_name("gone").rename(folder)
    assert troubles(listener) == [("run folder", "")]


def test_a_workspace_that_is_gone_is_a_notice_and_back_again_one_too(scene: Scene) -> None:
    """Lost: that the numbers on the screen are those of before the disk was unmounted."""
    listener = Listener(scene)
    listener.tick()
    root = scene.manager.workspace.root
    root.rename(root.with_name("gone"))
    assert "workspace" in dict(troubles(listener))
    root.with_name("gone").rename(root)
    assert ("workspace", "") in troubles(listener)


def test_a_job_log_that_takes_nothing_in_is_a_notice(scene: Scene) -> None:
    """Lost: an hour with a job log that a backup has locked for writing: it can be read all the while."""
    job = running(scene)
    scene.write(job, lines(1, 3))
    now = [0.0]
    behind = Behind(scene.manager, lambda: now[0])
    path = scene.manager.workspace.run(job.id).attempts()[-1][1].metrics
    with scene.log.write():
        scene.log.update_attempt(job.id, 1, offset=path.stat().st_size)
    behind.check(scene.manager.jobs())
    with path.open("a") as file:
        file.write('{"seq": 9}\n')
    behind.check(scene.manager.jobs())
    now[0] = 9.0
    behind.check(scene.manager.jobs())
    now[0] = 11.0
    with pytest.raises(PidecError, match=f"takes in no metrics of job {job.id}"):
        behind.check(scene.manager.jobs())
    with scene.log.write():
        scene.log.update_attempt(job.id, 1, offset=path.stat().st_size)
    behind.check(scene.manager.jobs())


def test_a_half_written_line_is_not_behind(scene: Scene) -> None:
    """Lost: trust in that notice, where a command buffers what it writes: half a line stands there for minutes."""
    job, now = running(scene), [0.0]
    scene.write(job, lines(1, 3))
    behind = Behind(scene.manager, lambda: now[0])
    path = scene.manager.workspace.run(job.id).attempts()[-1][1].metrics
    with scene.log.write():
        scene.log.update_attempt(job.id, 1, offset=path.stat().st_size)
    with path.open("a") as file:
        file.write('{"seq": 9, "step"')
    for now[0] in (0.0, 9.0, 60.0):
        behind.check(scene.manager.jobs())


def test_gpus_that_answer_no_more_are_a_notice(scene: Scene) -> None:
    """Lost: that the driver is gone in the middle of a run: the pane would only be empty."""
    gpu = FakeGpu(uuid="GPU-a", memory_used=GIB, processes=[])
    nvml = FakeNvml([gpu])
    listener = Listener(scene, GpuMonitor(nvml=nvml))
    assert troubles(listener) == []
    nvml.broken = nvml.NVMLError_GpuIsLost()
    ((part, text),) = troubles(listener)
    assert part == "machine" and "answers no more" in text
    nvml.broken = None
    assert troubles(listener) == [("machine", "")]


def test_a_runner_that_died_is_replaced_and_said(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: that somebody, or the kernel, kills runners."""
    up: list[int | None] = [4001]
    monkeypatch.setattr("pidec_tui.manager.control.runner_pid", lambda places: up[0])
    monkeypatch.setattr("pidec_tui.manager.control.ensure_runner", lambda places: 4002)
    scene.add("command", {"command": "true"}, name="waits")
    listener = Listener(scene)
    listener.feed._start_runner = True
    first = listener.one(RunnerSeen)
    assert (first.pid, first.instead_of) == (4001, None)
    up[0] = None
    listener.feed.wake()
    second = listener.one(RunnerSeen)
    assert (second.pid, second.instead_of) == (4002, 4001)
    with listener.feed.rebuilding():
        up[0] = 4003
    assert listener.one(RunnerSeen).instead_of is None, "it was this dashboard that made it leave"
