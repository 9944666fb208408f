"""All charts of a run, or of several side by side, over one x axis: zoom, pan, a cursor through all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from pidec_train.protocol.metric_names import info

from ..board import ChartChoices
from ..charts.series import SMOOTHS, Mark, XKind
from ..charts.view import ChartView
from ..charts.window import Window
from ..machinesbeside import Machines, MachinesBeside, MachinesRead
from ..overlay import LETTERS
from ..plans import Plan, every_plan
from ..runtraces import Lens, RunTrace, board_runs
from ..sharedaxis import UNITS, X_UNITS, carried, ends_of, kinds_of, said
from ..widgets.chartgrid import ChartGrid, Picture
from .base import BoardScreen

_CLOSER, _FURTHER = 0.5, 2.0
_LABELS = 6  # cells for the y labels of every chart, so that their x axes lie one above the other
Source = Callable[[], Sequence[RunTrace]]


class ChartsScreen(BoardScreen):
    """Any metric, as many charts as fit.

    Args:
        source: whose curves they are, asked again whenever something changed; by default the marked jobs' and the
            selected one's.
        cursor: step at which the cursor stands at first.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back", id="chart.leave"),
        Binding("enter", "enlarge", "large", key_display="enter", id="chart.large"),
        Binding("plus", "zoom(True)", "closer", key_display="+", id="chart.closer"),
        Binding("minus", "zoom(False)", "further", key_display="-", id="chart.further"),
        Binding("left", "cursor(-1)", "cursor", key_display="←", id="chart.left"),
        Binding("right", "cursor(1)", "cursor to the right", show=False, key_display="→", id="chart.right"),
        Binding("shift+left", "cursor(-10)", "cursor far left", show=False, id="chart.far-left"),
        Binding("shift+right", "cursor(10)", "cursor far right", show=False, id="chart.far-right"),
        Binding("left_square_bracket", "pan(-0.25)", "earlier", show=False, key_display="[", id="chart.earlier"),
        Binding("right_square_bracket", "pan(0.25)", "later", show=False, key_display="]", id="chart.later"),
        Binding("0", "whole", "whole run, no cursor", show=False, id="chart.whole"),
        Binding("slash", "find", "metrics", key_display="/", id="chart.find"),
        Binding("p", "pin", "pin", id="chart.pin"),
        Binding("x", "axis", "x axis", id="chart.axis"),
        Binding("y", "log_y", "log y", id="chart.log-y"),
        Binding("s", "smooth(1)", "smooth", id="chart.smooth"),
        Binding("S", "smooth(-1)", "smooth less", show=False, id="chart.smooth-less"),
        Binding("c", "clip", "clip outliers", id="chart.clip"),
        Binding("m", "marks", "checkpoints and resumes", show=False, id="chart.marks"),
        Binding("equals_sign", "differ", "settings that differ", show=False, key_display="=", id="chart.differ"),
        Binding("w", "why", "why so fast", show=False, id="job.why"),
        Binding("space", "page", "other charts", id="chart.page"),
        Binding("tab,j,down", "choose(1)", "next chart", show=False, id="chart.next"),
        Binding("shift+tab,k,up", "choose(-1)", "previous chart", show=False, id="chart.previous"),
        Binding("g", "choose(-1000)", "first chart", show=False, id="chart.first"),
        Binding("G", "choose(1000)", "last chart", show=False, id="chart.last"),
    ]
    KEYS: tuple[str, ...] = (
        *("chart.leave", "chart.large", "chart.closer", "chart.further", "chart.left", "chart.find", "chart.page"),
        *("chart.smooth", "chart.axis", "chart.log-y", "chart.clip", "chart.pin", "app.help"),
    )
    EMPTY = "has logged no metrics yet. Charts appear with the first ones."

    def __init__(self, source: Source | None = None, *, cursor: float | None = None) -> None:
        super().__init__()
        self._source = source or self._selected
        self._lens = Lens()
        self._beside: MachinesBeside | None = None
        self._machines: Machines = {}
        self._runs: Sequence[RunTrace] = ()
        self._plans: list[Plan] = []
        self._place = 0  # of the chosen chart among the plans
        self._large = False
        self.window = Window()
        self._begin_at = cursor
        self.cursor: float | None = None

    @property
    def choices(self) -> ChartChoices:
        return self.door.board.charts

    def body(self) -> ComposeResult:
        yield Static(id="charts-title", classes="title")
        yield Static(id="charts-empty")
        yield ChartGrid(id="chart-grid")

    def _selected(self) -> Sequence[RunTrace]:
        board = self.door.board
        if board.overlay.runs:
            if self._beside is None:
                self._beside = MachinesBeside(self.door.manager, self.post_message, self.door.clock)
            self._beside.ask(board.overlay.runs, {job.id: job for job in board.shown()})
        return board_runs(board, self._machines)

    def on_machines_read(self, message: MachinesRead) -> None:
        self._machines = message.machines
        self.show_trace()

    def on_unmount(self) -> None:
        if self._beside is not None:
            self._beside.end()

    # --- what is shown

    def show_trace(self) -> None:
        """Bring all charts up to date; those that are the same as before are not drawn again."""
        job = self.door.board.job()
        chosen = self._key()
        self._runs = self._source()
        own = next((run for run in self._runs if job is not None and job.id in run.jobs and run.curves), None)
        if self._begin_at is not None and own is not None:
            self.cursor, self._begin_at = own.places([self._begin_at], self._kind())[0], None
        names = {name for run in self._runs for name in run.curves}
        self._plans = self._plans_of(names, self._step_name())
        self._choose_key(chosen)
        self._draw()

    show_queue = show_trace

    def _step_name(self) -> str:
        """What the runs count; "" where one counts iterations and another decision steps."""
        drawn = {job_id for run in self._runs for job_id in run.jobs}
        names = {job.step_name for job in self.door.board.shown() if job.id in drawn}
        return names.pop() if len(names) == 1 else ""

    def _plans_of(self, names: Collection[str], step_name: str) -> list[Plan]:
        """Which charts there are."""
        return every_plan(names, step_name, pins=self.choices.pins)

    def on_chart_grid_resized(self) -> None:
        self._draw()

    def _draw(self) -> None:
        grid, empty = self.query_one(ChartGrid), self.query_one("#charts-empty", Static)
        grid.display, empty.display = bool(self._plans), not self._plans
        if not self._plans:
            job = self.door.board.job()
            empty.update(Text(f"Job {job.id}, {job.name}, {self.EMPTY}" if job else "No job is selected."))
        elif grid.size:
            grid.show([self._picture(place) for place in self._page()])
        self.query_one("#charts-title", Static).update(self._title())

    def _page(self) -> range:
        """The places of the charts that are on the screen: the page that the chosen one is on."""
        if self._large:
            return range(self._place, self._place + 1)
        room = self.query_one(ChartGrid).room()
        first = self._place // room * room
        return range(first, min(first + room, len(self._plans)))

    def _picture(self, place: int) -> Picture:
        plan = self._plans[place]
        key = _told(plan)
        low, high = self.window.span(self._whole())
        axes = replace(
            plan.axes,
            x_unit=UNITS.get(self._kind(), plan.axes.x_unit),
            x_kind=X_UNITS.get(self._kind(), "number"),
            x_low=low,
            x_high=high,
            label_width=_LABELS,
            log_y=self._log_y(plan),
            smooth=self.choices.smooth,
            clip=self.choices.clip,
            cursor=self.cursor,
            marks=self._marks(),
        )
        name = f"★ {plan.title}" if key in self.choices.pins else plan.title
        curves = self._lens.lines(self._runs, plan, self._kind())
        return Picture(name, curves, axes, info(key).better, place == self._place and len(self._plans) > 1)

    def _title(self) -> Text:
        """Whose charts, with the letter and colour of each where there are several; then what is out of the usual."""
        colours, choices = self.app.theme_variables, self.choices
        line = Text(no_wrap=True, overflow="ellipsis")
        for letter, run in zip(LETTERS, self._runs, strict=False):
            if len(self._runs) > 1:
                line.append(f"{letter} ", f"bold {colours['primary']}")
            line.append(f"{run.label}{' (baseline)' if run.reference else ''}  ", "bold")
        told, kind, span = [], self._kind(), self.window.span(self._whole())
        if self.cursor is not None:
            told.append(f"at {said(self.cursor, kind, span)}")
        if self.window != Window():
            told.append(" to ".join(said(x, kind, span) for x in span))
        told.append(f"x: {kind}")
        told += [f"smooth {choices.smooth:g}"] if choices.smooth else []
        told += ["outliers clipped"] if choices.clip else []
        page = self._page() if self._plans else range(0)
        if len(page) < len(self._plans):
            last = f"–{page.stop}" if len(page) > 1 else ""
            told.append(f"{page.start + 1}{last} of {len(self._plans)}")
        return line.append(" · ".join(told) if self._plans else "", f"not bold {colours['muted']}")

    # --- the x axis

    def _kind(self) -> XKind:
        """The one that was chosen, where the runs have it."""
        return self.choices.kind if self.choices.kind in kinds_of(self._runs) else "step"

    def _whole(self) -> tuple[float, float]:
        return ends_of(self._runs, self._kind())

    def _marks(self) -> tuple[Mark, ...]:
        """Of one run only: whose they are could not be seen otherwise."""
        if not self.choices.marks or len(self._runs) != 1:
            return ()
        run = self._runs[0]
        places = run.places([mark.x for mark in run.marks], self._kind())
        return tuple(replace(mark, x=x) for mark, x in zip(run.marks, places, strict=True))

    def _log_y(self, plan: Plan) -> bool:
        return self.choices.log_y.get(plan.metrics[0][0], plan.axes.log_y)

    # --- which chart

    def _key(self) -> str:
        return _told(self._plans[self._place]) if self._place < len(self._plans) else ""

    def _choose_key(self, key: str) -> None:
        """The chart of this metric: the one that is told in its title, else one that has it too."""
        told = [place for place, plan in enumerate(self._plans) if _told(plan) == key]
        has = [place for place, plan in enumerate(self._plans) if key in dict(plan.metrics)]
        self._place = (told or has or [min(self._place, max(len(self._plans) - 1, 0))])[0]

    def action_choose(self, by: int) -> None:
        if self._plans:
            last = len(self._plans) - 1
            place = self._place + by
            self._place = min(max(place, 0), last) if abs(by) > 1 else place % (last + 1)
            self._draw()

    def action_page(self) -> None:
        if self._plans:
            self._place = self._page().stop % len(self._plans)
            self._draw()

    def action_enlarge(self) -> None:
        self._large = not self._large and bool(self._plans)
        self._draw()

    def action_leave(self) -> None:
        """One thing after the other: the large chart, the cursor, the zoom, the screen."""
        if self._large:
            self._large = False
        elif self.cursor is not None:
            self.cursor = None
        elif self.window != Window():
            self.window = Window()
        else:
            self.app.pop_screen()
            return
        self._draw()

    def action_pin(self) -> None:
        key, pins = self._key(), self.choices.pins
        if not key:
            return
        if key in pins:
            pins.remove(key)
        else:
            pins.append(key)
        self.show_trace()

    def action_find(self) -> None:
        from .metrics import MetricPicker

        latest = {name: self._runs[0].curves[name].last() for name in self._runs[0].curves} if self._runs else {}
        names = sorted({name for run in self._runs for name in run.curves})
        if not names:
            self.notify("No metrics to choose from yet.", timeout=4)
            return
        self.app.push_screen(MetricPicker(names, latest, self.choices.pins), self._picked)

    def action_why(self) -> None:
        from .why import WhyScreen

        self.go_beside(WhyScreen)

    def go_beside(self, kind: type[ChartsScreen]) -> None:
        """To the charts' other screen: back, where it lies below; else going to and fro would pile them up."""
        if type(self.app.screen_stack[-2]) is kind:
            self.app.pop_screen()
        else:
            self.app.push_screen(kind())

    def action_differ(self) -> None:
        """The settings in which the runs that are drawn are not the same."""
        jobs = {job.id: job for job in self.door.board.shown()}
        letters = LETTERS if len(self._runs) > 1 else " "
        from .run_settings import Column, RunSettings

        columns = [
            Column(f"{letter} {run.label}".strip(), [jobs[each] for each in run.jobs if each in jobs])
            for letter, run in zip(letters, self._runs, strict=False)
        ]
        if sum(len(column.jobs) for column in columns) < 2:
            mark = self.key("overlay.mark")
            self.notify(f"One run has nothing to differ from: mark others with {mark} in the queue.", timeout=5)
            return
        self.app.push_screen(RunSettings(columns))

    def _picked(self, name: str | None) -> None:
        self.show_trace()  # pins may have changed
        if name is not None:
            self._choose_key(name)
            self._draw()

    # --- how they are drawn

    def action_axis(self) -> None:
        """The next kind of x axis; cursor and window go along."""
        kinds, before = kinds_of(self._runs), self._kind()
        after = kinds[(kinds.index(before) + 1) % len(kinds)]
        ends = self.window.span(self._whole())
        low, high, cursor = carried([*ends, self.cursor], self._runs, before, after)
        self.choices.kind, self.cursor = after, cursor
        if self.window != Window() and low is not None and high is not None and high > low:
            follows = self.window.end is None
            self.window = Window(high - low, None if follows else high)
        self._draw()

    def action_log_y(self) -> None:
        if self._plans:
            plan = self._plans[self._place]
            self.choices.log_y[plan.metrics[0][0]] = not self._log_y(plan)
            self._draw()

    def action_smooth(self, by: int) -> None:
        at = SMOOTHS.index(self.choices.smooth) if self.choices.smooth in SMOOTHS else 0
        self.choices.smooth = SMOOTHS[(at + by) % len(SMOOTHS)]
        self._draw()

    def action_clip(self) -> None:
        self.choices.clip = not self.choices.clip
        self._draw()

    def action_marks(self) -> None:
        self.choices.marks = not self.choices.marks
        self._draw()

    # --- where

    def action_zoom(self, closer: bool) -> None:
        self.window = self.window.zoomed(self._whole(), _CLOSER if closer else _FURTHER, self.cursor)
        self._draw()

    def action_pan(self, share: float) -> None:
        self.window = self.window.panned(self._whole(), share)
        self._draw()

    def action_whole(self) -> None:
        self.window, self.cursor = Window(), None
        self._draw()

    def action_cursor(self, by: int) -> None:
        """By so many columns of dots; the first press puts it to the right end."""
        if not self._plans:
            return
        low, high = self.window.span(self._whole())
        views = self.query(ChartView)
        frame = views[self._place - self._page().start].frame
        step = (high - low) / (2 * frame.width if frame else 100)
        whole = self._whole()
        x = high if self.cursor is None else self.cursor + by * step
        self.cursor = min(max(x, whole[0]), whole[1])
        self.window = self.window.showing(whole, self.cursor)
        self._draw()

    def on_chart_view_zoomed(self, message: ChartView.Zoomed) -> None:
        self.window = self.window.zoomed(self._whole(), message.factor, message.x)
        self._draw()

    def on_chart_view_panned(self, message: ChartView.Panned) -> None:
        self.action_pan(message.share)

    def on_chart_view_pointed(self, message: ChartView.Pointed) -> None:
        self._place = self._page().start + self.query_one(ChartGrid).place_of(message.view)
        self.cursor = message.x
        self._draw()


def _told(plan: Plan) -> str:
    """The metric that a chart's title is about, and that is pinned with it."""
    return next((name for name, _ in plan.metrics if name in plan.markers), plan.metrics[0][0])
