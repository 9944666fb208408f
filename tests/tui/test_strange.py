"""What people and their scripts write, shown as it is: names that look like markup, numbers beyond any axis, times
beyond any calendar, broken sidecars. Lost, each time: the dashboard, which would end with a traceback when the cursor
comes to that job."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot

from pidec_tui.charts.chart import as_text, draw
from pidec_tui.charts.series import Axes, Series
from pidec_tui.checkpointrows import checkpoint_rows
from pidec_tui.messages import Trouble
from pidec_tui.screens.form import FormScreen
from pidec_tui.screens.main import MainScreen
from pidec_tui.widgets.queue import shortened
from pidec_tui.words import moment
from tests.tui.pressing import go, notices, queue_of
from tests.tui.scene import NOW, Scene, app_of, busy, settled

MARKUP = ("[/]", "[bold]x[/bold]", "[red", "\\[x]", "$primary", "世界" * 30)


def script(scene: Scene, name: str, *lines: dict[str, Any]) -> int:
    """A running job whose script wrote these lines."""
    job = scene.add("command", {"command": "python train.py"}, name=name)
    scene.start(job, ago=60)
    scene.write(job, lines)
    scene.output(job, "[/] a line of the log [bold]\n")
    return job.id


async def walk(pilot: Pilot[Any]) -> None:
    """Every screen that a job has, then back."""
    for key in ("space", "enter", "space", "tab", "escape", "l", "escape", "c", "escape"):
        await pilot.press(key)
        await settled(pilot)
    assert isinstance(pilot.app.screen, MainScreen)


@pytest.mark.parametrize("size", [(120, 40), (60, 18)])
async def test_names_are_no_markup(scene: Scene, size: tuple[int, int]) -> None:
    """Job, step and metric names with brackets are shown with their brackets, on every screen and in the palette."""
    for name in MARKUP:
        metrics = {name: 1.0, f"{name} two": 2.0}
        script(
            scene,
            name,
            {"event": "start", "time": NOW - 50, "step_name": name, "total_steps": 10},
            *({"time": NOW - 40 + step, "step": step, "metrics": metrics} for step in (1, 2, 3)),
            {"event": "warning", "time": NOW - 30, "message": name},
        )
    waiting = scene.add("command", {"command": "echo '[/]'"}, name="[/] waits")
    async with app_of(scene).run_test(size=size) as pilot:
        for job_id in range(1, len(MARKUP) + 1):
            await go(pilot, job_id)
            await walk(pilot)
        await go(pilot, waiting.id)
        await pilot.press("e")
        await settled(pilot)
        assert isinstance(pilot.app.screen, FormScreen)
        assert "Edit job 7, [/] waits" in str(pilot.app.screen.query_one(".title").render())
        await pilot.press("escape", "ctrl+p")
        await _options(pilot, "Go to job 1, [/]")
        await pilot.press(*"[/] waits")
        await _options(pilot, "Go to job 7, [/] waits", alone=True)
        await pilot.press("enter")
        await settled(pilot)
        assert queue_of(pilot).row_under_cursor() == "7"


async def _options(pilot: Pilot[Any], text: str, *, alone: bool = False) -> None:
    """Wait until the palette offers this."""
    found: list[str] = []
    for _ in range(100):
        await pilot.pause(0.03)
        for commands in pilot.app.screen.query("CommandList"):
            found = [str(commands.get_option_at_index(i).prompt) for i in range(commands.option_count)]  # type: ignore[attr-defined]
        if any(line.startswith(text) for line in found) and (len(found) == 1 or not alone):
            return
    raise AssertionError(found)


async def test_a_preset_may_have_brackets(scene: Scene) -> None:
    """A preset file of one's own, whatever it is called."""
    presets = scene.manager.workspace.presets
    presets.mkdir(parents=True, exist_ok=True)
    text = 'title = "[/] t"\nkind = "command"\nnotes = "[bold]n[/x]"\n[config]\ncommand = "echo [/]"\n'
    (presets / "[red]x[] .toml").write_text(text)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("n")
        await settled(pilot)
        await pilot.press("g", "j", "j", "e")
        await settled(pilot)
        assert "[red]x[]" in str(pilot.app.screen.query_one(".title").render())


async def test_numbers_beyond_every_axis(scene: Scene) -> None:
    """A loss that overflowed, steps up to 1e17, a length that means "for ever", a clock that went mad."""
    big = sys.float_info.max
    values = (big, -big, 5e-324, 0.0, 1e300, big)
    names = ("train/loss", "own/x", "throughput/iters_per_min", "eval/success_rate", "eval/success_at_end")
    script(
        scene,
        "numbers",
        {"event": "start", "time": 1e300, "step_name": "step", "total_steps": 10**18, "resumed_step": "seven"},
        *({"time": NOW - 40 + i, "step": i * 10**16, "metrics": dict.fromkeys(names, v)} for i, v in enumerate(values)),
    )
    script(
        scene,
        "times",
        {"event": "start", "time": NOW - 50, "step_name": "step", "total_steps": 10**18},
        *({"time": NOW - 40 + i, "step": i, "metrics": {"train/loss": 1.0}} for i in (1, 2, 3)),
        {"time": 1e300, "step": 4, "metrics": {"train/loss": 1.0}},
    )
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        for job_id in (1, 2):
            await go(pilot, job_id)
            await walk(pilot)


