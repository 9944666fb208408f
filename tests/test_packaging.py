"""What an installed pidec must bring along."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from pidec_train.protocol.config import parse_config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_every_package_is_in_the_wheel(repo: Path) -> None:
    """Lost: `pip install` gives a pidec in which a room is missing."""
    project = tomllib.loads((repo / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"]) - set(project["tool"]["setuptools"]["package-dir"])
    found = {
        ".".join(init.parent.relative_to(repo).parts)
        for top in ("pidec_train", "pidec_tui")
        for init in (repo / top).rglob("__init__.py")
    }
    assert listed == found


PRESETS = sorted((Path(__file__).parent.parent / "jobs" / "presets").glob("*.toml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_every_shipped_preset_is_valid(path: Path) -> None:
    """Lost: the first key press of a newcomer ends in an error."""
    preset = tomllib.loads(path.read_text())
    assert preset["title"] and set(preset) <= {"title", "kind", "lane", "first", "notes", "config"}
    left_open = {"base_policy_ckpt": "x.pt"} if path.stem == "decorator-peg" else {}
    parse_config(preset["kind"], {**left_open, **preset["config"]})


def test_the_promised_presets_ship(repo: Path) -> None:
    """Lost: `pidec-jobs add demos-peg`, as the README has it."""
    named = set(re.findall(r"^pidec-jobs add ([\w-]+)", (repo / "README.md").read_text(), re.MULTILINE))
    assert named and named <= {p.stem for p in PRESETS}
    diffusion = {"quickstart", "diffusion-peg", "diffusion-peg-short", "demos-peg"}
    assert {p.stem for p in PRESETS} == diffusion | {"decorator-quickstart", "decorator-peg"}
