"""Notices: one that is still shown is counted instead of shown again, and a small screen holds few at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from textual.app import App
from textual.notifications import Notification, Notify

from .bound import keys_of
from .refusals import in_keys

_LEAST_LINES = 28  # of a terminal; below them notices would cover what they are about
_FEW, _MANY = 2, 5
_WEIGHT = {"information": 0, "warning": 1, "error": 2}


class Notices(App[None]):
    """An app whose notices are plain text, in its own keys."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[
            str, tuple[Notification, int]
        ] = {}  # as it was asked for and how often, by identity of what is shown

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: Literal["information", "warning", "error"] = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Say something. No notice is markup, whatever a widget asks for: names of jobs and keys may look like it."""
        super().notify(in_keys(message, keys_of(self)), title=title, severity=severity, timeout=timeout, markup=False)

    def on_notify(self, event: Notify) -> None:
        """In place of Textual's: it would put one toast above the other, until there is nothing else to see."""
        event.prevent_default()
        asked = event.notification
        shown = {each.identity: each for each in self._notifications}
        self._told = {identity: told for identity, told in self._told.items() if identity in shown}
        times = 1
        for identity, (before, count) in self._told.items():
            if (before.message, before.title, before.severity) == (asked.message, asked.title, asked.severity):
                self._unnotify(shown[identity], refresh=False)
                times += count
        self._make_room()
        self._notifications.add(counted(asked, times))
        self._told[asked.identity] = asked, times
        self._refresh_notifications()

    def _make_room(self) -> None:
        """The least important goes first, of those the oldest."""
        most = _FEW if self.size.height < _LEAST_LINES else _MANY
        shown = sorted(self._notifications, key=lambda each: (_WEIGHT[each.severity], each.raised_at))
        for each in shown[: max(len(shown) + 1 - most, 0)]:
            self._unnotify(each, refresh=False)


def counted(asked: Notification, times: int) -> Notification:
    """`Job 7 held ×3`, behind the title where it has one."""
    if times == 1:
        return asked
    if asked.title:
        return replace(asked, title=f"{asked.title} ×{times}")
    return replace(asked, message=f"{asked.message} ×{times}")
