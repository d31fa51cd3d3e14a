"""The Microsoft 365 Agents SDK: by its own client, with our provider and with its own beside it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msal
import pytest
import requests
from agent_legs import GRAPH, NAME, READ, legs
from emulator_clients import claims_of
from reporting import told_of

from tokenmgr import (
    AzureCredential,
    ConfigurationError,
    InteractionRequiredError,
    TokenRegistry,
)
from tokenmgr.emulator import EntraEmulator
from tokenmgr.emulator.authorities import DEFAULT_TENANT, tenant_guid

SDKS = ("microsoft_agents.hosting.core", "microsoft_agents.authentication.msal")
TENANT = tenant_guid(DEFAULT_TENANT)
SERVICE = "https://service.example/"
#: What the SDK asks for of an agent's user.
APX = "5a807f24-c9de-44ee-a3a7-329e88a00ffc/.default"


@pytest.fixture
def agent(entra: EntraEmulator) -> str:
    agent = entra.add_agent()
    entra.add_agent_user(NAME, agent)
    return agent


@pytest.fixture
def oid(entra: EntraEmulator, agent: str) -> str:
    return entra.add_agent_user(NAME, agent)


@pytest.fixture
def tokens(entra: EntraEmulator) -> Iterator[TokenRegistry]:
    with entra.registry(authority=entra.authority(TENANT)) as tokens:
        yield tokens


def configuration(entra: EntraEmulator, **more: Any) -> Any:
    from microsoft_agents.hosting.core import AgentAuthConfiguration, AuthTypes

    given = {
        "auth_type": AuthTypes.client_secret,
        "client_id": entra.client_id,
        "tenant_id": TENANT,
        "client_secret": entra.client_secret,
        "authority": entra.authority(TENANT),
    }
    return AgentAuthConfiguration(**(given | more))


def ours(tokens: TokenRegistry, given: Any = None) -> Any:
    from tokenmgr.integrations.agents_sdk import AccessTokenProvider

    return AccessTokenProvider(tokens, given)


@pytest.fixture
def theirs(entra: EntraEmulator, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The SDK's own provider. It takes neither a certificate authority nor a host of our own."""
    from microsoft_agents.authentication.msal import MsalAuth, msal_auth

    class Application(msal.ConfidentialClientApplication):
        def __init__(self, *args: Any, **settings: Any) -> None:
            session = requests.Session()
            session.trust_env, session.verify = False, entra.ca_file
            settings |= {"instance_discovery": False, "http_client": session}
            with warnings.catch_warnings():  # of the T1 that it passes as a text
                warnings.simplefilter("ignore", DeprecationWarning)
                super().__init__(*args, **settings)

    monkeypatch.setattr(msal_auth, "ConfidentialClientApplication", Application)
    return MsalAuth(configuration(entra))


async def user_tokens(provider: Any, agent: str, oid: str, turns: int) -> list[str]:
    """A token of the agent's user for each turn of a conversation, one after another."""
    return [await provider.get_agentic_user_token(TENANT, agent, oid, [APX]) for _ in range(turns)]


async def test_ten_turns_cost_the_sdk_twenty_requests_and_us_three(
    entra, tokens, theirs, agent, oid
):
    found = await user_tokens(theirs, agent, oid, 10)
    assert len(set(found)) == 10
    assert legs(entra) == ["T1", *["T2", "user"] * 10]  # MSAL keeps the blueprint's T1
    entra.clear()
    found = await user_tokens(ours(tokens), agent, oid, 10)
    assert len(set(found)) == 1
    assert legs(entra) == ["T1", "T2", "user"]
    claims = claims_of(found[0])
    assert (claims["oid"], claims["azp"]) == (oid, agent)


async def test_fifty_turns_at_once_cost_us_three_requests_still(entra, tokens, agent, oid):
    provider = ours(tokens)
    calls = (provider.get_agentic_user_token(TENANT, agent, oid, [APX]) for _ in range(50))
    assert len(set(await asyncio.gather(*calls))) == 1
    assert legs(entra) == ["T1", "T2", "user"]


