"""Sentences on why a run is as fast as it is: from measured figures only, with their evidence, the heaviest first."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pidec_tui.advice import Advice, Earlier, Facts, advise
from pidec_tui.advising import Adviser
from pidec_tui.charts.series import Curve
from pidec_tui.manager.jobs import Attempt, Job, JobEvent, JobState, MetricBlock
from pidec_tui.manager.machinelog import GPU_COLUMNS, HOST, Device, MachineBlock, Tenancy, Tenant
from pidec_tui.manager.metriclog import MetricLog
from pidec_tui.manager.overview import Overview
from pidec_tui.manager.pulse import Pulse
from pidec_tui.manager.settings import Settings
from pidec_tui.trace import Trace
from tests.tui.scene import NOW, Scene

RATE, WAITED = "throughput/iters_per_min", "time/eval_wait_ratio"
BEGAN = NOW - 7200
CONFIG = {"env_id": "Peg", "batch_size": 1024, "eval_freq": 1000, "save_freq": 1000, "engine": "auto", "device": "cuda"}
JOB = Job(
    42, "diffusion", "peg", JobState.running, "gpu", CONFIG, None, (), 3.0, "", "", BEGAN, BEGAN, None, 40_000,
    1_000_000, "iteration", attempts=(Attempt(1, "running", BEGAN, gpu="GPU-a"),),
)  # fmt: skip
OURS = Tenant(100, "python", "me", 6.0, 42)
THEIRS = Tenant(4312, "python", "ann", 18.2)


def run(rates: Sequence[float], *, every: float = 60, job: Job = JOB, **columns: Sequence[float]) -> Facts:
    """A run that logs these rates, the last one now, and columns (their names with __ for /) beside them."""
    times = array("d", [NOW - every * (len(rates) - 1 - i) for i in range(len(rates))])
    steps = array("d", [1000.0 * (i + 1) for i in range(len(rates))])
    logged = {RATE: array("d", rates), **{name.replace("__", "/"): array("d", ys) for name, ys in columns.items()}}
    pulse = Pulse()
    pulse.take([MetricBlock(1, len(rates), steps, times, logged)])
    curves = {name: Curve(name, steps, ys, times=times) for name, ys in logged.items()}
    job = replace(job, step=int(steps[-1]), attempts=(replace(job.attempts[0], started=times[0] - every),))
    return Facts(job, NOW, pulse, curves, cores=16)


def card(before: dict[str, float], since: float | None = None, after: dict[str, float] | None = None) -> MachineBlock:
    """Two hours of samples of a GPU, five seconds apart: `before`, and from `since` on `after`."""
    usual = {"utilization": 97.0, "memory": 6.0, "power": 400.0, "power_limit": 450.0, "clock": 2500.0}
    usual |= {"temperature": 60.0, "throttle": 0.0, **before}
    times = array("d", [NOW - 7200 + 5 * i for i in range(1441)])
    later = {**usual, **(after or {})}
    columns = {
        name: array("d", [(later if since is not None and time > since else usual)[name] for time in times])
        for name in GPU_COLUMNS
    }
    return MachineBlock(Device("GPU-a", "Fake", 24.0), times, columns, [Tenancy(NOW - 7200, (OURS,))])


def host(before: float, since: float | None = None, after: float = 0.0) -> MachineBlock:
    times = array("d", [NOW - 7200 + 5 * i for i in range(1441)])
    cpu = array("d", [after if since is not None and time > since else before for time in times])
    return MachineBlock(Device(HOST, "box", 64.0, 16), times, {"cpu": cpu, "memory": array("d", [9.0] * 1441)})


def only(facts: Facts, key: str) -> Advice:
    found = [advice for advice in advise(facts) if advice.key == key]
    assert len(found) == 1, [advice.text for advice in advise(facts)]
    assert found[0].evidence, "a sentence without its figures"
    return found[0]


def keys(facts: Facts) -> list[str]:
    return [advice.key for advice in advise(facts)]


# --- slower ----------------------------------------------------------------------------------------------------------

FALL = [950.0] * 60 + [570.0] * 10  # since ten minutes
SINCE = NOW - 600


def test_slower_names_who_joined_the_gpu_since_when_and_by_how_much() -> None:
    """Lost: that somebody else's process takes 40 % of a run's time, and whom to ask."""
    gpu = card({}, SINCE, {"utilization": 98.0})
    gpu.tenancies.append(Tenancy(SINCE + 8, (OURS, THEIRS)))
    advice = only(replace(run(FALL), gpu=gpu, host=host(30)), "slower")
    assert advice.text == (
        "GPU 98%, but 40% fewer iterations/min than this run's median since 14:03: "
        "another compute process (pid 4312 python, user ann, 18.2 GiB) joined the GPU."
    )
    assert advice.weight == pytest.approx(0.4) and "median of the first 70 rows is 950" in advice.evidence[0]
    assert advise(replace(run(FALL), gpu=gpu))[0] == advice, "the heaviest comes first"


def test_a_run_that_has_been_slow_for_longer_than_not_is_still_slower_than_it_was() -> None:
    """Lost: the sentence, as soon as the run's own median has got used to it."""
    advice = only(run([950.0] * 40 + [570.0] * 110), "slower")
    assert "40% fewer iterations/min than this run's median since 12:23" in advice.text
    assert "the median of the first 75 rows is 950" in advice.evidence[0]
    assert "slower" not in keys(run([950.0] * 4 + [570.0] * 110)), "a warm-up is no measure"


