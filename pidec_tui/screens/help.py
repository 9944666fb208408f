"""All keys that do something here, with the ids by which a keymap could change them."""

from __future__ import annotations

from typing import ClassVar

from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from ..bound import bindings_of
from .question import Question

GROUPS = {
    "queue": "Queue",
    "job": "The selected job",
    "group": "All runs of its group",
    "overlay": "Runs side by side",
    "view": "View",
    "list": "In lists",
    "chart": "Charts",
    "why": "Why so fast",
    "metric": "Choosing a metric",
    "checkpoints": "Checkpoints",
    "log": "Log",
    "peek": "Peeking at the log",
    "watch": "Watching episodes",
    "form": "Form",
    "new": "New job",
    "number": "Where a number is asked for",
    "app": "Everywhere",
    "question": "Where something is asked",
    "help": "In this help",
}


class TextScreen(ModalScreen[None]):
    """A text over whatever is on the screen, to be read and left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss", "close", id="help.close"),
        Binding("j,down", "scroll(1)", "down", show=False, id="help.down"),
        Binding("k,up", "scroll(-1)", "up", show=False, id="help.up"),
    ]

    def content(self) -> RenderableType:
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="box", can_focus=False):
            yield Static(self.content())

    def action_scroll(self, by: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)


class HelpScreen(TextScreen):
    """Made from the bindings themselves, so that it cannot be wrong."""

    def __init__(self, under: Screen[object]) -> None:
        super().__init__()
        self._table = help_table(self.app, under)

    def content(self) -> RenderableType:
        return self._table


def help_table(app: App[object], screen: Screen[object]) -> Table:
    """Key, meaning and id of every active binding that has an id of ours, by group; and those of questions and help."""
    colours = app.theme_variables
    groups: dict[str, dict[str, tuple[list[str], str]]] = {}
    for binding in (*_here(app, screen), *bindings_of(app, Question), *bindings_of(app, TextScreen)):
        group = (binding.id or "").partition(".")[0]
        if group in GROUPS:
            keys, _ = groups.setdefault(group, {}).setdefault(binding.id or "", ([], binding.description))
            shown = binding.key_display or app.get_key_display(binding)
            if shown not in keys:
                keys.append(shown)
    table = Table.grid("", "", Column(no_wrap=True), padding=(0, 3, 0, 0))  # an id that is cut can be put into no file
    for group, title in GROUPS.items():
        if group not in groups:
            continue
        table.add_row(Text(title, f"bold {colours['primary']}"))
        for name, (keys, meaning) in groups[group].items():
            table.add_row(Text("  " + " ".join(keys), "bold"), meaning, Text(name, colours["muted"]))
        table.add_row("")
    return table


def _here(app: App[object], screen: Screen[object]) -> list[Binding]:
    """Those that are active, and those of the screen that a widget of Textual's covers only while it scrolls."""
    active = [binding for _, binding, enabled, _ in screen.active_bindings.values() if enabled]
    told = {binding.id for binding in active}
    own = [binding for kind in type(screen).__mro__ if "BINDINGS" in vars(kind) for binding in bindings_of(app, kind)]
    covered = [each for each in own if each.id and each.id not in told]
    return [*active, *(each for each in covered if screen.check_action(each.action.partition("(")[0], ()))]
