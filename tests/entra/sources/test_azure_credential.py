"""Any credential of azure-core's as a source: azure-identity's, and what else has its methods."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import time
import traceback
from types import SimpleNamespace

import azure.identity
import azure.identity.aio
import jwt
import pytest
from azure.core.credentials import AccessToken, AccessTokenInfo
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
)
from azure.identity import (
    AuthenticationRequiredError,
    AzureCliCredential,
    CredentialUnavailableError,
    DefaultAzureCredential,
)
from azure_cli import AzureCli
from fork_marks import needs_fork
from forking import in_child
from machine import VAULT
from support import EXACT, SCOPE, STORE_KEY, FakeClock, in_threads
from waiting import until

from tokenmgr import (
    AzureCredential,
    ClientAssertion,
    ConfigurationError,
    InteractionRequiredError,
    InvalidCredentialError,
    InvalidScopeError,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
    TokenRegistry,
    TokenRequestError,
)
from tokenmgr.http.azure import TokenCredential
from tokenmgr.stores import MemoryStore

SECRET = "eyJhbGciOi.eyJzZWNyZXQ.c2ln"
CLAIMS = '{"access_token":{"nbf":{"essential":true,"value":"1"}}}'


class Given:
    """What has ``get_token_info()``, and notes what it is asked."""

    def __init__(self, *, lifetime: float = 3600, error: Exception | None = None) -> None:
        self.lifetime = lifetime
        self.error = error
        self.refresh_on: int | None = None
        self.asked: list[tuple[tuple[str, ...], dict[str, object]]] = []
        self.now = time.time

    def get_token_info(self, *scopes: str, options=None):
        self.asked.append((scopes, dict(options or {})))
        if self.error is not None:
            raise self.error
        number, expires_on = len(self.asked), int(self.now() + self.lifetime)
        return AccessTokenInfo(f"token-{number}", expires_on, refresh_on=self.refresh_on)


class Older:
    """What has ``get_token()`` alone, as credentials of a program's own have."""

    def __init__(self) -> None:
        self.asked = []

    def get_token(self, *scopes, **options):
        self.asked.append((scopes, options))
        return AccessToken(f"token-{len(self.asked)}", int(time.time()) + 3600)


