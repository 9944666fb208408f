"""All that changes while a residual policy learns, and how it is saved and restored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .algos.acting import Acting, Choice
from .algos.capture import capture, put_back
from .algos.sac import SacSettings, SacUpdate
from .data.replay_buffer import ReplayBuffer, Transitions
from .host_copy import host_copy
from .models.diffusion_policy import DiffusionPolicy
from .models.residual import OBS_LIMIT, ResidualActor, TwinCritics
from .protocol.config import DecoratorConfig
from .protocol.errors import PidecError, RunFailed

# A resumed run may change these; any other difference would make it another run. (The base is compared by content.)
FREE_TO_CHANGE = {
    "base_policy_ckpt",
    "total_timesteps",
    "buffer_size",
    "log_freq",
    "eval_freq",
    "save_freq",
    "save_buffer",
    "num_eval_episodes",
    "num_eval_envs",
    "env_backend",
    "num_workers",
    "overlap",
    "device",
    "engine",
    "track",
    "wandb_project_name",
    "wandb_entity",
    "exp_name",
}


class DecoratorLearner:
    """Actor, critics, replay buffer, entropy coefficient, counters and generators of one run.

    Args:
        config: of the run.
        base: the base policy, on `device`, frozen, with the run's `act_horizon`, fitting the task's observations.
        base_payload: what of it goes into checkpoints (see `checkpoint.base_payload`).
        action_scale: (act_dim,) half the range of each action.
        device: where everything lives.

    Attributes:
        step: decision steps collected.
        updates: gradient updates done.
        owed: updates of the round before that are still to be done.
        episodes: (num_envs,) episodes begun in each simulator.

    Raises:
        PidecError: the replay buffer does not fit into memory.
    """

    def __init__(
        self,
        config: DecoratorConfig,
        base: DiffusionPolicy,
        base_payload: dict[str, Any],
        action_scale: NDArray[Any],
        device: torch.device,
        *,
        cuda: Any = torch.cuda,
    ) -> None:
        self.config, self.base, self.device = config, base, device
        self._base_payload, self._cuda = base_payload, cuda
        self._obs_norm = base.env_obs_norm.to(device)
        self.step = self.updates = self.owed = 0
        self.episodes = np.zeros(config.num_envs, np.int64)
        torch.manual_seed(config.seed)
        chunk = config.act_horizon * base.act_dim
        scale = torch.from_numpy(np.tile(action_scale, config.act_horizon)).float()
        seen = base.obs_dim + (chunk if config.actor_input == "obs_base_action" else 0)
        self.actor = ResidualActor(seen, scale, config.hidden_dims, config.log_std_min).to(device)
        action_dim = 2 * chunk if config.critic_input == "concat" else chunk
        critics = TwinCritics(base.obs_dim, action_dim, config.hidden_dims).to(device)
        self.replay = ReplayBuffer(config.replay_capacity, base.obs_dim, chunk, device)
        act_seed, update_seed = np.random.SeedSequence(config.seed).generate_state(2).tolist()
        self.generators = {
            "acting": torch.Generator(device).manual_seed(act_seed),
            "updates": torch.Generator(device).manual_seed(update_seed),
        }
        fast_cpu = device.type == "cpu" and config.engine != "eager"
        self.sac = SacUpdate(
            self.actor, critics, self.replay, _settings(config), self.generators["updates"], sorted_rows=fast_cpu
        )
        self.graph = device.type == "cuda" and config.engine != "eager"
        self.acting = Acting(
            base,
            self.actor,
            num_envs=config.num_envs,
            res_scale=config.res_scale,
            actor_input=config.actor_input,
            ddim_steps=config.ddim_steps,
            generator=self.generators["acting"],
            graph=self.graph,
            trace=fast_cpu,
            cuda=cuda,
        )
        self._graphs: dict[tuple[bool, bool], Any] = {}
        # Of both inputs, the critics' and the actor's, without the base's actions nobody asks for the next ones.
        self.needs_next_base = config.critic_input != "res" or config.actor_input != "obs"

    @property
    def learns(self) -> bool:
        """Whether there is enough to learn from."""
        return self.replay.added >= min(self.config.learning_starts, self.replay.capacity)

    def prepare(self) -> list[str]:
        """Capture what is wanted. After `restore`, before the first step. Returns what did not work, for the user."""
        self.acting.prepare()
        notes = list(self.acting.notes)
        if self.graph:
            self.replay.size.fill_(max(1, len(self.replay)))  # so that a warm-up draws rows that exist
            why = put_back(self._capture, self.sac.tensors(), [self.generators["updates"]])
            self.replay.size.fill_(len(self.replay))
            if why:
                notes.append(f"updates cannot be captured into CUDA graphs, going on slowly without them: {why}")
                self._graphs = {}
        return notes

    def see(self, obs: Tensor) -> Tensor:
        """Observations (N, obs_dim) as actor and critics take them."""
        return self._obs_norm.within(obs, OBS_LIMIT) if self.config.norm_obs else obs

    def choose(self, obs: Tensor, base_actions: Tensor) -> Choice:
        """Actions of the next decision step for what `see` gives; see `Acting.choose`. Counts it."""
        self.step += self.config.num_envs
        ratio = min(self.step / self.config.prog_explore, 1.0)
        return self.acting.choose(obs, base_actions, ratio, explore=self.updates == 0)

    def remember(self, transitions: Transitions) -> None:
        """Put a step of all simulators into the replay buffer."""
        self.replay.add(transitions)

    def update(self, count: int) -> None:
        """So many gradient updates; on CUDA they are only asked for."""
        for _ in range(count):
            self.updates += 1
            parts = (
                self.updates % self.config.policy_frequency == 0,
                self.updates % self.config.target_network_frequency == 0,
            )
            if self._graphs:
                self._graphs[parts].replay()
            else:
                self.sac(with_actor=parts[0], with_targets=parts[1])

    def _capture(self) -> None:
        def work(with_actor: bool, with_targets: bool) -> Callable[[], None]:
            return lambda: self.sac(with_actor=with_actor, with_targets=with_targets)

        works = {parts: work(*parts) for parts in ((True, True), (True, False), (False, True), (False, False))}
        self._graphs = capture(works, [self.generators["updates"]], warm_up=self.sac, cuda=self._cuda)

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def snapshot(self) -> Callable[[], tuple[dict[str, Any], dict[str, Any]]]:
        """The state as it is now, for a checkpoint.

        Returns:
            A function for any thread, that waits for the device and gives payload and info (see
            `CheckpointFolder.save`). It raises RunFailed if a weight is not a number.
        """
        step, fetch, info = self.step, host_copy(self.payload()), self.info()

        def give() -> tuple[dict[str, Any], dict[str, Any]]:
            payload: dict[str, Any] = fetch()
            weights = [tensor for name in ("res_actor", "qf1", "qf2") for tensor in payload[name].values()]
            if not all(bool(torch.isfinite(weight).all()) for weight in weights):
                raise RunFailed(f"the weights are not finite at decision step {step}")
            return payload, info

        return give

    def payload(self) -> dict[str, Any]:
        """Contents of a checkpoint. Its tensors go on changing: see `snapshot`."""
        return {
            "kind": "decorator",
            "step": self.step,
            "updates": self.updates,
            "owed": self.owed,
            "config": {**self.config.model_dump(mode="json"), "control_mode": self._base_payload["control_mode"]},
            "obs_dim": self.base.obs_dim,
            "act_dim": self.base.act_dim,
            "base": self._base_payload,
            **self.sac.state(),
            "episodes": self.episodes.tolist(),
            "replay": {"added": self.replay.added, "capacity": self.replay.capacity},
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            "device": self.device.type,
            "threads": torch.get_num_threads(),
        }

    def info(self) -> dict[str, Any]:
        """Fields of the checkpoint's .json."""
        return {
            "kind": "decorator",
            "env_id": self.config.env_id,
            "control_mode": self._base_payload["control_mode"],
            "obs_dim": self.base.obs_dim,
            "act_dim": self.base.act_dim,
            "action_norm": self.base.action_norm.kind,
            "obs_norm": self.base.obs_norm.kind,
            "config": self.config.model_dump(mode="json"),
        }

    def restore(self, payload: dict[str, Any]) -> list[str]:
        """Go on where a checkpoint stops, but for the replay buffer. Returns what a user should know about it.

        Raises:
            PidecError: it belongs to a run with another config or base (the fields are named), or is no checkpoint to
                resume from.
        """
        self._check_continues(payload)
        self.sac.restore(payload)
        self.step, self.updates, self.owed = payload["step"], payload["updates"], payload.get("owed", 0)
        self.episodes = np.array(payload["episodes"], np.int64)
        if payload["device"] == self.device.type:
            for name, generator in self.generators.items():
                generator.set_state(payload["generators"][name])
            return []
        for number, generator in enumerate(self.generators.values()):
            generator.manual_seed(self.config.seed + self.step + number)
        return [
            f"the checkpoint was trained on {payload['device']}, this run is on {self.device.type}: "
            "it goes on with fresh random numbers"
        ]

    def _check_continues(self, payload: dict[str, Any]) -> None:
        missing = {"config", "optimizers", "generators", "step", "base"} - payload.keys()
        if missing or payload.get("kind") != "decorator":
            lacks = f"no {', '.join(sorted(missing))}" if missing else f"it is of kind {payload.get('kind')}"
            raise PidecError(f"the checkpoint holds no training state of this trainer to resume ({lacks})")
        ours = self.config.model_dump(mode="json")
        theirs = {**DecoratorConfig(base_policy_ckpt="-").model_dump(mode="json"), **payload["config"]}
        ours["control_mode"] = self._base_payload["control_mode"]  # whether asked for or the base's own
        changed = [name for name in ours if name not in FREE_TO_CHANGE and ours[name] != theirs[name]]
        if changed:
            told = ", ".join(f"{name} is {ours[name]} but was {theirs[name]}" for name in changed)
            raise PidecError(
                f"cannot resume with another config: {told}", "Use the old values, or begin afresh without --resume."
            )
        if payload["base"].get("sha256") != self._base_payload["sha256"]:
            raise PidecError(
                f"cannot resume: {self.config.base_policy_ckpt} is not the base policy that the run began with",
                "Use that one, or begin afresh without --resume.",
            )


def _settings(config: DecoratorConfig) -> SacSettings:
    return SacSettings(
        batch_size=config.batch_size,
        gamma=config.gamma,
        tau=config.tau,
        policy_lr=config.policy_lr,
        q_lr=config.q_lr,
        autotune=config.autotune,
        sac_alpha=config.sac_alpha_init if config.autotune else config.sac_alpha,
        max_grad_norm=config.max_grad_norm,
        res_scale=config.res_scale,
        critic_input=config.critic_input,
        actor_input=config.actor_input,
        bound_values=config.bound_values,
    )
