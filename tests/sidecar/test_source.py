"""SidecarSource: managers whose tokens come from the sidecar."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import requests
from reporting import told_at_every_line, told_of
from rough_sidecar import RoughSidecar, reply
from sidecar_compliance import ANN, GUID, TENANT, asked, claims_of, jwt
from support import STORE_KEY, FakeClock
from waiting import until

from tokenmgr import (
    BearerRefusedError,
    ConfigurationError,
    InteractionRequiredError,
    OverrideIgnoredError,
    SidecarError,
)
from tokenmgr.emulator import EmulatedSidecar, EntraEmulator
from tokenmgr.emulator.sidecar import _ROUTES
from tokenmgr.http.requests import BearerAuth
from tokenmgr.sidecar import AsyncSidecarClient, SidecarClient, SidecarSource
from tokenmgr.stores import MemoryStore


@pytest.fixture
def sidecar(entra: EntraEmulator) -> Iterator[EmulatedSidecar]:
    with entra.sidecar() as sidecar:
        yield sidecar


@pytest.fixture
def client(sidecar: EmulatedSidecar) -> Iterator[SidecarClient]:
    with SidecarClient(sidecar.url) as client:
        yield client


@pytest.fixture
def rough() -> Iterator[RoughSidecar]:
    with RoughSidecar(reply()) as server:
        yield server


def answer(**claims: object) -> Any:
    return reply({"authorizationHeader": f"Bearer {jwt(**claims)}"})


def test_a_manager_keeps_the_sidecars_token(entra, client):
    manager = SidecarSource(client, "Graph", as_app=True).manager()
    tokens = {manager.get_access_token() for _ in range(5)}
    tokens.add(asyncio.run(manager.aget_access_token()))
    assert len(tokens) == 1
    assert len(asked(entra)) == 1
    assert manager.status().expires_in > 3_000
    manager.close()
    assert client.healthy(), "it is the program's"


def test_its_manager_serves_the_http_clients(entra, client):
    manager = SidecarSource(client, "Graph", as_app=True).manager()
    with requests.Session() as session:
        session.auth, session.verify = BearerAuth(manager, hosts="127.0.0.1"), entra.ca_file
        assert session.get(f"{entra.url}/graph/v1.0/users").status_code == 200
        entra.revoke_tokens()
        assert session.get(f"{entra.url}/graph/v1.0/users").status_code == 401, "it is kept there"
    manager.close()


def test_a_token_that_an_api_has_refused_is_replaced_where_overrides_are_taken(
    entra, sidecar, client
):
    sidecar.allow_overrides = _ROUTES
    manager = SidecarSource(client, "Graph", as_app=True).manager()
    with requests.Session() as session:
        session.auth, session.verify = BearerAuth(manager, hosts="127.0.0.1"), entra.ca_file
        session.get(f"{entra.url}/graph/v1.0/users")
        entra.revoke_tokens()
        assert session.get(f"{entra.url}/graph/v1.0/users").status_code == 200
    manager.close()


def test_tokens_are_renewed_behind_the_calls(entra, client):
    entra.token_lifetime = 2
    manager = SidecarSource(client, "Graph", as_app=True).manager()
    first = manager.get_access_token()
    until(lambda: manager.get_access_token() != first)
    manager.close()


def test_another_token_is_asked_for_where_the_last_comes_again(entra, sidecar, client):
    source = SidecarSource(client, "Graph", as_app=True)
    first, second = (source.fetch_token().secret for _ in range(2))
    assert first == second, "the route takes no overrides, and there is no other token"
    sidecar.allow_overrides = _ROUTES
    assert source.fetch_token().secret != first
    forced = "optionsOverride.AcquireTokenOptions.ForceRefresh"
    assert [forced in each.form for each in asked(entra)] == [False, False, True, False, True]


def test_claims_are_passed_on(entra, client):
    source = SidecarSource(client, "Graph", incoming_token=entra.sign_in(ANN), claims='{"own":1}')
    source.fetch_token()
    source.fetch_token(claims='{"asked":1}')
    sent = [each.form["optionsOverride.AcquireTokenOptions.Claims"] for each in asked(entra)]
    assert sent == ['{"own":1}', '{"asked":1}']


def test_a_callers_tokens_end_with_the_callers_own(entra, client):
    clock = FakeClock(time.time())
    source = SidecarSource(client, "Graph", incoming_token=entra.sign_in(ANN, lifetime=600))
    manager = source.manager(clock=clock)
    token = manager.get_token()
    assert claims_of(token.secret)["upn"] == ANN
    assert token.expires_at == source.ends_at <= time.time() + 600
    clock.advance(700)
    with pytest.raises(InteractionRequiredError, match="expired"):
        manager.get_access_token()
    manager.close()


@pytest.mark.parametrize("sent", [None, "", "Bearer "])
def test_a_caller_without_a_token_is_never_the_app(entra, client, sent):
    with pytest.raises(BearerRefusedError):
        SidecarSource(client, "Graph", incoming_token=sent)
    with pytest.raises(InteractionRequiredError):
        SidecarSource(client, "Graph", incoming_token="no-jwt")
    assert asked(entra) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"as_app": True, "incoming_token": jwt(exp=1)},
        {"as_app": True, "agent_username": ANN},
        {"as_app": True, "agent_identity": "x"},
        {"as_app": True, "scopes": []},
        {"as_app": True, "client_id": 5},
    ],
    ids=str,
)
def test_what_cannot_be_right_is_told_before_anything_is_fetched(entra, client, wrong):
    with pytest.raises(ConfigurationError):
        SidecarSource(client, "Graph", **wrong)
    with pytest.raises(ConfigurationError, match="service_name"):
        SidecarSource(client, "", as_app=True)
    with pytest.raises(ConfigurationError, match="aget_access_token"):
        SidecarSource(AsyncSidecarClient(client.base_url), "Graph", as_app=True)
    assert asked(entra) == []


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"exp": None},
        {"exp": "4000000000"},
        {"exp": True},
        {"exp": [4e9]},
        {"exp": float("nan")},
        {"exp": 0},
        {"exp": -1},
        {"exp": 1_700_000_000},
    ],
    ids=str,
)
def test_a_token_has_to_say_when_it_ends(rough, claims):
    rough.answers = [answer(**claims)]
    with SidecarClient(rough.url) as client:
        with pytest.raises(SidecarError, match="expired") as caught:
            SidecarSource(client, "Graph", as_app=True).fetch_token()
        assert caught.value.retryable
        rough.answers = [reply({"authorizationHeader": "Bearer opaque"})]
        with pytest.raises(SidecarError):
            SidecarSource(client, "Graph", as_app=True).fetch_token()


@pytest.mark.parametrize("end", [float("inf"), 1e300, 10**400, 4e9], ids=str)
def test_no_token_lives_for_ever(rough, end):
    rough.answers = [answer(exp=end)]
    with SidecarClient(rough.url) as client:
        token = SidecarSource(client, "Graph", as_app=True).fetch_token()
    assert token.expires_at <= time.time() + 48 * 3_600


def test_a_token_of_another_app_is_refused(entra, client):
    right = SidecarSource(client, "Graph", as_app=True, client_id=entra.client_id.upper())
    assert claims_of(right.fetch_token().secret)["appid"] == entra.client_id
    with pytest.raises(OverrideIgnoredError, match="client_id="):
        SidecarSource(client, "Graph", as_app=True, client_id=GUID).fetch_token()


def test_workers_share_the_sidecars_token(entra, sidecar, client):
    sidecar.allow_overrides = _ROUTES
    store, agents = MemoryStore(), [sidecar.add_agent(), sidecar.add_agent()]
    found = set()
    for agent in (agents[0], agents[1], agents[0]):
        source = SidecarSource(client, "Graph", as_app=True, agent_identity=agent)
        manager = source.manager(store=store, encryption_key=STORE_KEY)
        found.add(manager.get_access_token())
        assert claims_of(manager.get_access_token())["appid"] == agent
        manager.close()
    assert (len(found), len(asked(entra))) == (2, 2)


def test_a_callers_token_is_shared_with_nobody_elses(entra, client):
    store = MemoryStore()
    for name in (ANN, "bob@contoso.com"):
        source = SidecarSource(
            client, "Graph", incoming_token=entra.sign_in(name), client_id=entra.client_id
        )
        manager = source.manager(store=store, encryption_key=STORE_KEY)
        assert claims_of(manager.get_access_token())["upn"] == name
        manager.close()


def test_a_store_needs_to_know_whose_tokens_they_are(client, entra, tmp_path):
    url = f"sqlite:///{tmp_path}/tokens.db"
    source = SidecarSource(client, "Graph", as_app=True)
    with pytest.raises(ConfigurationError, match="client_id="):
        source.manager(store=url, encryption_key=STORE_KEY)
    source = SidecarSource(client, "Graph", as_app=True, client_id=entra.client_id)
    with pytest.raises(ConfigurationError, match="encryption_key="):
        source.manager(store=url)
    manager = source.manager(store=url, encryption_key=STORE_KEY)
    manager.get_access_token()
    assert any("tokens.db" in each.path for each in psutil.Process().open_files())
    manager.close()
    assert not any("tokens.db" in each.path for each in psutil.Process().open_files())


def test_while_a_token_is_valid_nobody_notices_that_the_sidecar_is_away(sidecar, client):
    manager = SidecarSource(client, "Graph", as_app=True).manager()
    token = manager.get_access_token()
    sidecar.close()
    with pytest.raises(SidecarError):
        manager.refresh_access_token()
    assert manager.get_access_token() == token
    manager.close()


def test_no_token_is_shown(entra, client):
    ann = entra.sign_in(ANN)
    source = SidecarSource(client, "Graph", incoming_token=ann, long_running_session_key="the-key")
    manager = source.manager()
    token = manager.get_access_token()
    shown = repr((source, manager, source.key, client))
    assert not any(secret in shown for secret in (ann, token, "the-key"))
    with pytest.raises(TypeError):
        pickle.dumps(source)
    entra.require_mfa(ANN)
    with pytest.raises(InteractionRequiredError) as caught:
        source.fetch_token()
    assert told_of(caught.value, (ann, token, "the-key")) == []
    manager.close()


def test_keys_tell_apart_what_is_not_the_same_token(client):
    def key(**different: Any) -> Any:
        return SidecarSource(client, "Graph", **({"as_app": True} | different)).key

    callers = [jwt(exp=4e9, tid=TENANT, oid=each) for each in (GUID, TENANT)]
    keys = [
        key(),
        key(scopes="a/.default"),
        key(tenant=TENANT),
        key(agent_identity=GUID),
        key(agent_identity=GUID, agent_user_id=TENANT),
        key(client_id=GUID),
        key(fmi_path="a"),
        *(key(as_app=False, incoming_token=each) for each in callers),
        SidecarSource(client, "Mail", as_app=True).key,
        SidecarSource(SidecarClient("http://127.0.0.1:1"), "Graph", as_app=True).key,
    ]
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


@pytest.mark.traces
def test_a_fetch_tells_no_secret_wherever_it_breaks(rough):
    caller, token = jwt(exp=4e9, tid=TENANT, oid=GUID), jwt(exp=4e9, name="answered")

    def work() -> None:
        rough.answers = [reply({"authorizationHeader": f"Bearer {token}"})]
        client = SidecarClient(rough.url, retries=0)
        source = SidecarSource(client, "Graph", incoming_token=caller, fmi_path="the-path")
        source.fetch_token()

    secrets = (caller, token, "the-path")
    assert told_at_every_line(work, secrets, within=("sidecar/",)) == []
