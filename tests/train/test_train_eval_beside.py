"""Evaluation in a process of its own: same episodes, newest first, and no crash there that ends the training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pidec_train import eval_beside
from pidec_train.__main__ import main
from pidec_train.checkpoint_folder import CheckpointFolder
from pidec_train.eval_beside import Begun, EvaluationBeside, Failed, Finished, Note, Progress
from pidec_train.models.diffusion_policy import DiffusionPolicy
from pidec_train.protocol.errors import PidecError, RunFailed, Stopped
from pidec_train.stopping import StopRequest

NO_STOP = StopRequest()
EPISODES = 5
PUSH_CUBE: dict[str, Any] = {
    "env_id": "PushCube-v1",
    "control_mode": "pd_ee_delta_pose",
    "obs_dim": 35,
    "act_dim": 7,
    "obs_horizon": 2,
    "act_horizon": 4,
    "num_envs": 2,
    "num_episodes": EPISODES,
    "max_episode_steps": 16,
    "base_seed": 1001,
    "device": "cpu",
}


def until(done: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


def poll_until(beside: EvaluationBeside, kind: type[Any]) -> list[Note]:
    """What is said up to and with the first note of this kind."""
    notes: list[Note] = []
    until(lambda: bool(notes.extend(beside.poll()) or any(isinstance(n, kind) for n in notes)), kind.__name__)
    return notes


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def family(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


# --- who waits for whom: a server that does as it is told, no simulator -----------------------------------------------


class Scripted:
    """An `EvaluationBeside` whose process does what the test writes into files."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(eval_beside, "_SERVER", "tests.fakes.evaluation_server:Server")
        self.folder = folder
        self.at_start = folder / "start"
        self.beside: EvaluationBeside | None = None

    def begin(self) -> EvaluationBeside:
        self.beside = EvaluationBeside(**PUSH_CUBE | {"env_id": str(self.at_start)})
        return self.beside

    def path(self, step: int) -> Path:
        return self.folder / f"{step}.pt"

    def let(self, step: int, *what: str) -> None:
        (self.folder / "new").write_text("\n".join(what))
        (self.folder / "new").rename(self.folder / f"{step}.pt.do")

    def request(self, step: int) -> int | None:
        assert self.beside
        return self.beside.request(self.path(step), step)


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    made = Scripted(tmp_path, monkeypatch)
    yield made
    if made.beside:
        made.beside.close()


def test_one_at_a_time_and_the_newest_of_those_that_wait(scripted: Scripted) -> None:
    """Evaluations slower than their interval would pile up, and best.pt would lag behind by hours."""
    beside = scripted.begin()
    assert not beside.busy
    assert scripted.request(1) is None
    assert poll_until(beside, Begun) == [Begun(1, scripted.path(1), EPISODES)]
    assert scripted.request(2) is None, "1 runs on: nothing is skipped"
    assert scripted.request(3) == 2, "the skipped one is named"
    for step in (1, 3):
        scripted.let(step, str(step))
    notes = [note for note in beside.wait(NO_STOP) if not isinstance(note, Progress)]
    assert [(type(note), note.step) for note in notes] == [(Finished, 1), (Begun, 3), (Finished, 3)]
    first = notes[0]
    assert isinstance(first, Finished) and first.result and first.result.episodes == 1 and first.error == ""
    assert first.path == scripted.path(1) and first.seconds > 0
    assert not beside.busy


def test_how_far_it_is(scripted: Scripted) -> None:
    beside = scripted.begin()
    scripted.request(1)
    notes: list[Note] = []
    until(lambda: bool(notes.extend(beside.poll()) or Progress(1, 2, EPISODES) in notes), "both messages came")
    assert notes[0] == Begun(1, scripted.path(1), EPISODES)
    assert not any(isinstance(note, Finished) for note in notes) and beside.busy


