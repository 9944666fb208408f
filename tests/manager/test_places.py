"""Settings, presets, and where the job log lives."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import Workspace
from pidec_tui.manager.jobs import JobState
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.presets import broken_presets, list_presets, load_preset
from pidec_tui.manager.settings import load_settings, toml_value
from pidec_tui.manager.statedir import choose_state_dir, fstype_of, is_network
from pidec_tui.manager.tomlfiles import user_settings_path
from tests.manager.conftest import end_everything
from tests.manager.jobs_support import QUICK, wait_for

# --- settings --------------------------------------------------------------------------------------------------------


def test_the_workspace_overrides_the_user_who_overrides_the_defaults(tmp_path: Path) -> None:
    user_settings_path().parent.mkdir(parents=True)
    user_settings_path().write_text('on_end = "notify-send done"\ncpu_slots = 3\n')
    (tmp_path / "settings.toml").write_text("cpu_slots = 2\n")
    settings = load_settings(tmp_path)
    assert (settings.on_end, settings.cpu_slots, settings.idle_minutes) == ("notify-send done", 2, 15)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("cpu_slot = 2", 'has a setting "cpu_slot" that does not exist. did you mean "cpu_slots"?'),
        ("cpu_slots = 0", "cpu_slots = 0"),
        ("cpu_slots = ", "is not valid TOML"),
    ],
)
def test_a_wrong_settings_file_is_named_in_one_line(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(PidecError) as error:
        load_settings(tmp_path)
    assert line in error.value.line() and str(tmp_path / "settings.toml") in error.value.line()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("1e-4", 1e-4), ("true", True), ("[16, 32]", [16, 32]), ("16,32", [16, 32]), ("", ""),
        ("demos/a.h5", "demos/a.h5"), ("a, b", "a, b"), ('"3"', "3"), ("2026-01-01", "2026-01-01"),
        ("{a=1}", "{a=1}"), ("1\nx = 2", "1\nx = 2"),
    ],
)  # fmt: skip
def test_typed_values_are_toml_or_text(text: str, value: object) -> None:
    assert toml_value(text) == value


def test_a_text_field_takes_digits_as_text() -> None:
    assert toml_value("123", as_text=True) == "123"
    assert toml_value('"1 2"', as_text=True) == "1 2"


# --- presets ---------------------------------------------------------------------------------------------------------

MINE = 'title = "Mine"\nkind = "diffusion"\nlane = "cpu"\n[config]\ntotal_iters = 5\n'


def test_the_workspaces_own_presets_come_first_and_win(tmp_path: Path) -> None:
    ws = Workspace(tmp_path)
    ws.presets.mkdir(parents=True)
    shipped = list_presets(ws)
    assert shipped and all(preset.builtin for preset in shipped)
    (ws.presets / f"{shipped[0].name}.toml").write_text(MINE)
    (ws.presets / "zz.toml").write_text(MINE)
    (ws.presets / "broken.toml").write_text("kind = 'diffusion'\n[config]\ntotal_iter = 5\n")
    found = list_presets(ws)
    assert [(preset.name, preset.builtin) for preset in found[:2]] == [(shipped[0].name, False), ("zz", False)]
    assert len(found) == len(shipped) + 1
    assert load_preset(ws, shipped[0].name).config == {"total_iters": 5}
    (error,) = broken_presets(ws)
    assert "broken.toml" in error.line() and 'did you mean "total_iters"?' in error.line()


def test_every_shipped_preset_is_right() -> None:
    ws = Workspace(Path("/nowhere"))
    assert not broken_presets(ws)
    assert {"quickstart", "diffusion-peg", "diffusion-peg-short", "demos-peg"} <= {
        item.name for item in list_presets(ws)
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('kind = "difusion"', 'did you mean "diffusion"?'),
        ('kind = "diffusion"\nlane = "gpux"', 'did you mean "gpu"?'),
        ('kind = "diffusion"\ntotal_iters = 3', "values of the job go under [config]"),
        ('title = "x"', "kind"),
    ],
)
def test_a_wrong_preset_file_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(text)
    with pytest.raises(PidecError) as error:
        load_preset(Workspace(tmp_path), path)
    assert line in error.value.line() and "my.toml" in error.value.line()


def test_presets_that_lead_nowhere_are_left_out(tmp_path: Path) -> None:
    """Lost: the shipped ones too, to a traceback."""
    ws = Workspace(tmp_path)
    ws.jobs.mkdir()
    ws.presets.symlink_to("presets")
    assert list_presets(ws) and not broken_presets(ws)
    ws.presets.unlink()
    ws.presets.mkdir()
    (ws.presets / "deep.toml").write_text("a = " + "[" * 5000 + "]" * 5000)
    (broken,) = broken_presets(ws)
    assert list_presets(ws) and "deep.toml is not valid TOML: maximum recursion depth" in broken.message


def test_a_mistyped_preset_gets_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(PidecError, match=r'there is no preset "quikstart".*did you mean "quickstart"'):
        load_preset(Workspace(tmp_path), "quikstart")
    with pytest.raises(PidecError, match="there is no preset file"):
        load_preset(Workspace(tmp_path), "gone.toml")


def test_a_preset_is_resolved_when_it_is_added(manager: Manager, tmp_path: Path) -> None:
    """Lost without it: an edit of the preset changes a job that is queued."""
    manager.workspace.presets.mkdir(parents=True)
    path = manager.workspace.presets / "mine.toml"
    path.write_text(MINE + 'demo_path = "demos/x.h5"\n')
    job = manager.add_preset("mine", {"lr": 0.5}, cwd=tmp_path)
    path.write_text(MINE.replace("5", "9"))
    job = manager.job(job.id)
    assert (job.name, job.preset, job.lane) == ("mine", "mine", "cpu")
    assert (job.config["total_iters"], job.config["lr"]) == (5, 0.5)
    assert job.config["demo_path"] == str(manager.workspace.root / "demos" / "x.h5"), (
        "a preset's paths are the workspace's"
    )


# --- network file systems --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fstype", ["nfs4", "fuse.mfs", "fuse", "cifs", "9p", "lustre", "fuse.sshfs", "virtiofs", "ceph"]
)
def test_network_file_systems_are_known(fstype: str) -> None:
    assert is_network(fstype)


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "zfs", "fuseblk", ""])
def test_local_file_systems_are_known(fstype: str) -> None:
    assert not is_network(fstype)


def test_the_longest_and_latest_mount_counts(tmp_path: Path) -> None:
    mounts = [("/", "ext4"), (str(tmp_path), "nfs4"), (f"{tmp_path}/local", "xfs"), ("/", "overlay")]
    assert fstype_of(tmp_path / "ws", mounts) == "nfs4"
    assert fstype_of(tmp_path / "local" / "ws", mounts) == "xfs"
    assert fstype_of(tmp_path / "localnot", mounts) == "nfs4"
    assert fstype_of(Path("/x"), mounts) == "overlay"


def test_on_a_network_file_system_job_log_and_locks_are_local_and_runs_stay(tmp_path: Path) -> None:
    """Lost without it: a corrupted job log on a rented pod, or two trainers on one checkpoint folder."""
    mounts = [("/", "ext4"), (str(tmp_path / "net"), "fuse.mfs")]
    workspace = tmp_path / "net" / "ws"
    manager = Manager.open(workspace, mounts=mounts)
    job = manager.add("command", {"command": "true"})
    assert manager.state_dir.is_relative_to(os.environ["XDG_STATE_HOME"]) and manager.places.elsewhere
    assert not list(workspace.rglob("jobs.db*"))
    assert (workspace / "jobs" / "runs" / "000001" / "spec.json").exists()
    assert manager.places.attempt_lock(job.id, 1).is_relative_to(manager.state_dir)
    manager.close()
    for path in manager.state_dir.glob("jobs.db*"):  # the pod is rented anew: its local disk is empty
        path.unlink()
    again = Manager.open(workspace, mounts=mounts)
    assert [job.config for job in again.jobs()] == [{"command": "true"}]
    again.close()


def test_a_home_on_the_network_is_no_place_for_locks_either(tmp_path: Path) -> None:
    mounts = [("/", "ext4"), (str(tmp_path), "nfs"), (os.environ["HOME"], "nfs")]
    assert choose_state_dir(tmp_path / "ws", mounts).is_relative_to("/var/tmp")


def test_a_forced_state_dir_keeps_workspaces_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIDEC_STATE_DIR", str(tmp_path / "state"))
    first, second = choose_state_dir(tmp_path / "a"), choose_state_dir(tmp_path / "b")
    assert first != second and first.parent == second.parent == tmp_path / "state"


class Net:
    """A workspace that counts as being on a network file system, seen from this machine."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIDEC_STATE_DIR", str(folder / "state"))  # as the runner's process sees it, too
        self.root = folder / "ws"
        (self.root / "jobs").mkdir(parents=True)
        (self.root / "jobs" / "settings.toml").write_text(QUICK)
        self.lease = self.root / "jobs" / "runner.json"

    def other_machine_was_seen(self, seconds_ago: float) -> None:
        beat = {"host": "pod-b", "machine": "another boot", "pid": 1, "time": time.time() - seconds_ago}
        self.lease.write_text(json.dumps(beat))


