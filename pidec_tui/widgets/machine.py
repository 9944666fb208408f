"""GPU and host, in a few lines."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text

from ..board import Machine
from ..manager.gpus import GpuSample
from ..words import bar, gib, size
from .panel import Lines

_LABEL = 7
_FIGURES = 16  # cells beside a bar, so that all bars are equally long: 100% of 16 cores


def machine_lines(machine: Machine, colours: Mapping[str, str], width: int, height: int) -> Lines:
    """The lines of the panel. `colours`: the theme's variables. With little height, the processes go first."""
    if machine.host is None:
        return [Text("looking…", colours["muted"])]
    host = _host_lines(machine, colours, width)
    if not machine.gpus:
        why = machine.why_no_gpu or "none found"
        sentence = Text(f"No GPU: {why}".rstrip(".") + ".", colours["muted"])
        return [*host, Text(""), sentence] if height > 5 else [*host, sentence]
    gpus: Lines = []
    room = max(height - len(host), 3) // len(machine.gpus)
    for gpu in machine.gpus:
        gpus += _gpu_lines(gpu, colours, width, room)
    return gpus + host


def _meter(label: str, share: float | None, text: str, colours: Mapping[str, str], width: int) -> Text:
    """`load   ━━━━━────── 48%`"""
    line = Text(no_wrap=True).append(f"{label:<{_LABEL}}", colours["muted"])
    cells = width - _LABEL - 1 - max(len(text), _FIGURES)
    if cells >= 4 and share is not None:
        full, rest = bar(share, cells)
        line.append(full, colours["warning"] if share > 0.95 else colours["primary"]).append(rest, colours["faint"])
        line.append(" ")
    return line.append(text)


def _gpu_lines(gpu: GpuSample, colours: Mapping[str, str], width: int, room: int) -> Lines:
    name = gpu.name.removeprefix("NVIDIA ").removeprefix("GeForce ")
    load = None if gpu.utilization is None else gpu.utilization / 100
    lines = [
        Text(f"GPU {gpu.index}  {name}"[:width], "bold"),
        _meter("load", load, "-" if load is None else f"{gpu.utilization:.0f}%", colours, width),
        _meter(
            "memory",
            gpu.memory_used / max(gpu.memory_total, 1),
            f"{gib(gpu.memory_used)} / {gib(gpu.memory_total)} GiB",
            colours,
            width,
        ),
    ]
    vitals = [
        f"{gpu.power_w:.0f} / {gpu.power_limit_w:.0f} W"
        if gpu.power_w is not None and gpu.power_limit_w
        else f"{gpu.power_w:.0f} W"
        if gpu.power_w is not None
        else "",
        f"{gpu.temperature_c:.0f} °C" if gpu.temperature_c is not None else "",
        f"{gpu.sm_clock_mhz:,} MHz" if gpu.sm_clock_mhz is not None else "",
    ]
    if room >= 4:
        lines.append(Text(" · ".join(v for v in vitals if v)[:width], colours["muted"]))
    for process in gpu.processes[: max(room - 5, 0)]:
        who = f"pid {process.pid} {process.name}" if process.pid is not None else process.name or "outside"
        memory = f"{gib(process.memory)} GiB"
        lines.append(Text(f"{who[: width - len(memory) - 1]:<{width - len(memory) - 1}} {memory}", colours["muted"]))
    if room >= 6:
        lines.append(Text(""))
    return lines


def _host_lines(machine: Machine, colours: Mapping[str, str], width: int) -> Lines:
    host = machine.host
    if host is None:
        return []
    cores = f"of {host.cores} core" + ("s" if host.cores != 1 else "")
    return [
        _meter("CPU", host.cpu_percent / 100, f"{host.cpu_percent:.0f}% {cores}", colours, width),
        _meter(
            "memory",
            host.memory_used / max(host.memory_total, 1),
            f"{gib(host.memory_used)} / {gib(host.memory_total)} GiB",
            colours,
            width,
        ),
        Text(no_wrap=True)
        .append(f"{'disk':<{_LABEL}}", colours["muted"])
        .append(f"{size(host.disk_free)} free", colours["warning"] if host.disk_free < 5e9 else "")
        .append(f" · load {host.load1:.1f}", colours["muted"]),
    ]
