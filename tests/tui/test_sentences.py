"""What the dashboard says in words: states, times, which charts a job gets."""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest

from pidec_tui.manager.jobs import Attempt, Job, JobEvent, JobState, MetricBlock
from pidec_tui.manager.overview import JobLine
from pidec_tui.plans import plans
from pidec_tui.screens.detail import _told
from pidec_tui.sentences import ends, jobs_ahead, progress, sentence
from pidec_tui.trace import RATE, Trace
from pidec_tui.words import bar, duration, moment, size, wilson
from tests.tui.scene import NOW

JOB = Job(
    42,
    "diffusion",
    "peg",
    JobState.running,
    "gpu",
    {},
    None,
    (),
    3.0,
    "",
    "",
    NOW - 9000,
    NOW - 7200,
    None,
    250,
    1000,
    "iteration",
    attempts=(Attempt(1, "running", NOW - 7200),),
)


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (JOB, "Running for 2 h 00, ends about 14:13."),
        (replace(JOB, attempts=(*JOB.attempts, Attempt(2, "running", NOW - 300))), "Running for 5 min, attempt 2"),
        (replace(JOB, state=JobState.queued, waiting_for="job 41"), "Waits for job 41."),
        (replace(JOB, state=JobState.queued), "starts as soon as the gpu lane is free. Jobs before it: 2."),
        (replace(JOB, state=JobState.held, reason="job 41 failed"), "Held: job 41 failed."),
        (
            replace(JOB, state=JobState.failed, ended=NOW - 3600, reason="CUDA out of memory."),
            "Failed 13:13 after 1 h 00: CUDA out of memory.",
        ),
        (replace(JOB, state=JobState.stopping), "Stopping: the trainer saves its state."),
        (replace(JOB, state=JobState.succeeded, ended=NOW), "Succeeded 14:13 after 2 h 00."),
    ],
)
def test_a_state_is_a_sentence_with_its_reason(job: Job, says: str) -> None:
    """Lost: why a job does not run."""
    assert says in sentence(job, JobLine(JOB, 100, ends=NOW), NOW, ahead=2, key=str)


def test_a_run_whose_steps_are_done_says_what_is_left() -> None:
    """Lost: why a run at 100 % still holds the GPU."""
    said = sentence(JOB, JobLine(JOB, health="finishes"), NOW, key=str)
    assert said.endswith("all its iterations are done: the last evaluation and checkpoint are left.")
    other = replace(JOB, kind="command", step_name="file")
    assert sentence(other, JobLine(other, health="finishes"), NOW, key=str).endswith("all its files are done.")


def test_only_queued_jobs_of_the_same_lane_are_ahead() -> None:
    """Lost: a job on the idle CPU lane that claims to wait behind GPU jobs."""
    me = replace(JOB, state=JobState.queued)
    others = [
        replace(me, id=1, position=1.0),
        replace(me, id=2, position=2.0, lane="cpu"),
        replace(me, id=3, position=1.5, state=JobState.held),
        replace(me, id=4, position=9.0),
    ]
    assert jobs_ahead(me, others) == 1


def test_progress_and_ends() -> None:
    """Lost: 100% of a run that is not over, or an ETA for one that is."""
    assert progress(JOB) == "25%"
    assert progress(replace(JOB, step=999)) == "99%"
    assert progress(replace(JOB, total_steps=None)) == "250"
    assert progress(replace(JOB, step=None)) == ""
    assert ends(JOB, JobLine(JOB, 100, ends=NOW + 86400), NOW) == "~Tue 14:13"
    assert ends(replace(JOB, state=JobState.stopping), JobLine(JOB, 1, ends=NOW), NOW) == ""
    assert ends(replace(JOB, state=JobState.failed, ended=NOW - 60), JobLine(JOB, 1, ends=NOW), NOW) == "14:12"


def test_times_and_sizes() -> None:
    """Lost: figures that nobody can read at a glance."""
    assert [duration(s) for s in (3, 125, 3900, 270_000)] == ["3 s", "2 min", "1 h 05", "3 d 3 h"]
    assert [moment(NOW - s, NOW) for s in (60, 86_400, 30 * 86_400)] == ["14:12", "Sun 14:13", "22 Aug"]
    assert [size(n) for n in (512, 53_400_000, 18_200_000_000)] == ["512 B", "53.4 MB", "18.2 GB"]
    assert bar(0.5, 10) == ("━━━━━", "─────") and bar(7.0, 4) == ("━━━━", "")


@pytest.mark.parametrize(
    ("wins", "n", "low", "high"), [(0, 20, 0.0, 0.1611), (12, 40, 0.1807, 0.4543), (100, 100, 0.9630, 1.0)]
)
def test_wilson_interval(wins: int, n: int, low: float, high: float) -> None:
    """Lost: an interval of zero width at 0 of 20. Reference: statsmodels' proportion_confint(method="wilson")."""
    assert wilson(wins, n) == pytest.approx((low, high), abs=1e-4)


