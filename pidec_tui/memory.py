"""What the dashboard remembers of a workspace from one time to the next: one small file that is no part of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import write_json

from .board import Board, BrowserChoices, ChartChoices, Layout, WatchChoices
from .charts.series import KINDS, XKind
from .manager.statedir import local_state_dir, make_private
from .overlay import Key, members
from .ranking import Ranking

VERSION = 1
_LARGEST = 1_000_000  # bytes; what is larger was not written by this


@dataclass(frozen=True)
class Remembered:
    """The file. Keys that are not known are left out, a value that cannot be is its default. No pydantic: it would be
    a seventh of the time to the first picture, which needs to know what was selected.

    Attributes:
        workspace: for the people who read it; the folder's name is a hash.
        ranked_by: the metric that the queue is sorted by.
        selected: the job that the user chose by hand; None: the cursor follows the newest run.
        theme: chosen in the palette; None: as the terminal is.
    """

    version: int = VERSION
    workspace: str = ""
    selected: int | None = None
    tab: str = "queue"
    middle: int = 0
    pins: list[str] = field(default_factory=list)
    x: XKind = "step"
    smooth: float = 0.0
    clip: bool = False
    marks: bool = True
    log_y: dict[str, bool] = field(default_factory=dict)
    marked: list[Key] = field(default_factory=list)
    baseline: Key | None = None
    sort: str = "age"
    turned: bool = False
    arrangement: str = "list"
    filter: str = ""
    foreign: bool = False
    ranked_by: str = ""
    ranked_turned: bool = False
    speed: float = 1.0
    frames: int = WatchChoices.frames
    theme: str | None = None
    dismissed: list[str] = field(default_factory=list)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _key(value: object) -> bool:
    return _whole(value) or isinstance(value, str)


def _between(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _each(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _text(value: object) -> bool:
    return isinstance(value, str)


# What a value may be where it is not enough that it is of its default's type.
_MAY_BE: dict[str, Callable[[Any], bool]] = {
    "selected": lambda value: value is None or _whole(value),
    "middle": lambda value: _whole(value) and value >= 0,
    "pins": _each(_text),
    "x": lambda value: value in KINDS,
    "smooth": _between(0.0, 1.0 - 1e-9),
    "log_y": lambda value: isinstance(value, dict) and all(isinstance(each, bool) for each in value.values()),
    "marked": _each(_key),
    "baseline": lambda value: value is None or _key(value),
    "speed": _between(1e-9, 16.0),
    "frames": lambda value: _whole(value) and 1 <= value <= 60,
    "theme": lambda value: value is None or _text(value),
    "dismissed": _each(_text),
}


def memory_file(workspace: Path) -> Path:
    """Never in the workspace, so that a dashboard that only reads remembers, too."""
    return local_state_dir(workspace) / "dashboard.json"


class Memory:
    """Reads the file once, writes it whenever something changed.

    Args:
        fresh: begin with the defaults, whatever the file says; the first change replaces it.

    Attributes:
        first: what was remembered; the defaults where nothing was, or nothing that could be read.
        trouble: why the file is not used, one line; "" if it is.
    """

    def __init__(self, workspace: Path, *, fresh: bool = False) -> None:
        self.file = memory_file(workspace)
        self.trouble = ""
        self._workspace = str(workspace)
        self._may_write = True
        self._lock = threading.Lock()
        self.first = self._read(fresh)
        self._written = Remembered(workspace=self._workspace) if fresh else self.first

    def _read(self, fresh: bool) -> Remembered:
        """Never raises: a dashboard that does not open for want of its memory would be worse than one without."""
        new = Remembered(workspace=self._workspace)
        try:
            if not self.file.exists():
                return new
            if not self.file.is_file() or self.file.stat().st_size > _LARGEST:
                raise ValueError("it is no file of the dashboard")
            values = json.loads(self.file.read_text(encoding="utf-8"))
        except OSError as error:
            self.trouble = f"{self.file} cannot be read: {error.strerror}. This begins with the defaults."
            return new
        except ValueError as error:
            self.trouble = f"{self.file} is broken ({error}). This begins with the defaults, and replaces it."
            return new
        version = values.get("version") if isinstance(values, dict) else None
        if not isinstance(version, int) or version > VERSION:
            self._may_write = False
            whose = "was written by a newer pidec" if isinstance(version, int) else "is not the dashboard's"
            self.trouble = f"{self.file} {whose}: it stays as it is, and nothing is remembered."
            return new
        return new if fresh else self._validated({**values, "workspace": self._workspace})

    def _validated(self, values: dict[str, Any]) -> Remembered:
        default = asdict(Remembered())
        known = {key: value for key, value in values.items() if key in default}
        wrong = {
            key
            for key, value in known.items()
            if not (_MAY_BE[key](value) if key in _MAY_BE else type(value) is type(default[key]))
        }
        if wrong:
            self.trouble = f"{self.file}: {', '.join(sorted(wrong))} cannot be; the default holds."
        return Remembered(**{key: value for key, value in known.items() if key not in wrong})

    def changed(self, now: Remembered) -> bool:
        """Whether `save` would write."""
        return self._may_write and now != self._written

    def save(self, now: Remembered) -> None:
        """Write it, if it is not what was written last: a dashboard in which nothing changed leaves another one's
        file alone. From any thread.

        Raises:
            PidecError: it cannot be written; said once, then never tried again.
        """
        with self._lock:
            if not self.changed(now):
                return
            try:
                make_private(self.file.parent)
                write_json(self.file, asdict(now))
            except (OSError, PidecError) as error:
                self._may_write = False
                why = error.message if isinstance(error, PidecError) else f"{self.file}: {error.strerror or error}"
                raise PidecError(f"Nothing is remembered: {why}", "The dashboard works without.") from None
            self._written = now


def snapshot(board: Board, theme: str | None, before: Remembered) -> Remembered:
    """What would be remembered now. Runs by hand are left out: their ids hold only while a dashboard is open.

    Args:
        theme: if the user chose one.
        before: what was remembered at the start; stays, where the jobs were not read yet.
    """
    if board.jobs is None:
        return before
    overlay, charts, browser = board.overlay, board.charts, board.browser
    known = {str(job.id) for job in board.shown()}
    return Remembered(
        workspace=before.workspace,
        selected=None if board.follow or _by_hand(board.selected) else board.selected,
        tab=board.layout.tab,
        middle=board.layout.middle,
        pins=list(charts.pins),
        x=charts.kind,
        smooth=charts.smooth,
        clip=charts.clip,
        marks=charts.marks,
        log_y=dict(charts.log_y),
        marked=[key for key in overlay.marked if not _by_hand(key)],
        baseline=None if _by_hand(overlay.baseline) else overlay.baseline,
        sort=browser.sort,
        turned=browser.turned,
        arrangement=browser.arrangement,
        filter=browser.filter,
        foreign=browser.foreign,
        ranked_by=board.ranking.metric,
        ranked_turned=board.ranking.turned,
        speed=board.watching.speed,
        frames=board.watching.frames,
        theme=theme,
        dismissed=sorted(each for each in board.dismissed if each.partition(":")[0] in known),
    )


def _by_hand(key: Key | None) -> bool:
    return isinstance(key, int) and key < 0


def restore(board: Board, was: Remembered) -> None:
    """Put what was remembered on the board, but for what needs the jobs: `restore_jobs`."""
    board.charts = ChartChoices(list(was.pins), was.x, was.smooth, was.clip, was.marks, dict(was.log_y))
    board.layout = Layout(was.tab, was.middle)
    board.browser = BrowserChoices(was.sort, was.turned, was.arrangement, was.filter, was.foreign)
    board.ranking = Ranking(was.ranked_by, was.ranked_turned)
    board.watching = WatchChoices(was.speed, was.frames)
    board.dismissed = set(was.dismissed)


def restore_jobs(board: Board, was: Remembered) -> int | None:
    """Once the jobs are known: mark those that were marked and are still there. The job to select; None: follow."""
    jobs = board.shown()
    board.overlay.marked = _still_there(was.marked, board)
    board.overlay.baseline = was.baseline if was.baseline in board.overlay.marked else None
    return was.selected if any(job.id == was.selected for job in jobs) else None


def _still_there(keys: Iterable[Key], board: Board) -> list[Key]:
    return [key for key in dict.fromkeys(keys) if members(key, board.shown())]
