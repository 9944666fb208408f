"""When a run needs somebody: the rules, and the runner that keeps to them."""

from __future__ import annotations

import math
import random
import statistics
import time
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pidec_tui.advice.facts import Facts
from pidec_tui.advice.slower import slower
from pidec_tui.manager import alerts
from pidec_tui.manager.alerts import findings, stalled
from pidec_tui.manager.health import Checkup
from pidec_tui.manager.joblog import MOST
from pidec_tui.manager.jobs import Job, JobState, MetricBlock
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.overview import line_of
from pidec_tui.manager.pulse import Pulse
from pidec_tui.manager.settings import Settings
from tests.manager.jobs_support import QUICK, command, kill_runner, python_line, until, wait_for

NOW = 1_790_000_000.0
USUAL = Settings()
JOB = Job(
    1, "diffusion", "peg", JobState.running, "gpu", {}, None, (), 0, "", "", 0, NOW, None, 0, 1_000_000, "iteration"
)


def pulse(name: str, values: Sequence[float], *, every: float = 60, step: int = 1000, of: Pulse | None = None) -> Pulse:
    """One curve, a value every so many seconds and steps; more of it where there is a pulse already."""
    made = of or Pulse()
    begin = made.last_row
    places = range(begin, begin + len(values))
    steps, times = (array("d", [size * place for place in places]) for size in (step, every))
    times = array("d", [NOW + time for time in times])
    made.take([MetricBlock(1, begin + len(values), steps, times, {name: array("d", values)})])
    return made


def kinds(made: Pulse, settings: Settings = USUAL, known: set[alerts.Key] | None = None) -> list[str]:
    return [kind for kind, _ in findings(made, JOB, settings, known or set())]


def test_stalled_is_long_by_the_runs_own_rhythm() -> None:
    """Lost: a night in which nothing was learned; or an alarm every ten minutes in a run that logs every quarter."""
    quick, slow = pulse("train/loss", [1.0] * 20, every=10), pulse("train/loss", [1.0] * 20, every=900)
    last = NOW + 19 * 10
    assert stalled(quick, USUAL, last + 290) == ""
    assert stalled(quick, USUAL, last + 310) == "no metrics for 5 min; they came every 10 s"
    assert stalled(quick, USUAL, last + 310, evaluating=True) == "", "it waits for its evaluation"
    assert stalled(quick, USUAL, last + 3700, evaluating=True) != ""
    assert stalled(slow, USUAL, NOW + 19 * 900 + 8900) == "" != stalled(slow, USUAL, NOW + 19 * 900 + 9100)
    assert stalled(pulse("train/loss", [1.0] * 3), USUAL, NOW + 1e6) == "", "three rows are no rhythm"
    assert stalled(quick, Settings(stalled_minutes=0), NOW + 1e6) == ""


def test_a_long_gap_that_was_there_before_is_part_of_the_rhythm() -> None:
    """Lost: an alarm at every evaluation of a run that waits for them."""
    made = pulse("train/loss", [1.0] * 20, every=10)
    late = array("d", [30_000.0]), array("d", [NOW + 190 + 400])
    made.take([MetricBlock(1, 30, *late, {"train/loss": array("d", [1.0])})])
    assert stalled(made, USUAL, NOW + 590 + 1100) == "" != stalled(made, USUAL, NOW + 590 + 1300)


def test_slow_is_below_its_own_median_for_minutes_and_over_only_when_it_is_well_again() -> None:
    """Lost: another job on the card since midnight; or an alarm at each uneven minute."""
    rate = "throughput/iters_per_min"
    assert kinds(pulse(rate, [900.0] * 20 + [500.0] * 4)) == [], "four minutes may be anything"
    made = pulse(rate, [900.0] * 20 + [500.0] * 6)
    ((key, text),) = findings(made, JOB, USUAL).items()
    assert key == ("slow", "") and text.startswith("500 steps/min since") and "56% of this run's median, 900" in text
    assert kinds(pulse(rate, [900.0] * 20 + [560.0] * 6)) == []
    pulse(rate, [600.0], of=made)
    assert kinds(made) == [] and kinds(made, known={key}) == ["slow"], "67 % of it is not well yet"
    pulse(rate, [800.0], of=made)
    assert kinds(made, known={key}) == []
    assert kinds(pulse(rate, [500.0] * 30)) == []


