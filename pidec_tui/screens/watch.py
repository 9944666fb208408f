"""Kept episodes of a job's evaluations, played from their states: base and decorated policy side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from pidec_train.protocol.episodes import Episode

from ..board import WatchChoices
from ..manager.jobs import Job
from ..motion.takes import Take, starts
from ..motion.tasks import CONTROL_HZ, Look, Task, task_of
from ..widgets.motionview import MotionView, Scene
from .base import PidecScreen

if TYPE_CHECKING:
    from ..motion.draw import Floats

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0)
FRAMES = (2, 5, 10, 20)  # pictures a second: what a slow line carries, and what looks smooth
HOLD = CONTROL_HZ  # states that the end stays, before it begins anew
_LONGEST_TICK = 1.5  # pictures; after a longer silence (a suspended terminal) it goes on where it was
_MARKS: dict[Look, str] = {"object": "□", "other": "▭", "goal": "┄"}


class WatchScreen(PidecScreen):
    """Plays in a loop, at real speed at first.

    Args:
        job: whose episodes they are; text for a checkpoint that no job of this workspace wrote.
        takes: one or two policies.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "pause", id="watch.pause"),
        Binding("n", "start(1)", "other start", id="watch.next"),
        Binding("p", "start(-1)", "previous start", show=False, id="watch.previous"),
        Binding("right,right_square_bracket", "step(1)", "step", key_display="→", id="watch.forward"),
        Binding("left,left_square_bracket", "step(-1)", "step back", show=False, key_display="←", id="watch.back"),
        Binding("plus,equals_sign", "speed(1)", "faster", key_display="+", id="watch.faster"),
        Binding("minus", "speed(-1)", "slower", key_display="-", id="watch.slower"),
        Binding("f", "frames", "pictures a second", show=False, id="watch.frames"),
        Binding("g,home", "rewind", "from the start", show=False, id="watch.rewind"),
        Binding("tab", "turn", "other view", id="watch.view"),
        Binding("escape", "app.pop_screen", "back", id="watch.leave"),
    ]
    KEYS = ("watch.leave", "watch.pause", "watch.next", "watch.forward", "watch.view", "watch.faster", "watch.slower")

    def __init__(self, job: Job | str, takes: Sequence[Take]) -> None:
        super().__init__()
        self._job, self._takes = job, list(takes)
        self._seeds = starts(takes)
        self._start = 0  # index into the seeds
        self._at = 0.0  # states since the start; goes on past the end for as long as it holds
        choices = self.choices
        self._speed = min(range(len(SPEEDS)), key=lambda place: abs(SPEEDS[place] - choices.speed))
        self._ticks: Timer | None = None
        self._playing = True
        self._last = time.monotonic()
        self._view = 0  # where there is room for one
        self._columns: list[_Column] = []

    @property
    def choices(self) -> WatchChoices:
        return self.door.board.watching

    def body(self) -> ComposeResult:
        yield Static(id="watch-title", classes="title")
        with Horizontal(id="takes"):
            self._columns = [_Column() for _ in self._takes]
            yield from self._columns
        yield Static(id="watch-note")

    def on_mount(self) -> None:
        self.set_class(len(self._takes) == 1, "-single")
        self._bring()
        self._begin_to_tick()

    def _begin_to_tick(self) -> None:
        if self._ticks is not None:
            self._ticks.stop()
        self._ticks = self.set_interval(1 / self.choices.frames, self._tick)

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        self.set_class(event.size.height < 24, "-one-view")
        self._place_views()
        self.refresh_bindings()

    # --- what is shown

    def _bring(self) -> None:
        """The episodes of the start that is wanted now, from their beginning."""
        self._at = 0.0
        seed = self._seeds[self._start]
        for column, take in zip(self._columns, self._takes, strict=True):
            column.bring(take, take.episode(seed))
        tasks = [column.drawing for column in self._columns if column.drawing is not None]
        self.query_one("#watch-note", Static).update(self._legend(tasks[0]))
        self._place_views()
        self._show()
        self._say()

    def _place_views(self) -> None:
        for column in self._columns:
            column.only(self._view if self.has_class("-one-view") else None)

    def _show(self) -> None:
        for column in self._columns:
            column.show(int(self._at), self.app.theme_variables)

    def _say(self) -> None:
        """The top line."""
        parts = [
            f"start {self._start + 1} of {len(self._seeds)}, seed {self._seeds[self._start]}",
            f"{SPEEDS[self._speed]:g}×" if self._playing else "paused",
            self._takes[0].file.env_id,
            self._job if isinstance(self._job, str) else f"job {self._job.id}, {self._job.name}",
        ]
        self.query_one("#watch-title", Static).update(Content(" · ".join(parts)), layout=False)

    def _legend(self, task: Task) -> Text:
        """What is what, in words and shapes; or why there is nothing to see."""
        colours = self.app.theme_variables
        if task.note:
            return Text(task.note, colours["warning"])
        named: dict[Look, str] = {"object": "warning", "other": "secondary", "goal": "success"}
        line = Text("▮▮", colours["primary"]).append(" gripper", colours["muted"])
        for thing in reversed(task.things):
            line.append(f"   {_MARKS[thing.look]}", colours[named[thing.look]])
            line.append(f" {thing.name}", colours["muted"])
        return line.append("   ⠂⠂⠂ its last second", colours["muted"])

    # --- time

    def _length(self) -> int:
        """States until the longest of the episodes is over."""
        return max(column.length for column in self._columns)

    def _tick(self) -> None:
        now = time.monotonic()
        passed, self._last = min(now - self._last, _LONGEST_TICK / self.choices.frames), now
        if not self._playing or not self.is_current:
            return
        self._at += passed * CONTROL_HZ * SPEEDS[self._speed]
        if self._at > self._length() + HOLD * max(SPEEDS[self._speed], 1.0):
            self._at = 0.0
        self._show()

    # --- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.has_class("-one-view") if action == "turn" else True

    def action_pause(self) -> None:
        self._playing = not self._playing
        self._say()

    def action_step(self, by: int) -> None:
        """One state on or back; it stands still from then on."""
        self._playing = False
        self._at = float(min(max(min(int(self._at), self._length()) + by, 0), self._length()))
        self._show()
        self._say()

    def action_rewind(self) -> None:
        self._at = 0.0
        self._show()

    def action_speed(self, by: int) -> None:
        self._speed = min(max(self._speed + by, 0), len(SPEEDS) - 1)
        self.choices.speed = SPEEDS[self._speed]
        self._say()

    def action_frames(self) -> None:
        """More pictures a second; after the most, the fewest."""
        self.choices.frames = next((each for each in FRAMES if each > self.choices.frames), FRAMES[0])
        self._begin_to_tick()
        self.notify(f"{self.choices.frames} pictures a second. A slow line carries 2 or 5.", timeout=3)

    def action_start(self, by: int) -> None:
        if len(self._seeds) == 1:
            self.notify("Only one episode was kept.", timeout=3)
        self._start = (self._start + by) % len(self._seeds)
        self._bring()

    def action_turn(self) -> None:
        """The other view, where there is room for one only."""
        self._view = 1 - self._view
        self._place_views()


