"""Every key, pressed in the real dashboard over a real job log. The last test counts that none was left out."""

from __future__ import annotations

import importlib
import inspect
import io
from pathlib import Path

import pytest
from rich.console import Console
from textual import events
from textual.keys import key_to_character

import pidec_tui
from pidec_tui.app import PidecApp
from pidec_tui.charts.view import ChartView
from pidec_tui.manager.jobs import JobState
from pidec_tui.screens.detail import DetailScreen
from pidec_tui.screens.form import FormScreen
from pidec_tui.screens.help import HelpScreen
from pidec_tui.screens.main import MainScreen
from pidec_tui.screens.question import Question
from pidec_tui.widgets.checkpoints import CheckpointTable
from pidec_tui.widgets.queue import QueueTable
from pidec_tui.widgets.stack import ChartStack
from tests.tui.pressing import PRESSED, board_of, field, go, keys, notices, queue_of
from tests.tui.scene import NOW, Scene, app_of, busy, pressed, settled


@keys("job.open", "view.back")
async def test_enter_opens_the_job_and_esc_comes_back(scene: Scene) -> None:
    """Lost: the job's own screen."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, 3)
        await pressed(pilot, "enter")
        assert isinstance(pilot.app.screen, DetailScreen)
        config = pilot.app.screen.query_one("#config")
        assert config.size.height > 20 and pilot.app.screen.query_one("#chart0").size.height > 5
        await pressed(pilot, "escape")
        assert isinstance(pilot.app.screen, MainScreen)


async def test_a_click_selects_a_job_and_another_one_opens_it(scene: Scene) -> None:
    """Lost: looking at a job beside the queue with the mouse: the first click took the whole screen away."""
    busy(scene)
    async with app_of(scene).run_test(size=(160, 45)) as pilot:
        await go(pilot, 3)
        board = board_of(pilot)
        await pilot.click(QueueTable, offset=(10, 5))
        await settled(pilot)
        assert isinstance(pilot.app.screen, MainScreen) and board.selected != 3 and not board.follow
        chosen = board.selected
        await pilot.click(QueueTable, offset=(10, 5))
        await settled(pilot)
        assert isinstance(pilot.app.screen, DetailScreen) and board.selected == chosen


@keys("job.cancel", "question.yes", "question.no")
async def test_c_asks_by_name_and_age_before_it_cancels(scene: Scene) -> None:
    """Lost: eleven hours of training, by one key."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, 4)
        await pilot.press("c")
        await pilot.pause()
        assert isinstance(pilot.app.screen, Question)
        assert "job 4, diffusion-peg-seed2, waiting for 10 h 00" in pilot.app.screen._text
        await pressed(pilot, "n")
        assert scene.manager.job(4).state is JobState.queued
        await pressed(pilot, "c", "y")
        assert scene.manager.job(4).state is JobState.cancelled
        await go(pilot, 1)
        await pressed(pilot, "c")
        assert isinstance(pilot.app.screen, MainScreen) and "over already" in notices(pilot)


@keys("job.retry")
async def test_r_queues_a_failed_job_again_and_says_why_not_otherwise(scene: Scene) -> None:
    """Lost: the second try."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, 2)
        await pressed(pilot, "r")
        assert scene.manager.job(2).state is JobState.queued
        await go(pilot, 1)
        await pressed(pilot, "r")
        assert scene.manager.job(1).state is JobState.succeeded and "job 1" in notices(pilot)


async def test_r_on_a_training_that_succeeded_names_the_command_that_lengthens_it(scene: Scene) -> None:
    """Lost: that a training which turned out too short can go on."""
    busy(scene)
    with scene.log.write():
        scene.log.set_state(2, JobState.succeeded)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, 2)
        await pressed(pilot, "r")
        assert "E lets it go on to a later step" in notices(pilot)
        assert scene.manager.job(2).state is JobState.succeeded


@keys("job.hold")
async def test_h_holds_and_releases(scene: Scene) -> None:
    """Lost: keeping a job back."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, 4)
        await pressed(pilot, "h")
        assert scene.manager.job(4).state is JobState.held
        await pressed(pilot, "h")
        assert scene.manager.job(4).state is JobState.queued
        await go(pilot, 3)
        await pressed(pilot, "h")
        assert scene.manager.job(3).state is JobState.running and "job 3" in notices(pilot)


async def test_keys_of_one_burst_are_about_the_row_they_went_to(scene: Scene) -> None:
    """Lost: the right job, to a slow line that delivers `j` and `h` at once: the job before would be held."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, 4)
        for key in "jh":  # queued in one go, before any of them is looked at
            pilot.app.post_message(events.Key(key, key))
        await settled(pilot)
        await pilot.pause(0.3)
        assert (scene.manager.job(4).state, scene.manager.job(5).state) == (JobState.queued, JobState.held)
        assert board_of(pilot).selected == 5


@keys("job.up", "job.down")
async def test_shift_and_arrows_move_a_job_and_the_cursor_goes_with_it(scene: Scene) -> None:
    """Lost: what runs next."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:

        def waiting() -> list[int]:
            return [job.id for job in scene.manager.jobs() if job.state.waiting]

        await go(pilot, 4)
        assert waiting() == [4, 5, 6]
        await pressed(pilot, "shift+down")
        assert waiting() == [5, 4, 6] and board_of(pilot).selected == 4
        assert queue_of(pilot).row_under_cursor() == "4"
        await pressed(pilot, "shift+up", "shift+up")
        assert waiting() == [4, 5, 6]
        await go(pilot, 3)
        await pressed(pilot, "shift+down")
        assert "only queued and held jobs" in notices(pilot)


