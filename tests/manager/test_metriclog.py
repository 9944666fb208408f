"""From metrics.jsonl into the job log and back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from pidec_tui.manager.ingest import CHUNK, Ingest
from pidec_tui.manager.joblog import JobLog
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.metriclog import MetricLog


class Reader:
    """One job with one attempt, whose metrics.jsonl a test writes by hand."""

    def __init__(self, manager: Manager, folder: Path) -> None:
        self.manager = manager
        self.job = manager.add("command", {"command": "true"}).id
        self.log = JobLog(manager.places.db)
        self.path = folder / "metrics.jsonl"
        self.metrics = MetricLog(self.log)
        self.ingest = Ingest(self.log, self.metrics)
        self.attempt(1)

    def attempt(self, number: int, *, fresh: bool = False) -> None:
        with self.log.write():
            self.log.insert_attempt(self.job, number, state="running", token="t", started=0.0, fresh=int(fresh))
        self.number = number

    def write(self, *lines: object) -> None:
        with open(self.path, "a") as file:
            for line in lines:
                file.write(line if isinstance(line, str) else json.dumps(line) + "\n")

    def read(self) -> list[tuple[int, str, float | None]]:
        self.ingest.all(self.job, self.number, "command", self.path)
        return [(p.step, p.name, p.value) for p in self.manager.metrics(self.job)]


@pytest.fixture
def reader(manager: Manager, tmp_path: Path) -> Reader:
    return Reader(manager, tmp_path)


def row(seq: int, step: int, value: float | None = 0.5, name: str = "a") -> dict[str, object]:
    return {"seq": seq, "time": 1.0, "step": step, "metrics": {name: value}}


def test_a_half_written_line_waits_for_its_other_half(reader: Reader) -> None:
    """Lost without it: one point in a thousand, always the newest."""
    text = json.dumps(row(1, 20))
    reader.write(row(0, 10), text[:9])
    assert reader.read() == [(10, "a", 0.5)]
    reader.write(text[9:] + "\n")
    assert reader.read() == [(10, "a", 0.5), (20, "a", 0.5)]


def test_junk_between_the_lines_is_passed_over(reader: Reader) -> None:
    """Lost without it: all curves of a command whose library prints into the same file."""
    reader.write(
        "hello\n", row(0, 1), '{"seq": "x"}\n', "[1]\n", "\x00\xff\n", '{"seq": 5, "step": 99999999999999999999}\n'
    )
    reader.write('{"seq": 6, "step": 2, "metrics": {"a": NaN, "b": null, "c": Infinity}}\n', row(7, 3))
    assert reader.read() == [(1, "a", 0.5), (2, "a", None), (2, "b", None), (2, "c", None), (3, "a", 0.5)]


def test_a_line_without_end_does_not_stop_the_rest(reader: Reader) -> None:
    reader.write("x" * (2 * CHUNK + 5) + "\n", row(0, 1))
    assert reader.read() == [(1, "a", 0.5)]


def test_a_file_cut_short_is_read_from_its_start_without_doubles(reader: Reader) -> None:
    """Lost without it: everything that a restarted command writes."""
    reader.write(row(0, 1), row(1, 2))
    reader.read()
    reader.path.write_text("")
    reader.write(row(0, 1))
    assert reader.read() == [(1, "a", 0.5), (2, "a", 0.5)]
    reader.write(row(1, 2), row(2, 3))
    assert reader.read() == [(1, "a", 0.5), (2, "a", 0.5), (3, "a", 0.5)]


def test_a_file_that_vanishes_leaves_what_was_read(reader: Reader) -> None:
    reader.write(row(0, 1))
    reader.read()
    reader.path.unlink()
    assert reader.read() == [(1, "a", 0.5)]


def test_rows_and_offset_go_together(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost without one transaction: lines that are skipped after a crash between the two."""
    reader.write(row(0, 1))

    def crash(*words: object, **more: object) -> None:
        raise RuntimeError("killed here")

    with monkeypatch.context() as patched:
        patched.setattr(reader.log, "update_attempt", crash)
        with pytest.raises(RuntimeError):
            reader.ingest.all(reader.job, 1, "command", reader.path)
    assert reader.manager.metrics(reader.job) == []
    assert reader.read() == [(1, "a", 0.5)]


def test_the_later_attempt_counts_where_two_speak_of_one_step(reader: Reader) -> None:
    """Lost without it: a curve that goes back and forth after a resume."""
    reader.write(row(0, 10, 1.0), row(1, 20, 2.0), row(2, 30, 3.0))
    reader.read()
    reader.attempt(2)
    reader.path = reader.path.with_name("second.jsonl")
    reader.write(row(0, 20, 2.5), row(1, 40, 4.5))
    assert reader.read() == [(10, "a", 1.0), (30, "a", 3.0), (20, "a", 2.5), (40, "a", 4.5)]
    rows = reader.manager.metrics(reader.job, after_row=1)
    assert [point.value for point in rows] == [2.0, 3.0, 2.5, 4.5], "a reader that goes on gets every row"
    assert [point.value for point in reader.manager.metrics(reader.job, limit=2)] == [1.0, 2.0]


