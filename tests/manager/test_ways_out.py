"""What leaves the queue for a shell, a spreadsheet or a colleague: `metrics --csv`, `top`, `report`."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pty
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pidec_tui.manager import cli
from pidec_tui.manager.joblog import JobLog
from pidec_tui.manager.jobs import Job, JobState
from pidec_tui.manager.machinelog import HOST, Device, MachineLog, Sample
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.metriclog import MetricLog
from pidec_tui.manager.overview import Overview
from pidec_tui.manager.report import report
from pidec_tui.manager.svgcurve import curve

NOW = 1_790_000_000.0
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(manager: Manager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`pidec-jobs` in this process: its exit code, stdout and stderr."""
    monkeypatch.setenv("PIDEC_WORKSPACE", str(manager.workspace.root))
    monkeypatch.setenv("COLUMNS", "160")

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(words)
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def log_rows(manager: Manager, job_id: int, rows: list[dict[str, Any]], attempt: int = 1, begun: float = NOW) -> None:
    """An attempt of a job that runs, with these rows of metrics, one a minute."""
    log = JobLog(manager.places.db)
    with log.write():
        log.insert_attempt(job_id, attempt, state="running", token="t", started=NOW, fresh=int(attempt == 1))
        if attempt == 1:
            log.move(job_id, JobState.starting, started=NOW)
            log.move(job_id, JobState.running)
        lines = [(seq, 100 * (seq + 1), begun + 60 * seq, row) for seq, row in enumerate(rows)]
        MetricLog(log).add_rows(job_id, attempt, lines)
        log.update_job(job_id, step=100 * len(rows))
    log.close()


def training(manager: Manager, **values: Any) -> Job:
    return manager.add("diffusion", {"total_iters": 2000, **values}, name="peg <b>&")


