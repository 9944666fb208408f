"""The user's own keys: a TOML file of binding ids and keys, held against all bindings of the dashboard.

An entry that cannot be is left out and said, the others hold: nobody is locked out by a slip in a file.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import REPLACED_KEYS, Keys, _character_to_key, key_to_character
from textual.screen import ModalScreen, Screen
from textual.widget import Widget

from pidec_train.protocol.errors import PidecError, did_you_mean
from pidec_train.protocol.rundir import home_path

from .manager.tomlfiles import read_toml, user_settings_path

_MODIFIERS = {"ctrl", "shift", "alt", "meta", "super", "hyper"}
_NAMED = {key.value for key in Keys if not key.value.startswith("<")}
_SAID = 3  # troubles that a notice has room for
Keymap = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class UserKeys:
    """What the file says.

    Attributes:
        keymap: keys by id of binding, as Textual spells them.
        troubles: what was left out and why, a line each.
    """

    keymap: Keymap = field(default_factory=dict)
    troubles: tuple[str, ...] = ()

    def textual(self) -> dict[str, str]:
        """As `App.set_keymap` takes it."""
        return {name: ",".join(keys) for name, keys in self.keymap.items()}

    def said(self) -> str:
        """The troubles as a notice; of many, the first ones."""
        more = len(self.troubles) - _SAID
        rest = [f"and {more} more: pidec-tui --list-keys says all"] if more > 0 else []
        return "\n".join([*self.troubles[:_SAID], *rest])


def keys_file() -> Path:
    """`$XDG_CONFIG_HOME/pidec/keys.toml`, by default below ~/.config."""
    return user_settings_path().with_name("keys.toml")


def read_keys(file: str | None = None) -> UserKeys:
    """The user's keys. Never raises.

    Args:
        file: named by the user; by default `keys_file`, which need not be there.
    """
    path = home_path(file) if file else keys_file()
    if not file and not os.path.lexists(path):
        return UserKeys()
    try:
        values = _flat(read_toml(path))
    except PidecError as error:
        return UserKeys(troubles=(f"{error.message}. All keys are the usual ones.",))
    text = path.read_text(encoding="utf-8")
    known: dict[str, set[str]] = {}
    for name, binding in every_binding():
        known.setdefault(name, set()).add(binding.key)
    keymap: Keymap = {}
    troubles: dict[str, str] = {}
    for name, value in values.items():
        try:
            if name not in known:
                table, _, rest = name.partition(".")
                below = f'"{rest}" stands below [{table}]: lines without a table come first'
                hint = below if rest in known else did_you_mean(name, known)
                raise PidecError(f'there is no key with the id "{name}"', hint)
            keys = _keys_of(value)
            if set(keys) != known[name]:  # a line of the listing that was left as it was; lists differ in their keys
                keymap[name] = keys
        except PidecError as error:
            troubles[name] = f"{error.message}; {error.hint}" if error.hint else error.message
    refused = _clashes(keymap)
    troubles |= refused
    kept = {name: keys for name, keys in keymap.items() if name not in refused}
    return UserKeys(kept, tuple(f"{path}, line {_line(text, name)}: {why}" for name, why in troubles.items()))


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """`[job]` with `cancel = …`, and `job.cancel = …`, mean what `"job.cancel" = …` does."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat


def _keys_of(value: Any) -> tuple[str, ...]:
    """Keys as Textual spells them. Raises PidecError for what is no key."""
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise PidecError(f"{value!r} is no key", 'write "ctrl+x", "x,f2" or ["x", "f2"]')
    return tuple(dict.fromkeys(_key(word.strip()) for word in words))


def _key(word: str) -> str:
    *modifiers, last = word.split("+") if len(word) > 1 else [word]
    last = _character_to_key(last) if len(last) == 1 else last
    known = last in _NAMED or key_to_character(REPLACED_KEYS.get(last, last))
    if not word or not known or not set(modifiers) <= _MODIFIERS:
        comma = ', and "comma" for the comma' if not word else ""
        raise PidecError(f'there is no key "{word}"', f'write "x", "X", "f2", "ctrl+x", "alt+x", "pagedown"{comma}')
    return "+".join([*modifiers, last])


