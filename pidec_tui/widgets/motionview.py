"""One view of a scene as a widget. It draws again only the cells in which something moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from ..motion.tasks import Task, View

if TYPE_CHECKING:
    from ..motion.draw import Floats, Picture

_SCALES = ((0.2, "20 cm"), (0.1, "10 cm"), (0.05, "5 cm"), (0.02, "2 cm"))
_LONGEST_SCALE = 14  # cells


@dataclass(frozen=True, eq=False)
class Scene:
    """States of one episode, (length, obs_dim), and how to draw them."""

    task: Task
    frames: Floats
    view: View


class MotionView(Widget):
    """Shows one state of a scene; colours come from the component classes `motion--gripper` and so on."""

    COMPONENT_CLASSES = {  # noqa: RUF012 - Textual's own type
        "motion--table",
        "motion--trail",
        "motion--goal",
        "motion--other",
        "motion--object",
        "motion--gripper",
    }

    DEFAULT_CSS = """
    MotionView { height: 1fr; min-height: 3; }
    MotionView > .motion--table { color: $faint; }
    MotionView > .motion--trail { color: $muted; }
    MotionView > .motion--goal { color: $success; }
    MotionView > .motion--other { color: $secondary; }
    MotionView > .motion--object { color: $warning; }
    MotionView > .motion--gripper { color: $primary; }
    """

    def __init__(self, *, classes: str | None = None) -> None:
        super().__init__(classes=classes)
        self._scene: Scene | None = None
        self._at = 0
        self._picture: Picture | None = None
        self._strips: list[Strip] = []

    def show(self, scene: Scene | None, at: int) -> None:
        """Show state `at` of a scene from now on; None: nothing."""
        if scene is not self._scene:
            self._scene, self._at, self._picture = scene, at, None
            self._caption()
            self.refresh()
        elif at != self._at:
            self._at = at
            self._move()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._picture = None

    def on_resize(self) -> None:
        self._picture = None
        self._caption()

    def _move(self) -> None:
        """Draw the state that is wanted now over the one that is shown."""
        before = self._picture
        if before is None:
            self.refresh()
            return
        self._draw()
        changed = self._picture.changed(before) if self._picture is not None else None
        if changed is not None:
            self.refresh(Region(*changed))

    def render_line(self, y: int) -> Strip:
        if self._picture is None:
            self._draw()
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width, self.rich_style)

    def _draw(self) -> None:
        from ..motion.draw import draw  # numpy only once there is something to draw

        width, height = self.size
        if self._scene is None or not width or not height:
            self._picture, self._strips = None, []
            return
        scene = self._scene
        self._picture = draw(scene.task, scene.frames, self._at, scene.view, width, height)
        styles: dict[str, Style] = {"": self.rich_style}
        strips = []
        for row in self._picture.rows():
            for span in row:
                if span.role not in styles:
                    styles[span.role] = self.get_component_rich_style(f"motion--{span.role}")
            strips.append(Strip([Segment(span.text, styles[span.role]) for span in row], width))
        self._strips = strips

    def _caption(self) -> None:
        """From where one looks, and how large things are."""
        if self._scene is None:
            self.border_title = self.border_subtitle = ""
            return
        from ..motion.draw import dots_per_metre

        width, height = self.size
        task, view = self._scene.task, self._scene.view
        self.border_title = view.name
        cells = dots_per_metre(task, view, width, height) / 2 if width and height else 0.0
        for length, said in _SCALES:
            scale = f"{view.name}   ├{'─' * max(round(length * cells) - 2, 1)}┤ {said}"
            if 3 <= length * cells <= _LONGEST_SCALE and len(scale) <= width - 2:
                self.border_title = scale
                return
