"""Sentences that name a key name the one that is bound now; what the job manager advises is told in keys, too."""

from __future__ import annotations

import ast
import html
import re
from pathlib import Path

import pytest

import pidec_tui
from pidec_tui import bound
from pidec_tui.app import PidecApp
from pidec_tui.keymap import UserKeys, every_binding
from pidec_tui.manager.jobs import JobState
from pidec_tui.refusals import in_keys
from pidec_tui.words import keyed
from tests.tui.pressing import board_of, go, keys, notices
from tests.tui.scene import H200, NOW, FixedGpus, Scene, busy, pressed, settled

HOUSE = Path(pidec_tui.__file__).parent


def remapped(scene: Scene, **own: str) -> PidecApp:
    """With keys of one's own, by id of binding with `_` for the dot."""
    keymap = {name.replace("_", ".", 1): (key,) for name, key in own.items()}
    return PidecApp(
        scene.manager,
        monitor=FixedGpus([H200]),
        clock=lambda: NOW,
        start_runner=False,
        keys=UserKeys(keymap),
    )


def screen_of(pilot: object) -> str:
    """All that is on the screen, without the shapes of a picture."""
    text = pilot.app.export_screenshot(simplify=True).partition("</style>")[2]  # type: ignore[attr-defined]
    return re.sub(r"[\s│]+", " ", html.unescape(re.sub(r"<[^>]*>", "", text)))


async def test_the_empty_first_screen_tells_own_keys(scene: Scene) -> None:
    """Lost: a beginner's first key press, which the welcome names and which does nothing."""
    app = remapped(scene, queue_new="f2", new_queue="f3", app_help="f1", job_watch="left_square_bracket")
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        said = str(pilot.app.screen.query_one("#welcome").render())
        assert "Press f2, then f3:" in said and "[ plays what" in said and "f1 shows all keys" in said
        await pressed(pilot, "c")
        assert "No job is selected: f2 makes one." in notices(pilot)


async def test_sentences_and_questions_tell_own_keys(scene: Scene) -> None:
    """Lost: the way on from a failed, held or cancelled job: a sentence that names a key without a meaning."""
    busy(scene)
    held = scene.add("diffusion", {}, name="held", held=True)
    app = remapped(
        scene, job_retry="f5", job_hold="f6", job_fresh="f7", queue_sort="f8", queue_sort__by="f9", log_follow="f4"
    )
    app.set_keymap({**app.keys.textual(), "queue.sort-by": "f9"})
    async with app.run_test(size=(160, 45)) as pilot:
        await go(pilot, 2)
        assert "f5 tries again." in screen_of(pilot)
        await go(pilot, held.id)
        assert "f6 releases it." in screen_of(pilot)
        await go(pilot, 3)
        await pressed(pilot, "f7", "S")
        assert "f7 starts a failed or cancelled job from nothing." in notices(pilot)
        assert "f8 sorts what is over by success, loss or rate, f9 by any metric." in notices(pilot)
        await pressed(pilot, "c")
        assert "f5 goes on there." in screen_of(pilot)
        await pressed(pilot, "escape", "l", "g", "k")
        assert "stands still: f4 follows" in screen_of(pilot)


async def test_the_form_and_the_line_of_what_comes_next_tell_own_keys(scene: Scene, presets: None) -> None:
    """Lost: the other thirty settings, and how to queue anything once the queue has run empty."""
    job = scene.add("command", {"command": "true"}, name="done")
    scene.start(job, ago=60)
    scene.end(job, JobState.succeeded, ago=1)
    app = remapped(scene, queue_new="f2", form_unfold="f3", new_form="f4", form_choose="f5")
    async with app.run_test(size=(160, 45)) as pilot:
        await settled(pilot)
        assert "nothing is queued: f2 queues a job" in screen_of(pilot)
        await pressed(pilot, "f2", "f4")
        assert "type to find one, f3 shows all" in screen_of(pilot)


async def test_refusals_of_the_job_manager_advise_keys(scene: Scene) -> None:
    """Lost: what to do next, told as a command for a shell that nobody sees from here."""
    busy(scene)
    app = remapped(scene, job_extend="f5", job_clone="f6", job_retry="f7")
    async with app.run_test(size=(160, 45)) as pilot:
        await go(pilot, 1)
        await pressed(pilot, "f7")
        assert "f6 makes another one like it" in notices(pilot)
        await go(pilot, 2)
        await pressed(pilot, "T", "h")
        assert "f7 queues it again" in notices(pilot)
        await go(pilot, 6)
        await pressed(pilot, "f7")
        assert "h lets it start" in notices(pilot) and "pidec-jobs" not in notices(pilot)
        assert board_of(pilot).selected == 6


