"""A monkey at the keyboard: random keys over a live queue. Nothing may crash, nothing may change that no key asked for.

    python -m tests.tui.monkey --keys 5000 --seed 1       (or `make monkey`)

The suite runs a short, seeded round of the same over a workspace that stands still.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.keys import _character_to_key
from textual.pilot import Pilot
from textual.screen import Screen

from pidec_tui.app import PidecApp
from pidec_tui.manager.manager import Manager
from pidec_tui.messages import Refused

CHARACTERS = "abcdefghijklmnoprstuvwxyzABCDEFGHIJKLMNOPRSTUVWXYZ0123456789+-=[]/&.,:?*#@!<>(){}_~^%$;'\"\\|"
NAMED = [
    "up",
    "down",
    "left",
    "right",
    "home",
    "end",
    "pageup",
    "pagedown",
    "shift+up",
    "shift+down",
    "shift+left",
    "shift+right",
    "tab",
    "shift+tab",
    "enter",
    "space",
    "escape",
    "backspace",
    "delete",
    "ctrl+s",
    "ctrl+o",
    "ctrl+n",
    "ctrl+p",
    "ctrl+a",
    "ctrl+u",
    "ctrl+b",
    "f2",
    "f5",
]
OFTEN = [
    "j",
    "k",
    "g",
    "G",
    "enter",
    "escape",
    "escape",
    "tab",
    "down",
    "up",
    "space",
    "n",
    "e",
    "y",
]  # what gets a monkey around
# What may change something, and the bindings that ask for it. "palette" is a command that was chosen there by its name.
ASKED_BY: dict[str, set[str]] = {
    "add": {"form.queue", "new.queue", "question.yes"},
    "add_preset": {"new.queue", "question.yes"},
    "add_preset_jobs": {"form.queue", "new.queue", "palette"},
    "clone": {"form.queue"},
    "edit": {"form.queue"},
    "move": {"job.up", "job.down", "job.top", "palette"},
    "hold": {"job.hold", "palette"},
    "release": {"job.hold", "palette"},
    "retry": {"job.retry", "checkpoints.resume", "number.take", "question.yes", "palette"},
    "cancel": {"question.yes"},
    "cancel_group": {"question.yes"},
    "stop_runner": {"question.yes"},
    "repair": {"question.yes"},
    "groups.add": {"form.queue"},
    "groups.hold": {"question.yes"},
    "groups.release": {"question.yes"},
    "groups.retry": {"question.yes"},
}


class Watched:
    """A job manager that writes down what was asked of it, and by which key."""

    def __init__(self, manager: Any, key: Callable[[], str], part: str = "") -> None:
        self._manager, self._key, self._part = manager, key, part
        self.asked: list[tuple[str, str]] = []  # what, and the binding that was pressed last

    def __getattr__(self, name: str) -> Any:
        found, what = getattr(self._manager, name), self._part + name
        if what == "groups":
            groups = Watched(found, self._key, "groups.")
            groups.asked = self.asked
            return groups
        if what not in ASKED_BY:
            return found

        def work(*arguments: Any, **more: Any) -> Any:
            self.asked.append((what, self._key()))
            return found(*arguments, **more)

        return work


class Monkey:
    """Presses keys, and knows what each means where it is pressed.

    Attributes:
        pressed: how often each binding was.
        broken: refusals that are no answer to a user: an exception's own words.
        last: the binding that was pressed last, "typed", "palette", or the key where it has none.
        trail: the last keys, for who has to look into what they did.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.pressed: Counter[str] = Counter()
        self.broken: list[str] = []
        self.trail: list[str] = []
        self.last = ""

    def key(self) -> str:
        kind = self.dice.random()
        if kind < 0.35:
            return self.dice.choice(OFTEN)
        return self.dice.choice(CHARACTERS) if kind < 0.75 else self.dice.choice(NAMED)

    def listen(self, app: PidecApp) -> None:
        """Hear what is refused with an exception's words."""
        hear = app.on_refused

        def heard(message: Refused) -> None:
            if message.hint == "Nothing was changed.":
                self.broken.append(f"{message.message} (after {' '.join(self.trail[-12:])})")
            hear(message)

        app.on_refused = heard  # type: ignore[method-assign]

    async def press(self, pilot: Pilot[Any], count: int) -> int:
        """So many keys, or as many as the dashboard takes before one closes it. Returns how many those were."""
        app = pilot.app
        for number in range(count):
            key = self.key()
            name = _character_to_key(key) if len(key) == 1 else key
            self.last = meaning(app.screen, name)
            self.pressed[self.last] += 1
            self.trail.append(key)
            await pilot.press(name)
            for worker in [worker for worker in app.workers if worker.name == "act"]:
                await worker.wait()
            if not app.is_running or app._exit:
                return number + 1
        return count


