"""Two calm themes. Every colour is one of the 256 that terminals have, so that ssh and tmux show what we chose."""

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
        "block-cursor-background": "#d0d0d0",
        "block-cursor-foreground": "#1c1c1c",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#e4e4e4",
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


def wished() -> str:
    """The theme that `$PIDEC_THEME` (light or dark) asks for; "" if it asks for none."""
    wish = os.environ.get("PIDEC_THEME", "").lower()
    return f"pidec-{wish}" if wish in {"light", "dark"} else ""


def chosen() -> str:
    """`$PIDEC_THEME` (light or dark), else what the terminal says about its background, else dark."""
    # rxvt, konsole and others set COLORFGBG="foreground;background"; 7 and 15 are the white ones.
    white = os.environ.get("COLORFGBG", "").rpartition(";")[2] in {"7", "15"}
    return wished() or ("pidec-light" if white else "pidec-dark")
