"""Which key an id of a binding has now: with the user's own keys, wherever one is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from rich.text import Text
from textual.app import App
from textual.binding import Binding, BindingsMap
from textual.dom import DOMNode

from .words import Keys

_UNSEEN = {"new.queue": "enter"}  # told by the empty first screen, which goes without the module that binds it


def bindings_of(app: App[Any], kind: type[DOMNode]) -> list[Binding]:
    """Those of a class, one for each key, with the user's keymap."""
    bindings = BindingsMap(vars(kind)["BINDINGS"])
    bindings.apply_keymap(app._keymap)
    return [binding for _, binding in bindings]


def key_of(app: App[Any], name: str) -> str:
    """The first key of this id, as it is shown: the user's, else the usual one; "" where nothing has such an id."""
    binding, own = _usual(name), app._keymap.get(name)
    if binding is None:
        return ""
    if own:
        binding = binding.with_key(own.partition(",")[0])
    return app.get_key_display(binding)


@cache
def _usual(name: str) -> Binding | None:
    if name in _UNSEEN:
        return Binding(_UNSEEN[name], "", key_display=_UNSEEN[name], id=name)
    for kind in _kinds(DOMNode):
        for binding in Binding.make_bindings(vars(kind).get("BINDINGS", ())):
            if binding.id == name:
                return binding
    from .keymap import every_binding  # imports all screens: one that was not opened yet has it, or none

    return next((binding for known, binding in every_binding() if known == name), None)


def _kinds(base: type[Any]) -> Iterator[type[Any]]:
    for kind in base.__subclasses__():
        if kind.__module__.startswith("pidec_tui."):
            yield kind
        yield from _kinds(kind)


def keys_of(app: App[Any]) -> Keys:
    """For sentences that are made where nobody knows the app."""
    return lambda name: key_of(app, name)


def answers(app: App[Any], meanings: Mapping[str, str]) -> Text:
    """The line at the foot of a dialog: key and meaning of these bindings."""
    line, primary = Text(), f"bold {app.theme_variables['primary']}"
    for name, meaning in meanings.items():
        line.append("     " if line else "").append(key_of(app, name), primary).append(f" {meaning}")
    return line
