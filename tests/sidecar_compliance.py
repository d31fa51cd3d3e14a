"""What both clients of the sidecar do: one suite, inherited for each of them."""

from __future__ import annotations

import abc
import base64
import contextlib
import gzip
import json
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import emulator_clients
import pytest
import rough_sidecar
import trustme
from aiohttp import web
from http_api import Server
from reporting import told_at_every_line, told_of
from rough_sidecar import RoughSidecar, raw, reply, whole
from support import PROXIES, in_threads, unset
from waiting import until

from tokenmgr import (
    BearerRefusedError,
    ConfigurationError,
    ConsentRequiredError,
    InteractionRequiredError,
    InvalidCredentialError,
    OverrideIgnoredError,
    ServiceUnavailableError,
    SidecarError,
    ThrottledError,
    TokenManagerError,
    TokenRequestError,
)
from tokenmgr.emulator import EmulatedSidecar, EntraEmulator, RecordedRequest, SidecarApi
from tokenmgr.emulator.serving import HttpsServer, listen
from tokenmgr.emulator.sidecar import _ROUTES

ANN, BOB, AGENT_USER = "ann@contoso.com", "bob@contoso.com", "agent@contoso.com"
GUID = "12345678-aaaa-bbbb-cccc-1234567890ab"
TENANT = "2b6d8627-79bd-5737-b194-7ee60e2c6ffc"


def jwt(**claims: object) -> str:
    """A token that says so, signed by nobody."""
    parts = ({"alg": "RS256"}, claims, {})
    texts = (base64.urlsafe_b64encode(json.dumps(each).encode()).decode() for each in parts)
    return ".".join(text.rstrip("=") for text in texts)


def claims_of(header: str) -> dict[str, Any]:
    """What a token says, or that of a header."""
    return emulator_clients.claims_of(header.rpartition(" ")[2])


CALLER = jwt(tid=TENANT, oid=GUID, scp="access_as_user", sub="s")
APIS = {
    "Graph": SidecarApi(),
    "Post": SidecarApi(relative_path="configured", method="POST", accept="text/csv"),
}


