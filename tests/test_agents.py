"""Agents: what their tokens cost, whose they are, and what is said where there are none."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
from pathlib import Path
from weakref import ref

import pytest
from agent_legs import EXCHANGE, GRAPH, NAME, READ, legs
from emulator_clients import claims_of
from fake_users import assertion
from programs import running
from reporting import told_at_every_line, told_of
from support import STORE_KEY, in_threads, make_manager, settle

from tokenmgr import (
    AccessToken,
    Authority,
    Certificate,
    ClientAssertion,
    ClientSecret,
    ConfigurationError,
    ConsentRequiredError,
    InteractionRequiredError,
    InvalidCredentialError,
    InvalidScopeError,
    ServiceUnavailableError,
    ThrottledError,
    TokenRegistry,
    WorkloadIdentity,
)
from tokenmgr.emulator import EntraEmulator, client_certificate
from tokenmgr.entra.agent_client import AgentClient
from tokenmgr.entra.grants.agent_user import AgentUserSource
from tokenmgr.events import CertificateEnding, Event, TokenRequested
from tokenmgr.identity.clouds import CLOUDS, exchange_scope_at
from tokenmgr.manager import cell_of
from tokenmgr.stores import MemoryStore

NEWER = '{"access_token":{"nbf":{"essential":true,"value":"1800000000"}}}'
AGENT = "99999999-aaaa-bbbb-cccc-555555555555"


@pytest.fixture
def agent(entra: EntraEmulator) -> str:
    """An agent of the first app, with a user account."""
    agent = entra.add_agent(AGENT)
    entra.add_agent_user(NAME, agent)
    return agent


@pytest.fixture
def tokens(entra: EntraEmulator, agent: str):
    with entra.registry() as tokens:
        yield tokens


def nowhere(**settings: object) -> TokenRegistry:
    """A registry whose authority nobody asks."""
    given = {
        "client_id": "11111111-2222-3333-4444-555555555555",
        "credential": "secret",
        "authority": Authority.entra("contoso.onmicrosoft.com"),
    }
    return TokenRegistry(**(given | settings))  # type: ignore[arg-type]


# What they cost.


def test_fifty_callers_of_an_agents_token_cost_two_requests(entra, tokens, agent):
    graph = tokens.agent(agent).manager(GRAPH)
    outcomes = set(in_threads(50, graph.get_access_token))
    assert len(outcomes) == 1
    assert legs(entra) == ["T1", "agent"]
    assert claims_of(outcomes.pop())["appid"] == agent


def test_fifty_callers_of_its_users_token_cost_three(entra, tokens, agent):
    async def several() -> set[str]:
        manager = tokens.agent(agent).user(username=NAME).manager(READ)
        return set(await asyncio.gather(*(manager.aget_access_token() for _ in range(5))))

    numbers = itertools.count()

    def work() -> set[str]:
        if next(numbers) % 2:
            return asyncio.run(several())
        return {tokens.agent(agent).user(username=NAME).manager(READ).get_access_token()}

    (secret,) = set().union(*in_threads(16, work))
    assert legs(entra) == ["T1", "T2", "user"]
    claims = claims_of(secret)
    assert (claims["appid"], claims["upn"], claims["scp"]) == (
        agent,
        NAME,
        "openid profile User.Read",
    )


def test_fetches_that_wait_for_others_take_no_thread_from_them(entra, agent):
    names = [f"agent{number}@contoso.onmicrosoft.com" for number in range(8)]
    for name in names:
        entra.add_agent_user(name, agent)
    with entra.registry() as tokens:
        tokens._own.app.context.workers._most = 1
        held = tokens.agent(agent)
        users = [held.user(username=name).manager(READ) for name in names]
        with entra.paused():
            for manager in (*users, held.exchanged(), held.manager(GRAPH), held.proof()):
                manager.prefetch()
        assert len({manager.get_access_token() for manager in users}) == 8
        assert held.manager(GRAPH).get_access_token()
    assert sorted(legs(entra)) == ["T1", "T2", "agent", *["user"] * 8]


def test_all_tokens_of_an_agent_have_the_exchanged_ones_in_common(entra, tokens, agent):
    oid = entra.add_agent_user("second@contoso.onmicrosoft.com", agent)
    held = tokens.agent(agent)
    held.user(username=NAME).manager(READ).get_token()
    entra.clear()
    held.manager(GRAPH).get_token()
    held.manager("api://orders/.default").get_token()
    held.user(user_id=oid).manager(READ).get_token()
    held.user(username=NAME).manager("Mail.Send").get_token()
    held.on_behalf_of(entra.sign_in("ann@contoso.com"), READ).get_token()
    assert legs(entra) == ["agent", "agent", "user", "user", "caller"]


def test_a_renewal_asks_for_what_is_renewed_alone(entra, tokens, agent):
    mail = tokens.agent(agent).user(username=NAME).manager(READ)
    first = mail.get_access_token()
    entra.clear()
    assert mail.refresh_access_token() != first
    assert legs(entra) == ["user"]


def test_the_exchanged_tokens_are_managers_like_others(entra, tokens, agent):
    tokens.agent(agent).user(username=NAME).manager(READ).get_token()
    first = tokens.manager(EXCHANGE, fmi_path=agent)
    second = tokens.agent(agent).manager(EXCHANGE)
    assert [manager.status().state for manager in (first, second)] == ["fresh", "fresh"]
    assert claims_of(first.get_access_token())["sub"].endswith(f"/{agent}")
    assert legs(entra) == ["T1", "T2", "user"]
    assert {first.key.client_id, second.key.client_id} == {entra.client_id, agent}
    keys = [status.key for status in tokens.status()]
    assert keys == [second.key, first.key] or keys == [first.key, second.key]


def test_an_aging_proof_is_renewed_and_serves_meanwhile(entra, agent):
    entra.refresh_in = 0  # all that comes is due at once
    with entra.registry() as tokens:
        tokens.manager(EXCHANGE, fmi_path=agent).get_token()
        entra.fail_next(50, status=500, client_id=entra.client_id)
        assert tokens.agent(agent).manager(GRAPH).get_access_token()


def test_users_by_name_and_by_id_are_told_to_the_service_as_msal_does(entra, tokens, agent):
    oid = entra.add_agent_user(NAME, agent)
    held = tokens.agent(agent.upper())
    held.user(username=NAME.upper()).manager(READ).get_token()
    held.user(user_id=oid.upper()).manager(READ).get_token()
    asked = [each for each in entra.requests if each.grant_type == "user_fic"]
    tenant = Authority.parse(entra.authority()).tenant
    assert [each.headers["X-AnchorMailbox"] for each in asked] == [
        f"upn:{NAME}",
        f"Oid:{oid}@{tenant}",
    ]
    assert [set(each.form) & {"username", "user_id"} for each in asked] == [
        {"username"},
        {"user_id"},
    ]
    assert asked[0].form["client_info"] == "1"
    assert set(asked[0].form["scope"].split()) == {READ, "openid", "profile", "offline_access"}


# Two processes, one store.

WORKER = """
import sys
from tokenmgr import TokenRegistry
with TokenRegistry.from_env(store=sys.argv[1]) as tokens:
    agent = tokens.agent(sys.argv[2])
    user = agent.user(username=sys.argv[3])
    for manager in (user.manager(sys.argv[4]), agent.manager(sys.argv[5])):
        print(manager.get_access_token())
