"""The quality guard: a captured step must learn what the eager one learns."""

from __future__ import annotations

import torch

from .contenders import NotHere, OurRacer, Setting

STEPS = 100
ALLOWED = 1e-5  # relative difference of a loss


def largest_difference(setting: Setting) -> float:
    """Largest relative difference of the losses of STEPS iterations, captured against eager; fp32 without TF32.

    Both begin with the same weights and see the same batches, noise and diffusion steps.

    Raises:
        NotHere: there is no CUDA, or capturing fails.
    """
    if setting.device.type != "cuda":
        raise NotHere("needs CUDA")
    eager, captured = (
        _losses(OurRacer(setting, graph=graph, compiled=False, precision="fp32")) for graph in (False, True)
    )
    return float(((captured - eager).abs() / eager.abs()).max())


def _losses(racer: OurRacer) -> torch.Tensor:
    """(STEPS,) losses, the first of them already run when the racer was made."""
    racer.settle()
    losses = [racer.step.losses[:1].clone()]
    while (left := STEPS - racer.stepper.iteration) > 0:
        done = racer.stepper.advance(left)
        losses.append(racer.step.losses[:done].clone())
    return torch.cat(losses).double().cpu()
