"""TokenRegistry, as a program uses it, against a local Entra."""

from __future__ import annotations

import contextlib
import gc
import pickle
import threading
from collections.abc import Callable
from typing import Any

import jwt
import pytest
import requests
from support import SCOPE, FakeClock, in_threads

from tokenmgr import (
    AccessTokenManager,
    Authority,
    AuthorityError,
    ClientSecret,
    ConfigurationError,
    InvalidScopeError,
    RefreshPolicy,
    TokenRegistry,
)
from tokenmgr.emulator import EntraEmulator

ORDERS = "api://orders/.default"


def claims(token: str) -> dict[str, object]:
    return jwt.decode(token, options={"verify_signature": False})


def test_each_scope_has_its_manager_and_its_token(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        graph, orders = tokens.manager(SCOPE), tokens.manager(ORDERS)
        assert graph is not orders
        assert claims(graph.get_access_token())["aud"] == "https://graph.microsoft.com"
        assert claims(orders.get_access_token())["aud"] == "api://orders"
        assert entra.count() == 2
        assert entra.count(scope=ORDERS) == 1


def test_the_same_scope_gives_the_same_manager_from_every_thread(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        managers = in_threads(20, lambda: tokens.manager(f" {SCOPE} "))
        assert set(managers) == {tokens.manager(SCOPE)}


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, iter])
def test_a_scope_may_come_in_a_list_a_tuple_or_a_set(entra: EntraEmulator, kind: Any) -> None:
    with entra.registry() as tokens:
        assert tokens.manager(kind([SCOPE])) is tokens.manager(SCOPE)


