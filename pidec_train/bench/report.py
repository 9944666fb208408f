"""The figures as a text that fits into 100 columns."""

from __future__ import annotations

import textwrap
from typing import Any

from .guard import ALLOWED, STEPS
from .results import BatchResult, Results, Row

TITLE, WIDTH = 24, 100


def report(results: Results) -> str:
    """Tables, then the quality guard, then the sentence."""
    blocks = [_header(results), *(_table(results, batch) for batch in results.batches), _guard(results.guard)]
    return "\n\n".join([*blocks, results.sentence()])


def _header(results: Results) -> str:
    machine: dict[str, Any] = results.machine
    cpu = f"{machine['cores']} cores of {machine['cpu']}"
    gpu = f"{machine['gpu']} (driver for CUDA {machine['cuda_driver']}), " if "gpu" in machine else ""
    build = f"torch {machine['torch']}, CUDA {machine['cuda'] or 'none'}, Python {machine['python']}"
    peaks = ", ".join(f"{name} {flops / 1e12:.3g}" for name, flops in results.peaks.items())
    return (
        f"{gpu}{cpu}\n{build}, {machine['threads']} threads, load {machine['load']} at the start, {machine['date']}\n"
        f"large matrix products here, TFLOP/s: {peaks}"
    )


def _table(results: Results, batch: BatchResult) -> str:
    lines = [
        f"batch {batch.batch_size}: {batch.flops / 1e9:.4g} GFLOP an iteration; median (lowest to highest) of "
        f"{results.turns} turns of {results.turn_seconds:g} s",
        f"  {'':<{TITLE}}{'iterations/min':>15}  {'':<18}{'ratio':>7}{'of peak':>13}{'GPU memory':>12}{'calls':>7}",
    ]
    lines += [_line(results, batch, row) for row in batch.rows]
    split = [row for row in batch.rows if row.parts_ms]
    if split:
        names = list(split[0].parts_ms)
        lines += ["", f"  {'where the time goes, ms':<{TITLE}}" + "".join(f"{name:>11}" for name in names)]
        lines += [f"  {r.title:<{TITLE}}" + "".join(f"{r.parts_ms[name]:>11.3g}" for name in names) for r in split]
    return "\n".join(lines)


def _line(results: Results, batch: BatchResult, row: Row) -> str:
    start = f"  {row.title:<{TITLE}}"
    if row.rate is None:
        return textwrap.fill(row.reason, WIDTH, initial_indent=f"{start}  ", subsequent_indent=" " * (TITLE + 4))
    spread = f"({min(row.rates):,.0f} to {max(row.rates):,.0f})"
    ratio, share = batch.ratio(row), batch.share_of_peak(row, results.peaks)
    return (
        f"{start}{row.rate:>15,.0f}  {spread:<18}{f'{ratio:.2f}x' if ratio else '':>7}"
        f"{f'{share:.1%} {row.peak}' if share is not None else '':>13}"
        f"{f'{row.memory_bytes / 2**20:,.0f} MiB' if row.memory_bytes else '':>12}"
        f"{f'{row.dispatches:,}' if row.dispatches else '':>7}"
    ).rstrip()


def _guard(guard: float | str) -> str:
    what = f"captured fp32 against eager fp32, {STEPS} iterations: largest relative difference of a loss\n  "
    if isinstance(guard, str):
        return what + guard
    return f"{what}{guard:.1e} ({'good' if guard < ALLOWED else 'NOT good'}: below {ALLOWED:.0e} is asked for)"
