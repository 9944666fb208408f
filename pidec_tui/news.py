"""What one look of the feed has found is told at once, so that each part of the screen is drawn once: message by
message the same charts and lines were drawn up to four times a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from textual.message import Message

PATIENCE = 0.05  # seconds that news are kept: a part that reads for long holds up none of the others


class News:
    """Belongs to the feed's thread.

    Args:
        post: for one message.
        together: for several; None: each is posted by itself.
    """

    def __init__(
        self, post: Callable[[Message], object], together: Callable[[Sequence[Message]], object] | None = None
    ) -> None:
        self._post, self._together = post, together
        self._kept: list[Message] | None = None  # None: nothing is kept
        self._since = 0.0

    def post(self, message: Message) -> None:
        """Tell it now, or with what else is found."""
        if self._kept is None:
            self._post(message)
            return
        now = time.monotonic()
        self._since = self._since if self._kept else now
        self._kept.append(message)
        if now - self._since > PATIENCE:
            self.tell()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Keep what is posted, and tell it at the end."""
        self._kept = []
        try:
            yield
        finally:
            self.tell()
            self._kept = None

    def tell(self) -> None:
        """What is kept, now: something takes longer."""
        if not self._kept:
            return
        kept, self._kept = self._kept, []
        if len(kept) > 1 and self._together is not None:
            self._together(kept)
        else:
            for message in kept:
                self._post(message)
