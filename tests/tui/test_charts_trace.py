"""The metrics of a job in memory: rows that come late, again, or without their neighbours."""

from __future__ import annotations

from array import array

from pidec_tui.manager.jobs import MetricBlock
from pidec_tui.trace import Trace


def block(steps: list[float], *, attempt: int = 1, **columns: list[float]) -> MetricBlock:
    times = [1000.0 * attempt + step for step in steps]
    values = {name: array("d", column) for name, column in columns.items()}
    return MetricBlock(attempt, 1, array("d", steps), array("d", times), values)


def points(trace: Trace, name: str) -> list[tuple[float, float]]:
    curve = trace.view().curves[name]
    assert curve.times is not None and len(curve.times) == len(curve.xs)
    return list(zip(curve.xs, curve.ys, strict=True))


def test_a_resumed_attempt_has_the_last_word_and_old_rows_behind_it_stay() -> None:
    """Lost: after a resume the curve runs back and forth over itself, or loses what was logged before."""
    trace = Trace(1)
    trace.take([block([10, 20, 30], a=[1, 2, 3])])
    trace.take([block([20, 25], attempt=2, a=[20, 25])])
    assert points(trace, "a") == [(10, 1), (20, 20), (25, 25), (30, 3)]
    times = trace.view().curves["a"].times
    assert times is not None and list(times) == [1010, 2020, 2025, 1030]


def test_an_evaluation_that_ends_late_goes_into_its_place() -> None:
    """Lost: a chart that needs ascending steps draws a zigzag."""
    trace = Trace(1)
    trace.take([block([10, 20, 30, 40], a=[1, 2, 3, 4]), block([10, 30], e=[0.1, 0.3])])
    trace.take([block([20], e=[0.2])])
    assert points(trace, "e") == [(10, 0.1), (20, 0.2), (30, 0.3)]
    assert len(points(trace, "a")) == 4


def test_metrics_that_part_company_keep_their_own_steps() -> None:
    """Lost: values beside the wrong steps, once a trainer leaves a metric out of a line."""
    trace = Trace(1)
    trace.take([block([1, 2], a=[1, 2], b=[10, 20], c=[5, 6])])
    trace.take([block([3], a=[3], b=[30])])
    trace.take([block([4], a=[4], b=[40], c=[8], d=[0])])
    assert points(trace, "a") == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert points(trace, "b") == [(1, 10), (2, 20), (3, 30), (4, 40)]
    assert points(trace, "c") == [(1, 5), (2, 6), (4, 8)] and points(trace, "d") == [(4, 0)]


def test_curves_that_got_nothing_new_are_the_same_objects() -> None:
    """Lost: every chart is drawn again, over ssh, because one of them got a point."""
    trace = Trace(1)
    trace.take([block([1, 2], a=[1, 2]), block([1], e=[0.5])])
    before = trace.view().curves
    trace.take([block([3], a=[3])])
    after = trace.view().curves
    assert after["e"] is before["e"] and not after["a"].same(before["a"])
    assert list(before["a"].xs) == [1, 2], "what was handed out does not grow"
