"""The upstream way of learning a residual policy, with its own costs: what `decorator_throughput.py` is a ratio to.

Re-implemented after policy_decorator's online/pi_dec_diffusion_maniskill2.py and the parts of stable-baselines3 that it
calls, for `critic_input` "sum", `actor_input` "obs" and `bootstrap_at_done` "truncated", its defaults. One process and
one torch thread per simulator, which gymnasium's AsyncVectorEnv steps; the base policy asked twice per step, by
diffusers' own scheduler; a replay buffer of numpy arrays; two Q networks; autograd and Adam as torch has them by
default. Three things cost less here than there: the workers' garbage collector leaves alone what was there at the
start (ManiSkill3 collects at every rebuild of a scene, ManiSkill2, which upstream runs on, did not), no infos
travel but those of an episode's end, and nothing is logged.
"""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv
from torch import Tensor, nn
from torch.nn import functional

from pidec_train.bench.upstream_net import UpstreamUnet
from pidec_train.protocol.config import DecoratorConfig

from ._parts import BASE, SIMULATORS, UPDATES, Parts

LOG_STD_MAX = 2.0


class QuietInfos(gym.Wrapper):
    """Tells success at the end of an episode and nothing before."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(**kwargs)[0], {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        over = terminated or truncated
        return observation, reward, terminated, truncated, {"success": info["success"]} if over else {}


def make_stock(env_id: str, control_mode: str, obs_horizon: int) -> gym.Env[Any, Any]:
    """In a worker: ManiSkill's own simulator, one torch thread, the collector frozen."""
    from pidec_train.envs.make import make_env

    env = QuietInfos(make_env(env_id, control_mode=control_mode, obs_horizon=obs_horizon))
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    return env


def make_simulators(env_id: str, control_mode: str, obs_horizon: int, count: int) -> VectorEnv:
    """`count` of them, each in a process of its own."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # as upstream does, and inherited by the workers
    try:
        make = functools.partial(make_stock, env_id, control_mode, obs_horizon)
        return AsyncVectorEnv([make] * count, context="forkserver", autoreset_mode=AutoresetMode.SAME_STEP)
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


class UpstreamBase(nn.Module):
    """The frozen base policy, sampled eagerly by diffusers' DDIM.

    Args:
        obs_dim, act_dim: of the task.
        unet_dims: channels of each level.
        act_horizon, ddim_steps: as in `DecoratorConfig`.
    """

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        unet_dims: Sequence[int],
        *,
        act_horizon: int,
        ddim_steps: int,
        obs_horizon: int = 2,
        pred_horizon: int = 16,
    ) -> None:
        super().__init__()
        self._act_dim, self._pred_horizon = act_dim, pred_horizon
        self._executed = slice(obs_horizon - 1, obs_horizon - 1 + act_horizon)
        self.noise_pred_net = UpstreamUnet(act_dim, obs_horizon * obs_dim, unet_dims)
        self._scheduler = DDIMScheduler(
            num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", clip_sample=True, prediction_type="epsilon"
        )
        self._scheduler.set_timesteps(num_inference_steps=ddim_steps)

    @torch.no_grad()
    def get_action(self, obs_seq: Tensor, noise: Tensor | None = None) -> Tensor:
        """(B, obs_horizon, obs_dim) -> (B, act_horizon, act_dim). `noise`: (B, pred_horizon, act_dim); None: drawn."""
        cond = obs_seq.flatten(start_dim=1)
        shape = (len(obs_seq), self._pred_horizon, self._act_dim)
        sample = torch.randn(shape, device=obs_seq.device) if noise is None else noise
        for step in self._scheduler.timesteps:
            predicted = self.noise_pred_net(sample, step[None].to(sample.device), cond)
            sample = self._scheduler.step(model_output=predicted, timestep=step, sample=sample).prev_sample
        return sample[:, self._executed]


def _hidden(dim_in: int, hidden_dims: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for size in hidden_dims:
        layers += [nn.Linear(dim_in, size), nn.ReLU()]
        dim_in = size
    return layers


def _last(dim_in: int, dim_out: int) -> nn.Linear:
    layer = nn.Linear(dim_in, dim_out)
    nn.init.orthogonal_(layer.weight, 0.01)
    nn.init.constant_(layer.bias, 0.0)
    return layer


class UpstreamCritic(nn.Module):
    """One Q network: (B, obs_dim), (B, chunk_dim) -> (B, 1)."""

    def __init__(self, obs_dim: int, chunk_dim: int, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.net = nn.Sequential(*_hidden(obs_dim + chunk_dim, hidden_dims), _last(hidden_dims[-1], 1))

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        value: Tensor = self.net(torch.cat([obs, action], 1))
        return value


class UpstreamActor(nn.Module):
    """The squashed Gaussian over chunks, drawn by torch.distributions. Actions are within ±1."""

    def __init__(self, obs_dim: int, chunk_dim: int, hidden_dims: Sequence[int], log_std_min: float) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*_hidden(obs_dim, hidden_dims))
        self.fc_mean, self.fc_logstd = _last(hidden_dims[-1], chunk_dim), _last(hidden_dims[-1], chunk_dim)
        self.register_buffer("action_scale", torch.ones(chunk_dim))
        self.register_buffer("action_bias", torch.zeros(chunk_dim))
        self._log_std_min = log_std_min

    action_scale: Tensor
    action_bias: Tensor

    def get_action(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A residual (B, chunk_dim), its log-probability (B, 1), and the residual at the mode (B, chunk_dim)."""
        feature = self.backbone(obs)
        mean, log_std = self.fc_mean(feature), torch.tanh(self.fc_logstd(feature))
        log_std = self._log_std_min + 0.5 * (LOG_STD_MAX - self._log_std_min) * (log_std + 1)
        normal = torch.distributions.Normal(mean, log_std.exp())
        drawn = normal.rsample()
        squashed = torch.tanh(drawn)
        log_prob = normal.log_prob(drawn)
        log_prob = log_prob - torch.log(self.action_scale * (1 - squashed.pow(2)) + 1e-6)
        mode = torch.tanh(mean) * self.action_scale + self.action_bias
        return squashed * self.action_scale + self.action_bias, log_prob.sum(1, keepdim=True), mode


