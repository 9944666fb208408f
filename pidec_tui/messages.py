"""What the worker threads tell the app. A newer message replaces an older one of its kind that is still waiting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from textual.message import Message

from pidec_train.protocol.errors import PidecError

from .board import CheckpointRow, Machine, TraceView
from .manager.jobs import Alert, Job, JobEvent
from .manager.overview import JobLine

if TYPE_CHECKING:  # what is seldom looked at first: advice, the browser, episodes
    from .advice import Advice
    from .manager.catalogue import Catalogue, Entry
    from .manager.catalogue_order import Lineage
    from .motion.takes import Take
    from .overlay import Key
    from .runtraces import RunTrace


class FeedMessage(Message, bubble=False):
    """Base: where the app is slower than the feed, only the newest of each kind is handled."""

    def can_replace(self, message: Message) -> bool:
        return type(message) is type(self)


class Looked(Message, bubble=False):
    """All that one look of the feed has to tell, so that it is drawn at once."""

    def __init__(self, messages: Sequence[Message]) -> None:
        super().__init__()
        self.messages = messages


class QueueChanged(FeedMessage):
    def __init__(self, jobs: list[Job], by_hand: Sequence[Job] = ()) -> None:
        super().__init__()
        self.jobs = jobs
        self.by_hand = by_hand


class LinesRead(FeedMessage):
    """How each active job does, by its id, and the one that ended last."""

    def __init__(self, lines: dict[int, JobLine]) -> None:
        super().__init__()
        self.lines = lines


class RankingRead(FeedMessage):
    """The values that runs are sorted by, as far as they were read."""

    def __init__(self, metric: str, values: Mapping[int, float]) -> None:
        super().__init__()
        self.metric = metric
        self.values = values


class MetricNamesRead(Message, bubble=False):
    """The metrics that any job has logged."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = names


class TraceChanged(FeedMessage):
    """New metrics or events of the selected job."""

    def __init__(self, trace: TraceView, events: tuple[JobEvent, ...]) -> None:
        super().__init__()
        self.trace = trace
        self.events = events


class AdviceChanged(FeedMessage):
    """What there is to say on the selected job, the heaviest first."""

    def __init__(self, job_id: int, advice: tuple[Advice, ...]) -> None:
        super().__init__()
        self.job_id = job_id
        self.advice = advice


class OverlayChanged(FeedMessage):
    """News of the runs that are drawn side by side: all of them."""

    def __init__(self, runs: Mapping[Key, RunTrace]) -> None:
        super().__init__()
        self.runs = runs


class LogChanged(FeedMessage):
    """The tail of the selected job's log; None: it has none yet."""

    def __init__(self, job_id: int, lines: tuple[str, ...] | None) -> None:
        super().__init__()
        self.job_id = job_id
        self.lines = lines


class AlertsRaised(Message, bubble=False):
    """What has come up since the dashboard was opened, each once, oldest first."""

    def __init__(self, alerts: Sequence[Alert], jobs: Sequence[Job]) -> None:
        super().__init__()
        self.alerts = alerts
        self.jobs = jobs


class CheckpointsChanged(FeedMessage):
    def __init__(self, job_id: int, rows: tuple[CheckpointRow, ...]) -> None:
        super().__init__()
        self.job_id = job_id
        self.rows = rows


class MachineSampled(FeedMessage):
    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine


class RunnerSeen(FeedMessage):
    """Whether a runner is up; None: none is. `instead_of`: the one that was gone, for which this one was started."""

    def __init__(self, pid: int | None, instead_of: int | None = None) -> None:
        super().__init__()
        self.pid = pid
        self.instead_of = instead_of


class Trouble(Message, bubble=False):
    """A part of the feed does not work right now, or ("" as text) works again.

    `quiet`: only its words are others, or it concerns nobody any more.
    """

    def __init__(self, part: str, text: str, *, quiet: bool = False) -> None:
        super().__init__()
        self.part = part
        self.text = text
        self.quiet = quiet


class EpisodesRead(Message, bubble=False):
    """The kept episodes of a job (or of a checkpoint, by its name), for whoever wants to watch them; none, and then
    why."""

    def __init__(self, job: Job | str, takes: Sequence[Take], why: PidecError | None = None) -> None:
        super().__init__()
        self.job = job
        self.takes = takes
        self.why = why


class CatalogueRead(FeedMessage):
    """The checkpoints as they are now.

    Args:
        looking: how many files without a .json are still to be looked into.
    """

    def __init__(self, catalogue: Catalogue, lineage: Lineage, looking: int) -> None:
        super().__init__()
        self.catalogue = catalogue
        self.lineage = lineage
        self.looking = looking


class CheckpointJudged(Message, bubble=False):
    """Whether a checkpoint may go into the trash, and what goes with it, sentences."""

    def __init__(self, entry: Entry, goes_with_it: Sequence[str], why_not: PidecError | None) -> None:
        super().__init__()
        self.entry = entry
        self.goes_with_it = list(goes_with_it)
        self.why_not = why_not


class CurvesRead(Message, bubble=False):
    """The curves of a job that is not the selected one."""

    def __init__(self, job: Job, trace: TraceView) -> None:
        super().__init__()
        self.job = job
        self.trace = trace


class Refused(Message, bubble=False):
    """The job manager said no to something the user asked for."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__()
        self.message = message
        self.hint = hint


class Done(Message, bubble=False):
    """The job manager did what the user asked for.

    Args:
        text: what to say; "" if it shows by itself.
        job_ids: jobs that were made, to put the cursor on.
    """

    def __init__(self, text: str, job_ids: Sequence[int] = ()) -> None:
        super().__init__()
        self.text = text
        self.job_ids = list(job_ids)
