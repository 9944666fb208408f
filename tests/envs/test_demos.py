"""`pidec-train demos`: the same file however often it was stopped and however many processes made it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import pidec_train.assets
from pidec_train.envs.demo_store import DemoStore
from pidec_train.envs.planner import DemoServer, part_path
from pidec_train.make_demos import run
from pidec_train.protocol.config import DemosConfig
from pidec_train.protocol.errors import PidecError, RunFailed, Stopped
from pidec_train.protocol.rundir import parse_metrics
from pidec_train.stopping import StopRequest

TASK, MODE = "PushCube-v1", "pd_ee_delta_pose"
BUNDLED = Path(pidec_train.assets.__file__).parent / "PushCube-v1.h5"
CLI = Path(__file__).parents[1] / "data" / "maniskill_cli_pushcube.h5"


def config(out: Path, num_demos: int = 2, **values: object) -> DemosConfig:
    return DemosConfig.model_validate({"env_id": TASK, "num_demos": num_demos, "out": str(out), **values})


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def assert_same_demos(first: Path, second: Path, count: int) -> None:
    with h5py.File(first) as a, h5py.File(second) as b:
        for number in range(count):
            names: list[str] = []
            a[f"traj_{number}"].visit(names.append)
            for name in names:
                if isinstance(a[f"traj_{number}/{name}"], h5py.Dataset):
                    np.testing.assert_array_equal(a[f"traj_{number}/{name}"][()], b[f"traj_{number}/{name}"][()])


# --- with the planner --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four demos made in one go, on this processor: another one rounds the planner's arithmetic otherwise, so that a
    file that was made elsewhere (as the bundled one) is the same by eye, not to the bit."""
    out = tmp_path_factory.mktemp("undisturbed") / "push.h5"
    assert run(config(out, 4), None, StopRequest()) == 0
    return out


