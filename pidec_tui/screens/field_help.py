"""All about one field of a form: what two lines have no room for."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from ..forms import FormField
from .help import TextScreen


class FieldHelp(TextScreen):
    """What it means, what it may be, what was found, and what stands below it.

    Args:
        found: paths that it may name.
        note: what the form says of its value now; "" for nothing.
    """

    def __init__(self, field: FormField, found: Sequence[str], note: str) -> None:
        super().__init__()
        self._field, self._found, self._note = field, found, note

    def content(self) -> RenderableType:
        field, muted = self._field, self.app.theme_variables["muted"]
        text = Text(f"{field.name}\n", "bold", overflow="fold").append(f"{field.description}\n", "not bold")
        usual = "needs a value" if field.default is None else f"usual: {field.default or 'none'}"
        facts = [", ".join(field.choices), usual, "several values make a job for each" if not field.choices else ""]
        text.append("\n".join(fact for fact in facts if fact), f"not bold {muted}")
        if self._note:
            text.append(f"\n\n{self._note}", "not bold")
        if self._found:
            text.append(f"\n\nfound ({len(self._found):,}):", f"not bold {muted}")
            text.append("".join(f"\n{path}" for path in self._found), "not bold")
        return text
