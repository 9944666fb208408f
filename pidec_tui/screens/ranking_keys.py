"""The keys that sort the runs of the queue that are over."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding, BindingType

from ..messages import MetricNamesRead
from ..ranking import USUAL, Ranking, weight_of
from .overlay_keys import OverlayKeys


class RankingKeys(OverlayKeys):
    """Mixed into the screen with the queue. What waits keeps its order: that is the order in which it runs."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort", "sort what is over by the next metric", show=False, id="queue.sort"),
        Binding("S", "sort_turned", "sort the other way round", show=False, id="queue.sort-turned"),
        Binding("O", "sort_by", "sort by any metric", show=False, id="queue.sort-by"),
    ]

    def action_sort(self) -> None:
        """Success, loss, rate, then the newest first again."""
        now = self.door.board.ranking.metric
        order = ["", *USUAL]
        self._sort(order[(order.index(now) + 1) % len(order)] if now in order else "")

    def action_sort_turned(self) -> None:
        ranking = self.door.board.ranking
        if not ranking.metric:
            usual, any_ = self.key("queue.sort"), self.key("queue.sort-by")
            text = f"Sorted by age: {usual} sorts what is over by success, loss or rate, {any_} by any metric."
            self.notify(text, timeout=5, markup=False)
            return
        self.door.board.ranking = replace(ranking, turned=not ranking.turned)
        self.show_queue()

    def action_sort_by(self) -> None:
        """Choose among the metrics of all jobs; their names are read in a thread."""
        manager = self.door.manager

        def work() -> None:
            self.post_message(MetricNamesRead(manager.all_metric_names()))

        self.door.act(lambda _: work(), reads=True)

    def on_metric_names_read(self, message: MetricNamesRead) -> None:
        if not message.names:
            self.notify("No job has logged a metric yet.", timeout=4)
        elif self.is_current:
            from .metrics import MetricPicker

            trace, choices = self.door.board.trace, self.door.board.charts
            latest = {name: trace.last(name) if trace else None for name in message.names}
            self.app.push_screen(
                MetricPicker(message.names, latest, choices.pins, takes="sort by it"),
                lambda name: self._sort(name) if name else None,
            )

    def _sort(self, metric: str) -> None:
        self.door.board.ranking = Ranking(metric)
        self.rank()
        self.show_queue()

    def rank(self) -> None:
        """Have the feed read what is sorted by, smoothed as the charts are now."""
        board = self.door.board
        self.door.feed.rank(board.ranking.metric, weight_of(board.ranking.metric, board.charts.smooth))
