"""Keys that arrive together, as over a slow line, take effect in their order."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.pilot import Pilot
from textual.widget import Widget

from pidec_tui.inorder import InOrder
from pidec_tui.screens.main import MainScreen
from tests.tui.pressing import field, go
from tests.tui.scene import Scene, app_of, busy


async def _at_once(pilot: Pilot[Any], *keys: str) -> None:
    """As a terminal's driver does with what one read has given."""
    for key in keys:
        pilot.app.post_message(events.Key(key, key if len(key) == 1 else None))
    await pilot.pause(2.0)


async def test_what_is_typed_lands_where_and_as_it_was_typed(scene: Scene) -> None:
    """Lost: 50 iterations that were typed as 4, 5, twice backspace, 50; or a value that went into the field before, or
    into the screen that the first key has left."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, 4)
        await _at_once(pilot, "e", *["tab"] * 2, "ctrl+u", *"45", "backspace", "backspace", *"50", "left", "3", "tab")
        assert field(pilot, "total_iters").text == "530"
        await _at_once(pilot, "ctrl+u", "7")
        assert field(pilot, "batch_size").text == "7"


async def test_a_key_whose_screen_is_gone_holds_up_no_other(scene: Scene) -> None:
    """Lost: every key after one that closed the screen it was pressed on."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, 4)
        await _at_once(pilot, "enter", "escape", "o", "escape", "j")
        assert isinstance(pilot.app.screen, MainScreen)
        await _at_once(pilot, "L", "escape", "l", "escape", "b", "escape", "question_mark", "escape", "b")
        assert not isinstance(pilot.app.screen, MainScreen)


class _Goes(Widget, can_focus=True):
    """Leaves with a key."""

    BINDINGS: ClassVar[list[BindingType]] = [("x", "go", "go")]

    async def action_go(self) -> None:
        await self.remove()


class _Three(InOrder):
    def compose(self) -> ComposeResult:
        yield from (_Goes(), _Goes(), _Goes())


async def test_a_key_that_removes_its_own_widget_is_no_crash() -> None:
    """Lost: the dashboard, to a key whose widget has no screen any more when the key was dealt with."""
    async with _Three().run_test() as pilot:
        await _at_once(pilot, "x", "x")
        assert len(pilot.app.query(_Goes)) == 1
