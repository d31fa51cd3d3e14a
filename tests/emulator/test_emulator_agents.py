"""Agent identities at the emulator, by MSAL and by hand: whose child one is, and refusals."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import jwt
import msal
import pytest
from agent_legs import EXCHANGE, GRAPH, NAME, READ
from emulator_clients import ASSERTED, ask_for_token, claims_of, refused

_EXCHANGE_APP = "fb60f99c-7a34-4190-8149-302f77469936"


@pytest.fixture
def agent(emulator):
    return emulator.add_agent()


@pytest.fixture
def oid(emulator, agent):
    return emulator.add_agent_user(NAME, agent)


@pytest.fixture
def proof(msal_app, agent):
    """T1, as MSAL has it."""
    return msal_app().acquire_token_for_client([EXCHANGE], fmi_path=agent)["access_token"]


@pytest.fixture
def as_agent(emulator, http, agent, proof):
    """The agent in MSAL's hands."""
    return msal.ConfidentialClientApplication(
        agent,
        client_credential={"client_assertion": lambda: proof},
        authority=emulator.authority(),
        instance_discovery=False,
        http_client=http,
    )


@pytest.fixture
def ask_as(emulator, http, agent, proof):
    """Asks as the agent; a field that is None is left out."""

    def ask(authority: str | None = None, **fields: Any):
        fields = {
            "client_id": agent,
            "client_secret": None,
            "client_assertion_type": ASSERTED,
            "client_assertion": proof,
        } | fields
        return ask_for_token(http, emulator, authority, **fields)

    return ask


def test_msal_gets_all_of_an_agents_tokens(emulator, as_agent, agent, oid, proof):
    short = [
        base64.urlsafe_b64encode(uuid.UUID(each).bytes_le).decode().rstrip("=")
        for each in (emulator.environment()["AZURE_TENANT_ID"], emulator.client_id)
    ]
    told = claims_of(proof)
    assert told["sub"] == f"/eid1/c/pub/t/{short[0]}/a/{short[1]}/{agent}"
    assert (told["aud"], told["azp"], told["idtyp"]) == (_EXCHANGE_APP, emulator.client_id, "app")

    own = as_agent.acquire_token_for_client([GRAPH])["access_token"]
    assert claims_of(own)["appid"] == agent

    second = as_agent.acquire_token_for_client([EXCHANGE])["access_token"]
    told = claims_of(second)
    assert (told["aud"], told["azp"]) == (_EXCHANGE_APP, agent)
    assert told["xms_par_app_azp"] == emulator.client_id

    for named in ({"username": NAME}, {"user_object_id": oid}):
        answer = as_agent.acquire_token_by_user_federated_identity_credential(
            [READ], second, **named
        )
        told = claims_of(answer["access_token"])
        assert (told["oid"], told["appid"], told["upn"]) == (oid, agent, NAME)
        assert answer["refresh_token"]

    ann = emulator.sign_in("ann@contoso.com")
    answer = as_agent.acquire_token_on_behalf_of(ann, [READ])
    told = claims_of(answer["access_token"])
    assert (told["appid"], told["upn"]) == (agent, "ann@contoso.com")


def test_the_name_of_the_exchange_is_taken_in_any_case_and_of_any_cloud(msal_app, agent):
    for name in ("api://AzureAdTokenExchange", "api://AzureADTokenExchangeChina"):
        token = msal_app().acquire_token_for_client([f"{name}/.default"], fmi_path=agent)
        assert claims_of(token["access_token"])["aud"] == _EXCHANGE_APP


def test_a_blueprint_has_no_tokens_of_its_own_but_those_for_agents(emulator, ask):
    blueprint = emulator.add_blueprint(secret="its secret")
    own = {"client_id": blueprint, "client_secret": "its secret"}
    refused(ask(**own), 82001, "unauthorized_client")
    assert ask(**own, scope=EXCHANGE, fmi_path=emulator.add_agent()).status_code == 200


def test_a_proof_of_another_agent_or_of_another_blueprint_is_none(emulator, msal_app, ask_as):
    other = emulator.add_agent()
    of_other = msal_app().acquire_token_for_client([EXCHANGE], fmi_path=other)["access_token"]
    refused(ask_as(client_assertion=of_other), 700213, "invalid_client", 401)
    stranger = emulator.add_agent(blueprint=emulator.add_blueprint())
    proof = msal_app().acquire_token_for_client([EXCHANGE], fmi_path=stranger)["access_token"]
    refused(ask_as(client_id=stranger, client_assertion=proof), 700213, "invalid_client", 401)


def test_a_proof_of_another_tenant_is_none(emulator, msal_app, agent, ask_as):
    elsewhere = msal_app(emulator.authority("fabrikam.com"))
    proof = elsewhere.acquire_token_for_client([EXCHANGE], fmi_path=agent)["access_token"]
    refused(ask_as(client_assertion=proof), 700211, "invalid_client", 401)
    refused(
        ask_as(emulator.authority("fabrikam.com"), client_assertion=proof),
        700016,
        "unauthorized_client",
    )


