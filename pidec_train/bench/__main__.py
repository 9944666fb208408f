"""`python -m pidec_train.bench`: the bench where nothing but torch and numpy is installed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..protocol.errors import EXIT_STOPPED, PidecError
from .options import CONTENDERS, Options


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 nothing could be measured, 2 bad input, 130 stopped by a signal."""
    parser = argparse.ArgumentParser(prog="python -m pidec_train.bench", description="Upstream's way and ours, timed.")
    parser.add_argument("--quick", action="store_true", help="one batch size (128 on a CPU) and short turns")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[], help="default: 1024 4096")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--contenders", nargs="+", default=[], help=f"some of: {', '.join(CONTENDERS)}")
    parser.add_argument("--rounds", type=int, help="turns of each contender; default 7, quick 5")
    parser.add_argument("--seconds", type=float, help="length of a turn; default 2, quick 1")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    given = parser.parse_args(argv)
    # Torch's threads spin while they wait, unless told before torch is loaded: see `pidec_train.__main__`.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        options = Options(
            quick=given.quick,
            batch_sizes=tuple(given.batch_sizes),
            device=given.device,
            contenders=tuple(given.contenders),
            rounds=given.rounds,
            seconds=given.seconds,
            json=given.json,
        )
        from .run import run

        return run(options)
    except PidecError as error:
        print(f"bench: {error.line()}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("bench: stopped by SIGINT", file=sys.stderr)
        return EXIT_STOPPED


if __name__ == "__main__":
    sys.exit(main())
