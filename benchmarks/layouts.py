"""In which memory layout the noise predictor learns fastest: forward and backward, three ways, the same weights.

    python benchmarks/layouts.py [--rounds N]

- channels last: the product; conv2d over a height of 1, channels side by side in memory
- conv1d: (B, C, T), as upstream does it
- matrix product: channels side by side, windows unfolded and multiplied by the kernel

Ways are interleaved in one run and must agree. With CUDA each runs as it does in training, captured into a graph, with
torch.compile and without, in fp32, TF32 and bf16; on a CPU eagerly, one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from pidec_train.models.diffusion_policy import DiffusionPolicy
from pidec_train.models.unet1d import ConditionalUnet1D, ConvBlock, Film, FilmResidualBlock, films

OBS_DIM, ACT_DIM, OBS_HORIZON, PRED_HORIZON = 43, 7, 2, 16
SIZES = {"small, batch 128": ((32, 64), 128), "full, batch 1024": ((64, 128, 256), 1024)}
Inputs = tuple[Tensor, Tensor, Tensor]  # noisy actions (B, T, D), diffusion steps (B,), condition (B, D)


class Layout(Protocol):
    """How activations lie in memory, and the convolutions that go with it."""

    def enter(self, sample: Tensor) -> Tensor:
        """(B, T, D) to this layout's activations, channels second."""

    def leave(self, x: Tensor) -> Tensor:
        """Back to (B, T, D)."""

    def spread(self, film: Tensor) -> Tensor:
        """(B, C, 1, 1) so that it broadcasts over activations."""

    def conv(self, x: Tensor, layer: nn.Conv1d) -> Tensor: ...

    def double(self, x: Tensor, layer: nn.ConvTranspose1d) -> Tensor: ...


class Conv1d:
    def enter(self, sample: Tensor) -> Tensor:
        return sample.transpose(1, 2)

    def leave(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)

    def spread(self, film: Tensor) -> Tensor:
        return film.squeeze(2)

    def conv(self, x: Tensor, layer: nn.Conv1d) -> Tensor:
        return functional.conv1d(x, layer.weight, layer.bias, layer.stride, layer.padding)  # type: ignore[arg-type]

    def double(self, x: Tensor, layer: nn.ConvTranspose1d) -> Tensor:
        return functional.conv_transpose1d(x, layer.weight, layer.bias, layer.stride, layer.padding)  # type: ignore[arg-type]


class MatrixProduct:
    """(B, C, 1, T); in memory (B, T, C). Every convolution is one matrix product."""

    def enter(self, sample: Tensor) -> Tensor:
        return sample.transpose(1, 2).unsqueeze(2)

    def leave(self, x: Tensor) -> Tensor:
        return x.squeeze(2).transpose(1, 2)

    def spread(self, film: Tensor) -> Tensor:
        return film

    def conv(self, x: Tensor, layer: nn.Conv1d) -> Tensor:
        rows = self.leave(x)
        if layer.kernel_size == (1,):
            return self.enter(functional.linear(rows, layer.weight.squeeze(-1), layer.bias))
        padding = int(layer.padding[0])
        windows = functional.pad(rows, (0, 0, padding, padding)).unfold(1, layer.kernel_size[0], layer.stride[0])
        windows = windows.transpose(2, 3).flatten(2)  # (B, T, kernel * C)
        return self.enter(functional.linear(windows, layer.weight.transpose(1, 2).flatten(1), layer.bias))

    def double(self, x: Tensor, layer: nn.ConvTranspose1d) -> Tensor:
        """Kernel 4, stride 2, padding 1: input t reaches the outputs 2t - 1 to 2t + 2."""
        taps = torch.einsum("btc,cdk->kbtd", self.leave(x), layer.weight)
        later = functional.pad(taps[3, :, :-1], (0, 0, 1, 0))
        sooner = functional.pad(taps[0, :, 1:], (0, 0, 0, 1))
        out = torch.stack((taps[1] + later, taps[2] + sooner), dim=2).flatten(1, 2)
        return self.enter(out + layer.bias)


OTHERS: dict[str, Layout] = {"conv1d": Conv1d(), "matrix product": MatrixProduct()}


def conv_block(layout: Layout, block: ConvBlock, x: Tensor) -> Tensor:
    conv, norm, mish = block.block
    return mish(norm(layout.conv(x, conv)))  # type: ignore[no-any-return,arg-type]


