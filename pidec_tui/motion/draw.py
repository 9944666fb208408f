"""A state -> dots, with what each cell shows. Pure: numpy alone, and the same state gives the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..charts.braille import DOTS_X, DOTS_Y, cells_of_dots, text_of_cells
from ..charts.spans import Span
from .tasks import FINGERS, Box, Disc, Hole, Shape, Sphere, Task, Thing, View

Floats = NDArray[np.float64]

# What a cell shows; they are drawn in this order, and where several share a cell, the last gives the colour.
LOOKS = ("table", "trail", "goal", "other", "object", "gripper")
TRAIL = 24  # states
_DOTTED = 3  # every third dot of an outline
_ROUND = 48  # corners of a circle
# The Panda's hand in the frame of the point between its fingertips, whose z axis points ahead of them; metres.
_FINGER_HALF, _FINGER_BACK = (0.010, 0.008, 0.027), -0.018
_PALM_HALF, _PALM_BACK = (0.032, 0.10, 0.029), -0.074
_FAR = 100.0  # metres; beyond, a simulation has blown up, and numbers that are larger still overflow here
_BAR = 0.06  # half of the line that shows how the hand is turned, seen along the fingers


@dataclass(frozen=True)
class Picture:
    """Cells of a drawing.

    Attributes:
        cells: (height, width) braille patterns, 0 where a cell is empty.
        looks: (height, width) index into `LOOKS`, -1 where a cell is empty.
    """

    cells: NDArray[np.uint8]
    looks: NDArray[np.int64]

    def rows(self) -> list[list[Span]]:
        """Rows of spans; `role` is one of `LOOKS`, or "" for a row's first blanks. Blanks elsewhere go with what is on
        their left: a colour that nobody sees would cost a slow line thirty bytes."""
        rows = []
        for line, looks in zip(text_of_cells(self.cells), self.looks, strict=True):
            shown = looks >= 0
            last = np.maximum.accumulate(np.where(shown, np.arange(len(looks)), -1))
            roles = np.where(last >= 0, looks[last], -1)
            starts = np.flatnonzero(np.diff(roles, prepend=roles[:1] - 1)).tolist()
            ends = [*starts[1:], len(line)]
            rows.append(
                [Span(line[a:b], LOOKS[roles[a]] if roles[a] >= 0 else "") for a, b in zip(starts, ends, strict=True)]
            )
        return rows

    def changed(self, before: Picture) -> tuple[int, int, int, int] | None:
        """Column, row, width and height of the cells that differ; None if none does. Both have the same size."""
        rows, columns = np.nonzero((self.cells != before.cells) | (self.looks != before.looks))
        if not len(rows):
            return None
        top, left = int(rows.min()), int(columns.min())
        return left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1


class _Canvas:
    """Dots of one view, and of what each cell is. What is drawn later lies above.

    The window is shown whole, centred, with the same scale in both directions: a braille dot is as wide as it is high.
    """

    def __init__(self, task: Task, view: View, width: int, height: int) -> None:
        self._axes, self._signs = (view.right[0], view.up[0]), np.array([view.right[1], view.up[1]])
        self.size = np.array([width * DOTS_X, height * DOTS_Y])
        ends = np.array([task.window[axis] for axis in self._axes]) * self._signs[:, None]
        self.scale = dots_per_metre(task, view, width, height)
        self._middle = ends.mean(axis=1)
        self._dots = np.zeros(self.size[::-1], dtype=bool)
        self._looks = np.full((height, width), -1)

    def flat(self, points: ArrayLike) -> Floats:
        """(n, 3) world points -> (n, 2) dots, right and down."""
        seen = np.asarray(points, dtype=float)[:, self._axes] * self._signs - self._middle
        dots: Floats = seen * [self.scale, -self.scale] + self.size / 2
        return dots

    def slant(self, direction: Floats) -> float:
        """How much of a unit vector lies in the view's plane: 1 all, 0 it points at the eye."""
        return float(np.linalg.norm(direction[list(self._axes)]))

    def plot(self, look: str, dots: Floats) -> None:
        """Set single dots; those outside are left out."""
        at = np.floor(dots)
        inside = np.all((at >= 0) & (at < self.size), axis=1)
        columns, rows = at[inside].astype(int).T
        self._set(look, rows, columns)

    def _set(self, look: str, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        self._dots[rows, columns] = True
        self._looks[rows // DOTS_Y, columns // DOTS_X] = LOOKS.index(look)

    def picture(self) -> Picture:
        return Picture(cells_of_dots(self._dots), self._looks)

    def line(self, look: str, dots: Floats, *, closed: bool = True) -> None:
        """Join dots one after the other; a goal's line is dotted."""
        starts, ends = (dots, np.roll(dots, -1, axis=0)) if closed else (dots[:-1], dots[1:])
        counts = np.clip(np.ceil(np.abs(ends - starts).max(axis=1)), 1, 4 * self.size.max()).astype(int)
        edge = np.repeat(np.arange(len(counts)), counts)
        share = (np.arange(len(edge)) - (np.cumsum(counts) - counts)[edge]) / counts[edge]
        path = starts[edge] + (ends - starts)[edge] * share[:, None]
        self.plot(look, path[::_DOTTED] if look == "goal" else path)

    def fill(self, look: str, corners: Floats) -> None:
        """A convex polygon, its corners in order."""
        self.line(look, corners)
        low = np.clip(np.floor(corners.min(axis=0)), 0, self.size).astype(int)
        high = np.clip(np.ceil(corners.max(axis=0)), 0, self.size).astype(int)
        across, down = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        edges = np.roll(corners, -1, axis=0) - corners
        sides = [
            edge[0] * (down - corner[1]) - edge[1] * (across - corner[0])
            for corner, edge in zip(corners, edges, strict=True)
        ]
        within = (np.minimum.reduce(sides) >= 0) | (np.maximum.reduce(sides) <= 0)
        rows, columns = np.nonzero(within)
        self._set(look, rows + low[1], columns + low[0])


def draw(task: Task, frames: Floats, at: int, view: View, width: int, height: int) -> Picture:
    """Draw one state, with the way that the gripper came.

    Args:
        frames: (length, obs_dim) states of one episode.
        at: which of them.
        width, height: cells.
    """
    canvas = _Canvas(task, view, width, height)
    frames = np.clip(frames[max(at - TRAIL, 0) : at + 1], -_FAR, _FAR)
    state = frames[-1]
    if view.up[0] == 2:
        canvas.plot("table", _along_table(canvas, task, view))
    if task.tcp is not None:
        canvas.plot("trail", canvas.flat(frames[:-1, task.tcp : task.tcp + 3]))
    for thing in sorted(task.things, key=lambda thing: LOOKS.index(thing.look)):
        _draw_thing(canvas, thing, state)
    if task.tcp is not None:
        _draw_gripper(canvas, task.tcp, state)
    return canvas.picture()


def dots_per_metre(task: Task, view: View, width: int, height: int) -> float:
    """Scale of a view that has this many cells."""
    spans = [high - low for low, high in (task.window[view.right[0]], task.window[view.up[0]])]
    return min(width * DOTS_X / spans[0], height * DOTS_Y / spans[1])


def rotation(quaternion: Floats) -> Floats:
    """(3, 3) matrix of a quaternion, w first; columns are the frame's axes. Zeros count as no turn."""
    length = float(np.linalg.norm(quaternion))
    w, x, y, z = quaternion / length if length > 1e-6 else (1.0, 0.0, 0.0, 0.0)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _along_table(canvas: _Canvas, task: Task, view: View) -> Floats:
    """A dotted line where the table's top is, the whole width of the view."""
    middle = np.array([[np.mean(window) for window in task.window]])
    middle[0, 2] = 0.0
    height = canvas.flat(middle)[0, 1]
    across = np.arange(0, canvas.size[0], 4, dtype=float)
    return np.column_stack([across, np.full(len(across), height)])


def _corners(half: ArrayLike, at: ArrayLike, position: Floats, turned: Floats) -> Floats:
    """(8, 3) world corners of a box that lies at `at` in the frame of a thing."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    corners: Floats = position + (np.asarray(at) + signs * np.asarray(half)) @ turned.T
    return corners


def _hull(dots: Floats) -> Floats:
    """The convex hull of a few points, in order. Source: Andrew's monotone chain, 1979."""
    points = sorted(map(tuple, np.round(dots, 6).tolist()))
    chains: list[list[tuple[float, ...]]] = []
    for order in (points, points[::-1]):
        chain: list[tuple[float, ...]] = []
        for x, y in order:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], (x, y)) <= 0:
                chain.pop()
            chain.append((x, y))
        chains.append(chain[:-1])
    return np.array([*chains[0], *chains[1]] or points[:1])


