"""Credentials of azure-core: whose token, and when, with azure-core's own policies."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from azure.core.credentials import AccessToken, SupportsTokenInfo, TokenCredential
from azure.core.credentials_async import AsyncSupportsTokenInfo, AsyncTokenCredential
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from support import EXACT, SCOPE, FakeClock, FakeSource, in_threads, make_manager

import tokenmgr.http.azure as ours
from tokenmgr import ConfigurationError, ServiceUnavailableError, TokenRegistry
from tokenmgr.emulator import EntraEmulator

STORAGE = "https://storage.azure.com/.default"
FABRIKAM = "fabrikam.onmicrosoft.com"
CLAIMS = '{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}'
BOTH = pytest.mark.parametrize("kind", [ours.TokenCredential, ours.AsyncTokenCredential])


def asked(credential, *scopes, **options):
    """What a credential gives, in either kind."""
    given = credential.get_token(*scopes, **options)
    return asyncio.run(given) if asyncio.iscoroutine(given) else given


def told(credential, *scopes, **options):
    given = credential.get_token_info(*scopes, options=options)
    return asyncio.run(given) if asyncio.iscoroutine(given) else given


def answer(status, token):
    request = SimpleNamespace(headers={"Authorization": f"Bearer {token}"})
    http = SimpleNamespace(status_code=status)
    return SimpleNamespace(http_response=http, http_request=request)


@pytest.fixture
def tokens(entra: EntraEmulator):
    with entra.registry() as registry:
        yield registry


def test_each_is_what_azure_core_takes_it_for(manager):
    sync, other = ours.TokenCredential(manager), ours.AsyncTokenCredential(manager)
    assert isinstance(sync, TokenCredential)
    assert isinstance(sync, SupportsTokenInfo)
    assert not isinstance(sync, (AsyncTokenCredential, AsyncSupportsTokenInfo))
    assert isinstance(other, AsyncTokenCredential)
    assert isinstance(other, AsyncSupportsTokenInfo)
    assert not isinstance(other, SupportsTokenInfo)
    assert asyncio.iscoroutinefunction(other.get_token)
    assert asyncio.iscoroutinefunction(other.get_token_info)


@BOTH
def test_a_registry_gives_any_scope_and_each_is_fetched_once(kind, entra, tokens):
    credential = kind(tokens)
    for _ in range(2):
        for scope in (SCOPE, STORAGE):
            assert asked(credential, scope).token == told(credential, scope).token
    assert (entra.count(scope=SCOPE), entra.count(scope=STORAGE)) == (1, 1)


@BOTH
def test_a_manager_gives_its_own_scope_alone(kind, manager, source):
    credential = kind(manager)
    with pytest.raises(ConfigurationError, match="registry") as refused:
        asked(credential, STORAGE)
    assert STORAGE in str(refused.value)
    with pytest.raises(ConfigurationError, match="no scope"):
        asked(credential)
    assert source.fetches == 0
    assert asked(credential, SCOPE, tenant_id=FABRIKAM, enable_cae=True).token == "token-1"


class Follower:
    """A manager of whoever is the current user."""

    scopes = (SCOPE,)

    def get_token(self, *, claims=None):
        raise AssertionError


@BOTH
@pytest.mark.parametrize("given", [Follower(), "a-token", None])
def test_what_has_no_token_of_its_own_is_refused(kind, given):
    with pytest.raises(ConfigurationError, match="current user") as refused:
        kind(given)
    assert type(given).__name__ in str(refused.value)
    assert "a-token" not in str(refused.value)


@BOTH
def test_another_tenant_is_asked_where_the_program_says_so(kind, entra, tokens):
    own = asked(kind(tokens), STORAGE)
    assert asked(kind(tokens), STORAGE, tenant_id="Contoso.onmicrosoft.com") == own
    with pytest.raises(ConfigurationError, match=f"tenants='{FABRIKAM}'"):
        asked(kind(tokens), STORAGE, tenant_id=FABRIKAM)
    assert entra.count() == 1
    for tenants in (FABRIKAM.upper(), [FABRIKAM], "*"):
        other = told(kind(tokens, tenants=tenants), STORAGE, tenant_id=FABRIKAM)
        assert other.token == tokens.tenant(FABRIKAM).get_access_token(STORAGE) != own.token
    assert entra.count() == 2


@BOTH
def test_a_pipeline_that_answers_challenges_has_tokens_of_its_own(kind, entra, tokens):
    credential = kind(tokens)
    plain, cae = asked(credential, SCOPE), asked(credential, SCOPE, enable_cae=True)
    assert told(credential, SCOPE).token == plain.token
    assert told(credential, SCOPE, enable_cae=True).token == cae.token != plain.token
    asking = [request for request in entra.requests if request.kind == "token"]
    capable = ["CP1" in request.form.get("claims", "") for request in asking]
    assert capable == [False, True]


@BOTH
@pytest.mark.parametrize("ask", [asked, told])
def test_claims_are_asked_for_once_and_stay(kind, ask, manager, source):
    credential = kind(manager)
    assert [ask(credential, SCOPE, claims=CLAIMS).token for _ in range(2)] == ["token-1"] * 2
    assert ask(credential, SCOPE).token == "token-1"
    assert source.claims == [CLAIMS]


@BOTH
def test_closing_it_closes_nothing_else(kind, manager):
    credential = kind(manager)

    async def close():
        async with credential:
            await credential.close()

    if kind is ours.TokenCredential:
        with credential:
            credential.close()
    else:
        asyncio.run(close())
    assert asked(credential, SCOPE).token == "token-1"


@BOTH
def test_nothing_that_is_shown_has_the_token(kind, manager):
    credential = kind(manager)
    token, info = asked(credential, SCOPE), told(credential, SCOPE)
    assert isinstance(token, AccessToken)
    for shown in (token, info, credential):
        assert "token-1" not in f"{shown} {shown!r} {[shown]} {(shown,)} {shown}"
    assert str(token.expires_on) in repr(token)
    assert (token.token, token.expires_on) == tuple(token) == (info.token, info.expires_on)


@BOTH
def test_a_failure_is_ours_as_it_is(kind, manager, source):
    source.error = ServiceUnavailableError("the service is down")
    with pytest.raises(ServiceUnavailableError):
        asked(kind(manager), SCOPE)


# When azure-core asks again


@pytest.mark.parametrize(
    ("lifetime", "refresh_in", "asks_after"),
    [
        (3600, None, 2880),  # when we renew
        (3600, 1200, 1200),
        (86_400, 43_200, 43_200),
        (120, None, 50),  # 60 s before we would no longer hand it out, as it may ask so much later
        (60, None, -10),  # always
    ],
)
def test_azure_core_asks_when_we_renew_and_keeps_no_token_past_our_own_end(
    clock: FakeClock, source: FakeSource, lifetime, refresh_in, asks_after
):
    source.lifetime, source.refresh_in = lifetime, refresh_in
    info = told(ours.TokenCredential(make_manager(clock, source)), SCOPE)
    assert info.expires_on == clock.wall() + lifetime
    assert info.refresh_on == clock.wall() + asks_after
    assert info.refresh_on + 60 <= info.expires_on - EXACT.skew
    assert info.token_type == "Bearer"


def test_a_token_of_another_type_says_so(clock, source):
    give = source.fetch_token
    source.fetch_token = lambda *, claims=None: replace(give(claims=claims), token_type="pop")
    assert told(ours.TokenCredential(make_manager(clock, source)), SCOPE).token_type == "pop"


def test_times_are_whole_seconds_and_never_later_than_ours(clock, source):
    source.lifetime = 3600.9
    token = told(ours.TokenCredential(make_manager(clock, source)), SCOPE)
    assert isinstance(token.expires_on, int)
    assert isinstance(token.refresh_on, int)
    assert token.expires_on == int(clock.wall() + 3600)


def test_azure_cores_policy_has_the_new_token_as_soon_as_it_asks(clock, source, monkeypatch):
    manager = make_manager(clock, source)
    policy = BearerTokenCredentialPolicy(ours.TokenCredential(manager), SCOPE)
    monkeypatch.setattr("time.time", clock.wall)

    def sent():
        request = SimpleNamespace(
            http_request=SimpleNamespace(url="https://x/", headers={}),
            context=SimpleNamespace(options={}, get=lambda name, other: other),
        )
        policy.on_request(request)
        return request.http_request.headers["Authorization"]

    assert sent() == "Bearer token-1"
    manager.refresh_access_token()
    clock.advance(2880 + 60)
    assert sent() == "Bearer token-2"


# Refused tokens


@BOTH
def test_a_refused_token_is_dropped_and_no_other(kind, manager, source):
    credential = kind(manager)
    asked(credential, SCOPE)
    for harmless in (answer(200, "token-1"), answer(403, "token-1"), answer(401, "token-0")):
        credential.drop_refused(harmless)
    assert asked(credential, SCOPE).token == "token-1"
    credential.drop_refused(answer(401, "token-1"))
    assert asked(credential, SCOPE).token == "token-2"


def test_a_refused_token_is_found_among_all_that_a_registry_gave(entra, tokens):
    credential = ours.TokenCredential(tokens)
    first, other = (asked(credential, scope).token for scope in (STORAGE, SCOPE))
    credential.drop_refused(answer(401, first))
    assert asked(credential, SCOPE).token == other
    assert asked(credential, STORAGE).token != first
    assert entra.count() == 3


def test_it_keeps_no_manager_alive(tokens: TokenRegistry):
    credential = ours.TokenCredential(tokens)
    asked(credential, STORAGE)
    assert len(credential._asked) == 1
    tokens.close()
    assert not credential._asked


def test_fifty_cold_callers_make_one_request(manager, source):
    credential = ours.TokenCredential(manager)
    found = in_threads(50, lambda: credential.get_token(SCOPE).token)
    assert found == ["token-1"] * 50
    assert source.fetches == 1


def test_without_azure_core_its_import_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "tokenmgr.http.azure")
    monkeypatch.setitem(sys.modules, "azure.core.credentials", None)
    with pytest.raises(ImportError, match=r"pip install 'tokenmgr\[azure\]'"):
        import tokenmgr.http.azure  # noqa: F401


@BOTH
def test_a_manager_of_one_user_is_that_users(kind, entra, tokens):
    user = tokens.on_behalf_of(entra.sign_in("ann@contoso.com"), SCOPE)
    assert asked(kind(user), SCOPE).token == user.get_access_token()
    assert entra.count(username="ann@contoso.com") == 1