def test_a_queue_whose_run_folders_are_gone_is_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lost: a job that runs, behind "the queue is empty", after one `rm -rf` too many; its job log lies elsewhere."""
    from pidec_tui.manager.cli import main

    monkeypatch.setenv("PIDEC_STATE_DIR", str(tmp_path / "state"))
    manager = Manager.open(tmp_path / "ws")
    manager.add("command", {"command": "true"}, name="here")
    manager.close()
    shutil.rmtree(tmp_path / "ws" / "jobs")
    assert main(["--workspace", str(tmp_path / "ws"), "list"]) == 0
    assert "here" in capsys.readouterr().out


def test_two_machines_do_not_run_one_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost without it: a volume mounted by two pods, and every queued job runs on both."""
    net = Net(tmp_path, monkeypatch)
    manager = Manager.open(net.root)
    job = manager.add("command", {"command": "true"})
    net.other_machine_was_seen(seconds_ago=10)
    with pytest.raises(PidecError, match=r"a runner on pod-b is at work in this workspace \(seen 1\d s ago\)"):
        manager.ensure_runner()
    assert manager.job(job.id).state is JobState.queued
    net.other_machine_was_seen(seconds_ago=3600)  # that pod is gone
    manager.ensure_runner()
    assert wait_for(manager, job.id).state is JobState.succeeded
    assert json.loads(net.lease.read_text())["pid"] == manager.runner_pid()
    assert (manager.state_dir / "locks" / "000001-1.lock").exists()
    end_everything(manager)
    assert not net.lease.exists()


def test_an_attempt_whose_shim_beats_elsewhere_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost without it: a training on the other pod is taken for dead and started a second time."""
    net = Net(tmp_path, monkeypatch)
    manager = Manager.open(net.root)
    job = manager.add("command", {"command": "true"})
    manager.close()
    attempt = manager.workspace.run(job.id).attempt(1).path
    attempt.mkdir()
    fields = {"token": "t", "boot_id": "other", "shim": 1, "shim_ticks": 1, "pid": 2, "pid_ticks": 2, "started": 1.0}
    (attempt / "started.json").write_text(json.dumps(fields))
    for path in manager.state_dir.glob("jobs.db*"):
        path.unlink()
    manager = Manager.open(net.root)
    assert manager.job(job.id).state is JobState.running
    manager.ensure_runner()
    time.sleep(0.5)
    assert manager.job(job.id).state is JobState.running
    os.utime(attempt / "started.json", (time.time() - 3600,) * 2)
    assert wait_for(manager, job.id, JobState.held).attempts[0].state == "interrupted"
    end_everything(manager)
