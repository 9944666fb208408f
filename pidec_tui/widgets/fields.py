"""The lines of a form: a name, a value that is typed or chosen, what it means, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input, Static

from ..forms import FormField

USUAL = "usual"  # how a choice that is left open is shown; the line beside it says what that means


class Chooser(Widget, can_focus=True):
    """One of a few texts: space, left and right go through them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,right", "turn(1)", "next choice", show=False, id="form.choose"),
        Binding("left", "turn(-1)", "previous choice", show=False, id="form.choose-back"),
    ]

    class Changed(Message):
        """Another text is chosen."""

    def __init__(self, options: Sequence[str], value: str) -> None:
        super().__init__()
        self._options = list(options)
        self.value = value if value in self._options else self._options[0]

    def render(self) -> Text:
        muted = self.app.theme_variables["muted"]
        shown = self.value or USUAL
        return Text("‹ ", muted).append(shown, self.app.theme_variables["foreground"]).append(" ›", muted)

    def action_turn(self, by: int) -> None:
        place = (self._options.index(self.value) + by) % len(self._options)
        self.value = self._options[place]
        self.refresh()
        self.post_message(self.Changed())


class FieldRow(Vertical):
    """One field. `Edited` is posted at every change."""

    class Edited(Message):
        """The value is another now."""

    def __init__(self, field: FormField, text: str) -> None:
        super().__init__(classes="field")
        self.field = field
        self.suggestions: list[str] = []  # paths that were found
        self.said = ""  # the note below
        self.initial = text
        self._editor: Input | Chooser
        if field.choices:
            self._editor = Chooser(field.choices, text)
        else:
            self._editor = Input(
                text,
                compact=True,
                select_on_focus=False,
                placeholder="none" if field.optional else "",
            )

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Static(self.field.name, classes="field-name")
            yield self._editor
            yield Static(self.field.description, classes="field-about", markup=False)
        yield Static(classes="field-note", markup=False)

    @property
    def text(self) -> str:
        return self._editor.value

    def fill(self, text: str) -> None:
        """Put another text in, as if typed."""
        if isinstance(self._editor, Input):
            self._editor.value = text
            self._editor.cursor_position = len(text)

    def edit(self) -> None:
        """Put the keyboard here."""
        self._editor.focus()

    def has_keyboard(self) -> bool:
        return self._editor.has_focus

    def offer(self, paths: Sequence[str]) -> None:
        """Paths that were found: they complete what is typed from now on."""
        self.suggestions = list(paths)
        if isinstance(self._editor, Input):
            self._editor.suggester = SuggestFromList(self.suggestions) if paths else None

    def note(self, error: str, hint: str, understood: str = "") -> None:
        """Show what is wrong, else how the value was read and what it costs, else nothing."""
        self.set_class(bool(error), "-wrong")
        self.set_class(bool(hint) and not error, "-costly")
        self.set_class(bool(understood) and not error and not hint, "-understood")
        told = [f"= {understood}"] * bool(understood) + [f"! {hint}"] * bool(hint)
        self.said = f"✗ {error}" if error else "\n".join(told)
        self.query_one(".field-note", Static).update(self.said)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Edited())

    def on_chooser_changed(self, event: Chooser.Changed) -> None:
        event.stop()
        self.post_message(self.Edited())
