"""The chart as a Textual widget. It draws again only when its data, size or theme changed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from .series import Axes, Curve

_MAX_CURVES = 6


class ChartView(Widget):
    """Shows curves; colours come from the component classes `chart--curve0` ... `chart--curve5`."""

    COMPONENT_CLASSES = {"chart--axis", "chart--label", *(f"chart--curve{i}" for i in range(_MAX_CURVES))}  # noqa: RUF012

    DEFAULT_CSS = """
    ChartView { height: 1fr; min-height: 3; }
    ChartView > .chart--axis { color: $faint; }
    ChartView > .chart--label { color: $muted; }
    ChartView > .chart--curve0 { color: $primary; }
    ChartView > .chart--curve1 { color: $warning; }
    ChartView > .chart--curve2 { color: $success; }
    ChartView > .chart--curve3 { color: $secondary; }
    ChartView > .chart--curve4 { color: $accent; }
    ChartView > .chart--curve5 { color: $error; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._curves: tuple[Curve, ...] = ()
        self._axes: Axes | None = None
        self._note = ""
        self._strips: list[Strip] | None = None

    def show(self, curves: Sequence[Curve], axes: Axes | None = None, note: str = "") -> None:
        """Draw these curves from now on.

        Args:
            curves: lines that differ from the ones shown cause one redraw; equal ones none.
            axes: None for plain ones.
            note: what to say instead while there is nothing to draw.
        """
        now = tuple(curves[:_MAX_CURVES])
        if (now, axes, note) != (self._curves, self._axes, self._note):
            self._curves, self._axes, self._note = now, axes, note
            self._strips = None
            self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips = None

    def on_resize(self) -> None:
        self._strips = None

    def render_line(self, y: int) -> Strip:
        if self._strips is None:
            self._strips = self._draw()
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width, self.rich_style)

    def _draw(self) -> list[Strip]:
        from .chart import draw, empty  # numpy only once there is something to draw: the first paint goes without

        width, height = self.size
        if any(len(curve.xs) for curve in self._curves):
            rows = draw(self._curves, width, height, self._axes)
        else:
            rows = empty(width, height, self._note)
        styles: dict[str, Style] = {"": self.rich_style}
        for row in rows:
            for span in row:
                if span.role not in styles:
                    styles[span.role] = self.get_component_rich_style(f"chart--{span.role}")
        return [Strip([Segment(s.text, styles[s.role]) for s in row], width) for row in rows]