def _turn(a: Sequence[float], b: Sequence[float], c: Sequence[float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _draw_thing(canvas: _Canvas, thing: Thing, state: Floats) -> None:
    position = state[thing.column : thing.column + 3]
    turned = rotation(state[thing.column + 3 : thing.column + 7]) if thing.turns else np.eye(3)
    for shape in thing.shapes:
        _draw_shape(canvas, thing.look, shape, position, turned, state)


def _draw_shape(canvas: _Canvas, look: str, shape: Shape, position: Floats, turned: Floats, state: Floats) -> None:
    if isinstance(shape, Box):
        half = state[shape.half : shape.half + 3] if isinstance(shape.half, int) else shape.half
        corners = _hull(canvas.flat(_corners(half, shape.at, position, turned)))
        (canvas.fill if shape.filled else canvas.line)(look, corners)
    elif isinstance(shape, Hole):
        for axis in (1, 2):
            if canvas.slant(turned[:, axis]) > 0.7:  # walls before and behind the hole would hide what is in it
                _draw_walls(canvas, look, shape, axis, position, turned, state)
    else:
        angles = np.linspace(0, 2 * np.pi, _ROUND, endpoint=False)
        circle = np.column_stack([np.cos(angles), np.sin(angles), np.zeros(_ROUND)]) * shape.radius
        if isinstance(shape, Disc):
            canvas.line(look, canvas.flat(position + circle))
        else:
            assert isinstance(shape, Sphere)
            canvas.line(look, canvas.flat(position[None]) + circle[:, :2] * canvas.scale)


def _draw_walls(
    canvas: _Canvas, look: str, hole: Hole, axis: int, position: Floats, turned: Floats, state: Floats
) -> None:
    half = np.array([state[hole.depth], 0.0, 0.0])
    half[axis] = hole.wall / 2
    for side in (-1, 1):
        at = np.zeros(3)
        at[axis] = side * (state[hole.radius] + hole.wall / 2)
        canvas.line(look, _hull(canvas.flat(_corners(half, at, position, turned))))


def _draw_gripper(canvas: _Canvas, column: int, state: Floats) -> None:
    """Two fingers, filled; with the palm where one looks across them, else with a line along which they close."""
    position, turned = state[column : column + 3], rotation(state[column + 3 : column + 7])
    for side, joint in ((1, FINGERS), (-1, FINGERS + 1)):
        at = (0.0, side * (max(state[joint], 0.0) + _FINGER_HALF[1]), _FINGER_BACK)
        canvas.fill("gripper", _hull(canvas.flat(_corners(_FINGER_HALF, at, position, turned))))
    if canvas.slant(turned[:, 2]) > 0.5:
        palm = _corners(_PALM_HALF, (0.0, 0.0, _PALM_BACK), position, turned)
        canvas.line("gripper", _hull(canvas.flat(palm)))
    else:
        ends = position + np.array([[0.0, -_BAR, 0.0], [0.0, _BAR, 0.0]]) @ turned.T
        canvas.line("gripper", canvas.flat(ends), closed=False)
