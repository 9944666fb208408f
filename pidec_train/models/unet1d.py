"""The noise predictor of Diffusion Policy: a UNet over the action sequence, conditioned by FiLM.

Structure and parameter names are those of Policy Decorator's `ConditionalUnet1D` (itself from the notebook of
Diffusion Policy, https://arxiv.org/abs/2303.04137), so that its checkpoints load as they are.

Inside, a sequence of T steps is (B, C, 1, T), an image of height 1, and lies in memory as (B, T, C): channels last, as
the actions come and leave. On a CPU a training step of the paper's widths then takes an eighth less time than in
upstream's (B, C, T) (`benchmarks/layouts.py`). Tensor cores want channels last too, but torch gives cuDNN no
1d convolution in that order. (On CUDA, eager GroupNorm turns the order back; torch.compile keeps it.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

Film = tuple[Tensor, Tensor]  # scale and shift of a block's channels, (B, C, 1, 1) each

OUTPUT_GROUPS = 8  # upstream's last GroupNorm has 8 groups whatever n_groups says


class SinusoidalEmbedding(nn.Module):
    """Diffusion step (B,) -> (B, dim): sines, then cosines, of geometrically spaced frequencies.

    Raises:
        ValueError: `dim` is odd or below 4.
    """

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        half, odd = divmod(dim, 2)
        if odd or half < 2:
            raise ValueError(f"a diffusion step embedding of {dim} numbers: it must be even, and 4 or more")
        decay = math.log(10_000) / (half - 1)
        self.register_buffer("frequencies", torch.exp(torch.arange(half) * -decay), persistent=False)

    def forward(self, steps: Tensor) -> Tensor:
        angles = steps[:, None] * self.frequencies
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


class _Kernel(torch.autograd.Function):
    """A weight (C, C', K) as a kernel (C, C', 1, K).

    The kernel's gradient comes with channels last and leaves with the weight's own strides, also those of dimensions
    of size 1: fused AdamW pairs numbers by where they lie. On CUDA it refuses other strides, on a CPU it does not look.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        ctx.shape = weight.shape
        return weight.unsqueeze(2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        _, channels, length = ctx.shape
        return gradient.contiguous().as_strided(ctx.shape, (channels * length, length, 1))


def _kernel(weight: Tensor) -> Tensor:
    kernel: Tensor = _Kernel.apply(weight)  # type: ignore[no-untyped-call]
    return kernel


class Conv(nn.Conv1d):
    """A Conv1d, by name and weights, of (B, C_in, 1, T)."""

    def forward(self, x: Tensor) -> Tensor:
        stride, padding = (1, self.stride[0]), (0, int(self.padding[0]))
        return functional.conv2d(x, _kernel(self.weight), self.bias, stride, padding)


class TransposedConv(nn.ConvTranspose1d):
    """A ConvTranspose1d, by name and weights, of (B, C_in, 1, T)."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        stride, padding = (1, self.stride[0]), (0, int(self.padding[0]))
        return functional.conv_transpose2d(x, _kernel(self.weight), self.bias, stride, padding)


class ConvBlock(nn.Module):
    """Convolution, GroupNorm, Mish; (B, C_in, 1, T) -> (B, C_out, 1, T)."""

    def __init__(self, dim_in: int, dim_out: int, kernel_size: int, n_groups: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Conv(dim_in, dim_out, kernel_size, padding=kernel_size // 2),
            nn.GroupNorm(n_groups, dim_out),
            nn.Mish(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class FilmResidualBlock(nn.Module):
    """Two ConvBlocks with a shortcut; the condition scales and shifts each channel between them.

    FiLM: https://arxiv.org/abs/1709.07871. `cond_encoder` holds the weights that make scale and shift from the
    condition; `films` applies those of all blocks at once.
    """

    def __init__(self, dim_in: int, dim_out: int, cond_dim: int, kernel_size: int, n_groups: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [ConvBlock(dim_in, dim_out, kernel_size, n_groups), ConvBlock(dim_out, dim_out, kernel_size, n_groups)]
        )
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(cond_dim, 2 * dim_out))
        self.residual_conv = Conv(dim_in, dim_out, 1) if dim_in != dim_out else nn.Identity()

    def forward(self, x: Tensor, film: Film) -> Tensor:
        scale, shift = film
        out: Tensor = scale * self.blocks[0](x) + shift
        out = self.blocks[1](out) + self.residual_conv(x)
        return out


class _Joined(torch.autograd.Function):
    """`parts` one below the other; their gradients are views of the whole's, by one call (cat makes one for each)."""

    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.sizes = [len(part) for part in parts]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(gradient.split_with_sizes(ctx.sizes))


def films(blocks: Sequence[FilmResidualBlock], cond: Tensor) -> list[Film]:
    """Each block's scale and shift from the condition (B, cond_dim), in the order of `blocks`.

    Every `cond_encoder` is Mish, then Linear, of the same condition: one Mish and one matrix product do for all. The
    weights stay each block's own (checkpoints name them so) and are joined here anew, which costs one copy of them.
    """
    encoders = [cast(nn.Linear, block.cond_encoder[1]) for block in blocks]
    weight = _Joined.apply(*[encoder.weight for encoder in encoders])  # type: ignore[no-untyped-call]
    bias = _Joined.apply(*[encoder.bias for encoder in encoders])  # type: ignore[no-untyped-call]
    joined = functional.linear(functional.mish(cond), weight, bias).view(cond.shape[0], -1, 1, 1)
    halves = joined.split_with_sizes([encoder.out_features // 2 for encoder in encoders for _ in range(2)], dim=1)
    return list(zip(halves[::2], halves[1::2], strict=True))


class Downsample(nn.Module):
    """(B, C, 1, T) -> (B, C, 1, T/2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = Conv(dim, dim, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class Upsample(nn.Module):
    """(B, C, 1, T) -> (B, C, 1, 2T)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = TransposedConv(dim, dim, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class ConditionalUnet1D(nn.Module):
    """Predicts the noise in an action sequence.

    Args:
        act_dim: actions' size.
        cond_dim: size of the condition beside the diffusion step (obs_horizon * obs_dim).
        unet_dims: channels of each level, top down; each divisible by `n_groups`.
        diffusion_step_embed_dim: size of the diffusion step's embedding; even.
        kernel_size: of the convolutions in the blocks; odd.
        n_groups: groups of GroupNorm.
    """

    def __init__(
        self,
        act_dim: int,
        cond_dim: int,
        unet_dims: Sequence[int] = (64, 128, 256),
        diffusion_step_embed_dim: int = 64,
        kernel_size: int = 5,
        n_groups: int = 8,
    ) -> None:
        super().__init__()
        embed = diffusion_step_embed_dim

        def block(dim_in: int, dim_out: int) -> FilmResidualBlock:
            return FilmResidualBlock(dim_in, dim_out, embed + cond_dim, kernel_size, n_groups)

        # Built in upstream's order, so that one seed gives both the same weights.
        self.diffusion_step_encoder = nn.Sequential(
            SinusoidalEmbedding(embed), nn.Linear(embed, embed * 4), nn.Mish(), nn.Linear(embed * 4, embed)
        )
        top, bottom = unet_dims[0], unet_dims[-1]
        self.mid_modules = nn.ModuleList([block(bottom, bottom), block(bottom, bottom)])
        levels = list(zip((act_dim, *unet_dims[:-1]), unet_dims, strict=True))
        self.down_modules = nn.ModuleList()
        for number, (dim_in, dim_out) in enumerate(levels, start=1):
            level = [block(dim_in, dim_out), block(dim_out, dim_out)]
            halve = Downsample(dim_out) if number < len(levels) else nn.Identity()
            self.down_modules.append(nn.ModuleList([*level, halve]))
        self.up_modules = nn.ModuleList()
        for dim_in, dim_out in reversed(levels[1:]):  # the other way: dim_out + shortcut -> dim_in
            self.up_modules.append(nn.ModuleList([block(dim_out * 2, dim_in), block(dim_in, dim_in), Upsample(dim_in)]))
        groups = OUTPUT_GROUPS if top % OUTPUT_GROUPS == 0 else n_groups
        self.final_conv = nn.Sequential(ConvBlock(top, top, kernel_size, groups), Conv(top, act_dim, 1))
        # In the order of `forward`. A plain list: as a module it would give every weight a second name.
        levels_in_order = [*self.down_modules, self.mid_modules, *self.up_modules]
        self.blocks_in_order = [m for level in levels_in_order for m in level if isinstance(m, FilmResidualBlock)]

    def forward(self, sample: Tensor, steps: Tensor, cond: Tensor) -> Tensor:
        """Noise in `sample`.

        Args:
            sample: (B, pred_horizon, act_dim).
            steps: (B,) diffusion steps, integers.
            cond: (B, cond_dim).

        Returns:
            (B, pred_horizon, act_dim).
        """
        feature = torch.cat((self.diffusion_step_encoder(steps), cond), dim=-1)
        film = iter(films(self.blocks_in_order, feature))
        x = sample.transpose(1, 2).unsqueeze(2)  # (B, C, 1, T)
        shortcuts = []
        for level in self.down_modules:
            first, second, halve = level.children()
            x = second(first(x, next(film)), next(film))
            shortcuts.append(x)
            x = halve(x)
        for module in self.mid_modules:
            x = module(x, next(film))
        for level in self.up_modules:
            first, second, double = level.children()
            x = torch.cat((x, shortcuts.pop()), dim=1)
            x = double(second(first(x, next(film)), next(film)))
        noise: Tensor = self.final_conv(x).squeeze(2).transpose(1, 2)
        return noise