def test_a_run_that_is_slow_for_most_of_its_time_is_still_slow() -> None:
    """Lost: the alert, once the other process has sat on the card for longer than the run had it for itself."""
    made = pulse("throughput/iters_per_min", [900.0] * 60 + [450.0] * 120)
    assert made.median == 450.0 and made.usual == (900.0, 90)
    ((key, text),) = findings(made, JOB, USUAL).items()
    assert key == ("slow", "") and "50% of the median of its first 90 rows, 900" in text
    checkup = Checkup(1)
    health = checkup.health(made, JOB, USUAL, NOW + 180 * 60)
    line = line_of(JOB, made, checkup, USUAL, NOW + 180 * 60)
    assert (health.word, line.health, line.against_median) == ("slow", "slow", 0.5), "all who look agree"
    told = slower(Facts(job=JOB, now=NOW + 180 * 60, pulse=made))
    assert told is not None and told.text.startswith("50% fewer iterations/min"), "the advice, too"
    warm = pulse("throughput/iters_per_min", [900.0] * 15 + [450.0] * 120)
    assert kinds(warm) == [] and warm.usual == (450.0, 135), "a short beginning is no usual"
    even = pulse("throughput/iters_per_min", [920.0] * 60 + [900.0] * 120)
    assert even.usual == (900.0, 180), "nor is one that is hardly faster"
    assert pulse("throughput/iters_per_min", [900.0] * 3).usual is None


def test_the_median_of_a_long_run_is_found_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: one percent of a core, in a dashboard over a day's run that logs a row a second."""
    rate, sorts = "throughput/iters_per_min", 0

    def counted(values: Sequence[float]) -> float:
        nonlocal sorts
        sorts += 1
        return median(values)

    median = statistics.median
    monkeypatch.setattr(statistics, "median", counted)
    made = pulse(rate, [900.0] * 20_000, every=1)
    assert made.usual == (900.0, 20_000)
    before = sorts
    for _ in range(100):
        pulse(rate, [450.0], every=1, of=made)
        assert made.usual == (900.0, 20_000) and made.median == 900.0
    assert sorts == before
    pulse(rate, [450.0], every=1, of=made)
    assert made.usual == (900.0, 20_101) and sorts > before
    short = pulse(rate, [900.0] * 9)
    pulse(rate, [450.0] * 9, of=short)
    assert short.median == 675.0, "of few, each counts at once"


def test_the_end_is_that_of_the_pace_it_has_now() -> None:
    """Lost: a night's plan, for an end that is 40 minutes too early since another process sits on the GPU."""
    rate = "throughput/iters_per_min"
    made = pulse(rate, [1000.0] * 240)
    assert made.ends(JOB) == pytest.approx(NOW + 239 * 60 + (1_000_000 - 239_000) / 1000 * 60)
    steps = array("d", [239_000 + 500 * (row + 1) for row in range(80)])  # a quarter of its time
    times = array("d", [NOW + 60 * (240 + row) for row in range(80)])
    made.take([MetricBlock(1, 320, steps, times, {rate: array("d", [500.0] * 80)})])
    assert made.ends(JOB) == pytest.approx(NOW + 319 * 60 + (1_000_000 - 279_000) / 500 * 60, abs=1)
    assert pulse(rate, [1000.0] * 10).ends(JOB) == pytest.approx(NOW + 9 * 60 + 991 * 60)


def test_a_run_that_logs_every_half_hour_has_an_end() -> None:
    """Lost: the end of a job of one's own for its first two hours, as no two of its rows are of the last 20 minutes."""
    for rows in range(2, 8):
        made = pulse("loss", [1.0] * rows, every=1800, step=100_000)
        assert made.ends(JOB) == pytest.approx(NOW + 10 * 1800), rows


def test_the_end_of_a_decorator_is_not_that_of_its_acting() -> None:
    """Lost: the evening, for an end in five hours of a run that needs ten, as long as it is young."""
    rate = "throughput/iters_per_min"
    made = pulse(rate, [12_000.0] * 5, every=10, step=2000)
    steps, times = [8000.0 + 270 * row for row in range(1, 27)], [NOW + 40 + 10 * row for row in range(1, 27)]
    learns = {rate: array("d", [1620.0] * 26), "train/qf_loss": array("d", [1.0] * 26)}
    made.take([MetricBlock(1, 31, array("d", steps), array("d", times), learns)])
    assert made.ends(JOB) == pytest.approx(times[-1] + (1_000_000 - steps[-1]) / 27)