def test_somebody_who_was_there_all_the_time_or_is_our_own_is_not_blamed() -> None:
    """Lost: a colleague's goodwill; or a search for a process that is the run itself."""
    sat = card({})
    sat.tenancies = [Tenancy(NOW - 7200, (OURS, THEIRS))]
    own = card({})
    own.tenancies.append(Tenancy(SINCE, (OURS, replace(OURS, pid=101))))
    left = card({})
    left.tenancies += [Tenancy(SINCE, (OURS, THEIRS)), Tenancy(SINCE + 60, (OURS,))]
    for gpu in (sat, own, left):
        assert "process" not in only(replace(run(FALL), gpu=gpu, host=host(30)), "slower").text


def test_in_a_container_a_process_more_is_told_by_their_number() -> None:
    """Lost: all of it on a rented pod, where NVML tells no process ids that can be found."""
    unknown = Tenant(None, "", "", 6.0)
    gpu = card({})
    gpu.tenancies = [Tenancy(NOW - 7200, (unknown,)), Tenancy(SINCE, (unknown, unknown))]
    assert "(outside this container, 6.0 GiB) joined" in only(replace(run(FALL), gpu=gpu), "slower").text


def test_slower_by_throttled_clocks_says_what_holds_them_down() -> None:
    """Lost: a fan that has stopped."""
    gpu = card({}, SINCE, {"clock": 1400.0, "throttle": 0x60, "temperature": 91.0})
    advice = only(replace(run(FALL), gpu=gpu, host=host(30)), "slower")
    assert advice.text.endswith("the GPU's clock fell from 2,500 to 1,400 MHz, throttled by heat.")
    assert "temperature since then 91 °C" in advice.evidence


@pytest.mark.parametrize(
    ("cpu", "says"),
    [
        (host(40, SINCE, 97), "the CPU is full (97% of 16 cores)."),
        (host(96, SINCE, 97), "look at what the run itself does."),
        (host(30), "neither GPU nor CPU is full: look at the disk"),
        (None, "since 14:03."),
    ],
)
def test_slower_by_the_cpu_only_where_it_was_not_full_before(cpu: MachineBlock | None, says: str) -> None:
    """Lost: trust, in a sentence that names a CPU that was always full, or was never measured."""
    assert says in only(replace(run(FALL), host=cpu), "slower").text


def event(name: str, time: float, step: int | None = None, **detail: Any) -> JobEvent:
    return JobEvent(1, 1, 1, step, time, name, detail)


def test_its_own_evaluation_comes_before_all_other_causes() -> None:
    """Lost: "something else may be using it" about the run's own evaluation, or for ever after it has failed."""
    begun = event("eval", SINCE, 10, phase="start")
    facts = replace(run(FALL), events=[begun], host=host(40, SINCE, 97))
    assert "its own evaluation runs beside it" in only(facts, "slower").text
    over = [begun, event("eval", SINCE + 5, 10, phase="failed", message="no")]
    assert "its own" not in only(replace(facts, events=over), "slower").text
    assert replace(facts, events=[begun, event("eval", NOW, 10, phase="of a later version")]).evaluations() == [
        (SINCE, NOW)
    ]


