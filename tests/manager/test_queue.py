"""What a user may do to the queue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import Spec
from pidec_tui.manager import environment
from pidec_tui.manager.joblog import JobLog
from pidec_tui.manager.jobs import JobState
from pidec_tui.manager.manager import Manager
from pidec_tui.manager.reading import NO_RUNNER
from tests.manager.jobs_support import command


def spec(manager: Manager, job_id: int) -> Spec:
    return Spec.model_validate_json(manager.workspace.run(job_id).spec.read_bytes())


def put(manager: Manager, job_id: int, state: JobState) -> None:
    log = JobLog(manager.places.db)
    with log.write():
        log.set_state(job_id, state)
    log.close()


def test_add_stores_the_whole_config_and_a_spec_that_says_the_same(manager: Manager) -> None:
    """Lost without it: a later edit of the preset changes a queued job; a lost job log cannot be rebuilt."""
    job = manager.add("diffusion", {"total_iters": 50, "unet_dims": [16, 32]}, name="small", preset="mine")
    assert job.config["total_iters"] == 50 and job.config["lr"] == 1e-4
    assert (job.state, job.lane, job.total_steps, job.step_name) == (JobState.queued, "gpu", 50, "iteration")
    written = spec(manager, job.id)
    assert written.config == job.config
    assert (written.id, written.kind, written.name, written.lane, written.preset) == (
        1,
        "diffusion",
        "small",
        "gpu",
        "mine",
    )
    assert written.code_version


@pytest.mark.parametrize(
    ("kind", "values", "lane", "name"),
    [
        ("diffusion", {}, "gpu", "diffusion PegInsertionSide-v1"),
        ("evaluate", {"ckpt": "/data/000001-peg/best.pt"}, "gpu", "evaluate 000001-peg/best"),
        ("demos", {"env_id": "PickCube-v1"}, "cpu", "demos PickCube-v1"),
        ("command", {"command": "python   train.py"}, "cpu", "python train.py"),
    ],
)
def test_lane_and_name_come_from_the_kind(
    manager: Manager, kind: str, values: dict[str, object], lane: str, name: str
) -> None:
    job = manager.add(kind, values)
    assert (job.lane, job.name) == (lane, name)
    assert manager.add(kind, values, lane="cpu", name="mine").lane == "cpu"


@pytest.mark.parametrize(
    ("kind", "values", "line"),
    [
        ("diffuson", {}, 'unknown job kind "diffuson": did you mean "diffusion"?'),
        ("diffusion", {"batchsize": 3}, 'diffusion has no setting "batchsize": did you mean "batch_size"?'),
        ("diffusion", {"unet_dims": [10]}, "unet_dims [10] must be positive and divisible by n_groups 8"),
        ("command", {}, 'command needs "command"'),
    ],
)
def test_bad_values_are_one_clear_line_and_no_job(
    manager: Manager, kind: str, values: dict[str, object], line: str
) -> None:
    with pytest.raises(PidecError) as error:
        manager.add(kind, values)
    assert line in error.value.line() and "\n" not in error.value.line()
    assert manager.jobs() == []
    assert list(manager.workspace.runs.iterdir()) == []


def test_a_name_is_one_line_without_control_characters(manager: Manager) -> None:
    """Lost without it: a name that a terminal obeys, in every list."""
    assert manager.add("diffusion", {}, name=" peg\n\x1b[31mred\tα ").name == "peg [31mred α"
    assert manager.add("diffusion", {}, name="\x1b").name == "diffusion PegInsertionSide-v1"


def test_relative_paths_become_absolute_where_the_file_is(manager: Manager, tmp_path: Path) -> None:
    """Lost without it: a job that finds its demos only if the runner happens to stand in the right folder."""
    here = tmp_path / "here"
    (here / "demos").mkdir(parents=True)
    (here / "demos" / "a.h5").touch()
    (manager.workspace.root / "demos").mkdir()
    (manager.workspace.root / "demos" / "b.h5").touch()

    def demo_path(value: str) -> str:
        return str(manager.add("diffusion", {"demo_path": value}, cwd=here).config["demo_path"])

    assert demo_path("demos/a.h5") == str(here / "demos" / "a.h5")
    assert demo_path("demos/b.h5") == str(manager.workspace.root / "demos" / "b.h5")
    assert demo_path("demos/../x.h5") == str(here / "x.h5")
    assert demo_path("bundled:push.h5") == "bundled:push.h5"
    assert demo_path("/data/c.h5") == "/data/c.h5"
    default = manager.add("diffusion", {}, cwd=here).config["demo_path"]
    assert default == str(manager.workspace.root / "demos" / "PegInsertionSide-v1.h5"), "a default's is the workspace's"


def test_after_and_references_make_a_job_wait(manager: Manager) -> None:
    """Lost without it: an evaluation that starts before the training it is about."""
    first, second = command(manager, "true"), command(manager, "true")
    third = manager.add("evaluate", {"ckpt": f"@{first.id}/best"}, after=[second.id])
    assert third.after == (1, 2)
    assert third.config["ckpt"] == "@1/best"
    assert manager.job(third.id).waiting_for == "jobs 1 and 2"
    put(manager, first.id, JobState.succeeded)
    assert command(manager, "true", after=[first.id, second.id]).waiting_for.startswith("job 2")
    with pytest.raises(PidecError, match=r"there is no job 99.*The nearest is job"):
        command(manager, "true", after=[99])


@pytest.mark.parametrize(("state", "word"), [(JobState.failed, "failed"), (JobState.cancelled, "was cancelled")])
def test_a_job_behind_a_failed_one_is_held_with_the_reason(manager: Manager, state: JobState, word: str) -> None:
    first = command(manager, "true")
    put(manager, first.id, state)
    second = command(manager, "true", after=[first.id])
    assert second.state is JobState.held
    assert second.reason == f"job 1, which it comes after, {word}"
    with pytest.raises(PidecError, match="Retry that job first"):
        manager.release(second.id)
    manager.retry(first.id)
    assert manager.release(second.id).state is JobState.queued


def test_cancelling_a_queued_job_holds_those_behind_it(manager: Manager) -> None:
    first = command(manager, "true")
    second = command(manager, "true", after=[first.id])
    assert manager.cancel(first.id).state is JobState.cancelled
    assert manager.job(second.id).state is JobState.held
    assert spec(manager, first.id).cancelled


def test_move_puts_a_job_where_it_was_asked_to(manager: Manager) -> None:
    """Lost without it: shift+up that moves the wrong job, or stops working after fifty times."""
    for _ in range(4):
        command(manager, "true")

    def order() -> list[int]:
        return [job.id for job in manager.jobs()]

    manager.move(4, 1)
    assert order() == [4, 1, 2, 3]
    manager.move(4, 3)
    assert order() == [1, 2, 4, 3]
    manager.move(1, 99)
    assert order() == [2, 4, 3, 1]
    for _ in range(60):  # the gap between two neighbours halves each time
        manager.move(order()[1], 1)
    assert sorted(order()) == [1, 2, 3, 4]
    first, second, *rest = order()
    manager.move(second, 1)
    assert order() == [second, first, *rest]
    by_spec = sorted(order(), key=lambda job_id: spec(manager, job_id).position)
    assert by_spec == order(), "a rebuild keeps the order"
    with pytest.raises(PidecError, match="1 is the next one"):
        manager.move(1, 0)


def test_hold_and_release(manager: Manager) -> None:
    job = command(manager, "true", held=True)
    assert job.state is JobState.held and spec(manager, job.id).held
    assert manager.release(job.id).state is JobState.queued and not spec(manager, job.id).held
    assert manager.hold(job.id).state is JobState.held
    assert manager.hold(job.id).state is JobState.held, "twice is no error"


def test_what_computes_on_the_cpu_waits_for_no_gpu(manager: Manager) -> None:
    """Lost: an hour, for a small run on the CPU that stands behind a long one on the GPU."""
    own, usual, said = (
        manager.add("diffusion", values, lane=lane)
        for values, lane in (({"device": "cpu"}, None), ({}, None), ({"device": "cpu"}, "gpu"))
    )
    assert [job.lane for job in (own, usual, said)] == ["cpu", "gpu", "gpu"]
    assert manager.edit(usual.id, {"device": "cpu"}).lane == "cpu"
    assert manager.edit(usual.id, {"device": "auto"}).lane == "gpu"
    assert manager.edit(said.id, {"seed": 2}).lane == "gpu", "what was asked for stays"


def test_another_device_in_a_clone_or_of_a_preset_goes_to_its_own_lane(manager: Manager) -> None:
    """Lost: the GPU, for a quickstart that was cloned with `device cuda`: the cpu lane hides it, and the job fails."""
    (quick,) = manager.add_preset_jobs("quickstart")
    assert [job.lane for job in manager.clone(quick.id, {})] == ["cpu"]
    assert [job.lane for job in manager.clone(quick.id, {"device": "cuda"})] == ["gpu"]
    assert [job.lane for job in manager.add_preset_jobs("quickstart", {"device": "cuda"})] == ["gpu"]
    said = manager.add("diffusion", {}, lane="cpu")
    assert [job.lane for job in manager.clone(said.id, {"device": "cuda"})] == ["cpu"], "what was asked for stays"


def test_edit_checks_the_whole_config_and_only_waiting_jobs(manager: Manager) -> None:
    job = manager.add("diffusion", {"num_demo_traj": 5})
    assert manager.edit(job.id, {"lr": 0.5, "total_iters": 7}).total_steps == 7
    assert manager.edit(job.id, {"num_demo_traj": ""}).config["num_demo_traj"] is None, "a cleared field of a form"
    assert spec(manager, job.id).config["lr"] == 0.5
    with pytest.raises(PidecError, match="pred_horizon"):
        manager.edit(job.id, {"act_horizon": 99})
    assert manager.job(job.id).config["act_horizon"] == 4
    put(manager, job.id, JobState.running)
    for change in (lambda: manager.edit(1, {"lr": 1}), lambda: manager.move(1, 1), lambda: manager.hold(1)):
        with pytest.raises(PidecError, match="job 1 is running: only a queued or held job"):
            change()


def test_only_failed_and_cancelled_jobs_are_retried(manager: Manager) -> None:
    job = command(manager, "true")
    for state in (JobState.queued, JobState.held, JobState.running, JobState.succeeded):
        put(manager, job.id, state)
        with pytest.raises(PidecError, match=f"job 1 is {state}, it cannot be retried"):
            manager.retry(job.id)
    put(manager, job.id, JobState.failed)
    assert manager.retry(job.id, fresh=True).state is JobState.queued
    assert spec(manager, job.id).fresh
    with pytest.raises(PidecError, match="job 1 is over already"):
        put(manager, job.id, JobState.succeeded)
        manager.cancel(job.id)


def test_the_list_has_active_jobs_first_then_the_queue_then_the_newest_that_ended(manager: Manager) -> None:
    for _ in range(5):
        command(manager, "true")
    log = JobLog(manager.places.db)
    with log.write():
        for job_id, state, ended in ((1, "succeeded", 10.0), (2, "failed", 20.0), (5, "running", None)):
            log.update_job(job_id, state=state, ended=ended, started=1.0)
    log.close()
    manager.hold(3)
    assert [job.id for job in manager.jobs()] == [5, 3, 4, 2, 1]


def test_a_queued_job_without_a_runner_says_so(manager: Manager) -> None:
    """Lost without it: a queue that stands still for no reason that one can see."""
    command(manager, "true")
    assert manager.jobs()[0].waiting_for == NO_RUNNER
    assert manager.job(1).waiting_for == NO_RUNNER


def test_secrets_are_never_stored(manager: Manager) -> None:
    """Lost without it: a W&B key in a folder that people share and back up."""
    shell = {
        "PATH": "/bin", "HOME": "/home/u", "EDITOR": "vi", "VIRTUAL_ENV": "/v", "CUDA_HOME": "/c", "PIDEC_X": "1",
        "PYTHONPATH": "/p", "WANDB_API_KEY": "s3cret", "hf_token": "s3cret", "DB_PASSWORD": "s3cret",
        "AWS_SECRET_ACCESS": "s3cret", "PIDEC_ATTEMPT_TOKEN": "s3cret", "HTTPS_PROXY": "http://me:s3cret@proxy:1/",
        "PIDEC_RUN_DIR": "/other/job", "SHLVL": "2", "_": "/bin/x", "GH_PAT": "s3cret", "SENTRY_DSN": "s3cret",
        "PIP_INDEX_URL": "https://s3cret@pypi.example/", "NPM_AUTH": "s3cret", "PG_PWD": "s3cret", "SSHPASS": "s3cret",
        "SSH_AUTH_SOCK": "/tmp/agent", "REPO": "ssh://git@example/repo",
    }  # fmt: skip
    manager.add("command", {"command": "true"}, environ=shell)
    manager.add("diffusion", {}, environ=shell)
    assert spec(manager, 1).environment == {
        name: shell[name]
        for name in (
            "PATH", "HOME", "EDITOR", "VIRTUAL_ENV", "CUDA_HOME", "PIDEC_X", "PYTHONPATH", "SSH_AUTH_SOCK", "REPO",
        )
    }  # fmt: skip
    assert set(spec(manager, 2).environment) == {"PATH", "VIRTUAL_ENV", "CUDA_HOME", "PIDEC_X", "PYTHONPATH"}
    for path in [*manager.workspace.jobs.rglob("spec.json"), *manager.state_dir.glob("jobs.db*")]:
        assert b"s3cret" not in path.read_bytes(), path


def test_a_job_runs_in_its_own_shell_with_the_keys_of_the_runner(tmp_path: Path) -> None:
    """Lost without it: a command that finds another Python, or a tracked run without its key."""
    runner = {"PATH": "/runner", "LANG": "C", "CUDA_VISIBLE_DEVICES": "7", "WANDB_API_KEY": "k", "PIDEC_RUN_DIR": "/x"}
    stored = {"PATH": "/added", "EDITOR": "vi"}
    places = {"token": "t", "run_dir": tmp_path / "run", "workspace": tmp_path}
    ours = {"PIDEC_ATTEMPT_TOKEN": "t", "PIDEC_RUN_DIR": str(tmp_path / "run"), "PIDEC_WORKSPACE": str(tmp_path)}
    got = environment.for_attempt("command", stored, runner, **places)  # type: ignore[arg-type]
    assert got == {"PATH": "/added", "EDITOR": "vi", "WANDB_API_KEY": "k", **ours}
    got = environment.for_attempt("diffusion", {"PATH": "/added"}, runner, **places)  # type: ignore[arg-type]
    assert got == {"PATH": "/added", "LANG": "C", "WANDB_API_KEY": "k", **ours}


def test_a_missing_wandb_key_is_a_warning(tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    where = {"NETRC": str(netrc)}
    assert "WANDB_API_KEY" in environment.missing_keys({"track": True}, where)
    assert environment.missing_keys({"track": False}, where) == ""
    assert environment.missing_keys({"track": True}, {**where, "WANDB_API_KEY": "k"}) == ""
    netrc.write_text("machine api.wandb.ai login user password k")
    assert environment.missing_keys({"track": True}, where) == ""


def test_a_workspace_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PidecError, match=r"cannot be written: .*/file is a file.*--workspace DIR"):
        Manager.open(tmp_path / "file" / "ws")


def test_specs_are_readable_json(manager: Manager) -> None:
    command(manager, "echo 'ü'")
    assert json.loads(manager.workspace.run(1).spec.read_text())["config"] == {"command": "echo 'ü'"}