@dataclass(frozen=True)
class Batch:
    """As stable-baselines3 gives it: `actions` holds residual, base and next base actions side by side."""

    observations: Tensor
    actions: Tensor
    next_observations: Tensor
    dones: Tensor
    rewards: Tensor


class NumpyReplay:
    """stable-baselines3's ReplayBuffer: an array for each thing, a row for each step of all simulators.

    Args:
        capacity: transitions.
        obs_dim, saved_dim: sizes of an observation and of what is saved as action.
        num_envs: simulators.
    """

    def __init__(self, capacity: int, obs_dim: int, saved_dim: int, num_envs: int, device: torch.device) -> None:
        self._rows, self._num_envs, self._device = max(capacity // num_envs, 1), num_envs, device
        self.observations = np.zeros((self._rows, num_envs, obs_dim), np.float32)
        self.next_observations = np.zeros((self._rows, num_envs, obs_dim), np.float32)
        self.actions = np.zeros((self._rows, num_envs, saved_dim), np.float32)
        self.rewards = np.zeros((self._rows, num_envs), np.float32)
        self.dones = np.zeros((self._rows, num_envs), np.float32)
        self._next, self._full = 0, False

    def size(self) -> int:
        return self._rows if self._full else self._next

    def mark_filled(self, rows: int) -> None:
        """So many rows have been written from outside."""
        self._next, self._full = rows % self._rows, rows == self._rows

    def add(self, obs: Any, next_obs: Any, actions: Any, rewards: Any, dones: Any) -> None:
        self.observations[self._next] = np.array(obs)
        self.next_observations[self._next] = np.array(next_obs)
        self.actions[self._next] = np.array(actions)
        self.rewards[self._next] = np.array(rewards)
        self.dones[self._next] = np.array(dones)
        self._next += 1
        if self._next == self._rows:
            self._next, self._full = 0, True

    def sample(self, count: int) -> Batch:
        rows = np.random.randint(0, self.size(), size=count)
        envs = np.random.randint(0, self._num_envs, size=count)
        parts = (
            self.observations[rows, envs],
            self.actions[rows, envs],
            self.next_observations[rows, envs],
            self.dones[rows, envs].reshape(-1, 1),
            self.rewards[rows, envs].reshape(-1, 1),
        )
        return Batch(*(torch.tensor(part, device=self._device) for part in parts))


class UpstreamSac:
    """Networks, optimizers and the update.

    Args:
        config: of the run.
        obs_dim, chunk_dim: sizes of one observation and one action chunk.
        device: where they live.
    """

    def __init__(self, config: DecoratorConfig, obs_dim: int, chunk_dim: int, device: torch.device) -> None:
        self.config, self._chunk_dim = config, chunk_dim
        self.actor = UpstreamActor(obs_dim, chunk_dim, config.hidden_dims, config.log_std_min).to(device)
        self.qf1, self.qf2, self.qf1_target, self.qf2_target = (
            UpstreamCritic(obs_dim, chunk_dim, config.hidden_dims).to(device) for _ in range(4)
        )
        self.qf1_target.load_state_dict(self.qf1.state_dict())
        self.qf2_target.load_state_dict(self.qf2.state_dict())
        both = [*self.qf1.parameters(), *self.qf2.parameters()]
        self._q_optimizer = torch.optim.Adam(both, lr=config.q_lr)
        self._actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=config.policy_lr)
        self._target_entropy = -float(chunk_dim)
        start = float(np.log(config.sac_alpha_init))
        self.log_sac_alpha = torch.full((1,), start, requires_grad=True, device=device)
        self._sac_alpha = self.log_sac_alpha.exp().item()
        self._a_optimizer = torch.optim.Adam([self.log_sac_alpha], lr=config.q_lr)
        self.updates = 0

    def update(self, data: Batch) -> None:
        """One gradient update: critics, actor, entropy coefficient, targets."""
        self.updates += 1
        residual, base, next_base = (data.actions[:, i * self._chunk_dim :][:, : self._chunk_dim] for i in range(3))
        self._update_critics(data, residual, base, next_base)
        if self.updates % self.config.policy_frequency == 0:
            self._update_actor(data, base)
        if self.updates % self.config.target_network_frequency == 0:
            self._update_targets()

    def _update_critics(self, data: Batch, residual: Tensor, base: Tensor, next_base: Tensor) -> None:
        config = self.config
        with torch.no_grad():
            next_residual, next_log_pi, _ = self.actor.get_action(data.next_observations)
            next_action = next_base + config.res_scale * next_residual
            next_q1 = self.qf1_target(data.next_observations, next_action)
            next_q2 = self.qf2_target(data.next_observations, next_action)
            least = torch.min(next_q1, next_q2) - self._sac_alpha * next_log_pi
            wanted = data.rewards.flatten() + (1 - data.dones.flatten()) * config.gamma * least.view(-1)
        action = base + config.res_scale * residual
        q1_loss = functional.mse_loss(self.qf1(data.observations, action).view(-1), wanted)
        q2_loss = functional.mse_loss(self.qf2(data.observations, action).view(-1), wanted)
        self._q_optimizer.zero_grad()
        (q1_loss + q2_loss).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.qf1.parameters(), config.max_grad_norm)
        nn.utils.clip_grad_norm_(self.qf2.parameters(), config.max_grad_norm)
        self._q_optimizer.step()

    def _update_actor(self, data: Batch, base: Tensor) -> None:
        config = self.config
        drawn, log_pi, _ = self.actor.get_action(data.observations)
        action = base + config.res_scale * drawn
        least = torch.min(self.qf1(data.observations, action), self.qf2(data.observations, action))
        actor_loss = (self._sac_alpha * log_pi - least).mean()
        self._actor_optimizer.zero_grad()
        actor_loss.backward()
        nn.utils.clip_grad_norm_(self.actor.parameters(), config.max_grad_norm)
        self._actor_optimizer.step()
        if not config.autotune:
            return
        with torch.no_grad():
            _, log_pi, _ = self.actor.get_action(data.observations)
        alpha_loss = (-self.log_sac_alpha * (log_pi + self._target_entropy)).mean()
        self._a_optimizer.zero_grad()
        alpha_loss.backward()  # type: ignore[no-untyped-call]
        self._a_optimizer.step()
        self._sac_alpha = self.log_sac_alpha.exp().item()

    def _update_targets(self) -> None:
        tau = self.config.tau
        for net, target in ((self.qf1, self.qf1_target), (self.qf2, self.qf2_target)):
            for weight, averaged in zip(net.parameters(), target.parameters(), strict=True):
                averaged.data.copy_(tau * weight.data + (1 - tau) * averaged.data)


