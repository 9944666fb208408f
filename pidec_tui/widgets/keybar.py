"""The bottom line: the keys that do something here, as many as fit whole."""

from __future__ import annotations

from rich.text import Text
from textual.screen import Screen
from textual.widget import Widget


class KeyBar(Widget):
    """Shows the active bindings that ask to be shown, in their order. Never half a word."""

    DEFAULT_CSS = "KeyBar { height: 1; dock: bottom; background: $boost; color: $muted; padding: 0 1; }"

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, _: Screen[object]) -> None:
        self.refresh()

    def render(self) -> Text:
        seen: set[str] = set()
        parts: list[tuple[str, str]] = []
        order: tuple[str, ...] = getattr(self.screen, "KEYS", ())
        active = [binding for _, binding, enabled, _ in self.screen.active_bindings.values() if enabled]
        active.sort(key=lambda binding: order.index(binding.id) if binding.id in order else len(order))
        for binding in active:
            if binding.show and binding.description and binding.description not in seen:
                seen.add(binding.description)
                parts.append((binding.key_display or self.app.get_key_display(binding), binding.description))
        return fitting(parts, self.size.width, self.app.theme_variables["primary"])


def fitting(parts: list[tuple[str, str]], width: int, colour: str) -> Text:
    """The pairs of key and word that fit into `width` cells, in their order; later ones are left out."""
    line = Text(no_wrap=True)
    for key, word in parts:
        if len(line) + len(key) + len(word) + 1 > width:
            break
        line.append(key, f"bold {colour}").append(f" {word}   ")
    line.rstrip()
    return line
