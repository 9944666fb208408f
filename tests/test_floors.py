"""The floors of the house, looked at from a running interpreter: what each door may load.

Import-linter reads the source (`make check`); these tests catch what comes in through a library.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "h5py", "mani_skill", "sapien", "wandb", "gymnasium"}


def loaded_by(statement: str) -> set[str]:
    """Top-level packages in sys.modules after `statement` ran in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import pidec_tui.__main__, pidec_tui.app", HEAVY),
        ("import pidec_tui.manager.cli, pidec_tui.manager.runner, pidec_tui.manager.shim", HEAVY | {"textual"}),
        ("import pidec_train.protocol.config, pidec_train.protocol.rundir", HEAVY | {"textual", "apsw", "numpy"}),
        ("import pidec_train.__main__", HEAVY | {"pidec_tui", "textual", "apsw"}),
        (
            "import pidec_train.train_diffusion, pidec_train.checkpoint, pidec_train.evaluate",
            {"pidec_tui", "textual", "apsw", "mani_skill", "sapien", "wandb"},
        ),
        ("import pidec_train.envs.make", {"pidec_tui", "textual", "apsw"}),
    ],
)
def test_a_door_loads_only_what_it_needs(statement: str, forbidden: set[str]) -> None:
    """Lost: the dashboard opens in seconds instead of at once, and a broken torch takes the queue down with it."""
    loaded = loaded_by(statement)
    assert not loaded & forbidden, f"{statement} loads {sorted(loaded & forbidden)}"