def meaning(screen: Screen[Any], key: str) -> str:
    """The binding of a key on this screen."""
    if type(screen).__name__ == "CommandPalette":
        return "palette"
    bound = screen.active_bindings.get(key)
    if screen.focused is not None and screen.focused.check_consume_key(key, key if len(key) == 1 else None):
        return "typed"
    return bound.binding.id or bound.binding.action if bound else key


def unasked(watched: Watched) -> list[str]:
    """Changes that no key asked for."""
    return [f"{what} after {key}" for what, key in watched.asked if key not in ASKED_BY[what]]


# --- the long campaign, over a queue that runs -----------------------------------------------------------------------

TRAINS = """
import json, os, sys, time
seconds, out = float(sys.argv[1]), open(os.path.join(os.environ["PIDEC_RUN_DIR"], "metrics.jsonl"), "a")
steps = int(seconds * 10)
print(json.dumps({"seq": 0, "event": "start", "step_name": "iteration", "total_steps": steps}), file=out, flush=True)
for step in range(1, steps + 1):
    metrics = {"train/loss": 1 / step, "throughput/iters_per_min": 600.0}
    row = {"seq": step, "time": time.time(), "step": step, "metrics": metrics}
    print(json.dumps(row), file=out, flush=True)
    print(f"iteration {step}/{steps}", flush=True)
    time.sleep(0.1)
sys.exit(int(sys.argv[2]))
"""


def populate(manager: Manager, folder: Path) -> None:
    """Jobs that run for some seconds, some of which fail, wait for another or belong to a group."""
    script = folder / "trains.py"
    script.write_text(TRAINS)
    first = None
    for number in range(16):
        command = f"{sys.executable} {script} {5 + 5 * (number % 4)} {int(number % 5 == 4)}"
        group = "sweep" if number % 4 == 1 else ""
        job = manager.add("command", {"command": command}, name=f"trains-{number}", lane="cpu", group=group)
        first = first or job
    manager.add("command", {"command": "true"}, name="afterwards", lane="cpu", after=[first.id])
    manager.hold(manager.add("command", {"command": "true"}, name="held").id)


def end_all(manager: Manager, seconds: float = 120.0) -> None:
    """Cancel what is not over, and wait until it is: it is the runner that ends what runs."""
    for job in manager.jobs():
        if not job.state.finished:
            manager.cancel(job.id)
    end = time.monotonic() + seconds
    while time.monotonic() < end and not all(job.state.finished for job in manager.jobs()):
        manager.ensure_runner()
        time.sleep(0.2)


async def campaign(folder: Path, keys: int, seed: int) -> int:
    """Returns how much went wrong."""
    monkey, manager, done, starts = Monkey(seed), Manager.open(folder / "ws"), 0, 0
    watched = Watched(manager, lambda: monkey.last)
    populate(manager, folder)
    ids, began = {job.id for job in manager.jobs()}, time.monotonic()
    try:
        while done < keys:
            starts += 1
            app = PidecApp(watched)  # type: ignore[arg-type]
            monkey.listen(app)
            async with app.run_test(size=monkey.dice.choice([(160, 45), (100, 30), (60, 18)])) as pilot:
                while done < keys and not app._exit:
                    done += await monkey.press(pilot, min(250, keys - done))
                    rate, deep = done / (time.monotonic() - began), len(app.screen_stack)
                    print(f"\r{done:,}/{keys:,} keys, {rate:.0f}/s, {deep} screens ", end="", flush=True)
    finally:
        print(f"\nlast keys: {' '.join(monkey.trail[-20:])}")
        end_all(manager)
        lost = ids - {job.id for job in manager.jobs()}
        manager.stop_runner()
        manager.close()
    faults = [*unasked(watched), *monkey.broken, *(f"job {number} is lost" for number in sorted(lost))]
    print(f"{done:,} keys, {starts} starts, {len(monkey.pressed)} different bindings")
    print(f"asked: {dict(Counter(watched.asked))}")
    for fault in faults:
        print(f"  {fault}")
    print("nothing broke, nothing changed unasked" if not faults else f"{len(faults)} faults")
    return len(faults)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tui.monkey", description=__doc__)
    parser.add_argument("--keys", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pidec-monkey-") as name:
        for variable in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "PIDEC_SLOT_DIR"):
            os.environ[variable] = str(Path(name) / variable.lower())
        os.environ.pop("PIDEC_WORKSPACE", None)
        return min(asyncio.run(campaign(Path(name), options.keys, options.seed)), 1)


if __name__ == "__main__":
    raise SystemExit(main())