class UpstreamWay:
    """The loop: `training_freq` decision steps, then the updates that belong to them.

    Args:
        config: of the run.
        base: on `device`.
        envs: `config.num_envs` simulators with SAME_STEP autoreset that take chunks.
        device: of all networks.

    Attributes:
        steps: decision steps so far.
        parts: where the time goes.
    """

    name = "upstream's way"

    def __init__(self, config: DecoratorConfig, base: UpstreamBase, envs: VectorEnv, device: torch.device) -> None:
        assert (config.critic_input, config.actor_input, config.bootstrap_at_done) == ("sum", "obs", "truncated")
        self.config, self._base, self._envs, self._device = config, base, envs, device
        obs_dim, act_dim = envs.single_observation_space.shape[-1], envs.single_action_space.shape[-1]  # type: ignore[index]
        self._chunk = (config.act_horizon, act_dim)
        chunk_dim = config.act_horizon * act_dim
        torch.manual_seed(config.seed)
        self.sac = UpstreamSac(config, obs_dim, chunk_dim, device)
        self.replay = NumpyReplay(config.replay_capacity, obs_dim, 3 * chunk_dim, config.num_envs, device)
        self.steps = 0
        self.parts = Parts(device)
        self._obs_seq, _ = envs.reset(seed=config.seed)

    def enter(self) -> None:
        """Torch's settings as upstream has them."""
        torch.set_num_threads(1)
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True

    def round(self) -> None:
        """Collect, then update."""
        for _ in range(self.config.training_freq // self.config.num_envs):
            self._collect()
        if self.replay.size() * self.config.num_envs < self.config.learning_starts:
            return
        with self.parts.measure(UPDATES):
            for _ in range(self.config.updates_per_round):
                self.sac.update(self.replay.sample(self.config.batch_size))

    def _collect(self) -> None:
        config = self.config
        self.steps += config.num_envs
        obs_seq = torch.Tensor(self._obs_seq).to(self._device)
        with self.parts.measure(BASE):
            base = self._base.get_action(obs_seq).cpu().numpy()
        on = np.random.rand(config.num_envs) < min(self.steps / config.prog_explore, 1)
        residual_tensor, _, _ = self.sac.actor.get_action(obs_seq[:, -1])
        residual = residual_tensor.detach().cpu().numpy()
        residual[np.logical_not(on)] = 0.0
        chunks = base + config.res_scale * residual.reshape(-1, *self._chunk)
        with self.parts.measure(SIMULATORS):
            next_obs, rewards, terminated, truncated, infos = self._envs.step(chunks)
        after = next_obs.copy()
        for i in np.flatnonzero(truncated & ~terminated):
            after[i] = infos["final_obs"][i]
        with self.parts.measure(BASE):
            next_base = self._base.get_action(torch.Tensor(after).to(self._device)).cpu().numpy()
        saved = np.concatenate([part.reshape(config.num_envs, -1) for part in (residual, base, next_base)], axis=1)
        self.replay.add(self._obs_seq[:, -1], after[:, -1], saved, rewards - 1.0, terminated)
        self._obs_seq = next_obs

    def close(self) -> None:
        self._envs.close()