def test_an_interval_of_a_script_that_counts_otherwise_is_no_crash() -> None:
    """Lost: how all runs do, and the report of one, to an evaluation of one's own script that tells -1 for none."""
    assert wilson(-1, 20) == wilson(0, 20) and wilson(25, 20) == wilson(20, 20)


def rows(attempt: int, *at: tuple[int, float], name: str = "train/loss") -> list[MetricBlock]:
    steps, times = (array("d", column) for column in zip(*at, strict=True))
    return [MetricBlock(attempt, 1, steps, times, {name: array("d", [1.0] * len(at))})]


def test_rate_and_end_come_from_steps_and_times() -> None:
    """Lost: rate and ETA of every job that logs no throughput, such as demos or an own script."""
    trace = Trace(42)
    trace.take(rows(1, (100, NOW), (200, NOW + 60), (300, NOW + 120)))
    view = trace.view()
    assert list(view.curves[RATE].ys) == [100.0, 100.0]


def test_a_resumed_run_is_not_slowed_by_the_night_in_between() -> None:
    """Lost: after an interruption the rate dips to nothing and the ETA is days away."""
    trace = Trace(42)
    trace.take(rows(1, (100, NOW), (200, NOW + 60)))
    trace.take(rows(2, (200, NOW + 40_000), (300, NOW + 40_060)))
    assert list(trace.view().curves[RATE].ys) == [100.0, 100.0]


def test_an_evaluation_that_ends_late_does_not_turn_rate_and_end_back() -> None:
    """Lost: while evaluations run beside the training, a rate below zero and an ETA of never."""
    trace = Trace(42)
    trace.take(rows(1, (100, NOW), (200, NOW + 60), (300, NOW + 120)))
    trace.take(rows(1, (100, NOW + 125), name="eval/success_rate"))
    assert list(trace.view().curves[RATE].ys) == [100.0, 100.0]
    trace.take(rows(1, (400, NOW + 180)))
    view = trace.view()
    assert list(view.curves[RATE].ys) == [100.0, 100.0, 100.0]
    assert list(view.curves["eval/success_rate"].xs) == [100]


def test_which_charts_a_job_gets() -> None:
    """Lost: empty charts beside curves that were logged."""
    train = plans(["train/loss", "train/lr", "throughput/iters_per_min", "eval/success_rate"], "iteration")
    assert [plan.title for plan in train] == ["iterations/min", "loss", "eval success"]
    assert train[1].axes.log_y and train[2].axes.percent and train[2].markers
    names = ["train/qf_loss", "train/actor_loss", "train/success_rate", "eval/success_rate", "eval/success_at_end"]
    online = plans([*names, "throughput/iters_per_min", "throughput/env_steps_per_min"], "decision step")
    assert [plan.title for plan in online] == ["decision steps/min", "qf loss", "success"]
    assert online[2].metrics == (("train/success_rate", "train"), ("eval/success_rate", "eval"))
    assert "eval/success_rate" in online[2].markers and "train/success_rate" not in online[2].markers
    assert plans(["train/success_rate"], "decision step")[2].title == "training success"
    assert plans(["train/loss", "train/lr"], "iteration", turn=1)[1].title == "lr"
    demos = plans(["demos/success_rate", RATE], "demo")
    assert [plan.title for plan in demos[:2]] == ["demos/min", "demos/success_rate"]
    own = plans(["kl", "reward", RATE], "epoch")
    assert [plan.title for plan in own] == ["epochs/min", "kl", "reward"]
    both = plans(["eval/success_rate", "eval/success_at_end"], "iteration")
    assert [label for _, label in both[2].metrics] == ["once", "at end"]


@pytest.mark.parametrize(
    ("event", "detail", "says"),
    [
        (
            "start",
            {"kind": "diffusion", "step_name": "iteration", "total_steps": 2400, "config": {"lr": 1}},
            "2,400 iterations",
        ),
        ("start", {"step_name": "demo", "total_steps": 100, "resumed_step": 40}, "100 demos, from step 40"),
        ("eval", {"phase": "start"}, "step 7: begins"),
        ("eval", {"phase": "done", "successes": 12, "episodes": 40, "seconds": 9.0}, "step 7: 12 of 40 succeeded"),
        ("eval", {"phase": "skipped"}, "step 7: left out, a newer checkpoint was evaluated instead"),
        ("eval", {"phase": "skipped", "by": 9000}, "step 7: left out, step 9,000 was evaluated instead"),
        ("eval", {"phase": "failed", "message": "a simulator died"}, "step 7: failed: a simulator died"),
        ("eval", {"phase": "of a later version"}, "step 7, phase of a later version"),
        ("checkpoint", {"path": "/x.pt"}, "step 7"),
        ("warning", {"message": "loss is not finite"}, "loss is not finite"),
        ("end", {"state": "succeeded", "reason": ""}, "step 7, state succeeded"),
    ],
)
def test_events_are_told_in_words(event: str, detail: dict[str, object], says: str) -> None:
    """Lost: what happened in the night, in a heap of JSON."""
    assert _told(JobEvent(1, 1, 1, 7, NOW, event, detail)) == says