def test_a_simulator_that_hangs_is_started_anew(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last evaluation would keep the GPU's slot for ever, and the queue behind it."""
    beside = scripted.begin()
    scripted.request(1)
    poll_until(beside, Progress)
    monkeypatch.setattr(eval_beside, "SILENCE_SECONDS", 0.3)
    failed = poll_until(beside, Failed)[-1]
    assert isinstance(failed, Failed) and "no episode has ended for" in failed.error
    monkeypatch.setattr(eval_beside, "SILENCE_SECONDS", 60.0)
    scripted.let(1, "4")
    assert isinstance(list(beside.wait(NO_STOP))[-1], Finished)


@pytest.mark.parametrize("how", ["die", "raise"])
def test_a_crash_costs_a_second_attempt(scripted: Scripted, how: str) -> None:
    """A simulator that segfaults once in a thousand episodes must not end a night's training."""
    beside = scripted.begin()
    scripted.request(1)
    poll_until(beside, Begun)
    scripted.let(1, how, "4")
    notes = [note for note in beside.wait(NO_STOP) if not isinstance(note, Progress)]
    assert [type(note) for note in notes] == [Failed, Finished], "it has begun once"
    failed, finished = notes
    assert isinstance(failed, Failed) and failed.step == 1
    assert ("was killed by SIGKILL" if how == "die" else "ValueError: not today") in failed.error
    assert isinstance(finished, Finished) and finished.result and finished.result.episodes == 4
    beside.check()


def test_the_second_crash_in_a_row_gives_this_evaluation_up_and_not_the_next(scripted: Scripted) -> None:
    beside = scripted.begin()
    scripted.request(1)
    poll_until(beside, Begun)
    scripted.request(2)
    scripted.let(1, "die")
    scripted.let(2, "raise", "3")
    notes = [note for note in beside.wait(NO_STOP) if not isinstance(note, Progress)]
    kinds = [(type(note), note.step) for note in notes]
    assert kinds == [(Failed, 1), (Finished, 1), (Begun, 2), (Failed, 2), (Finished, 2)]
    given_up, done = notes[1], notes[4]
    assert isinstance(given_up, Finished) and given_up.result is None
    assert "was killed by SIGKILL" in given_up.error and "\n" not in given_up.error
    assert isinstance(done, Finished) and done.result and done.result.episodes == 3, "each has two attempts"
    beside.check()


def test_a_process_that_died_while_nobody_needed_it_is_started_anew(scripted: Scripted) -> None:
    beside = scripted.begin()
    scripted.let(1, "1")
    scripted.request(1)
    assert isinstance(list(beside.wait(NO_STOP))[-1], Finished)
    assert beside._worker
    os.kill(beside._worker.pid, signal.SIGKILL)
    until(lambda: not is_running(beside._worker.pid), "it is gone")  # type: ignore[union-attr]
    scripted.let(2, "2")
    scripted.request(2)
    last = list(beside.wait(NO_STOP))[-1]
    assert isinstance(last, Finished) and last.step == 2 and last.result


def test_a_start_that_crashes_is_tried_again(scripted: Scripted) -> None:
    """Out of memory for a moment, while a night's training is at stake."""
    scripted.at_start.write_text("die\n1")
    beside = scripted.begin()
    scripted.let(1, "1")
    scripted.request(1)
    notes = [note for note in beside.wait(NO_STOP) if not isinstance(note, Progress)]
    assert [type(note) for note in notes] == [Failed, Begun, Finished]


def test_a_process_that_never_starts_costs_the_evaluations_alone(scripted: Scripted) -> None:
    scripted.at_start.write_text("die")
    beside = scripted.begin()
    for step in (1, 2):
        scripted.request(step)
        last = list(beside.wait(NO_STOP))[-1]
        assert isinstance(last, Finished) and last.step == step and last.result is None and last.error
    beside.check()


def test_a_task_that_cannot_be_made_is_said_before_training_goes_on_for_hours(scripted: Scripted) -> None:
    scripted.at_start.write_text("raise")
    beside = scripted.begin()
    beside.request(scripted.path(1), 1)
    with pytest.raises(RunFailed, match="evaluation process failed: ValueError: not today"):
        list(beside.wait(NO_STOP))
    with pytest.raises(RunFailed):
        beside.check()


def test_a_process_that_starts_shares_the_machine_too(scripted: Scripted) -> None:
    """Counted as training alone, loading simulators would make evaluations look as if they cost nothing."""
    beside = scripted.begin()
    assert beside.works
    while beside.works:
        beside.poll()
    scripted.request(1)
    poll_until(beside, Begun)
    assert beside.works
    scripted.let(1, "1")
    list(beside.wait(NO_STOP))
    assert not beside.works


def test_a_stop_does_not_wait_for_the_evaluation(scripted: Scripted) -> None:
    beside, stop = scripted.begin(), StopRequest()
    scripted.request(1)
    heard = []
    with pytest.raises(Stopped, match="all is saved"):
        for note in beside.wait(stop, "all is saved"):
            heard.append(note)
            stop.request("SIGTERM")
    assert heard == [Begun(1, scripted.path(1), EPISODES)]
    assert beside._worker
    pid = beside._worker.pid
    beside.close()
    assert not is_running(pid) and not beside.busy
    beside.close()


def test_the_process_holds_nothing_of_the_trainers(scripted: Scripted, tmp_path: Path) -> None:
    """The job's lock above all: held on by an orphan, the job would count as running."""
    with (tmp_path / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        beside = scripted.begin()
        scripted.request(1)
        poll_until(beside, Begun)
        assert beside._worker
        held = [file.path for file in psutil.Process(beside._worker.pid).open_files()]
    assert str(tmp_path / "lock") not in held


def test_without_maniskill_it_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eval_beside.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PidecError, match=r"needs ManiSkill, which is not installed.*--eval-freq 0"):
        EvaluationBeside(**PUSH_CUBE)


# --- the real simulator -----------------------------------------------------------------------------------------------


def save_policy(folder: Path, step: int, num_diffusion_iters: int = 10) -> Path:
    """An untrained policy, but its actions lie around one that pushes a cube to the goal where it lies well (1004)."""
    around = {"kind": "min_max", "offset": torch.tensor([0.3, 0, -1, 0, 0, 0, -1]), "scale": torch.full((7,), 0.03)}
    torch.manual_seed(step)
    policy = DiffusionPolicy(35, 7, unet_dims=(8,), num_diffusion_iters=num_diffusion_iters)
    weights = policy.state_dict()
    config = {"env_id": "PushCube-v1", "control_mode": "pd_ee_delta_pose", "num_diffusion_iters": num_diffusion_iters}
    payload = {"step": step, "agent": weights, "ema_agent": weights, "config": config, "action_norm": around}
    return CheckpointFolder(folder).save(payload, {"kind": "diffusion"})


@pytest.fixture
def beside() -> Iterator[EvaluationBeside]:
    made = EvaluationBeside(**PUSH_CUBE)
    yield made
    made.close()


@pytest.mark.sim
def test_same_episodes_as_the_command(beside: EvaluationBeside, tmp_path: Path, capsys: Any) -> None:
    """best.pt would else be chosen by numbers that nobody can get again. A killed process changes nothing either."""
    path = save_policy(tmp_path, 7)
    beside.request(path, 7)
    last = list(beside.wait(NO_STOP))[-1]
    assert isinstance(last, Finished) and last.result
    flags = ["--num-eval-episodes", str(EPISODES), "--num-eval-envs", "2", "--max-episode-steps", "16"]
    flags += ["--num-steps", "10", "--seed", "1", "--device", "cpu", "--json", "--table"]
    assert main(["evaluate", str(path), *flags]) == 0
    answer = json.loads(capsys.readouterr().out)
    asked = [(one["seed"], one["success"], one["length"]) for one in answer["per_episode"]]
    assert asked == last.result.per_episode and len(asked) == EPISODES
    assert 0 < answer["successes"] < EPISODES, "else other episodes would give the same"
    for name, ours in {"eval/return": answer["return"], "eval/episode_length": answer["episode_length"]}.items():
        assert last.result.metrics()[name] == ours

    beside.request(path, 7)
    poll_until(beside, Progress)
    assert beside._worker
    processes = family(beside._worker.pid)
    assert len(processes) >= 2, "the evaluation and its simulators"
    assert {psutil.Process(pid).nice() for pid in processes} == {os.nice(0) + eval_beside.NICENESS}
    os.kill(processes[-1], signal.SIGKILL)  # a simulator
    notes = [note for note in beside.wait(NO_STOP) if not isinstance(note, Progress)]
    assert [type(note) for note in notes] == [Failed, Finished]
    again = notes[1]
    assert isinstance(again, Finished) and again.result and again.result.per_episode == asked
    until(lambda: not any(map(is_running, processes)), "the first processes are gone")


@pytest.mark.sim
def test_close_in_the_middle_of_an_episode_leaves_no_process(beside: EvaluationBeside, tmp_path: Path) -> None:
    beside.request(save_policy(tmp_path, 1, num_diffusion_iters=1000), 1)  # a round of episodes takes minutes
    poll_until(beside, Begun)
    assert beside._worker
    processes = family(beside._worker.pid)
    beside.close()
    assert not is_running(processes[0])
    until(lambda: not any(map(is_running, processes)), "the simulators are gone", seconds=10)


@pytest.mark.sim
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"env_id": "PushCub-v1"}, 'did you mean "PushCube-v1"?'),
        ({"control_mode": "pd_ee_delta_pos_"}, 'Did you mean "pd_ee_delta_pos"?'),
        ({"obs_dim": 50}, "have obs_dim 50, but PushCube-v1 with control mode pd_ee_delta_pose has obs_dim 35"),
        ({"act_dim": 8}, "have act_dim 8, but PushCube-v1 with control mode pd_ee_delta_pose has act_dim 7"),
    ],
)
def test_bad_input_is_raised_and_not_tried_again(change: dict[str, Any], words: str) -> None:
    beside = EvaluationBeside(**PUSH_CUBE | change)
    try:
        while True:
            assert beside.poll() == []
            try:
                beside.check()
            except PidecError as error:
                assert words in error.line() and error.exit_code == 2
                break
            time.sleep(0.02)
    finally:
        beside.close()


@pytest.mark.sim
@pytest.mark.parametrize("when", ["starting", "evaluating"])
def test_a_killed_trainer_takes_evaluation_and_simulators_with_it(tmp_path: Path, when: str) -> None:
    """Orphans would hold the GPU's memory, and the next job in the queue would wait for it."""
    code = f"""
import time
from pathlib import Path
from pidec_train.eval_beside import Begun, EvaluationBeside
beside = EvaluationBeside(**{PUSH_CUBE!r})
beside.request(Path({str(save_policy(tmp_path, 1, num_diffusion_iters=1000))!r}), 1)
while {when == "evaluating"} and not any(isinstance(note, Begun) for note in beside.poll()):
    time.sleep(0.05)
print(beside._worker.pid, flush=True)
time.sleep(120)
"""
    trainer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    evaluation = int(trainer.stdout.readline())
    if when == "starting":
        until(lambda: len(family(evaluation)) > 1, "it has begun to start simulators")
    processes = family(trainer.pid)
    assert evaluation in processes and len(processes) > 2
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    until(lambda: not any(map(is_running, processes)), "all are gone", seconds=10)
