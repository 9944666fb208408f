"""When the feed looks: a trainer beside an open dashboard is not slowed, and who sits there sees what is new."""

from __future__ import annotations

import threading
import time

from pidec_tui.looks import ATTENDED, UNATTENDED, Looks
from tests.tui.scene import Scene, app_of, settled


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def waits_for_one_more(looks: Looks) -> None:
    """The next look comes when the screen has drawn once more, and not before."""
    went = threading.Event()
    thread = threading.Thread(target=lambda: (looks.next(), went.set()))
    thread.start()
    assert not went.wait(0.2)
    looks.drawn()
    assert went.wait(1.0)
    thread.join()


def test_a_screen_that_nobody_sits_at_is_looked_after_less_often() -> None:
    """Else a dashboard that is open all night takes a percent of the trainer beside it."""
    clock = Clock()
    looks = Looks(clock)
    assert looks.pause() == ATTENDED
    clock.now += 30
    assert looks.pause() == ATTENDED
    clock.now += 30
    assert looks.pause() == 2 * ATTENDED
    clock.now += 3600
    assert looks.pause() == UNATTENDED
    looks.touched()
    assert looks.pause() == ATTENDED


def test_who_returns_sees_what_is_new_at_once() -> None:
    """Else the first key after a pause would be about a picture of seconds ago."""
    clock = Clock()
    looks = Looks(clock)
    clock.now += 3600
    looks.touched()
    begun = time.monotonic()
    assert looks.next()
    assert time.monotonic() - begun < ATTENDED / 2


def test_a_look_waits_for_a_screen_that_is_slower() -> None:
    """Else what was found piles up, memory grows, and the screen shows what was long ago."""
    looks = Looks()
    told: list[str] = []
    looks.told_by(told.append)("news")
    assert told == ["news"]
    looks.at_once()
    waits_for_one_more(looks)


def test_a_look_waits_for_all_that_the_one_before_has_told() -> None:
    """Else a look that tells in two parts piles them up before a slow screen, one more at each look."""
    looks = Looks()
    tell = looks.told_by(lambda _: None)
    tell("first part")
    tell("second part")
    looks.drawn()
    looks.at_once()
    waits_for_one_more(looks)


def test_it_ends_while_it_waits_for_the_screen() -> None:
    """Else `q` leaves a process behind."""
    looks = Looks()
    ended: list[bool] = []
    looks.told_by(lambda _: None)("news")
    looks.at_once()
    thread = threading.Thread(target=lambda: ended.append(looks.next()))
    thread.start()
    looks.end()
    thread.join(1.0)
    assert ended == [False]


async def test_a_key_says_that_somebody_is_there(scene: Scene) -> None:
    """Else the dashboard stays slow under its user's hands."""
    app = app_of(scene)
    async with app.run_test(size=(160, 45)) as pilot:
        await settled(pilot)
        looks = app.feed._looks
        looks._touched -= 3600
        assert looks.pause() == UNATTENDED
        await pilot.press("j")
        assert looks.pause() == ATTENDED


async def test_who_attaches_to_its_terminal_or_brings_it_back_is_there(scene: Scene) -> None:
    """Else one looks at a picture of ten seconds ago, without a key that would tell."""
    app = app_of(scene)
    async with app.run_test(size=(160, 45)) as pilot:
        await settled(pilot)
        looks = app.feed._looks
        looks._touched -= 3600
        await pilot.resize_terminal(120, 40)
        assert looks.pause() == ATTENDED
        looks._touched -= 3600
        app.app_resume_signal.publish(app)
        await pilot.pause()
        assert looks.pause() == ATTENDED
