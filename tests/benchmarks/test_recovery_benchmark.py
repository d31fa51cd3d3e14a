"""The benchmark of recovery, on a small scale. Nothing is judged by its speed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # they are no part of the package

from benchmarks import recovery
from benchmarks.virtual_service import TROUBLES, VirtualConnection, VirtualService
from benchmarks.virtual_time import VirtualTime
from tokenmgr import TokenRegistry


def test_virtual_time_goes_by_where_all_sleep_and_in_its_order():
    time, seen = VirtualTime(), []

    def sleeper(name: str, *pauses: float) -> None:
        for pause in pauses:
            time.sleep(pause)
            seen.append((name, time.elapsed()))

    time.run([lambda: sleeper("one", 3600, 1), lambda: sleeper("other", 1800, 7200)])

    assert seen == [("other", 1800), ("one", 3600), ("one", 3601), ("other", 9000)]


def test_what_fails_in_virtual_time_is_raised_when_the_others_are_done():
    time, done = VirtualTime(), []

    def sleeper() -> None:
        time.sleep(60)
        done.append(time.elapsed())

    with pytest.raises(ZeroDivisionError):
        time.run([lambda: 1 // 0, sleeper])

    assert done == [60]


@pytest.mark.parametrize("trouble", [*TROUBLES, recovery.WRONG_SECRET])
def test_an_outage_has_requests_and_an_end(trouble):
    found = recovery.recover(recovery.our_calls, trouble, 30.0, seed=1)

    assert 0 < found.seconds < 60
    assert 4 <= found.requests < 100
    assert recovery.recover(recovery.our_calls, trouble, 30.0, seed=1) == found


def test_a_virtual_service_answers_nobody_but_its_own_connection(entra, monkeypatch):
    connection = VirtualConnection(VirtualService(VirtualTime()), timeout=10.0)
    for name, value in entra.environment().items():
        monkeypatch.setenv(name, value)

    with TokenRegistry.from_env() as tokens:
        assert tokens.get_access_token("api://orders/.default").startswith("eyJ")

    assert entra.count() == 1
    connection.close()


def test_msal_asks_at_every_call():
    ours = recovery.recover(recovery.our_calls, next(iter(TROUBLES)), 30.0, seed=1)
    theirs = recovery.recover(recovery.msal_calls, next(iter(TROUBLES)), 30.0, seed=1)

    assert theirs.seconds <= 1.1
    assert theirs.requests > 2 * ours.requests


def test_each_trouble_has_its_row():
    figures = recovery.section(rounds=1, lasts=[5.0]).figures

    assert [each.what for each in figures] == [
        f"{trouble}, for 5 s" for trouble in (*TROUBLES, recovery.WRONG_SECRET)
    ]
    assert all(each.met is not None for each in figures)
    assert ["MSAL" in each.measured for each in figures] == [True, True, True, False]