def test_a_decorator_that_begins_to_learn_is_not_slow() -> None:
    """Lost: an alarm in every decorator run, when its updates begin."""
    made = pulse("throughput/iters_per_min", [9000.0] * 20)
    steps, times = (array("d", [size * n for n in range(20, 40)]) for size in (1000, 60))
    columns = {"throughput/iters_per_min": array("d", [2000.0] * 20), "train/qf_loss": array("d", [1.0] * 20)}
    made.take([MetricBlock(1, 40, steps, array("d", [NOW + time for time in times]), columns)])
    assert kinds(made) == [] and made.median == 2000.0


def test_nan_is_told_once_for_each_time_that_it_begins() -> None:
    """Lost: ten hours of a diverged run."""
    made = pulse("train/loss", [0.5, math.nan, math.nan])
    assert findings(made, JOB, USUAL) == {("nan", "train/loss"): "train/loss is not a number since step 1,000"}
    pulse("train/loss", [0.4], of=made)
    assert kinds(made) == []
    assert kinds(pulse("eval/return", [1.0, math.nan])) == [], "an evaluation may have nothing to say"


def noisy(values: Sequence[float], share: float) -> list[float]:
    draw = random.Random(1)
    return [value * (1 + share * draw.gauss(0, 1)) for value in values]


def test_a_flat_loss_is_measured_against_its_noise() -> None:
    """Lost: the hint to stop; or the advice to stop a run that still learns."""
    flat = noisy([0.03] * 300, 0.005)
    ((key, text),) = findings(pulse("train/loss", flat), JOB, USUAL).items()
    assert key == ("plateau", "train/loss") and "flat for 99,000 steps: 0.03" in text
    falling = noisy([0.03 * (300 / (n + 300)) ** 0.3 for n in range(300)], 0.005)
    assert kinds(pulse("train/loss", falling)) == []
    assert kinds(pulse("train/loss", noisy([0.03] * 300, 0.2))) == [], "a fall that matters could hide in this noise"
    assert kinds(pulse("train/loss", flat, every=30)) == [], "fifty minutes are not long"
    assert kinds(pulse("train/loss", flat, step=3300)) == [], "near its end a run is flat by its schedule"
    assert kinds(pulse("train/qf_loss", flat)) == [], "critics chase a target that moves"
    assert kinds(pulse("train/loss", flat), Settings(plateau_minutes=0)) == []


def test_a_flat_loss_is_told_once_whatever_its_noise() -> None:
    """Lost: the attention of who is told ten times in half an hour that the same loss is flat."""
    draw, made, known = random.Random(3), Pulse(), set[alerts.Key]()
    short, told = Settings(plateau_minutes=1), 0
    for _ in range(900):
        pulse("train/loss", [0.05 + 0.001 * draw.random()], every=1, step=1, of=made)
        now = set(findings(made, JOB, short, known))
        told, known = told + len(now - known), now
    assert told == 1
    pulse("train/loss", [0.045 + 0.001 * draw.random() for _ in range(150)], every=1, step=1, of=made)
    assert findings(made, JOB, short, known) == {}, "a tenth less is not flat, noise or not"


def test_a_run_that_has_stalled_has_neither_rate_nor_end() -> None:
    """Lost: that nobody waits until 21:56 for a run that does nothing."""
    made = pulse("throughput/iters_per_min", [1000.0] * 20, every=10)
    checkup = Checkup(1)
    well, silent = (line_of(JOB, made, checkup, USUAL, NOW + 190 + late) for late in (10, 1300))
    assert (well.health, well.rate) == ("healthy", 1000.0) and well.ends is not None
    assert (silent.health, silent.rate, silent.against_median, silent.ends) == ("stalled", None, None, None)


def test_a_run_whose_steps_are_done_finishes() -> None:
    """Lost: an end that lay minutes ago, while the last evaluation goes on."""
    made = pulse("throughput/iters_per_min", [1000.0] * 20, every=10)
    done = replace(JOB, step=JOB.total_steps)
    line = line_of(done, made, Checkup(1), USUAL, NOW + 300)
    assert (line.health, line.rate, line.ends) == ("finishes", None, None)
    assert line_of(done, made, Checkup(1), USUAL, NOW + 1900).health == "stalled"


