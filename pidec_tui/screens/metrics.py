"""Choosing a metric by typing a part of its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from pidec_train.protocol.metric_names import info

from ..bound import answers
from ..charts.ticks import number

_MOST_LINES = 18  # of the list
_AROUND = 8  # lines of the box around it: what is typed, the keys, the frame


class MetricPicker(ModalScreen[str | None]):
    """Gives the metric to look at, None where it was left without one.

    Args:
        names: to choose from.
        latest: the newest value of each.
        pins: those that are pinned; changed in place.
        takes: what becomes of the one that is chosen.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back", id="metric.leave", priority=True),
        Binding("enter", "take", "take it", key_display="enter", id="metric.take", priority=True),
        Binding("tab", "pin", "pin or unpin", id="metric.pin", priority=True),
        Binding("down,ctrl+n", "move(1)", "next", show=False, id="metric.next", priority=True),
        Binding("up", "move(-1)", "previous", show=False, id="metric.previous", priority=True),
    ]

    def __init__(
        self,
        names: Sequence[str],
        latest: Mapping[str, float | None],
        pins: list[str],
        *,
        takes: str = "its chart",
    ) -> None:
        super().__init__()
        self._takes = takes
        self._names, self._latest, self._pins = names, latest, pins
        self._found: list[str] = list(names)

    def compose(self) -> ComposeResult:
        with Vertical(classes="box", id="picker"):
            yield Input(placeholder="a part of a metric's name", compact=True, id="picker-text")
            yield OptionList(id="picker-list", compact=True)
            told = {"metric.take": self._takes, "metric.pin": "pin", "metric.leave": "back"}
            yield Static(answers(self.app, told))

    def on_mount(self) -> None:
        options = self.query_one(OptionList)
        options.can_focus = False
        self._fill(0)

    def on_resize(self, event: events.Resize) -> None:
        options = self.query_one(OptionList)
        options.styles.max_height = min(_MOST_LINES, max(event.size.height - _AROUND, 1))
        self._fill(options.highlighted or 0)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._found = matching(self._names, event.value)
        self._fill(0)

    def _fill(self, place: int) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([Option(self._line(name)) for name in self._found])
        options.highlighted = min(place, len(self._found) - 1) if self._found else None

    def _line(self, name: str) -> Text:
        """Whether it is pinned, its name, its newest value, and what it means as far as there is room."""
        room = max(self.query_one(OptionList).scrollable_content_region.width - 2, 0)
        names = min(max(cell_len(each) for each in self._names), room // 2)
        value = self._latest.get(name)
        line = Text(name)
        line.truncate(names, overflow="ellipsis", pad=True)
        line = Text("★ " if name in self._pins else "  ").append_text(line)
        line.append(f"  {'-' if value is None else number(value):>7}")
        line.append(f"  {info(name).meaning}", self.app.theme_variables["muted"])
        line.truncate(room, overflow="ellipsis")
        return line

    def _chosen(self) -> str | None:
        place = self.query_one(OptionList).highlighted
        return self._found[place] if place is not None and place < len(self._found) else None

    def action_move(self, by: int) -> None:
        options = self.query_one(OptionList)
        if self._found:
            options.highlighted = ((options.highlighted or 0) + by) % len(self._found)

    def action_pin(self) -> None:
        name = self._chosen()
        if name is None:
            return
        if name in self._pins:
            self._pins.remove(name)
        else:
            self._pins.append(name)
        self._fill(self.query_one(OptionList).highlighted or 0)

    def action_take(self) -> None:
        self.dismiss(self._chosen())

    def action_leave(self) -> None:
        self.dismiss(None)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._found[event.option_index])


def matching(names: Sequence[str], typed: str) -> list[str]:
    """The names that hold every word typed, those that begin with the first one before the others."""
    words = typed.lower().split()
    found = [name for name in names if all(word in name.lower() for word in words)]
    return sorted(found, key=lambda name: not (words and name.rpartition("/")[2].lower().startswith(words[0])))
