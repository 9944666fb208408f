"""The user's own keys: read from a file, pressed in the dashboard, shown wherever keys are shown; slips are said."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from textual.binding import Binding
from textual.widgets import OptionList

from pidec_tui import __main__ as door
from pidec_tui.app import PidecApp
from pidec_tui.keymap import UserKeys, every_binding, keys_file, listing, places, read_keys
from pidec_tui.manager.jobs import JobState
from pidec_tui.screens.help import GROUPS, HelpScreen
from pidec_tui.screens.main import MainScreen
from pidec_tui.screens.question import Question
from pidec_tui.widgets.keybar import KeyBar
from tests.tui.pressing import go, notices, queue_of
from tests.tui.scene import H200, NOW, FixedGpus, Scene, busy, pressed, settled


def keys_of(text: str) -> UserKeys:
    """What a keys.toml with this text gives."""
    keys_file().parent.mkdir(parents=True, exist_ok=True)
    keys_file().write_text(text)
    return read_keys()


def remapped(scene: Scene, keys: UserKeys) -> PidecApp:
    return PidecApp(scene.manager, monitor=FixedGpus([H200]), clock=lambda: NOW, start_runner=False, keys=keys)


def printed(what: Any) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(what)
    return console.export_text()


async def test_own_keys_do_what_they_say_and_are_shown_everywhere(scene: Scene) -> None:
    """Lost: one's own keys; or worse, a question that tells the usual key while another one cancels the job."""
    busy(scene)
    keys = keys_of(
        '"job.cancel" = "ctrl+x"\n"question.yes" = ["Y", "f3"]\n[app]\nhelp = "f1, ?"\n'
        '[queue]\nnew = "N"\n[list]\ndown = "ctrl+n"\n'
    )
    async with remapped(scene, keys).run_test(size=(140, 45)) as pilot:
        await go(pilot, 4)
        bar = str(pilot.app.screen.query_one(KeyBar).render())
        assert "^x cancel" in bar and "N new job" in bar
        await pilot.press("c", "n", "j")  # none of them does anything any more
        await pilot.pause()
        assert isinstance(pilot.app.screen, MainScreen)
        await pressed(pilot, "ctrl+n")
        assert pilot.app.board.selected == 5  # type: ignore[attr-defined]
        await go(pilot, 4)
        await pilot.press("f1")
        await pilot.pause()
        assert isinstance(pilot.app.screen, HelpScreen)
        told = [line.split() for line in printed(pilot.app.screen._table).splitlines()]
        assert ["^x", "cancel", "job.cancel"] in told and ["Y", "f3", "yes", "question.yes"] in told
        assert ["f1", "?", "help", "app.help"] in told
        await pilot.press("escape")
        commands = {each.title: each.help for each in pilot.app.get_system_commands(pilot.app.screen)}
        assert commands["Cancel"] == "key ^x" and commands["New job"] == "key N"
        await pilot.press("ctrl+x")
        await pilot.pause()
        assert isinstance(pilot.app.screen, Question)
        assert "Y cancel it" in str(pilot.app.screen.query_one(".answers").render())
        await pilot.press("y")
        await pilot.pause()
        assert isinstance(pilot.app.screen, Question)
        await pressed(pilot, "Y")
        assert scene.manager.job(4).state is JobState.cancelled


async def test_dialogs_tell_own_keys_and_stand_over_what_they_are_about(scene: Scene) -> None:
    """Lost: the way out of a dialog that tells a key which does nothing there; and its list on a small terminal."""
    row = {"step": 10, "time": NOW - 5, "metrics": {f"own/m{number:02}": 1.0 for number in range(12)}}
    busy(scene)
    scene.write(scene.manager.job(3), [row])
    keys = keys_of('"number.take" = "f4"\n"number.leave" = "f6"\n"metric.take" = "f3"\n"queue.follow" = "a"\n')
    async with remapped(scene, keys).run_test(size=(60, 18)) as pilot:
        await go(pilot, 2)
        assert "a follows" in str(queue_of(pilot).border_title)
        await pressed(pilot, "E")
        assert "f4 go on     f6 leave it" in str(pilot.app.screen.query_one(".answers").render())
        assert pilot.app.screen.query_one("#number-box").region.y > 2
        await pressed(pilot, "f6", "O", *["down"] * 9)
        box, found = pilot.app.screen.query_one("#picker"), pilot.app.screen.query_one(OptionList)
        assert "f3 sort by it" in str(box.children[-1].render()) and box.region.bottom <= 18
        assert box.content_region.contains_region(box.children[-1].region)
        assert found.highlighted == 9 and found.option_count > found.size.height, "the list scrolls, not the box"
        assert found.scroll_offset.y <= 9 < found.scroll_offset.y + found.size.height