@pytest.mark.parametrize(
    "rates",
    [
        [950.0] * 60,
        [950.0] * 60 + [500.0] * 2,
        [950.0] * 60 + [750.0] * 10,
        [500.0] * 10,
        [950.0, 950.0, 500.0, 500.0, 500.0],
    ],
    ids=["even", "two rows", "a fifth", "always", "too short"],
)
def test_an_uneven_run_is_not_called_slow(rates: list[float]) -> None:
    """Lost: trust, when each slow row is a sentence."""
    assert "slower" not in keys(run(rates))


def test_a_run_that_begins_to_learn_or_is_over_is_not_called_slow() -> None:
    """Lost: trust, when a newcomer's first minute says that something else slows the machine."""
    pulse = Pulse()
    for rate, begin, more in ((3000.0, 0, {}), (600.0, 20, {"train/qf_loss": array("d", [0.1] * 20)})):
        steps, times = (array("d", [size * i for i in range(begin, begin + 20)]) for size in (1000, 60))
        times = array("d", [NOW - 2400 + time for time in times])
        pulse.take([MetricBlock(1, begin + 20, steps, times, {RATE: array("d", [rate] * 20), **more})])
    assert keys(replace(run([600.0] * 20), pulse=pulse)) == ["pace"]
    over = run(FALL, job=replace(JOB, state=JobState.succeeded))
    assert keys(over) == []


# --- waiting ---------------------------------------------------------------------------------------------------------


def test_waiting_for_evaluations_says_which_setting_saves_how_much() -> None:
    """Lost: the one setting that costs hours: how often it is evaluated."""
    facts = run([950.0] * 41, time__eval_wait_ratio=[0.31] * 41)
    facts = replace(facts, events=[event("eval", NOW - 60 * i, 1000 * i, phase="start") for i in range(40)])
    advice = only(facts, "eval")
    # 40 minutes x 0.31 for 40 evaluations: 18.6 s each. 959,000 steps are left: 959 evaluations, with 10,000 95.
    assert advice.text == "Waiting for evaluations 31% of the time: eval_freq 1,000 → 10,000 would save 4 h 27."
    assert advice.evidence == (
        "time/eval_wait_ratio: 12 min of 40 min, 40 rows since 13:33",
        "18 s each, 40 so far",
        "959,000 iterations are left: 959 more with eval_freq 1,000, 95 with 10,000",
    )
    assert advice.weight == pytest.approx(0.31)


def test_where_the_cost_of_one_is_not_known_no_saving_is_made_up() -> None:
    """Lost: a promise of hours from a number that nobody measured."""
    waiting = run([950.0] * 41, time__eval_wait_ratio=[0.31] * 41)
    assert only(waiting, "eval").text == "Waiting for evaluations 31% of the time."
    done = replace(waiting, job=replace(waiting.job, step=1_000_000))
    assert only(done, "eval").text == "Waiting for evaluations 31% of the time."
    over = replace(done, job=replace(done.job, state=JobState.succeeded))
    assert only(over, "eval").text == "Waited for evaluations 31% of the time."


def test_a_cost_beyond_all_bounds_is_no_crash() -> None:
    """Lost: all advice, and the job log's news with it, because of a rate that nobody can believe."""
    facts = run([1e150] * 20, every=5e7, time__eval_wait_ratio=[1e150] * 20)
    facts = replace(facts, events=[event("eval", NOW, 0, phase="start")])
    assert "eval_freq 1,000 → 1,000,000" in only(facts, "eval").text