async def test_fifty_turns_at_once_cost_the_sdk_two_each_at_least(entra, theirs, agent, oid):
    calls = (theirs.get_agentic_user_token(TENANT, agent, oid, [APX]) for _ in range(50))
    assert len(set(await asyncio.gather(*calls))) == 50
    asked = legs(entra)
    assert [asked.count(each) for each in ("T2", "user")] == [50, 50]


async def test_both_give_tokens_of_the_same_claims(entra, tokens, theirs, agent, oid):
    varying = {"iat", "nbf", "exp", "uti", "sid", "scp"}  # ours asks for openid and profile, too
    mine = ours(tokens)
    calls = (
        lambda of: of.get_access_token(SERVICE, [GRAPH]),
        lambda of: of.get_agentic_application_token(TENANT, agent),
        lambda of: of.get_agentic_user_token(TENANT, agent, oid, [READ]),
    )
    for call in calls:
        pair = [claims_of(await call(of)) for of in (mine, theirs)]
        first, second = ({k: v for k, v in each.items() if k not in varying} for each in pair)
        assert first == second
    pairs = [await of.get_agentic_instance_token(TENANT, agent) for of in (mine, theirs)]
    for first, second in zip(*pairs, strict=True):
        assert claims_of(first)["sub"] == claims_of(second)["sub"]


def turn(agent: str, oid: str, role: str) -> Any:
    """A turn of a conversation, as the SDK has it from a channel."""
    from microsoft_agents.activity import Activity, ChannelAccount
    from microsoft_agents.hosting.core import ClaimsIdentity

    class Turn:
        identity = ClaimsIdentity({"aud": "whom it is for"})
        activity = Activity(
            type="message",
            service_url=SERVICE,
            recipient=ChannelAccount(
                id="a", role=role, agentic_app_id=agent, agentic_user_id=oid, tenant_id=TENANT
            ),
        )

    return Turn()


@pytest.mark.parametrize(
    ("role", "asked"),
    [("agenticUser", ["T1", "T2", "user"]), ("agenticAppInstance", ["T1", "T2"])],
)
async def test_the_sdks_own_client_sends_our_token(entra, tokens, agent, oid, role, asked):
    from microsoft_agents.hosting.core import ConnectionManager, RestChannelServiceClientFactory

    from tokenmgr.integrations.agents_sdk import AccessTokenProvider

    connections = ConnectionManager(
        lambda given: AccessTokenProvider(tokens, given),
        {"SERVICE_CONNECTION": configuration(entra)},
    )
    factory = RestChannelServiceClientFactory(connections)
    sent = set()
    for _ in range(3):
        context = turn(agent, oid, role)
        client = await factory.create_connector_client(
            context, context.identity, SERVICE, "audience"
        )
        sent.add(client.client.headers["Authorization"])
        await client.close()
    assert len(sent) == 1
    assert claims_of(sent.pop().removeprefix("Bearer "))["azp"] == agent
    assert legs(entra) == asked


async def test_the_sdks_own_client_sends_the_apps_token_where_no_agent_talks(entra, tokens):
    from microsoft_agents.hosting.core import (
        ClaimsIdentity,
        ConnectionManager,
        RestChannelServiceClientFactory,
    )

    connections = ConnectionManager(
        lambda given: ours(tokens, given), {"SERVICE_CONNECTION": configuration(entra)}
    )
    identity = ClaimsIdentity({"aud": entra.client_id})
    for _ in range(3):
        client = await RestChannelServiceClientFactory(connections).create_connector_client(
            None, identity, SERVICE, "audience", [GRAPH]
        )
        token = client.client.headers["Authorization"].removeprefix("Bearer ")
        await client.close()
    assert claims_of(token)["appid"] == entra.client_id
    assert legs(entra) == ["agent"]


