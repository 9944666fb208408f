"""The noise predictor as upstream computes it: the same operations in the same order, for the comparison alone.

The trainer's own net (`models.unet1d`) has the same weights under the same names and may compute them in any way that
is faster; this one must not. Structure: policy_decorator's nets/diffusion_policy/conditional_unet1d_colab.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

UNET_DIMS, EMBED_DIM, KERNEL, GROUPS = (64, 128, 256), 64, 5, 8  # upstream's defaults


class SinusoidalEmbedding(nn.Module):
    """(B,) -> (B, EMBED_DIM)."""

    def forward(self, steps: Tensor) -> Tensor:
        half = EMBED_DIM // 2
        angles = torch.exp(torch.arange(half, device=steps.device) * -(math.log(10_000) / (half - 1)))
        angles = steps[:, None] * angles[None, :]
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


class ConvBlock(nn.Module):
    """Conv1d, GroupNorm, Mish."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        conv = nn.Conv1d(dim_in, dim_out, KERNEL, padding=KERNEL // 2)
        self.block = nn.Sequential(conv, nn.GroupNorm(GROUPS, dim_out), nn.Mish())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class FilmBlock(nn.Module):
    """Two ConvBlocks, a scale and a shift from the condition between them, a shortcut around them."""

    def __init__(self, dim_in: int, dim_out: int, cond_dim: int) -> None:
        super().__init__()
        self.dim_out = dim_out
        self.blocks = nn.ModuleList([ConvBlock(dim_in, dim_out), ConvBlock(dim_out, dim_out)])
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(cond_dim, 2 * dim_out), nn.Unflatten(-1, (-1, 1)))
        self.residual_conv = nn.Conv1d(dim_in, dim_out, 1) if dim_in != dim_out else nn.Identity()

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        out = self.blocks[0](x)
        embed = self.cond_encoder(cond)
        embed = embed.reshape(embed.shape[0], 2, self.dim_out, 1)
        out = embed[:, 0, ...] * out + embed[:, 1, ...]
        out = self.blocks[1](out)
        total: Tensor = out + self.residual_conv(x)
        return total


class Resample(nn.Module):
    """One convolution that halves or doubles the length."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class UpstreamUnet(nn.Module):
    """(B, T, act_dim), (B,), (B, cond_dim) -> (B, T, act_dim)."""

    def __init__(self, act_dim: int, cond_dim: int, unet_dims: Sequence[int] = UNET_DIMS) -> None:
        super().__init__()
        cond = EMBED_DIM + cond_dim
        top, bottom = unet_dims[0], unet_dims[-1]
        dims = list(zip((act_dim, *unet_dims[:-1]), unet_dims, strict=True))
        self.diffusion_step_encoder = nn.Sequential(
            SinusoidalEmbedding(), nn.Linear(EMBED_DIM, 4 * EMBED_DIM), nn.Mish(), nn.Linear(4 * EMBED_DIM, EMBED_DIM)
        )
        self.mid_modules = nn.ModuleList([FilmBlock(bottom, bottom, cond) for _ in range(2)])
        self.down_modules, self.up_modules = nn.ModuleList(), nn.ModuleList()
        for below, (dim_in, dim_out) in enumerate(dims, start=1 - len(dims)):
            halve = Resample(nn.Conv1d(dim_out, dim_out, 3, 2, 1)) if below else nn.Identity()
            self.down_modules.append(
                nn.ModuleList([FilmBlock(dim_in, dim_out, cond), FilmBlock(dim_out, dim_out, cond), halve])
            )
        for dim_in, dim_out in reversed(dims[1:]):
            double = Resample(nn.ConvTranspose1d(dim_in, dim_in, 4, 2, 1))
            self.up_modules.append(
                nn.ModuleList([FilmBlock(2 * dim_out, dim_in, cond), FilmBlock(dim_in, dim_in, cond), double])
            )
        self.final_conv = nn.Sequential(ConvBlock(top, top), nn.Conv1d(top, act_dim, 1))

    def forward(self, sample: Tensor, steps: Tensor, cond: Tensor) -> Tensor:
        x = sample.moveaxis(-1, -2)  # (B, C, T)
        steps = steps.expand(x.shape[0])
        feature = torch.cat([self.diffusion_step_encoder(steps), cond], dim=-1)
        shortcuts = []
        for level in self.down_modules:
            first, second, halve = level.children()
            x = second(first(x, feature), feature)
            shortcuts.append(x)
            x = halve(x)
        for module in self.mid_modules:
            x = module(x, feature)
        for level in self.up_modules:
            first, second, double = level.children()
            x = torch.cat((x, shortcuts.pop()), dim=1)
            x = double(second(first(x, feature), feature))
        noise: Tensor = self.final_conv(x).moveaxis(-1, -2)
        return noise
