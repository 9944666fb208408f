"""A preset that is queued after another one: two jobs by one command, or none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pidec_train.protocol.errors import PidecError
from pidec_tui.manager.jobs import JobState
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.presets import broken_presets
from tests.manager.conftest import end_everything

BASE = 'kind = "diffusion"\nlane = "cpu"\n[config]\ntotal_iters = 5\n'
ON_TOP = 'kind = "evaluate"\nfirst = "base"\n[config]\nckpt = "@first/best"\n'


@pytest.fixture
def presets(manager: Manager) -> Path:
    folder = manager.workspace.presets
    folder.mkdir(parents=True)
    (folder / "base.toml").write_text(BASE)
    (folder / "on-top.toml").write_text(ON_TOP)
    return folder


def test_two_jobs_by_one_preset(manager: Manager, presets: Path) -> None:
    """Lost: the first key press, which makes a base policy and then refines it."""
    earlier = manager.add("command", {"command": "true"})
    base, top = manager.add_preset_jobs("on-top", {"seed": 7}, name="mine", after=[earlier.id])
    assert (base.name, base.lane, base.after) == ("base", "cpu", (earlier.id,))
    assert (top.name, top.preset, top.after, top.waiting_for) == ("mine", "on-top", (base.id,), f"job {base.id}")
    assert top.config["ckpt"] == f"@{base.id}/best" and top.config["seed"] == 7
    assert base.position < top.position
    assert manager.add_preset("on-top").after == (top.id + 1,), "each time a base of its own"


def test_held_keeps_both(manager: Manager, presets: Path) -> None:
    """Lost: `--held`, which lets half of it run."""
    assert [job.state for job in manager.add_preset_jobs("on-top", held=True)] == [JobState.held] * 2


def test_with_a_checkpoint_of_ones_own_it_is_one_job(manager: Manager, presets: Path, tmp_path: Path) -> None:
    """Lost: minutes for a base policy that nobody asked for."""
    (tmp_path / "best.pt").touch()
    (job,) = manager.add_preset_jobs("on-top", {"ckpt": str(tmp_path / "best.pt")})
    assert job.after == () and job.config["ckpt"] == str(tmp_path / "best.pt")
    (presets / "plain.toml").write_text('kind = "command"\nfirst = "base"\n[config]\ncommand = "true"\n')
    assert len(manager.add_preset_jobs("plain", {"command": "false"})) == 2, "no checkpoint is what it comes first for"


def test_both_or_none(manager: Manager, presets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: a base policy that trains for something that was refused; and its return at the next repair."""
    for values in ({"num_steps": 0}, {"ckp": "x"}, {"ckpt": "@first/bset"}):
        with pytest.raises(PidecError):
            manager.add_preset_jobs("on-top", values)
    real, written = Path.mkdir, 0

    def full(self: Path, *words: Any, **more: Any) -> None:
        nonlocal written
        if self.parent == manager.workspace.runs:
            written += 1
            if written == 2:
                raise OSError(28, os.strerror(28))
        real(self, *words, **more)

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(PidecError, match="No space left"):
        manager.add_preset_jobs("on-top")
    monkeypatch.undo()
    assert written == 2 and manager.jobs() == [] and not list(manager.workspace.runs.glob("*/spec.json"))
    assert manager.repair().jobs == 0


def test_the_spec_says_it_too(manager: Manager, presets: Path) -> None:
    """Lost: what comes after what, when the job log is."""
    before = manager.add_preset_jobs("on-top")
    assert manager.repair().jobs == 2
    assert [manager.job(job.id).after for job in before] == [job.after for job in before]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('kind = "evaluate"\n[config]\nckpt = "@first/best"\n', "no preset comes first"),
        ('kind = "evaluate"\nfirst = "base"\n[config]\nckpt = "@first/bset"\n', "Write @first/best or @first/last"),
    ],
)
def test_a_wrong_first_is_one_line(manager: Manager, presets: Path, text: str, line: str) -> None:
    """Lost: a preset of one's own that ends in a riddle."""
    (presets / "wrong.toml").write_text(text)
    (error,) = broken_presets(manager.workspace)
    assert line in error.line() and "wrong.toml" in error.line()


@pytest.mark.parametrize(
    ("first", "line"), [("bse", 'did you mean "base"?'), ("on-top", '"on-top", which itself comes after "base"')]
)
def test_a_first_that_cannot_be_is_refused_at_the_add(manager: Manager, presets: Path, first: str, line: str) -> None:
    """Lost: a chain that nobody sees through."""
    (presets / "third.toml").write_text(ON_TOP.replace('"base"', f'"{first}"'))
    with pytest.raises(PidecError) as error:
        manager.add_preset_jobs("third")
    assert line in error.value.line() and manager.jobs() == []


def test_what_a_preset_leaves_open_is_asked_for(manager: Manager, presets: Path) -> None:
    """Lost: `pidec-jobs add decorator-peg` that says nothing of the base policy that it needs."""
    (presets / "open.toml").write_text('kind = "evaluate"\n[config]\nnum_steps = 4\n')
    assert not broken_presets(manager.workspace)
    with pytest.raises(PidecError, match=r'"open" leaves ckpt to you: checkpoint.*--set ckpt=PATH, or ckpt=@ID/best'):
        manager.add_preset("open")
    assert manager.add_preset("open", {"ckpt": "x.pt"}).config["num_steps"] == 4
    (presets / "open.toml").write_text('kind = "evaluate"\n[config]\nnum_stps = 4\n')
    (error,) = broken_presets(manager.workspace)
    assert 'did you mean "num_steps"?' in error.line()


def test_the_shipped_quickstart_of_the_decorator(tmp_path: Path) -> None:
    """Lost: the demonstration."""
    manager = Manager.open(tmp_path)
    base, decorated = manager.add_preset_jobs("decorator-quickstart")
    assert (base.preset, base.kind, base.lane) == ("quickstart", "diffusion", "cpu")
    assert (decorated.kind, decorated.lane) == ("decorator", "cpu")
    assert decorated.config["base_policy_ckpt"] == f"@{base.id}/best"
    assert decorated.config["env_id"] == base.config["env_id"]
    end_everything(manager)
