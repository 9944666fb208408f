"""A question before something that cannot be undone."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from ..bound import answers
from .base import PidecScreen


class Question(ModalScreen[bool]):
    """Asks; `y` says yes, everything else that closes it says no."""

    HORIZONTAL_BREAKPOINTS = PidecScreen.HORIZONTAL_BREAKPOINTS  # a text of its usual width was cut at the floor

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes", id="question.yes"),
        Binding("n,escape,q,enter", "answer(False)", "no", id="question.no"),
    ]

    def __init__(self, text: str, yes: str, no: str) -> None:
        super().__init__()
        self._text, self._yes, self._no = text, yes, no

    def compose(self) -> ComposeResult:
        line = answers(self.app, {"question.yes": self._yes, "question.no": self._no})
        with Vertical(classes="box"):
            yield Static(self._text, markup=False)
            yield Static(Text("\n").append_text(line), classes="answers")

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)