async def test_a_token_is_renewed_where_that_is_wanted(entra, tokens):
    provider = ours(tokens)
    first = await provider.get_access_token(SERVICE, [GRAPH])
    assert await provider.get_access_token(SERVICE, [GRAPH]) == first
    assert await provider.get_access_token(SERVICE, [GRAPH], force_refresh=True) != first
    assert entra.count() == 2


async def test_without_scopes_the_connections_are_asked_for_or_the_resources(entra, tokens):
    given = configuration(entra, scopes=["{instance}/api/.default"])
    for provider, scope in (
        (ours(tokens, given), "https://service.example/api/.default"),
        (ours(tokens), "https://service.example/.default"),
    ):
        entra.clear()
        await provider.get_access_token(f"{SERVICE}v3/x", [])
        assert entra.count(scope=scope) == 1
    with pytest.raises(ConfigurationError, match="no address"):
        await provider.get_access_token("service", [])


async def test_a_user_is_called_by_name_too(entra, tokens, agent):
    token = await ours(tokens).get_agentic_user_token(TENANT, agent, NAME, [READ])
    assert claims_of(token)["upn"] == NAME


async def test_callers_are_acted_for_by_the_app(entra, tokens):
    ann = entra.sign_in("ann@contoso.com")
    provider = ours(tokens)
    token = await provider.acquire_token_on_behalf_of([READ], ann)
    assert claims_of(token)["upn"] == "ann@contoso.com"
    assert await provider.acquire_token_on_behalf_of([READ], ann) == token
    assert entra.count() == 1


async def test_its_credential_is_azure_cores(entra, tokens):
    from azure.core.credentials_async import AsyncTokenCredential

    credential = ours(tokens).get_token_credential()
    assert isinstance(credential, AsyncTokenCredential)
    async with credential:
        assert claims_of((await credential.get_token(GRAPH)).token)["appid"] == entra.client_id


async def test_what_fails_is_our_error_and_tells_no_secret(entra, tokens, agent):
    provider = ours(tokens)
    entra.disable_user(NAME)
    with pytest.raises(InteractionRequiredError) as caught:
        await provider.get_agentic_user_token(TENANT, agent, NAME, [READ])
    entra.enable_user(NAME)
    assert told_of(caught.value, (NAME, entra.client_secret)) == []
    for ids in ((TENANT, "no guid", NAME), (TENANT, agent, "no guid"), (TENANT, "", "")):
        with pytest.raises(ConfigurationError):
            await provider.get_agentic_user_token(*ids, [READ])


def test_it_says_of_the_app_what_the_sdk_asks(entra, tokens):
    told = ours(tokens).configuration
    assert entra.client_id == told.CLIENT_ID
    assert told.TENANT_ID == TENANT
    given = configuration(entra)
    assert ours(tokens, given).configuration is given
    assert entra.client_secret not in repr(ours(tokens, given))
    with pytest.raises(ConfigurationError, match="its own registry"):
        ours(tokens, configuration(entra, client_id="another"))


async def test_an_identity_serves_the_connection_that_says_what_it_is_called(entra):
    from microsoft_agents.hosting.core import AuthTypes

    given = configuration(
        entra, auth_type=AuthTypes.system_managed_identity, client_id=TENANT, client_secret=None
    )
    token = SimpleNamespace(token="a-token", expires_on=4e9)
    identity = AzureCredential(SimpleNamespace(get_token=lambda *_, **__: token))
    with TokenRegistry(credential=identity) as tokens:
        provider = ours(tokens, given)
        assert await provider.get_access_token("https://api.botframework.com", []) == "a-token"
        with pytest.raises(ConfigurationError, match="takes an app of your own"):
            await provider.get_agentic_application_token("", TENANT)
        with pytest.raises(ConfigurationError, match="without the connection's configuration"):
            ours(tokens)


def test_where_the_sdk_is_missing_it_says_what_to_install():
    code = (
        "import sys; sys.modules['microsoft_agents'] = None\n"
        "try: import tokenmgr.integrations.agents_sdk\n"
        "except ImportError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'tokenmgr[agents]'" in told.stdout