def test_csv_is_a_line_a_step_with_gaps_where_there_was_no_number(manager: Manager, run: Run) -> None:
    """Lost without it: curves that a spreadsheet reads one column off, or NaN as zero."""
    job = training(manager)
    log_rows(manager, job.id, [{"train/loss": 0.5, "train/lr": 1e-4}, {"train/loss": math.nan}, {"eval/x": 1.0}])
    code, out, _ = run("metrics", "1", "--csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["step"] for row in rows] == ["100", "200", "300"]
    assert rows[0] == {"step": "100", "time": f"{NOW:.3f}", "eval/x": "", "train/loss": "0.5", "train/lr": "0.0001"}
    assert rows[1]["train/loss"] == "" and rows[2]["eval/x"] == "1.0"
    assert run("metrics", "--key", "train/lr", "train/loss", "1", "--csv")[1].splitlines()[0] == (
        "step,time,train/lr,train/loss"
    )
    code, _, said = run("metrics", "1", "--csv", "--key", "train/los")
    assert code == 2 and 'did you mean "train/loss"?' in said
    assert run("metrics", "1", "--csv", "--json")[0] == 2


def test_of_two_attempts_that_speak_of_one_step_the_later_one_counts(manager: Manager, run: Run) -> None:
    """Lost without it: a resumed run whose CSV has some steps twice."""
    job = training(manager)
    log_rows(manager, job.id, [{"train/loss": 3.0}, {"train/loss": 2.0, "train/lr": 9.0}])
    log_rows(manager, job.id, [{"train/loss": 1.0}], attempt=2)
    _, out, _ = run("metrics", "1", "--csv")
    rows = [(row["step"], row["train/loss"], row["train/lr"]) for row in csv.DictReader(io.StringIO(out))]
    assert rows == [("100", "1.0", ""), ("200", "2.0", "9.0")]


def test_top_tells_rate_against_its_own_median_and_the_end(manager: Manager, run: Run) -> None:
    """Lost without it: the one line that says whether the night's run is well."""
    job = training(manager)
    rates = [900.0, 900.0, 900.0, 900.0, 300.0, 300.0, 300.0]
    rows = [{"throughput/iters_per_min": rate, "train/loss": 0.25, "eval/success_rate": 0.5} for rate in rates]
    begun = time.time() - 6 * 60
    log_rows(manager, job.id, rows, begun=begun)
    code, out, _ = run("top", "--json")
    assert code == 0
    (line,) = json.loads(out)
    assert (line["rate"], line["median"], line["against_median"]) == (300.0, 900.0, pytest.approx(1 / 3))
    assert (line["loss"], line["success"], line["step"], line["total_steps"]) == (0.25, 0.5, 700, 2000)
    assert line["ends"] == begun + 6 * 60 + 13 * 60, "13 more hundreds of steps at a hundred a minute"
    text = run("top")[1]
    assert re.search(r"1 +peg <b>& +running +healthy +700/2,000 +35% +300 +33% +0\.25 +50% ", text), text
    assert run("top", "--every", "0")[0] == 2


def test_top_tells_no_rate_of_a_run_that_has_stalled(manager: Manager, run: Run) -> None:
    """Lost: a run that hangs since noon, with iterations per minute and an end by the clock."""
    log_rows(manager, training(manager).id, [{"throughput/iters_per_min": 900.0}] * 7)
    (line,) = json.loads(run("top", "--json")[1])
    assert (line["health"], line["rate"], line["ends"]) == ("stalled", None, None) and line["median"] == 900.0


def test_a_rate_that_no_trainer_logs_is_made_from_steps_and_times(manager: Manager) -> None:
    """Lost without it: scripts of one's own without a rate, and a median over attempts of another speed."""
    job = training(manager)
    log_rows(manager, job.id, [{"loss": 1.0}] * 6)
    now = NOW + 360
    overview = Overview(manager, lambda: now)
    (line,) = overview.lines([manager.job(job.id)])
    assert (line.rate, line.median, line.loss) == (100.0, 100.0, 1.0)
    log = JobLog(manager.places.db)
    with log.write():
        log.insert_attempt(job.id, 2, state="running", token="u", started=NOW, fresh=0)
        now = NOW + 1200
        rows = [(seq, 700 + 50 * seq, NOW + 900 + 60 * seq, {"loss": 0.5}) for seq in range(5)]
        MetricLog(log).add_rows(job.id, 2, rows)
    (line,) = overview.lines([manager.job(job.id)])
    assert (line.rate, line.median, line.loss) == (50.0, 50.0, 0.5), "each attempt has its own speed"
    with log.write():
        MetricLog(log).add_rows(job.id, 2, [(9, 1000, NOW + 1300, {"loss": math.nan})])
    (line,) = overview.lines([manager.job(job.id)])
    log.close()
    assert line.loss is not None and math.isnan(line.loss), "not the last good one, as if all were well"


def test_top_on_a_terminal_refreshes_until_q_and_leaves_it_as_it_was(manager: Manager) -> None:
    """Lost without it: a shell without echo after `pidec-jobs top`."""
    training(manager)
    environ = {**os.environ, "PIDEC_WORKSPACE": str(manager.workspace.root), "TERM": "xterm-256color"}
    ours, theirs = pty.openpty()
    import termios

    before = termios.tcgetattr(theirs)
    line = [sys.executable, "-m", "pidec_tui.manager.cli", "top", "--every", "0.1"]
    process = subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    seen = b""
    deadline = time.monotonic() + 30
    while seen.count(b"per min") < 2 and time.monotonic() < deadline:
        seen += os.read(ours, 65536)
    assert seen.count(b"per min") >= 2, seen
    os.write(ours, b"q")
    try:
        assert process.wait(timeout=20) == 0
    finally:
        process.send_signal(signal.SIGKILL)
    assert termios.tcgetattr(theirs)[3] == before[3]
    os.close(theirs)
    os.close(ours)


class Page(HTMLParser):
    """Tags that were closed in order, and everything that would be fetched or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "onload", "onclick"}, attrs
        if tag not in ("meta", "br", "path", "circle", "polygon", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "circle", "polygon", "polyline"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_report_is_one_page_that_needs_nothing_else(manager: Manager, run: Run, tmp_path: Path) -> None:
    """Lost without it: a page that a colleague opens without the cluster, empty or with somebody's script in it."""
    job = training(manager, batch_size=7)
    log_rows(manager, job.id, [{"train/loss": 1 / n, "eval/success_rate": 0.5} for n in range(1, 9)])
    log = JobLog(manager.places.db)
    with log.write():
        metrics = MetricLog(log)
        done = {"phase": "done", "successes": 5, "episodes": 10}
        metrics.add_event(job.id, 1, 90, 800, NOW, "eval", done)
        metrics.add_event(job.id, 1, 91, 800, NOW, "warning", {"message": "<script>alert(1)</script>"})
    log.close()
    out = tmp_path / "peg.html"
    assert run("report", "1", "--out", str(out))[0] == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    page = Page(out.read_text())
    assert page.open == [] and "script" not in page.tags
    assert page.tags.count("svg") == 2
    for text in ("peg <b>&", "50.0%", "23.7% to 76.3%", "5 of 10", "batch_size", "1024", "<script>alert(1)"):
        assert text in page.text, text
    assert "http" not in page.text.replace("Content-Security-Policy", "")
    code, _, said = run("report", "1", "--out", str(out))
    assert code == 2 and "--force writes over it" in said
    assert run("report", "1", "--out", str(out), "--force")[0] == 0
    assert "is a folder" in run("report", "1", "--out", str(tmp_path))[2]
    assert "cannot be written" in run("report", "1", "--out", str(tmp_path / "gone" / "x.html"))[2]


def test_a_report_shows_what_the_machine_did(manager: Manager, tmp_path: Path) -> None:
    """Lost without it: whether the GPU was busy in the night, for everybody who was not at the box."""
    job = training(manager)
    log_rows(manager, job.id, [{"throughput/iters_per_min": 900.0 + n} for n in range(60)])
    assert "Speed and machine" not in report(manager, job.id, NOW), "nobody has measured"
    log = JobLog(manager.places.db)
    card, box = Device("GPU-a", "Fake", 24.0), Device(HOST, "box", 64.0, 16)
    began = manager.job(job.id).attempts[0].started
    with log.write():
        log.update_attempt(job.id, 1, gpu="GPU-a")
        for n in range(60):
            when = began + 5 * n + (600 if n > 30 else 0)
            values = (97.0, 6.0, 400.0, 450.0, 2500.0, 60.0, 0.0)
            MachineLog(log).add([Sample(when, card, values), Sample(when, box, (40.0, 9.0))])
    log.close()
    page = report(manager, job.id, began + 1200)
    for title in ("rate", "GPU", "GPU power", "GPU clock", "GPU memory", "CPU", "memory"):
        assert f"<figcaption>{title} <" in page, title
    figure = page.split("<figcaption>GPU <")[1].split("</figure>")[0]
    assert figure.count("<polyline") == 2, "no line is drawn through ten minutes in which nobody measured"


def test_a_report_of_two_attempts_joins_nothing_between_them(manager: Manager) -> None:
    """Lost: that a run stood still for the night; or that the load before was another job's, on another GPU."""
    job = training(manager)
    log_rows(manager, job.id, [{"throughput/iters_per_min": 900.0}] * 5)
    log_rows(manager, job.id, [{"throughput/iters_per_min": 800.0}] * 5, attempt=2, begun=NOW + 30_000)
    log = JobLog(manager.places.db)
    with log.write():
        log.update_attempt(job.id, 1, gpu="GPU-b", ended=NOW + 300)
        log.update_attempt(job.id, 2, gpu="GPU-a", started=NOW + 30_000)
        for when in (NOW + 10, NOW + 140, NOW + 30_010, NOW + 30_140):
            values = (97.0, 6.0, 400.0, 450.0, 2500.0, 60.0, 0.0)
            MachineLog(log).add([Sample(when, Device("GPU-a", "Fake", 24.0), values)])
            MachineLog(log).add([Sample(when, Device(HOST, "box", 64.0, 16), (40.0, 9.0))])
    log.close()
    page = report(manager, job.id, NOW + 30_400)
    lines = [
        page.split(f"<figcaption>{name} <")[1].split("</figure>")[0].count("<polyline")
        for name in ("rate", "GPU", "CPU")
    ]
    assert lines == [2, 1, 2]


def test_a_report_draws_nothing_of_an_attempt_that_is_void(manager: Manager) -> None:
    """Lost: the success of a run that was begun anew, among evaluations and checkpoints that are another's."""
    job = training(manager)
    rows = [{"eval/success_rate": 0.5}] * 8
    for attempt in (1, 2, 3):  # the third one resumes, and says step 400 again
        log_rows(manager, job.id, rows, attempt)
        log = JobLog(manager.places.db)
        with log.write():
            log.update_attempt(job.id, attempt, fresh=int(attempt < 3))
            for step in (400, 300 * attempt):
                told = {"phase": "done", "successes": attempt, "episodes": 10}
                MetricLog(log).add_event(job.id, attempt, 90 + step, step, NOW, "eval", told)
                MetricLog(log).add_event(job.id, attempt, 2000 + step, step, NOW, "checkpoint", {})
        log.close()
    page = report(manager, job.id, NOW + 600)
    drawn = re.findall(r"<title>(step [^<]*|checkpoint [^<]*)</title>", page)
    assert [text for text in drawn if "step" in text] == [
        "step 400: 0.3 (0.108 to 0.603)",
        "step 600: 0.2 (0.0567 to 0.51)",
        "step 900: 0.3 (0.108 to 0.603)",
    ]
    assert not any("at 300" in text for text in drawn) and "while it trained, attempt 1" in page


def test_many_checkpoints_do_not_hide_a_curve_of_a_report() -> None:
    """Lost without it: every curve of a run that was saved 400 times, behind 400 lines."""
    points = [(float(x), 1.0 + x) for x in range(100)]
    few, many = ([(float(x), "saved") for x in range(count)] for count in (30, 90))
    assert curve(points, marks=few).count(" 8V186") == 30
    drawn = curve(points, marks=many, resumes=[(50.0, "resumed")])
    assert drawn.count("179V186") == 90 and drawn.count(" 8V186") == 1, "a resume is drawn whole"


def test_the_curves_of_a_report_have_one_axis() -> None:
    """Lost without it: an evaluation that is drawn where the loss was another one."""
    early = curve([(0, 1.0), (50, 2.0)], span=(0.0, 100.0))
    assert "298.0,14.6" in early and "540.0,14.6" not in early


def test_a_curve_breaks_at_what_was_no_number_and_shows_a_single_point() -> None:
    """Lost without it: a diverged run drawn as one that went on."""
    svg = curve([(0, 1.0), (1, 2.0), (2, None), (3, 3.0), (4, None), (5, 1.0), (6, 2.0)])
    assert (svg.count("<polyline"), svg.count("<circle")) == (2, 1)
    assert "no value" in curve([(0, None)])
    dense = curve([(step, float(step % 7)) for step in range(5000)])
    assert len(dense) < 40_000 and dense.count("<polygon") == 1, "as many points as a screen has columns"
    assert "<text" in curve([(5, 1e-9)], log=True) and "<text" in curve([(5, 0.0), (6, -1.0)], log=True)
    for tiny in ([(0, 5e-324), (1, 0.0)], [(0, 1e-320), (1, 1e-320)]):
        assert "<text" in curve(tiny) and "<text" in curve(tiny, log=True), "a rate that has decayed to nothing"
