"""The residual policy's networks: the actor that corrects a base policy's action chunks, and the twin critics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

LOG_STD_MAX = 2.0
OBS_LIMIT = 10.0  # of normalised observations, in standard deviations of the demos


class ResidualActor(nn.Module):
    """A squashed Gaussian over residual action chunks.

    Parameter names, initial weights and arithmetic are those of upstream's `Actor`
    (`online/pi_dec_diffusion_maniskill2.py`). One difference: upstream shifts the residual by the middle of the action
    range; here a residual is around 0 whatever the range (with ManiSkill's normalised controllers both are the same).

    Args:
        input_dim: size of what it sees.
        action_scale: (chunk_dim,) half the range of each action, in the environment's units.
        hidden_dims: sizes of the hidden layers.
        log_std_min: least log of the standard deviation before squashing; the largest is 2.
    """

    action_scale: Tensor

    def __init__(
        self,
        input_dim: int,
        action_scale: Tensor,
        hidden_dims: Sequence[int] = (256, 256, 256),
        log_std_min: float = -20.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for dim_in, dim_out in zip((input_dim, *hidden_dims[:-1]), hidden_dims, strict=True):
            layers += [nn.Linear(dim_in, dim_out), nn.ReLU()]
        self.backbone = nn.Sequential(*layers)
        self.fc_mean = _last_layer(hidden_dims[-1], len(action_scale))
        self.fc_logstd = _last_layer(hidden_dims[-1], len(action_scale))
        self.log_std_min = log_std_min
        self.register_buffer("action_scale", action_scale.clone().float())

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before squashing, each (B, chunk_dim), for `seen` (B, input_dim).

        The log is itself squashed into [log_std_min, 2] (Spinning Up; Denis Yarats' pytorch_sac).
        """
        heads = (self.fc_mean, self.fc_logstd)  # side by side: one product for both
        weight, bias = torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads])
        mean, raw = functional.linear(self.backbone(seen), weight, bias).chunk(2, dim=1)
        return mean, self.log_std_min + 0.5 * (LOG_STD_MAX - self.log_std_min) * (torch.tanh(raw) + 1)

    def sample(self, seen: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A residual and its log-probability.

        Args:
            seen: (B, input_dim).
            noise: (B, chunk_dim), standard normal.

        Returns:
            residual (B, chunk_dim) within ±action_scale, log-probability (B,): SAC (1812.05905), appendix C, with
            upstream's 1e-6 against log 0.
        """
        mean, log_std = self(seen)
        squashed = torch.tanh(mean + log_std.exp() * noise)
        log_prob = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        log_prob = log_prob - torch.log(self.action_scale * (1 - squashed.square()) + 1e-6)
        return squashed * self.action_scale, log_prob.sum(dim=1)

    def best(self, seen: Tensor) -> Tensor:
        """The residual at the mode, (B, chunk_dim): what an evaluation executes."""
        return torch.tanh(self(seen)[0]) * self.action_scale


class TwinCritics(nn.Module):
    """Two Q networks side by side: each layer is one batched product for both.

    Args:
        obs_dim, action_dim: sizes of what they see.
        hidden_dims: sizes of the hidden layers.
    """

    def __init__(self, obs_dim: int, action_dim: int, hidden_dims: Sequence[int] = (256, 256, 256)) -> None:
        super().__init__()
        sizes = (obs_dim + action_dim, *hidden_dims, 1)
        # Built one after the other, so that one seed gives the weights that two networks would have.
        pair = [[*map(_linear, sizes[:-2], sizes[1:-1]), _last_layer(sizes[-2], 1)] for _ in range(2)]
        layers = list(zip(*pair, strict=True))
        self.weights = nn.ParameterList(
            nn.Parameter(torch.stack([layer.weight.detach().t() for layer in both])) for both in layers
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.stack([layer.bias.detach() for layer in both]).unsqueeze(1)) for both in layers
        )

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """(B, obs_dim), (B, action_dim) -> (2, B)."""
        return self.layers(obs, action)[1]

    def layers(self, obs: Tensor, action: Tensor) -> tuple[list[Tensor], Tensor]:
        """What each hidden layer gives, (2, B, width), and the values (2, B)."""
        x = torch.cat((obs, action), dim=1).expand(2, -1, -1)
        *inner, (weight, bias) = zip(self.weights, self.biases, strict=True)
        hidden = []
        for inner_weight, inner_bias in inner:
            x = functional.relu(torch.baddbmm(inner_bias, x, inner_weight))
            hidden.append(x)
        # A product with one column: as a matrix product it takes four times as long.
        values: Tensor = (x * weight.transpose(1, 2)).sum(dim=2) + bias.squeeze(2)
        return hidden, values

    def split(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The weights as two networks with upstream's names (`net.0.weight`, …), for a checkpoint. Views."""
        first, second = (
            {
                name: tensor
                for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True))
                for name, tensor in (
                    (f"net.{2 * number}.weight", weight.detach()[which].t()),
                    (f"net.{2 * number}.bias", bias.detach()[which, 0]),
                )
            }
            for which in range(2)
        )
        return first, second

    @torch.no_grad()
    def join(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
        """Reverse of `split`, in place."""
        for which, state in enumerate((first, second)):
            for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                weight[which].copy_(state[f"net.{2 * number}.weight"].t())
                bias[which, 0].copy_(state[f"net.{2 * number}.bias"])


def _linear(dim_in: int, dim_out: int) -> nn.Linear:
    return nn.Linear(dim_in, dim_out)


def _last_layer(dim_in: int, dim_out: int) -> nn.Linear:
    """Small orthogonal weights: a residual (or value) of almost 0 to begin with."""
    layer = nn.Linear(dim_in, dim_out)
    nn.init.orthogonal_(layer.weight, 0.01)
    nn.init.zeros_(layer.bias)
    return layer