@keys("list.down", "list.up", "list.first", "list.last")
async def test_j_k_g_G_move_in_every_list(scene: Scene) -> None:
    """Lost: vi's fingers."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, 3)
        seen = []
        for key in ("j", "j", "k", "G", "g"):
            await pressed(pilot, key)
            seen.append(board_of(pilot).selected)
        assert seen == [4, 5, 4, 1, 3]
        await pressed(pilot, "enter", "j", "G", "k", "g")
        assert pilot.app.screen.query_one("#facts").scroll_y == 0
        await pressed(pilot, "G")
        assert pilot.app.screen.query_one("#facts").scroll_y > 0
        await pressed(pilot, "escape")
        await pilot.press("n", "G", "k", "j", "e")
        await pilot.pause()
        assert isinstance(pilot.app.screen, FormScreen) and field(pilot, "command")


@keys("view.next", "view.previous", "view.queue")
async def test_tab_goes_round_the_panes(scene: Scene) -> None:
    """Lost: everything but the queue, on a small terminal."""
    busy(scene)
    async with app_of(scene).run_test(size=(70, 24)) as pilot:
        await go(pilot, 3)
        main = pilot.app.screen
        shown = []
        for key in ("tab", "tab", "tab", "tab", "shift+tab", "escape"):
            await pressed(pilot, key)
            shown.append([name for name in ("queue", "stack", "log", "machine") if main.query_one(f"#{name}").region])
        assert shown == [["stack"], ["log"], ["machine"], ["queue"], ["machine"], ["queue"]]
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, 3)
        await pressed(pilot, "tab")
        assert pilot.app.screen.query_one(CheckpointTable).has_focus
        await pressed(pilot, "escape")
        assert queue_of(pilot).has_focus


@keys("view.metric")
async def test_space_shows_another_metric(scene: Scene) -> None:
    """Lost: learning rate and whatever else is logged."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, 3)
        assert pilot.app.screen.query_one("#chart1", ChartView).title.startswith("loss")
        await pressed(pilot, "space")
        assert not pilot.app.screen.query_one("#chart1", ChartView).title.startswith("loss")
        await pressed(pilot, "enter", "space")
        assert pilot.app.screen.query_one(ChartStack).turn == 1


@keys("app.help", "help.close", "help.down", "help.up")
async def test_question_mark_shows_every_key_with_its_id(scene: Scene) -> None:
    """Lost: finding out what can be done."""
    busy(scene)
    async with app_of(scene).run_test(size=(100, 24)) as pilot:
        await settled(pilot)
        await pilot.press("question_mark")
        await pilot.pause()
        screen = pilot.app.screen
        assert isinstance(screen, HelpScreen)
        console = Console(width=100, record=True, file=io.StringIO())
        console.print(screen._table)
        text = console.export_text()
        for needle in ("queue.new", "job.cancel", "view.next", "list.last", "app.quit", "^p"):
            assert needle in text
        box = screen.query_one("VerticalScroll")
        await pilot.press("j", "j", "k")
        await pilot.pause()
        assert box.scroll_y == 1
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(pilot.app.screen, MainScreen)


@keys("app.redraw")
async def test_ctrl_l_draws_all_anew(scene: Scene) -> None:
    """Lost: a screen that another program has written over."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert isinstance(pilot.app, PidecApp)
        pilot.app._sent._size = (120, 40)  # as if it had been drawn: a test has no terminal
        await pilot.press("ctrl+l")
        assert pilot.app._sent._size is None


@keys("app.palette")
async def test_the_palette_goes_to_a_job_by_name(scene: Scene) -> None:
    """Lost: the one job of a hundred that one remembers by name."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, 3)
        await pilot.press("ctrl+p")
        await pilot.pause()
        await pilot.press(*"demos-peg")
        for _ in range(100):
            await pilot.pause(0.03)
            if pilot.app.screen.query("CommandList") and pilot.app.screen.query_one("CommandList").option_count:
                break
        await pilot.press("enter")
        await pilot.pause()
        await settled(pilot)
        assert board_of(pilot).selected == 1


@keys("app.quit")
async def test_q_leaves_and_the_jobs_stay(scene: Scene) -> None:
    """Lost: closing the dashboard must change nothing."""
    busy(scene)
    before = scene.manager.jobs()
    app = app_of(scene)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("q")
        await pilot.pause()
    assert app.return_code == 0 and scene.manager.jobs() == before


