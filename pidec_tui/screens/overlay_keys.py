"""The keys that choose which runs are drawn side by side."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from ..overlay import MOST_LINES, MOST_RUNS, Key, counted, members
from .queue_keys import QueueKeys


class OverlayKeys(QueueKeys):
    """Mixed into screens with a queue, whose rows show the marks. `o` draws what is marked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "mark", "mark to draw beside others", show=False, id="overlay.mark"),
        Binding("M", "mark_group", "mark its group as one", show=False, id="overlay.group"),
        Binding("p", "baseline", "pin as baseline", show=False, id="overlay.baseline"),
        Binding("U", "unmark", "take all marks off", show=False, id="overlay.none"),
    ]

    def action_mark(self) -> None:
        """Mark the job; off with its mark, or with its group's."""
        if job := self.job():
            self._toggle(self.door.board.overlay.key_of(job) or job.id)

    def action_mark_group(self) -> None:
        job = self.job()
        if job is None:
            return
        if not job.group_name:
            self.say_ungrouped(job)
            return
        self._toggle(job.group_name)

    def action_baseline(self) -> None:
        """The job, or the group that it is marked by; once more: there is none."""
        job, overlay = self.job(), self.door.board.overlay
        if job is None:
            return
        key = overlay.key_of(job) or job.id
        if overlay.baseline == key:
            overlay.baseline = None
        elif key in overlay.marked or self._toggle(key):
            overlay.baseline = key
        self._changed()

    def action_unmark(self) -> None:
        overlay = self.door.board.overlay
        overlay.marked.clear()
        overlay.baseline = None
        self._changed()

    def _toggle(self, key: Key) -> bool:
        """Whether there was room for it."""
        overlay, jobs = self.door.board.overlay, self.door.board.shown()
        if key not in overlay.marked:
            one, group, every = (self.key(f"overlay.{name}") for name in ("mark", "group", "none"))
            before, more = counted(overlay.marked, jobs), len(members(key, jobs))
            if len(overlay.marked) >= MOST_LINES:
                off = f"{one} takes one mark off, {every} all; {group} marks a group as one."
                self.notify(f"At most {MOST_LINES} side by side: {off}", timeout=5)
                return False
            if before >= MOST_RUNS:
                self.notify(f"At most {MOST_RUNS} runs are read: {one} takes one mark off, {every} all.", timeout=5)
                return False
            if before + more > MOST_RUNS:
                said = f"{key} has {more} runs: the mean is of the first {MOST_RUNS - before}."
                self.notify(said, timeout=5, markup=False)
        overlay.toggle(key)
        self._changed()
        return True

    def _changed(self) -> None:
        self.door.feed.beside(self.door.board.overlay.order())
        self.show_queue()