def film_block(layout: Layout, block: FilmResidualBlock, x: Tensor, film: Film) -> Tensor:
    scale, shift = (layout.spread(part) for part in film)
    out = scale * conv_block(layout, block.blocks[0], x) + shift  # type: ignore[arg-type]
    shortcut = block.residual_conv
    kept = layout.conv(x, shortcut) if isinstance(shortcut, nn.Conv1d) else x
    return conv_block(layout, block.blocks[1], out) + kept  # type: ignore[arg-type]


def predict(net: ConditionalUnet1D, layout: Layout, sample: Tensor, steps: Tensor, cond: Tensor) -> Tensor:
    """`ConditionalUnet1D.forward` in another layout."""
    film = iter(films(net._blocks, torch.cat((net.diffusion_step_encoder(steps), cond), dim=-1)))
    x, shortcuts = layout.enter(sample), []
    for first, second, halve in net.down_modules:  # type: ignore[misc]
        x = film_block(layout, second, film_block(layout, first, x, next(film)), next(film))
        shortcuts.append(x)
        x = layout.conv(x, halve.conv) if hasattr(halve, "conv") else x
    for module in net.mid_modules:
        x = film_block(layout, module, x, next(film))  # type: ignore[arg-type]
    for first, second, double in net.up_modules:  # type: ignore[misc]
        x = film_block(layout, first, torch.cat((x, shortcuts.pop()), dim=1), next(film))
        x = layout.double(film_block(layout, second, x, next(film)), double.conv)
    block, last = net.final_conv
    return layout.leave(layout.conv(conv_block(layout, block, x), last))  # type: ignore[arg-type]


def ways_to_predict(net: ConditionalUnet1D) -> dict[str, Callable[..., Tensor]]:
    return {"channels last": net, **{name: partial(predict, net, layout) for name, layout in OTHERS.items()}}


def learning(
    predictor: Callable[..., Tensor], weights: list[nn.Parameter], inputs: Inputs, precision: str, compiled: bool
) -> Callable[[], object]:
    """Forward, loss and backward."""
    target, device = torch.randn_like(inputs[0]), inputs[0].device.type

    def loss() -> Tensor:
        return functional.mse_loss(predictor(*inputs), target)

    work = torch.compile(loss, fullgraph=True) if compiled else loss

    def once() -> object:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
            out = work()
        return torch.autograd.grad(out, weights)

    return once


def captured(work: Callable[[], object]) -> Callable[[], object]:
    """`work` as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """Of one run of `work`: long enough to see, waited for."""
    repeats = 20 if device.type == "cuda" else 1
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - began) / repeats


def compare(
    title: str, net: ConditionalUnet1D, inputs: Inputs, precision: str, *, graph: bool, compiled: bool, rounds: int
) -> None:
    device = inputs[0].device
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    ways = {}
    for name, predictor in ways_to_predict(net).items():
        way = learning(predictor, list(net.parameters()), inputs, precision, compiled)
        ways[name] = captured(way) if graph else way
    for way in ways.values():
        milliseconds(way, device)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(milliseconds(way, device))
    figures = "  ".join(f"{name} {statistics.median(values):.2f}" for name, values in times.items())
    print(f"{title}, {precision}{', compiled' if compiled else ''}: ms  {figures}", flush=True)


def check(net: ConditionalUnet1D, inputs: Inputs) -> None:
    """That every layout computes the same."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with torch.no_grad():
        for predictor in ways_to_predict(net).values():
            torch.testing.assert_close(predictor(*inputs), net(*inputs), atol=1e-4, rtol=1e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description="the noise predictor's forward and backward in three memory layouts")
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if device.type == 'cuda' else 'CPU, one thread'}")
    for title, (dims, batch) in SIZES.items():
        torch.manual_seed(0)
        net = DiffusionPolicy(OBS_DIM, ACT_DIM, unet_dims=dims).to(device).noise_pred_net
        inputs = (
            torch.randn(batch, PRED_HORIZON, ACT_DIM, device=device),
            torch.randint(0, 100, (batch,), device=device),
            torch.randn(batch, OBS_HORIZON * OBS_DIM, device=device),
        )
        check(net, inputs)
        if device.type == "cpu":
            compare(title, net, inputs, "fp32", graph=False, compiled=False, rounds=rounds)
            continue
        for precision in ("fp32", "tf32", "bf16"):
            for compiled in (False, True):
                compare(title, net, inputs, precision, graph=True, compiled=compiled, rounds=rounds)


if __name__ == "__main__":
    main()
