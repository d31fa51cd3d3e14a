"""Whether a process can serve, which is told without asking anybody."""

from __future__ import annotations

import pytest
from support import KEY, SCOPE, FakeClock

from tokenmgr import InvalidScopeError, TokenRegistry
from tokenmgr.emulator import EntraEmulator
from tokenmgr.events import TokenStatus, health_of

ORDERS = "api://orders/.default"


def status(state, error=None):
    return TokenStatus(KEY, state, 60.0 if state in ("fresh", "aging") else 0.0, None, error, 0)


@pytest.mark.parametrize(
    ("tokens", "ready"),
    [
        ([], True),
        ([status("none")], True),
        ([status("fresh")], True),
        ([status("aging", "ServiceUnavailableError: down")], True),
        ([status("expired")], True),
        ([status("expired", "ServiceUnavailableError: down")], False),
        ([status("none", "InvalidScopeError: no")], False),
        ([status("none", "InvalidScopeError: no"), status("none")], False),
        ([status("none", "InvalidScopeError: no"), status("fresh")], True),
        ([status("expired", "ServiceUnavailableError: down"), status("aging", "down")], True),
    ],
)
def test_it_is_ready_unless_no_token_is_valid_and_one_has_failed(tokens, ready):
    assert health_of(tokens).ready is ready


def test_it_counts_the_tokens_and_says_what_is_wrong_though_it_is_ready():
    health = health_of(
        [status("fresh"), status("aging", "down"), status("none"), status("expired", "E: gone")]
    )
    assert (health.fresh, health.aging, health.expired, health.none, health.failing) == (1,) * 5
    assert health.reason == "1 of 4 tokens cannot be had; the last: E: gone"
    assert health_of([status("aging", "down")]).reason is None


def test_a_registry_says_how_it_is_from_its_beginning_to_its_end(entra: EntraEmulator):
    clock = FakeClock()
    with entra.registry(clock=clock) as tokens:
        assert tokens.health().ready
        entra.fail_next(status=400, error="invalid_scope", error_codes=[70011])
        with pytest.raises(InvalidScopeError):
            tokens.get_access_token(ORDERS)
        health = tokens.health()
        assert (health.ready, health.none, health.failing) == (False, 1, 1)
        assert "InvalidScopeError" in str(health.reason)
        tokens.get_access_token(SCOPE)
        assert tokens.health().ready
        asked = len(entra.requests)
        assert tokens.health().fresh == 1
        assert len(entra.requests) == asked
    assert not tokens.health().ready


def test_a_users_trouble_is_not_the_process_s(entra: EntraEmulator):
    entra.fail_next(9, status=400, error="invalid_grant", error_codes=[50173])
    with entra.registry() as tokens:
        user = tokens.on_behalf_of(entra.sign_in("ann@contoso.com"), SCOPE)
        with pytest.raises(Exception, match="50173"):
            user.get_access_token()
        assert tokens.health().ready


def test_what_cannot_serve_asks_nobody_either():
    tokens = TokenRegistry(
        client_id=KEY.client_id, credential="secret", authority="https://127.0.0.1:9/contoso.com"
    )
    tokens.manager(SCOPE)
    assert tokens.health().ready