def _line(text: str, name: str) -> int:
    """The line on which an id is set, counted from 1."""
    parts = name.split(".")
    for first in range(len(parts)):  # the whole id, or what of it does not stand in the heading of a table
        if found := re.search(rf'^\s*"?{re.escape(".".join(parts[first:]))}"?\s*=', text, re.MULTILINE):
            return text.count("\n", 0, found.end()) + 1
    return 1


# --- all bindings, and those that are there together


class Place(NamedTuple):
    """A screen, and what stands on it."""

    kind: type[Screen[Any]]
    widgets: tuple[type[Widget], ...]

    @property
    def name(self) -> str:
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.kind.__name__).lower()
        return words if words.endswith("screen") else f"{words} screen"


def places() -> list[Place]:
    """Every screen of the dashboard, with its widgets: those that its modules name, and those that these name."""
    from . import screens

    found = []
    for each in pkgutil.iter_modules(screens.__path__):
        module = importlib.import_module(f"{screens.__name__}.{each.name}")
        for kind in _own_classes(module, Screen):
            if kind.__module__ == module.__name__:
                found.append(Place(kind, tuple(dict.fromkeys(_widgets_of(kind)))))
    return found


def _own_classes(module: Any, base: type[Any]) -> list[type[Any]]:
    return [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, base) and each.__module__.startswith("pidec_tui.")
    ]


def _widgets_of(kind: type[Any]) -> Iterator[type[Widget]]:
    seen: set[str] = set()
    waiting = [base.__module__ for base in kind.__mro__ if base.__module__.startswith("pidec_tui.")]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for widget in _own_classes(importlib.import_module(name), Widget):
            if not issubclass(widget, Screen):
                yield widget
                waiting.append(widget.__module__)


def _bindings(kind: type[DOMNode]) -> dict[str, Binding]:
    """By key, with those of the classes above it."""
    return {key: bindings[0] for key, bindings in kind._merge_bindings().key_to_bindings.items()}


def every_binding() -> list[tuple[str, Binding]]:
    """Id and binding, one for each key: of the screens, their widgets and the app."""
    from .app import PidecApp

    kinds: list[type[DOMNode]] = [PidecApp]
    for place in places():
        kinds += [place.kind, *place.widgets]
    found: dict[tuple[str, str], Binding] = {}
    for kind in kinds:
        for binding in _bindings(kind).values():
            if binding.id and not binding.id.startswith("command-palette"):
                found.setdefault((binding.id, binding.key), binding)
    return [(name, binding) for (name, _), binding in found.items()]


# --- clashes


def _clashes(keymap: Keymap) -> dict[str, str]:
    """Entries that would put two meanings on one key of a screen, or a letter that is typed there: why, by id.

    What is left out has its usual key again, and that may be in the way of another entry: until nothing changes.
    """
    refused: dict[str, str] = {}
    everywhere = places()
    while True:
        kept = {name: keys for name, keys in keymap.items() if name not in refused}
        found = next((clash for place in everywhere for clash in _clashes_at(place, kept)), None)
        if found is None:
            return refused
        refused[found[0]] = found[1]


def _clashes_at(place: Place, keymap: Keymap) -> Iterator[tuple[str, str]]:
    from textual.widgets import Input

    from .app import PidecApp

    above: list[type[DOMNode]] = [place.kind] if issubclass(place.kind, ModalScreen) else [place.kind, PidecApp]
    usual: dict[str, Binding] = {}
    for kind in above:  # Textual's own ones, such as ctrl+q, give way to the user's
        usual = {**{key: each for key, each in _bindings(kind).items() if each.id}, **usual}
    types = any(issubclass(each, Input) for each in _used(place))
    for binding in usual.values():
        for key in keymap.get(binding.id or "", ()):
            if binding.priority and types and key_to_character(REPLACED_KEYS.get(key, key)) is not None:
                yield (
                    binding.id or "",
                    f'"{binding.id}" cannot be "{key}": that is typed into the {place.name}\'s fields',
                )
    yield from _twice(usual, usual, keymap, place)
    for widget in place.widgets:
        own = _bindings(widget)
        named = {key: each for key, each in own.items() if each.id}  # in one class, the keymap's key takes the place
        yield from _twice(named, named, keymap, place)
        yield from _twice(own, usual, keymap, place)


