"""`pidec-train`: the trainers by hand. Torch is imported only after the arguments are parsed."""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from .protocol.config import (
    CONFIG_MODELS,
    AdaptConfig,
    DecoratorConfig,
    DemosConfig,
    DiffusionConfig,
    EvaluateConfig,
    parse_config,
)
from .protocol.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_STOPPED, PidecError
from .protocol.rundir import Workspace, find_workspace, slug
from .stopping import StopRequest

Field = tuple[str, Any, Any]  # name, type, default
_CKPT = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CKPT", help="checkpoint (.pt)")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns the exit code: 0 done, 1 failed, 2 bad input, 130 stopped by a signal."""
    words = list(sys.argv[1:] if argv is None else argv)
    if (value := _after_resume(words)) is not None:
        print(
            f"pidec-train: --resume takes no value, leave out {value}: it goes on from the last good checkpoint in "
            "--checkpoint-dir",
            file=sys.stderr,
        )
        return EXIT_BAD_INPUT
    try:
        arguments = tyro.extras.subcommand_cli_from_dict(
            {
                "diffusion": _diffusion(),
                "decorator": _decorator(),
                "demos": _demos(),
                "evaluate": _evaluate(),
                "adapt": _adapt(),
                "inspect": _inspect(),
                "bench": _bench(),
            },
            prog="pidec-train",
            description="Train, evaluate and look at robot policies. A queue of such jobs: pidec-tui, pidec-jobs.",
            args=words,
        )
    except BrokenPipeError:
        return _nobody_reads_on()
    os.umask(0o077)  # checkpoints and logs are the user's own
    # Torch's threads spin while they wait for each other. Two of them on two cores that others use too went at 13
    # iterations a minute, sleeping ones at 282. Read when torch is loaded, which is not yet.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code: int = arguments.execute()
        sys.stdout.flush()
    except BrokenPipeError:
        return _nobody_reads_on()
    except PidecError as error:
        print(f"pidec-train: {error.line()}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # where no StopRequest has taken over the signal
        print("pidec-train: stopped by SIGINT", file=sys.stderr)
        return EXIT_STOPPED
    return code


def _after_resume(words: Sequence[str]) -> str | None:
    """What stands where other trainers take a checkpoint. Tyro calls it an unknown option, and not what to do."""
    return next((value for flag, value in itertools.pairwise(words) if flag == "--resume" and value[:1] != "-"), None)


def _nobody_reads_on() -> int:
    """`pidec-train inspect CKPT | head -3`: no traceback, also none when the interpreter flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_FAILED


def _diffusion() -> type[Any]:
    class Diffusion:
        """Learn a Diffusion Policy from demonstrations."""

        def execute(self: Any) -> int:
            config = _config(self, "diffusion")
            assert isinstance(config, DiffusionConfig)
            where = _run(self, config.exp_name or config.env_id)
            from . import train_diffusion

            return train_diffusion.run(config, **where)

    return _command(Diffusion, "diffusion", [*_placement("a new folder in the workspace"), _resume()])


def _decorator() -> type[Any]:
    class Decorator:
        """Learn a residual policy on top of a frozen base policy, online (Policy Decorator)."""

        def execute(self: Any) -> int:
            config = _config(self, "decorator")
            assert isinstance(config, DecoratorConfig)
            where = _run(self, config.exp_name or f"decorator-{config.env_id}")
            from . import train_decorator

            return train_decorator.run(config, **where)

    return _command(Decorator, "decorator", [*_placement("a new folder in the workspace"), _resume()])


def _resume() -> Field:
    return _flag("resume", bool, False, "go on from the last good checkpoint in --checkpoint-dir")


def _run(arguments: Any, name: str) -> dict[str, Any]:
    """Where a training run writes, whether it goes on, and what tells it to stop."""
    if arguments.resume and not (arguments.run_dir and arguments.checkpoint_dir):
        raise PidecError("--resume needs --run-dir and --checkpoint-dir: which run should go on?")
    run_dir, checkpoint_dir = _folders(arguments.run_dir, arguments.checkpoint_dir, name)
    stop = StopRequest()
    stop.install()
    return {"run_dir": run_dir, "checkpoint_dir": checkpoint_dir, "resume": arguments.resume, "stop": stop}


def _demos() -> type[Any]:
    class Demos:
        """Record demonstrations with ManiSkill's motion planner."""

        def execute(self: Any) -> int:
            config = _config(self, "demos")
            assert isinstance(config, DemosConfig)
            from . import make_demos

            return make_demos.run(config, self.run_dir)

    return _command(Demos, "demos", _placement("none"))


def _evaluate() -> type[Any]:
    class Evaluate:
        """Measure a checkpoint's success rate in the simulator."""

        def execute(self: Any) -> int:
            config = _config(self, "evaluate")
            assert isinstance(config, EvaluateConfig)
            stop = StopRequest()
            stop.install()
            from . import evaluate_command

            return evaluate_command.run(config, self.run_dir, as_json=self.json, table=self.table, stop=stop)

    as_json = _flag("json", bool, False, "print the result as one JSON object")
    table = _flag("table", bool, False, "also show seed and success of each episode")
    return _command(Evaluate, "evaluate", [*_placement("none"), as_json, table])


def _adapt() -> type[Any]:
    class Adapt:
        """Make a ManiSkill2 checkpoint into one for ManiSkill3."""

        def execute(self: Any) -> int:
            config = _config(self, "adapt")
            assert isinstance(config, AdaptConfig)
            from . import adapt

            return adapt.run(config, self.run_dir)

    return _command(Adapt, "adapt", _placement("none"))


def _bench() -> type[Any]:
    class Bench:
        """Time the diffusion trainer on this machine, upstream's way against ours."""

        def execute(self: Any) -> int:
            from .bench.options import Options

            options = Options(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Options)})
            from .bench import run

            return run.run(options)

    flags = [
        _flag("quick", bool, False, "one batch size (128 on a CPU) and short turns"),
        _flag("batch_sizes", tuple[int, ...], (), "default: 1024 4096"),
        _flag("device", str, "auto", "auto, cpu or cuda"),
        _flag("contenders", tuple[str, ...], (), "some of: upstream, eager, graph, compile, bf16; default: all"),
        _flag("rounds", int | None, None, "turns of each contender; default 7, quick 5"),
        _flag("seconds", float | None, None, "length of a turn; default 2, quick 1"),
        _flag("json", bool, False, "print the figures as one JSON object"),
    ]
    return _command(Bench, None, flags)