class Compliance(abc.ABC):
    """Inherited, with a client's own way to make it and to call it."""

    @abc.abstractmethod
    def make(self, base_url: str | None = None, **settings: Any) -> Any:
        """A client whose methods are called from a thread, and which is closed with the test."""

    @pytest.fixture
    def sidecar(self, entra: EntraEmulator) -> Iterator[EmulatedSidecar]:
        with entra.sidecar(apis=APIS) as sidecar:
            yield sidecar

    @pytest.fixture
    def client(self, sidecar: EmulatedSidecar) -> Any:
        return self.make(sidecar.url)

    @pytest.fixture
    def rough(self) -> Iterator[RoughSidecar]:
        with RoughSidecar(reply({"authorizationHeader": f"Bearer {CALLER}"})) as server:
            yield server

    # What is sent

    def test_a_header_is_the_token_of_the_caller(self, entra, client):
        for prefix in ("", "Bearer ", "bearer  "):
            header = client.get_authorization_header(prefix + entra.sign_in(ANN), "Graph")
            assert header.startswith("Bearer ")
            assert claims_of(header)["upn"] == ANN
        assert [each.path for each in asked(entra)] == ["/AuthorizationHeader/Graph"] * 3

    def test_a_header_without_a_caller_is_the_apps_own(self, entra, client):
        header = client.get_authorization_header(service_name="Graph", as_app=True)
        assert claims_of(header)["idtyp"] == "app"
        (request,) = asked(entra)
        assert request.path == "/AuthorizationHeaderUnauthenticated/Graph"
        assert "Authorization" not in request.headers

    def test_the_address_is_the_environments_unless_it_is_given(self, sidecar, monkeypatch):
        monkeypatch.setenv("SIDECAR_URL", sidecar.url + "/")
        assert self.make().base_url == sidecar.url
        assert self.make().healthy() is True
        monkeypatch.delenv("SIDECAR_URL")
        assert self.make().base_url == "http://localhost:5000"

    @pytest.mark.parametrize(
        ("override", "wire", "sent"),
        [
            ({"scopes": "User.Read"}, "optionsOverride.Scopes", "User.Read"),
            ({"scopes": ["b", "a"]}, "optionsOverride.Scopes", "a b"),
            ({"tenant": TENANT}, "optionsOverride.AcquireTokenOptions.Tenant", TENANT),
            ({"request_app_token": True}, "optionsOverride.RequestAppToken", "true"),
            ({"force_refresh": True}, "optionsOverride.AcquireTokenOptions.ForceRefresh", "true"),
            ({"force_refresh": False}, "optionsOverride.AcquireTokenOptions.ForceRefresh", "false"),
            (
                {"claims": '{"a":"ä&="}'},
                "optionsOverride.AcquireTokenOptions.Claims",
                '{"a":"ä&="}',
            ),
            ({"correlation_id": GUID}, "optionsOverride.AcquireTokenOptions.CorrelationId", GUID),
            ({"fmi_path": "a/b"}, "optionsOverride.AcquireTokenOptions.FmiPath", "a/b"),
            (
                {"long_running_session_key": "k"},
                "optionsOverride.AcquireTokenOptions.LongRunningWebApiSessionKey",
                "k",
            ),
            ({"pop_public_key": "k=="}, "optionsOverride.AcquireTokenOptions.PopPublicKey", "k=="),
            (
                {"managed_identity_client_id": GUID},
                "optionsOverride.AcquireTokenOptions.ManagedIdentity.UserAssignedClientId",
                GUID,
            ),
            ({"agent_identity": GUID.upper()}, "AgentIdentity", GUID),
        ],
        ids=str,
    )
    def test_each_override_is_sent_by_its_name(self, entra, client, override, wire, sent):
        ann = entra.sign_in(ANN)
        for call in (client.get_authorization_header, client.call_downstream_api):
            with contextlib.suppress(TokenManagerError):  # what becomes of it is another test's
                call(ann, "Graph", **override)
        for request in asked(entra):
            assert request.form[wire] == sent
        assert len(asked(entra)) == 2

    def test_each_override_of_a_call_is_sent_by_its_name(self, entra, client):
        overrides = {
            "relative_path": "a/b?c=d",
            "method": "PATCH",
            "accept": "text/plain",
            "content_type": "text/csv",
            "extra_headers": {"X-One": "1", "X-Two": "2"},
            "extra_query": {"$select": "id"},
            "agent_identity": GUID,
            "agent_user_id": TENANT,
        }
        with pytest.raises(ConfigurationError):
            client.call_downstream_api(entra.sign_in(ANN), "Graph", agent_username=ANN, **overrides)
        with pytest.raises(ConfigurationError, match="AADSTS700016"):  # there is no such agent
            client.call_downstream_api(entra.sign_in(ANN), "Graph", body="a,b", **overrides)
        (request,) = asked(entra)
        assert dict(request.form) == {
            "AgentIdentity": GUID,
            "AgentUserId": TENANT,
            "optionsOverride.RelativePath": "a/b?c=d",
            "optionsOverride.HttpMethod": "PATCH",
            "optionsOverride.AcceptHeader": "text/plain",
            "optionsOverride.ContentType": "text/csv",
            "optionsOverride.ExtraHeaderParameters.X-One": "1",
            "optionsOverride.ExtraHeaderParameters.X-Two": "2",
            "optionsOverride.ExtraQueryParameters.$select": "id",
        }
        assert request.headers["Content-Type"] == "text/csv"

    def test_a_call_is_always_a_post_whose_method_is_the_apis(self, entra, client):
        ann = entra.sign_in(ANN)
        assert client.call_downstream_api(ann, "Graph", "me").json()["value"] == [{"id": "me"}]
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            assert client.call_downstream_api(ann, "Graph", "me", method).status == 200
        assert {each.method for each in asked(entra)} == {"POST"}
        calls = [each for each in entra.requests if each.kind == "graph"]
        assert [each.method for each in calls] == ["GET", "GET", "POST", "PUT", "PATCH", "DELETE"]

    def test_a_call_without_overrides_is_the_profiles_own(self, entra, client):
        ann = entra.sign_in(ANN)
        client.call_downstream_api(ann, "Post", body={"a": 1})
        client.call_downstream_api(ann, "Post", scopes="https://graph.microsoft.com/Mail.Read")
        own, overridden = (each for each in entra.requests if each.kind == "graph")
        assert (own.method, own.headers["Accept"]) == ("POST", "text/csv")
        assert (overridden.method, overridden.headers["Accept"]) == ("GET", "application/json")
        assert own.path == overridden.path == "/graph/v1.0/configured"
        assert asked(entra)[1].form["optionsOverride.HttpMethod"] == "GET"

    def test_a_body_whose_method_nobody_has_said_is_not_sent_as_a_get(self, entra, client):
        with pytest.raises(ConfigurationError, match="method="):
            client.call_downstream_api(entra.sign_in(ANN), "Graph", "me", body={"a": 1})
        assert asked(entra) == []

    @pytest.mark.parametrize(
        ("body", "kind", "size"),
        [
            ({"a": "ä"}, "application/json", 15),
            ([1], "application/json", 3),
            (0, "application/json", 1),
            ("ä", "text/plain; charset=utf-8", 2),
            (b"ab", "text/plain; charset=utf-8", 2),
        ],
    )
    def test_a_body_arrives_as_what_it_is(self, entra, client, body, kind, size):
        answer = client.call_downstream_api(entra.sign_in(ANN), "Graph", "me", "POST", body)
        assert answer.json()["body"]["size"] == size
        (call,) = (each for each in entra.requests if each.kind == "graph")
        assert call.headers["Content-Type"] == kind

    def test_a_body_that_the_sidecar_would_spoil_is_not_sent(self, entra, client):
        with pytest.raises(ConfigurationError, match="UTF-8"):
            client.call_downstream_api(entra.sign_in(ANN), "Graph", "me", "POST", b"\xff\xfe")
        assert asked(entra) == []

    def test_what_an_api_gets_besides_arrives(self, entra, client):
        client.call_downstream_api(
            entra.sign_in(ANN), "Graph", "me", extra_headers={"X-One": "1"}, accept="text/plain"
        )
        (call,) = (each for each in entra.requests if each.kind == "graph")
        assert (call.headers["X-One"], call.headers["Accept"]) == ("1", "text/plain")

    def test_the_name_of_a_service_stays_one_piece_of_the_path(self, rough):
        client = self.make(rough.url)
        client.get_authorization_header(CALLER, "a/../b?c#ä")
        assert rough.requests[0].startswith(
            b"GET /AuthorizationHeader/a%2F..%2Fb%3Fc%23%C3%A4 HTTP"
        )

    # What is not sent

    @pytest.mark.parametrize(
        "asked_for",
        [
            {"agent_identity": "agent"},
            {"agent_identity": ""},
            {"agent_identity": 5},
            {"agent_user_id": GUID},
            {"agent_identity": GUID, "agent_user_id": "someone"},
            {"agent_identity": GUID, "agent_user_id": "00000000-0000-0000-0000-000000000000"},
            {"agent_identity": GUID, "agent_user_id": GUID, "agent_username": ANN},
            {"agent_username": ANN},
            {"agent_identity": GUID, "agent_username": "ann"},
            {"correlation_id": "mine"},
            {"managed_identity_client_id": "mine"},
            {"request_app_token": "yes"},
            {"force_refresh": 1},
            {"tenant": "a\r\nb"},
            {"tenant": ""},
            {"claims": "\x00"},
            {"fmi_path": "x" * 20_000},
            {"long_running_session_key": "\ud800"},
            {"scopes": [5]},
        ],
        ids=str,
    )
    def test_what_the_sidecar_would_pass_over_is_refused_here(self, entra, client, asked_for):
        for call in (client.get_authorization_header, client.call_downstream_api):
            with pytest.raises(ConfigurationError):
                call(entra.sign_in(ANN), "Graph", **asked_for)
        assert asked(entra) == []

    @pytest.mark.parametrize(
        "asked_for",
        [
            {"extra_headers": {"X-A": "a\r\nX-B: b"}},
            {"extra_headers": {"X A": "a"}},
            {"extra_headers": {"": "a"}},
            {"extra_headers": {"X": 5}},
            {"extra_headers": "X: a"},
            {"extra_query": {"a\n": "c"}},
            {"extra_query": {"": "c"}},
            {"method": "GET\r\n"},
            {"accept": "ä"},
            {"content_type": "text/plain\r\nX: y", "body": "a", "method": "POST"},
            {"relative_path": "a\nb"},
        ],
        ids=str,
    )
    def test_a_call_that_would_be_another_is_refused_here(self, entra, client, asked_for):
        with pytest.raises(ConfigurationError):
            client.call_downstream_api(entra.sign_in(ANN), "Graph", **asked_for)
        assert asked(entra) == []

    def test_an_override_that_there_is_not_is_a_mistake_of_the_program(self, entra, client):
        for name in ("base_url", "BaseUrl", "agentIdentity"):
            with pytest.raises(TypeError, match=name):
                client.call_downstream_api(entra.sign_in(ANN), "Graph", **{name: "x"})
        assert asked(entra) == []

    @pytest.mark.parametrize("name", ["", " ", ".", "..", "a\nb", "x" * 300, None])
    def test_a_service_has_a_name(self, entra, client, name):
        with pytest.raises(ConfigurationError, match="service_name"):
            client.get_authorization_header(entra.sign_in(ANN), name)
        assert asked(entra) == []

    @pytest.mark.parametrize(
        "sent", [None, "", "Bearer ", "a b", "a\r\nX: y", "tökén", "x" * 20_000], ids=repr
    )
    def test_a_caller_without_a_token_is_never_the_app(self, entra, client, sent):
        calls: list[Callable[[], object]] = [
            lambda: client.get_authorization_header(sent, "Graph"),
            lambda: client.call_downstream_api(sent, "Graph", "me"),
            lambda: client.validate(sent),
        ]
        for call in calls:
            with pytest.raises(BearerRefusedError) as caught:
                call()
            assert caught.value.status == 401
            assert (caught.value.error is None) == (sent in (None, ""))
        assert asked(entra) == []

    def test_a_caller_and_the_app_are_not_asked_for_at_once(self, entra, client):
        for call in (client.get_authorization_header, client.call_downstream_api):
            with pytest.raises(ConfigurationError, match="as_app"):
                call(entra.sign_in(ANN), "Graph", as_app=True)
        with pytest.raises(ConfigurationError):
            client.get_authorization_header(5, "Graph")
        assert asked(entra) == []

    # Whose the token is

    def test_an_agent_acts_by_itself_and_for_users(self, entra, sidecar, client):
        agent, ann = sidecar.add_agent(), entra.sign_in(ANN)
        own = entra.add_user(AGENT_USER)
        header = client.get_authorization_header(ann, "Graph", agent_identity=agent)
        assert (claims_of(header)["appid"], claims_of(header)["upn"]) == (agent, ANN)
        for user in ({"agent_username": AGENT_USER.upper()}, {"agent_user_id": own}):
            header = client.get_authorization_header(ann, "Graph", agent_identity=agent, **user)
            assert (claims_of(header)["appid"], claims_of(header)["oid"]) == (agent, own)
        sidecar.allow_overrides = _ROUTES
        header = client.get_authorization_header(
            service_name="Graph", as_app=True, agent_identity=agent.upper()
        )
        assert (claims_of(header)["appid"], claims_of(header)["idtyp"]) == (agent, "app")

    @pytest.mark.parametrize(
        "user", [{}, {"agent_username": AGENT_USER}, {"agent_user_id": GUID}], ids=str
    )
    def test_a_token_that_is_not_the_agents_is_not_given(self, entra, sidecar, client, user):
        agent = sidecar.add_agent()
        with pytest.raises(OverrideIgnoredError, match="Unauthenticated") as caught:
            client.get_authorization_header(
                service_name="Graph", as_app=True, agent_identity=agent, **user
            )
        assert caught.value.status == 200, "it is what the sidecar has said"
        sidecar.allow_overrides = ()
        with pytest.raises(OverrideIgnoredError):
            client.get_authorization_header(
                entra.sign_in(ANN), "Graph", agent_identity=agent, **user
            )

    def test_a_token_of_another_tenant_is_not_given(self, entra, sidecar, client):
        with pytest.raises(OverrideIgnoredError, match="tenant"):
            client.get_authorization_header(service_name="Graph", as_app=True, tenant=GUID)
        sidecar.allow_overrides = _ROUTES
        header = client.get_authorization_header(service_name="Graph", as_app=True, tenant=GUID)
        assert claims_of(header)["tid"] == GUID

    def test_a_users_token_is_not_given_for_an_apps(self, entra, sidecar, client):
        ann = entra.sign_in(ANN)
        header = client.get_authorization_header(ann, "Graph", request_app_token=True)
        assert claims_of(header)["idtyp"] == "app"
        sidecar.allow_overrides = ()
        with pytest.raises(OverrideIgnoredError, match="of a user"):
            client.get_authorization_header(ann, "Graph", request_app_token=True)

    @pytest.mark.parametrize("user", [{"scp": "User.Read"}, {"idtyp": "user"}], ids=str)
    @pytest.mark.parametrize("agent", [{}, {"agent_identity": GUID}], ids=str)
    def test_without_a_caller_no_users_token_is_given(self, rough, user, agent):
        client = self.make(rough.url)
        rough.answers = [reply({"authorizationHeader": f"Bearer {jwt(azp=GUID, **user)}"})]
        with pytest.raises(OverrideIgnoredError, match="of a user"):
            client.get_authorization_header(service_name="Graph", as_app=True, **agent)
        for token in ("opaque", jwt(azp=GUID)):
            rough.answers = [reply({"authorizationHeader": f"Bearer {token}"})]
            if token != "opaque" or not agent:  # which has to say that it is the agent's
                client.get_authorization_header(service_name="Graph", as_app=True, **agent)

    def test_an_apps_token_is_not_given_for_a_users(self, rough):
        client = self.make(rough.url)
        rough.answers = [reply({"authorizationHeader": f"Bearer {jwt(idtyp='app')}"})]
        with pytest.raises(OverrideIgnoredError, match="of the app itself"):
            client.get_authorization_header(CALLER, "Graph", request_app_token=False)

    def test_nobody_is_given_another_callers_token(self, rough):
        client = self.make(rough.url)
        other = jwt(tid=TENANT, oid=TENANT, scp="User.Read")
        rough.answers = [reply({"authorizationHeader": f"Bearer {other}"})]
        with pytest.raises(OverrideIgnoredError, match="on whose behalf"):
            client.get_authorization_header(CALLER, "Graph")
        rough.answers = [reply({"authorizationHeader": f"Bearer {other}"})]
        abroad = jwt(tid=GUID, oid=GUID)
        client.get_authorization_header(abroad, "Graph")  # a guest is another object there

    @pytest.mark.parametrize(
        ("token", "ignored"),
        [
            ("opaque", True),
            ("a.b.c", True),
            (jwt(), True),
            (jwt(azp=TENANT), True),
            (jwt(azp=[GUID]), True),
            (jwt(azp=GUID, appid=TENANT), True),
            (jwt(azp=GUID.upper()), False),
            (jwt(appid=GUID), False),
        ],
        ids=str,
    )
    def test_a_token_has_to_say_that_it_is_the_agents(self, rough, token, ignored):
        client = self.make(rough.url)
        rough.answers = [reply({"authorizationHeader": f"Bearer {token}"})]
        if ignored:
            with pytest.raises(OverrideIgnoredError):
                client.get_authorization_header(CALLER, "Graph", agent_identity=GUID)
        else:
            client.get_authorization_header(CALLER, "Graph", agent_identity=GUID)

    @pytest.mark.parametrize(
        ("claims", "ignored"),
        [
            ({"upn": AGENT_USER, "scp": "a"}, False),
            ({"preferred_username": AGENT_USER.upper(), "scp": "a"}, False),
            ({"idtyp": "user"}, False),
            ({"upn": BOB, "scp": "a"}, True),
            ({"upn": AGENT_USER, "idtyp": "app"}, True),
            ({}, True),
        ],
        ids=str,
    )
    def test_a_token_has_to_be_the_agents_users(self, rough, claims, ignored):
        client = self.make(rough.url)
        token = jwt(azp=GUID, **claims)
        rough.answers = [reply({"authorizationHeader": f"Bearer {token}"})]
        who = {"agent_identity": GUID, "agent_username": AGENT_USER}
        if ignored:
            with pytest.raises(OverrideIgnoredError):
                client.get_authorization_header(service_name="Graph", as_app=True, **who)
        else:
            client.get_authorization_header(service_name="Graph", as_app=True, **who)

    def test_what_a_bound_token_holds_tells_whose_it_is(self, rough):
        client = self.make(rough.url)
        for inner, ignored in ((jwt(appid=GUID), False), (jwt(appid=TENANT), True)):
            rough.answers = [reply({"authorizationHeader": f"PoP {jwt(at=inner)}"})]
            try:
                header = client.get_authorization_header(
                    service_name="A", as_app=True, agent_identity=GUID, pop_public_key="key"
                )
            except OverrideIgnoredError:
                assert ignored
            else:
                assert header.startswith("PoP ")
                assert not ignored

    def test_a_call_without_a_caller_overrides_nothing_where_nobody_has_opened_that(
        self, entra, sidecar, client
    ):
        with pytest.raises(OverrideIgnoredError, match="overrides_opened"):
            client.call_downstream_api(service_name="Graph", relative_path="me", as_app=True)
        assert asked(entra) == []
        answer = client.call_downstream_api(service_name="Post", as_app=True)
        assert answer.json()["value"] == [{"id": "configured"}]
        sidecar.allow_overrides = _ROUTES
        agent, opened = sidecar.add_agent(), self.make(sidecar.url, overrides_opened=True)
        answer = opened.call_downstream_api(
            service_name="Post", relative_path="me", as_app=True, agent_identity=agent
        )
        assert (answer.json()["value"], answer.json()["appid"]) == ([{"id": "me"}], agent)

    # What answers mean

    def test_an_apis_own_answer_is_passed_on_whatever_it_is(self, entra, client):
        ann = entra.sign_in(ANN)
        client.call_downstream_api(ann, "Graph", "me").raise_for_status()
        entra.fail_next(path="graph", status=404)
        answer = client.call_downstream_api(ann, "Graph", "me")
        assert (answer.status, answer.ok) == (404, False)
        assert answer.headers["content-TYPE"].startswith("application/json")
        assert "error" in answer.json()
        assert ANN not in repr(answer)
        with pytest.raises(SidecarError, match="404") as caught:
            answer.raise_for_status()
        assert (caught.value.status, caught.value.retryable) == (404, False)
        entra.fail_next(path="graph", status=503, body="busy")
        answer = client.call_downstream_api(ann, "Graph", "me")
        with pytest.raises(SidecarError) as caught:
            answer.raise_for_status()
        assert caught.value.retryable
        assert answer.text == "busy"
        with pytest.raises(SidecarError, match="no JSON"):
            answer.json()

    def test_validation_gives_what_the_token_says(self, entra, client):
        claims = client.validate(f"Bearer {entra.sign_in(ANN)}").claims
        assert (claims["preferred_username"], claims["scp"]) == (ANN, "access_as_user")

    def test_a_token_that_is_refused_is_the_callers_affair(self, entra, client):
        wrong = [
            jwt(oid=GUID),
            entra.sign_in(ANN, lifetime=-1),
            entra.sign_in(ANN, client_id=entra.add_client()),
        ]
        calls = [client.validate]
        calls += [
            lambda token: client.get_authorization_header(token, "Graph"),
            lambda token: client.call_downstream_api(token, "Graph", "me"),
        ]
        for call in calls:
            for token in wrong:
                with pytest.raises(BearerRefusedError) as caught:
                    call(token)
                assert (caught.value.status, caught.value.error) == (401, "invalid_token")

    def test_a_scope_that_a_caller_lacks_is_named(self, entra):
        with entra.sidecar(required_scopes=["Orders.Read", "Orders.Write"]) as sidecar:
            with pytest.raises(BearerRefusedError) as caught:
                self.make(sidecar.url).validate(entra.sign_in(ANN))
            error = caught.value
            assert (error.status, error.error) == (403, "insufficient_scope")
            assert error.scopes == ("Orders.Read", "Orders.Write")
            self.make(sidecar.url).validate(entra.sign_in(ANN, scopes=["Orders.Write"]))

    def test_a_sidecar_of_another_machine_says_where_to_run_it(self, entra, sidecar, client):
        sidecar.remote_callers = True
        with pytest.raises(SidecarError, match="same pod") as caught:
            client.get_authorization_header(entra.sign_in(ANN), "Graph")
        assert caught.value.status == 403

    @pytest.mark.parametrize(
        ("number", "kind"),
        [
            (50076, InteractionRequiredError),
            (65001, ConsentRequiredError),
            (7000215, InvalidCredentialError),
            (700016, ConfigurationError),
            (90033, ServiceUnavailableError),
            (123456, TokenRequestError),
        ],
    )
    def test_a_token_request_that_fails_is_told_by_its_number(self, entra, client, number, kind):
        entra.fail_next(status=400, error="invalid_grant", error_codes=[number])
        calls = (client.get_authorization_header, client.call_downstream_api)
        for call in calls:
            entra.recover()
            entra.fail_next(9, status=400, error="invalid_grant", error_codes=[number])
            with pytest.raises(kind) as caught:
                call(entra.sign_in(ANN), "Graph", correlation_id=GUID)
            error = caught.value
            assert (error.error_codes, error.correlation_id, error.status) == ((number,), GUID, 401)
            assert error.trace_id

    def test_throttling_and_outages_are_told_apart_from_refusals(self, entra, client):
        for status, kind in ((429, ThrottledError), (503, ServiceUnavailableError)):
            entra.fail_next(9, status=status)
            with pytest.raises(kind) as caught:
                client.get_authorization_header(entra.sign_in(ANN), "Graph")
            assert caught.value.retryable
            entra.recover()

    @pytest.mark.parametrize(
        ("number", "kind"), [(50076, InteractionRequiredError), (123456, SidecarError)]
    )
    def test_trouble_that_has_a_number_is_told_by_it(self, rough, number, kind):
        said = {"detail": f"AADSTS{number}: Words. Correlation ID: {GUID}"}
        rough.answers = [reply(said, status=500, kind="application/problem+json")]
        with pytest.raises(kind) as caught:
            self.make(rough.url, retries=0).get_authorization_header(CALLER, "Graph")
        error = caught.value
        assert (error.error_codes, error.correlation_id, error.status) == ((number,), GUID, 500)

    def test_a_token_that_only_its_api_can_read_is_one_too(self, rough):
        rough.answers = [reply({"authorizationHeader": "bearer 0paque"})]
        client = self.make(rough.url)
        assert client.get_authorization_header(CALLER, "Graph") == "Bearer 0paque"
        rough.answers = [
            reply({"protocol": "Bearer", "token": "0paque", "claims": {"sub": "somebody"}})
        ]
        assert client.validate("0paque").claims == {"sub": "somebody"}

    def test_a_name_that_nobody_knows_is_a_setting(self, entra, client):
        with pytest.raises(ConfigurationError, match="service's name") as caught:
            client.get_authorization_header(entra.sign_in(ANN), "Grahp")
        assert caught.value.status == 400

    @pytest.mark.parametrize("status", [201, 204, 301, 307, 404, 405, 418])
    def test_what_is_no_answer_of_the_service_is_told_as_such(self, rough, status):
        client = self.make(rough.url)
        rough.answers = [reply(status=status, headers=(f"Location: {rough.url}/elsewhere",))]
        for _ in range(2):
            with pytest.raises(SidecarError, match=f"HTTP {status}") as caught:
                client.get_authorization_header(CALLER, "Graph")
            assert caught.value.status == status
        assert len(rough.requests) == 2, "no redirect is followed"

    @pytest.mark.parametrize(
        "answer",
        [
            reply(b"{"),
            reply(b"[]"),
            reply([]),
            reply("text"),
            reply({}),
            reply(b"[" * 100_000),
            reply(b"\xff\xfe{}"),
            reply({"authorizationHeader": None}),
            reply({"authorizationHeader": ["Bearer x"]}),
            reply({"authorizationHeader": ""}),
            reply({"authorizationHeader": "Bearer"}),
            reply({"authorizationHeader": "Bearer "}),
            reply({"authorizationHeader": "Basic dXNlcjpwYXNz"}),
            reply({"authorizationHeader": "Bearer a b"}),
            reply({"authorizationHeader": "Bearer a\r\nX-Evil: 1"}),
            reply({"authorizationHeader": "Bearer a\u2028b"}),
            reply({"authorizationHeader": "Bearer tökén"}),
            reply({"authorizationHeader": "Bearer " + "x" * 70_000}),
            reply({"authorizationHeader": f"Bearer {CALLER}"}, kind="text/html"),
            reply(gzip.compress(b"{}"), headers=("Content-Encoding: gzip",)),
            reply({"statusCode": 200, "headers": {}, "content": bytes(2_000_000).decode()}),
            reply(status=401, kind="text/html"),
            reply(b"<html>", status=401, kind="text/html"),
            reply(b"no", status=403, kind="text/plain"),
            reply({"detail": 5}, status=500, kind="application/problem+json"),
            reply({"detail": ["AADSTS50076"]}, status=500, kind="application/problem+json"),
            raw(b"no HTTP at all\r\n\r\n"),
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"),
            raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"),
            rough_sidecar.hang_up,
            rough_sidecar.endless,
        ],
        ids=range(31),
    )
    def test_an_answer_of_an_enemy_is_a_typed_error(self, rough, answer):
        def close(connection: Any) -> None:
            answer(connection)
            rough_sidecar.hang_up(connection)

        rough.answers = [close]
        client = self.make(rough.url, retries=0)
        with pytest.raises(SidecarError) as caught:
            client.get_authorization_header(service_name="Graph", as_app=True)
        assert len(str(caught.value)) < 500

    @pytest.mark.parametrize(
        "said",
        [
            {},
            {"statusCode": "200", "headers": {}, "content": ""},
            {"statusCode": True, "headers": {}, "content": ""},
            {"statusCode": 0, "headers": {}, "content": ""},
            {"statusCode": 200, "headers": [], "content": ""},
            {"statusCode": 200, "headers": {"A": "b"}, "content": ""},
            {"statusCode": 200, "headers": {"A": [5]}, "content": ""},
            {"statusCode": 200, "headers": {"A": ["b\r\nC: d"]}, "content": ""},
            {"statusCode": 200, "headers": {"A\n": ["b"]}, "content": ""},
            {"statusCode": 200, "headers": {}, "content": {}},
        ],
        ids=str,
    )
    def test_an_answer_that_is_none_of_an_api_is_a_typed_error(self, rough, said):
        rough.answers = [reply(said)]
        with pytest.raises(SidecarError, match="none of a downstream API"):
            self.make(rough.url).call_downstream_api(CALLER, "Graph", "me")

    def test_an_api_may_say_nothing_and_several_headers_of_a_name(self, rough):
        said = {"statusCode": 204, "headers": {"Allow": ["GET", "PUT"]}, "content": None}
        rough.answers = [reply(said)]
        answer = self.make(rough.url).call_downstream_api(CALLER, "Graph", "me")
        assert (answer.status, answer.text, answer.headers["allow"]) == (204, "", "GET, PUT")

    @pytest.mark.parametrize(
        "said",
        [
            {"protocol": "Bearer", "token": "x", "claims": {"tid": TENANT, "oid": TENANT}},
            {"protocol": "Bearer", "token": "x", "claims": []},
            {"protocol": "Bearer", "token": "x"},
            {"protocol": 5, "token": "x", "claims": {"tid": TENANT, "oid": GUID, "sub": "s"}},
        ],
        ids=str,
    )
    def test_a_validation_of_another_token_is_none(self, rough, said):
        rough.answers = [reply(said)]
        with pytest.raises(SidecarError, match="not about the token"):
            self.make(rough.url).validate(CALLER)

    def test_so_much_is_read_and_no_more(self, rough):
        rough.answers = [rough_sidecar.endless]
        client = self.make(rough.url, max_bytes=200_000)
        with pytest.raises(SidecarError, match="more than 200000 bytes"):
            client.call_downstream_api(CALLER, "Graph", "me")

    @pytest.mark.parametrize("dripping", [rough_sidecar.drip, rough_sidecar.drip_content])
    def test_an_answer_that_drips_ends_with_the_time_that_it_has(self, rough, dripping):
        rough.answers = [dripping]
        client = self.make(rough.url, timeout=0.3)
        with pytest.raises(SidecarError, match="in time") as caught:
            client.get_authorization_header(CALLER, "Graph")
        assert caught.value.retryable

    def test_nobody_there_is_told_with_where_that_was_looked_for(self):
        with pytest.raises(SidecarError, match="SIDECAR_URL") as caught:
            self.make("http://127.0.0.1:1", retries=1).get_authorization_header(CALLER, "Graph")
        assert caught.value.retryable

    # Again

    def test_what_may_be_repeated_is(self, entra, client):
        ann = entra.sign_in(ANN)
        entra.fail_next(path="sidecar", status=500)
        entra.fail_next(path="sidecar", disconnect=True)
        client.get_authorization_header(ann, "Graph")
        entra.fail_next(2, path="sidecar", status=503, body="<html>")
        client.validate(ann)
        assert len(asked(entra)) == 6

    def test_it_is_repeated_so_often_and_no_more(self, entra, sidecar):
        entra.fail_next(9, path="sidecar", status=500)
        with pytest.raises(SidecarError) as caught:
            self.make(sidecar.url, retries=1).get_authorization_header(entra.sign_in(ANN), "Graph")
        assert (caught.value.status, caught.value.retryable) == (500, True)
        assert len(asked(entra)) == 2

    def test_a_call_of_an_api_is_never_repeated(self, entra, client):
        ann = entra.sign_in(ANN)
        for trouble in ({"status": 500}, {"status": 503}, {"disconnect": True}):
            entra.clear()
            entra.fail_next(path="sidecar", **trouble)
            with pytest.raises(SidecarError):
                client.call_downstream_api(ann, "Graph", "me")
            assert len(asked(entra)) == 1

    def test_who_asks_for_time_is_given_it(self, rough):
        rough.answers = [reply(status=503, headers=("Retry-After: 3600",))]
        with pytest.raises(SidecarError) as caught:
            self.make(rough.url).get_authorization_header(CALLER, "Graph")
        assert caught.value.retry_after == 3600
        rough.answers = [reply(status=429, headers=("Retry-After: 1e9",))]
        with pytest.raises(ThrottledError) as throttled:
            self.make(rough.url).get_authorization_header(CALLER, "Graph")
        assert throttled.value.retry_after is None
        assert len(rough.requests) == 2

    def test_it_is_waited_for_until_it_is_ready(self, entra, sidecar, client):
        sidecar.healthy = False
        assert client.healthy() is False
        looked = len(asked(entra))

        def heal() -> None:
            until(lambda: len(asked(entra)) >= looked + 2)
            sidecar.healthy = True

        healing = threading.Thread(target=heal)
        healing.start()
        client.wait_until_ready(30)
        healing.join()
        assert client.healthy() is True
        sidecar.healthy = False
        with pytest.raises(SidecarError, match=r"HTTP 503"):
            client.wait_until_ready(0.1)
        sidecar.close()
        assert client.healthy() is False
        with pytest.raises(SidecarError, match="reached"):
            client.wait_until_ready(0.1)

    # The connections

    def test_connections_are_used_again(self, rough):
        client = self.make(rough.url)
        for _ in range(5):
            client.get_authorization_header(CALLER, "Graph")
        assert rough.connections == 1

    def test_a_sidecar_that_was_begun_anew_is_reached_at_once(self, entra, sidecar, client):
        ann = entra.sign_in(ANN)
        for _ in range(2):
            assert client.call_downstream_api(ann, "Graph", "me").ok
            sidecar.close()
            sidecar.start()
        assert client.call_downstream_api(ann, "Graph", "me").ok, "and no call was made twice"
        assert len(asked(entra)) == 3

    def test_threads_share_a_client(self, entra, client):
        tokens = {name: entra.sign_in(name) for name in (ANN, BOB)}

        def ask() -> list[str]:
            return [
                claims_of(client.get_authorization_header(token, "Graph"))["upn"]
                for token in tokens.values()
            ]

        assert in_threads(8, ask) == [[ANN, BOB]] * 8

    def test_what_lies_on_a_connection_unasked_for_is_nobodys_answer(self, rough):
        client = self.make(rough.url, retries=0)
        evil = jwt(tid=TENANT, oid=TENANT)
        first = whole({"authorizationHeader": f"Bearer {jwt(tid=TENANT, oid=GUID)}"})
        second = whole({"authorizationHeader": f"Bearer {evil}"})
        # At once: what comes later than a look at the connection nobody can tell from an answer.
        rough.answers = [raw(first + second), raw(first)]
        for _ in range(2):
            header = client.get_authorization_header(service_name="Graph", as_app=True)
            assert claims_of(header)["oid"] == GUID

    def test_no_cookie_is_kept(self, rough):
        client = self.make(rough.url)
        said = {"authorizationHeader": f"Bearer {CALLER}"}
        rough.answers = [reply(said, headers=("Set-Cookie: a=b; Path=/",))]
        for _ in range(2):
            client.get_authorization_header(CALLER, "Graph")
        assert b"cookie" not in rough.requests[1].lower()

    def test_no_proxy_and_no_password_file_is_between_this_machine_and_itself(
        self, rough, monkeypatch, tmp_path
    ):
        unset(monkeypatch, *PROXIES)
        (tmp_path / ".netrc").write_text("default login eve password hers")
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        proxy = Server()
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        try:
            self.make(rough.url).get_authorization_header(CALLER, "Graph")
        finally:
            proxy.close()
        assert proxy.asked == []
        assert f"Authorization: Bearer {CALLER}".lower().encode() in rough.requests[0].lower()

    def test_elsewhere_a_proxy_may_be_on_the_way(self, rough, monkeypatch, ca_file):
        unset(monkeypatch, *PROXIES)
        monkeypatch.setenv("HTTPS_PROXY", rough.url)
        rough.answers = [reply(status=407)]
        for settings in ({}, {"verify": ca_file}):
            client = self.make("https://sidecar.example.com", retries=0, **settings)
            with pytest.raises(SidecarError, match="reached"):
                client.get_authorization_header(CALLER, "Graph")
        assert [each[:32] for each in rough.requests] == [b"CONNECT sidecar.example.com:443 "] * 2
        assert CALLER.encode() not in b"".join(rough.requests)

    def test_a_client_that_is_closed_says_so(self, entra, client):
        client.healthy()
        self.close(client)
        self.close(client)
        with pytest.raises(ConfigurationError, match="closed"):
            client.get_authorization_header(entra.sign_in(ANN), "Graph")

    def close(self, client: Any) -> None:
        client.close()

    # TLS

    def test_elsewhere_it_is_reached_by_tls_that_is_checked(self, tls, ca_file):
        with https_server(tls) as url:
            assert self.make(url, verify=ca_file).healthy() is True
            assert self.make(url, verify=Path(ca_file)).healthy() is True
            with pytest.raises(SidecarError, match="verify="):
                self.make(url, retries=0).get_authorization_header(CALLER, "Graph")
        with pytest.raises(ConfigurationError, match="verify="):
            self.make(url, verify="")

    # What is told

    def test_nothing_is_printed_and_nothing_told(self, entra, client, capfd, caplog):
        ann = entra.sign_in(ANN)
        with caplog.at_level(logging.DEBUG):
            headers = [
                client.get_authorization_header(ann, "Graph"),
                client.get_authorization_header(service_name="Graph", as_app=True),
            ]
            answer = client.call_downstream_api(ann, "Graph", "me", "POST", {"secret": "body"})
            validated = client.validate(ann)
        assert capfd.readouterr() == ("", "")
        secrets = (ann, *(each.partition(" ")[2] for each in headers))
        ours = (each for each in caplog.records if not each.name.startswith("authlib"))
        logged = " ".join(each.getMessage() for each in ours)
        assert logged, "what others log of a request is in it"
        shown = f"{client!r} {answer!r} {validated!r} {logged}"
        assert not any(secret in shown for secret in (*secrets, ANN, '"secret"'))

    def test_no_error_tells_what_it_is_about(self, entra, sidecar, client, rough):
        ann = entra.sign_in(ANN)
        detail = f"it is of {ANN}: {ann}"
        enemy = reply({"detail": detail}, status=500, kind="application/problem+json")
        rough.answers = [enemy]
        to_enemy = self.make(rough.url, retries=0)
        calls: list[Callable[[], object]] = [
            lambda: to_enemy.get_authorization_header(ann, "Graph"),
            lambda: to_enemy.call_downstream_api(ann, "Graph", "me", "POST", {"a": "in-the-body"}),
            lambda: to_enemy.validate(ann),
            lambda: client.get_authorization_header(ann, "Grahp", claims='{"in-the-claims":1}'),
            lambda: client.get_authorization_header(
                ann, "Graph", tenant="a\n", claims="in-the-claims"
            ),
            lambda: client.get_authorization_header(ann + "x", "Graph"),
            lambda: client.call_downstream_api(ann, "Graph", "me", body="in-the-body"),
            lambda: client.get_authorization_header(ann, "Graph", agent_identity=GUID),
            lambda: self.make("http://eve:in-the-url@localhost"),
        ]
        for call in calls:
            with pytest.raises(TokenManagerError) as caught:
                call()
            secrets = (ann, ANN, "in-the-body", "in-the-claims", "in-the-url")
            assert told_of(caught.value, secrets) == []

    @pytest.mark.traces
    def test_a_call_tells_no_secret_wherever_it_breaks(self, rough):
        said = {
            "statusCode": 200,
            "headers": {"Content-Type": ["application/json"]},
            "content": "what-the-api-says",
        }
        header = {"authorizationHeader": f"Bearer {jwt(tid=TENANT, oid=GUID, name='answered')}"}
        secrets = (CALLER, header["authorizationHeader"], "what-the-api-says", "in-the-body")

        def work() -> None:
            rough.answers = [reply(header), reply(said)]
            client = self.make(rough.url, retries=0)
            client.get_authorization_header(CALLER, "Graph", long_running_session_key="in-the-body")
            client.call_downstream_api(CALLER, "Graph", "me", "POST", {"a": "in-the-body"})

        told = told_at_every_line(work, secrets, within=("sidecar/",))
        assert told == []


def asked(entra: EntraEmulator) -> list[RecordedRequest]:
    """What the sidecar was asked."""
    return [each for each in entra.requests if each.kind == "sidecar"]


@contextlib.contextmanager
def https_server(authority: trustme.CA) -> Iterator[str]:
    """A sidecar behind TLS, that is healthy and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="Healthy")

    app = web.Application()
    app.router.add_get("/healthz", health)
    listener = listen("127.0.0.1", 0)
    url = f"https://localhost:{listener.getsockname()[1]}"
    server = HttpsServer(app, listener=listener, context=context)
    server.start()
    try:
        yield url
    finally:
        server.close()
