"""The replay buffer: which rows are there, which are drawn, what is written to disk and read back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pidec_train.data.replay_buffer import BufferFile, ReplayBuffer, Transitions
from pidec_train.protocol.errors import PidecError
from tests.train.decorating import copy_of, transitions
from tests.train.small_disk import on_a_small_disk

OBS, CHUNK, CAPACITY = 3, 2, 10
WIDTH = 2 * OBS + 3 * CHUNK + 2


def buffer(capacity: int = CAPACITY) -> ReplayBuffer:
    return ReplayBuffer(capacity, OBS, CHUNK, torch.device("cpu"))


def numbered(first: int, count: int) -> Transitions:
    """Every field tells which transition and which field it is."""
    number = torch.arange(first, first + count, dtype=torch.float32)
    fields = {}
    for place, (name, width) in enumerate(
        {"obs": OBS, "next_obs": OBS, "residual": CHUNK, "base": CHUNK, "next_base": CHUNK}.items()
    ):
        fields[name] = number[:, None] * 100 + place * 10 + torch.arange(width)
    return Transitions(**fields, reward=number * 100 + 50, stop=number * 100 + 60)


def numbers_in(replay: ReplayBuffer, draws: int = 400) -> set[int]:
    """Which transitions can be drawn; each must be whole."""
    drawn = replay.sample(draws, torch.Generator().manual_seed(0))
    numbers = (drawn.reward - 50).div(100).round().long()
    expected = numbered(0, int(numbers.max()) + 1)
    for name, column in vars(expected).items():
        assert torch.equal(getattr(drawn, name), column[numbers]), name
    return set(numbers.tolist())


def file_of(path: Path) -> BufferFile:
    return BufferFile(path, WIDTH)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Bytes of each write to a file at a place."""
    sizes: list[int] = []
    pwrite = os.pwrite

    def count(fd: int, data: Any, offset: int) -> int:
        sizes.append(pwrite(fd, data, offset))
        return sizes[-1]

    monkeypatch.setattr(os, "pwrite", count)
    yield sizes


# --- the ring --------------------------------------------------------------------------------------------------------


def test_only_filled_rows_are_drawn_and_the_oldest_go() -> None:
    """Memory that nobody has written would teach the critic whatever lay there before."""
    replay = buffer()
    replay._rows.fill_(float("nan"))
    replay.add(numbered(0, 1))
    assert numbers_in(replay) == {0} and len(replay) == 1
    replay.add(numbered(1, 6))
    assert numbers_in(replay) == set(range(7))
    replay.add(numbered(7, 6))  # over the end: 10, 11 and 12 take the places of 0, 1 and 2
    assert numbers_in(replay) == set(range(3, 13)) and len(replay) == CAPACITY
    replay.add(numbered(13, 27))  # more than it holds at once
    assert numbers_in(replay) == set(range(30, 40))
    assert (replay.added, len(replay), float(replay.size)) == (40, CAPACITY, CAPACITY)


@pytest.mark.parametrize("step", [1, 3, 4, 7, 10, 11, 23])
def test_steps_of_any_size_go_round(step: int) -> None:
    replay = buffer()
    for first in range(0, 69, step):
        replay.add(numbered(first, step))
        end = first + step
        assert numbers_in(replay) == set(range(max(0, end - CAPACITY), end))


def test_every_row_is_drawn_as_often_as_any_other() -> None:
    """Chi-square over a hundred rows: 99 on average, its deviation 14. A bias of a few per cent would be found."""
    replay = buffer(128)
    replay.add(numbered(0, 100))
    draws = 200_000
    rewards = replay.sample(draws, torch.Generator().manual_seed(5)).reward
    counts = torch.bincount(((rewards - 50) / 100).round().long(), minlength=100).double()
    assert len(counts) == 100
    chi_square = float(((counts - draws / 100).square() / (draws / 100)).sum())
    assert 99 - 4 * 14 < chi_square < 99 + 4 * 14
    neighbours = torch.stack([rewards[:-1], rewards[1:]])
    assert abs(float(torch.corrcoef(neighbours)[0, 1])) < 0.01


class Many:
    """Thirty million rows that are not there; it keeps which were asked for."""

    device = torch.device("cpu")

    def index_select(self, dim: int, rows: torch.Tensor) -> torch.Tensor:
        self.asked = rows
        return torch.zeros(len(rows), 2)


def test_even_over_millions_of_rows_and_never_past_the_end() -> None:
    """A draw in float32 would leave out every other row beyond 16.8 million: never learned from."""
    count, many = 30_000_000, Many()
    replay = ReplayBuffer(1, 0, 0, torch.device("cpu"))
    replay._rows = many  # type: ignore[assignment]
    replay.size.fill_(count)
    replay.sample(100_000, torch.Generator().manual_seed(1))
    assert int(many.asked.min()) >= 0 and count * 0.999 < int(many.asked.max()) < count
    assert 0.49 < float((many.asked % 2).double().mean()) < 0.51


def test_a_draw_asks_nothing_but_its_generator() -> None:
    replay = buffer()
    replay.add(numbered(0, 8))
    dice = torch.Generator().manual_seed(2)
    expected = (torch.rand(50, generator=copy_of(dice), dtype=torch.float64) * 8).long()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert torch.equal(replay.sample(50, dice).reward, expected * 100.0 + 50)
    assert torch.equal(torch.get_rng_state(), before)


def test_rows_hold_all_fields() -> None:
    made = transitions(5)
    assert made.rows().shape == (5, 2 * 4 + 3 * 6 + 2)
    replay = ReplayBuffer(5, 4, 6, torch.device("cpu"))
    replay.add(made)
    assert torch.equal(replay._rows, made.rows())