def _inspect() -> type[Any]:
    class Inspect:
        """Say what a checkpoint is."""

        def execute(self: Any) -> int:
            from . import inspect_checkpoint

            return inspect_checkpoint.run(self.ckpt, as_json=self.json)

    ckpt = ("ckpt", _CKPT, dataclasses.MISSING)
    as_json = _flag("json", bool, False, "print it as one JSON object")
    return _command(Inspect, None, [ckpt, as_json])


def _command(body: type[Any], kind: str | None, extra: list[Field]) -> type[Any]:
    """A dataclass that tyro turns into flags: the config's fields, then `extra`."""
    fields = _config_fields(kind) if kind else []
    made = dataclasses.make_dataclass(
        body.__name__,
        [(name, type_, dataclasses.field(default=default, kw_only=True)) for name, type_, default in fields + extra],
        bases=(body,),
    )
    made.__doc__ = body.__doc__
    return made


def _config_fields(kind: str) -> list[Field]:
    fields: list[Field] = []
    for name, field in CONFIG_MODELS[kind].model_fields.items():
        type_: Any = Annotated[field.annotation, tyro.conf.arg(help=field.description)]
        if name == "ckpt":
            type_ = _CKPT
        fields.append((name, type_, dataclasses.MISSING if field.is_required() else field.default))
    return fields


def _config(arguments: Any, kind: str) -> Any:
    names = CONFIG_MODELS[kind].model_fields
    return parse_config(kind, {name: getattr(arguments, name) for name in names})


def _flag(name: str, type_: Any, default: Any, text: str) -> Field:
    return name, Annotated[type_, tyro.conf.arg(help=text)], default


def _placement(default: str) -> list[Field]:
    """Flags that say where a run writes. Every kind takes both, so that whoever starts one need not tell them apart."""
    return [
        _flag("run_dir", Path | None, None, f"folder for metrics.jsonl; default: {default}"),
        _flag("checkpoint_dir", Path | None, None, f"folder for checkpoints, if it makes any; default: {default}"),
    ]


def _folders(run_dir: Path | None, checkpoint_dir: Path | None, name: str) -> tuple[Path, Path]:
    """Where a run by hand writes, unless told: hand-<time>-<name> in the workspace."""
    workspace = Workspace(find_workspace())
    hand = f"hand-{time.strftime('%Y%m%d-%H%M%S')}-{slug(name)}"
    return (
        (run_dir or workspace.runs / hand / "attempt-1").absolute(),
        (checkpoint_dir or workspace.checkpoints / hand).absolute(),
    )


if __name__ == "__main__":
    sys.exit(main())
