"""Rows of metrics of a decorator run: what the updates and the simulators gave since the row before."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .decorator_learner import DecoratorLearner
from .logwindow import is_log_step
from .metrics import MetricWriter
from .protocol import metric_names as names
from .protocol.config import DecoratorConfig
from .rollouts import Rollouts

BEYOND = 1.5  # times the least value that rewards allow: what lies between may be the entropy's
GROWTH = 1 << 30  # bytes that the simulators may take beyond what they took at first, before a warning


class Rows:
    """Decides when a row is due and writes it.

    Args:
        config, learner, rollouts, writer: of the run.

    Attributes:
        time: where the time since the last row went.
    """

    def __init__(
        self, config: DecoratorConfig, learner: DecoratorLearner, rollouts: Rollouts, writer: MetricWriter
    ) -> None:
        self._config, self._learner, self._rollouts, self._writer = config, learner, rollouts, writer
        self.time = rollouts.time
        self._start = self._logged = learner.step
        self._first_memory = self._warned_memory = 0
        self._skipped, self._skipped_before = 0.0, False
        self._ran_away = False

    def restart(self) -> None:
        """The clock of the first row starts now."""
        self.time.restart()

    def log_if_due(self, at: int) -> str:
        """Write a row where `log_freq` is crossed, and early ones. Returns why the run must not go on; "" if it may."""
        freq, round_ = self._config.log_freq, self._config.training_freq
        early = at - self._start < freq and is_log_step((at - self._start) // round_, 0, max(1, freq // round_))
        if at // freq == self._logged // freq and not early and at != self._config.last_step:
            return ""
        metrics, verdict = self._metrics(at)
        self._writer.log(at, metrics)
        self._watch_memory(at, metrics)
        self._logged = at
        self.time.restart()
        return verdict

    def _metrics(self, at: int) -> tuple[dict[str, float], str]:
        env_steps, on = self._rollouts.read()
        metrics: dict[str, float] = {}
        updates, qf_loss, q_value, actor_updates, actor_loss, skipped = self._learner.sac.read_sums()
        if updates:
            metrics[names.TRAIN_QF_LOSS] = qf_loss / updates
            metrics[names.TRAIN_Q_VALUE] = q_value / updates
            self._watch_values(at, q_value / updates)
            metrics[names.TRAIN_SAC_ALPHA] = math.exp(float(self._learner.sac.log_alpha))
        if actor_updates:
            metrics[names.TRAIN_ACTOR_LOSS] = actor_loss / actor_updates
        if skipped and not self._skipped:
            message = (
                "an update was left out because a gradient was not finite; the weights are as before it. "
                f"{names.TRAIN_SKIPPED} counts them"
            )
            self._writer.event("warning", at, message=message)
        self._skipped += skipped
        if self._skipped:
            metrics[names.TRAIN_SKIPPED] = self._skipped
        if recent := self._rollouts.recent:
            metrics[names.TRAIN_SUCCESS_RATE] = sum(success for success, _ in recent) / len(recent)
            metrics[names.TRAIN_EPISODE_LENGTH] = sum(length for _, length in recent) / len(recent)
        metrics[names.TRAIN_RESIDUAL_FRACTION] = on
        metrics[names.ITERS_PER_MIN] = self.time.per_minute(at - self._logged)
        metrics[names.ENV_STEPS_PER_MIN] = self.time.per_minute(env_steps)
        metrics[names.SIMULATOR_MEMORY] = self._rollouts.env.memory() / 2**30
        metrics.update(self.time.shares())
        return metrics, self._judge(updates, skipped)

    def _judge(self, updates: float, skipped: float) -> str:
        """Two rows in which no update was finite: nothing is learned any more."""
        lost = bool(updates) and skipped >= updates
        verdict = (
            "no update was finite since the last row, nor in the row before" if lost and self._skipped_before else ""
        )
        self._skipped_before = lost
        return verdict

    def _watch_values(self, at: int, value: float) -> None:
        """Said once: success may hold for a while after the critics are lost, but no longer climbs."""
        lowest = self._learner.sac.settings.lowest_value
        if not self._ran_away and value < BEYOND * lowest:
            self._ran_away = True
            message = (
                f"the critics run away: they value what the policy does at {value:.3g}, and rewards allow no less than "
                f"{lowest:.3g}; try --bound-values, a smaller --q-lr or another --seed"
            )
            self._writer.event("warning", at, message=message)

    def _watch_memory(self, at: int, metrics: Mapping[str, float]) -> None:
        taken = int(metrics[names.SIMULATOR_MEMORY] * 2**30)
        self._first_memory = self._first_memory or taken
        grown = taken - self._first_memory
        if grown > GROWTH + self._warned_memory:
            self._warned_memory = grown
            message = (
                f"the simulators have grown from {self._first_memory / 2**30:.1f} to {taken / 2**30:.1f} GiB of "
                "memory; a stop and --resume starts them anew"
            )
            self._writer.event("warning", at, message=message)
