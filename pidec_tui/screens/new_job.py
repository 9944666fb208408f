"""What to queue: a preset as it is, or a form that starts from one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from pidec_train.protocol.config import CONFIG_MODELS, parse_config, shell_line
from pidec_train.protocol.errors import PidecError

from ..manager.presets import Preset
from ..presetfiles import PresetsRead, read_presets
from ..widgets.jobcard import shown
from .base import PidecScreen

QUICKSTARTS = ("decorator-quickstart", "quickstart")  # what a newcomer is offered, best first
BLANK = {
    "diffusion": ("Train a diffusion policy", "From demonstrations of your own, upstream's settings to start from."),
    "decorator": ("Refine a policy", "Policy Decorator: a residual policy, learned online on top of a checkpoint."),
    "evaluate": ("Evaluate a checkpoint", "Success rate in the simulator, with its 95 % interval."),
    "adapt": ("Adapt a ManiSkill2 checkpoint", "Into one that takes what ManiSkill3 observes, with the same outputs."),
    "demos": ("Make demonstrations", "ManiSkill's motion planner, for the tasks that it has one for."),
    "command": ("Run a shell command", "Anything. Metrics that it appends to $PIDEC_RUN_DIR/metrics.jsonl get curves."),
}


@dataclass(frozen=True)
class Choice:
    """One line of the list: a preset, or (None) an empty form of a kind."""

    name: str
    title: str
    notes: str
    kind: str
    config: dict[str, Any]
    preset: Preset | None


def choices(presets: Sequence[Preset], *, first_start: bool) -> list[Choice]:
    """The workspace's own presets, then the shipped ones with the quickstarts ahead, then an empty form for each kind.

    Args:
        first_start: nothing was ever queued here: the quickstarts come before all others.
    """

    def rank(preset: Preset) -> tuple[bool, int, str]:
        place = QUICKSTARTS.index(preset.name) if preset.name in QUICKSTARTS else len(QUICKSTARTS)
        return preset.builtin and not (first_start and preset.name in QUICKSTARTS), place, preset.name

    found = [
        Choice(p.name, p.title or p.name, " ".join(p.notes.split()), p.kind, p.config, p)
        for p in sorted(presets, key=rank)
    ]
    for kind in CONFIG_MODELS:
        title, notes = BLANK.get(kind, (kind, ""))
        found.append(Choice(f"{kind} …", title, notes, kind, {}, None))
    return found


class PresetList(OptionList):
    """A list with vi's keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "queue it as it is", key_display="enter", id="new.queue"),
        Binding("j", "cursor_down", "down", show=False, id="list.down"),
        Binding("k", "cursor_up", "up", show=False, id="list.up"),
        Binding("g", "first", "first", show=False, id="list.first"),
        Binding("G", "last", "last", show=False, id="list.last"),
    ]


class NewJobScreen(PidecScreen):
    """`enter` queues the preset under the cursor, `e` opens it as a form."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "form", "change it first", id="new.form"),
        Binding("escape", "app.pop_screen", "back", id="new.back"),
    ]
    KEYS = ("new.queue", "new.form", "new.back")

    def __init__(self) -> None:
        super().__init__()
        self._choices: list[Choice] = []
        self._late = False  # the presets come when the screen was drawn without them

    def body(self) -> ComposeResult:
        yield Static("[b]New job[/b]", classes="title")
        with Horizontal(id="new-job"):
            yield PresetList(id="presets", classes="panel")
            yield Static(id="preset-notes", classes="panel")

    def on_mount(self) -> None:
        """The empty forms are there at once, whatever becomes of the presets."""
        self._fill([])
        presets = self.query_one(OptionList)
        presets.border_title, presets.border_subtitle = "presets", "looking for presets …"
        presets.focus()
        self._late = not read_presets(self.door.manager.workspace, self.post_message)

    def on_presets_read(self, message: PresetsRead) -> None:
        """The cursor goes to the first one; of a folder that let one wait it stays where it is, as `enter` queues."""
        presets, before = self.query_one(OptionList), self._chosen()
        presets.border_subtitle = ""
        self._fill(message.presets)
        if self._late and before is not None:
            presets.highlighted = next(i for i, choice in enumerate(self._choices) if choice.name == before.name)
        if message.why:
            self.notify(message.why, title="no presets", severity="warning", timeout=10, markup=False)
        for error in message.broken:
            self.notify(error.line(), title="a preset is left out", severity="warning", timeout=10, markup=False)

    def _fill(self, found: Sequence[Preset]) -> None:
        self._choices = choices(found, first_start=not self.door.board.jobs)
        muted, presets = self.app.theme_variables["muted"], self.query_one(OptionList)
        presets.clear_options()
        presets.add_options(Option(Text(choice.name, "" if choice.preset else muted)) for choice in self._choices)
        presets.highlighted = 0

    def _chosen(self) -> Choice | None:
        place = self.query_one(OptionList).highlighted
        return self._choices[place] if place is not None and place < len(self._choices) else None

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        choice = self._chosen()
        notes = self.query_one("#preset-notes", Static)
        if choice is not None:
            notes.border_title = Content(choice.name)
            notes.update(self._notes(choice))

    def _notes(self, choice: Choice) -> Text:
        muted = self.app.theme_variables["muted"]
        text = Text(choice.title, "bold").append("\n\n")
        text.append(choice.notes or "No notes.", "not bold").append("\n\n")
        for name, value in choice.config.items():
            text.append(f"{name}  ", f"not bold {muted}").append(f"{shown(value)}\n", "not bold")
        opens = f"{self.key('new.queue')} or {self.key('new.form')} opens the form."
        if choice.preset is None:
            return text.append(opens, f"not bold {muted}")
        if choice.preset.lane:
            text.append("lane  ", f"not bold {muted}").append(f"{choice.preset.lane}\n", "not bold")
        for name in choice.preset.open:
            about = CONFIG_MODELS[choice.kind].model_fields[name].description
            text.append(f"{name}  ", f"not bold {muted}").append(f"yours to give: {about}\n", "not bold")
        if choice.preset.open:
            return text.append(f"\n{opens}", f"not bold {muted}")
        try:
            line = shell_line(choice.kind, parse_config(choice.kind, choice.config))
        except PidecError as error:
            return text.append(f"\n{error.line()}", f"not bold {self.app.theme_variables['error']}")
        if choice.preset.first:
            said = f"Queues two jobs: {choice.preset.first}, then this one with its checkpoint."
            text.append(f"\n{said}\n", "bold")
        return text.append(f"\n{line}", f"not bold {muted}")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_queue()

    def action_queue(self) -> None:
        choice = self._chosen()
        if choice is None:
            return
        if choice.preset is None or choice.preset.open:
            self.action_form()
            return
        preset = choice.preset
        self.door.queue_jobs(lambda manager: manager.add_preset_jobs(preset.name))
        self.app.pop_screen()

    def action_form(self) -> None:
        choice = self._chosen()
        if choice is None:
            return
        from .form import FormScreen

        title = f"New job from {choice.name}" if choice.preset else choice.title
        self.app.switch_screen(FormScreen(choice.kind, choice.config, title=title, preset=choice.preset))
