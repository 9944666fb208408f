"""Errors that a user can do something about: one clear line instead of a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_STOPPED = 130


class PidecError(Exception):
    """Wrong usage or bad input. Programs print `line()` and exit with `exit_code`.

    Args:
        message: what is wrong with which value, and what is allowed.
        hint: what to do next; empty if the message says it already.
    """

    exit_code = EXIT_BAD_INPUT

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def line(self) -> str:
        """The one line that a user reads: no newline in it, whatever the message held."""
        text = f"{self.message.rstrip('. ')}. {self.hint}" if self.hint else self.message
        return " ".join(text.split()) if "\n" in text else text

    def __str__(self) -> str:
        return self.line()


class RunFailed(PidecError):
    """The input was right, yet the run could not go on (out of memory, loss not finite)."""

    exit_code = EXIT_FAILED


class Stopped(PidecError):
    """A signal asked the run to stop; its state is saved."""

    exit_code = EXIT_STOPPED


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that is most like `word`, or None if none is alike."""
    names = list(allowed)
    folded = {name.lower().replace("-", "_"): name for name in names}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), list(folded), n=1, cutoff=0.5)
    return folded[close[0]] if close else None


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """`did you mean "x"?`, or the allowed names if none is alike."""
    names = sorted(allowed)
    best = nearest(word, names)
    return f'did you mean "{best}"?' if best else f"allowed: {', '.join(names)}"
