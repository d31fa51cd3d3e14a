"""Schedules of the whole core, by seeds: none breaks a promise, and known bugs are found.

One that fails here says how it is replayed. More of them are run by hand: see the package.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from explorer import plants
from explorer.plants import PLANTS, Plant
from explorer.rounds import play
from explorer.schedule import BrokenPromiseError, Schedule
from explorer.simulated import Threading

#: Rounds of a test; with those of the plants the file takes half a minute.
ROUNDS = 75
#: Rounds in which a planted bug is found; most are in the first thirty.
ENOUGH = 600


@pytest.mark.parametrize("start", range(0, 4 * ROUNDS, ROUNDS))
def test_no_schedule_breaks_a_promise(start: int) -> None:
    for seed in range(start, start + ROUNDS):
        failure = play(seed).failure
        assert failure is None, failure


def found_in(seeds: Iterable[int], plant: Plant) -> tuple[int, str]:
    for seed in seeds:
        failure = play(seed, watch=[plants.__file__], likes=plant.likes).failure
        if failure is not None:
            return seed, failure
    raise AssertionError("the bug is not found")


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_a_planted_bug_is_found_and_its_seed_finds_it_again(plant: Plant) -> None:
    with plant.planted():
        seed, failure = found_in(range(ENOUGH), plant)
        assert plant.words in failure
        assert f"--seed {seed}" in failure
        assert found_in([seed], plant) == (seed, failure)


def test_a_seed_makes_the_same_round_in_every_process_and_another_one_another() -> None:
    code = "from explorer.rounds import play; print([play(seed).digest for seed in range(8)])"
    tests = Path(__file__).parent.parent
    paths = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONHASHSEED": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    backwards = [play(seed).digest for seed in range(7, -1, -1)]
    assert ran.stdout.strip() == str(backwards[::-1])
    assert len(set(backwards)) == 8


def test_a_deadlock_is_told_with_where_each_thread_stands() -> None:
    schedule = Schedule(0, [])
    threading = Threading(schedule)
    one, other = threading.Lock(), threading.Lock()

    def take(first, second):
        with first:
            schedule.sleep(1.0)
            second.acquire()

    def main():
        for pair in ((one, other), (other, one)):
            threading.Thread(target=lambda pair=pair: take(*pair), name="taker").start()
        schedule.sleep(2.0)
        one.acquire()

    with pytest.raises(BrokenPromiseError, match="a deadlock") as told:
        schedule.play(main)
    assert str(told.value).count("test_explorer.py") >= 2


def test_time_goes_on_by_itself_when_nobody_can() -> None:
    schedule, times = Schedule(0, []), []
    lock = Threading(schedule).Lock()

    def main():
        lock.acquire()
        for seconds in (3600.0, 0.5):
            assert not lock.acquire(timeout=seconds)
            times.append(schedule.now)

    schedule.play(main)
    assert times == [3600.0, 3600.5]
