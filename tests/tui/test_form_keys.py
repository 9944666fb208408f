"""New jobs, the form and edits, by key presses over a real job log."""

from __future__ import annotations

import pytest
from textual.widgets import Input, Static

from pidec_tui.manager.jobs import JobState
from pidec_tui.screens.form import FormScreen
from pidec_tui.screens.main import MainScreen
from pidec_tui.screens.new_job import NewJobScreen
from tests.tui.pressing import board_of, field, go, keys, notices
from tests.tui.scene import Scene, app_of, busy, pressed, settled


@keys("queue.new", "new.queue")
async def test_n_then_enter_queues_the_quickstarts(scene: Scene) -> None:
    """Lost: the first thing that a newcomer is told to press."""
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert pilot.app.screen.has_class("-empty")
        await pilot.press("n")
        await pilot.pause()
        assert isinstance(pilot.app.screen, NewJobScreen)
        assert "Queues two jobs: quickstart, then this one" in str(pilot.app.screen.query_one("#preset-notes").render())
        await pressed(pilot, "enter")
        assert isinstance(pilot.app.screen, MainScreen) and not pilot.app.screen.has_class("-empty")
        assert board_of(pilot).selected == 1 and "job 1, quickstart, then job 2, decorator-quickstart" in notices(pilot)
    base, decorated = scene.manager.jobs()
    assert (base.preset, base.lane, base.state) == ("quickstart", "cpu", JobState.queued)
    assert (decorated.preset, decorated.after) == ("decorator-quickstart", (1,))


@pytest.mark.parametrize("looked_away", [False, True])
async def test_the_cursor_goes_on_to_the_second_of_two_jobs(scene: Scene, looked_away: bool) -> None:
    """Lost: a newcomer who looks at a finished base policy while the decorated one climbs; or a cursor that jumps away
    from what somebody reads."""
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pressed(pilot, "n", "enter")
        base, decorated = scene.manager.jobs()
        scene.start(base, ago=9)
        other = scene.add("command", {"command": "true"}, name="other")
        await settled(pilot)
        assert board_of(pilot).selected == base.id
        if looked_away:
            await go(pilot, other.id)
        scene.end(base, JobState.succeeded, ago=1)
        await settled(pilot)
        assert board_of(pilot).selected != decorated.id
        scene.start(decorated, ago=0)
        await settled(pilot)
        assert board_of(pilot).selected == (other.id if looked_away else decorated.id)
        await go(pilot, base.id)
        scene.write(decorated, [{"time": 1.0, "step": 1, "metrics": {"train/qf_loss": 1.0}}])
        await settled(pilot)
        assert board_of(pilot).selected == base.id, "it goes on once"


async def test_the_form_of_a_preset_that_comes_after_another_one(scene: Scene) -> None:
    """Lost: changing the decorator of the first start; or a base policy that is trained although one is given."""
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("n", "e")
        await pilot.pause()
        row = field(pilot, "base_policy_ckpt")
        note = row.query_one(".field-note", Static)
        assert row.text == "@first/best" and "quickstart is queued first" in str(note.render())
        field(pilot, "seed").fill("5")
        await pressed(pilot, "ctrl+s")
        assert [(job.preset, job.config["seed"]) for job in scene.manager.jobs()] == [
            ("quickstart", 1),
            ("decorator-quickstart", 5),
        ]
        await pilot.press("n", "e")
        await pilot.pause()
        field(pilot, "base_policy_ckpt").fill("@1/best")
        await pilot.pause()
        assert "queued first" not in str(field(pilot, "base_policy_ckpt").query_one(".field-note").render())
        await pressed(pilot, "ctrl+s")
    assert [(job.preset, job.after) for job in scene.manager.jobs()][2:] == [("decorator-quickstart", (1,))]


async def test_a_preset_with_something_left_open_becomes_a_form(scene: Scene) -> None:
    """Lost: an error instead of the question which base policy to refine."""
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("n", "j", "j")
        await pilot.pause()
        assert "base_policy_ckpt  yours to give" in str(pilot.app.screen.query_one("#preset-notes").render())
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(pilot.app.screen, FormScreen)
        await pressed(pilot, "ctrl+s")
        assert isinstance(pilot.app.screen, FormScreen) and not scene.manager.jobs()
        field(pilot, "base_policy_ckpt").fill("base.pt")
        await pilot.pause()
        await pressed(pilot, "ctrl+s")
    (job,) = scene.manager.jobs()
    assert (job.preset, job.config["prog_explore"]) == ("decorator-peg", 30_000)


