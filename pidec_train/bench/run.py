"""The bench itself: prepare, race in turns, look closer at two, report."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..data.windows import build_windows
from ..placement import pick_device, set_threads
from ..protocol.errors import EXIT_FAILED
from .contenders import Contender, NotHere, OurRacer, Racer, Setting, UpstreamRacer, contenders_on
from .guard import largest_difference
from .machine import describe
from .measure import (
    MemoryMeter,
    dispatches,
    flops_of_iteration,
    iterations_for,
    matmul_peaks,
    time_parts,
    turn,
)
from .options import Options
from .report import report
from .results import BatchResult, Results, Row
from .synthetic import peg_like_demos


def run(options: Options) -> int:
    """Measure and print. Returns the exit code: 1 where nothing of ours or of upstream could be measured.

    Raises:
        PidecError: cuda was asked for and there is none.
    """
    device = pick_device(options.device)
    set_threads()
    machine = describe(device)
    sizes = options.sizes_on(device.type)
    if options.quick and device.type == "cpu" and not options.batch_sizes:
        say(f"no GPU: --quick measures batch {sizes[0]} here instead of 1024, which would take too long")
    demos = peg_like_demos()
    windows = build_windows(demos, obs_horizon=2, pred_horizon=16).to(device)
    say("measuring what large matrix products reach")
    peaks = matmul_peaks(device)
    settings = [Setting(demos, windows, device, size) for size in sizes]
    batches = [_race(setting, options) for setting in settings]
    say("comparing captured with eager losses")
    results = Results(machine, options.turns, options.turn_seconds, peaks, batches, _guard(settings[0]))
    print(json.dumps(results.as_json(), indent=2) if options.json else report(results), flush=True)
    return 0 if all(batch.rows[0].rate and batch.fastest for batch in batches) else EXIT_FAILED


def say(text: str) -> None:
    """Progress, beside the result."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def _race(setting: Setting, options: Options) -> BatchResult:
    """Prepare all contenders, then one turn of each in every round, so that a slow minute of the machine hits all."""
    chosen = contenders_on(setting.device.type, options.contenders, options.quick)
    rows = {c.name: Row(c.name, c.title, c.peak, c.missing) for c in chosen}
    ready: dict[str, tuple[Racer, int]] = {}
    _clear(setting.device)
    for contender in chosen:
        row = rows[contender.name]
        if contender.missing:
            continue
        with _surviving(row, setting):
            ready[contender.name] = _prepare(contender, row, setting, options)
    for number in range(options.turns):
        say(f"batch {setting.batch_size}: round {number + 1} of {options.turns}")
        for name, (racer, iterations) in list(ready.items()):
            with _surviving(rows[name], setting):
                rows[name].rates.append(turn(racer, iterations, setting.device))
            if rows[name].reason:
                del ready[name]
    for name, (racer, _) in ready.items():
        if name in ("upstream", "eager") and isinstance(racer, UpstreamRacer | OurRacer):
            with _surviving(rows[name], setting):
                _look_closer(racer, rows[name], setting)
    flops = flops_of_iteration(setting.batch_size, setting.demos.obs_dim, setting.demos.act_dim)
    return BatchResult(setting.batch_size, flops, list(rows.values()))


def _prepare(contender: Contender, row: Row, setting: Setting, options: Options) -> tuple[Racer, int]:
    slow = " (compiling takes a minute or more)" if contender.name in ("compile", "bf16") else ""
    say(f"batch {setting.batch_size}: preparing {contender.title}{slow}")
    began, memory = time.perf_counter(), MemoryMeter(setting.device)
    racer = contender.build(setting)
    row.setup_seconds = time.perf_counter() - began
    iterations = iterations_for(racer, options.turn_seconds, setting.device)
    row.memory_bytes = memory.peak()
    return racer, iterations


def _look_closer(racer: UpstreamRacer | OurRacer, row: Row, setting: Setting) -> None:
    a_second = (row.rate or 0.0) / 60
    row.parts_ms = time_parts(racer, setting.device, max(2, min(50, round(a_second))))
    row.dispatches = dispatches(racer)


@contextmanager
def _surviving(row: Row, setting: Setting) -> Iterator[None]:
    """A contender that fails is a row with its reason, not the end."""
    try:
        yield
        return
    except NotHere as error:
        row.reason = str(error)
    except torch.OutOfMemoryError:
        row.reason = f"out of memory at batch {setting.batch_size}"
    except Exception as error:  # noqa: BLE001 - compilers and drivers raise anything
        lines = str(error).strip().splitlines() or [""]
        row.reason = f"{type(error).__name__}: {lines[0]}"
    say(f"batch {setting.batch_size}: {row.title}: {row.reason}")
    _clear(setting.device, compiled=False)


def _clear(device: torch.device, compiled: bool = True) -> None:
    """Give back the memory of contenders that are gone, and what was `compiled` for another batch size."""
    if compiled and "torch._dynamo" in sys.modules:  # else nothing was, and loading it takes seconds
        torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _guard(setting: Setting) -> float | str:
    row = Row("guard", "captured against eager", "fp32")
    with _surviving(row, setting):
        return largest_difference(setting)
    return row.reason