def _used(place: Place) -> Iterator[type[Any]]:
    """Every class that the modules of a screen name."""
    for base in place.kind.__mro__:
        if base.__module__.startswith("pidec_tui."):
            yield from (
                each for each in vars(importlib.import_module(base.__module__)).values() if isinstance(each, type)
            )


def _twice(
    one: Mapping[str, Binding], other: Mapping[str, Binding], keymap: Keymap, place: Place
) -> Iterator[tuple[str, str]]:
    """Keys that mean one thing in `one` and another in `other`, and would not without the keymap."""
    first, second = _by_key(one, keymap), _by_key(other, keymap)
    before = _by_key(one, {}), _by_key(other, {})
    for key in first.keys() & second.keys():
        for mine in first[key]:
            for theirs in second[key]:
                pair = [each for each in (mine, theirs) if key in keymap.get(each.id or "", ())]
                as_usual = mine in before[0].get(key, ()) and theirs in before[1].get(key, ())
                if mine.id == theirs.id or not pair or as_usual:
                    continue
                wrong, there = pair[0], theirs if pair[0] is mine else mine
                what = f"{there.id} ({there.description})" if there.id else there.description or there.action
                yield wrong.id or "", f'"{wrong.id}" cannot be "{key}": that is {what} on the {place.name}'


def _by_key(bindings: Mapping[str, Binding], keymap: Keymap) -> dict[str, list[Binding]]:
    """As they are with the keymap."""
    found: dict[str, list[Binding]] = {}
    for key, binding in bindings.items():
        for each in keymap.get(binding.id or "", (key,)):
            if binding not in found.setdefault(each, []):
                found[each].append(binding)
    return found


# --- telling


def meanings() -> dict[str, str]:
    """What each id means; where that is not the same everywhere, on which screens: `top on the detail screen`."""
    from .app import PidecApp

    found: dict[str, dict[str, dict[str, None]]] = {}  # id -> meaning -> screens, in their order
    for place in (each for each in places() if not each.kind.__name__.endswith("Keys")):  # these are mixed into others
        kinds: list[type[DOMNode]] = [place.kind, *place.widgets, PidecApp]
        for kind in kinds:
            for binding in _bindings(kind).values():
                if binding.id:
                    found.setdefault(binding.id, {}).setdefault(binding.description, {})[place.name] = None
    return {
        name: next(iter(told))
        if len(told) == 1
        else "; ".join(f"{meaning} on the {', '.join(where)}" for meaning, where in told.items())
        for name, told in found.items()
    }


def listing(user: UserKeys, titles: Mapping[str, str]) -> str:
    """All bindings as a TOML file to begin with: what is usual is a comment.

    Args:
        titles: of the groups, by the first word of their ids; others come after.
    """
    keys: dict[str, list[str]] = {}
    for name, binding in every_binding():
        keys.setdefault(name, []).append(binding.key)
    said = meanings()
    groups = [*titles, *sorted({name.partition(".")[0] for name in keys} - set(titles))]
    lines = [f"# The keys of pidec-tui. Put this into {keys_file()}, and take the # off the lines that you change."]
    for group in groups:
        lines += ["", f"# {titles.get(group, group)}"]
        for name in (name for name in keys if name.partition(".")[0] == group):
            mine = user.keymap.get(name)
            value = ",".join(mine or dict.fromkeys(keys[name]))
            lines.append(f'{"" if mine else "# "}"{name}" = "{value}"  # {said[name]}')
    return "\n".join(lines) + "\n"
