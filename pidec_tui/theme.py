"""Two calm themes. Every colour is one of the 256 that terminals have, so that ssh and tmux show what we chose; and two
of the 16 that every terminal has, for those that have no more.

Which of the 16 is nearest to a colour is no use: most of ours become one grey, the row under the cursor, too.
"""

from __future__ import annotations

import os

from textual.theme import Theme

# Also for the other themes in the palette, which do not know these two names.
EXTRA = {"muted": "#8a8a8a", "faint": "#585858"}

DARK = Theme(
    name="pidec-dark",
    primary="#5fafd7",
    secondary="#af87d7",
    accent="#5fd7d7",
    success="#87af5f",
    warning="#d7af5f",
    error="#d75f5f",
    foreground="#d0d0d0",
    background="#1c1c1c",
    surface="#1c1c1c",
    panel="#303030",
    boost="#262626",
    dark=True,
    variables={
        "muted": "#8a8a8a",
        "faint": "#4e4e4e",
        "block-cursor-background": "#3a3a3a",
        "block-cursor-foreground": "#eeeeee",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#303030",
        "block-cursor-blurred-foreground": "#d0d0d0",
        "input-selection-background": "#005f87",
        "scrollbar": "#3a3a3a",
        "scrollbar-background": "#1c1c1c",
        "scrollbar-hover": "#585858",
        "scrollbar-active": "#5fafd7",
        "scrollbar-background-hover": "#1c1c1c",
        "scrollbar-background-active": "#1c1c1c",
        "scrollbar-corner-color": "#1c1c1c",
    },
)
LIGHT = Theme(
    name="pidec-light",
    primary="#005f87",
    secondary="#875faf",
    accent="#008787",
    success="#008700",
    warning="#af5f00",
    error="#af0000",
    foreground="#303030",
    background="#ffffff",
    surface="#ffffff",
    panel="#dadada",
    boost="#eeeeee",
    dark=False,
    variables={
        "muted": "#6c6c6c",
        "faint": "#bcbcbc",
        "block-cursor-background": "#dadada",
        "block-cursor-foreground": "#1c1c1c",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#eeeeee",
        "block-cursor-blurred-foreground": "#303030",
        "input-selection-background": "#87d7ff",
        "scrollbar": "#d0d0d0",
        "scrollbar-background": "#ffffff",
        "scrollbar-hover": "#9e9e9e",
        "scrollbar-active": "#005f87",
        "scrollbar-background-hover": "#ffffff",
        "scrollbar-background-active": "#ffffff",
        "scrollbar-corner-color": "#ffffff",
    },
)


# As rich counts them; what a terminal shows for each is its owner's choice.
_BLACK, _RED, _BLUE, _MAGENTA = "#000000", "#aa0000", "#0000aa", "#aa00aa"
_TEAL, _SILVER, _GREY, _WHITE = "#00aaaa", "#aaaaaa", "#555555", "#ffffff"
_BRIGHT_RED, _BRIGHT_GREEN, _BRIGHT_YELLOW, _BRIGHT_MAGENTA, _BRIGHT_CYAN = (
    *("#ff5555", "#55ff55", "#ffff55"),
    *("#ff55ff", "#55ffff"),
)


def _scrollbar(back: str, bar: str, held: str) -> dict[str, str]:
    return {
        "scrollbar": bar,
        "scrollbar-background": back,
        "scrollbar-hover": bar,
        "scrollbar-active": held,
        "scrollbar-background-hover": back,
        "scrollbar-background-active": back,
        "scrollbar-corner-color": back,
    }


# No grey text here: what is "bright black" is the background itself in some palettes.
_DARK_16 = Theme(
    name=DARK.name,
    primary=_BRIGHT_CYAN,
    secondary=_BRIGHT_MAGENTA,
    accent=_TEAL,
    success=_BRIGHT_GREEN,
    warning=_BRIGHT_YELLOW,
    error=_BRIGHT_RED,
    foreground=_WHITE,
    background=_BLACK,
    surface=_BLACK,
    panel=_BLUE,
    boost=_BLACK,
    dark=True,
    variables={
        "muted": _SILVER,
        "faint": _GREY,
        "block-cursor-background": _BLUE,
        "block-cursor-foreground": _WHITE,
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": _BLUE,
        "block-cursor-blurred-foreground": _WHITE,
        "input-selection-background": _TEAL,
        **_scrollbar(_BLACK, _GREY, _BRIGHT_CYAN),
    },
)
# Only what is dark enough on white in every palette: green and yellow are not, so good news is blue, and a warning
# has the colour of a second curve.
_LIGHT_16 = Theme(
    name=LIGHT.name,
    primary=_BLUE,
    secondary=_MAGENTA,
    accent=_BLACK,
    success=_BLUE,
    warning=_MAGENTA,
    error=_RED,
    foreground=_BLACK,
    background=_WHITE,
    surface=_WHITE,
    panel=_BRIGHT_YELLOW,
    boost=_WHITE,
    dark=False,
    variables={
        "muted": _GREY,
        "faint": _SILVER,
        "block-cursor-background": _BRIGHT_YELLOW,
        "block-cursor-foreground": _BLACK,
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": _BRIGHT_CYAN,
        "block-cursor-blurred-foreground": _BLACK,
        "input-selection-background": _BRIGHT_CYAN,
        **_scrollbar(_WHITE, _SILVER, _BLUE),
    },
)


def ours(color_system: str | None) -> tuple[Theme, Theme]:
    """The dark and the light theme for a terminal, by rich's name for the colours that it has."""
    return (_DARK_16, _LIGHT_16) if color_system == "standard" else (DARK, LIGHT)


def wished() -> str:
    """The theme that `$PIDEC_THEME` (light or dark) asks for; "" if it asks for none."""
    wish = os.environ.get("PIDEC_THEME", "").lower()
    return f"pidec-{wish}" if wish in {"light", "dark"} else ""


def mistaken() -> str:
    """What is wrong with `$PIDEC_THEME`; "" if nothing is."""
    wish = os.environ.get("PIDEC_THEME", "")
    return "" if not wish or wished() else f"PIDEC_THEME is light or dark, not {wish}: the terminal's own is taken"


def chosen() -> str:
    """`$PIDEC_THEME` (light or dark), else what the terminal says about its background, else dark."""
    # rxvt, konsole and others set COLORFGBG="foreground;background"; 7 and 15 are the white ones.
    white = os.environ.get("COLORFGBG", "").rpartition(";")[2] in {"7", "15"}
    return wished() or ("pidec-light" if white else "pidec-dark")