@pytest.mark.parametrize("axes", [Axes(), Axes(log_y=True), Axes(percent=True), Axes(from_zero=True)])
@pytest.mark.parametrize("values", [(1e200, -1e200), (5e-324, 1e200), (1e199, 1e199), (0.0, 1e-200)])
@pytest.mark.parametrize("size", [(12, 3), (40, 9)])
def test_every_chart_can_be_drawn(axes: Axes, values: tuple[float, ...], size: tuple[int, int]) -> None:
    """All that a series lets through has an axis, or a word in its place."""
    rows = draw([Series(enumerate(values)).curve("c")], *size, axes)
    assert [sum(len(span.text) for span in row) for row in rows] == [size[0]] * size[1]
    assert as_text(rows).strip()


def test_a_share_beyond_one_keeps_short_labels() -> None:
    """A success rate that was logged in percent still leaves room for its curve."""
    rows = as_text(draw([Series([(0, 0.0), (1, 5e6)]).curve("c")], 40, 9, Axes(percent=True)))
    assert "400M%" in rows


def test_a_time_beyond_the_calendar() -> None:
    for when in (1e300, -1e300, float("inf"), float("nan"), 1e17):
        assert moment(when, NOW) == "-"


def test_broken_sidecars_are_passed_over(scene: Scene) -> None:
    """One sidecar that is no sidecar hides neither the others nor the dashboard."""
    job = scene.add("diffusion", {"demo_path": "x.h5"}, name="peg")
    for step in range(1, 9):
        scene.checkpoint(job, step, ago=60, successes=5, last=step == 8)
    folder = scene.manager.checkpoint_dir(job.id)
    good = json.loads((folder / "step-000000001.json").read_text())
    broken = ({"created": 1e300}, {"size": 10**300}, {"successes": -1}, {"step": 10**400}, {"created": "x"})
    for step, change in enumerate(broken, 2):
        (folder / f"step-{step:09d}.json").write_text(json.dumps({**good, "step": step, **change}))
    (folder / "step-000000007.json").write_bytes(b"\xff{")
    (folder / "best.pt").symlink_to("best.pt")
    assert [(row.step, row.tags) for row in checkpoint_rows(folder)] == [(8, ("last",)), (1, ())]


async def test_more_successes_than_episodes_are_shown(scene: Scene) -> None:
    """Figures that cannot be are shown as they are, not as a traceback."""
    job = scene.add("diffusion", {"demo_path": "x.h5"}, name="peg")
    scene.checkpoint(job, 100, ago=60, successes=120)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await go(pilot, job.id)
        assert pilot.app.screen.query_one("CheckpointTable").row_count == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [8, 9, 10, 11])
@pytest.mark.parametrize("name", [*MARKUP, "diffusion-peg-seed2", "emoji 🤖🚀" * 4])
def test_a_shortened_name_keeps_its_end(name: str, width: int) -> None:
    """Names of one family differ at their ends, in every script: cut by cells, not by characters."""
    short = shortened(name, width)
    assert cell_len(short) <= width
    assert short == name or ("…" in short and short[-1] == name[-1])


def test_rows_of_a_sweep_differ_however_narrow() -> None:
    """Lost: which of two rows "tiny lr=…seed=2" has which learning rate."""
    names = [f"tiny lr={lr} seed=2" for lr in ("1e-4", "3e-4")]
    assert [shortened(name, 15, "tiny") for name in names] == ["…lr=1e-4 seed=2", "…lr=3e-4 seed=2"]
    assert shortened(names[0], 40, "tiny") == names[0] and cell_len(shortened(names[0], 9, "tiny")) == 9
    assert shortened("other-name-seed2", 11, "tiny") == shortened("other-name-seed2", 11)


async def test_held_jobs_need_no_runner(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning that means nothing teaches people to overlook it."""
    monkeypatch.setattr("pidec_tui.manager.control.runner_pid", lambda places: None)
    scene.add("command", {"command": "true"}, name="one", held=True)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert "no runner" not in str(pilot.app.screen.query_one("#top").render())
        scene.add("command", {"command": "true"}, name="two")
        await settled(pilot)
        await pilot.pause(0.7)
        assert "no runner" in str(pilot.app.screen.query_one("#top").render())


async def test_what_cannot_be_read_is_said_whole(scene: Scene) -> None:
    """The top line cuts off what to do about it; a job log named "[/]" must not be the end either."""
    async with app_of(scene).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        pilot.app.post_message(Trouble("job log", "the job log /[/]/jobs.db is damaged. pidec-jobs repair rebuilds it"))
        await settled(pilot)
        assert "jobs.db is damaged. B rebuilds it" in notices(pilot)
        assert "/[/]/jobs.db" in str(pilot.app.screen.query_one("#top").render())
        pilot.app.post_message(Trouble("job log", "the disk is full", quiet=True))
        await settled(pilot)
        assert "job log: the disk is full" in str(pilot.app.screen.query_one("#top").render())
        assert "disk is full" not in notices(pilot), "one toast a trouble, whatever it is called"


@pytest.mark.parametrize(
    ("key", "asked"), [("O", "all_metric_names"), ("v", "checkpoint_dir")], ids=["sort by any metric", "watch"]
)
async def test_a_key_whose_thread_cannot_read_says_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, key: str, asked: str
) -> None:
    """Lost: whether the key was pressed at all."""
    busy(scene)
    async with app_of(scene).run_test(size=(120, 40)) as pilot:
        await settled(pilot)

        def locked(*_: object) -> object:
            raise RuntimeError("the job log is locked")

        monkeypatch.setattr(scene.manager, asked, locked)
        pilot.app.clear_notifications()
        await pilot.press(key)
        for _ in range(100):
            await pilot.pause(0.02)
            if "RuntimeError: the job log is locked Nothing was changed" in notices(pilot):
                return
        raise AssertionError(notices(pilot))
