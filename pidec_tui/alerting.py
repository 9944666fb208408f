"""Alerts as the dashboard says them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .manager import alerts
from .manager.jobs import Alert, Job, JobEvent
from .words import Keys, keyed

SHOWN = 4  # toasts at once: after a night away there may be many
WORDS = {
    alerts.DONE: "done",
    alerts.FAILED: "failed",
    alerts.HELD: "held",
    alerts.STALLED: "stalled",
    alerts.NAN: "not a number",
    alerts.SLOW: "slower than usual",
    alerts.PLATEAU: "flat",
    alerts.DISK: "disk nearly full",
    alerts.COMMAND: "your command failed",
}
_ENDS = (alerts.DONE, alerts.FAILED, alerts.HELD)  # the job's state says so, too


@dataclass(frozen=True)
class Toast:
    title: str
    text: str
    severity: Literal["information", "warning", "error"]


def toasts(raised: Sequence[Alert], jobs: Sequence[Job], key: Keys) -> list[Toast]:
    """One each, of the newest `SHOWN`; before them a line for those that there is no room for."""
    names = {job.id: job.name for job in jobs}
    made = [_toast(alert, names.get(alert.job_id, "")) for alert in raised[-SHOWN:]]
    left = len(raised) - len(made)
    if left > 0:
        made.insert(0, Toast(f"{left} more alerts", keyed("<job.open> on a job shows its events", key), "information"))
    return made


def _toast(alert: Alert, name: str) -> Toast:
    title = f"job {alert.job_id} {name}: {WORDS.get(alert.kind, alert.kind)}"
    if alert.kind == alerts.DONE:
        return Toast(f"✓ {title}", alert.message, "information")
    severe = alert.kind in (alerts.FAILED, alerts.NAN, alerts.DISK)
    return Toast(f"! {title}", alert.message, "error" if severe else "warning")


def needs_somebody(event: JobEvent) -> bool:
    """Whether an event is a warning, of the trainer or of the runner that watches it."""
    return event.event == "warning" or (event.event == "alert" and event.detail.get("kind") not in _ENDS)
