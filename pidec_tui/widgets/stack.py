"""The three charts of the selected job, with a sentence under the first."""

from __future__ import annotations

from dataclasses import replace

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from pidec_train.protocol.metric_names import info

from ..board import Board
from ..bound import key_of, keys_of
from ..charts.view import ChartView
from ..charts.window import rounded_end
from ..plans import Plan, plans
from ..runtraces import Lens, RunTrace, run_trace
from ..sentences import jobs_ahead, sentence
from .panel import Words
from .tail import LogTail

CHARTS = 3


class ChartStack(Vertical):
    """Charts where the job logs metrics; its log, large, where it does not."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.turn = 0  # which of the other metrics the middle chart shows
        self._lens = Lens()

    def compose(self) -> ComposeResult:
        for place in range(CHARTS):
            yield ChartView(id=f"chart{place}", classes="chart")
            if place == 0:
                yield Words(id="advice")
        yield LogTail(id="biglog")

    def show(self, board: Board, now: float) -> None:
        """Bring charts and sentence up to date."""
        job = board.job()
        curves = board.trace.curves if board.trace else {}
        plain = job is not None and job.kind == "command" and not curves
        self.set_class(plain, "-log")
        self.query_one("#advice", Static).update(self._sentence(board, now))
        if plain:
            self.query_one("#biglog", LogTail).show(board.log or ())
            return
        runs = [run_trace(job, board.trace, board.events)] if job and board.trace else []
        # One x axis for all three, so that a bend in one is found above and below it in the others.
        end = max((curve.xs[-1] for curve in curves.values() if len(curve.xs)), default=1.0)
        names = [*curves, *(board.trace.machine if board.trace and curves else ())]
        chosen = plans(names, job.step_name if job else "", turn=self.turn, pins=board.charts.pins)
        for place, plan in enumerate(chosen):
            self._show_chart(place, plan, board, runs, rounded_end(0.0, max(end, 1.0)))

    def _show_chart(self, place: int, plan: Plan, board: Board, runs: list[RunTrace], end: float) -> None:
        choices = board.charts
        told = next((name for name, _ in plan.metrics if name in plan.markers), plan.metrics[0][0])
        axes = replace(
            plan.axes,
            x_low=0.0,
            x_high=end,
            label_width=4,
            log_y=choices.log_y.get(plan.metrics[0][0], plan.axes.log_y),
            smooth=choices.smooth,
            clip=choices.clip,
            marks=runs[0].marks if runs and choices.marks else (),
        )
        self.query_one(f"#chart{place}", ChartView).show(
            plan.title,
            self._lens.lines(runs, plan, "step"),
            axes,
            better=info(told).better,
            note=self._note(plan, board),
        )

    def _note(self, plan: Plan, board: Board) -> str:
        """What stands in the place of a chart without numbers: of a run that is over none are to come."""
        job = board.job()
        if job is not None and job.state.finished:
            return "none was logged" if board.trace else ""
        return plan.note if board.selected is not None else ""

    def _sentence(self, board: Board, now: float) -> Text:
        job = board.job()
        if job is None:
            return Text("")
        text = ""
        if job.state.value == "running":
            text = next((each.text for each in board.advised()), "")
        text = text or sentence(
            job, board.lines.get(job.id), now, jobs_ahead(job, board.jobs or ()), key=keys_of(self.app)
        )
        failed = job.state.value == "failed"
        again = f" {key_of(self.app, 'job.retry')} tries again." if failed else ""
        return Text(f"{text}{again}", self.app.theme_variables["error"] if failed else "")
