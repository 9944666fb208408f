"""Keys take effect in the order in which they were pressed, however many arrive at once.

Textual hands each key to the focused widget at once, but what is bound to it runs only when it has bubbled up to the
app. Of keys that come together, as over a slow line, letters overtake backspaces, and what is typed behind a `tab` is
written into the field before (Textual's issue 6605). So a key waits here until the one before it is dealt with.
"""

from __future__ import annotations

from collections import deque

from textual import events
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input

from .notices import Notices

_PATIENCE_S = 0.25  # a widget that was removed meanwhile answers never
_CLOSING = ("escape", "enter", "q")  # what comes behind them may be for another screen


class KeyDone(Message, bubble=True):
    """Goes the way of a key, behind it: when the app has it, the key was dealt with, bound or not."""

    def __init__(self, key: events.Key | events.Paste, target: Widget, *, again: bool = False) -> None:
        super().__init__()
        self.key, self.target, self.again = key, target, again


class InOrder(Notices):
    """An app whose keys and pastes wait for one another."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[events.Key | events.Paste] = deque()
        self._under_way: KeyDone | None = None  # what tells that the last one was dealt with
        self._patience: Timer | None = None

    async def on_event(self, event: events.Event) -> None:
        if not isinstance(event, events.Key | events.Paste):
            await super().on_event(event)
        elif event.is_forwarded:
            await self._bound(event)
        elif self._under_way is not None and not self._keeps_up(event, self._under_way):
            self._waiting.append(event)
            self._wait()
        else:
            await self._take(event)

    def _keeps_up(self, event: events.Key | events.Paste, before: KeyDone) -> bool:
        """Letters behind letters, or a key that is held down: these go one way, where none overtakes another."""
        if self._waiting or self.focused is not before.target:
            return False
        if not isinstance(event, events.Key) or not isinstance(before.key, events.Key):
            return False
        typed = isinstance(self.focused, Input) and event.is_printable and before.key.is_printable
        return typed or (event.key == before.key.key and event.key not in _CLOSING)

    async def _take(self, event: events.Key | events.Paste) -> None:
        target = self.focused or self.screen
        self._under_way = done = KeyDone(event, target)
        await super().on_event(event)
        if not event.is_forwarded or not target.post_message(done):  # a key that goes before all else, as ctrl+s
            self.call_later(self._next)

    async def _bound(self, event: events.Key | events.Paste) -> None:
        """What has bubbled up: the app runs what is bound to it. A screen that is closed while it opens is an error."""
        if not self.screen.is_mounted:
            self.screen.call_later(self.post_message, event)
            return
        await super().on_event(event)
        done = self._under_way
        if done is not None and done.key is event and self.screen not in done.target.ancestors_with_self:
            await self._next()  # it has closed its screen or removed its widget, so that nobody answers, or opened one

    async def on_key_done(self, message: KeyDone) -> None:
        """Twice for each key: what the widget has answered it with (`row selected`) goes behind the first one."""
        message.stop()
        if message is not self._under_way:
            return
        self._under_way = KeyDone(message.key, message.target, again=True)
        if message.again or not message.target.post_message(self._under_way):
            await self._next()

    async def _next(self) -> None:
        self._stop_waiting()
        if not self.screen.is_mounted:  # the key has opened it: it has no focus yet, and must not be closed yet
            self.screen.call_later(self.call_later, self._next)
            self._wait()
            return
        self._under_way = None
        while self._waiting and self._under_way is None:
            await self._take(self._waiting.popleft())
        if self._waiting:
            self._wait()

    def _wait(self) -> None:
        if self._patience is None:
            self._patience = self.set_timer(_PATIENCE_S, self._next)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.stop()
            self._patience = None