def test_curves_come_as_arrays_by_attempt_and_by_what_a_line_names(reader: Reader) -> None:
    """Lost without it: the half second in which a long run's charts appear."""
    reader.write(
        row(0, 10, 1.0), {"seq": 1, "time": 2.0, "step": 20, "metrics": {"b": None, "a": 2.0}}, row(2, 30, 3.0)
    )
    reader.read()
    reader.attempt(2)
    reader.path = reader.path.with_name("second.jsonl")
    reader.write(row(0, 20, 2.5))
    reader.read()
    blocks = reader.manager.curves(reader.job)
    assert [(block.attempt, sorted(block.columns), list(block.steps)) for block in blocks] == [
        (1, ["a"], [10, 30]),
        (1, ["a", "b"], [20]),
        (2, ["a"], [20]),
    ]
    assert list(blocks[0].columns["a"]) == [1.0, 3.0] and math.isnan(blocks[1].columns["b"][0])
    assert list(blocks[1].times) == [2.0]
    assert [list(block.steps) for block in reader.manager.curves(reader.job, after_row=blocks[0].last_row)] == [[20]]


def test_an_attempt_that_starts_from_nothing_voids_the_curves_before_it(reader: Reader) -> None:
    """Lost without it: `retry --fresh` draws the failed run and the new one as one curve."""
    reader.write(row(0, 10, 1.0), row(1, 20, 2.0))
    reader.read()
    reader.attempt(2, fresh=True)
    assert len(reader.manager.metrics(reader.job)) == 2, "until the new one has said something"
    reader.path = reader.path.with_name("second.jsonl")
    reader.write(row(0, 5, 9.0))
    assert reader.read() == [(5, "a", 9.0)]


def test_what_is_void_is_no_newest_value_either(reader: Reader) -> None:
    """Lost without it: a run that is sorted by, and told with, the success of the one it took the place of."""
    reader.write(row(0, 10, 1.0), row(1, 20, 2.0), row(2, 20, 0.9, "success"))
    reader.read()
    reader.attempt(2, fresh=True)
    assert reader.manager.tail(reader.job, "success", 9) == [0.9], "until the new one has said something"
    reader.path = reader.path.with_name("second.jsonl")
    for seq in range(2):
        reader.write(row(seq, 5 + seq, 9.0 + seq))
        reader.read()
    assert reader.manager.latest(reader.job) == {"a": 10.0} and reader.manager.metric_names(reader.job) == ["a"]
    assert [reader.manager.tail(reader.job, name, 9) for name in ("a", "success")] == [[9.0, 10.0], []]
    reader.attempt(3)
    reader.path = reader.path.with_name("third.jsonl")
    reader.write(row(0, 7, 0.8, "success"))
    reader.read()
    assert reader.manager.latest(reader.job) == {"a": 10.0, "success": 0.8}, "one that goes on voids nothing"


def test_progress_and_events_come_from_the_lines(reader: Reader) -> None:
    reader.write(
        {"seq": 0, "event": "start", "kind": "x", "step_name": "epoch", "total_steps": 9, "resumed_step": 4, "time": 1},
        row(1, 5),
        {"seq": 2, "event": "checkpoint", "step": 5, "path": "step-5.pt", "time": 2.0},
    )
    reader.read()
    job = reader.manager.job(reader.job)
    assert (job.step, job.total_steps, job.step_name) == (5, 9, "epoch")
    assert job.attempts[0].resumed_step == 4
    events = reader.manager.events(reader.job)
    assert [(event.event, event.step) for event in events] == [("start", None), ("checkpoint", 5)]
    assert events[1].detail == {"path": "step-5.pt"}
    assert reader.manager.events(reader.job, after_row=events[0].row_id) == events[1:]
    assert reader.manager.latest(reader.job) == {"a": 0.5}
    assert reader.manager.metric_names(reader.job) == ["a"]


def test_what_finishes_beside_the_training_does_not_turn_its_progress_back(reader: Reader) -> None:
    """Lost: an evaluation of iteration 10 that ends at iteration 30 sets the job's share and end back to a third."""

    def step() -> int | None:
        reader.read()
        return reader.manager.job(reader.job).step

    reader.write({"seq": 0, "event": "start", "step": 0, "total_steps": 90}, row(1, 30))
    assert step() == 30
    reader.write(
        {"seq": 2, "event": "checkpoint", "step": 20, "path": "x"},
        {"seq": 3, "event": "eval", "step": 10, "phase": "done", "successes": 1, "episodes": 2},
        row(4, 10, name="eval/success_rate"),
        {"seq": 5, "event": "eval", "step": 20, "phase": "skipped", "by": 30},
        {"seq": 6, "event": "eval", "step": 20, "phase": "of a later version"},
    )
    assert step() == 30 and reader.manager.latest(reader.job) == {"a": 0.5, "eval/success_rate": 0.5}
    reader.write(row(7, 40), row(8, 20, name="eval/success_rate"))
    assert step() == 40
    reader.write({"seq": 9, "event": "eval", "step": 50, "phase": "start"})
    assert step() == 50, "of a job that only evaluates, these are the news"
    reader.attempt(2)
    reader.path = reader.path.with_name("second.jsonl")
    reader.write({"seq": 0, "event": "start", "step": 20, "resumed_step": 20})
    assert step() == 20, "a resumed attempt does begin further back"


def test_a_command_that_counts_from_nothing_again_is_believed(reader: Reader) -> None:
    reader.write(row(0, 90))
    reader.read()
    reader.write(row(1, 5))
    reader.read()
    assert reader.manager.job(reader.job).step == 5