def test_a_proof_for_another_audience_from_elsewhere_or_too_late_is_none(
    emulator, msal_app, agent, ask_as
):
    other = msal_app().acquire_token_for_client(["api://orders/.default"], fmi_path=agent)
    refused(ask_as(client_assertion=other["access_token"]), 700212, "invalid_client", 401)
    forged = jwt.encode({"sub": agent, "iss": "me"}, "x" * 32)
    refused(ask_as(client_assertion=forged), 700027, "invalid_client", 401)
    refused(ask_as(client_assertion="none"), 50027, "invalid_client", 401)
    emulator.token_lifetime = -1
    late = ask_as(
        client_id=emulator.client_id,
        client_secret=emulator.client_secret,
        client_assertion=None,
        client_assertion_type=None,
        scope=EXCHANGE,
        fmi_path=agent,
    ).json()["access_token"]
    refused(ask_as(client_assertion=late), 700024, "invalid_client", 401)


def test_an_agent_has_no_secret_of_its_own(emulator, ask_as):
    refused(
        ask_as(
            client_secret=emulator.client_secret, client_assertion=None, client_assertion_type=None
        ),
        7000215,
        "invalid_client",
        401,
    )


def test_a_callers_token_has_the_blueprint_as_its_audience(emulator, agent, ask_as):
    fields = {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "requested_token_use": "on_behalf_of",
        "scope": READ,
    }
    meant = emulator.sign_in("ann@contoso.com", client_id=agent)
    refused(ask_as(**fields, assertion=meant), 500131, "invalid_grant")
    assert ask_as(**fields, assertion=emulator.sign_in("ann@contoso.com")).status_code == 200


class TestAgentsUsers:
    """What is refused of ``user_fic``."""

    @pytest.fixture
    def second(self, as_agent):
        return as_agent.acquire_token_for_client([EXCHANGE])["access_token"]

    @pytest.fixture
    def ask_for_user(self, ask_as, oid, second):
        def ask(**fields: Any):
            asked = {
                "grant_type": "user_fic",
                "user_federated_identity_credential": second,
                "username": NAME,
                "scope": f"{READ} openid profile offline_access",
            }
            return ask_as(**(asked | fields))

        return ask

    def test_what_is_missing_is_named(self, ask_for_user):
        for name in ("user_federated_identity_credential", "username"):
            body = refused(ask_for_user(**{name: None}), 900144, "invalid_request")
            assert name in body["error_description"]

    def test_one_name_is_enough_and_two_are_too_many(self, ask_for_user, oid):
        assert ask_for_user(username=None, user_id=oid).status_code == 200
        refused(ask_for_user(user_id=oid), 90100, "invalid_request")

    def test_the_agents_own_token_has_to_be_its_own(self, emulator, ask_for_user, ask, proof):
        own = ask(scope=EXCHANGE).json()["access_token"]
        for token in (own, proof):
            answer = ask_for_user(user_federated_identity_credential=token)
            refused(answer, 500131, "invalid_grant")
        refused(ask_for_user(user_federated_identity_credential="none"), 50013, "invalid_grant")

    def test_it_ends(self, emulator, ask_for_user, ask_as):
        emulator.token_lifetime = -1
        late = ask_as(scope=EXCHANGE).json()["access_token"]
        refused(ask_for_user(user_federated_identity_credential=late), 500133, "invalid_grant")

    def test_the_user_has_to_be_there_and_the_agents(self, emulator, ask_for_user):
        emulator.add_user("ann@contoso.com")
        emulator.add_agent_user("other@contoso.com", emulator.add_agent())
        refused(ask_for_user(username="nobody@contoso.com"), 50034, "invalid_grant")
        for name in ("ann@contoso.com", "other@contoso.com"):
            refused(ask_for_user(username=name), 65001, "invalid_grant")
        emulator.disable_user(NAME)
        refused(ask_for_user(), 50057, "invalid_grant")

    def test_an_app_that_is_no_agent_has_no_users(self, emulator, ask_for_user, ask):
        answer = ask_for_user(
            client_id=emulator.client_id,
            client_secret=emulator.client_secret,
            client_assertion=None,
            client_assertion_type=None,
            user_federated_identity_credential=ask(scope=EXCHANGE).json()["access_token"],
        )
        refused(answer, 65001, "invalid_grant")

    def test_nobody_but_entra_has_this_grant(self, emulator, ask_for_user, http):
        refused(
            http.post(
                f"{emulator.oidc_authority()}/token",
                data={
                    "grant_type": "user_fic",
                    "client_id": emulator.client_id,
                    "client_secret": emulator.client_secret,
                },
            ),
            70003,
            "unsupported_grant_type",
        )

    def test_the_log_says_for_whom_it_was(self, emulator, ask_for_user, oid):
        ask_for_user(username=None, user_id=oid)
        assert emulator.count("user_fic", username=NAME) == 1
        assert "user_federated_identity_credential': '***'" in repr(emulator.requests[-1].form)


def test_an_agents_user_needs_an_agent(emulator):
    with pytest.raises(KeyError):
        emulator.add_agent_user(NAME, emulator.client_id)


def test_a_failure_may_hit_one_app_alone(emulator, ask, ask_as, agent):
    emulator.fail_next(status=400, error="invalid_request", client_id=agent)
    assert ask().status_code == 200
    assert ask_as().status_code == 400
    assert ask_as().status_code == 200
