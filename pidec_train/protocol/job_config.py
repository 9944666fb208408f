"""What all job configs have in common: their base class, the kinds of paths, and choices that several share."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

Device = Literal["auto", "cpu", "cuda"]
ActionNorm = Literal["none", "mean_std", "min_max"]
ObsNorm = Literal["none", "mean_std"]
Sampler = Literal["ddpm", "ddim"]
Precision = Literal["tf32", "fp32", "bf16"]
Engine = Literal["auto", "eager", "graph", "compile"]

BUNDLED = "bundled:"  # `demo_path = "bundled:NAME.h5"` means a file that ships with the package


def _auto_off_or_size(value: Any) -> str:
    text = str(value)
    if text in ("auto", "off") or (text.isascii() and text.isdigit() and len(text) < 9 and int(text) > 0):
        return text
    raise ValueError("allowed are auto, off, or a number of observations such as 50")


PadObsTo = Annotated[str, BeforeValidator(_auto_off_or_size)]  # what to do about observations of ManiSkill2


class PathKind(str, Enum):
    """What a path field points to, so that a form can offer what exists."""

    demo = "demo"
    checkpoint = "checkpoint"
    output = "output"


def extra(*, first: bool = False, path: PathKind | None = None) -> dict[str, Any]:
    """Notes for forms: is this one of the fields that people change first, and is it a path?"""
    return {"first": first, "path": path.value if path else None}


class JobConfig(BaseModel):
    """Base of all configs: frozen, and a field that nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def hints(self) -> dict[str, str]:
        """Advice by field name, for values that are legal but cost hours. Empty if there is none."""
        return {}

    def total_steps(self) -> int | None:
        """How many steps the run takes in its own unit, None where that is not known beforehand."""
        return None