def test_the_largest_values_that_are_taken_in_can_be_judged() -> None:
    """Lost: every runner of a workspace in which a command's loss has exploded: each one dies of the sum of squares."""
    exploded = [MOST * (-1) ** (place // 3) for place in range(300)]
    assert kinds(pulse("train/loss", exploded)) == []


def test_success_is_flat_when_five_evaluations_have_not_beaten_the_best() -> None:
    """Lost: the night that went on for nothing."""
    name = "eval/success_rate"
    ((key, text),) = findings(pulse(name, [0.2, 0.4, 0.6, 0.5, 0.6, 0.55, 0.6, 0.5], every=900), JOB, USUAL).items()
    assert key == ("plateau", name) and text.startswith("success flat for 5 evaluations: 60% at step 2,000")
    assert kinds(pulse(name, [0.2, 0.4, 0.6, 0.5, 0.6, 0.55, 0.62, 0.5], every=900)) == []
    assert kinds(pulse(name, [0.2, 0.4, 0.97, 0.95, 0.96, 0.95, 0.97, 0.9], every=900)) == [], "nothing is left to gain"
    assert kinds(pulse(name, [0.6, 0.5, 0.5, 0.5, 0.5, 0.5], every=900)) == []


SCRIPT = """
import json, os, time
from pathlib import Path
path = Path(os.environ["PIDEC_RUN_DIR"]) / "metrics.jsonl"
for seq in range(9):
    with open(path, "a") as file:
        value = 0.5 if seq < 8 else None
        file.write(json.dumps({"seq": seq, "time": time.time(), "step": seq, "metrics": {"train/loss": value}}) + "\\n")
    time.sleep(0.05)
while not Path("go").exists():
    time.sleep(0.05)
"""


def test_the_runner_tells_each_alert_once_also_after_it_was_killed(manager: Manager, tmp_path: Path) -> None:
    """Lost: a phone that rings all night, or not at all."""
    (tmp_path / "script.py").write_text(SCRIPT)
    told = tmp_path / "told"
    hook = f'echo "$PIDEC_ALERT $PIDEC_JOB_ID $PIDEC_JOB_NAME: $PIDEC_ALERT_MESSAGE" >> {told}'
    (manager.workspace.jobs / "settings.toml").write_text(
        f"{QUICK}on_alert = '{hook}'\nstalled_minutes = 0.01\ndisk_low_gib = 1e9\n"
    )
    job = command(manager, python_line(tmp_path / "script.py"), name="peg", cwd=tmp_path)
    manager.ensure_runner()

    def raised() -> list[str]:
        return sorted(alert.kind for alert in manager.alerts())

    until(lambda: raised() == ["disk", "nan", "stalled"], what="three alerts")
    until(lambda: told.exists() and len(told.read_text().splitlines()) == 3, what="three calls")
    assert f"nan {job.id} peg: train/loss is not a number since step 8\n" in told.read_text()
    kill_runner(manager)
    manager.ensure_runner()
    time.sleep(1)  # a few looks of the new one
    (tmp_path / "go").touch()
    wait_for(manager, job.id, JobState.succeeded)
    until(lambda: "done" in raised(), what="the last alert")
    assert raised() == ["disk", "done", "nan", "stalled"]
    assert len(told.read_text().splitlines()) == 3, "on_end tells that it is over"
    (event,) = [event for event in manager.events(job.id) if event.detail.get("kind") == "done"]
    assert event.detail["message"].startswith("succeeded after ")
    before = [(alert.job_id, alert.kind, alert.time, alert.message) for alert in manager.alerts()]
    manager.repair()
    assert [(alert.job_id, alert.kind, alert.time, alert.message) for alert in manager.alerts()] == before


@pytest.mark.parametrize(("line", "kind"), [("exit 3", "failed"), ("kill -9 $$", "held")])
def test_a_bad_end_is_an_alert_with_its_reason_and_a_cancelled_job_none(manager: Manager, line: str, kind: str) -> None:
    """Lost: a queue that stood still since midnight."""
    job = command(manager, line)
    other = command(manager, "true", held=True)
    manager.cancel(other.id)
    manager.ensure_runner()
    until(lambda: manager.alerts(), what="the alert")
    (alert,) = manager.alerts()
    assert (alert.job_id, alert.kind) == (job.id, kind)
    assert alert.message == manager.job(job.id).reason
    assert manager.alerts(after_row=alert.row_id) == [] and manager.last_event() == alert.row_id