class _Column(Vertical):
    """One policy: who it is and how it fared, and its two views."""

    def __init__(self) -> None:
        super().__init__(classes="take")
        self.drawing: Task | None = None
        self.length = 0  # env steps
        self._take: Take | None = None
        self._episode: Episode | None = None
        self._scenes: list[Scene] | None = None
        self._said: Static = Static(classes="take-title")
        self._views = [MotionView(classes="panel motion"), MotionView(classes="panel motion")]

    def compose(self) -> ComposeResult:
        yield self._said
        with Container(classes="views"):
            yield from self._views

    def bring(self, take: Take, episode: Episode | None) -> None:
        """Another episode; None: this policy kept none from this start."""
        self._take, self._episode, self._scenes = take, episode, None
        self.length = episode.length if episode else 0
        some = episode or take.file.episodes[0]
        self.drawing = task_of(take.file.env_id, some.frames)
        if episode is not None and self.drawing.tcp is not None:
            frames = _array(episode)
            self._scenes = [Scene(self.drawing, frames, view) for view in self.drawing.views]

    def only(self, view: int | None) -> None:
        """Show this one of the two views; None: both."""
        for index, each in enumerate(self._views):
            each.display = self._scenes is not None and view in (None, index)

    def show(self, at: int, colours: dict[str, str]) -> None:
        at = min(at, self.length)
        self._said.update(self._title(at, colours), layout=False)
        for index, each in enumerate(self._views):
            each.show(self._scenes[index] if self._scenes else None, at)

    def _title(self, at: int, colours: dict[str, str]) -> Text:
        """Two lines: policy and checkpoint; outcome and place."""
        assert self._take is not None
        line = Text(self._take.label, "bold")
        step = self._take.file.step  # 0: a base policy, beside the decorator that began with it
        line.append(f"  step {step:,}\n" if step else "\n", f"not bold {colours['muted']}")
        if self._episode is None:
            return line.append("kept no episode from this start", f"not bold {colours['muted']}")
        won = self._episode.success
        line.append("✓ succeeds" if won else "✗ fails", f"bold {colours['success' if won else 'error']}")
        over = ", over" if at == self.length else ""
        return line.append(f"  {at}/{self.length} env steps{over}", f"not bold {colours['muted']}")


def _array(episode: Episode) -> Floats:
    import numpy as np  # only once there is something to watch

    return np.asarray(episode.frames, dtype=float)
