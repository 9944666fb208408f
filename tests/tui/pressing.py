"""What the key tests share: which bindings were pressed, and looking at the screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot

from pidec_tui.app import PidecApp
from pidec_tui.widgets.fields import FieldRow
from pidec_tui.widgets.queue import QueueTable
from tests.tui.scene import settled

PRESSED: set[str] = set()
Test = Callable[..., Any]


def keys(*ids: str) -> Callable[[Test], Test]:
    """Marks a test as the one that presses these bindings."""
    PRESSED.update(ids)
    return lambda test: test


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