class Asynchronous(Given):
    """The same for event loops, which notes the loops and threads that it runs in."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.loops, self.closed = set(), 0
        self.gate = threading.Event()
        self.gate.set()

    async def get_token_info(self, *scopes, options=None):
        self.loops.add(asyncio.get_running_loop())
        while not self.gate.is_set():
            await asyncio.sleep(0.001)
        return super().get_token_info(*scopes, options=options)

    async def close(self) -> None:
        self.loops.add(asyncio.get_running_loop())
        self.closed += 1


def registry_of(credential, *, name=None, **settings):
    settings = {"policy": EXACT} | settings
    return TokenRegistry(credential=AzureCredential(credential, name=name), **settings)


def error_of(credential, **settings):
    with registry_of(credential, **settings) as tokens, pytest.raises(TokenManagerError) as raised:
        tokens.get_access_token(VAULT)
    return raised.value


# ── The token ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("make", [Given, Older, Asynchronous])
def test_a_credential_s_token_is_kept_whatever_it_is_asked_by(make) -> None:
    given = make()
    with registry_of(given) as tokens:
        manager = tokens.manager(VAULT)
        assert {manager.get_access_token() for _ in range(5)} == {"token-1"}
    assert given.asked == [((VAULT,), {})]


def test_fifty_callers_wait_once_for_a_command_that_takes_a_second(tmp_path, monkeypatch) -> None:
    cli = AzureCli(tmp_path, seconds=1.0)
    monkeypatch.setenv("PATH", cli.path)
    with registry_of(AzureCliCredential()) as tokens:
        manager = tokens.manager(VAULT)
        outcomes = in_threads(50, manager.get_access_token)
    assert len(set(outcomes)) == 1
    assert str(outcomes[0]).startswith("az-")
    assert cli.calls == [
        "account get-access-token --output json --resource https://vault.azure.net"
    ]


def test_without_us_each_caller_runs_the_command(tmp_path, monkeypatch) -> None:
    cli = AzureCli(tmp_path)
    monkeypatch.setenv("PATH", cli.path)
    credential = AzureCliCredential()
    in_threads(5, lambda: credential.get_token(VAULT))
    assert len(cli.calls) == 5


def test_one_who_has_signed_in_by_the_command_is_found_by_the_chain(tmp_path, monkeypatch) -> None:
    cli = AzureCli(tmp_path)
    monkeypatch.setenv("PATH", cli.path)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    with registry_of(DefaultAzureCredential()) as tokens:
        assert tokens.get_access_token(VAULT).startswith("az-")


def test_a_secret_s_own_credential_asks_the_service_once(entra, monkeypatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", entra.ca_file)
    credential = azure.identity.ClientSecretCredential(
        *("contoso.onmicrosoft.com", entra.client_id, entra.client_secret),
        authority=entra.url,
        disable_instance_discovery=True,
        connection_verify=entra.ca_file,
    )
    with credential, registry_of(credential) as tokens:
        outcomes = in_threads(50, tokens.manager(SCOPE).get_access_token)
    assert len(set(outcomes)) == 1
    assert entra.count("client_credentials") == 1


async def test_azure_identity_s_asynchronous_one_serves_all_loops_from_one(entra, on) -> None:
    on("app_service")
    credential = azure.identity.aio.ManagedIdentityCredential()
    async with registry_of(credential) as tokens:
        manager = tokens.manager(VAULT)
        mine = await asyncio.gather(*(manager.aget_access_token() for _ in range(20)))
        theirs = await asyncio.to_thread(lambda: asyncio.run(manager.aget_access_token()))
        assert {*mine} == {theirs}
        await manager.arefresh_access_token(claims=CLAIMS)
    assert len(entra.identity_requests) == 2


async def test_no_loop_is_blocked_by_an_asynchronous_one_and_all_of_it_runs_in_one() -> None:
    given = Asynchronous()
    given.gate.clear()
    async with registry_of(given) as tokens:
        waiting = [
            asyncio.ensure_future(tokens.manager(scope).aget_access_token())
            for scope in (VAULT, SCOPE)
        ]
        while not given.loops:
            await asyncio.sleep(0)
        given.gate.set()
        await asyncio.gather(*waiting)
    assert len(given.asked) == 2
    assert given.closed == 1
    (loop,) = given.loops
    assert loop is not asyncio.get_running_loop()
    assert loop.is_closed()


def test_one_that_does_not_say_that_it_is_asynchronous_is_waited_for() -> None:
    given = Asynchronous()
    wrapped = SimpleNamespace(get_token=lambda *scopes, **_: given.get_token_info(*scopes))
    with registry_of(wrapped) as tokens:
        assert tokens.get_access_token(VAULT) == "token-1"
    assert len(given.loops) == 1


def test_an_asynchronous_one_that_hangs_ends_with_the_fetch() -> None:
    given = Asynchronous()
    given.gate.clear()
    error = error_of(given, timeout=0.05)
    assert isinstance(error, ServiceUnavailableError)
    assert given.asked == []  # it was cancelled


def test_registries_that_share_one_close_it_with_the_last(monkeypatch) -> None:
    given = Asynchronous()
    credential = AzureCredential(given)
    first, second = (TokenRegistry(credential=credential) for _ in range(2))
    first.get_access_token(VAULT)
    first.close()
    first.close()
    assert given.closed == 0
    assert second.get_access_token(VAULT) == "token-2"
    second.close()
    assert given.closed == 1
    assert len(given.loops) == 1


@needs_fork
def test_a_child_has_a_loop_of_its_own() -> None:
    given = Asynchronous()
    with registry_of(given) as tokens:
        tokens.get_access_token(VAULT)
        child = in_child(lambda: tokens.manager(SCOPE).get_access_token() == "token-2")
        assert child
        assert tokens.get_access_token(SCOPE) == "token-2"


def test_a_synchronous_one_stays_its_owner_s() -> None:
    given = Given()
    given.close = lambda: pytest.fail("it was closed")
    with registry_of(given) as tokens:
        tokens.get_access_token(VAULT)


# ── What is passed on ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("make", [Given, Older])
def test_claims_tenant_and_cae_are_passed_on(make) -> None:
    given = make()
    with registry_of(given, cae=True) as tokens:
        tokens.manager(VAULT).get_token(claims=CLAIMS)
        tokens.tenant("Fabrikam.onmicrosoft.com").manager(VAULT, cae=False).get_token()
    assert given.asked == [
        ((VAULT,), {"claims": CLAIMS, "enable_cae": True}),
        ((VAULT,), {"tenant_id": "fabrikam.onmicrosoft.com"}),
    ]


def test_tenants_have_tokens_of_their_own() -> None:
    given = Given()
    with registry_of(given) as tokens:
        fabrikam = tokens.tenant("fabrikam.com")
        assert fabrikam is tokens.tenant("FABRIKAM.com")
        assert repr(fabrikam) == "<TokenRegistry of AzureCredential(Given) at fabrikam.com>"
        found = {each.get_access_token(VAULT) for each in (tokens, fabrikam, tokens, fabrikam)}
    assert found == {"token-1", "token-2"}


def test_several_scopes_are_its_own_business() -> None:
    given = Given()
    with registry_of(given) as tokens:
        tokens.get_access_token("User.Read", "Mail.Read")
    assert given.asked == [(("Mail.Read", "User.Read"), {})]


def test_it_is_renewed_when_it_says_so() -> None:
    given, clock = Given(), FakeClock(wall=time.time())
    given.refresh_on, given.now = int(clock.wall()) + 600, clock.wall
    with registry_of(given, clock=clock) as tokens:
        token = tokens.manager(VAULT).get_token()
        assert token.refresh_at == given.refresh_on
        assert token.expires_at == pytest.approx(clock.wall() + 3600, abs=1)
        clock.advance(3000)
        given.refresh_on -= 10  # out of its own cache: due long ago
        assert tokens.manager(VAULT).refresh_access_token() == "token-2"
        renewed = tokens.manager(VAULT).get_token()
        assert renewed.refresh_at is None or renewed.refresh_at > clock.wall()


def test_an_azure_client_of_ours_is_one_more_caller() -> None:
    given = Given()
    with registry_of(given) as tokens:
        credential = TokenCredential(tokens)
        assert credential.get_token(VAULT).token == credential.get_token_info(VAULT).token
    assert len(given.asked) == 1


def test_an_azure_client_that_names_a_tenant_needs_the_program_s_word() -> None:
    given = Given()
    with registry_of(given) as tokens:
        with pytest.raises(ConfigurationError, match="tenants="):
            TokenCredential(tokens).get_token(VAULT, tenant_id="fabrikam.com")
        allowed = TokenCredential(tokens, tenants="fabrikam.com")
        allowed.get_token(VAULT, tenant_id="fabrikam.com")
    assert given.asked == [((VAULT,), {"tenant_id": "fabrikam.com"})]


def test_no_key_names_a_person(monkeypatch) -> None:
    monkeypatch.setenv("AZURE_USERNAME", "ann@contoso.com")
    with registry_of(Given()) as tokens:
        assert "ann" not in repr(tokens.manager(VAULT).key)


def test_it_may_be_an_app_s_assertion_too(entra, on) -> None:
    on("vm")
    entra.trust_identity(entra.system_identity)
    identity = AzureCredential(azure.identity.ManagedIdentityCredential())
    credential = ClientAssertion.from_managed_identity(identity)
    with entra.registry(credential=credential) as tokens:
        tokens.prefetch(tokens.manager(SCOPE), tokens.manager("api://orders/.default"))
    assert (len(entra.identity_requests), entra.count()) == (1, 2)


# ── The store ───────────────────────────────────────────────────────────────────────────────


def test_a_store_needs_a_key_since_none_can_be_derived() -> None:
    with pytest.raises(ConfigurationError, match=r"\(Given\) has.*derive.*encryption_key="):
        registry_of(Given(), store=MemoryStore())


def test_workers_of_one_user_or_one_name_share_tokens_and_no_others(monkeypatch) -> None:
    store, found = MemoryStore(), []
    for variables, name in [
        ({}, None),
        ({}, None),
        ({"AZURE_CLIENT_ID": "another"}, None),
        ({"AZURE_USERNAME": "ann@contoso.com"}, None),
        ({}, "orders"),
        ({"AZURE_CLIENT_ID": "another"}, "orders"),
        ({"AZURE_CONFIG_DIR": "/of/ann"}, None),
        ({"AZD_CONFIG_DIR": "/of/ann"}, None),
        ({"HOME": "/home/ann"}, None),
        ({"AZURE_AUTHORITY_HOST": "login.microsoftonline.us"}, None),
    ]:
        given = Given()
        with monkeypatch.context() as patch:
            for variable, value in variables.items():
                patch.setenv(variable, value)
            with registry_of(given, name=name, store=store, encryption_key=STORE_KEY) as tokens:
                tokens.get_access_token(VAULT)
        found.append(len(given.asked))
    assert found == [1, 0, 1, 1, 1, 0, 1, 1, 1, 1]


# ── What goes wrong ─────────────────────────────────────────────────────────────────────────


def response(status, **headers):
    return SimpleNamespace(status_code=status, reason="no", headers=headers)


@pytest.mark.parametrize(
    ("failure", "kind", "codes"),
    [
        (CredentialUnavailableError("Please run 'az login'"), InvalidCredentialError, ()),
        (ClientAuthenticationError("it failed"), InvalidCredentialError, ()),
        (
            ClientAuthenticationError("AADSTS7000222: the secret has expired"),
            InvalidCredentialError,
            (7000222,),
        ),
        (ClientAuthenticationError("AADSTS500011: no such"), InvalidScopeError, (500011,)),
        (ClientAuthenticationError("AADSTS700016: no app"), ConfigurationError, (700016,)),
        (ClientAuthenticationError("AADSTS50076: MFA"), InteractionRequiredError, (50076,)),
        (CredentialUnavailableError("AADSTS50173: gone"), InteractionRequiredError, (50173,)),
        (AuthenticationRequiredError(["s"], claims=CLAIMS), InteractionRequiredError, ()),
        (HttpResponseError(response=response(503)), ServiceUnavailableError, ()),
        (ServiceRequestError("no network"), ServiceUnavailableError, ()),
        (ConnectionResetError("reset"), ServiceUnavailableError, ()),
        (TimeoutError(), ServiceUnavailableError, ()),
        (ValueError(f"what is {SECRET}?"), TokenRequestError, ()),
    ],
)
def test_its_failures_are_errors_of_ours(failure, kind, codes) -> None:
    error = error_of(Given(error=failure))
    assert type(error) is kind
    assert error.error_codes == codes


def test_throttling_says_when_to_come_back() -> None:
    failure = HttpResponseError(response=response(429, **{"Retry-After": "17"}))
    error = error_of(Given(error=failure))
    assert isinstance(error, ThrottledError)
    assert (error.retry_after, error.status) == (17.0, 429)


def test_claims_that_take_a_person_are_told_with_the_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", AzureCli(tmp_path).path)
    with registry_of(AzureCliCredential()) as tokens:
        manager = tokens.manager(VAULT)
        with pytest.raises(InteractionRequiredError) as raised:
            manager.get_token(claims=CLAIMS)
        assert raised.value.claims == CLAIMS
        assert manager.get_access_token().startswith("az-")


def test_who_has_not_signed_in_is_told_how(tmp_path, monkeypatch) -> None:
    cli = AzureCli(tmp_path, answer="ERROR: Please run 'az login' to setup account.")
    monkeypatch.setenv("PATH", cli.path)
    error = error_of(AzureCliCredential())
    assert isinstance(error, InvalidCredentialError)
    assert "az login" in str(error)


@pytest.mark.parametrize(
    "told",
    [
        "client_secret=hunter2~8Q~hunter",
        'AZURE_CLIENT_SECRET: "hunter2"',
        "{'refreshToken': 'hunter2'}",
        "--password=hunter2",
        "https://login.example/token?client_assertion=hunter2&a=b",
        "got 0.A" + "hunter2_" * 12 + "-.tail",
    ],
)
def test_no_error_shows_a_secret_that_a_command_has_said(told, caplog) -> None:
    error = error_of(Given(error=ClientAuthenticationError(f"ERROR: {told}, sign in anew")))
    shown = str(error) + caplog.text
    assert "hunter" not in shown
    assert "ERROR" in shown
    assert "sign in anew" in shown


@pytest.mark.parametrize(
    "failure",
    [
        ClientAuthenticationError(f"refused: {SECRET} of ann@contoso.com"),
        CredentialUnavailableError(f"unavailable: {SECRET} of ann@contoso.com"),
        ValueError(f"broken: {SECRET} of ann@contoso.com"),
    ],
)
def test_no_error_shows_a_secret_a_person_or_what_led_to_it(failure, caplog) -> None:
    caplog.set_level(logging.DEBUG, "tokenmgr")
    failure.__cause__ = RuntimeError(f"the request had {SECRET}")
    error = error_of(Given(error=failure))
    shown = "".join(traceback.format_exception(error)) + repr(error) + caplog.text
    assert SECRET not in shown
    assert "ann@contoso.com" not in shown
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "a-token",
        SimpleNamespace(token="a b", expires_on=4_000_000_000),
        SimpleNamespace(token="a-token"),
        SimpleNamespace(token="a-token", expires_on="soon"),
        SimpleNamespace(token="a-token", expires_on=float("nan")),
        SimpleNamespace(token="a-token", expires_on=10**400),
        SimpleNamespace(token="a-token", expires_on=1),
        SimpleNamespace(token=b"a-token", expires_on=4_000_000_000),
    ],
)
def test_what_is_no_token_is_a_typed_error(answer) -> None:
    error = error_of(SimpleNamespace(get_token=lambda *_, **__: answer))
    assert isinstance(error, ServiceUnavailableError)


@pytest.mark.parametrize(
    "given", [None, "a-token", DefaultAzureCredential, SimpleNamespace(get_token=3)]
)
def test_what_is_no_credential_is_refused(given) -> None:
    with pytest.raises(ConfigurationError, match="DefaultAzureCredential\\(\\)"):
        AzureCredential(given)


def test_one_that_is_not_wrapped_is_told_how_to_be() -> None:
    with pytest.raises(ConfigurationError, match=r"pass AzureCredential\(credential\)"):
        TokenRegistry(credential=Given())


# ── The environment ─────────────────────────────────────────────────────────────────────────


def test_without_a_secret_the_environment_is_azure_identity_s(
    tmp_path, monkeypatch, caplog
) -> None:
    caplog.set_level(logging.INFO, "tokenmgr")
    cli = AzureCli(tmp_path)
    monkeypatch.setenv("PATH", cli.path)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    shown = "AzureCredential(DefaultAzureCredential, AZURE_TOKEN_CREDENTIALS=AzureCliCredential)"
    with TokenRegistry.from_env() as tokens:
        assert repr(tokens) == f"<TokenRegistry of {shown}>"
        assert tokens.get_access_token(VAULT).startswith("az-")
    assert f"tokens come from {shown}" in caplog.text


def test_without_any_word_it_is_the_default_credential(caplog) -> None:
    caplog.set_level(logging.INFO, "tokenmgr")
    with TokenRegistry.from_env() as tokens:
        assert repr(tokens) == "<TokenRegistry of AzureCredential(DefaultAzureCredential)>"
    assert "tokens come from AzureCredential(DefaultAzureCredential)" in caplog.text


def test_a_managed_identity_alone_is_ours_and_takes_no_azure_identity(
    entra, on, monkeypatch
) -> None:
    on("vm")
    assigned = entra.add_identity()
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
    monkeypatch.setenv("AZURE_CLIENT_ID", assigned.client_id)
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with TokenRegistry.from_env() as tokens:
        token = tokens.get_access_token(VAULT)
        assert f"ManagedIdentity(client_id={assigned.client_id!r})" in repr(tokens)
    assert jwt.decode(token, options={"verify_signature": False})["oid"] == assigned.object_id


def test_a_choice_that_is_none_is_told(monkeypatch) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "hunter2")
    with pytest.raises(ConfigurationError, match="AZURE_TOKEN_CREDENTIALS") as raised:
        TokenRegistry.from_env()
    assert "hunter2" not in str(raised.value)


def test_a_secret_comes_before_all_of_that(entra, monkeypatch) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    for name, value in entra.environment().items():
        monkeypatch.setenv(name, value)
    with TokenRegistry.from_env(verify=entra.ca_file) as tokens:
        tokens.get_access_token(SCOPE)
    assert entra.count("client_credentials") == 1


def test_the_environment_s_store_needs_its_key_here_too(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TOKENMGR_STORE", f"sqlite:///{tmp_path / 'tokens.db'}")
    with pytest.raises(ConfigurationError, match="TOKENMGR_ENCRYPTION_KEY"):
        TokenRegistry.from_env()
    monkeypatch.setenv("TOKENMGR_ENCRYPTION_KEY", STORE_KEY)
    with TokenRegistry.from_env() as tokens:
        assert "DefaultAzureCredential" in repr(tokens)


def test_what_is_dropped_leaves_no_thread() -> None:
    given = Asynchronous()
    tokens = registry_of(given)
    tokens.get_access_token(VAULT)
    del tokens
    gc.collect()
    (loop,) = given.loops
    until(loop.is_closed, "the loop to be closed")


def test_it_is_renewed_behind_the_callers_while_it_is_valid() -> None:
    given, clock = Given(), FakeClock(wall=time.time())
    given.now = clock.wall
    with registry_of(given, clock=clock) as tokens:
        manager = tokens.manager(VAULT)
        manager.get_access_token()
        clock.advance(3_300)
        assert manager.get_access_token() == "token-1"  # at once
        until(lambda: len(given.asked) == 2, "the renewal")
        until(lambda: manager.get_access_token() == "token-2", "the new token")
