"""How long what fails is left alone: one rule for keys, the breaker, the store and the wire."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmgr import RefreshPolicy
from tokenmgr._runtime import backoff as module
from tokenmgr._runtime.backoff import Backoff
from tokenmgr.policy import new_backoff


class Chance(random.Random):
    """Chance that is told what to give, from 0 to 1."""

    value = 0.0

    def random(self) -> float:
        return self.value


@pytest.fixture
def chance(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Says what chance gives from here on."""
    told = Chance()
    monkeypatch.setattr(module, "random", told)
    return lambda value: setattr(told, "value", value)


def failed(backoff: Backoff, failures: int) -> Backoff:
    """Lets all but the last of so many failures happen."""
    for _ in range(failures - 1):
        backoff.fail(0.0)
    return backoff


@pytest.mark.parametrize(
    ("failures", "ceiling"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (5000, 60)]
)
def test_it_is_any_time_up_to_a_ceiling_that_doubles(chance, failures, ceiling):
    for value in (0.0, 0.25, 1.0):
        chance(value)
        backoff = failed(new_backoff(RefreshPolicy()), failures)
        assert backoff.fail(1000.0) == ceiling * value
        assert backoff.until == 1000.0 + ceiling * value
        assert backoff.failures == failures


@pytest.mark.parametrize(("failures", "ceiling"), [(1, 2), (2, 4), (4, 16), (5, 30), (9, 30)])
def test_a_share_of_it_may_be_the_least(chance, failures, ceiling):
    for value in (0.0, 1.0):
        chance(value)
        backoff = failed(Backoff(2.0, 30.0, least=0.5), failures)
        assert backoff.fail(0.0) == ceiling * (0.5 + value / 2)


def test_a_success_ends_it_and_has_failures_counted_anew(chance):
    chance(1.0)
    backoff = failed(new_backoff(RefreshPolicy()), 5)
    assert backoff.fail(1000.0) == 16.0
    backoff.clear()
    assert backoff.failures == 0
    assert backoff.until < 0.0
    assert backoff.fail(1000.0) == 1.0


def test_it_stands_from_the_last_failure_on(chance):
    chance(1.0)
    backoff = new_backoff(RefreshPolicy())
    assert backoff.until < 0.0
    backoff.fail(1000.0, asked=500.0)
    backoff.fail(1001.0)
    assert backoff.until == 1003.0


def test_retry_after_is_the_least_of_it_and_spread_upwards(chance):
    backoff = new_backoff(RefreshPolicy())
    assert backoff.fail(0.0, asked=30.0) == 30.0
    assert backoff.fail(0.0, asked=1e9) == 3600.0
    chance(1.0)
    assert backoff.fail(0.0, asked=30.0) == pytest.approx(33.0)
    assert failed(backoff, 9).fail(0.0, asked=0.0) == 60.0


def test_what_is_ours_of_it_may_be_bounded_and_what_the_service_asks_is_not(chance):
    chance(1.0)
    backoff = failed(new_backoff(RefreshPolicy(jitter=0.0)), 9)
    assert backoff.fail(0.0, most=5.0) == 5.0
    assert backoff.fail(0.0, most=5.0, asked=30.0) == 30.0
    assert backoff.fail(0.0, most=5.0, asked=3.0) == 5.0


@given(
    failures=st.integers(1, 50),
    asked=st.none() | st.floats(0.0, 1e6),
    most=st.floats(0.0, 1e6),
)
def test_it_never_leaves_its_bounds(failures, asked, most):
    backoff = failed(Backoff(1.0, 60.0, least=0.5, longest_asked=3600.0, spread=0.1), failures)
    seconds = backoff.fail(1000.0, asked=asked, most=most)
    heard = 0.0 if asked is None else min(asked, 3600.0)
    assert max(heard, min(most, 0.5)) <= seconds <= max(1.1 * heard, min(most, 60.0))
    assert backoff.until == 1000.0 + seconds


def test_it_is_spread():
    assert len({Backoff(1.0, 60.0).fail(0.0) for _ in range(100)}) == 100
    asked = {Backoff(0.0, 0.0, spread=0.1).fail(0.0, asked=30.0) for _ in range(100)}
    assert len(asked) == 100
