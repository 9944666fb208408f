"""`pidec-jobs`: the job manager without a screen. Data on stdout, talk on stderr."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from pidec_train.protocol.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_STOPPED, PidecError, did_you_mean
from pidec_train.protocol.rundir import folder_gone

from . import cli_actions, cli_checkpoints, cli_top
from .jobs import LANES

_CHOICE = re.compile(r"invalid choice: '?([^' ]*)'? \(choose from (.*)\)")


class _Parser(argparse.ArgumentParser):
    """Answers wrong usage with one line that names the nearest right word."""

    def error(self, message: str) -> NoReturn:
        wrong = _CHOICE.search(message)
        if wrong:
            allowed = re.findall(r"[\w-]+", wrong[2])
            message = f'there is no "{wrong[1]}" here: {did_you_mean(wrong[1], allowed)}'
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument(
        "--workspace",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="default: $PIDEC_WORKSPACE, else the nearest parent with jobs/jobs.db, else this folder",
    )
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="answer as JSON")
    starts = _Parser(add_help=False)
    starts.add_argument("--no-runner", action="store_true", help="do not start a runner")
    parser = _Parser(prog="pidec-jobs", description="The queue of training jobs of a workspace.", parents=[common])
    actions = parser.add_subparsers(dest="action", metavar="COMMAND", required=True, parser_class=_Parser)

    def action(name: str, text: str, *, job: bool = False, runs: bool = False) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(
            name, help=text, description=text, parents=[common, starts] if runs else [common]
        )
        if job:
            made.add_argument("job", metavar="ID", help="number of the job")
        return made

    add = action("add", "queue a preset, a preset file or a shell command", runs=True)
    add.add_argument("preset", nargs="?", metavar="PRESET|FILE.toml", help="see `pidec-jobs presets`")
    add.add_argument("--command", metavar="LINE", help="a shell command, run as in this shell")
    _options_of_new_jobs(add)
    add.add_argument("--group", default="", metavar="NAME", help="a name that several jobs share; see cancel --group")
    clone = action("clone", "queue a new job with the config of this one, and changes", job=True, runs=True)
    _options_of_new_jobs(clone)

    listed = action("list", "the queue: active jobs, then the waiting, then the finished")
    listed.add_argument("--all", action="store_true", help="all finished jobs, not only the last ones")
    listed.add_argument("--group", metavar="NAME", help="only the jobs of this group")
    action("show", "one job: config, attempts, last metrics", job=True)
    log = action("log", "what a job has printed", job=True)
    log.add_argument("-f", "--follow", action="store_true", help="go on until the job ends")
    log.add_argument("--attempt", type=int, metavar="N", help="default: the latest")
    metrics = action("metrics", "the curves of a job", job=True)
    metrics.add_argument("--key", action="append", default=[], metavar="NAME", help="these only, e.g. train/loss")
    metrics.add_argument("--csv", action="store_true", help="step, time (unix seconds), a column a curve")
    top = action("top", "a line a job: step, rate against its own median, loss, success, end; refreshed on a terminal")
    top.add_argument("--every", type=float, default=cli_top.EVERY_S, metavar="SECONDS", help="default: 2")
    top.add_argument("--once", action="store_true", help="print it once, as in a pipe")
    report = action("report", "one HTML file: curves, config, evaluations, checkpoints, attempts, machine", job=True)
    report.add_argument("--out", required=True, metavar="FILE.html")
    report.add_argument("--force", action="store_true", help="write over a file that is there")
    cancel = action("cancel", "take a job out of the queue, or stop it", runs=True)
    cancel.add_argument("job", metavar="ID", nargs="?", help="number of the job")
    cancel.add_argument("--group", metavar="NAME", help="all jobs of a group that are not over, after a question")
    cancel.add_argument("--yes", action="store_true", help="do not ask")
    retry = action("retry", "queue a failed or cancelled job again; it resumes", runs=True)
    _job_or_group(retry, "the failed and cancelled jobs of a group")
    retry.add_argument("--fresh", action="store_true", help="start from nothing; old checkpoints are set aside")
    retry.add_argument(
        "--extend-to", type=int, metavar="N", help="go on to step N, past the job's end; a succeeded job, too"
    )
    _job_or_group(action("hold", "keep a queued job from starting"), "the queued jobs of a group")
    _job_or_group(action("release", "let a held job start", runs=True), "the held jobs of a group")
    edit = action("edit", "change values of a queued or held job", job=True)
    edit.add_argument("--set", action="append", required=True, metavar="KEY=VALUE")
    move = action("move", "change a job's place in the queue", job=True)
    move.add_argument("--to", type=int, required=True, metavar="N", help="1 is next")
    wait = action("wait", "wait for a job; exit code 0 if it succeeded", job=True, runs=True)
    wait.add_argument("--timeout", type=float, metavar="SECONDS")
    action("presets", "what can be added by name")
    cli_checkpoints.add_options(action("checkpoints", "every checkpoint here and in the extra folders of the settings"))
    action("repair", "rebuild the job log from the run folders")
    runner = action("runner", "the process that runs the jobs")
    runner.add_argument("what", choices=("start", "stop", "status"))
    return parser


def _job_or_group(parser: argparse.ArgumentParser, whom: str) -> None:
    parser.add_argument("job", metavar="ID", nargs="?", help="number of the job")
    parser.add_argument("--group", metavar="NAME", help=whom)


def _options_of_new_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value")
    parser.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="KEY=VALUES",
        help="a job for each value, and each combination of several: --sweep seed=1..3 lr=1e-4,3e-4",
    )
    parser.add_argument("--name", help="default: the preset's, or kind and task")
    parser.add_argument("--lane", choices=LANES, help="default: as the job's kind needs")
    parser.add_argument("--after", action="append", default=[], metavar="ID", help="wait until these succeeded")
    parser.add_argument("--held", action="store_true", help="wait for `release`")


# What may follow the first value of an option that takes several.
_SETTING = re.compile(r"[\w-]+=.*", re.DOTALL)
_METRIC = re.compile(r"[A-Za-z][\w./-]*")
_SEVERAL = {"--set": _SETTING, "--sweep": _SETTING, "--after": re.compile(r"#?\d+"), "--key": _METRIC}


def _spread(argv: Sequence[str]) -> list[str]:
    """`--set a=1 b=2 quickstart` as `--set a=1 --set b=2 quickstart`, so that the list swallows nothing else."""
    spread: list[str] = []
    option, first = "", False
    for word in argv:
        if word in _SEVERAL:
            option, first = word, True
        elif first:
            first = False
        elif option and _SEVERAL[option].fullmatch(word):
            spread.append(option)
        else:
            option = ""
        spread.append(word)
    return spread


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0: done, 1: failed, 2: wrong usage or bad input, 130: stopped by Ctrl-C."""
    options = _parser().parse_args(_spread(sys.argv[1:] if argv is None else argv))
    options.json = getattr(options, "json", False)
    options.workspace = getattr(options, "workspace", None)
    try:
        code = cli_actions.ACTIONS[options.action](options)
        sys.stdout.flush()
        return code
    except PidecError as error:
        print(f"pidec-jobs: {error.line()}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `pidec-jobs log 3 | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        gone = error.errno == errno.ENOENT and error.filename is None  # of os.getcwd, which names none
        text = folder_gone().line() if gone else str(error)
        print(f"pidec-jobs: {text}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_STOPPED


if __name__ == "__main__":
    sys.exit(main())