"""


def test_two_processes_over_sqlite_share_every_leg(entra, agent, tmp_path: Path):
    program = tmp_path / "worker.py"
    program.write_text(WORKER, "utf-8")
    store = f"sqlite:///{tmp_path / 'tokens.db'}"

    given = (str(program), store, agent, NAME, READ, GRAPH)
    with (
        running(*given, **entra.environment()) as one,
        running(*given, **entra.environment()) as two,
    ):
        said = [each.communicate() for each in (one, two)]
    assert [one.returncode, two.returncode] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert len(said[0][0].split()) == 2
    assert sorted(legs(entra)) == ["T1", "T2", "agent", "user"]
    content = (tmp_path / "tokens.db").read_bytes()
    assert NAME.encode() not in content
    assert agent.encode() not in content


def test_a_worker_that_finds_the_token_in_the_store_asks_for_none(entra, agent):
    store = MemoryStore()
    with entra.registry(store=store) as first:
        token = first.agent(agent).user(username=NAME).manager(READ).get_access_token()
    entra.clear()
    with entra.registry(store=store) as second:
        held = second.agent(agent)
        assert held.user(username=NAME).manager(READ).get_access_token() == token
        assert legs(entra) == []
        held.user(username=NAME).manager("Mail.Send").get_token()
        assert legs(entra) == ["user"]


# Whose they are.


def test_an_agents_tokens_are_no_other_agents_and_not_the_apps(entra, tokens, agent):
    other = entra.add_agent()
    entra.add_agent_user("other@contoso.onmicrosoft.com", other)
    ann = entra.sign_in("ann@contoso.com")
    of_app, first, second = tokens, tokens.agent(agent), tokens.agent(other)
    own = [claims_of(each.manager(GRAPH).get_access_token()) for each in (of_app, first, second)]
    asked = [
        claims_of(each.on_behalf_of(ann, READ).get_access_token())
        for each in (of_app, first, second)
    ]
    names = [entra.client_id, agent, other]
    assert [each["appid"] for each in own] == names
    assert [each["appid"] for each in asked] == names
    assert {each["upn"] for each in asked} == {"ann@contoso.com"}
    first.user(username=NAME).manager(READ).get_token()
    with pytest.raises(ConsentRequiredError):
        second.user(username=NAME).manager(READ).get_token()


def test_workers_of_two_blueprints_with_one_store_and_key_share_no_agent(entra, agent):
    other = entra.add_client(secret="another secret")
    shared = {"store": MemoryStore(), "encryption_key": STORE_KEY}
    with (
        entra.registry(**shared) as parent,
        entra.registry(client_id=other, credential="another secret", **shared) as stranger,
    ):
        parent.agent(agent).manager(GRAPH).get_token()
        with pytest.raises(ConfigurationError, match="no child"):
            stranger.agent(agent).manager(GRAPH).get_token()


def test_an_agent_at_another_tenant_is_proven_there(entra, tokens):
    other = entra.add_agent(tenant="fabrikam.com")
    manager = tokens.tenant("fabrikam.com").agent(other).manager(GRAPH)
    assert claims_of(manager.get_access_token())["appid"] == other
    assert {each.tenant for each in entra.requests if each.kind == "token"} == {"fabrikam.com"}
    with pytest.raises(ConfigurationError, match=f"no agent {other} at the tenant contoso"):
        tokens.agent(other).manager(GRAPH).get_token()


def test_the_same_user_and_scopes_give_the_same_manager(tokens, agent):
    first = tokens.agent(agent).user(username=NAME).manager(READ, "Mail.Send")
    assert tokens.agent(agent).user(username=NAME.title()).manager(["Mail.Send", READ]) is first
    first.get_token()
    assert tokens.agent(agent).user(username=NAME).manager(f"Mail.Send {READ}") is first
    assert tokens.agent(agent).manager(GRAPH) is tokens.agent(agent).manager(GRAPH)


def test_managers_of_agents_users_are_bounded_with_those_of_callers(entra, agent):
    names = [f"agent{number}@contoso.onmicrosoft.com" for number in range(4)]
    with entra.registry(max_users=2) as tokens:
        for name in names:
            entra.add_agent_user(name, agent)
            tokens.agent(agent).user(username=name).manager(READ).get_token()
        tokens.on_behalf_of(entra.sign_in("ann@contoso.com"), READ).get_token()
        users = tokens._own.users
        assert len(users._all.served.cell_contents) == 2
        entra.clear()
        tokens.agent(agent).user(username=names[3]).manager(READ).get_token()
        assert legs(entra) == []


def test_each_user_of_an_agent_is_alone(entra, tokens, agent):
    second = "second@contoso.onmicrosoft.com"
    entra.add_agent_user(second, agent)
    held = tokens.agent(agent)
    held.manager(EXCHANGE).get_token()
    entra.fail_next(status=429, retry_after=3000, username=NAME)
    throttled = held.user(username=NAME).manager(READ)
    for _ in range(2):  # the second one asks nobody
        with pytest.raises(ThrottledError):
            throttled.get_token()
    assert held.user(username=second).manager(READ).get_access_token()
    assert held.manager(GRAPH).get_access_token()
    assert legs(entra) == ["T1", "T2", "user", "user", "agent"]


# Claims.


def test_claims_go_with_every_leg_and_leave_the_exchanged_tokens_in_hand(entra, tokens, agent):
    held = tokens.agent(agent)
    mail = held.user(username=NAME).manager(READ)
    before = mail.get_access_token()
    exchanged = [held.proof(), held.exchanged()]
    in_hand = [each.get_access_token() for each in exchanged]
    entra.clear()
    assert mail.get_token(claims=NEWER).secret != before
    assert legs(entra) == ["T1", "T2", "user"]
    claims = [each.form["claims"] for each in entra.requests if each.kind == "token"]
    assert [json.loads(each) for each in claims] == [json.loads(NEWER)] * 3
    assert [each.get_access_token() for each in exchanged] == in_hand
    entra.clear()
    held.manager(GRAPH).get_token()
    held.on_behalf_of(entra.sign_in("ann@contoso.com"), READ).get_token()
    assert legs(entra) == ["agent", "caller"], "the plain ones are in hand still"
    entra.clear()
    graph = held.manager(GRAPH)
    graph.get_token(claims=NEWER)
    ann = held.on_behalf_of(entra.sign_in("ann@contoso.com"), "Mail.Read")
    ann.get_token(claims=NEWER)
    assert legs(entra) == ["agent", "caller"], "those with the same claims are, too"
    assert all("nbf" in each.form["claims"] for each in entra.requests if each.kind == "token")


# What is refused.


def test_a_proof_that_is_refused_is_dropped_and_asked_for_once_more(entra, tokens, agent):
    held = tokens.agent(agent)
    first = tokens.manager(EXCHANGE, fmi_path=agent).get_access_token()
    entra.fail_next(status=401, error="invalid_client", error_codes=[700024], client_id=agent)
    assert held.manager(GRAPH).get_access_token()
    assert legs(entra) == ["T1", "agent", "T1", "agent"]
    assert tokens.manager(EXCHANGE, fmi_path=agent).get_access_token() != first


def test_a_proof_that_all_are_refused_with_is_asked_for_once_more(entra, tokens, agent):
    held = tokens.agent(agent)
    held.proof().get_token()
    entra.clear()
    managers = [held.manager(f"api://orders-{number}/.default") for number in range(8)]
    with entra.paused():
        for manager in managers:
            manager.prefetch()
        entra.wait_for_requests(8)
        entra.fail_next(
            8, status=401, error="invalid_client", error_codes=[700024], client_id=agent
        )
    assert len({manager.get_access_token() for manager in managers}) == 8
    assert sorted(legs(entra)) == ["T1", *["agent"] * 16]


def test_a_proof_that_is_refused_twice_is_an_error(entra, tokens, agent):
    entra.fail_next(2, status=401, error="invalid_client", error_codes=[700027], client_id=agent)
    with pytest.raises(InvalidCredentialError) as caught:
        tokens.agent(agent).manager(GRAPH).get_token()
    assert caught.value.error_codes == (700027,)
    assert legs(entra) == ["T1", "agent", "T1", "agent"]
    assert entra.client_secret not in {
        each.form.get("client_secret") for each in entra.requests if each.client_id == agent
    }, "the blueprint's secret is not shown as the agent's"


def test_a_proof_that_is_kept_though_it_is_refused_is_shown_once(entra, tokens, agent):
    entra.fail_next(99, status=401, error="invalid_client", error_codes=[700027], client_id=agent)
    for number in range(6):
        entra.clear()
        with pytest.raises(InvalidCredentialError):
            tokens.agent(agent).manager(f"api://orders-{number}/.default").get_token()
    assert legs(entra) == ["agent"], "of many that are refused the next one is kept for a while"


def test_an_own_token_that_is_kept_though_it_is_refused_is_shown_once(entra, tokens, agent):
    entra.fail_next(99, status=400, error="invalid_grant", error_codes=[500133], username=NAME)
    for number in range(6):
        entra.clear()
        with pytest.raises(InteractionRequiredError):
            tokens.agent(agent).user(username=NAME).manager(f"Scope.{number}").get_token()
    assert legs(entra) == ["user"]


def test_an_own_token_that_is_refused_for_a_users_is_asked_for_once_more(entra, tokens, agent):
    tokens.agent(agent).manager(EXCHANGE).get_token()
    entra.clear()
    entra.fail_next(
        status=400, error="invalid_grant", error_codes=[500133], scope=None, username=NAME
    )
    assert tokens.agent(agent).user(username=NAME).manager(READ).get_access_token()
    assert legs(entra) == ["user", "T2", "user"]


def test_an_agent_that_is_no_child_of_the_blueprint_is_told_so(entra, tokens):
    stranger = entra.add_agent(blueprint=entra.add_blueprint())
    account = "stranger@contoso.onmicrosoft.com"
    entra.add_agent_user(account, stranger)
    held = tokens.agent(stranger)
    says = f"{stranger} is no child of the blueprint {entra.client_id} at the tenant contoso"
    for manager in (
        held.manager(GRAPH),
        held.user(username=account).manager(READ),
        held.on_behalf_of(entra.sign_in("ann@contoso.com"), READ),
    ):
        with pytest.raises(ConfigurationError, match=says) as caught:
            manager.get_token()
        assert caught.value.error_codes == (700213,)
        assert not caught.value.retryable
    assert legs(entra) == ["T1", "agent", "T2", "caller"], "no T1 is dropped for that"


def test_a_blueprints_rotated_secret_is_taken_up_by_its_agents(entra, agent):
    secrets = [entra.client_secret]
    with entra.registry(credential=ClientSecret(lambda: secrets[-1])) as tokens:
        tokens.agent(agent).manager(GRAPH).get_token()
        secrets.append(entra.rotate_secret())
        tokens.manager(EXCHANGE, fmi_path=agent).refresh_access_token()
        assert tokens.agent(agent).manager("api://orders/.default").get_access_token()


def test_a_user_that_is_not_the_agents_has_not_consented_to_it(entra, tokens, agent):
    entra.add_agent_user("other@contoso.onmicrosoft.com", entra.add_agent())
    with pytest.raises(ConsentRequiredError):
        tokens.agent(agent).user(username="other@contoso.onmicrosoft.com").manager(READ).get_token()
    with pytest.raises(InteractionRequiredError):
        tokens.agent(agent).user(username="nobody@contoso.onmicrosoft.com").manager(
            READ
        ).get_token()


def test_a_callers_token_is_for_the_blueprint_and_not_for_the_agent(entra, tokens, agent):
    held = tokens.agent(agent)
    meant = entra.sign_in("ann@contoso.com", client_id=agent)
    with pytest.raises(InteractionRequiredError) as caught:
        held.on_behalf_of(meant, READ).get_token()
    assert caught.value.error_codes == (500131,)


def test_a_fetch_that_waits_for_others_is_not_given_up_before_them(clock, source):
    source.longest_wait = 60.0
    source.gate.clear()
    manager = make_manager(clock, source)
    manager.prefetch()
    assert source.entered.acquire(timeout=30)
    clock.advance(60.0)
    manager.prefetch()
    source.gate.set()
    settle(manager)
    assert source.fetches == 1


def test_whatever_takes_other_tokens_says_how_long_it_waits_for_them():
    caller = assertion("ann@contoso.com", exp=4e9)
    with nowhere(timeout=10.0) as tokens:
        agent = tokens.agent(AGENT)
        managers = (
            *(tokens.manager(GRAPH), agent.proof(), agent.manager(GRAPH)),
            *(agent.on_behalf_of(caller, READ), agent.user(username=NAME).manager(READ)),
        )
        waits = [cell_of(manager).source.longest_wait for manager in managers]
    # T1 is waited for 15 s, and perhaps again; T2 for 45, as it waits for that too.
    assert waits == [0.0, 0.0, 30.0, 30.0, 120.0]


def test_a_service_that_does_not_answer_for_the_proof_is_told_to_be_away(entra, agent):
    with (
        entra.registry(timeout=0.2) as tokens,
        entra.paused(),
        pytest.raises(ServiceUnavailableError),
    ):
        tokens.agent(agent).manager(GRAPH).get_token()


def test_an_outage_of_the_service_is_one(entra, tokens, agent):
    entra.fail_next(20, disconnect=True)
    with pytest.raises(ServiceUnavailableError):
        tokens.agent(agent).user(username=NAME).manager(READ).get_token()
    entra.recover()


# What is said at once.


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({}, "by one"),
        ({"username": NAME, "user_id": AGENT}, "by one"),
        ({"user_id": NAME}, "a GUID"),
        ({"user_id": ""}, "a GUID"),
        ({"user_id": 7}, "a GUID"),
        ({"username": ""}, "user principal name"),
        ({"username": AGENT}, "user principal name"),
        ({"username": "agent@contoso.com\r\nX-Other: 1"}, "user principal name"),
        ({"username": "ägent@contoso.com"}, "user principal name"),
        ({"username": "a" * 300 + "@contoso.com"}, "user principal name"),
        ({"username": b"agent@contoso.com"}, "user principal name"),
    ],
)
def test_a_user_is_named_by_exactly_one_of_its_names(named, says):
    with nowhere() as tokens, pytest.raises(ConfigurationError, match=says):
        tokens.agent(AGENT).user(**named)


@pytest.mark.parametrize(
    "agent_id",
    ["", "orders", "contoso.com", None, 7, f"{AGENT}0", "11111111-2222-3333-4444-555555555555"],
)
def test_an_agent_is_named_by_a_guid_of_its_own(agent_id):
    with nowhere() as tokens, pytest.raises(ConfigurationError, match="a GUID"):
        tokens.agent(agent_id)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"credential": None}, r"agent\(\) needs a credential"),
        ({"authority": Authority.entra("common")}, "at one tenant of Microsoft Entra"),
        ({"authority": Authority.b2c("contoso", "b2c_1_x")}, "at one tenant of Microsoft Entra"),
        ({"authority": Authority.ciam("contoso")}, "at one tenant of Microsoft Entra"),
        (
            {"authority": "https://login.sovcloud-identity.sg/contoso.com"},
            "no audience for the exchange",
        ),
    ],
)
def test_a_registry_without_agents_says_so(settings, says):
    with nowhere(**settings) as tokens, pytest.raises(ConfigurationError, match=says):
        tokens.agent(AGENT)


def test_scopes_are_checked_before_anybody_is_asked():
    with nowhere() as tokens:
        agent = tokens.agent(AGENT)
        for call in (
            lambda: agent.manager("User.Read"),
            lambda: agent.user(username=NAME).manager("openid"),
        ):
            with pytest.raises(InvalidScopeError):
                call()


@pytest.mark.parametrize("path", ["", "with space", "ä", "x" * 2_000, 7, "a\nb"])
def test_a_path_that_is_none_is_refused(path):
    with nowhere() as tokens, pytest.raises(ConfigurationError, match="fmi_path= is a text"):
        tokens.manager(EXCHANGE, fmi_path=path)
    with nowhere() as tokens, pytest.raises(ConfigurationError, match="'fmi_path'"):
        tokens.manager(EXCHANGE, extra={"fmi_path": "agent"})


def test_a_token_with_a_path_is_not_the_one_without(entra, tokens, agent):
    plain, proof = tokens.manager(EXCHANGE), tokens.manager(EXCHANGE, fmi_path=agent)
    assert plain is not proof
    assert plain.get_access_token() != proof.get_access_token()
    assert legs(entra) == ["T2", "T1"]  # the app's own looks like an agent's


def test_an_agent_that_nobody_holds_is_gone_without_the_collector():
    with nowhere() as tokens:
        gc.disable()
        try:
            agent = tokens.agent(AGENT)
            manager = agent.user(username=NAME).manager(READ)
            gone = ref(agent)
            del agent
            assert gone() is None
            assert tokens.agent(AGENT).user(username=NAME).manager(READ) is manager
        finally:
            gc.enable()


def test_a_closed_registry_has_no_agents():
    tokens = nowhere()
    agent = tokens.agent(AGENT)
    user = agent.user(username=NAME)
    manager = agent.manager(GRAPH)
    tokens.close()
    for call in (
        lambda: tokens.agent(AGENT),
        lambda: agent.manager(GRAPH),
        lambda: user.manager(READ),
        manager.get_access_token,
    ):
        with pytest.raises(ConfigurationError, match="closed"):
            call()


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("login.microsoftonline.com", "api://AzureADTokenExchange/.default"),
        ("login.windows.net", "api://AzureADTokenExchange/.default"),
        ("login.microsoftonline.us", "api://AzureADTokenExchangeUSGov/.default"),
        ("login.partner.microsoftonline.cn", "api://AzureADTokenExchangeChina/.default"),
        ("login.sovcloud-identity.fr", "api://AzureADTokenExchangeFrance/.default"),
        ("login.sovcloud-identity.de", "api://AzureADTokenExchangeGermany/.default"),
        ("login.private.example", "api://AzureADTokenExchange/.default"),
    ],
)
def test_the_scope_of_exchanges_is_each_clouds_own(host, scope):
    assert exchange_scope_at(host) == scope
    with nowhere(authority=f"https://{host}/contoso.com") as tokens:
        assert tokens.agent(AGENT)._exchanged == scope
    assert len(CLOUDS) == 6


# Federated, and secret.


@pytest.mark.parametrize("kind", ["callable", "file"])
def test_a_blueprint_without_a_secret_proves_its_agents_by_another_issuers_word(
    entra, tmp_path: Path, kind
):
    import time

    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    issuer, subject = "https://issuer.example", "system:serviceaccount:agents:blueprint"
    blueprint = entra.add_blueprint()
    entra.add_federated_issuer(issuer, subject, pem, client_id=blueprint)
    agent = entra.add_agent(blueprint=blueprint)

    def signed() -> str:
        claims = {"iss": issuer, "sub": subject, "aud": EXCHANGE.removesuffix("/.default")}
        return jwt.encode(claims | {"exp": time.time() + 600}, key, algorithm="ES256")

    file = tmp_path / "projected"
    file.write_text(signed())
    credential = ClientAssertion(signed) if kind == "callable" else WorkloadIdentity(file)
    with entra.registry(client_id=blueprint, credential=credential) as tokens:
        token = tokens.agent(agent).manager(GRAPH).get_access_token()
        assert claims_of(token)["xms_par_app_azp"] == blueprint
        with pytest.raises(ConfigurationError) as caught:
            tokens.manager(GRAPH).get_token()
        assert caught.value.error_codes == (82001,)


def test_the_end_of_a_blueprints_certificate_is_told_once_and_not_of_its_agents(entra, agent):
    made, events = client_certificate(valid_days=3), []
    entra.add_certificate(made.certificate_pem)
    with entra.registry(credential=Certificate(made.pem), on_event=events.append) as tokens:
        tokens.agent(agent).user(username=NAME).manager(READ).get_token()
        tokens.agent(agent).manager(GRAPH).get_token()
    assert legs(entra) == ["T1", "T2", "user", "agent"]
    assert sum(isinstance(event, CertificateEnding) for event in events) == 1


def test_no_frame_no_event_and_no_log_tells_of_a_token_or_of_a_user(entra, agent, caplog):
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    with entra.registry(on_event=events.append) as tokens:
        tokens.agent(agent).user(username=NAME).manager(READ).get_token()
        secrets = (
            entra.client_secret,
            NAME,
            tokens.manager(EXCHANGE, fmi_path=agent).get_access_token(),
            tokens.agent(agent).manager(EXCHANGE).get_access_token(),
        )
        entra.disable_user(NAME)
        with pytest.raises(InteractionRequiredError) as caught:
            tokens.agent(agent).user(username=NAME).manager("Mail.Send").get_token()
        assert told_of(caught.value, secrets) == []
        shown = repr(tokens.agent(agent)) + repr(tokens.agent(agent).user(username=NAME))
    assert any(isinstance(event, TokenRequested) for event in events)
    assert not any(secret in repr(events) + caplog.text + shown for secret in secrets)


class Given:
    """A token that is exchanged, and whatever it is refused for."""

    longest_wait = 1.0

    def __init__(self, secret: str) -> None:
        self._cell = (lambda: secret).__closure__

    def get(self, claims: str) -> AccessToken:
        return AccessToken(self._cell[0].cell_contents, 4e9)

    def drop(self, token: AccessToken) -> None:
        pass


@pytest.mark.traces
def test_no_line_that_breaks_tells_of_a_token_or_of_a_user():
    caller = assertion("ann@contoso.com", exp=4e9)
    with nowhere(proxies={"https": "http://127.0.0.1:1"}, timeout=0.01) as tokens:

        def work() -> None:
            agent = tokens.agent(AGENT)
            agent.on_behalf_of(caller, READ)
            manager = agent.user(username=NAME).manager(READ)
            client = AgentClient(tokens._own.client, AGENT, Given("first secret"))
            users = agent.user(username=NAME)._user
            AgentUserSource(client, users, manager.scopes, Given("second secret")).fetch_token()

        secrets = (caller, NAME, "first secret", "second secret")
        within = ("agents.py", "users.py", "entra/agent_client.py", "entra/grants/agent_user.py")
        assert told_at_every_line(work, secrets, within=within) == []
