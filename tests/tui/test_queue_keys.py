"""What the job manager can do beyond the usual, by key: clones, sweeps, groups, extensions, the runner, reports."""

from __future__ import annotations

import pytest

from pidec_tui.forms import form_fields, whole_number
from pidec_tui.formsweep import axes_of, combinations_of
from pidec_tui.manager.jobs import JobState
from pidec_tui.manager.presets import load_preset
from pidec_tui.screens.form import FormScreen
from pidec_tui.screens.main import MainScreen
from pidec_tui.screens.number import NumberScreen
from pidec_tui.screens.question import Question
from tests.tui.pressing import board_of, field, go, keys, notices
from tests.tui.scene import DIFFUSION, Scene, app_of, busy, pressed, settled

SIZE = (120, 40)


def asked(pilot: object) -> str:
    screen = pilot.app.screen  # type: ignore[attr-defined]
    assert isinstance(screen, Question)
    return screen._text


@keys("job.clone")
async def test_a_clone_with_several_values_is_a_group(scene: Scene) -> None:
    """Lost: the run that was good, once for each seed, without a command line."""
    busy(scene)
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, 3)
        await pressed(pilot, "C")
        assert isinstance(pilot.app.screen, FormScreen)
        field(pilot, "seed").fill("1..3")
        await pilot.pause()
        line = str(pilot.app.screen.query_one("#command-line").render())
        assert "3 jobs, a group: seed 1, 2, 3" in line and "= 3 values, a job for each: 1, 2 and 3" in str(
            field(pilot, "seed").query_one(".field-note").render()
        )
        await pressed(pilot, "ctrl+s")
        made = [job for job in scene.manager.jobs() if job.group_name]
        assert sorted(job.config["seed"] for job in made) == [1, 2, 3]
        assert {job.config["total_iters"] for job in made} == {1_000_000}
        assert {job.group_name for job in made} == {"diffusion-peg"}


async def test_a_wrong_value_among_several_is_named(scene: Scene) -> None:
    """Lost: a night of jobs that all refuse their setting."""
    busy(scene)
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, 3)
        await pressed(pilot, "C")
        field(pilot, "lr").fill("1e-4,-3e-4")
        await pilot.pause()
        assert "-3e-4:" in str(field(pilot, "lr").query_one(".field-note").render())
        before = len(scene.manager.jobs())
        await pressed(pilot, "ctrl+s")
        assert isinstance(pilot.app.screen, FormScreen) and len(scene.manager.jobs()) == before


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("seed", "1..3", ["1", "2", "3"]),
        ("lr", "1e-4,3e-4", ["1e-4", "3e-4"]),
        ("total_iters", "1,000,000", None),
        ("total_iters", "1,500,000", None),
        ("total_iters", "100,000, 200,000", ["100,000", "200,000"]),
        ("total_iters", "1,000,000,2,000,000", ["1,000,000", "2,000,000"]),
        ("total_iters", "300k,1,000,000", ["300k", "1,000,000"]),
        ("batch_size", "128,256", ["128", "256"]),
        ("total_iters", "300k, 1M", ["300k", "1M"]),
        ("unet_dims", "16,32", None),
        ("unet_dims", "[16,32],[64,128]", ["[16,32]", "[64,128]"]),
        ("env_id", "PushCube-v1", None),
    ],
)
def test_what_counts_as_several_values(name: str, text: str, values: list[str] | None) -> None:
    """Lost: a million iterations, taken for three jobs; or three jobs taken for one number."""
    fields = form_fields("diffusion")
    texts = {each.name: each.default or "" for each in fields} | {name: text}
    axes, errors = axes_of(fields, texts, {})
    assert axes == ({name: values} if values else {}) and not errors
    assert len(combinations_of(fields, axes)) == len(values or ())


def test_too_many_jobs_and_values_twice_are_refused() -> None:
    """Lost: ten thousand jobs by two slips of a finger."""
    fields = form_fields("diffusion")
    texts = {each.name: each.default or "" for each in fields}
    assert "400 jobs; the most are 200" in axes_of(fields, texts | {"seed": "1..20", "batch_size": "1..20"}, {})[1][""]
    assert "is there twice" in axes_of(fields, texts | {"seed": "1,1"}, {})[1]["seed"]
    assert "a value is missing" in axes_of(fields, texts | {"seed": "1,,2"}, {})[1]["seed"]
    twice = axes_of(fields, texts | {"total_iters": "100,000, 100,000"}, {})[1]["total_iters"]
    assert "is there twice" in twice
    texts_of_numbers = ("300k", "1,000,000", "1,500,000", "x", "", "100,000,200,000", "1,2")
    assert [whole_number(text) for text in texts_of_numbers] == [300_000, 1_000_000, 1_500_000, None, None, None, None]