def test_no_advice_for_a_shell_is_left(scene: Scene) -> None:
    """Lost: the same, with the next sentence that somebody writes into the job manager."""
    known = {name for name, _ in every_binding()}
    asked: list[str] = []
    found = [text for file in sorted((HOUSE / "manager").glob("*.py")) for text in _advice(file)]
    assert len(found) > 12
    for text in found:
        assert "pidec-jobs" not in in_keys(text, lambda name: asked.append(name) or name), text  # type: ignore[func-returns-value]
    assert set(asked) <= known
    named = {name for file in HOUSE.rglob("*.py") for name in re.findall(r"<([a-z]+\.[a-z-]+)>", file.read_text())}
    assert named <= known


def test_advice_that_has_the_usual_key_already_stays(scene: Scene) -> None:
    """Lost: the whole dashboard, at the first damaged checkpoint: the sentence was put in place of itself for ever."""
    said = "Do not use it; x puts it into the trash"
    assert in_keys(said, lambda name: {"checkpoints.trash": "x"}[name]) == said
    assert in_keys(said, lambda name: "f9") == "Do not use it; f9 puts it into the trash"


def _advice(file: Path) -> list[str]:
    """The texts of a module that name `pidec-jobs` to who uses it, with a number in the place of what is filled in."""
    if file.name.startswith("cli"):
        return []
    tree = ast.parse(file.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    parts = {id(each) for node in joined for each in node.values}
    plain = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in docs | parts]
    texts = [str(node.value) for node in plain]
    texts += ["".join(str(p.value) if isinstance(p, ast.Constant) else "7" for p in node.values) for node in joined]
    return [text for text in texts if re.search(r"pidec-jobs [a-z]", text)]


def test_a_key_that_is_told_before_its_screen_is_known_is_the_usual_one() -> None:
    """Lost: the first key of a beginner, on the day somebody binds it anew."""
    usual: dict[str, str] = {}
    for name, binding in every_binding():
        usual.setdefault(name, binding.key)
    assert {name: usual[name] for name in bound._UNSEEN} == bound._UNSEEN


async def test_an_id_that_no_key_has_ends_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: the dashboard, at a refusal that speaks of a key of a screen that nobody has opened, or of a file that is
    called like one."""
    monkeypatch.setattr(bound, "_kinds", lambda base: iter(()))  # as if no screen was imported yet
    bound._usual.cache_clear()
    async with remapped(scene, log_follow="f4").run_test(size=(100, 30)) as pilot:
        key = bound.keys_of(pilot.app)
        assert key("log.follow") == "f4" and key("log.find") == "/" and key("log.nothing") == ""
        assert keyed("<log.find> finds /data/<my.run>/a.pt", key) == "/ finds /data/<my.run>/a.pt"
    bound._usual.cache_clear()


async def test_equal_notices_are_one_and_a_small_screen_shows_two(scene: Scene) -> None:
    """Lost: the queue, below five times the same sentence; or an error, below a note on something else."""
    busy(scene)
    async with remapped(scene).run_test(size=(60, 18), notifications=True) as pilot:
        await go(pilot, 3)
        await pressed(pilot, "f", "f", "f")
        assert [n.message for n in pilot.app._notifications] == [
            "Job 3 is running: f starts a failed or cancelled job from nothing. ×3"
        ]
        await pressed(pilot, "r")  # refused: an error
        await pressed(pilot, "S", "e", "E")
        shown = list(pilot.app._notifications)
        assert len(shown) == 2 and "cannot be retried" in notices(pilot) and "can be lengthened" in notices(pilot)
        await pilot.pause()
        assert len(pilot.app.screen.query("Toast")) == 2


@keys("job.csv")
async def test_the_metrics_of_a_job_as_csv(scene: Scene) -> None:
    """Lost: the numbers behind the curves, for a plot of one's own."""
    busy(scene)
    async with remapped(scene).run_test(size=(160, 45)) as pilot:
        await go(pilot, 3)
        await pressed(pilot, "D")
        file = scene.manager.workspace.jobs / "reports" / "000003.csv"
        lines = file.read_text().splitlines()
        assert lines[0].startswith("step,time,") and "train/loss" in lines[0] and len(lines) > 600
        assert str(file) in notices(pilot) and pilot.app.clipboard == str(file)
        await go(pilot, 4)
        await pressed(pilot, "D")
        assert "has logged no metrics yet" in notices(pilot)


@keys("queue.repair")
async def test_the_job_log_is_rebuilt_after_a_question(scene: Scene) -> None:
    """Lost: the queue, after a disk that lied; or toasts for every alert of the last weeks."""
    busy(scene)
    before = scene.manager.jobs()
    async with remapped(scene).run_test(size=(160, 45)) as pilot:
        await go(pilot, 3)
        curve = board_of(pilot).trace.curves["train/loss"]
        await pressed(pilot, "B", "n")
        assert "rebuilt" not in notices(pilot)
        await pressed(pilot, "B", "y")
        assert f"The job log is rebuilt: {len(before)} jobs" in notices(pilot)
        await settled(pilot)
        assert {(job.id, job.name) for job in board_of(pilot).jobs} == {(job.id, job.name) for job in before}
        assert len(board_of(pilot).trace.curves["train/loss"].xs) == len(curve.xs), "no row is there twice"
