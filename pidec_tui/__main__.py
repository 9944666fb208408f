"""`pidec-tui`: arguments first, so that `--help` is instant; then the workspace, so that what is wrong with it is said
in one line before the screen opens; then the dashboard."""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
from collections.abc import Sequence

from pidec_train.protocol.errors import EXIT_BAD_INPUT, PidecError

GARBAGE = (10_000, 20, 50)  # new objects before the collector looks; Python's 700 cost a tenth of the first picture


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pidec-tui",
        description="The dashboard: queue jobs, watch them learn, come back later. Closing it changes nothing for "
        "the jobs.",
        epilog="Usual keys: n new job, ? all keys, q quit; --list-keys tells your own ones. "
        "pidec-jobs does the same without a screen.",
    )
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        help="folder with jobs/ and checkpoints/ (default: $PIDEC_WORKSPACE, else the nearest parent that has "
        "jobs/jobs.db, else the current folder)",
    )
    parser.add_argument("--once", action="store_true", help="print the state as plain text and end; needs no terminal")
    parser.add_argument("--readonly", action="store_true", help="look only: no key changes anything, no runner starts")
    parser.add_argument("--fresh", action="store_true", help="begin as at the first time: forget how it was left")
    parser.add_argument(
        "--keys", metavar="FILE", help="your own keys (default: ~/.config/pidec/keys.toml, where there is one)"
    )
    parser.add_argument("--list-keys", action="store_true", help="print all keys as such a file to begin with, and end")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 where the dashboard cannot open, 1 where it broke."""
    options = _parser().parse_args(argv)
    _speak_utf8()
    if options.list_keys:
        return _list_keys(options.keys)
    if options.once:
        return _once(options.workspace)
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        return _refuse("pidec-tui needs a terminal. --once prints the state without one; pidec-jobs does the rest")
    # A size that somebody exported is stale after the first resize (tmux hands such variables on); the terminal knows.
    os.environ.pop("COLUMNS", None)
    os.environ.pop("LINES", None)
    gc.disable()  # what is imported stays: looking through it again and again is a tenth of the start
    try:
        return _open(options)
    finally:
        gc.enable()


def _open(options: argparse.Namespace) -> int:
    from pidec_train.protocol.rundir import find_workspace

    from .manager.manager import Manager
    from .manager.statedir import check_folder, is_no_workspace

    try:
        check_folder(root := find_workspace(options.workspace))
        if options.readonly and is_no_workspace(root):
            return _refuse("There is no workspace here, and --readonly begins none. --workspace DIR names another")
        manager = Manager.open(options.workspace)
    except PidecError as error:
        return _refuse(error.line())
    from .app import PidecApp
    from .continued import ContinuedDriver
    from .hangup import leave_with_terminal
    from .keymap import read_keys
    from .memory import Memory

    memory = Memory(manager.workspace.root, fresh=options.fresh)
    app = PidecApp(manager, readonly=options.readonly, memory=memory, keys=read_keys(options.keys))
    app.driver_class = ContinuedDriver
    leave_with_terminal(sys.stdin.fileno())
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    gc.enable()
    try:
        app.run()
    finally:
        manager.close()
    return app.return_code or 0


def _once(workspace: str | None) -> int:
    from .once import show

    try:
        return show(workspace)
    except PidecError as error:
        return _refuse(error.line())
    except BrokenPipeError:  # `pidec-tui --once | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _speak_utf8() -> None:
    """Whatever the locale says: ssh seldom brings it along, and the terminals that know no UTF-8 are gone. Without this
    a letter that Latin-1 lacks would end `--once` with a traceback, and be an escape on the screen."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")


def _list_keys(file: str | None) -> int:
    from .keymap import listing, read_keys
    from .screens.help import GROUPS

    keys = read_keys(file)
    print(listing(keys, GROUPS), end="")
    for trouble in keys.troubles:
        print(trouble, file=sys.stderr)
    return 0


def _refuse(line: str) -> int:
    print(line, file=sys.stderr)
    return EXIT_BAD_INPUT


if __name__ == "__main__":
    raise SystemExit(main())
