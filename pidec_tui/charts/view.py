"""The chart as a Textual widget. It draws again only when its data, size or theme changed, and then only the rows that
look different: over a slow line that is most of what a refresh costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.color import Color
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from .series import Axes, Curve
from .spans import cut, empty

if TYPE_CHECKING:
    from .chart import Frame
    from .readings import Part

_MOST_CURVES = 12
# What is drawn -> the theme's colour for it, and whether it is bold. No component classes: Textual works out the styles
# of each anew whenever a class of the screen changes, which for the 22 of a chart took longer than to draw it.
_LOOKS = {
    **dict.fromkeys(("axis", "rule", "checkpoint"), ("faint", False)),
    "label": ("muted", False),
    "name": ("primary", False),
    "value": ("foreground", True),
    "cursor": ("foreground", False),
    "resume": ("warning", False),
    "nan": ("error", True),
}
_TONES = ("primary", "warning", "success", "secondary", "accent", "error")
_BAND = 0.45  # of a curve's colour over the background
_WHEEL = 0.8  # of the window's length, a notch closer


class ChartView(Widget):
    """Shows curves under a title, in the theme's colours.

    The mouse is told to whoever holds the chart: `Zoomed` by the wheel, `Panned` by dragging, `Pointed` by a click.
    """

    DEFAULT_CSS = "ChartView { height: 1fr; min-height: 4; }"

    class Zoomed(Message):
        """The wheel was turned at `x`: show `factor` times as much."""

        def __init__(self, x: float, factor: float) -> None:
            super().__init__()
            self.x = x
            self.factor = factor

    class Panned(Message):
        """The picture was pulled by this share of its width, to the right if negative."""

        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

    class Pointed(Message):
        """A click at `x` of this chart."""

        def __init__(self, view: ChartView, x: float) -> None:
            super().__init__()
            self.view = view
            self.x = x

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.title = ""
        self.drawn = 0  # how often it was drawn, for those who count
        self._heading, self._better, self._note, self._chosen = "", "", "", False
        self._curves: tuple[Curve, ...] = ()
        self._axes = Axes()
        self.frame: Frame | None = None  # where the plot lies in it, below the title
        self._strips: list[Strip] | None = None
        self._styles: dict[str, Style] = {}
        self._drawn_at = Size()
        self._dragged: tuple[int, bool] | None = None  # column where the button is down; whether it has moved

    def show(
        self,
        name: str,
        curves: Sequence[Curve],
        axes: Axes,
        *,
        better: str = "",
        note: str = "",
        chosen: bool = False,
    ) -> None:
        """Draw these curves from now on.

        Args:
            name: the title begins with it; numbers follow.
            curves: ones that differ from those shown cause one redraw; the same ones none.
            better: "up" or "down": which end of the y axis is; "": neither.
            note: what to say instead while there is nothing to draw.
            chosen: whether keys that are about one chart are about this one.
        """
        now = tuple(curves[:_MOST_CURVES])
        told = (name, axes, better, note, chosen)
        same = len(now) == len(self._curves) and all(a.same(b) for a, b in zip(now, self._curves, strict=True))
        if same and told == (self._heading, self._axes, self._better, self._note, self._chosen):
            return
        self._curves, (self._heading, self._axes, self._better, self._note, self._chosen) = now, told
        before, self._strips = self._strips, None
        if before is None or not self.is_on_screen:
            self.refresh()
            return
        self._strips = self._draw()
        if len(before) != len(self._strips):
            self.refresh()
            return
        rows = [y for y, (old, new) in enumerate(zip(before, self._strips, strict=True)) if old != new]
        if rows:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in rows))

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips = None
        self._styles.clear()

    def render_line(self, y: int) -> Strip:
        # By its size: lines are asked for before the event that tells of a new one comes.
        if self._strips is None or self._drawn_at != self.size:
            self._strips = self._draw()
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width, self.rich_style)

    def _draw(self) -> list[Strip]:
        self.drawn += 1
        self._drawn_at = self.size
        width, height = self.size
        if any(len(curve.xs) for curve in self._curves):
            from .chart import picture  # numpy only once there is something to draw: the first paint goes without

            rows, self.frame = picture(self._curves, width, height - 1, self._axes)
        else:
            rows, self.frame = empty(width, height - 1, self._note), None
        look = self._look
        return [
            self._title_strip(width),
            *(Strip([Segment(span.text, look(span.role)) for span in row], width) for row in rows),
        ]

    def _look(self, role: str) -> Style:
        if not self._styles:
            self._styles[""] = self.rich_style
        style = self._styles.get(role)
        if style is None:
            tone = role[-1:].isdigit()
            name, bold = (_TONES[int(role[-1])], False) if tone else _LOOKS[role]
            colour = Color.parse(self.app.theme_variables[name])
            behind = self.background_colors[1]
            colour = behind + (colour.with_alpha(_BAND) if role.startswith("band") else colour)
            style = self._styles[role] = self.rich_style + Style(color=colour.rich_color, bold=bold or None)
        return style

    def _title_strip(self, width: int) -> Strip:
        """A thin rule with the title in it; the chosen chart's begins with an arrow and is bold."""
        rule = self._look("rule")
        parts: list[Part] = [(cut(self._heading, max(width - 4, 0)), "name")]
        if self._curves:
            from .readings import title_parts

            parts = title_parts(self._heading, self._curves, self._axes, self._better, max(width - 4, 0))
        self.title = "".join(text for text, _ in parts)
        bold = Style(bold=True) if self._chosen else Style()
        segments = [Segment("▶ " if self._chosen else "─ ", rule + bold)]
        segments += [Segment(text, self._look(role) + bold) for text, role in parts]
        segments.append(Segment(" ", rule))
        used = sum(segment.cell_length for segment in segments)
        segments.append(Segment(("━" if self._chosen else "─") * max(width - used, 0), rule))
        return Strip(segments).adjust_cell_length(width, rule)

    # --- the mouse

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._wheel(event, _WHEEL)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._wheel(event, 1 / _WHEEL)

    def _wheel(self, event: events.MouseEvent, factor: float) -> None:
        if self.frame is not None:
            event.stop()
            self.post_message(self.Zoomed(self.frame.x_at(event.x), factor))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if self.frame is not None and event.button == 1:
            self.capture_mouse()
            self._dragged = (event.x, False)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._dragged is None or self.frame is None or event.x == self._dragged[0]:
            return
        self.post_message(self.Panned((self._dragged[0] - event.x) / self.frame.width))
        self._dragged = (event.x, True)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        if self._dragged is None:
            return
        self.release_mouse()
        (_, moved), self._dragged = self._dragged, None
        if not moved and self.frame is not None:
            self.post_message(self.Pointed(self, self.frame.x_at(event.x)))
