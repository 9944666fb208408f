"""Asking for a number."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from ..bound import answers
from ..forms import whole_number


class NumberScreen(ModalScreen[int | None]):
    """Gives what was typed, None where it was left.

    Args:
        example: of what may be typed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "take it", key_display="enter", id="number.take", priority=True),
        Binding("escape", "leave", "back", id="number.leave", priority=True),
    ]

    def __init__(self, text: str, *, example: str) -> None:
        super().__init__()
        self._text, self._example = text, example

    def compose(self) -> ComposeResult:
        with Vertical(classes="box", id="number-box"):
            yield Static(self._text, markup=False)
            yield Input(placeholder=f"for example {self._example}", compact=True, id="number")
            yield Static(id="number-understood", markup=False)
            told = {"number.take": "go on", "number.leave": "leave it"}
            yield Static(answers(self.app, told), classes="answers")

    def on_input_changed(self, event: Input.Changed) -> None:
        number = whole_number(event.value)
        self.query_one("#number-understood", Static).update("" if number is None else f"= {number:,}")

    def action_take(self) -> None:
        number = whole_number(self.query_one(Input).value)
        if number is None:
            self.notify(f"That is no whole number: type one as in {self._example}.", severity="error", timeout=4)
        else:
            self.dismiss(number)

    def action_leave(self) -> None:
        self.dismiss(None)
