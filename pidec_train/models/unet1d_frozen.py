"""The noise predictor for acting on a CPU: `ConditionalUnet1D` with weights that do not change any more.

At the few rows that simulators ask for, a forward pass there is mostly overhead: each convolution reorders its weights
anew, and torch's Mish takes a quarter of the time. Here a sequence lies as (B, T, C), a convolution is one matrix
product over its windows, which in that order are copied row by row, what the diffusion steps and the condition add to
FiLM is computed once for each, and Mish is one exponential. Half the time (docs/performance.md), equal to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .unet1d import ConditionalUnet1D, ConvBlock, Downsample, FilmResidualBlock, Upsample

Stage = Callable[[Tensor], Tensor]  # (B, T, C) -> (B, T', C')


_ONE = torch.ones(())  # a Python number would be made a tensor of each time: a seventh of Mish's time


def mish(x: Tensor) -> Tensor:
    """x * tanh(softplus(x)): with e = exp(x), the tangent is 1 - 2 / ((1 + e)^2 + 1), which holds at infinity too."""
    return torch.addcdiv(x, x, x.exp().add_(_ONE).square_().add_(_ONE), value=-2)


def _windows(x: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """(B, T, C) -> (B * T', size * C): the windows, each with its steps one after the other."""
    padded = functional.pad(x, (0, 0, padding, padding)) if padding else x
    return padded.unfold(1, size, stride).transpose(2, 3).reshape(-1, size * _fixed(x, 2))


def _fixed(x: Tensor, dim: int) -> int:
    """A size that is the same in every call. Recorded as a number (`algos/traced.py`): sums of other sizes cost a
    sixth of the time."""
    return int(x.shape[dim])


def _convolution(conv: nn.Conv1d) -> Stage:
    size, stride, padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
    weight = conv.weight.detach().permute(2, 1, 0).reshape(-1, conv.out_channels).contiguous()
    bias = cast(Tensor, conv.bias).detach()

    def apply(x: Tensor) -> Tensor:
        rows = x.reshape(-1, conv.in_channels) if size == 1 else _windows(x, size, stride, padding)
        steps = (_fixed(x, 1) + 2 * padding - size) // stride + 1
        return torch.addmm(bias, rows, weight).view(-1, steps, conv.out_channels)

    return apply


def _doubling(conv: nn.ConvTranspose1d) -> Stage:
    """A transposed convolution (kernel 4, stride 2, padding 1): two steps out of each window of three."""
    w, outputs = conv.weight.detach(), conv.out_channels  # (C_in, C_out, 4)
    weight = torch.zeros(3, conv.in_channels, 2, outputs)
    weight[0, :, 0], weight[1, :, 0] = w[:, :, 3], w[:, :, 1]  # even: the step before, and this one
    weight[1, :, 1], weight[2, :, 1] = w[:, :, 2], w[:, :, 0]  # odd: this one, and the step after
    weight, bias = weight.reshape(-1, 2 * outputs), cast(Tensor, conv.bias).detach().repeat(2)
    return lambda x: torch.addmm(bias, _windows(x, 3, 1, 1), weight).view(-1, 2 * _fixed(x, 1), outputs)


def _conv_block(block: ConvBlock) -> Stage:
    conv, norm = _convolution(cast(nn.Conv1d, block.block[0])), cast(nn.GroupNorm, block.block[1])
    weight, bias = norm.weight.detach(), norm.bias.detach()

    def apply(x: Tensor) -> Tensor:
        channels_first = conv(x).transpose(1, 2).unsqueeze(2)  # a view: torch's kernel knows channels last
        normed = functional.group_norm(channels_first, norm.num_groups, weight, bias, norm.eps)
        return mish(normed).squeeze(2).transpose(1, 2)

    return apply


class _Block:
    """A `FilmResidualBlock`."""

    def __init__(self, block: FilmResidualBlock) -> None:
        self.first, self.second = (_conv_block(cast(ConvBlock, part)) for part in block.blocks)
        shortcut = block.residual_conv
        self.shortcut = _convolution(shortcut) if isinstance(shortcut, nn.Conv1d) else None

    def __call__(self, x: Tensor, film: tuple[Tensor, Tensor]) -> Tensor:
        scale, shift = film
        out = self.second(torch.addcmul(shift, scale, self.first(x)))
        return out.add_(self.shortcut(x) if self.shortcut else x)


class FrozenUnet:
    """What `net` predicts, with the weights it has now. On a CPU; for no gradients.

    Args:
        net: the noise predictor, on a CPU.
    """

    def __init__(self, net: ConditionalUnet1D) -> None:
        net = copy.deepcopy(net)
        self._encoder = net.diffusion_step_encoder
        self._down = [_level(level) for level in net.down_modules]
        self._mid = [_Block(cast(FilmResidualBlock, block)) for block in net.mid_modules]
        self._up = [_level(level) for level in net.up_modules]
        block, last = net.final_conv
        self._last = (_conv_block(cast(ConvBlock, block)), _convolution(cast(nn.Conv1d, last)))
        encoders = [cast(nn.Linear, block.cond_encoder[1]) for block in net.blocks_in_order]
        self._sizes = [encoder.out_features // 2 for encoder in encoders for _ in range(2)]
        weight = torch.cat([encoder.weight.detach() for encoder in encoders]).t()
        self._bias = torch.cat([encoder.bias.detach() for encoder in encoders])
        embed = cast(nn.Linear, self._encoder[-1]).out_features
        self._step_weight, self._cond_weight = weight[:embed].contiguous(), weight[embed:].contiguous()
        self._steps: dict[int, Tensor] = {}

    def given(self, cond: Tensor) -> Callable[[Tensor, int], Tensor]:
        """For the condition (B, cond_dim): a function of samples (B, pred_horizon, act_dim) and a diffusion step."""
        # Mish and the linear layer behind it take step and condition apart: what the condition adds stays the same.
        of_cond = mish(cond) @ self._cond_weight
        return lambda sample, step: self._predict(sample, of_cond + self._of_step(step))

    def _of_step(self, step: int) -> Tensor:
        if step not in self._steps:
            embedded = functional.mish(self._encoder(torch.tensor([step])))
            self._steps[step] = torch.addmm(self._bias, embedded, self._step_weight)
        return self._steps[step]

    def _predict(self, x: Tensor, film: Tensor) -> Tensor:
        halves = film.unsqueeze(1).split_with_sizes(self._sizes, dim=2)
        films = iter(zip(halves[::2], halves[1::2], strict=True))
        shortcuts = []
        for first, second, halve in self._down:
            x = second(first(x, next(films)), next(films))
            shortcuts.append(x)
            x = halve(x) if halve else x
        for block in self._mid:
            x = block(x, next(films))
        for first, second, double in self._up:
            x = torch.cat((x, shortcuts.pop()), dim=2)
            x = second(first(x, next(films)), next(films))
            x = double(x) if double else x
        last_block, last = self._last
        return last(last_block(x))


def _level(level: nn.Module) -> tuple[_Block, _Block, Stage | None]:
    first, second, resize = level.children()
    stage: Stage | None = None
    if isinstance(resize, Downsample):
        stage = _convolution(resize.conv)
    elif isinstance(resize, Upsample):
        stage = _doubling(resize.conv)
    return _Block(cast(FilmResidualBlock, first)), _Block(cast(FilmResidualBlock, second)), stage
