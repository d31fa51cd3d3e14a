"""The decision table of the design, section 7, and the times it works on."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmgr import AccessToken, ConfigurationError, RefreshPolicy
from tokenmgr.policy import Action, Times, decide, new_record, times

POLICY = RefreshPolicy()
CURRENT = Times(fresh_until=100.0, valid_until=200.0)


@pytest.mark.parametrize(
    ("now", "current", "min_ttl", "retry_at", "action"),
    [
        # the token in hand     needs   backing off until   what the call does
        pytest.param(99.9, CURRENT, None, 0.0, Action.RETURN, id="fresh"),
        pytest.param(99.9, CURRENT, None, 150.0, Action.RETURN, id="fresh, backing off"),
        pytest.param(100.0, CURRENT, None, 0.0, Action.RETURN_AND_RENEW, id="aging"),
        pytest.param(199.9, CURRENT, None, 0.0, Action.RETURN_AND_RENEW, id="nearly expired"),
        pytest.param(150.0, CURRENT, None, 150.1, Action.RETURN, id="aging, backing off"),
        pytest.param(150.0, CURRENT, None, 150.0, Action.RETURN_AND_RENEW, id="backed off"),
        pytest.param(50.0, CURRENT, 150.0, 0.0, Action.RETURN, id="fresh, enough left"),
        pytest.param(50.0, CURRENT, 150.1, 0.0, Action.WAIT, id="fresh, too little left"),
        pytest.param(150.0, CURRENT, 50.0, 0.0, Action.RETURN_AND_RENEW, id="aging, enough left"),
        pytest.param(150.0, CURRENT, 50.1, 0.0, Action.WAIT, id="aging, too little left"),
        pytest.param(150.0, CURRENT, 50.1, 151.0, Action.FAIL, id="too little left, backing off"),
        pytest.param(200.0, CURRENT, None, 0.0, Action.WAIT, id="expired"),
        pytest.param(200.0, CURRENT, None, 201.0, Action.FAIL, id="expired, backing off"),
        pytest.param(0.0, None, None, 0.0, Action.WAIT, id="none"),
        pytest.param(0.0, None, None, 1.0, Action.FAIL, id="none, backing off"),
    ],
)
def test_what_a_call_does(
    now: float, current: Times | None, min_ttl: float | None, retry_at: float, action: Action
) -> None:
    assert decide(now, current, min_ttl=min_ttl, retry_at=retry_at) is action


@pytest.mark.parametrize(
    ("lifetime", "refresh_in", "fresh", "valid"),
    [
        pytest.param(3600, None, 2880, 3590, id="an hour: 20 % is left at renewal"),
        pytest.param(86400, None, 69120, 86390, id="a day: 20 % is left"),
        pytest.param(1200, None, 900, 1190, id="20 minutes: at least 5 minutes are left"),
        pytest.param(600, None, 300, 590, id="10 minutes: 5 minutes are half of it"),
        pytest.param(90, None, 45, 80, id="90 seconds: half is left"),
        pytest.param(8, None, 4, 6, id="8 seconds: a quarter is the skew"),
        pytest.param(3600, 1800, 1800, 3590, id="the service asks for half"),
        pytest.param(3600, 0, 0, 3590, id="the service asks for renewal at once"),
        pytest.param(3600, -5, 0, 3590, id="the service asks for the past"),
        pytest.param(3600, 9999, 3590, 3590, id="the service asks for after the end"),
    ],
)
def test_how_long_a_token_serves(
    lifetime: float, refresh_in: float | None, fresh: float, valid: float
) -> None:
    serves = times(POLICY, 1000.0, lifetime, refresh_in=refresh_in, chance=0.0)
    assert (serves.fresh_until - 1000.0, serves.valid_until - 1000.0) == (fresh, valid)


@given(
    lifetime=st.floats(0.001, 1e8),
    refresh_in=st.none() | st.floats(-1e9, 1e9),
    chance=st.floats(0, 1),
)
def test_it_is_never_fresh_past_its_validity_nor_valid_past_its_expiry(
    lifetime: float, refresh_in: float | None, chance: float
) -> None:
    serves = times(POLICY, 0.0, lifetime, refresh_in=refresh_in, chance=chance)
    assert 0 <= serves.fresh_until <= serves.valid_until < lifetime


@pytest.mark.parametrize("age", [0.0, 600.0, 2000.0])
def test_a_token_that_has_lived_elsewhere_serves_as_long_as_one_from_here(
    age: float,
) -> None:
    serves = times(POLICY, 1000.0 + age, 3600.0 - age, chance=0.0, age=age)
    assert (serves.fresh_until, serves.valid_until) == (1000.0 + 2880.0, 1000.0 + 3590.0)
    short = times(POLICY, 0.0, 8.0, chance=0.0, age=12.0)
    assert (short.fresh_until, short.valid_until) == (0.0, 3.0)


def test_jitter_moves_renewal_earlier_by_up_to_a_tenth() -> None:
    early = times(POLICY, 0.0, 3600.0, chance=1.0)
    late = times(POLICY, 0.0, 3600.0, chance=0.0)
    assert early.fresh_until == pytest.approx(late.fresh_until * 0.9)
    asked = times(POLICY, 0.0, 3600.0, refresh_in=1000.0, chance=1.0)
    assert asked.fresh_until == pytest.approx(900.0)


@pytest.mark.parametrize(
    ("refresh_at", "due"),
    [(None, 1000.0 + 2880.0), (2000.0, 2000.0), (9999.0, 1000.0 + 3590.0), (0.0, 1001.0)],
    ids=["nobody said", "the service said", "after the end", "the past"],
)
def test_a_record_says_when_its_token_is_due_the_same_for_everybody(
    refresh_at: float | None, due: float
) -> None:
    token = AccessToken("eyJ0", 1000.0 + 3600.0, refresh_at, ("a",))
    for _ in range(3):
        record = new_record(token, 1000.0, POLICY)
        assert record.obtained_at == 1000.0
        assert record.token == replace(token, refresh_at=due)


@pytest.mark.parametrize(
    "setting",
    [
        {"skew": -1.0},
        {"min_margin": math.nan},
        {"backoff_base": -1.0},
        {"backoff_cap": -1.0},
        {"retry_after_cap": -1.0},
        {"margin": 1.0},
        {"jitter": -0.1},
        {"max_wait": 0.0},
    ],
)
def test_a_policy_that_cannot_be_is_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(setting))):
        RefreshPolicy(**setting)