def test_fifty_threads_cost_one_token_request(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        secrets = in_threads(50, tokens.manager(SCOPE).get_access_token)
    assert len(set(secrets)) == 1
    assert entra.count() == 1


def test_two_b2c_policies_of_one_tenant_and_client_have_tokens_of_their_own(
    entra: EntraEmulator,
) -> None:
    scope = "https://contoso.onmicrosoft.com/orders/.default"
    for policy in ("b2c_1_signin", "b2c_1_edit"):
        with entra.registry(authority=entra.b2c_authority("contoso", policy)) as tokens:
            assert claims(tokens.manager(scope).get_access_token())["tfp"] == policy


def test_the_token_opens_the_protected_api(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        answer = requests.get(
            f"{entra.url}/graph/v1.0/organization",
            headers=tokens.manager(SCOPE).headers(),
            verify=entra.ca_file,
            timeout=10,
        )
    assert answer.status_code == 200
    assert answer.json()["appid"] == entra.client_id


async def test_async_callers_get_tokens_too(entra: EntraEmulator) -> None:
    async with entra.registry() as tokens:
        graph = tokens.manager(SCOPE)
        assert await graph.aget_access_token() == graph.get_access_token()
    assert entra.count() == 1


def test_an_outage_is_not_noticed_while_the_token_is_valid(entra: EntraEmulator) -> None:
    clock = FakeClock()
    with entra.registry(clock=clock) as tokens:
        graph = tokens.manager(SCOPE)
        token = graph.get_access_token()
        entra.fail_next(1000, status=503)
        for _ in range(7):
            clock.advance(500)
            assert graph.get_access_token() == token


def test_a_manager_from_a_secret_needs_no_registry(
    entra: EntraEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = AccessTokenManager.from_secret("contoso.com", entra.client_id, "secret", SCOPE)
    assert manager.key.authority == "https://login.microsoftonline.com/contoso.com"
    assert manager.scopes == (SCOPE,)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", entra.ca_file)
    monkeypatch.setattr(
        Authority, "entra", lambda tenant, **_: Authority.parse(entra.authority(tenant))
    )
    with contextlib.closing(
        AccessTokenManager.from_secret("contoso.com", entra.client_id, entra.client_secret, SCOPE)
    ) as manager:
        assert claims(manager.get_access_token())["aud"] == "https://graph.microsoft.com"


def test_from_env_needs_the_environment_alone(
    entra: EntraEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in entra.environment().items():
        monkeypatch.setenv(name, value)
    with TokenRegistry.from_env() as tokens:
        assert tokens.manager(SCOPE).get_access_token()


def registry(**overrides: object) -> TokenRegistry:
    settings: dict[str, object] = {
        "client_id": "11111111-2222-3333-4444-555555555555",
        "credential": ClientSecret("hunter2"),
        "authority": Authority.entra("contoso.com"),
    }
    return TokenRegistry(**{**settings, **overrides})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (lambda: registry().manager(), ConfigurationError, "no scope"),
        (lambda: registry().manager(""), ConfigurationError, "no scope"),
        (lambda: registry().manager(1), ConfigurationError, "string"),
        (lambda: registry().manager("User.Read"), InvalidScopeError, "/.default"),
        (lambda: registry().manager("User.Read"), InvalidScopeError, "by user.manager"),
        (lambda: registry().manager("/.default"), InvalidScopeError, "/.default"),
        (lambda: registry().manager(SCOPE, ORDERS), InvalidScopeError, "one scope at a time"),
        (
            lambda: registry(authority=Authority.entra("common")).manager(SCOPE),
            ConfigurationError,
            "tenant",
        ),
        (
            lambda: registry(authority="http://login.microsoftonline.com/contoso.com"),
            AuthorityError,
            "https",
        ),
        (lambda: registry(client_id=" "), ConfigurationError, "client_id"),
        (lambda: registry(credential=42), ConfigurationError, "credential"),
        (lambda: registry(credential=""), ConfigurationError, "client secret"),
        (lambda: registry(timeout=0), ConfigurationError, "timeout"),
        (lambda: registry(timeout="soon"), ConfigurationError, "timeout"),
        (lambda: registry(timeout=float("inf")), ConfigurationError, "timeout"),
        (lambda: registry(verify="/no/such/file"), ConfigurationError, "/no/such/file"),
        (lambda: registry(verify=""), ConfigurationError, "verify"),
        (lambda: registry(verify=0), ConfigurationError, "verify"),
        (lambda: registry(proxies="http://u:hunter2@proxy"), ConfigurationError, "proxies"),
        (lambda: registry(proxies={"https": 5}), ConfigurationError, "proxies"),
        (lambda: registry(policy="x"), ConfigurationError, "policy"),
        (lambda: RefreshPolicy(skew="x"), ConfigurationError, "skew"),
        (lambda: ClientSecret(file=""), ConfigurationError, "path"),
        (lambda: ClientSecret(file="a\0b").read(), ConfigurationError, "cannot be read"),
    ],
)
def test_bad_input_is_refused_before_any_request(
    act: Callable[[], object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        act()
    assert "hunter2" not in str(caught.value)


def test_generic_providers_have_scopes_of_their_own() -> None:
    tokens = registry(authority=Authority.oidc("https://idp.example/realms/main"))
    assert tokens.manager("read write").scopes == ("read", "write")


def test_after_close_every_call_says_so(entra: EntraEmulator) -> None:
    tokens = entra.registry()
    graph, orders = tokens.manager(SCOPE), tokens.manager(ORDERS)
    graph.get_access_token()
    tokens.close()
    tokens.close()
    for call in (
        graph.get_access_token,
        orders.get_access_token,
        graph.refresh_access_token,
        lambda: tokens.manager(SCOPE),
    ):
        with pytest.raises(ConfigurationError, match="closed"):
            call()
    assert entra.count() == 1


def test_neither_registry_nor_manager_shows_the_secret() -> None:
    tokens = registry()
    shown = repr(tokens) + repr(vars(tokens)) + repr(tokens.manager(SCOPE))
    shown += repr(vars(tokens._own.app.client)) + repr(vars(tokens.manager(SCOPE)))
    assert "hunter2" not in shown


def test_the_policy_reaches_the_managers(entra: EntraEmulator) -> None:
    clock = FakeClock()
    policy = RefreshPolicy(margin=0.5, jitter=0.0)
    with entra.registry(policy=policy, clock=clock) as tokens:
        token = tokens.manager(SCOPE).get_token()
        assert token.refresh_at == pytest.approx(clock.wall() + 1800, abs=2)


def test_making_a_registry_starts_no_thread_and_opens_no_socket() -> None:
    before = threading.active_count()
    registry().manager(SCOPE)
    assert threading.active_count() == before


def test_nothing_that_leads_to_a_secret_pickles() -> None:
    tokens = registry()
    for what in (tokens, tokens.manager(SCOPE), ClientSecret("hunter2")):
        with pytest.raises(TypeError, match="make a TokenRegistry there"):
            pickle.dumps(what)


def test_the_apps_own_managers_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenmgr._members._MOST", 100)
    with registry() as tokens:
        held = tokens.manager("api://held/.default")
        first = tokens.manager("api://first/.default")
        for number in range(300):
            tokens.manager(f"api://{number}/.default")
            assert tokens.manager("api://first/.default ") is first
        gc.collect()
        assert len(tokens._own.members.all()) == 100
        assert len(tokens._own.members._alive) <= 202
        assert len(tokens._by_arguments) <= 100
        assert held not in tokens._own.members.all()
        assert tokens.manager("api://held/.default") is held
        assert held in tokens._own.members.all()
        assert first in tokens._own.members.all()


@pytest.mark.parametrize("scope", ["x" * 2_040 + "/.default", "x" * 50_000_000])
def test_a_scope_that_is_too_long_is_refused_and_not_repeated(scope: str) -> None:
    with registry() as tokens:
        with pytest.raises(InvalidScopeError, match="characters") as caught:
            tokens.manager(scope)
        assert "xxx" not in str(caught.value)
        assert tokens._by_arguments == {}
        assert tokens.manager("x" * 2_039 + "/.default")


def test_without_a_credential_it_is_a_public_client_which_has_no_tokens_of_its_own() -> None:
    with registry(credential=None) as tokens:
        for ask in (
            lambda: tokens.manager(SCOPE),
            lambda: tokens.manager(SCOPE, cae=True),
            lambda: tokens.on_behalf_of("a.b.c", "api://orders/read"),
            lambda: tokens.on_behalf_of("a.b.c", "api://orders/read", session="job"),
        ):
            with pytest.raises(ConfigurationError, match="begin_device_code"):
                ask()


def test_a_public_client_shares_with_nobody_without_a_key(tmp_path: Any) -> None:
    store = f"sqlite:///{tmp_path}/tokens.db"
    with pytest.raises(
        ConfigurationError, match=r"public client has no credential.*encryption_key"
    ):
        registry(credential=None, store=store)
    with registry(credential=None, store=store, encryption_key="k1" + "0123456789" * 4) as tokens:
        assert tokens._own.app.sealed is not None