def test_saves_data_and_simulators_are_waited_for_too() -> None:
    """Lost: a slow disk, a slow loader, or simulators that wait for the updates and the other way round."""
    saving = run([950.0] * 41, time__save_wait_ratio=[0.5] * 41)
    saving = replace(saving, events=[event("checkpoint", NOW - 60 * i, 1000 * i) for i in range(40)])
    assert only(saving, "save").text.startswith(
        "Waiting for checkpoints to be written 50% of the time: save_freq 1,000 →"
    )
    data = only(run([950.0] * 41, time__data_ratio=[0.55] * 41), "data")
    assert data.text.startswith("Waiting for data 55% of the time: the CPU that gathers batches is the limit, ")
    assert data.text.endswith(" that are left.")
    ratios = {"time__env_wait_ratio": [0.62] * 41, "time__update_ratio": [0.3] * 41}
    decorator = replace(JOB, kind="decorator", config={"overlap": False})
    assert (
        "overlap would do updates meanwhile, at most 30% of the time"
        in only(run([950.0] * 41, job=decorator, **ratios), "simulators").text
    )
    assert only(run([950.0] * 41, **ratios), "simulators").text.endswith(": more cores for them would help.")


@pytest.mark.parametrize(("rows", "every", "ratio"), [(3, 60, 0.9), (41, 1, 0.9), (41, 60, 0.2)])
def test_too_short_or_too_little_is_no_advice(rows: int, every: float, ratio: float) -> None:
    """Lost: trust, when three rows of a warm-up are a verdict."""
    assert "eval" not in keys(run([950.0] * rows, every=every, time__eval_wait_ratio=[ratio] * rows))


def test_waiting_in_an_earlier_attempt_does_not_count() -> None:
    """Lost: trust, when what was changed at the resume is still complained of."""
    facts = run([950.0] * 41, time__eval_wait_ratio=[0.9] * 30 + [0.0] * 11)
    resumed = replace(facts.job, attempts=(replace(facts.job.attempts[0], number=2, started=NOW - 630),))
    assert "eval" in keys(facts) and "eval" not in keys(replace(facts, job=resumed))


def test_evaluations_beside_the_run_cost_what_it_slows_while_they_run() -> None:
    """Lost: evaluations that nobody waits for, and that still take a fifth of the machine's time."""
    events = []
    for i in range(4):  # of every ten minutes five
        begin = NOW - 2400 + 600 * i
        events += [event("eval", begin, i, phase="start"), event("eval", begin + 300, i, phase="done")]
    rates = [950.0] + [570.0 if (minute - 1) % 10 < 5 else 950.0 for minute in range(1, 41)]
    advice = only(replace(run(rates), events=events), "eval-beside")
    assert advice.text.startswith("Evaluations run beside it 50% of the time, at 60% of its rate: eval_freq 1,000 → ")
    assert advice.weight == pytest.approx(0.2) and "570 iterations/min in 20 rows while one runs" in advice.evidence[0]
    rarer = Earlier(12, {**CONFIG, "eval_freq": 10_000}, 1500.0, 300)
    assert "earlier-same" not in keys(replace(run(rates), events=events, earlier=[rarer])), "the cause is told"
    even = run([950.0] * 41)
    assert "eval-beside" not in keys(replace(even, events=events))
    assert "earlier-same" in keys(replace(even, events=events, earlier=[rarer])), "evaluations cost it nothing"


def test_a_run_that_is_evaluated_all_the_time_is_held_against_one_that_is_not() -> None:
    """Lost: why it is slow from its first minute on, and the setting that ends it; "the same settings" were not."""
    events = []
    for i in range(20):  # two minutes each, one after the other, though asked for every 200 iterations
        begin = NOW - 2400 + 120 * i
        events += [event("eval", begin, i, phase="start"), event("eval", begin + 119, i, phase="done")]
    job = replace(JOB, config={**CONFIG, "eval_freq": 200})
    facts = replace(run([570.0] * 41, job=job), events=events)
    same, never = Earlier(12, CONFIG, 950.0, 300), Earlier(11, {**CONFIG, "eval_freq": 0}, 900.0, 90)
    advice = only(replace(facts, earlier=[same, never]), "eval-beside")
    assert advice.text.startswith(
        "Evaluations run beside it 99% of the time: 0.60× the iterations/min of job 12 with eval_freq 1,000;"
        " eval_freq 200 → 10,000 would save "
    )
    assert advice.weight == pytest.approx(0.4) and advice.evidence[0] == "median 570 iterations/min, job 12: 950"
    assert advice.evidence[-1] == ("959,000 iterations are left: 479 more with eval_freq 200, 95 with 10,000"), (
        "as many as will run, not as many as are asked for"
    )
    without = only(replace(facts, earlier=[never]), "eval-beside")
    assert "of job 11 without evaluations;" in without.text
    assert "eval-beside" not in keys(replace(facts, earlier=[replace(same, median=600.0)]))
    as_often = replace(same, config={**job.config, "seed": 9})
    assert "earlier-same" in keys(replace(facts, earlier=[as_often])), "as often evaluated, and still slower"