def test_a_buffer_larger_than_memory_names_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the machine swaps for an hour and then kills something, perhaps not even the trainer."""
    free = psutil.virtual_memory()._replace(available=10_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(PidecError) as error:
        buffer(200_000)
    assert error.value.exit_code == 2
    bytes_wanted = 200_000 * WIDTH * 4
    assert f"of 200,000 transitions takes {bytes_wanted:,} bytes ({WIDTH} numbers each)" in error.value.line()
    assert "only 10,000,000 bytes of memory are free" in error.value.line()
    possible = int(error.value.hint.split()[2])
    assert 100_000 < possible < 10_000_000 // (WIDTH * 4)
    buffer(possible)


# --- its file --------------------------------------------------------------------------------------------------------


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    """Empty, half full, exactly full, gone round once, several times, and skipped over between two saves."""
    for number, counts in enumerate(([0], [4], [4, 6], [7, 8], [10, 10, 3], [9, 25], [3, 0, 40, 1])):
        replay, file, first = buffer(), file_of(tmp_path / str(number)), 0
        for count in counts:
            if count:
                replay.add(numbered(first, count))
            first += count
            file.save(replay)
        file.close()
        again, reader = buffer(), file_of(tmp_path / str(number))
        assert reader.load(again, replay.added)
        assert (again.added, len(again), float(again.size)) == (replay.added, len(replay), len(replay))
        assert torch.equal(again._rows[: len(again)], replay._rows[: len(replay)])
        for both in (replay, again):  # the next one goes to the same place
            both.add(numbered(first, 2))
        assert numbers_in(again) == numbers_in(replay)
        reader.save(again)
        third = buffer()
        assert file_of(tmp_path / str(number)).load(third, again.added)
        assert numbers_in(third) == numbers_in(again)


def test_only_new_rows_are_written(tmp_path: Path, written: list[int]) -> None:
    """The paper's buffer has 2.7 GB: writing all of it at each checkpoint would wear the disk and stop the run."""
    replay, file, row = buffer(), file_of(tmp_path / "replay"), 4 * WIDTH
    replay.add(numbered(0, 7))
    file.save(replay)
    assert sum(written) == 7 * row
    written.clear()
    file.save(replay)
    assert written == []
    replay.add(numbered(7, 5))  # over the end
    file.save(replay)
    assert written == [3 * row, 2 * row]
    written.clear()
    replay.add(numbered(12, 31))  # all of it is new
    file.save(replay)
    assert sum(written) == CAPACITY * row
    assert (tmp_path / "replay").stat().st_size == CAPACITY * row
    written.clear()
    again, reader = buffer(), file_of(tmp_path / "replay")
    assert reader.load(again, 43)
    again.add(numbered(43, 1))
    reader.save(again)
    assert sum(written) == row


def test_the_file_may_know_more_than_the_checkpoint(tmp_path: Path) -> None:
    """A kill between the two: what the checkpoint counts is there, and each row is whole."""
    replay, file = buffer(), file_of(tmp_path / "replay")
    replay.add(numbered(0, 8))
    file.save(replay)
    again = buffer()
    assert file_of(tmp_path / "replay").load(again, 5)
    assert numbers_in(again) == set(range(5)) and again.added == 5
    replay.add(numbered(8, 5))
    file.save(replay)
    again = buffer()
    assert file_of(tmp_path / "replay").load(again, 11)
    assert numbers_in(again) == set(range(3, 13)) and again.added == 11


def test_a_write_that_is_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may take less than it was given."""
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:13], offset))
    replay, file = buffer(), file_of(tmp_path / "replay")
    replay.add(numbered(0, 14))
    file.save(replay)
    again = buffer()
    assert file_of(tmp_path / "replay").load(again, 14) and numbers_in(again) == set(range(4, 14))


def test_a_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    """Rows of zeros would be transitions that never happened."""
    replay, file = buffer(), file_of(tmp_path / "replay")
    replay.add(numbered(0, 8))
    file.save(replay)
    os.truncate(tmp_path / "replay", 8 * WIDTH * 4 - 1)
    again = buffer()
    assert not file_of(tmp_path / "replay").load(again, 8)
    assert again.added == len(again) == 0
    assert not file_of(tmp_path / "none").load(again, 1)
    assert file_of(tmp_path / "none").load(again, 0)


FULL_DISK = f"""
import sys
from pathlib import Path
import pytest, torch
from tests.train.test_train_replay import CHUNK, OBS, WIDTH, BufferFile, ReplayBuffer, numbered, numbers_in

disk = Path(sys.argv[1])
rows = 3 * 2**20 // ({WIDTH} * 4)
replay, file = ReplayBuffer(2 * rows, OBS, CHUNK, torch.device("cpu")), BufferFile(disk / "replay", WIDTH)
replay.add(numbered(0, 1000))
file.save(replay)
replay.add(numbered(1000, rows))
with pytest.raises(OSError, match="No space left"):
    file.save(replay)
assert file.written == 1000 and (disk / "replay").stat().st_size == 1000 * WIDTH * 4
(disk / "checkpoint").write_bytes(bytes(2 * 2**20))
again = ReplayBuffer(2 * rows, OBS, CHUNK, torch.device("cpu"))
assert not BufferFile(disk / "replay", WIDTH).load(again, replay.added), "cut, but not found out"
assert BufferFile(disk / "replay", WIDTH).load(again, 1000)
assert torch.equal(again._rows[:1000], replay._rows[:1000])
"""


def test_a_full_disk_is_an_error_and_keeps_what_was_there(tmp_path: Path) -> None:
    """Through a memory map it would be a SIGBUS, and the end of the run without a word."""
    (tmp_path / "disk").mkdir()
    done = on_a_small_disk(tmp_path / "disk", FULL_DISK)
    assert done.returncode == 0, done.stderr
