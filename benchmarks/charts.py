"""What one redraw of a chart costs: our column envelope against the plain way, a dot for every point.

    python benchmarks/charts.py

Four series of 1k, 10k and 100k points into 120 x 30 cells. Both ways end in rows of text; the plain one joins its
points by lines of dots, as plotting libraries for terminals do. The ratio is of the same run on the same machine.

Then a refresh of the charts screen's grid in a real (headless) dashboard of 160 x 45: nine charts of four series of 10k
points each, all of which have changed, from `show` to the rows that go to the terminal. Textual's own part, laying its
strips together, is told apart.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from textual.app import App, ComposeResult

from pidec_tui.charts.chart import draw
from pidec_tui.charts.layout import MOST
from pidec_tui.charts.series import Axes, Curve, Series
from pidec_tui.theme import DARK
from pidec_tui.widgets.chartgrid import ChartGrid, Picture

WIDTH, HEIGHT, SERIES = 120, 30, 4
BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def curves(points: int) -> list[Curve]:
    """Noisy, falling curves."""
    dice = random.Random(0)
    return [
        Series((i, math.exp(-i / points) + 0.1 * dice.random() + 0.2 * k) for i in range(points)).curve(f"series {k}")
        for k in range(SERIES)
    ]


def plain(lines: Sequence[Curve]) -> list[str]:
    """A dot for every point and for every step of the line to the next one; no numpy, no axes."""
    low, high = min(min(c.ys) for c in lines), max(max(c.ys) for c in lines)
    end = max(c.xs[-1] for c in lines)
    cells = [[0] * WIDTH for _ in range(HEIGHT)]

    def place(x: float, y: float) -> tuple[int, int]:
        return (round(x / end * (2 * WIDTH - 1)), round((high - y) / (high - low) * (4 * HEIGHT - 1)))

    for curve in lines:
        before: tuple[int, int] | None = None
        for x, y in zip(curve.xs, curve.ys, strict=True):
            here = place(x, y)
            start = before or here
            steps = max(abs(here[0] - start[0]), abs(here[1] - start[1]), 1)
            for i in range(steps + 1):
                column = start[0] + (here[0] - start[0]) * i // steps
                row = start[1] + (here[1] - start[1]) * i // steps
                cells[row // 4][column // 2] |= BITS[row % 4][column % 2]
            before = here
    return ["".join(chr(0x2800 + cell) for cell in row) for row in cells]


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Median of `repeats` runs after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


class _GridApp(App[None]):
    """The charts screen's grid alone."""

    def compose(self) -> ComposeResult:
        yield ChartGrid()


async def refreshes(points: int, axes: Axes, repeats: int = 15) -> tuple[float, float, float]:
    """Median ms of a refresh of nine charts until they are drawn, of laying the screen together after it, and of the
    thread's own CPU time in both: on a busy machine that is what an idle one would need."""
    lines = curves(points)
    app = _GridApp()
    app.register_theme(DARK)
    app.theme = DARK.name
    async with app.run_test(size=(160, 45)) as pilot:
        await pilot.pause()
        drawing, painting, cpu = [], [], []
        for turn in range(repeats + 1):
            # New objects, as after a read: nothing can be kept from the refresh before.
            new = [replace(curve, ys=curve.ys[:]) for curve in lines]
            pictures = [Picture(f"chart {place} {turn}", new, axes, "down") for place in range(MOST)]
            begun, own = time.perf_counter(), time.thread_time()
            app.query_one(ChartGrid).show(pictures)
            drawn = time.perf_counter()
            app.screen._compositor.render_strips()
            drawing.append(1000 * (drawn - begun))
            painting.append(1000 * (time.perf_counter() - drawn))
            cpu.append(1000 * (time.thread_time() - own))
            await pilot.pause()
    return statistics.median(drawing[1:]), statistics.median(painting[1:]), statistics.median(cpu[1:])


def main() -> None:
    print(f"{SERIES} series, {WIDTH} x {HEIGHT} cells, median ms a redraw")
    print(f"{'points':>8} {'envelope':>9} {'plain':>9} {'ratio':>7}")
    for points in (1_000, 10_000, 100_000):
        lines = curves(points)
        ours = milliseconds(lambda lines=lines: draw(lines, WIDTH, HEIGHT, Axes("iteration")), 21)  # type: ignore[misc]
        theirs = milliseconds(lambda lines=lines: plain(lines), 3)  # type: ignore[misc]
        print(f"{points:>8,} {ours:>9.2f} {theirs:>9.1f} {theirs / ours:>6.0f}x")
    print(f"\na refresh of {MOST} charts, {SERIES} series of 10,000 points each, 160 x 45 cells, median ms")
    plain_axes = Axes("iteration", x_low=0, x_high=10_000)
    for name, axes in (
        ("plain", plain_axes),
        ("log y, smooth, clip, cursor", replace(plain_axes, log_y=True, smooth=0.9, clip=True, cursor=5000.0)),
    ):
        drawn, painted, cpu = asyncio.run(refreshes(10_000, axes))
        print(f"{name:<28} drawn {drawn:6.1f}   painted {painted:6.1f}   both {drawn + painted:6.1f}   CPU {cpu:6.1f}")


if __name__ == "__main__":
    main()
