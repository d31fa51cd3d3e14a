"""Managed identities: of each kind of host, as the emulator has it, and of hosts that misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import ssl
import threading
import time
import traceback
from typing import Any

import jwt
import msal
import pytest
import requests
from agent_legs import NAME, READ, legs
from azure.identity import ManagedIdentityCredential
from machine import OLD_MSAL, VAULT
from support import EXACT, SCOPE, STORE_KEY, FakeClock, in_threads
from waiting import until

from tokenmgr import (
    AuthorityError,
    ClientAssertion,
    ConfigurationError,
    InvalidCredentialError,
    InvalidScopeError,
    ManagedIdentity,
    RefreshPolicy,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
    TokenRegistry,
    TokenTimeoutError,
)
from tokenmgr.entra.sources import managed_identity
from tokenmgr.entra.wire.machine_session import is_of_machine, machine_session
from tokenmgr.http.azure import TokenCredential
from tokenmgr.manager import cell_of
from tokenmgr.stores import MemoryStore

HOSTS = ("app_service", "vm", "arc")
#: Those where a user may assign one.
ASSIGNING = HOSTS[:2] if OLD_MSAL else HOSTS
#: How often each host's endpoint is asked for one token: Arc names a file first.
ASKED = {"app_service": 1, "vm": 1, "arc": 2}


def claims_of(token):
    return jwt.decode(token, options={"verify_signature": False})


def identity_registry(credential=None, **settings):
    return TokenRegistry(credential=credential or ManagedIdentity(), policy=EXACT, **settings)


def fetch(monkeypatch, machine, **settings):
    """What comes of one fetch on a virtual machine whose endpoint is that one."""
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", machine.url)
    with identity_registry(**settings) as tokens:
        return tokens.get_access_token(VAULT)


# ── The token ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("host", HOSTS)
def test_the_system_s_own_identity_gives_a_token_of_the_resource(entra, on, host) -> None:
    on(host)
    with identity_registry() as tokens:
        claims = claims_of(tokens.get_access_token(VAULT))
    assert (claims["aud"], claims["oid"]) == (
        "https://vault.azure.net",
        entra.system_identity.object_id,
    )


@pytest.mark.parametrize("host", ASSIGNING)
@pytest.mark.parametrize("kind", ["client_id", "object_id", "resource_id"])
def test_one_that_a_user_has_assigned_is_named_by_any_of_its_ids(entra, on, host, kind) -> None:
    on(host)
    assigned = entra.add_identity()
    with identity_registry(ManagedIdentity(**{kind: getattr(assigned, kind)})) as tokens:
        assert claims_of(tokens.get_access_token(VAULT))["oid"] == assigned.object_id


@pytest.mark.parametrize("host", ASSIGNING)
def test_one_that_is_not_there_is_told_with_what_to_do(on, host) -> None:
    on(host)
    with (
        identity_registry(ManagedIdentity(client_id="nobody")) as tokens,
        pytest.raises(InvalidCredentialError, match=r"assign ManagedIdentity\(") as raised,
    ):
        tokens.get_access_token(VAULT)
    assert raised.value.status == 400
    assert "{" not in str(raised.value)


@pytest.mark.parametrize("host", HOSTS)
def test_fifty_callers_are_one_request_where_azure_identity_and_msal_make_fifty(
    entra, on, host
) -> None:
    on(host)
    once = ASKED[host]

    def asked(work, waiting):
        """Requests of fifty callers who find nothing, once so many of them wait for an answer."""
        entra.clear()
        outcomes = []
        callers = threading.Thread(target=lambda: outcomes.extend(in_threads(50, work)))
        with entra.paused():
            callers.start()
            until(lambda: len(entra.identity_requests) >= waiting)
        callers.join()
        assert not [each for each in outcomes if isinstance(each, Exception)]
        return len(entra.identity_requests)

    with identity_registry() as tokens:
        manager = tokens.manager(VAULT)
        assert asked(manager.get_access_token, 1) == once
    with ManagedIdentityCredential() as credential:
        assert asked(lambda: credential.get_token(VAULT).token, 2) > once
    with requests.Session() as session:
        client = msal.ManagedIdentityClient(
            msal.SystemAssignedManagedIdentity(), http_client=session
        )
        resource = "https://vault.azure.net"
        assert asked(lambda: client.acquire_token_for_client(resource=resource), 2) > once


async def test_event_loops_wait_without_being_blocked(entra, on) -> None:
    on("vm")
    async with identity_registry() as tokens:
        manager, turns = tokens.manager(VAULT), 0
        with entra.paused():
            waiting = asyncio.gather(*(manager.aget_access_token() for _ in range(20)))
            while not entra.identity_requests:
                turns += 1
                await asyncio.sleep(0)
        assert len(set(await waiting)) == 1
    assert turns > 0
    assert len(entra.identity_requests) == 1


def test_a_token_is_renewed_in_the_background_half_way_through_a_long_life(entra, on) -> None:
    on("app_service")
    entra.token_lifetime = 86_400
    clock = FakeClock(wall=time.time())
    with identity_registry(clock=clock) as tokens:
        token = tokens.manager(VAULT).get_token()
    assert token.expires_at == pytest.approx(clock.wall() + 86_400, abs=30)
    assert token.refresh_at == pytest.approx(clock.wall() + 43_200, abs=30)


def test_claims_ask_for_another_token_past_every_cache(entra, on) -> None:
    on("vm")
    with identity_registry() as tokens:
        manager = tokens.manager(VAULT)
        manager.get_token()
        manager.get_token(claims='{"access_token":{"nbf":{"essential":true,"value":"1"}}}')
        manager.refresh_access_token()
    assert len(entra.identity_requests) == 3


# ── The registry ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "given", [{"client_id": "an-app"}, {"authority": "https://login.microsoftonline.com/a.com"}]
)
def test_client_id_and_authority_are_left_out(given) -> None:
    with pytest.raises(ConfigurationError, match=r"leave client_id= and authority= out"):
        identity_registry(**given)


def test_who_has_no_such_credential_has_to_name_the_authority() -> None:
    with pytest.raises(ConfigurationError, match="authority= is missing"):
        TokenRegistry(client_id="an-app", credential="a-secret")


@pytest.mark.parametrize(
    "ask",
    [
        lambda tokens: tokens.on_behalf_of("eyJ.eyJ.x", SCOPE),
        lambda tokens: tokens.on_behalf_of("eyJ.eyJ.x", SCOPE, session="a job"),
        lambda tokens: tokens.session("a job"),
        lambda tokens: tokens.begin_auth_code(SCOPE, redirect_uri="https://localhost"),
        lambda tokens: tokens.begin_device_code(SCOPE),
        lambda tokens: tokens.sign_in(SCOPE),
        lambda tokens: tokens.users(),
        lambda tokens: tokens.user("a.b"),
        lambda tokens: tokens.export_cache(),
        lambda tokens: tokens.import_cache("{}"),
    ],
)
def test_what_takes_an_app_says_how_to_be_one(ask) -> None:
    with identity_registry() as tokens, pytest.raises(ConfigurationError) as raised:
        ask(tokens)
    assert "ClientAssertion.from_managed_identity(ManagedIdentity())" in str(raised.value)


def test_an_azure_client_that_names_its_tenant_is_given_its_token_all_the_same(entra, on) -> None:
    on("vm")
    with identity_registry() as tokens:
        credential = TokenCredential(tokens)
        options = {"tenant_id": "72f988bf-86f1-41af-91ab-2d7cd011db47"}
        named = credential.get_token_info(VAULT, options=options)
        assert named.token == credential.get_token_info(VAULT).token
    assert len(entra.identity_requests) == 1


def test_it_has_no_tenants() -> None:
    with identity_registry() as tokens, pytest.raises(ConfigurationError, match="other tenants"):
        tokens.tenant("fabrikam.com")


def test_a_path_of_an_agent_s_cannot_be_sent_either() -> None:
    with identity_registry() as tokens, pytest.raises(ConfigurationError, match="fmi_path="):
        tokens.manager(VAULT, fmi_path="an-agent")


@pytest.mark.parametrize("added", [{"extra": {"a": "b"}}, {"forwarded_client_claims": {"a": 1}}])
def test_what_cannot_be_sent_is_refused(added) -> None:
    with identity_registry() as tokens, pytest.raises(ConfigurationError, match="leave them out"):
        tokens.manager(VAULT, **added)
    with (
        identity_registry(**added) as tokens,
        pytest.raises(ConfigurationError, match="leave them out"),
    ):
        tokens.manager(VAULT)


@pytest.mark.parametrize(
    "scopes", [(VAULT, SCOPE), ("User.Read",), ("/.default",), ("\ud800/.default",)]
)
def test_scopes_are_of_one_resource(scopes) -> None:
    with identity_registry() as tokens, pytest.raises(InvalidScopeError):
        tokens.manager(*scopes)


@pytest.mark.parametrize(
    "ids",
    [{"client_id": "a", "object_id": "b"}, {"client_id": ""}, {"resource_id": 3}, {"name": "\n"}],
)
def test_ids_that_cannot_be_right_are_refused(ids) -> None:
    with pytest.raises(ConfigurationError):
        ManagedIdentity(**ids)


def test_a_store_needs_a_key_of_the_program_s() -> None:
    with pytest.raises(ConfigurationError, match=r"ManagedIdentity\(\) has no secret.*pass "):
        identity_registry(store=MemoryStore())


def test_workers_share_a_token_and_other_identities_do_not(entra, on) -> None:
    on("vm")
    store, assigned = MemoryStore(), entra.add_identity()
    found = []
    for credential in (
        *(ManagedIdentity(), ManagedIdentity()),
        *(ManagedIdentity(client_id=assigned.client_id),) * 2,
        *(ManagedIdentity(name="another fleet"),) * 2,
    ):
        with identity_registry(credential, store=store, encryption_key=STORE_KEY) as tokens:
            found.append(tokens.get_access_token(VAULT))
    assert len(entra.identity_requests) == 3
    assert found[0] == found[1] != found[2] == found[3] != found[4] == found[5]


def test_a_machine_of_another_name_has_an_identity_of_its_own(entra, on, monkeypatch) -> None:
    on("vm")
    store = MemoryStore()
    for host in ("one", "two"):
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        with identity_registry(store=store, encryption_key=STORE_KEY) as tokens:
            tokens.get_access_token(VAULT)
    assert len(entra.identity_requests) == 2


# ── An app without a secret ─────────────────────────────────────────────────────────────────


def test_an_app_proves_itself_by_an_identity_that_is_asked_once(entra, on) -> None:
    on("app_service")
    entra.trust_identity(entra.system_identity)
    credential = ClientAssertion.from_managed_identity(ManagedIdentity())
    with entra.registry(credential=credential) as tokens:
        managers = [tokens.manager(f"api://api-{n}/.default") for n in range(8)]
        tokens.prefetch(*managers)
        assert claims_of(managers[0].get_access_token())["azp"] == entra.client_id
        assert repr(tokens._own.client._credential) == "<ClientAssertion from ManagedIdentity()>"
    (request,) = entra.identity_requests
    assert request.form["resource"] == "api://AzureADTokenExchange"
    assert entra.count("client_credentials") == 8


def test_an_agent_s_blueprint_is_proven_by_an_identity_that_is_asked_once(entra, on) -> None:
    on("vm")
    agent = entra.add_agent()
    entra.add_agent_user(NAME, agent)
    entra.trust_identity(entra.system_identity)
    credential = ClientAssertion.from_managed_identity(ManagedIdentity())
    with entra.registry(credential=credential) as tokens:
        mail = tokens.agent(agent).user(username=NAME).manager(READ)
        (secret,) = set(in_threads(16, mail.get_access_token))
        assert claims_of(secret)["appid"] == agent
        entra.fail_next(status=401, error="invalid_client", error_codes=[700024])
        tokens.agent(agent).proof().refresh_access_token()
    assert legs(entra) == ["T1", "T2", "user", "T1", "T1"]
    assert len(entra.identity_requests) == 2


def test_an_assertion_that_is_refused_is_asked_for_anew_once(entra, on) -> None:
    on("vm")
    entra.trust_identity(entra.system_identity)
    credential = ClientAssertion.from_managed_identity(ManagedIdentity())
    with entra.registry(credential=credential) as tokens:
        tokens.get_access_token(SCOPE)
        entra.fail_next(status=401, error="invalid_client", error_codes=[700024])
        tokens.manager(SCOPE).refresh_access_token()
    assert (len(entra.identity_requests), entra.count()) == (2, 3)


def test_callers_without_patience_do_not_fail_the_fetch_that_needs_an_assertion(
    entra, machine, monkeypatch
) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", machine.url)
    answered = threading.Event()

    def late(request: Any) -> None:
        answered.wait(20)
        request.token()

    machine.on_get = late
    credential = ClientAssertion.from_managed_identity(ManagedIdentity())
    hurried = RefreshPolicy(max_wait=0.05)
    with entra.registry(credential=credential, policy=hurried) as tokens:
        manager = tokens.manager(SCOPE)
        with pytest.raises(TokenTimeoutError):
            manager.get_token()
        with pytest.raises(TokenTimeoutError):
            manager.get_token()
        answered.set()
        with pytest.raises(InvalidCredentialError):  # which an assertion out of nothing is
            manager.get_token(timeout=20)
        assert cell_of(manager).source.longest_wait == 30.0


def test_the_audience_is_the_cloud_s_or_what_the_program_says(entra, on, monkeypatch) -> None:
    on("vm")
    entra.trust_identity(entra.system_identity, audience="api://mine")
    credential = ClientAssertion.from_managed_identity(ManagedIdentity(), audience="api://mine")
    with entra.registry(credential=credential) as tokens:
        tokens.get_access_token(SCOPE)
    government = TokenRegistry(
        client_id="an-app",
        credential=ClientAssertion.from_managed_identity(ManagedIdentity()),
        authority="https://login.microsoftonline.us/contoso.com",
    )
    with government:
        government._own.client.read_proof()
    asked = [each.form["resource"] for each in entra.identity_requests]
    assert asked == ["api://mine", "api://AzureADTokenExchangeUSGov"]


def test_an_identity_that_fails_is_told_to_the_app_that_needs_it(entra, on) -> None:
    on("vm")
    entra.remove_system_identity()
    credential = ClientAssertion.from_managed_identity(ManagedIdentity())
    with (
        entra.registry(credential=credential, policy=EXACT) as tokens,
        pytest.raises(InvalidCredentialError, match="Identity not found"),
    ):
        tokens.get_access_token(SCOPE)
    assert entra.count() == 0


def test_what_is_no_identity_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes a ManagedIdentity"):
        TokenRegistry(
            client_id="an-app",
            credential=ClientAssertion.from_managed_identity("system"),
            authority="https://login.microsoftonline.com/contoso.com",
        )
    with pytest.raises(ConfigurationError, match="audience="):
        ClientAssertion.from_managed_identity(ManagedIdentity(), audience=" ")


# ── Whom it asks ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/metadata",
        "http://169.254.129.2:8081/msi/token",
        "http://127.0.0.1:41741/msi/token/",
        "http://localhost:40342/metadata/identity/oauth2/token",
        "http://[::1]:80/x",
    ],
)
def test_the_machine_s_own_addresses_are_asked(url) -> None:
    assert is_of_machine(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example/token",
        "http://169.254.169.254.evil.example/",
        "http://127.0.0.1@evil.example/",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1\\@evil.example/",
        "http://2130706433/",
        "http://10.0.0.4:2377/",
        "http://172.16.0.1:8081/msi/token",
        "http://[::ffff:10.0.0.1]/",
        "https://127.0.0.1/",
        "http://",
        "http://[::1",
        "",
        "file:///etc/passwd",
    ],
)
def test_no_other_address_is(url) -> None:
    assert not is_of_machine(url)


@pytest.mark.parametrize(
    "variables",
    [
        {"IDENTITY_ENDPOINT": "http://evil.example/msi", "IDENTITY_HEADER": "the-header"},
        {"IDENTITY_ENDPOINT": "https://evil.example/msi", "IDENTITY_HEADER": "the-header"},
        {"IDENTITY_ENDPOINT": "http://10.1.2.3/msi", "IDENTITY_HEADER": "the-header"},
        {"MSI_ENDPOINT": "http://evil.example/msi", "MSI_SECRET": "the-header"},
        {"IDENTITY_ENDPOINT": "http://evil.example/msi", "IMDS_ENDPOINT": "http://evil.example"},
        {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://evil.example"},
    ],
)
def test_whatever_a_variable_names_elsewhere_is_sent_nothing(variables, monkeypatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with (
        identity_registry() as tokens,
        pytest.raises(ConfigurationError, match="none of this machine") as raised,
    ):
        tokens.get_access_token(VAULT)
    assert "the-header" not in str(raised.value)


def test_no_proxy_and_no_netrc_are_in_the_way(monkeypatch, machine, tmp_path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert fetch(monkeypatch, machine) == "a-token"
    assert "Authorization" not in machine.received[0][1]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(monkeypatch, machine, status) -> None:
    machine.on_get = lambda each: each.answer(status, {}, location=f"{machine.url}/elsewhere")
    with pytest.raises(ConfigurationError, match="redirect"):
        fetch(monkeypatch, machine)
    assert len(machine.received) == 1


# ── What it answers ─────────────────────────────────────────────────────────────────────────


def test_what_is_throttled_or_in_trouble_is_asked_again_in_the_same_fetch(
    monkeypatch, machine
) -> None:
    answers = iter([429, 500, 404])

    def answer(handler):
        status = next(answers, None)
        handler.token() if status is None else handler.answer(status, {"error": "busy"})

    machine.on_get = answer
    assert fetch(monkeypatch, machine) == "a-token"
    assert len(machine.received) == 4


def test_what_stays_throttled_says_when_to_come_back(monkeypatch, machine) -> None:
    machine.on_get = lambda each: each.answer(429, {"error": "busy"}, retry_after="120")
    with pytest.raises(ThrottledError) as raised:
        fetch(monkeypatch, machine)
    assert (raised.value.retry_after, raised.value.status) == (120.0, 429)
    assert len(machine.received) == 1  # which is longer than a fetch may take


def test_while_it_is_updated_nobody_asks_twice_in_a_fetch(monkeypatch, machine) -> None:
    machine.on_get = lambda each: each.answer(410, "gone")
    with pytest.raises(ServiceUnavailableError, match="70 seconds at most") as raised:
        fetch(monkeypatch, machine)
    assert raised.value.retryable
    assert len(machine.received) == 1


def test_what_it_refuses_is_not_asked_again(monkeypatch, machine) -> None:
    refusal = {"error": "invalid_resource", "error_description": "AADSTS500011: no such resource"}
    machine.on_get = lambda each: each.answer(400, refusal)
    with pytest.raises(InvalidScopeError, match="no such resource") as raised:
        fetch(monkeypatch, machine)
    assert raised.value.error_codes == (500011,)
    assert len(machine.received) == 1


@pytest.mark.parametrize(
    "answer",
    [
        (200, "<html>eyJ.secret.token"),
        (200, "[]"),
        (200, {"access_token": "a b", "expires_in": 3600}),
        (200, {"access_token": "eyJ.secret.token", "expires_in": "soon"}),
        (200, {"access_token": "eyJ.secret.token", "expires_in": "-5"}),
        (200, {"access_token": ["eyJ.secret.token"], "expires_in": 3600}),
        (200, {}),
        (403, "A socket operation was attempted to an unreachable network"),
        (401, "who are you"),
        (204, ""),
    ],
)
def test_nonsense_is_a_typed_error_that_shows_nothing_of_it(
    monkeypatch, machine, answer, caplog
) -> None:
    caplog.set_level(logging.DEBUG)
    machine.on_get = lambda each: each.answer(*answer)
    with pytest.raises(TokenManagerError) as raised:
        fetch(monkeypatch, machine)
    shown = "".join(traceback.format_exception(raised.value)) + caplog.text
    assert "eyJ.secret" not in shown
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_an_answer_that_drips_ends_with_the_fetch(monkeypatch, machine) -> None:
    def drip(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not machine.stopping.wait(0.005):
            handler.wfile.write(b"X-Drip: drop\r\n" if len(machine.received) else b"")

    machine.on_get = drip
    with pytest.raises(ServiceUnavailableError):
        fetch(monkeypatch, machine, timeout=0.3)
    assert len(machine.received) == 1


def test_an_answer_without_end_is_not_read(monkeypatch, machine) -> None:
    machine.on_get = lambda each: each.answer(200, "{" + " " * (1 << 20) + "}")
    with pytest.raises(ServiceUnavailableError, match="more than an answer is long"):
        fetch(monkeypatch, machine)


def test_where_nothing_answers_it_costs_one_connection_of_less_than_a_second(monkeypatch) -> None:
    tried = []

    def connect(address, timeout, **_):
        tried.append((address[0], timeout))
        raise TimeoutError("timed out")

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    with (
        identity_registry() as tokens,
        pytest.raises(ServiceUnavailableError, match="no machine of Azure's"),
    ):
        tokens.get_access_token(VAULT)
    ((host, seconds),) = tried
    assert host == "169.254.169.254"
    assert seconds < 1


def test_where_it_has_answered_before_it_is_given_more_time(monkeypatch, machine) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", machine.url)
    patience = []
    made = machine_session
    monkeypatch.setattr(
        "tokenmgr.entra.wire.machine_session.machine_session",
        lambda deadline, connect, heard: patience.append(connect) or made(deadline, connect, heard),
    )
    with identity_registry() as tokens:
        manager = tokens.manager(VAULT)
        manager.get_token()
        machine.close()
        with pytest.raises(ServiceUnavailableError, match="any more"):
            manager.refresh_access_token()
        assert manager.get_access_token() == "a-token"
    assert patience == [managed_identity._PROBE, managed_identity._CONNECT]


@pytest.mark.parametrize("challenge", ["Basic realm", "Digest realm=x", "Basic realm=a=b"])
def test_a_challenge_of_arc_s_that_names_no_file_is_refused(
    monkeypatch, machine, challenge
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{machine.url}/arc")
    monkeypatch.setenv("IMDS_ENDPOINT", machine.url)
    machine.on_get = lambda each: each.answer(401, "", www_authenticate=challenge)
    with identity_registry() as tokens, pytest.raises(TokenManagerError) as raised:
        tokens.get_access_token(VAULT)
    assert challenge not in str(raised.value)


def test_a_file_of_arc_s_that_may_not_be_read_is_told(monkeypatch, machine) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{machine.url}/arc")
    monkeypatch.setenv("IMDS_ENDPOINT", machine.url)
    machine.on_get = lambda each: each.answer(401, "", www_authenticate="Basic realm=/no/file.key")
    with identity_registry() as tokens, pytest.raises(ConfigurationError, match="group himds"):
        tokens.get_access_token(VAULT)
    assert len(machine.received) == 1


# ── Service Fabric ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def fabric(rough, monkeypatch):
    """A cluster's endpoint: https, whose certificate is known by its thumbprint."""
    if OLD_MSAL:
        pytest.skip("this MSAL does not look at it")
    certificate = ssl.get_server_certificate(rough.server_address)
    thumbprint = hashlib.sha1(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{rough.url}/metadata/identity/oauth2/token")
    monkeypatch.setenv("IDENTITY_HEADER", "the-header")
    monkeypatch.setenv("IDENTITY_SERVER_THUMBPRINT", thumbprint)
    expires_on = str(int(time.time()) + 3600)
    said = f'{{"access_token":"a-token","expires_on":{expires_on},"token_type":"Bearer"}}'
    rough.on_get = lambda handler: handler.answer(200, said)
    return rough


def test_service_fabric_takes_the_session_and_is_told_of_cae(fabric, monkeypatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with identity_registry(cae=True) as tokens:
        assert tokens.get_access_token(VAULT) == "a-token"
    (received,) = fabric.received
    assert received.headers["Secret"] == "the-header"
    assert "xms_cc=CP1" in received.path


def test_service_fabric_gives_no_identity_s_token_for_another_s(fabric) -> None:
    for id_ in ({"client_id": "mine"}, {"object_id": "mine"}, {"resource_id": "/mine"}):
        with (
            identity_registry(ManagedIdentity(**id_)) as tokens,
            pytest.raises(ConfigurationError, match="Service Fabric gives the tokens"),
        ):
            tokens.get_access_token(VAULT)
    assert not fabric.received


def test_another_certificate_than_the_cluster_s_is_sent_nothing(fabric, monkeypatch) -> None:
    monkeypatch.setenv("IDENTITY_SERVER_THUMBPRINT", "ab" * 20)
    with identity_registry() as tokens, pytest.raises(ServiceUnavailableError):
        tokens.get_access_token(VAULT)
    assert not fabric.received


def test_service_fabric_s_answers_are_bounded_and_lead_nowhere(fabric) -> None:
    fabric.on_get = lambda handler: handler.answer(200, "{" + " " * (1 << 20) + "}")
    with identity_registry() as tokens:
        with pytest.raises(ServiceUnavailableError, match="more than an answer is long"):
            tokens.get_access_token(VAULT)
        fabric.on_get = lambda handler: handler.answer(302, "", location=f"{fabric.url}/x")
        with pytest.raises((ConfigurationError, AuthorityError), match="redirect"):
            tokens.get_access_token(SCOPE)
    assert len(fabric.received) == 2


def test_a_thumbprint_that_is_none_is_told_without_asking(fabric, monkeypatch) -> None:
    monkeypatch.setenv("IDENTITY_SERVER_THUMBPRINT", "junk")
    with (
        identity_registry() as tokens,
        pytest.raises(ConfigurationError, match="SHA-1 certificate thumbprint"),
    ):
        tokens.get_access_token(VAULT)
    assert not fabric.received


def test_an_msal_that_does_not_know_the_certificate_is_told(monkeypatch) -> None:
    monkeypatch.setenv("IDENTITY_SERVER_THUMBPRINT", "ab" * 20)
    with (
        machine_session(time.monotonic() + 5, 1.0, lambda status: None) as session,
        pytest.raises(ConfigurationError, match=r"msal>=1\.38"),
    ):
        session.get("https://127.0.0.1:9/metadata/identity/oauth2/token")


def test_a_token_that_is_valid_still_outlasts_an_outage_and_msal_s_own_does_not(
    entra, on, caplog
) -> None:
    on("vm")
    entra.token_lifetime = 240
    with identity_registry() as tokens, requests.Session() as session:
        manager = tokens.manager(VAULT)
        token = manager.get_access_token()
        client = msal.ManagedIdentityClient(
            msal.SystemAssignedManagedIdentity(), http_client=session
        )
        resource = "https://vault.azure.net"
        assert "access_token" in client.acquire_token_for_client(resource=resource)
        entra.fail_next(50, status=503, path="identity")
        with pytest.raises(ServiceUnavailableError):
            manager.refresh_access_token()
        assert manager.get_access_token() == token
        assert "access_token" not in client.acquire_token_for_client(resource=resource)