# --- the machine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "cpu", "says"),
    [
        (
            {"engine": "eager"},
            20,
            "GPU 2% used at 950 iterations/min: it waits for Python; engine eager → auto compiles",
        ),
        ({}, 20, "GPU 2% used at 950 iterations/min: it waits for the CPU; a larger batch costs little."),
        ({}, 97, "GPU 2% used at 950 iterations/min: the CPU is the limit (97% of 16 cores busy)."),
    ],
)
def test_an_idle_gpu_is_told_with_what_it_waits_for(config: dict[str, Any], cpu: float, says: str) -> None:
    """Lost: a card that is paid for and waits."""
    job = replace(JOB, config={**CONFIG, **config})
    facts = replace(run([950.0] * 20, job=job), gpu=card({"utilization": 2.0}), host=host(cpu))
    assert only(facts, "gpu-idle").text.startswith(says)


def test_a_busy_gpu_that_draws_little_power_runs_small_kernels() -> None:
    """Lost: that "98 % used" says nothing of how much is computed."""
    facts = replace(run([950.0] * 20), gpu=card({"utilization": 98.0, "power": 120.0}))
    assert only(facts, "small-kernels").text.startswith(
        "GPU 98% busy, but it draws 120 of 450 W: its kernels are small"
    )
    assert keys(replace(facts, gpu=card({"utilization": 98.0}))) == ["pace"]
    for more in (facts, replace(run(FALL), gpu=card({"utilization": 98.0}))):  # that, or slower than it was
        assert only(more, "pace").text.startswith("Limited by the GPU (98% busy). "), "not: as fast as it goes"


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (Facts(JOB, NOW, Pulse()), ""),
        (run([900.0, float("nan")]), "Runs. 900 per minute so far."),
        (
            replace(run([950.0] * 20), gpu=card({})),
            "Limited by the GPU (97% busy): as fast as it goes. 950 per minute,",
        ),
        (replace(run([950.0] * 20), live_gpu=70.0), "The GPU is 70% busy. 950 per minute, median 950."),
        (replace(run([950.0] * 20), live_gpu=23.0), "The GPU is 23% busy and waits for the CPU."),
        (replace(run([950.0] * 20), live_cpu=96.0, cores=2), "Limited by the CPU (96% of 2 cores busy)."),
        (replace(run([950.0] * 20), host=host(40), cores=1), "The CPU is 40% busy (1 core)."),
    ],
)
def test_what_limits_the_run_is_said_where_nothing_is_wrong(facts: Facts, says: str) -> None:
    """Lost: the plain answer to "is this as fast as it goes?"; or a made-up one about a run that has logged nothing."""
    found = [advice.text for advice in advise(facts)]
    assert (found[-1].startswith(says) and len(found) == 1) if says else found == []


# --- flat, and earlier jobs ------------------------------------------------------------------------------------------


def test_a_flat_loss_is_told_by_the_alerts_own_rule() -> None:
    """Lost: ten hours in which nothing is learned; or two rules that contradict each other."""
    noise = [0.5 + 0.0001 * (-1) ** i for i in range(200)]
    facts = run([950.0] * 200, train__loss=noise)
    advice = only(facts, "flat-loss")
    assert (
        advice.text.startswith("Loss flat for 66k iterations") and "train/loss: 0.5, changed by" in advice.evidence[0]
    )
    falling = run([950.0] * 200, train__loss=[0.5 - 0.001 * i for i in range(200)])
    off = replace(facts, settings=Settings(plateau_minutes=0))
    assert "flat-loss" not in keys(falling) + keys(off)