async def test_a_preset_with_a_mistake_is_named_and_left_out(scene: Scene) -> None:
    """Lost: an hour of looking for the preset that one has just written."""
    scene.manager.workspace.presets.mkdir(parents=True)
    (scene.manager.workspace.presets / "mine.toml").write_text('title = "x"\nkind = "difusion"\n')
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("n")
        await pilot.pause()
        assert "mine.toml" in notices(pilot) and '"diffusion"' in notices(pilot)
        await pressed(pilot, "j", "enter")
    assert [job.preset for job in scene.manager.jobs()] == ["quickstart"]


@keys("new.form", "form.queue", "new.back", "form.back")
async def test_e_changes_a_preset_before_it_is_queued(scene: Scene, presets: None) -> None:
    """Lost: every job that is not exactly a preset."""
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("n", "e")
        await pilot.pause()
        assert isinstance(pilot.app.screen, FormScreen)
        field(pilot, "total_iters").fill("3k")
        await pilot.pause()
        assert "--total-iters 3000" in str(pilot.app.screen.query_one("#command-line").render())
        await pressed(pilot, "ctrl+s")
        (job,) = scene.manager.jobs()
        assert job.config["total_iters"] == 3000 and job.config["batch_size"] == 128 and job.preset == "quickstart"
        assert board_of(pilot).selected == job.id
        await pilot.press("n", "e", "escape")
        await pilot.pause()
        assert isinstance(pilot.app.screen, MainScreen)
        await pilot.press("n", "escape")
        await pilot.pause()
        assert isinstance(pilot.app.screen, MainScreen) and len(scene.manager.jobs()) == 1


async def test_the_form_refuses_what_is_wrong_and_says_where(scene: Scene, presets: None) -> None:
    """Lost: a job that is refused only when its turn comes, at night."""
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("n", "e")
        await pilot.pause()
        row = field(pilot, "unet_dims")
        row.fill("30 64")
        await pilot.pause()
        await pressed(pilot, "ctrl+s")
        assert isinstance(pilot.app.screen, FormScreen) and not scene.manager.jobs()
        assert "divisible by n_groups" in str(pilot.app.screen.query_one("#command-line").render())
        row.fill("32 64")
        field(pilot, "batch_size").fill("many")
        await pilot.pause()
        assert field(pilot, "batch_size").has_class("-wrong")


async def test_a_value_that_costs_hours_gets_a_hint(scene: Scene, presets: None) -> None:
    """Lost: a thousand evaluations, noticed the next day."""
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("n", "j", "j", "e")
        await pilot.pause()
        assert not field(pilot, "eval_freq").has_class("-costly")
        field(pilot, "eval_freq").fill("1000")
        await pilot.pause()
        assert field(pilot, "eval_freq").has_class("-costly") and field(pilot, "eval_freq").display


@keys("form.next", "form.previous", "form.path", "form.unfold")
async def test_moving_and_completing_in_the_form(scene: Scene, presets: None) -> None:
    """Lost: a form without a mouse."""
    (scene.manager.workspace.root / "own.h5").write_bytes(b"")
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("n", "e", "down")
        await pilot.pause()
        row = field(pilot, "demo_path")
        assert row.has_keyboard()
        await pilot.press("ctrl+n")
        await pilot.pause()
        assert row.text == row.suggestions[0] == "own.h5"
        await pilot.press("up")
        assert field(pilot, "env_id").has_keyboard()
        await pilot.press("ctrl+o")
        await pilot.pause()
        assert pilot.app.screen.query_one("#fields").max_scroll_y > 0  # more fields than the screen has lines
        await pilot.press("down")
        assert row.has_keyboard()
        await pilot.press("up", "ctrl+o")
        assert field(pilot, "env_id").has_keyboard()
        assert not field(pilot, "n_groups").display
        await pilot.press("ctrl+o")
        await pilot.pause()
        assert field(pilot, "n_groups").display
        await pilot.press("ctrl+o")
        pilot.app.screen.query_one("#filter", Input).value = "groups"
        await pilot.pause()
        assert field(pilot, "n_groups").display and not field(pilot, "track").display
        pilot.app.screen.query_one("#filter", Input).focus()
        pilot.app.screen.query_one("#filter", Input).value = "seed=1..3"
        await pilot.pause()
        said = str(pilot.app.screen.query_one("#form-help").render())
        assert said == 'No setting is called "seed=1..3": values are typed into its own line.'
        pilot.app.screen.query_one("#filter", Input).value = "seed"
        await pilot.pause()
        assert str(pilot.app.screen.query_one("#form-help").render()) == ""