@pytest.mark.sim
def test_killed_half_way_it_goes_on_and_gives_the_same_file(tmp_path: Path, undisturbed: Path) -> None:
    """A pod that is taken away in the night must not cost the demos made so far, nor change the data set."""
    out, run_dir = tmp_path / "demos" / "push.h5", tmp_path / "run"
    code = f"""
from pathlib import Path
from pidec_train.make_demos import run
from pidec_train.protocol.config import DemosConfig
run(DemosConfig(env_id="{TASK}", num_demos=3, out="{out}"), None)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    parts = out.with_suffix(".parts")
    wait_for(lambda: part_path(parts, 0).exists())
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()

    made_before = part_path(parts, 0).stat().st_mtime_ns
    planners: list[int] = []

    def kill_one_planner() -> None:
        """The planner's C++ code crashes now and then: its seed is tried once more."""
        wait_for(lambda: [p for p in parts.glob(".work-*") if not planners] and part_path(parts, 1).exists())
        planners.append(int(next(parts.glob(".work-*")).name.removeprefix(".work-")))
        os.kill(planners[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one_planner)
    killer.start()
    seen: list[int] = []
    watcher = threading.Thread(target=lambda: seen.append(_mtime_while_it_exists(part_path(parts, 0))))
    watcher.start()
    assert run(config(out, 3), run_dir, StopRequest()) == 0
    killer.join()
    watcher.join()
    assert planners, "no planner was killed: this test has lost half of its point"
    assert seen == [made_before]  # the demo that was there was not made again
    assert not parts.exists()
    assert_same_demos(out, undisturbed, 3)
    content, whole = (json.loads(path.with_suffix(".json").read_text()) for path in (out, undisturbed))
    assert content["episodes"] == whole["episodes"][:3]
    rows = [line for _, line in parse_metrics((run_dir / "metrics.jsonl").read_bytes())]
    assert (rows[0].event, rows[0].step, rows[0].detail()["step_name"]) == ("start", 1, "demo")
    assert rows[-2].step == 3 and rows[-2].metrics == {"demos/attempted": 3.0, "demos/success_rate": 1.0}
    assert (rows[-1].event, rows[-1].detail()["state"]) == ("end", "succeeded")


def _mtime_while_it_exists(path: Path) -> int:
    last = 0
    while True:
        try:
            last = path.stat().st_mtime_ns
        except FileNotFoundError:
            return last
        time.sleep(0.02)


@pytest.mark.sim
def test_more_demos_extend_the_file_and_processes_do_not_change_it(tmp_path: Path, undisturbed: Path) -> None:
    """People begin with a few demos and then want more; a second pass must not throw the first away."""
    out = tmp_path / "push.h5"
    shrink(undisturbed, out, 2)
    before = out.read_bytes()
    assert run(config(out, 4, num_procs=2), None, StopRequest()) == 0
    assert out.read_bytes() != before
    assert_same_demos(out, undisturbed, 4)
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.sim
def test_sigterm_leaves_with_130_and_says_what_is_kept(tmp_path: Path) -> None:
    """The job manager reads 130 as "go on later"; any other code would mark the job failed."""
    code = f"""
import sys
from pathlib import Path
from pidec_train.make_demos import run
from pidec_train.protocol.config import DemosConfig
from pidec_train.protocol.errors import PidecError
try:
    run(DemosConfig(env_id="{TASK}", num_demos=50, out="{tmp_path}/push.h5"), None)
except PidecError as error:
    print(error.line(), file=sys.stderr)
    sys.exit(error.exit_code)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: part_path(tmp_path / "push.parts", 0).exists())
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "stopped by SIGTERM: 1 of 50 demos are kept" in error.splitlines()[-1]
    assert part_path(tmp_path / "push.parts", 0).exists()


@pytest.mark.sim
@pytest.mark.parametrize(
    ("env_id", "mode", "line"),
    [
        ("RollBall-v1", MODE, "no motion planner for RollBall-v1; it has one for: DrawSVG-v1, DrawTriangle-v1,"),
        ("PegInsertion-v1", MODE, 'did you mean "PegInsertionSide-v1"'),
        (TASK, "pd_ee_delta", "allowed: pd_joint_delta_pos, "),
    ],
)
def test_a_task_that_cannot_be_planned_gets_one_clear_line(env_id: str, mode: str, line: str) -> None:
    with pytest.raises(PidecError) as caught:
        DemoServer(env_id, mode)
    assert line in caught.value.line() and caught.value.exit_code == 2


@pytest.mark.sim
def test_a_planner_that_never_succeeds_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a job would hold its slot for ever. (The drawing planners of ManiSkill 3.0.1 raise for every seed.)"""
    import pidec_train.make_demos

    monkeypatch.setattr(pidec_train.make_demos, "GIVE_UP_AFTER", 2)
    with pytest.raises(RunFailed, match=r"not one successful demo of DrawTriangle-v1 .* in 2 seeds.*plan failed"):
        run(config(tmp_path / "demos.h5", 2, env_id="DrawTriangle-v1"), None, StopRequest())


# --- the store alone ---------------------------------------------------------------------------------------------


def shrink(source: Path, out: Path, count: int) -> None:
    """The first `count` demos of a file that `pidec-train demos` made from seed 0 on, as it would have made them."""
    content = json.loads(source.with_suffix(".json").read_text())
    content["episodes"] = content["episodes"][:count]
    content["pidec"]["seeds_tried"] = content["episodes"][-1]["episode_seed"] + 1
    with h5py.File(source) as whole, h5py.File(out, "w") as part:
        for number in range(count):
            whole.copy(f"traj_{number}", part)
    out.with_suffix(".json").write_text(json.dumps(content))


def give(store: DemoStore, seed: int) -> None:
    """A demo of `seed`, as a planner process leaves it: the bundled file's demo number `seed`."""
    part = part_path(store.folder, seed)
    content = json.loads(BUNDLED.with_suffix(".json").read_text())
    episode = {**content["episodes"][seed], "episode_id": 0, "episode_seed": seed}
    part.with_suffix(".json").write_text(json.dumps({**content, "episodes": [episode]}))
    with h5py.File(BUNDLED) as whole, h5py.File(part, "w") as target:
        whole.copy(f"traj_{seed}", target, "traj_0")
    store.record(seed, True)


def open_store(out: Path, seed: int = 0, env_id: str = TASK, mode: str = MODE) -> DemoStore:
    return DemoStore(out, env_id, mode, seed)


def test_the_file_has_the_first_successes_by_seed_in_whatever_order_they_came(tmp_path: Path) -> None:
    """With more processes fast seeds come first: the data set must not depend on that."""
    out = tmp_path / "demos.h5"
    with open_store(out) as store:
        give(store, 3)
        give(store, 1)
        assert not store.is_complete(2)  # 0 and 2 may still come in between
        assert store.next_seed(2, set()) == 0
        assert store.next_seed(2, {0}) == 2
        assert store.next_seed(2, {0, 2}) is None  # 4 could not be among the first two any more
        store.record(0, False, "plan failed")
        give(store, 2)
        assert store.is_complete(2) and store.kept == [1, 2, 3]
        store.write(2)
    content = json.loads(out.with_suffix(".json").read_text())
    assert [(e["episode_id"], e["episode_seed"]) for e in content["episodes"]] == [(0, 1), (1, 2)]
    assert content["pidec"] == {"first_seed": 0, "seeds_tried": 3}
    with h5py.File(out) as ours, h5py.File(BUNDLED) as bundled:
        assert list(ours) == ["traj_0", "traj_1"]
        np.testing.assert_array_equal(ours["traj_1/obs"][:], bundled["traj_2/obs"][:])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demos.h5", "demos.json"]


def test_what_was_tried_is_known_after_a_restart(tmp_path: Path) -> None:
    """Half of PegInsertionSide's seeds fail: trying them again would double the time."""
    with open_store(tmp_path / "demos.h5") as store:
        store.record(0, False, "replay failed")
        give(store, 1)
        part_path(store.folder, 2).write_bytes(b"cut off by a power failure")
    with open_store(tmp_path / "demos.h5") as store:
        assert (store.kept, store.attempted) == ([1], 2)
        assert store.next_seed(5, set()) == 2


@pytest.mark.parametrize("longer", [False, True])
@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_while_the_file_is_put_in_place_leaves_a_file_that_can_be_read(
    longer: bool, renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An .h5 and its .json are two files: there is always a moment between them."""
    out = tmp_path / "demos.h5"
    if longer:
        shrink(BUNDLED, out, 2)
    done: list[str] = []
    real = os.replace

    def replace(source: str, target: str) -> None:
        if str(target) in (str(out), str(out.with_suffix(".json"))):
            if len(done) == renames:
                raise KeyboardInterrupt
            done.append(str(target))
        real(source, target)

    with open_store(out) as store:
        for seed in (2, 3) if longer else (0, 1):
            give(store, seed)
        wanted = len(store.kept)
        monkeypatch.setattr(os, "replace", replace)
        monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None if renames == 2 else pytest.fail("too early"))
        with contextlib.suppress(KeyboardInterrupt):
            store.write(wanted)
        monkeypatch.undo()
        store._lock.close()
    if out.exists():
        with h5py.File(out) as file:
            for episode in json.loads(out.with_suffix(".json").read_text())["episodes"]:
                assert len(file[f"traj_{episode['episode_id']}/actions"]) == episode["elapsed_steps"]
    with open_store(out) as store:
        assert store.is_complete(wanted)
        store.write(wanted)
    assert_same_demos(out, BUNDLED, wanted)


def test_enough_demos_are_nothing_to_do(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A queued `demos` job before every training must cost nothing once the file is there."""
    out = tmp_path / "demos.h5"
    shrink(BUNDLED, out, 3)
    before = out.stat().st_mtime_ns
    assert run(config(out, 3), None, StopRequest()) == 0
    assert out.stat().st_mtime_ns == before and not list(tmp_path.glob("*.parts"))
    assert "holds 3 demos already" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"env_id": "PickCube-v1"}, "holds demos of PushCube-v1 with pd_ee_delta_pose, not of PickCube-v1"),
        ({"control_mode": "pd_joint_delta_pos"}, "not of PushCube-v1 with pd_joint_delta_pos"),
        ({"seed": 7}, "holds demos from seed 0 on, not 7"),
    ],
)
def test_a_file_of_something_else_is_not_overwritten(values: dict[str, object], line: str, tmp_path: Path) -> None:
    """A wrong word must not mix two data sets, or cost one."""
    out = tmp_path / "demos.h5"
    shrink(BUNDLED, out, 2)
    with pytest.raises(PidecError) as caught:
        run(config(out, 9, **values), None, StopRequest())
    assert line in caught.value.line() and "another --out" in caught.value.line()