async def test_two_keys_that_change_places(scene: Scene) -> None:
    """Lost: the job that was to be held: after a swap each key must do the other's work, and nothing more."""
    busy(scene)
    keys = keys_of('job.cancel = "h"\njob.hold = "c"\n')
    assert not keys.troubles
    async with remapped(scene, keys).run_test(size=(120, 40)) as pilot:
        await go(pilot, 4)
        await pressed(pilot, "c")
        assert scene.manager.job(4).state is JobState.held
        await pilot.press("h")
        await pilot.pause()
        assert isinstance(pilot.app.screen, Question)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('[chart]\n"job.log" = "x"', 2, '"job.log" stands below [chart]: lines without a table come first'),
        ('\njob.cancle = "x"', 2, 'no key with the id "job.cancle"; did you mean "job.cancel"?'),
        ('[job]\n\ncancel = "ctrl+foo"', 3, 'no key "ctrl+foo"'),
        ('job.cancel = "contrl+x"', 1, 'no key "contrl+x"'),
        ("job.cancel = 7", 1, "7 is no key"),
        ("job.cancel = []", 1, "[] is no key"),
        ('job.cancel = ""', 1, 'no key ""'),
        ('# r\n"job.cancel" = "r"', 2, 'cannot be "r": that is job.retry (retry)'),
        ('job.cancel = "j"', 1, 'cannot be "j": that is list.down (down)'),
        ('queue.new = "up"', 1, 'cannot be "up": that is Cursor up on the main screen'),
        ('job.log = "z"\njob.edit = "z"', 1, 'cannot be "z": that is job.edit (edit)'),
        ('question.yes = "enter"', 1, "that is question.no (no) on the question screen"),
        ('form.queue = "s"', 1, "typed into the form screen's fields"),
        ('job.hold = "c"\njob.cancel = "f99"', 1, "that is job.cancel (cancel)"),  # its own key is free no more
    ],
)
def test_a_slip_is_named_with_its_line_and_the_nearest_right_one(text: str, line: int, said: str) -> None:
    """Lost: which of a hundred lines is wrong; or a key with two meanings, one of which cancels."""
    keys = keys_of(f'{text}\n"app.quit" = "Q"\n' if not text.startswith("[") else f'{text}\n[app]\nquit = "Q"\n')
    trouble = next(each for each in keys.troubles if said in each)
    assert trouble.startswith(f"{keys_file()}, line {line}: ")
    assert keys.keymap["app.quit"] == ("Q",)  # what is right holds
    assert not any("\n" in each for each in keys.troubles)


def test_keys_that_are_never_there_together_may_be_the_same() -> None:
    """Lost: `h` for the left, in the charts as in the log, though the queue has an `h` of its own."""
    keys = keys_of('chart.left = "h"\nlog.left = "h"\nchart.right = "u"\nlog.right = "u"\napp.quit = "ctrl+q"\n')
    assert not keys.troubles and len(keys.keymap) == 5


@pytest.mark.parametrize("text", ["job.cancel =\n\n", "\udcff", 'a = "1"\na = "2"'])
async def test_a_broken_file_leaves_the_usual_keys(scene: Scene, text: str) -> None:
    """Lost: the dashboard, by a slip in a file that one may have to mend with the dashboard closed."""
    keys_file().parent.mkdir(parents=True)
    keys_file().write_text(text, errors="surrogateescape")
    keys = read_keys()
    assert keys.keymap == {} and len(keys.troubles) == 1 and str(keys_file()) in keys.troubles[0]
    if "job" in text:
        assert "line 1" in keys.troubles[0]
        async with remapped(scene, keys).run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "All keys are the usual ones" in notices(pilot)
            await pilot.press("q")


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    """Lost: why one's keys do not work, after a slip in the name."""
    assert "keys.tml" in read_keys(str(tmp_path / "keys.tml")).troubles[0]
    assert read_keys() == UserKeys()


def test_the_list_is_a_file_to_begin_with(capsys: pytest.CaptureFixture[str]) -> None:
    """Lost: the ids, and a start."""
    keys = keys_of('job.cancel = "ctrl+x"\njob.nothing = "x"')
    assert door.main(["--list-keys"]) == 0
    out, err = capsys.readouterr()
    assert '\n"job.cancel" = "ctrl+x"  # cancel\n' in out and '\n# "queue.new" = "n"  # new job\n' in out
    assert "job.nothing" in err and out == listing(keys, GROUPS)
    evaluates = next(line for line in out.splitlines() if "checkpoints.evaluate" in line)
    assert "evaluate both on the compare screen" in evaluates and "evaluate on the " in evaluates
    every = "\n".join(line.removeprefix("# ") for line in out.splitlines() if '" = "' in line)
    assert keys_of(every).troubles == ()  # every line of it, taken as it is, is a key that can be


def test_every_binding_has_an_id_and_a_group_and_none_is_tmuxs() -> None:
    """Lost: a key that cannot be changed, that no help tells, or that tmux takes."""
    every = every_binding()
    assert {name.partition(".")[0] for name, _ in every} <= set(GROUPS)
    assert all(binding.description for _, binding in every)
    assert not any(binding.key == "ctrl+b" for _, binding in every)
    for place in places():
        for kind in (place.kind, *place.widgets):
            own = vars(kind).get("BINDINGS", [])
            assert all(binding.id for binding in own), f"{kind.__name__} has a binding without an id"
            ids = [binding.id for binding in own]
            assert len(ids) == len(set(ids)), f"{kind.__name__} has two bindings of one id"


async def test_the_help_of_a_screen_tells_every_key_of_it(scene: Scene, presets: None) -> None:
    """Lost: keys that nobody finds."""
    busy(scene)
    async with remapped(scene, UserKeys()).run_test(size=(140, 45)) as pilot:
        await go(pilot, 3)
        seen = set()
        for keys in ([], ["o"], ["b"], ["l"], ["enter"], ["n"], ["n", "e"]):
            await pilot.press(*keys)
            await settled(pilot)
            screen = pilot.app.screen
            seen.add(type(screen).__name__)
            told = printed(HelpScreen(screen)._table)
            bindings = [binding for base in type(screen).__mro__ for binding in vars(base).get("BINDINGS", [])]
            own = {binding.id for binding in bindings if isinstance(binding, Binding) and binding.id}
            assert not {name for name in own if name not in told}, type(screen).__name__
            await pilot.press(*["escape"] * len(keys))
            await pilot.pause()
        assert len(seen) == 7
