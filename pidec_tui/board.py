"""What the screens show: one plain object that handlers fill and screens read, on the UI thread only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .charts.series import Curve, XKind
from .manager.gpus import GpuSample
from .manager.host import HostSample
from .manager.jobs import Job, JobEvent
from .manager.overview import JobLine
from .overlay import Overlay
from .ranking import Ranking, ranked

if TYPE_CHECKING:  # its rules take long to import, and a first picture has no advice
    from .advice import Advice


@dataclass(frozen=True)
class TraceView:
    """The metrics of one job, copied: nothing changes it any more.

    Attributes:
        curves: by metric name; `RATE` is there for jobs that log no throughput of their own.
        last_time: unix seconds of the newest metrics.
        machine: what the machine did meanwhile, by metric name.
    """

    job_id: int
    curves: dict[str, Curve] = field(default_factory=dict)
    last_time: float | None = None
    machine: Mapping[str, Curve] = field(default_factory=dict)

    def last(self, name: str) -> float | None:
        """The newest value that is a number."""
        curve = self.curves.get(name)
        return curve.last() if curve else None


@dataclass(frozen=True)
class CheckpointRow:
    """One checkpoint, as its sidecar tells it."""

    path: Path
    step: int
    tags: tuple[str, ...]  # "best", "last"
    successes: int | None
    episodes: int | None
    created: float
    size: int


@dataclass(frozen=True)
class Machine:
    """GPU and host at one moment. `why_no_gpu` is a sentence where `gpus` is empty; `host` None: not sampled."""

    gpus: tuple[GpuSample, ...] = ()
    why_no_gpu: str = ""
    host: HostSample | None = None


@dataclass
class ChartChoices:
    """How charts are drawn, for all jobs alike.

    Attributes:
        pins: metrics whose charts come first, in this order.
        kind: what the x axis of the charts screen counts.
        smooth: weight of the running average; 0: none.
        clip: leave outliers out of the y axis.
        marks: show checkpoints and resumes.
        log_y: by metric, where it differs from what suits that metric.
    """

    pins: list[str] = field(default_factory=list)
    kind: XKind = "step"
    smooth: float = 0.0
    clip: bool = False
    marks: bool = True
    log_y: dict[str, bool] = field(default_factory=dict)


@dataclass
class Layout:
    """How the main screen was left.

    Attributes:
        tab: of a terminal with room for one pane.
        middle: which of the other metrics the middle chart shows, counted from the first.
    """

    tab: str = "queue"
    middle: int = 0


@dataclass
class BrowserChoices:
    """How the checkpoint browser was left: sorted by which column, turned round, arranged, filtered; `foreign`: with
    the .pt files that are no checkpoints."""

    sort: str = "age"
    turned: bool = False
    arrangement: str = "list"
    filter: str = ""
    foreign: bool = False


@dataclass
class WatchChoices:
    """How episodes are played: states per second as a multiple of the robot's own, pictures per second at most."""

    speed: float = 1.0
    frames: int = 5


@dataclass
class Board:
    """Everything on the screen. Fields of the selected job are empty until the feed has read them."""

    jobs: list[Job] | None = None  # of the queue; None: not read yet
    by_hand: list[Job] = field(default_factory=list)  # runs that the queue does not hold; their ids are negative
    lines: dict[int, JobLine] = field(default_factory=dict)  # how each active job does, and the one that ended last
    selected: int | None = None
    follow: bool = True  # the cursor goes to each run that starts, until the user moves it
    trace: TraceView | None = None
    events: tuple[JobEvent, ...] = ()
    log: tuple[str, ...] | None = None  # the tail; None: no log yet
    checkpoints: tuple[CheckpointRow, ...] = ()
    machine: Machine = field(default_factory=Machine)
    advice: tuple[Advice, ...] = ()  # on the selected job, the heaviest first
    runner_pid: int | None = None
    runner_known: bool = False
    troubles: dict[str, str] = field(default_factory=dict)  # what does not work right now, by part
    charts: ChartChoices = field(default_factory=ChartChoices)
    overlay: Overlay = field(default_factory=Overlay)
    layout: Layout = field(default_factory=Layout)
    ranking: Ranking = field(default_factory=Ranking)
    browser: BrowserChoices = field(default_factory=BrowserChoices)
    watching: WatchChoices = field(default_factory=WatchChoices)
    dismissed: set[str] = field(default_factory=set)  # advice that was put away, as "41:key of the advice"
    _shown: tuple[object, object, object, list[Job]] = field(default=(None, None, None, []), repr=False)

    def job(self) -> Job | None:
        """The selected job."""
        return next((job for job in self.shown() if job.id == self.selected), None)

    def shown(self) -> list[Job]:
        """The jobs of the queue in their order, and the runs by hand: behind those that run, too, or at the end. What
        is over may be sorted by a metric."""
        jobs, others = self.jobs or [], self.by_hand
        known = self._shown  # asked for some ten times a redraw
        if known[0] is self.jobs and known[1] is others and known[2] is self.ranking:
            return known[3]
        active = sum(job.state.active for job in jobs)  # these come first
        running = [job for job in others if job.state.active]
        shown = [*jobs[:active], *running, *jobs[active:], *(job for job in others if not job.state.active)]
        if self.ranking.metric:
            shown = ranked(shown, self.ranking)
        self._shown = self.jobs, others, self.ranking, shown
        return shown

    def select(self, job_id: int | None) -> None:
        """Another job: what is shown of the old one goes."""
        self.selected = job_id
        self.trace, self.events, self.log, self.checkpoints, self.advice = None, (), None, (), ()

    def advised(self) -> list[Advice]:
        """The advice on the selected job that was not dismissed, the heaviest first."""
        return [each for each in self.advice if f"{self.selected}:{each.key}" not in self.dismissed]


def paces(lines: Mapping[int, JobLine]) -> dict[int, tuple[float | None, float | None]]:
    """Rate and end of each job: what the queue and the job's card show of how it does."""
    return {job_id: (line.rate, line.ends) for job_id, line in lines.items()}
