"""What advice goes by from one look to the next."""

from __future__ import annotations

import random
from array import array
from dataclasses import replace
from itertools import pairwise

from pidec_tui.advising import Adviser
from pidec_tui.board import Machine, TraceView
from pidec_tui.charts.series import Curve
from pidec_tui.manager.health import Checkup
from pidec_tui.manager.jobs import MetricBlock
from pidec_tui.manager.pulse import Pulse
from tests.tui.scene import H200, NOW, Scene


def test_a_loss_that_is_flat_is_told_so_until_it_clearly_is_not(scene: Scene) -> None:
    """Lost: the sentence below the charts, to noise: there at one look and gone at the next, while the word above them
    is "plateau"."""
    noise, pulse, checkup = random.Random(0), Pulse(), Checkup(1)
    job = scene.add("diffusion", {"total_iters": 1_000_000}, name="peg")
    scene.start(job, ago=30_000)
    job, adviser = scene.manager.job(job.id), Adviser(scene.manager, lambda _: pulse, lambda: NOW)
    view = TraceView(job.id, {"train/loss": Curve("train/loss", array("d", [1.0]), array("d", [0.1]))}, NOW)
    told: list[tuple[bool, bool]] = []
    for row in range(1, 1800):
        time, loss = NOW - 30_000 + 10 * row, 0.1 * (1 + noise.gauss(0, 0.05))
        block = MetricBlock(1, row, array("d", [100.0 * row]), array("d", [time]), {"train/loss": array("d", [loss])})
        pulse.take([block])
        if row > 600:
            word = checkup.health(pulse, job, scene.manager.settings, time).word
            told.append((word == "plateau", any(a.key == "flat-loss" for a in adviser.advise(job, view, (), [job]))))
    assert all(word == advice for word, advice in told)
    assert told[-1] == (True, True) and sum(before != after for before, after in pairwise(told)) == 1


def test_the_load_of_the_last_half_minute_is_of_no_other_time(scene: Scene) -> None:
    """Lost: what the GPU does now, to two minutes ago: a dashboard that is left alone looks every ten seconds."""
    now = [NOW]
    adviser = Adviser(scene.manager, lambda _: Pulse(), lambda: now[0])
    for load in (90.0,) * 10 + (10.0,) * 3:
        now[0] += 10
        adviser.sampled(Machine((replace(H200, utilization=load),)))
    assert adviser._live(H200.uuid) == 10.0
