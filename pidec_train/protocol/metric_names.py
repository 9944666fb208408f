"""Each metric's name, unit and meaning, once. Trainers log these names; charts and tables read them."""

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
ITERS_PER_MIN = "throughput/iters_per_min"
ENV_STEPS_PER_MIN = "throughput/env_steps_per_min"
EVAL = "eval/"  # the names of an evaluation begin so; its row may come after rows of later steps
EVAL_SUCCESS_RATE = "eval/success_rate"
EVAL_SUCCESS_AT_END = "eval/success_at_end"
EVAL_RETURN = "eval/return"
EVAL_EPISODE_LENGTH = "eval/episode_length"
TIME_DATA_RATIO = "time/data_ratio"
TIME_EVAL_WAIT_RATIO = "time/eval_wait_ratio"
TIME_SAVE_WAIT_RATIO = "time/save_wait_ratio"

_ALL = (
    MetricInfo(TRAIN_LOSS, "", "mean squared error of the predicted noise, mean since the last log", "down", True),
    MetricInfo(TRAIN_LR, "", "learning rate of the optimizer", log_scale=True),
    MetricInfo(TRAIN_SKIPPED, "", "updates left out because a gradient was not finite, since the start", "down"),
    MetricInfo("train/qf_loss", "", "mean squared TD error of the two critics", "down", True),
    MetricInfo("train/actor_loss", "", "SAC's actor loss of the residual policy"),
    MetricInfo("train/sac_alpha", "", "SAC's entropy coefficient", log_scale=True),
    MetricInfo("train/q_value", "", "mean Q value of the sampled actions"),
    MetricInfo("train/success_rate", "", "success rate of the last finished training episodes", "up"),
    MetricInfo("train/residual_fraction", "", "share of envs in which the residual was switched on"),
    MetricInfo(ITERS_PER_MIN, "1/min", "iterations per minute over the last window, evaluation time left out", "up"),
    MetricInfo(ENV_STEPS_PER_MIN, "1/min", "simulator steps per minute over all envs", "up"),
    MetricInfo(EVAL_SUCCESS_RATE, "", "share of episodes with success at any time", "up"),
    MetricInfo(EVAL_SUCCESS_AT_END, "", "share of episodes whose last step is a success", "up"),
    MetricInfo(EVAL_RETURN, "", "mean undiscounted return of an episode", "up"),
    MetricInfo(EVAL_EPISODE_LENGTH, "env steps", "mean length of an episode", "down"),
    MetricInfo("demos/attempted", "", "seeds that the motion planner has tried so far"),
    MetricInfo("demos/success_rate", "", "share of the tried seeds that gave a demonstration", "up"),
    MetricInfo(TIME_DATA_RATIO, "", "share of the time spent fetching batches", "down"),
    MetricInfo(TIME_EVAL_WAIT_RATIO, "", "share of the time spent waiting for evaluations", "down"),
    MetricInfo(TIME_SAVE_WAIT_RATIO, "", "share of the time spent waiting for checkpoints to be written", "down"),
)

METRICS: dict[str, MetricInfo] = {info.name: info for info in _ALL}


def info(name: str) -> MetricInfo:
    """The entry for `name`; a plain one for a name that somebody else invented."""
    return METRICS.get(name) or MetricInfo(name, "", "logged by the job; not one of pidec's own metrics")
