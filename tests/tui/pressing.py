"""What the key tests share: which bindings were pressed, and looking at the screen."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot

from pidec_tui.app import PidecApp
from pidec_tui.widgets.fields import FieldRow
from pidec_tui.widgets.queue import QueueTable
from tests.tui.scene import settled

PRESSED: dict[str, set[str]] = {}  # by id of binding: what the tests that claim to press it have in their code
Test = Callable[..., Any]


def keys(*ids: str) -> Callable[[Test], Test]:
    """Marks a test as the one that presses these bindings. `test_keys` holds its code against that claim."""

    def mark(test: Test) -> Test:
        code = ast.parse(textwrap.dedent(inspect.getsource(test)))
        said = {each.value for each in ast.walk(code) if isinstance(each, ast.Constant) and isinstance(each.value, str)}
        for starred in (each for each in ast.walk(code) if isinstance(each, (ast.Starred, ast.For))):
            text = starred.value if isinstance(starred, ast.Starred) else starred.iter
            said |= set(text.value) if isinstance(text, ast.Constant) and isinstance(text.value, str) else set()
        for name in ids:
            PRESSED.setdefault(name, set()).update(said)
        return test

    return mark


def queue_of(pilot: Pilot[Any]) -> QueueTable:
    return pilot.app.screen_stack[0].query_one(QueueTable)


def board_of(pilot: Pilot[Any]) -> Any:
    assert isinstance(pilot.app, PidecApp)
    return pilot.app.board


def field(pilot: Pilot[Any], name: str) -> FieldRow:
    return next(row for row in pilot.app.screen.query(FieldRow) if row.field.name == name)


async def go(pilot: Pilot[Any], job_id: int) -> None:
    """Put the cursor on a job."""
    await settled(pilot)
    board_of(pilot).follow = False
    queue_of(pilot).go_to(str(job_id))
    await settled(pilot)
    assert board_of(pilot).selected == job_id


def notices(pilot: Pilot[Any]) -> str:
    return " ".join(f"{n.title} {n.message}" for n in pilot.app._notifications)