def test_a_file_of_another_maker_is_not_touched(tmp_path: Path) -> None:
    for suffix in (".h5", ".json"):
        shutil.copy(CLI.with_suffix(suffix), tmp_path / f"demos{suffix}")
    with pytest.raises(PidecError, match="was not made by pidec-train demos"):
        run(config(tmp_path / "demos.h5", 9), None, StopRequest())
    (tmp_path / "demos.h5").write_bytes(b"no h5")
    with pytest.raises(PidecError, match="no demo file that can be read"):
        run(config(tmp_path / "demos.h5", 9), None, StopRequest())


def test_parts_of_something_else_are_not_mixed_in(tmp_path: Path) -> None:
    with open_store(tmp_path / "demos.h5") as store:
        give(store, 0)
    with (
        pytest.raises(PidecError, match="half-made demos of PushCube-v1"),
        open_store(tmp_path / "demos.h5", env_id="PickCube-v1"),
    ):
        pass


def test_two_processes_cannot_make_one_file(tmp_path: Path) -> None:
    """Two jobs on the same file, one of them forgotten, would remove each other's work."""
    with open_store(tmp_path / "demos.h5"):  # noqa: SIM117
        with pytest.raises(PidecError, match="another process is making"), open_store(tmp_path / "demos.h5"):
            pass


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("demos.hdf5", "must end in .h5"),
        ("folder.h5s/demos.h5", "folder with .h5 in its name"),
        ("file/demos.h5", "cannot write"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_at_once(name: str, line: str, tmp_path: Path) -> None:
    """Not after an hour of planning."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PidecError, match=line):
        run(config(tmp_path / name), None, StopRequest())


def test_a_stop_before_the_first_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    stop = StopRequest()
    stop.request("SIGINT")
    with pytest.raises(Stopped, match="0 of 2 demos are kept"):
        run(config(tmp_path / "demos.h5"), None, stop)
    assert list(tmp_path.iterdir()) == []


def test_the_bundled_demos_are_what_the_quickstart_needs() -> None:
    """They travel in every wheel: small, and enough of them for a base policy that sometimes succeeds."""
    assert sum(path.stat().st_size for path in (BUNDLED, BUNDLED.with_suffix(".json"))) < 3_000_000
    with h5py.File(BUNDLED) as file:
        assert len(file) >= 50
        for trajectory in file.values():
            length = len(trajectory["actions"])
            assert trajectory["obs"].shape == (length + 1, 35) and trajectory["actions"].shape == (length, 7)
            assert trajectory["success"][-1] and np.abs(trajectory["actions"][:]).max() <= 1