async def test_the_cursor_stays_on_its_job_when_the_queue_changes(scene: Scene) -> None:
    """Lost: `c` that hits another job because one above has just started."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, 5)
        scene.end(scene.manager.job(3), JobState.succeeded, ago=0)
        scene.start(scene.manager.job(4), ago=0)
        scene.add("command", {"command": "true"}, name="new")
        await settled(pilot)
        assert queue_of(pilot).row_under_cursor() == "5" and board_of(pilot).selected == 5
        assert queue_of(pilot).keys == [str(job.id) for job in scene.manager.jobs()]


async def test_the_first_jobs_of_an_empty_workspace_can_be_walked(scene: Scene) -> None:
    """Lost: `j` and `k` for a newcomer, until the dashboard is started anew."""
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        scene.add("command", {"command": "true"}, name="one")
        scene.add("command", {"command": "true"}, name="two")
        await settled(pilot)
        await pilot.pause()
        assert queue_of(pilot).has_focus and board_of(pilot).selected == 1
        await pressed(pilot, "j")
        assert board_of(pilot).selected == 2


async def test_a_refusal_is_shown_with_what_to_do(scene: Scene) -> None:
    """Lost: a key that does nothing and says nothing."""
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert isinstance(pilot.app, PidecApp)
        pilot.app.act(lambda manager: manager.job(77))
        await pressed(pilot)
        assert "no job 77" in notices(pilot)


@pytest.mark.parametrize("size", [(59, 30), (100, 17), (20, 5)])
async def test_a_terminal_that_is_too_small_is_told_so(scene: Scene, size: tuple[int, int]) -> None:
    """Lost: a heap of clipped words."""
    async with app_of(scene).run_test(size=size) as pilot:
        await pilot.pause()
        small = pilot.app.screen.query_one("#too-small")
        assert small.display and "60 x 18" in str(small.render())
        await pilot.resize_terminal(60, 18)
        await settled(pilot)
        assert not small.region and pilot.app.screen.query_one("#welcome").region


async def test_a_job_without_metrics_shows_its_log_large(scene: Scene) -> None:
    """Lost: three empty charts instead of what an own script prints."""
    job = scene.add("command", {"command": "make"}, name="make")
    scene.start(job, ago=5)
    scene.output(job, "compiling\n")
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, job.id)
        assert pilot.app.screen.query_one("#biglog").size.height > 15
        assert not pilot.app.screen.query_one("#chart0").region
        scene.write(job, [{"time": NOW + i, "step": i, "metrics": {"kl": i}} for i in range(3)])
        await settled(pilot)
        await pilot.pause()
        assert pilot.app.screen.query_one("#chart0").region and not pilot.app.screen.query_one("#biglog").region


async def test_a_mistyped_theme_is_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: a quarter of an hour, for somebody who has asked for "lite" and sees dark."""
    monkeypatch.setenv("PIDEC_THEME", "lite")
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert "PIDEC_THEME is light or dark, not lite" in notices(pilot)


async def test_both_colours(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: people with a light terminal."""
    busy(scene)
    monkeypatch.setenv("PIDEC_THEME", "light")
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert pilot.app.theme == "pidec-light"
        commands = {command.title: command.callback for command in pilot.app.get_system_commands(pilot.app.screen)}
        commands["Dark colours"]()
        await settled(pilot)
        assert pilot.app.theme == "pidec-dark"
        for name in ("textual-dark", "nord", "solarized-light"):
            pilot.app.theme = name
            await pilot.pause()


def bindings() -> dict[str, str]:
    """All bindings of ours: id -> keys."""
    found: dict[str, str] = {}
    names = ["pidec_tui.app"]
    for folder in ("screens", "widgets"):
        files = sorted((Path(pidec_tui.__file__).parent / folder).glob("*.py"))
        names += [f"pidec_tui.{folder}.{file.stem}" for file in files if file.stem != "__init__"]
    modules = [importlib.import_module(name) for name in names]
    for module in modules:
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__:
                for binding in vars(kind).get("BINDINGS", []):
                    if binding.id:
                        found[binding.id] = f"{found.get(binding.id, '')},{binding.key}"
    return found


def test_no_key_is_left_out_and_none_is_tmuxs() -> None:
    """Lost: a key that nobody tries, or one that a test only says it presses; and ctrl+b, which belongs to tmux."""
    for file in sorted(Path(__file__).parent.glob("test_*.py")):  # their presses count too
        importlib.import_module(f"tests.tui.{file.stem}")
    found = bindings()
    assert set(found) == set(PRESSED)
    assert not any("ctrl+b" in keys for keys in found.values())
    unpressed = {
        name: text
        for name, text in found.items()
        if not PRESSED[name] & {*text.split(","), *map(typed, text.split(","))}
    }
    assert not unpressed, "claimed by a test in whose code none of its keys stands"


def typed(key: str) -> str:
    """A key as the character that it types; "" of one that types none."""
    return key_to_character(key) or "" if key else ""
