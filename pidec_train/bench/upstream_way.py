"""The upstream way of training, with its own costs: what every figure of the bench is a ratio to.

Re-implemented after policy_decorator's offline/diffusion_policy_unet_maniskill2.py and the parts of diffusers that it
calls. All demos lie on the device, as there; yet each sample of a batch is sliced and padded by itself, then stacked.
The optimizer, its schedule and the averaging are built with the arguments that upstream gives them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler

from ..algos.schedule import ema_decay, warmup_cosine
from ..data.trajectories import Demos
from ..models.diffusion_policy import cosine_alphas_cumprod
from .upstream_net import UpstreamUnet

DIFFUSION_STEPS = 100
Sample = dict[str, Tensor]


class SlicedDemos(Dataset[Sample]):
    """Windows cut out of the demos when they are asked for, one by one."""

    def __init__(self, demos: Demos, device: torch.device, obs_horizon: int, pred_horizon: int) -> None:
        self._observations = [torch.as_tensor(obs, device=device) for obs in demos.observations]
        self._actions = [torch.as_tensor(actions, device=device) for actions in demos.actions]
        self._still_arm = torch.zeros((demos.act_dim - 1,), device=device)
        self._obs_horizon = obs_horizon
        before, after = obs_horizon - 1, pred_horizon - obs_horizon
        self._slices = [
            (number, start, start + pred_horizon)
            for number, actions in enumerate(self._actions)
            for start in range(-before, len(actions) - pred_horizon + after)
        ]

    def __len__(self) -> int:
        return len(self._slices)

    def __getitem__(self, index: int) -> Sample:
        number, start, end = self._slices[index]
        length = self._actions[number].shape[0]
        obs_seq = self._observations[number][max(0, start) : start + self._obs_horizon]
        act_seq = self._actions[number][max(0, start) : end]
        if start < 0:
            obs_seq = torch.cat([obs_seq[0].repeat(-start, 1), obs_seq], dim=0)
            act_seq = torch.cat([act_seq[0].repeat(-start, 1), act_seq], dim=0)
        if end > length:
            gripper = act_seq[-1, -1]
            still = torch.cat((self._still_arm, gripper[None]), dim=0)
            act_seq = torch.cat([act_seq, still.repeat(end - length, 1)], dim=0)
        return {"observations": obs_seq, "actions": act_seq}


class ForEver(Sampler[list[int]]):
    """A batch sampler again and again: a new permutation each time."""

    def __init__(self, batch_sampler: BatchSampler) -> None:
        self._batch_sampler = batch_sampler

    def __iter__(self) -> Iterator[list[int]]:
        while True:
            yield from self._batch_sampler


class ParameterEma:
    """diffusers' EMAModel without foreach: three calls for each parameter."""

    def __init__(self, weights: list[nn.Parameter]) -> None:
        self.averaged = [weight.clone().detach() for weight in weights]
        self._updates = 0

    @torch.no_grad()
    def step(self, weights: list[nn.Parameter]) -> None:
        self._updates += 1
        share = 1 - ema_decay(self._updates)
        for mean, weight in zip(self.averaged, weights, strict=True):
            mean.sub_(share * (mean - weight))


class UpstreamWay:
    """Upstream's training loop, cut into the parts that its own profiler tells apart.

    Args:
        demos: what to learn from, in raw units.
        batch_size: at most the number of windows (upstream would wait for ever).
    """

    def __init__(
        self,
        demos: Demos,
        *,
        device: torch.device,
        batch_size: int,
        obs_horizon: int = 2,
        pred_horizon: int = 16,
        lr: float = 1e-4,
        total_iters: int = 1_000_000,
    ) -> None:
        self._device, self._pred_horizon = device, pred_horizon
        self.dataset = SlicedDemos(demos, device, obs_horizon, pred_horizon)
        order = RandomSampler(self.dataset, replacement=False)
        batch_sampler = ForEver(BatchSampler(order, batch_size=batch_size, drop_last=True))
        self._batches = iter(DataLoader(self.dataset, batch_sampler=batch_sampler, num_workers=0))
        self.net = UpstreamUnet(demos.act_dim, obs_horizon * demos.obs_dim).to(device)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=lr, betas=(0.95, 0.999), weight_decay=1e-6)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda done: warmup_cosine(done, 500, total_iters)
        )
        self.ema = ParameterEma(list(self.net.parameters()))
        self._alphas_cumprod = cosine_alphas_cumprod(DIFFUSION_STEPS).to(device)

    def fetch(self) -> Sample:
        """The next batch: observations (B, obs_horizon, obs_dim) and actions (B, pred_horizon, act_dim)."""
        batch: Sample = next(self._batches)
        return batch

    def forward(self, batch: Sample) -> Tensor:
        """Loss of the predicted noise, a scalar."""
        actions = batch["actions"]
        cond = batch["observations"].flatten(start_dim=1)
        noise = torch.randn((actions.shape[0], self._pred_horizon, actions.shape[2]), device=self._device)
        steps = torch.randint(0, DIFFUSION_STEPS, (actions.shape[0],), device=self._device).long()
        noisy = self.add_noise(actions, noise, steps)
        return functional.mse_loss(self.net(noisy, steps, cond), noise)

    def add_noise(self, actions: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        """As diffusers' DDPMScheduler does it."""
        keep = (self._alphas_cumprod[steps] ** 0.5).flatten()
        blur = ((1 - self._alphas_cumprod[steps]) ** 0.5).flatten()
        while keep.dim() < actions.dim():
            keep, blur = keep.unsqueeze(-1), blur.unsqueeze(-1)
        return keep * actions + blur * noise

    def backward(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]

    def optimize(self) -> None:
        self.optimizer.step()
        self._schedule.step()

    def average(self) -> None:
        self.ema.step(list(self.net.parameters()))

    def __call__(self) -> Tensor:
        """One iteration. Returns its loss."""
        loss = self.forward(self.fetch())
        self.backward(loss)
        self.optimize()
        self.average()
        return loss.detach()