@keys("form.choose", "form.choose-back")
async def test_space_and_arrows_choose_among_texts(scene: Scene, presets: None) -> None:
    """Lost: fields with a few allowed values."""
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("n", "e")
        await pilot.pause()
        row = field(pilot, "device")
        row.edit()
        seen = [row.text]
        for key in ("space", "right", "left"):
            await pilot.press(key)
            await pilot.pause()
            seen.append(row.text)
        assert seen == ["cpu", "cuda", "auto", "cuda"]


async def test_enter_on_a_checkpoint_evaluates_it(scene: Scene) -> None:
    """Lost: the way from a checkpoint to its success rate."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, 3)
        await pressed(pilot, "tab", "j")
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(pilot.app.screen, FormScreen)
        assert field(pilot, "ckpt").text.endswith("step-000500000.pt")
        await pressed(pilot, "ctrl+s")
        assert any(job.kind == "evaluate" and job.config["ckpt"].endswith("500000.pt") for job in scene.manager.jobs())


@keys("job.edit")
async def test_e_edits_a_waiting_job(scene: Scene) -> None:
    """Lost: cancel and type it all again."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, 4)
        await pilot.press("e")
        await pilot.pause()
        field(pilot, "batch_size").fill("2048")
        await pilot.pause()
        await pressed(pilot, "ctrl+s")
        assert scene.manager.job(4).config["batch_size"] == 2048
        await go(pilot, 3)
        await pressed(pilot, "e")
        assert isinstance(pilot.app.screen, MainScreen) and "only a queued or held job" in notices(pilot)


@keys("form.unfold")
async def test_a_missing_file_is_said_and_all_means_all(scene: Scene, presets: None) -> None:
    """Lost: an hour in the queue, for a path with a typing error; and ctrl+o that seems to do nothing while one looks
    for a setting."""
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("n", "e")
        await settled(pilot)
        demos = field(pilot, "demo_path")
        note = demos.query_one(".field-note", Static)
        assert not str(note.render())
        demos.fill("demos/[nowhere].h5")
        await settled(pilot)
        assert "no such file" in str(note.render()) and not demos.has_class("-wrong")
        there = scene.manager.workspace.root / "demos" / "[nowhere].h5"
        there.parent.mkdir()
        there.touch()
        demos.fill("demos/[nowhere].h5 ")
        await settled(pilot)
        assert not str(note.render())
        look = pilot.app.screen.query_one("#filter", Input)
        look.focus()
        await pilot.press(*"unet")
        await settled(pilot)
        assert field(pilot, "unet_dims").display and not field(pilot, "warmup_steps").display
        await pilot.press("ctrl+o")
        await settled(pilot)
        assert look.value == "" and field(pilot, "warmup_steps").display
        await pilot.press("ctrl+o")
        await settled(pilot)
        assert not field(pilot, "warmup_steps").display


@pytest.mark.parametrize("text", ["9" * 400 + "k", "1e999", "-5M", "٣k", "½"])
async def test_no_number_closes_the_form(scene: Scene, presets: None, text: str) -> None:
    """Lost: all that was typed, to one key too many."""
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("n", "e")
        await settled(pilot)
        for name in ("total_iters", "lr", "unet_dims", "after"):
            field(pilot, name).fill(text)
        await settled(pilot)
        assert field(pilot, "after").has_class("-wrong")
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert isinstance(pilot.app.screen, FormScreen)
