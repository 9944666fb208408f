"""One config model per job kind. Field names are upstream's flag names with underscores.

A config says what a run computes; where it writes (`--run-dir`, `--checkpoint-dir`) and whether it resumes is
said beside it, by whoever starts the trainer. Checks that span fields stand beside the fields.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from .decorator_config import DecoratorConfig as DecoratorConfig
from .errors import PidecError, did_you_mean
from .job_config import BUNDLED as BUNDLED
from .job_config import ActionNorm, Device, Engine, ObsNorm, PadObsTo, Precision, Sampler, extra
from .job_config import JobConfig as JobConfig
from .job_config import PathKind as PathKind


class DiffusionConfig(JobConfig):
    """Diffusion Policy from demonstrations. Defaults: upstream `offline/diffusion_policy_unet_maniskill2.py`."""

    env_id: str = Field(
        "PegInsertionSide-v1", description="task that demos and evaluation share", json_schema_extra=extra(first=True)
    )
    demo_path: str = Field(
        "demos/PegInsertionSide-v1.h5",
        description="demonstrations (.h5 with its .json beside it)",
        json_schema_extra=extra(first=True, path=PathKind.demo),
    )
    num_demo_traj: int | None = Field(None, ge=1, description="use only the first N demos; empty: all")
    total_iters: int = Field(1_000_000, ge=1, description="optimizer steps", json_schema_extra=extra(first=True))
    batch_size: int = Field(
        1024, ge=1, le=1_000_000, description="windows per iteration", json_schema_extra=extra(first=True)
    )
    lr: float = Field(1e-4, gt=0, description="peak learning rate of AdamW", json_schema_extra=extra(first=True))
    seed: int = Field(1, ge=0, description="seed of weights, batches and noise", json_schema_extra=extra(first=True))

    obs_horizon: int = Field(2, ge=1, le=1000, description="observations seen")
    act_horizon: int = Field(4, ge=1, le=1000, description="actions executed per decision")
    pred_horizon: int = Field(16, ge=1, le=1000, description="actions predicted")
    diffusion_step_embed_dim: int = Field(64, ge=4, description="size of the diffusion step embedding")
    unet_dims: tuple[int, ...] = Field((64, 128, 256), min_length=1, description="channels of the UNet, top down")
    n_groups: int = Field(8, ge=1, le=1000, description="groups of GroupNorm; must divide every UNet dimension")
    num_diffusion_iters: int = Field(100, ge=1, le=10_000, description="diffusion steps of the noise schedule")
    warmup_steps: int = Field(500, ge=0, description="iterations of linear learning-rate warm-up")

    control_mode: str = Field("pd_ee_delta_pose", description="controller that the demos' actions speak to")
    action_norm: ActionNorm = Field("none", description="normalise actions by the demos' statistics")
    obs_norm: ObsNorm = Field("none", description="normalise observations by the demos' statistics")

    log_freq: int = Field(1000, ge=1, description="iterations between two rows of metrics")
    eval_freq: int = Field(10_000, ge=0, description="iterations between evaluations (one more at the end); 0: never")
    save_freq: int = Field(100_000, ge=0, description="iterations between two checkpoints; 0: only the last")
    num_eval_episodes: int = Field(100, ge=1, description="episodes of one evaluation")
    num_eval_envs: int = Field(10, ge=1, description="simulators that evaluate at the same time")
    max_episode_steps: int | None = Field(None, ge=1, description="episode length in env steps; empty: the task's own")

    device: Device = Field("auto", description="where to train; auto: cuda if there is one")
    precision: Precision = Field("tf32", description="matrix products on a GPU; a CPU computes fp32 for tf32")
    engine: Engine = Field(
        "auto", description="how steps run: eager, as CUDA graphs, compiled too; auto: the fastest that suits the run"
    )
    extend_to: int | None = Field(None, ge=1, description="with --resume: go on to this iteration, past total_iters")
    track: bool = Field(False, description="also log to Weights & Biases")
    wandb_project_name: str = Field("policy_decorator", description="W&B project")
    wandb_entity: str | None = Field(None, description="W&B team")
    exp_name: str = Field("", description="name of the run, for W&B and default folders")

    @model_validator(mode="after")
    def _fits_together(self) -> DiffusionConfig:
        if self.obs_horizon + self.act_horizon - 1 > self.pred_horizon:
            raise ValueError(
                f"obs_horizon {self.obs_horizon} + act_horizon {self.act_horizon} - 1 must not exceed "
                f"pred_horizon {self.pred_horizon}: the executed actions start at the last observation seen"
            )
        halvings = 2 ** (len(self.unet_dims) - 1)
        if self.pred_horizon % halvings:
            raise ValueError(
                f"pred_horizon {self.pred_horizon} must be divisible by {halvings}: a UNet of "
                f"{len(self.unet_dims)} levels halves it {len(self.unet_dims) - 1} times"
            )
        odd = [dim for dim in self.unet_dims if dim < 1 or dim % self.n_groups]
        if odd:
            raise ValueError(f"unet_dims {odd} must be positive and divisible by n_groups {self.n_groups}")
        if self.diffusion_step_embed_dim % 2:
            raise ValueError(f"diffusion_step_embed_dim {self.diffusion_step_embed_dim} must be even")
        if self.extend_to is not None and self.extend_to <= self.total_iters:
            raise ValueError(f"extend_to {self.extend_to} must be more than total_iters {self.total_iters}")
        return self

    def hints(self) -> dict[str, str]:
        """Values that cost: evaluations that are many, or checkpoints that are none."""
        found: dict[str, str] = {}
        evals = self.total_iters // self.eval_freq if self.eval_freq else 0
        if evals > 20:
            rounder = 10 ** math.ceil(math.log10(self.total_iters / 10))
            found["eval_freq"] = (
                f"{evals:,} evaluations of {self.num_eval_episodes} episodes, minutes each: they share the machine, "
                f"and most are skipped; {min(rounder, self.total_iters):,} would do"
            )
        if self.total_iters >= 50_000 and not self.save_freq:
            found["save_freq"] = "nothing is saved before the end: an interruption starts the run afresh"
        if self.eval_freq and self.num_eval_episodes < 20:
            found["num_eval_episodes"] = f"{self.num_eval_episodes} episodes tell little: the 95 % interval is wide"
        return found

    @property
    def last_iteration(self) -> int:
        """Where the run ends."""
        return self.extend_to or self.total_iters

    def total_steps(self) -> int | None:
        return self.last_iteration


class EvaluateConfig(JobConfig):
    """Success rate of a checkpoint in the simulator."""

    ckpt: str = Field(
        min_length=1, description="checkpoint (.pt)", json_schema_extra=extra(first=True, path=PathKind.checkpoint)
    )
    num_eval_episodes: int = Field(100, ge=1, description="episodes", json_schema_extra=extra(first=True))
    num_eval_envs: int = Field(10, ge=1, description="simulators at once", json_schema_extra=extra(first=True))
    sampler: Sampler | None = Field(
        None,
        description="denoising sampler; empty: ddpm for a base policy, what it was trained with for a decorated one",
        json_schema_extra=extra(first=True),
    )
    num_steps: int | None = Field(
        None, ge=1, description="denoising steps; empty: as the sampler", json_schema_extra=extra(first=True)
    )
    seed: int = Field(1, ge=0, description="episode i starts from it + 1000 + i", json_schema_extra=extra(first=True))
    env_id: str | None = Field(None, description="task; empty: the one the checkpoint was trained on")
    control_mode: str | None = Field(None, description="controller; empty: the checkpoint's")
    max_episode_steps: int | None = Field(None, ge=1, description="episode length in env steps; empty: the task's own")
    pad_obs_to: PadObsTo = Field(
        "auto", description="insert what ManiSkill2 observed besides, for its policies: auto, off, or the policy's size"
    )
    weights: Literal["ema_agent", "agent"] = Field(
        "ema_agent", description="averaged or raw weights of the base policy"
    )
    compare: bool = Field(False, description="a decorator's checkpoint: also its base policy alone, on the same starts")
    device: Device = Field("auto", description="where the policy runs")

    def total_steps(self) -> int:
        return self.num_eval_episodes * (2 if self.compare else 1)


class AdaptConfig(JobConfig):
    """A ManiSkill2 checkpoint made into one for ManiSkill3, with the same outputs."""

    ckpt: str = Field(
        min_length=1, description="checkpoint (.pt)", json_schema_extra=extra(first=True, path=PathKind.checkpoint)
    )
    out: str = Field(
        min_length=1,
        description="file to write (.pt; a .json goes beside it)",
        json_schema_extra=extra(first=True, path=PathKind.output),
    )
    method: Literal["fold", "pad"] = Field(
        "fold",
        description="fold: constant inputs into the biases; pad: weights as they are, inserting them on use",
        json_schema_extra=extra(first=True),
    )
    env_id: str | None = Field(None, description="task; empty: the one the checkpoint was trained on")

    @model_validator(mode="after")
    def _writes_another_file(self) -> AdaptConfig:
        if not self.out.endswith(".pt"):
            raise ValueError(f'out "{self.out}" must end in .pt')
        return self

    def total_steps(self) -> int | None:
        return 1


class DemosConfig(JobConfig):
    """Demonstrations from ManiSkill's own motion planner, replayed to another control mode."""

    env_id: str = Field("PegInsertionSide-v1", description="task", json_schema_extra=extra(first=True))
    num_demos: int = Field(100, ge=1, description="successful demos wanted", json_schema_extra=extra(first=True))
    out: str = Field(
        "demos/PegInsertionSide-v1.h5",
        description="file to write (.h5; a .json goes beside it)",
        json_schema_extra=extra(first=True, path=PathKind.output),
    )
    num_procs: int = Field(1, ge=1, description="planner processes", json_schema_extra=extra(first=True))
    seed: int = Field(
        0, ge=0, description="first seed; one episode each from there on", json_schema_extra=extra(first=True)
    )
    control_mode: str = Field(
        "pd_ee_delta_pose", description="controller to replay to", json_schema_extra=extra(first=True)
    )

    def total_steps(self) -> int | None:
        return self.num_demos


