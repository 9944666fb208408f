"""Whether the losses of a run are well: finite, and still falling."""

from __future__ import annotations

import torch

from .flat_loss import FlatLoss
from .logwindow import Row
from .protocol import metric_names as names


class LossHealth:
    """Takes the rows of a run one after the other.

    Args:
        total_iters: how long the run is.

    Attributes:
        verdict: why the run must not go on; "" while it may.
    """

    def __init__(self, total_iters: int) -> None:
        self._flat = FlatLoss(total_iters)
        self._last_was_bad = False  # the last loss of the row before
        self._skipped = 0
        self.verdict = ""

    def take(self, row: Row) -> tuple[dict[str, float], list[str]]:
        """One row. Returns all its metrics and what a user should be warned of.

        The loss of a row is the mean of the finite ones. One that is not finite is survived, since its update was left
        out; two in a row are not.
        """
        losses, warnings = row.losses().double(), []
        finite = torch.isfinite(losses)
        self._judge(row.iteration, finite)
        loss = float(losses[finite].mean()) if bool(finite.any()) else float("nan")
        metrics = {names.TRAIN_LOSS: loss, **row.metrics}
        skipped = row.skipped()
        if skipped:
            metrics[names.TRAIN_SKIPPED] = skipped
        if skipped and not self._skipped and not self.verdict:
            warnings.append(
                "an update was left out because a gradient was not finite; the weights are as before it. "
                f"{names.TRAIN_SKIPPED} counts them"
            )
        self._skipped = skipped
        if flat := self._flat.add(row.iteration, loss):
            warnings.append(flat)
        return metrics, warnings

    def _judge(self, iteration: int, finite: torch.Tensor) -> None:
        bad = torch.cat((torch.tensor([self._last_was_bad]), ~finite))
        twice = torch.nonzero(bad[1:] & bad[:-1])
        if len(twice):
            at = iteration - len(finite) + 1 + int(twice[0])
            self.verdict = f"the loss was not finite twice in a row, at iterations {at - 1:,} and {at:,}"
        self._last_was_bad = bool(bad[-1])
