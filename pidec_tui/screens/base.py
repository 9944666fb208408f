"""What all full screens share: the floor of 60 x 18, and being told when the board changed."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, cast

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from ..bound import key_of
from ..widgets.keybar import KeyBar

if TYPE_CHECKING:
    from ..app import PidecApp

FLOOR = (60, 18)


class PidecScreen(Screen[None]):
    """A screen with a key bar, that says so where the terminal is too small for it."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-medium"), (120, "-wide")]  # noqa: RUF012 - Textual's own type
    VERTICAL_BREAKPOINTS = [(0, "-low"), (28, "-middling"), (34, "-tall")]  # noqa: RUF012

    KEYS: tuple[str, ...] = ()  # ids of bindings, in the order in which the key bar shows them; others come after

    @property
    def door(self) -> PidecApp:
        """The app, by its own type."""
        return cast("PidecApp", self.app)

    def key(self, name: str) -> str:
        """The key that this id of a binding has now, as it is shown."""
        return key_of(self.app, name)

    def body(self) -> ComposeResult:
        """The widgets of the screen, but for the key bar."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        yield Static(id="too-small")
        yield from self.body()
        yield KeyBar()

    def on_resize(self, event: events.Resize) -> None:
        small = event.size.width < FLOOR[0] or event.size.height < FLOOR[1]
        self.set_class(small, "-too-small")
        if small:
            size = f"{event.size.width} x {event.size.height}"
            self.query_one("#too-small", Static).update(
                f"pidec needs a terminal of {FLOOR[0]} x {FLOOR[1]}; this one has {size}."
            )


class BoardScreen(PidecScreen):
    """A screen that shows what is on the board. Only the topmost is told of changes; it catches up when it returns."""

    def show_queue(self) -> None:
        """Jobs, or how fast they go, changed."""

    def show_lines(self) -> None:
        """How the active jobs do has changed."""

    def show_trace(self) -> None:
        """Metrics or events of the selected job changed."""

    def show_advice(self) -> None:
        """The advice on the selected job changed."""

    def show_log(self) -> None:
        """The log's tail changed."""

    def show_checkpoints(self) -> None:
        """The selected job's checkpoints changed."""

    def show_machine(self) -> None:
        """A new sample of GPU and host, and the time of day."""

    def show_top(self) -> None:
        """Runner or troubles changed."""

    def show_parts(self, parts: Collection[str]) -> None:
        """Several of these changed at once, by their names without `show_`."""
        for part in parts:
            getattr(self, f"show_{part}")()

    def show_all(self) -> None:
        if self.is_mounted:
            self.show_parts(("top", "queue", "trace", "log", "checkpoints", "machine"))

    def on_screen_resume(self) -> None:
        self.show_all()


def inner_width(widget: Widget) -> int:
    """Cells that a widget has for its content, 0 before the first layout."""
    return widget.content_size.width
