"""What the machine did during a scene's job, as the runner would have stored it."""

from __future__ import annotations

import math

from pidec_tui.manager.jobs import Job
from pidec_tui.manager.machinelog import HOST, Device, MachineLog, Sample, Tenancy, Tenant
from tests.tui.scene import H200, NOW, Scene

CARD = Device(H200.uuid, H200.name, 141.0)
BOX = Device(HOST, "box", 128.0, 16)
JOINED = NOW - 35 * 60  # when somebody else comes to the card


def slowed(scene: Scene, *, gpu: bool = True) -> Job:
    """A run of two hours that somebody else slows by 40 % since 35 minutes, with the machine's samples."""
    config = {"total_iters": 1_000_000, "eval_freq": 100_000, "env_id": "PegInsertionSide-v1", "engine": "auto"}
    config |= {} if gpu else {"device": "cpu"}
    job = scene.add("diffusion", config, name="diffusion-peg", ago=7300)
    scene.start(job, ago=7200)
    with scene.log.write():
        scene.log.update_attempt(job.id, 1, gpu=CARD.uuid if gpu else None)
    lines, step = [], 0.0
    for minute in range(120):
        time = NOW - 7200 + 60 * (minute + 1)
        rate = 948 + 12 * math.sin(minute) - (380 if time > JOINED + 60 else 0)
        step += rate
        metrics = {"train/loss": 0.9 * math.exp(-step / 40_000) + 0.011, "throughput/iters_per_min": rate}
        lines.append({"time": time, "step": round(step), "metrics": metrics})
    start = {"event": "start", "time": NOW - 7200, "step_name": "iteration", "total_steps": 1_000_000}
    scene.write(job, [start, *lines])
    samples = []
    for i in range(720):
        time = NOW - 7200 + 10 * i
        late = time > JOINED
        cpu = (97.0 if late else 72.0) if not gpu else 31.0
        samples.append(Sample(time, BOX, (cpu + math.sin(i), 21.4 + 0.5 * late)))
        if gpu:
            load = (98.0 if late else 92.0) + math.sin(i)
            samples.append(Sample(time, CARD, (load, 31.0 if late else 12.8, 640.0, 700.0, 1980.0, 64.0, 0.0)))
    ours = Tenant(4100, "python", "me", 12.6, job.id)
    with scene.log.write():
        machine = MachineLog(scene.log)
        machine.add(samples)
        if gpu:
            machine.add_tenants(CARD, Tenancy(NOW - 7190, (ours,)))
            machine.add_tenants(CARD, Tenancy(JOINED, (ours, Tenant(4312, "python", "ann", 18.2))))
    return scene.manager.job(job.id)
