"""The config of a `decorator` job. Flags and defaults: upstream `online/pi_dec_diffusion_maniskill2.py`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .job_config import Device, JobConfig, PadObsTo, PathKind, extra


class DecoratorConfig(JobConfig):
    """Policy Decorator: a residual policy learned by SAC on top of a frozen base policy (ICLR 2025).

    One step is a decision step: a chunk of `act_horizon` actions executed in one simulator, upstream's `global_step`.
    """

    env_id: str = Field("PegInsertionSide-v1", description="task", json_schema_extra=extra(first=True))
    base_policy_ckpt: str = Field(
        min_length=1,
        description="checkpoint of the base policy (.pt)",
        json_schema_extra=extra(first=True, path=PathKind.checkpoint),
    )
    total_timesteps: int = Field(
        4_000_000, ge=1, description="decision steps (executed action chunks)", json_schema_extra=extra(first=True)
    )
    res_scale: float = Field(
        0.1, gt=0, le=10, description="size of the residual: the paper's alpha", json_schema_extra=extra(first=True)
    )
    prog_explore: int = Field(
        100_000,
        ge=1,
        description="decision steps until the residual is always on: the paper's H",
        json_schema_extra=extra(first=True),
    )
    num_envs: int = Field(16, ge=1, le=10_000, description="simulators that collect")
    seed: int = Field(1, ge=0, description="seed of weights, noise and starts", json_schema_extra=extra(first=True))

    utd: float = Field(0.25, gt=0, le=1000, description="gradient updates per decision step")
    training_freq: int = Field(64, ge=1, description="decision steps collected before updates follow")
    learning_starts: int = Field(8000, ge=1, description="decision steps before the first update")
    batch_size: int = Field(1024, ge=1, le=1_000_000, description="transitions per update")
    buffer_size: int | None = Field(None, ge=1, description="transitions kept for replay; empty: total_timesteps")
    policy_lr: float = Field(1e-4, gt=0, description="learning rate of the residual policy")
    q_lr: float = Field(1e-4, gt=0, description="learning rate of the critics and of sac_alpha")
    gamma: float = Field(0.97, ge=0, le=1, description="discount per decision step")
    tau: float = Field(0.01, gt=0, le=1, description="share of the critics that the target networks take over")
    policy_frequency: int = Field(1, ge=1, description="critic updates per update of the residual policy")
    target_network_frequency: int = Field(1, ge=1, description="critic updates per update of the target networks")
    autotune: bool = Field(True, description="learn sac_alpha, the entropy coefficient")
    sac_alpha: float = Field(0.2, gt=0, description="entropy coefficient without autotune")
    sac_alpha_init: float = Field(1.0, gt=0, description="entropy coefficient that autotune starts from")
    max_grad_norm: float = Field(50, gt=0, description="largest norm of a network's gradient")
    bootstrap_at_done: Literal["always", "never", "truncated"] = Field(
        "truncated", description="whose end has a value: every episode's, none's, or that of those cut off by time"
    )
    bound_values: bool = Field(
        False, description="the critics learn no value that rewards do not allow: from -1 / (1 - gamma) to 0"
    )
    critic_input: Literal["res", "sum", "concat"] = Field(
        "sum", description="action that the critics see: residual, base + scaled residual, or both side by side"
    )
    actor_input: Literal["obs", "obs_base_action"] = Field("obs", description="what the residual policy sees")
    norm_obs: bool = Field(False, description="actor and critics see observations normalised as the base policy does")
    hidden_dims: tuple[int, ...] = Field(
        (256, 256, 256), min_length=1, max_length=32, description="hidden layers of actor and critics"
    )
    log_std_min: float = Field(-20, lt=2, description="least logarithm of the residual's standard deviation")

    act_horizon: int = Field(4, ge=1, le=1000, description="actions executed per decision")
    ddim_steps: int = Field(4, ge=1, description="denoising steps of the base policy (DDIM)")
    control_mode: str | None = Field(None, description="controller; empty: the base policy's")
    max_episode_steps: int | None = Field(None, ge=1, description="episode length in env steps; empty: the task's own")
    pad_obs_to: PadObsTo = Field("auto", description="for bases from ManiSkill2: auto, off, or the policy's size")

    log_freq: int = Field(20_000, ge=1, description="decision steps between two rows of metrics")
    eval_freq: int = Field(
        50_000, ge=0, description="decision steps between evaluations (one more at the end); 0: never"
    )
    save_freq: int = Field(1_000_000, ge=0, description="decision steps between checkpoints; 0: only the last")
    save_buffer: bool = Field(False, description="keep the replay buffer on disk too, so that a resumed run has it")
    num_eval_episodes: int = Field(50, ge=1, description="episodes of one evaluation")
    num_eval_envs: int = Field(5, ge=1, description="simulators that evaluate at the same time")

    env_backend: Literal["auto", "fast", "stock"] = Field(
        "auto",
        description="simulators that collect; auto: fast ones where the task has them (the last evaluation: stock)",
    )
    num_workers: int | None = Field(None, ge=1, description="processes that hold the simulators; empty: one per core")
    overlap: bool = Field(
        False, description="update while the simulators step: as many updates, spread over the collecting"
    )
    reuse_base_action: bool = Field(
        False, description="execute the base action that the next observation got for the replay buffer"
    )
    device: Device = Field("auto", description="where networks and replay buffer live; auto: cuda if there is one")
    precision: Literal["tf32", "fp32"] = Field(
        "tf32", description="matrix products on a GPU; a CPU computes fp32 for tf32"
    )
    engine: Literal["auto", "eager", "graph"] = Field(
        "auto",
        description="how updates and sampling run: eagerly, or on a GPU as CUDA graphs (on a CPU auto traces the base)",
    )
    track: bool = Field(False, description="also log to Weights & Biases")
    wandb_project_name: str = Field("policy_decorator", description="W&B project")
    wandb_entity: str | None = Field(None, description="W&B team")
    exp_name: str = Field("", description="name of the run, for W&B and default folders")

    @model_validator(mode="after")
    def _fits_together(self) -> DecoratorConfig:
        if self.training_freq % self.num_envs:
            near = max(1, self.training_freq // self.num_envs) * self.num_envs
            raise ValueError(
                f"training_freq {self.training_freq} must be divisible by num_envs {self.num_envs}: all of them step "
                f"before updates follow; {near} would be"
            )
        updates = self.training_freq * self.utd
        if updates < 1 or abs(updates - round(updates)) > 1e-9:
            raise ValueError(
                f"training_freq {self.training_freq} times utd {self.utd:g} is {updates:g}: "
                "it must be a whole number of updates, at least 1"
            )
        odd = [dim for dim in self.hidden_dims if not 1 <= dim <= 65_536]
        if odd:
            raise ValueError(f"hidden_dims {odd} must be 1 to 65,536")
        if self.replay_capacity < min(self.learning_starts, self.total_timesteps):
            raise ValueError(
                f"buffer_size {self.replay_capacity} must not be less than learning_starts {self.learning_starts}: "
                "it would never be full enough to begin"
            )
        return self

    def hints(self) -> dict[str, str]:
        """Values that cost: nothing learned, no checkpoint, an entropy that drowns the residual."""
        found: dict[str, str] = {}
        if self.learning_starts >= self.total_timesteps:
            found["learning_starts"] = "the run is over before the first update: it learns nothing"
        updates = self.total_timesteps * self.utd * self.q_lr
        if self.autotune and self.sac_alpha_init >= 0.5 and updates < 3:
            found["sac_alpha_init"] = (
                "autotune lowers its logarithm by about q_lr per update: this run is too short to come down from "
                f"{self.sac_alpha_init:g}, and until then the residual is noise; 0.02 suits short runs"
            )
        if self.total_timesteps >= 50_000 and not self.save_freq and not self.eval_freq:
            found["save_freq"] = "nothing is saved before the end: an interruption starts the run afresh"
        if self.eval_freq and self.num_eval_episodes < 20:
            found["num_eval_episodes"] = f"{self.num_eval_episodes} episodes tell little: the 95 % interval is wide"
        return found

    @property
    def replay_capacity(self) -> int:
        """Transitions in the replay buffer."""
        return min(self.buffer_size or self.total_timesteps, self.total_timesteps)

    @property
    def updates_per_round(self) -> int:
        """Gradient updates after each `training_freq` decision steps."""
        return round(self.training_freq * self.utd)

    @property
    def last_step(self) -> int:
        """Where the run ends: `total_timesteps`, rounded up to whole rounds of `training_freq`."""
        return -(-self.total_timesteps // self.training_freq) * self.training_freq

    def total_steps(self) -> int | None:
        return self.last_step
