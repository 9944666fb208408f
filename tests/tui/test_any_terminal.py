"""Few colours, no colours, little room, a locale without UTF-8."""

from __future__ import annotations

import io
import re
import sys

import pytest
from rich.color import Color, ColorSystem
from textual.theme import Theme

from pidec_tui import __main__ as door
from pidec_tui import theme
from pidec_tui.charts.view import ChartView
from pidec_tui.manager.jobs import JobState
from pidec_tui.words import GLYPHS
from tests.tui.pressing import go
from tests.tui.scene import Scene, app_of, busy, pressed, settled

THEMES = {f"{name} {each.name}": each for name in ("256", "standard") for each in theme.ours(name)}
WORDS = ("foreground", "muted", "primary", "secondary", "success", "warning", "error")
BACKGROUNDS = ("background", "surface", "boost", "block-cursor-background", "block-cursor-blurred-background")
PAIRS = [
    *((word, behind) for word in WORDS for behind in BACKGROUNDS),
    ("accent", "background"),  # of curves alone
    ("warning", "panel"),  # what was found in a log
    ("foreground", "panel"),
    ("block-cursor-foreground", "block-cursor-background"),
    ("block-cursor-blurred-foreground", "block-cursor-blurred-background"),
]


def colour(of: Theme, name: str) -> str:
    return of.variables[name] if name in of.variables else str(getattr(of, name))


def shown(name: str, system: ColorSystem) -> tuple[int, int, int]:
    """The colour that a terminal of so many colours shows for it, in rich's palette."""
    found = Color.parse(name).downgrade(system)
    if system is ColorSystem.STANDARD:
        from rich._palettes import STANDARD_PALETTE
        from rich.palette import Palette

        palette: Palette = STANDARD_PALETTE
        assert found.number is not None
        red, green, blue = palette[found.number]
        return red, green, blue
    return found.get_truecolor()


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """The ratio of WCAG 2: from 1, the same, to 21, black on white."""

    def light(rgb: tuple[int, int, int]) -> float:
        parts = [v / 3294.6 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    dark, bright = sorted((light(one), light(other)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", THEMES)
def test_every_word_can_be_read_in_256_and_in_16_colours(name: str) -> None:
    """Lost: words that have the colour of what is behind them, once a terminal has rounded both."""
    of = THEMES[name]
    systems = [ColorSystem.STANDARD] if "standard" in name else [ColorSystem.EIGHT_BIT, ColorSystem.TRUECOLOR]
    for system in systems:
        for word, behind in PAIRS:
            ratio = contrast(shown(colour(of, word), system), shown(colour(of, behind), system))
            assert ratio >= 3, f"{word} on {behind}: {ratio:.1f} in {system.name}"
    if "standard" in name:  # rounded to themselves, so that what is chosen is what is sent
        for each in (*WORDS, *BACKGROUNDS, "accent", "faint", "scrollbar"):
            rgb = Color.parse(colour(of, each)).get_truecolor()
            assert tuple(rgb) == shown(colour(of, each), ColorSystem.STANDARD), each


async def test_a_terminal_of_16_colours_gets_a_theme_made_of_them(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: the row under the cursor, where TERM says xterm-16color, screen or linux."""
    monkeypatch.setattr("textual.constants.COLOR_SYSTEM", "standard")
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        variables = pilot.app.theme_variables
        assert (variables["block-cursor-background"], variables["foreground"].lower()) == ("#0000aa", "#ffffff")
        for command in pilot.app.get_system_commands(pilot.app.screen):
            if command.title == "Light colours":
                command.callback()
        await settled(pilot)
        assert pilot.app.theme_variables["block-cursor-background"] == "#ffff55"


def text_of(pilot_screen: object) -> list[str]:
    """The lines of a screen as they are without any colour."""
    strips = pilot_screen._compositor.render_strips()  # type: ignore[attr-defined]
    return [strip.text for strip in strips]


async def test_states_marks_and_curves_are_told_without_colour(scene: Scene) -> None:
    """Lost: the dashboard, for those who see no colours or have set NO_COLOR."""
    busy(scene)
    assert len({GLYPHS[state.value] for state in JobState}) >= 6
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await go(pilot, 2)
        await pressed(pilot, "m")
        await go(pilot, 3)
        await pressed(pilot, "p")
        lines = "\n".join(text_of(pilot.app.screen))
        for state in ("running", "queued", "held", "failed", "succeeded", "cancelled"):
            assert f"{GLYPHS[state]} {state}" in lines
        assert "[A=]" in lines and "[B]" in lines
        await pressed(pilot, "o")
        title = str(pilot.app.screen.query_one("#charts-title").render())
        assert re.search(r"A .*diffusion-peg \(baseline\) .*B .*diffusion-peg-b4096", title)
        chart = next(view for view in pilot.app.screen.query(ChartView) if view.title.startswith("loss"))
        drawn = "\n".join(chart.render_line(y).text for y in range(chart.size.height))
        assert "A" in drawn and "B" in drawn  # each curve has its letter


async def test_below_the_floor_there_is_the_message_alone(scene: Scene) -> None:
    """Lost: the one line that says what is wrong, among broken panes."""
    busy(scene)
    async with app_of(scene).run_test(size=(100, 30)) as pilot:
        await go(pilot, 3)
        seen = set()
        for keys in ("", "o", "w", "\r"):  # those that show and hide parts by themselves
            await pilot.press(*("enter" if key == "\r" else key for key in keys))
            await pilot.pause()
            screen = pilot.app.screen
            seen.add(type(screen))
            await pilot.resize_terminal(40, 10)
            await pilot.pause(0.05)
            words = " ".join(" ".join(text_of(screen)).split())
            assert words == "pidec needs a terminal of 60 x 18; this one has 40 x 10.", screen
            await pilot.resize_terminal(100, 30)
            await pilot.pause(0.05)
            assert len(" ".join(text_of(screen)).split()) > 20
            await pilot.press(*["escape"] * len(keys))
            await pilot.pause()
        assert len(seen) == 4


def test_a_locale_without_utf8_is_no_traceback(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: `--once` and the screen where ssh did not bring the locale along."""
    busy(scene)
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    assert door.main(["--once", "--workspace", str(scene.manager.workspace.root)]) == 0
    sys.stdout.flush()
    assert f"{GLYPHS['running']} running" in raw.getvalue().decode("utf-8")


@pytest.mark.parametrize("keys", [("c",), ("question_mark",), ("B",), ("O",)])
async def test_what_lies_over_the_screen_is_whole_on_the_smallest_terminal(scene: Scene, keys: tuple[str, ...]) -> None:
    """Lost: the end of every line of a question before something that cannot be undone; the ids in the help."""
    busy(scene)
    async with app_of(scene).run_test(size=(60, 18)) as pilot:
        await go(pilot, 3)
        await pressed(pilot, *keys)
        box = pilot.app.screen.query_one(".box")
        assert box.region.right <= 60 and all(each.region.right <= box.region.right - 1 for each in box.query("Static"))