def test_success_that_stands_still_is_told() -> None:
    """Lost: that the best checkpoint is hours old."""
    success = [0.1, 0.4, 0.6, 0.7, 0.5, 0.6, 0.5, 0.6, 0.55, 0.5]
    facts = run([950.0] * 10, every=1200, eval__success_rate=success)
    assert only(facts, "flat-success").text.startswith("Success flat for 6 evaluations")


def test_a_larger_batch_is_held_against_a_smaller_one_by_measured_rates() -> None:
    """Lost: whether the larger batch was worth it."""
    job = replace(JOB, config={**CONFIG, "batch_size": 4096, "seed": 2})
    before = Earlier(12, CONFIG, 950.0, 300)
    other = Earlier(11, {**CONFIG, "engine": "eager", "precision": "fp32"}, 100.0, 300)
    advice = only(replace(run([420.0] * 20, job=job), earlier=[before, other]), "earlier-batch_size")
    assert advice.text == "Batch 4096: 1.8× the samples, 0.44× the iterations of 1024 (job 12)."
    assert advice.evidence[1] == "job 12: median 950 iterations/min of 300 rows" and len(advice.evidence) == 2
    disturbed = replace(before, job_id=13, median=500.0)
    several = [disturbed, before, replace(before, job_id=10, median=960.0)]
    told = only(replace(run([420.0] * 20, job=job), earlier=several), "earlier-batch_size")
    assert told.text == "Batch 4096: 1.8× the samples, 0.44× the iterations of 1024 (jobs 13, 12, 10)."
    worse = only(replace(run([200.0] * 20, job=job), earlier=[before]), "earlier-batch_size")
    assert worse.weight > advice.weight, "fewer samples in the same time are a loss"
    eager = replace(JOB, config={**CONFIG, "engine": "eager"})
    told = only(replace(run([300.0] * 20, job=eager), earlier=[before]), "earlier-engine")
    assert told.text == "engine eager instead of auto: 0.32× the iterations/min of job 12."


def test_slower_than_the_same_settings_were() -> None:
    """Lost: a run that is slow from its first minute on, which its own median cannot tell."""
    same = [Earlier(number, {**CONFIG, "seed": number}, 950.0, 300) for number in (15, 14, 12)]
    advice = only(replace(run([570.0] * 20), earlier=same), "earlier-same")
    assert advice.text.startswith("0.60× the iterations/min of jobs 15, 14, 12 with the same settings")
    assert keys(replace(run([900.0] * 20), earlier=same)) == ["pace"]
    assert keys(replace(run([570.0] * 5), earlier=same)) == ["pace"], "five rows are not enough"


def test_what_a_retry_has_measured_takes_the_place_of_what_was_remembered(scene: Scene) -> None:
    """Lost: the rates of the attempt that counts, in a dashboard that has seen the one before."""
    metrics, adviser = MetricLog(scene.log), Adviser(scene.manager, Overview(scene.manager).pulse, lambda: NOW)
    mine, other = (scene.add("diffusion", {"env_id": "Peg"}, name=name) for name in ("mine", "other"))

    def attempt(job: Job, number: int, rate: float, state: str = "succeeded") -> None:
        began = NOW - 90_000 + 9000 * number
        rows = [(i, 100 * i, began + 60 * i, {RATE: rate, "train/loss": 0.1}) for i in range(1, 50)]
        with scene.log.write():
            scene.log.insert_attempt(job.id, number, state=state, token="t", started=began, ended=began + 3000, fresh=1)
            metrics.add_rows(job.id, number, rows)
            scene.log.update_job(job.id, state=state, ended=began + 3000)

    def advice() -> dict[str, Advice]:
        job, trace = scene.manager.job(mine.id), Trace(mine.id)
        trace.take(scene.manager.curves(mine.id))
        adviser.machine(job, trace.view().curves)
        return {each.key: each for each in adviser.advise(job, trace.view(), (), scene.manager.jobs())}

    attempt(mine, 1, 500, "failed")
    attempt(other, 1, 500)
    assert "earlier-same" not in advice()
    attempt(mine, 2, 480)
    attempt(other, 2, 960)
    assert advice()["earlier-same"].evidence == (
        "this run: median 480 iterations/min of 49 rows",
        f"job {other.id}: median 960 iterations/min of 49 rows",
    )
