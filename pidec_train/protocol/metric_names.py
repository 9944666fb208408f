"""Each metric's name, unit and meaning, once. Trainers log these names (those of the machine are measured by the
runner); charts and tables read them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricInfo:
    """What a chart needs to know about a metric.

    Attributes:
        name: as it stands in metrics.jsonl.
        unit: shown on the axis; "" where the number has none.
        meaning: one sentence.
        better: "up", "down" or "" where neither end is better.
        log_scale: whether a logarithmic axis shows it better.
    """

    name: str
    unit: str
    meaning: str
    better: str = ""
    log_scale: bool = False


TRAIN_LOSS = "train/loss"
TRAIN_LR = "train/lr"
TRAIN_SKIPPED = "train/skipped_updates"
TRAIN_QF_LOSS = "train/qf_loss"
TRAIN_ACTOR_LOSS = "train/actor_loss"
TRAIN_SAC_ALPHA = "train/sac_alpha"
TRAIN_Q_VALUE = "train/q_value"
TRAIN_SUCCESS_RATE = "train/success_rate"
TRAIN_EPISODE_LENGTH = "train/episode_length"
TRAIN_RESIDUAL_FRACTION = "train/residual_fraction"
ITERS_PER_MIN = "throughput/iters_per_min"
ENV_STEPS_PER_MIN = "throughput/env_steps_per_min"
EVAL = "eval/"  # the names of an evaluation begin so; its row may come after rows of later steps
EVAL_SUCCESS_RATE = "eval/success_rate"
EVAL_BASE_SUCCESS_RATE = "eval/base_success_rate"
EVAL_SUCCESS_AT_END = "eval/success_at_end"
EVAL_RETURN = "eval/return"
EVAL_EPISODE_LENGTH = "eval/episode_length"
TIME_DATA_RATIO = "time/data_ratio"
TIME_EVAL_WAIT_RATIO = "time/eval_wait_ratio"
TIME_SAVE_WAIT_RATIO = "time/save_wait_ratio"
TIME_ENV_WAIT_RATIO = "time/env_wait_ratio"
TIME_UPDATE_RATIO = "time/update_ratio"
SIMULATOR_MEMORY = "memory/simulators_gib"
MACHINE = "machine/"  # the names of what the runner measures begin so

_ALL = (
    MetricInfo(TRAIN_LOSS, "", "mean squared error of the predicted noise, mean since the last log", "down", True),
    MetricInfo(TRAIN_LR, "", "learning rate of the optimizer", log_scale=True),
    MetricInfo(TRAIN_SKIPPED, "", "updates left out because a gradient was not finite, since the start", "down"),
    MetricInfo(TRAIN_QF_LOSS, "", "mean squared TD error of the two critics", "down", True),
    MetricInfo(TRAIN_ACTOR_LOSS, "", "SAC's actor loss of the residual policy"),
    MetricInfo(TRAIN_SAC_ALPHA, "", "SAC's entropy coefficient", log_scale=True),
    MetricInfo(TRAIN_Q_VALUE, "", "mean Q value of the sampled actions"),
    MetricInfo(TRAIN_SUCCESS_RATE, "", "success rate of the last finished training episodes", "up"),
    MetricInfo(TRAIN_EPISODE_LENGTH, "env steps", "mean length of the last finished training episodes", "down"),
    MetricInfo(TRAIN_RESIDUAL_FRACTION, "", "share of envs in which the residual was switched on"),
    MetricInfo(
        ITERS_PER_MIN,
        "1/min",
        "iterations (decorator: decision steps) per minute over the last window, evaluation time left out",
        "up",
    ),
    MetricInfo(ENV_STEPS_PER_MIN, "1/min", "simulator steps per minute over all envs", "up"),
    MetricInfo(EVAL_SUCCESS_RATE, "", "share of episodes with success at any time", "up"),
    MetricInfo(EVAL_BASE_SUCCESS_RATE, "", "the same of the base policy alone, on the same starts", "up"),
    MetricInfo(EVAL_SUCCESS_AT_END, "", "share of episodes whose last step is a success", "up"),
    MetricInfo(EVAL_RETURN, "", "mean undiscounted return of an episode", "up"),
    MetricInfo(EVAL_EPISODE_LENGTH, "env steps", "mean length of an episode", "down"),
    MetricInfo("demos/attempted", "", "seeds that the motion planner has tried so far"),
    MetricInfo("demos/success_rate", "", "share of the tried seeds that gave a demonstration", "up"),
    MetricInfo(TIME_DATA_RATIO, "", "share of the time spent fetching batches", "down"),
    MetricInfo(TIME_EVAL_WAIT_RATIO, "", "share of the time spent waiting for evaluations", "down"),
    MetricInfo(TIME_SAVE_WAIT_RATIO, "", "share of the time spent waiting for checkpoints to be written", "down"),
    MetricInfo(TIME_ENV_WAIT_RATIO, "", "share of the time spent waiting for simulators that collect", "down"),
    MetricInfo(TIME_UPDATE_RATIO, "", "share of the time spent on gradient updates"),
    MetricInfo(SIMULATOR_MEMORY, "GiB", "memory of the processes that hold the simulators that collect"),
    MetricInfo(
        MACHINE + "gpu_utilization", "%", "share of the time in which the job's GPU ran a kernel, however small"
    ),
    MetricInfo(MACHINE + "gpu_power", "W", "power that the GPU draws"),
    MetricInfo(MACHINE + "gpu_clock", "MHz", "clock of the GPU's multiprocessors"),
    MetricInfo(MACHINE + "gpu_memory", "GiB", "memory of the GPU that is in use, by whomever"),
    MetricInfo(MACHINE + "cpu", "%", "load of all cores of the host, by whomever"),
    MetricInfo(MACHINE + "host_memory", "GiB", "memory of the host that is in use"),
    MetricInfo(MACHINE + "gpu_temperature", "°C", "temperature of the GPU"),
)

METRICS: dict[str, MetricInfo] = {info.name: info for info in _ALL}


def info(name: str) -> MetricInfo:
    """The entry for `name`; a plain one for a name that somebody else invented."""
    return METRICS.get(name) or MetricInfo(name, "", "logged by the job; not one of pidec's own metrics")
