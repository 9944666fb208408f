"""Who is compared: the upstream way and ours, one more thing switched on each time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from ..algos.diffusion_step import BLOCK, DiffusionStep
from ..algos.stepping import Stepper
from ..data.trajectories import Demos
from ..data.windows import Batches, Windows
from ..models.diffusion_policy import DiffusionPolicy
from ..placement import set_precision
from .upstream_way import UpstreamWay

Mark = Callable[[str], None]
PARTS = ("data", "forward", "backward", "optimizer", "EMA")


class NotHere(Exception):
    """A contender that this machine or this torch cannot run; the text says why."""


@dataclass(frozen=True)
class Setting:
    """What all contenders share.

    Attributes:
        demos: in raw units.
        windows: of these demos, on `device`.
    """

    demos: Demos
    windows: Windows
    device: torch.device
    batch_size: int


class Racer(Protocol):
    """One contender, ready to run."""

    granularity: int  # it runs a multiple of so many iterations at full speed

    def settle(self) -> None:
        """Set torch's global switches as this contender wants them; before each of its turns."""

    def run(self, iterations: int) -> None:
        """On CUDA the work may still be under way afterwards."""


class UpstreamRacer:
    """(a) The upstream way."""

    granularity = 1

    def __init__(self, setting: Setting) -> None:
        self.settle()
        torch.manual_seed(0)
        self._way = UpstreamWay(setting.demos, device=setting.device, batch_size=setting.batch_size)

    def settle(self) -> None:
        """Torch's defaults, and upstream's own `torch_deterministic`."""
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True

    def run(self, iterations: int) -> None:
        for _ in range(iterations):
            self._way()

    def run_in_parts(self, mark: Mark) -> None:
        """One iteration that calls `mark` at the end of each of PARTS."""
        batch = self._way.fetch()
        mark("data")
        loss = self._way.forward(batch)
        mark("forward")
        self._way.backward(loss)
        mark("backward")
        self._way.optimize()
        mark("optimizer")
        self._way.average()
        mark("EMA")


class OurRacer:
    """(b) to (e): the trainer's own step.

    Raises:
        NotHere: it does not compile or cannot be captured on this machine.
    """

    def __init__(self, setting: Setting, *, graph: bool, compiled: bool, precision: str) -> None:
        self._precision = precision
        self.granularity = BLOCK if graph else 1
        self.settle()
        torch.manual_seed(0)
        self.policy = DiffusionPolicy(setting.demos.obs_dim, setting.demos.act_dim).to(setting.device)
        self.step = DiffusionStep(
            self.policy,
            copy.deepcopy(self.policy),
            setting.windows,
            batch_size=setting.batch_size,
            lr=1e-4,
            warmup_steps=500,
            total_iters=1_000_000,
            noise=torch.Generator(setting.device).manual_seed(2),
            precision=precision,
            compiled=compiled,
        )
        order = torch.Generator(setting.device).manual_seed(1)
        self.stepper = Stepper(self.step, Batches(setting.windows, setting.batch_size, order), graph=graph)
        self.run(1)  # compiles and captures
        if self.stepper.notes:
            raise NotHere("; ".join(self.stepper.notes))

    def settle(self) -> None:
        torch.backends.cudnn.deterministic = False
        set_precision(self._precision)

    def run(self, iterations: int) -> None:
        while iterations > 0:
            iterations -= self.stepper.advance(iterations)

    def run_in_parts(self, mark: Mark) -> None:
        """One eager iteration that calls `mark` at the end of each of PARTS.

        The loss itself counts to backward, the check for finite gradients too.
        """
        hooks = [
            self.policy.noise_pred_net.register_forward_hook(lambda *_: mark("forward")),
            self.step.optimizer.register_step_pre_hook(lambda *_: mark("backward")),
            self.step.optimizer.register_step_post_hook(lambda *_: mark("optimizer")),
        ]
        self.step.load(self.stepper.batches, self.stepper.iteration, 1)
        batch = self.step.fetch(0)
        mark("data")
        self.step.learn(0, *batch)
        mark("EMA")
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Contender:
    """One row of the table.

    Attributes:
        name: one of `options.CONTENDERS`.
        title: for the table.
        peak: which precision's peak its arithmetic is held against.
        build: makes it ready to run, which may take a minute.
        missing: why it cannot run here; "" if it can.
    """

    name: str
    title: str
    peak: str
    build: Callable[[Setting], Racer]
    missing: str = ""


def contenders_on(device_type: str, wanted: tuple[str, ...], quick: bool) -> list[Contender]:
    """The contenders of these names (all, if none is named), (a) always and first.

    Without CUDA, "compile" goes without a graph and two others cannot be.
    """
    chosen = [c for c in _all_on(device_type == "cuda") if not wanted or c.name in ("upstream", *wanted)]
    if quick and device_type == "cpu" and not wanted:
        why = "left out by --quick: on a CPU it takes minutes to compile"
        chosen = [replace(c, missing=why) if c.name == "compile" else c for c in chosen]
    return chosen


def _all_on(cuda: bool) -> list[Contender]:
    def ours(precision: str = "tf32", *, graph: bool = False, compiled: bool = False) -> Callable[[Setting], Racer]:
        return lambda setting: OurRacer(setting, graph=graph, compiled=compiled, precision=precision)

    needs_cuda = "" if cuda else "needs CUDA"
    plain = "tf32" if cuda else "fp32"
    whole = ours(graph=cuda, compiled=True)
    return [
        Contender("upstream", "upstream's way", plain, UpstreamRacer),
        Contender("eager", "ours, eager", plain, ours()),
        Contender("graph", "ours, CUDA graph", plain, ours(graph=True), needs_cuda),
        Contender("compile", "… + compile" if cuda else "ours, compiled, no graph", plain, whole),
        Contender("bf16", "… + bf16", "bf16", ours("bf16", graph=True, compiled=True), needs_cuda),
    ]