class CommandConfig(JobConfig):
    """Any shell command, run as in the shell that added it."""

    command: str = Field(min_length=1, description="shell command", json_schema_extra=extra(first=True))


CONFIG_MODELS: dict[str, type[JobConfig]] = {
    "diffusion": DiffusionConfig,
    "decorator": DecoratorConfig,
    "evaluate": EvaluateConfig,
    "adapt": AdaptConfig,
    "demos": DemosConfig,
    "command": CommandConfig,
}


def parse_config(kind: str, values: Mapping[str, Any]) -> JobConfig:
    """Validate `values` as a config of `kind`.

    Raises:
        PidecError: for a kind or key that does not exist (with the nearest right name) or a value out of range.
    """
    model = CONFIG_MODELS.get(kind)
    if model is None:
        raise PidecError(f'unknown job kind "{kind}": {did_you_mean(kind, CONFIG_MODELS)}')
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise PidecError(_first_error(kind, model, error)) from None


def field_errors(kind: str, values: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong, by field name ("" for a check that spans fields). Empty if all is well. For forms."""
    model = CONFIG_MODELS[kind]
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        found: dict[str, str] = {}
        for item in error.errors():
            name = str(item["loc"][0]) if item["loc"] else ""
            found.setdefault(name, _plain(item["msg"]))
        return found
    return {}


def _plain(message: str) -> str:
    """Pydantic's sentence without its prefix, starting in lower case."""
    text = message.removeprefix("Value error, ")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _first_error(kind: str, model: type[JobConfig], error: ValidationError) -> str:
    item = error.errors()[0]
    name = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f'{kind} has no setting "{name}": {did_you_mean(name, model.model_fields)}'
    if item["type"] == "missing":
        return f'{kind} needs "{name}": {model.model_fields[name].description}'
    if not name:
        return f"{kind}: {_plain(item['msg'])}"
    return f"{kind}: {name} = {item['input']!r}: {_plain(item['msg'])}"


def command_line(kind: str, config: JobConfig) -> list[str]:
    """The arguments of `pidec-train` that give this config: the subcommand, then every value that is no default.

    For a `command` job: the words after which a shell runs it.
    """
    if isinstance(config, CommandConfig):
        return ["sh", "-c", config.command]
    words = [kind]
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if value == field.default:
            continue
        if name == "ckpt":
            words.append(str(value))
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else "--no-" + flag[2:])
        elif isinstance(value, (tuple, list)):
            words += [flag, *(str(item) for item in value)]
        else:
            words += [flag, str(value)]
    return words


def shell_line(kind: str, config: JobConfig) -> str:
    """`command_line` as one would type it."""
    if isinstance(config, CommandConfig):
        return config.command
    return "pidec-train " + shlex.join(command_line(kind, config))