@keys("group.cancel", "group.hold", "group.retry")
async def test_a_group_is_held_released_cancelled_and_retried_as_one(scene: Scene) -> None:
    """Lost: a sweep that takes a key for each of its jobs; or one that goes without a question."""
    jobs = [scene.add("diffusion", {**DIFFUSION, "seed": n}, name=f"peg seed={n}", group="peg") for n in (1, 2, 3)]
    scene.add("command", {"command": "true"}, name="alone")
    states = lambda: [scene.manager.job(job.id).state.value for job in jobs]  # noqa: E731
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, 2)
        await pressed(pilot, "H")
        assert asked(pilot) == 'Hold 3 jobs of group "peg", queued 2 h 00 ago?'
        await pressed(pilot, "y")
        assert states() == ["held"] * 3
        await pressed(pilot, "H")
        assert asked(pilot).startswith("Release 3 jobs")
        await pressed(pilot, "y")
        assert states() == ["queued"] * 3
        scene.start(scene.manager.job(1), ago=60)
        await settled(pilot)
        await pressed(pilot, "X")
        assert asked(pilot) == 'Cancel 3 jobs of group "peg", queued 2 h 00 ago, 1 of them running?'
        await pressed(pilot, "n")
        assert states()[1:] == ["queued"] * 2
        await pressed(pilot, "X", "y")
        assert states() == ["stopping", "cancelled", "cancelled"]
        await pressed(pilot, "R", "y")
        assert states() == ["stopping", "queued", "queued"]
        await go(pilot, 4)
        await pressed(pilot, "X")
        assert isinstance(pilot.app.screen, MainScreen) and "job 4 is in no group" in notices(pilot).lower()


async def test_what_cannot_be_is_said_before_one_types(scene: Scene) -> None:
    """Lost: a number that was typed for a job that has no such end; and an hour, for "next" was said of a held job."""
    job = scene.add("demos", {"num_demos": 10, "out": "demos/x.h5"}, name="x")
    scene.start(job, ago=100)
    scene.end(job, JobState.succeeded, ago=10)
    held = scene.add("diffusion", DIFFUSION, name="y", held=True)
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, job.id)
        await pressed(pilot, "E")
        assert isinstance(pilot.app.screen, MainScreen) and "its kind is demos" in notices(pilot)
        await go(pilot, held.id)
        await pressed(pilot, "T")
        assert f"Job {held.id} is the next one, once it is released" in notices(pilot)


@keys("job.fresh", "job.extend", "job.top", "number.take", "number.leave")
async def test_from_nothing_longer_and_first(scene: Scene) -> None:
    """Lost: three things that only the command line could do."""
    busy(scene)
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, 2)
        await pressed(pilot, "f")
        assert "Start job 2, diffusion-peg-b4096, failed 13 h 20 ago at step 70,000, from nothing?" in asked(pilot)
        await pressed(pilot, "n")
        assert scene.manager.job(2).state is JobState.failed
        await pressed(pilot, "E")
        assert isinstance(pilot.app.screen, NumberScreen)
        await pressed(pilot, "escape", "E", *"2x", "enter")
        assert isinstance(pilot.app.screen, NumberScreen) and "no whole number" in notices(pilot)
        await pressed(pilot, "backspace", "M", "enter")
        job = scene.manager.job(2)
        assert (job.state, job.config["extend_to"]) == (JobState.queued, 2_000_000)
        await pressed(pilot, "T")
        assert next(job.id for job in scene.manager.jobs() if job.state is JobState.queued) == 2
        await pressed(pilot, "E", "f")
        assert isinstance(pilot.app.screen, MainScreen) and "only a job that is over" in notices(pilot)
        await pressed(pilot, "c", "y", "f", "y")
        assert scene.log.columns(2, "fresh") == (1,)


@keys("queue.runner", "job.report")
async def test_the_runner_and_a_report(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: a box that is to be rebooted, whose queue starts one more job; a page for those who have no terminal."""
    busy(scene)
    done: list[str] = []
    monkeypatch.setattr("pidec_tui.manager.control.stop_runner", lambda places: done.append("stop") or True)
    monkeypatch.setattr("pidec_tui.manager.control.ensure_runner", lambda places: done.append("start") or 4001)
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, 3)
        await pressed(pilot, "exclamation_mark")
        assert "Stop the runner, process 4001? What runs now (1 job) goes on; nothing" in asked(pilot)
        await pressed(pilot, "y")
        assert done == ["stop"] and not pilot.app.feed._start_runner  # type: ignore[attr-defined]
        board_of(pilot).runner_pid = None
        monkeypatch.setattr("pidec_tui.manager.control.runner_pid", lambda places: None)
        await pressed(pilot, "exclamation_mark")
        assert done[:2] == ["stop", "start"]
        await pressed(pilot, "P")
        page = scene.manager.workspace.jobs / "reports" / "000003.html"
        assert "diffusion-peg" in page.read_text() and str(page) in notices(pilot)


@keys("form.preset")
async def test_a_form_is_kept_as_a_preset(scene: Scene, presets: None) -> None:
    """Lost: settings that took an hour to find, gone with the form."""
    busy(scene)
    async with app_of(scene).run_test(size=SIZE) as pilot:
        await go(pilot, 4)
        await pressed(pilot, "C", "ctrl+t")
        assert "needs a name" in notices(pilot)
        field(pilot, "name").fill("my-peg")
        field(pilot, "lr").fill("3e-4")
        await pressed(pilot, "ctrl+t")
        kept = load_preset(scene.manager.workspace, "my-peg")
        assert (kept.kind, kept.config["lr"], kept.config["seed"]) == ("diffusion", 3e-4, 2)
        field(pilot, "lr").fill("5e-4")
        await pressed(pilot, "ctrl+t")
        assert "Write over it?" in asked(pilot)
        await pressed(pilot, "n")
        assert load_preset(scene.manager.workspace, "my-peg").config["lr"] == 3e-4
        await pressed(pilot, "ctrl+t", "y")
        assert load_preset(scene.manager.workspace, "my-peg").config["lr"] == 5e-4
