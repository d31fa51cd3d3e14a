"""The emulator's sidecar: what the service does, passed over and refused as it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from sidecar_compliance import claims_of

from tokenmgr.emulator import EmulatedSidecar, EntraEmulator, SidecarApi
from tokenmgr.emulator.sidecar import _ROUTES

ANN = "ann@contoso.com"
PROBLEM = "application/problem+json; charset=utf-8"


@pytest.fixture
def sidecar(entra: EntraEmulator) -> Iterator[EmulatedSidecar]:
    apis = {"Graph": SidecarApi(), "Post": SidecarApi(method="POST", relative_path="own")}
    with entra.sidecar(apis=apis, allow_overrides=_ROUTES) as sidecar:
        yield sidecar


@pytest.fixture
def ann(entra: EntraEmulator) -> dict[str, str]:
    return {"Authorization": f"Bearer {entra.sign_in(ANN)}"}


def header_claims(answer: requests.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return claims_of(answer.json()["authorizationHeader"])


def get(sidecar: EmulatedSidecar, path: str, headers: Any = None, **query: Any) -> Any:
    return requests.get(f"{sidecar.url}{path}", params=query, headers=headers, timeout=30)


def post(sidecar: EmulatedSidecar, path: str, headers: Any = None, **more: Any) -> Any:
    return requests.post(f"{sidecar.url}{path}", headers=headers, timeout=30, **more)


def test_downstream_apis_are_called_by_post_alone(sidecar, ann):
    for route in ("DownstreamApi", "DownstreamApiUnauthenticated"):
        answer = get(sidecar, f"/{route}/Graph", ann)
        assert (answer.status_code, answer.headers["Allow"], answer.text) == (405, "POST", "")
    assert post(sidecar, "/Validate", ann).status_code == 405
    assert (get(sidecar, "/else").status_code, get(sidecar, "/else").text) == (404, "")


def test_a_caller_without_a_token_that_is_accepted_is_told_nothing(entra, sidecar):
    wrong = [
        {},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer x"},
        {"Authorization": f"Bearer {entra.sign_in(ANN, lifetime=-1)}"},
        {"Authorization": f"Bearer {entra.sign_in(ANN, client_id=entra.add_client())}"},
    ]
    for headers in wrong:
        for path in ("/Validate", "/AuthorizationHeader/Graph"):
            answer = get(sidecar, path, headers)
            assert (answer.status_code, answer.content) == (401, b"")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_caller_of_version_1_is_accepted(entra, sidecar):
    token = entra.sign_in(ANN, version="1.0")
    answer = get(sidecar, "/Validate", {"Authorization": f"bearer {token}"})
    said = answer.json()
    assert (said["protocol"], said["token"], said["claims"]["upn"]) == ("Bearer", token, ANN)


def test_names_of_the_query_count_in_any_case(sidecar, ann):
    answer = get(
        sidecar, "/AuthorizationHeader/Graph", ann, **{"OPTIONSOVERRIDE.requestAppToken": "TRUE"}
    )
    assert header_claims(answer)["idtyp"] == "app"


def test_lists_repeat_their_name(sidecar, ann):
    scopes = [f"https://graph.microsoft.com/{name}" for name in ("User.Read", "Mail.Read")]
    answer = get(sidecar, "/AuthorizationHeader/Graph", ann, **{"optionsOverride.Scopes": scopes})
    assert header_claims(answer)["scp"] == "User.Read Mail.Read"


def test_routes_that_are_not_opened_pass_over_everything_with_200(entra, sidecar):
    agent, asked = sidecar.add_agent(), "optionsOverride.AcquireTokenOptions.Tenant"
    path, query = "/AuthorizationHeaderUnauthenticated/Graph", {asked: "fabrikam.com"}
    opened = header_claims(get(sidecar, path, AgentIdentity=agent, **query))
    sidecar.allow_overrides = ("GetAuthorizationHeader",)
    closed = header_claims(get(sidecar, path, AgentIdentity=agent, **query))
    assert (opened["appid"], closed["appid"]) == (agent, entra.client_id)
    assert opened["tid"] != closed["tid"]
    with pytest.raises(ValueError, match="routes"):
        sidecar.allow_overrides = ("Everything",)


def test_what_cannot_be_read_is_passed_over(entra, sidecar, ann):
    agent, path = sidecar.add_agent(), "/AuthorizationHeaderUnauthenticated/Graph"
    claims = header_claims(get(sidecar, path, AgentIdentity=agent, AgentUserId="no-guid"))
    assert (claims["appid"], claims["idtyp"]) == (agent, "app")
    claims = header_claims(get(sidecar, path, AgentUsername=ANN))
    assert claims["appid"] == entra.client_id
    query = {
        "optionsOverride.BaseUrl": "https://evil.example",
        "optionsOverride.RelativePath": "me",
    }
    answer = post(sidecar, "/DownstreamApi/Graph", ann, params=query)
    assert json.loads(answer.json()["content"])["value"] == [{"id": "me"}]


def test_agents_and_their_users_have_to_be_there(entra, sidecar):
    agent, path = sidecar.add_agent(), "/AuthorizationHeaderUnauthenticated/Graph"
    for query, number in (
        ({"AgentIdentity": "11111111-2222-3333-4444-555555555555"}, 700016),
        ({"AgentIdentity": agent, "AgentUsername": "nobody@contoso.com"}, 50034),
    ):
        answer = get(sidecar, path, **query)
        assert (answer.status_code, answer.headers["Content-Type"]) == (401, PROBLEM)
        assert f"AADSTS{number}" in answer.json()["detail"]
    oid = entra.add_user("agent@contoso.com")
    for user in ({"AgentUsername": "agent@contoso.com"}, {"AgentUserId": oid}):
        claims = header_claims(get(sidecar, path, AgentIdentity=agent, **user))
        assert (claims["appid"], claims["oid"], claims["idtyp"]) == (agent, oid, "user")


def test_any_override_takes_the_profiles_method_away(entra, sidecar, ann):
    post(sidecar, "/DownstreamApi/Post", ann)
    post(sidecar, "/DownstreamApi/Post", ann, params={"optionsOverride.RelativePath": "other"})
    calls = [(each.method, each.path) for each in entra.requests if each.kind == "graph"]
    assert calls == [("POST", "/graph/v1.0/own"), ("GET", "/graph/v1.0/other")]


def test_a_body_without_a_type_is_dropped(sidecar, ann):
    typed = post(sidecar, "/DownstreamApi/Post", ann, json={"a": 1})
    untyped = post(sidecar, "/DownstreamApi/Post", ann, data=b"abc")
    assert json.loads(typed.json()["content"])["body"]["json"] == {"a": 1}
    assert "body" not in json.loads(untyped.json()["content"])


def test_what_describes_the_content_is_passed_on_and_no_other_header(entra, sidecar, ann):
    entra.fail_next(path="graph", status=503, retry_after=30)
    said = post(sidecar, "/DownstreamApi/Post", ann).json()
    assert said["statusCode"] == 503
    assert set(said["headers"]) == {"Content-Type", "Content-Length"}
    entra.fail_next(path="graph", status=204, body=b"")
    assert post(sidecar, "/DownstreamApi/Post", ann).json()["content"] is None


def test_tokens_are_kept_until_another_is_asked_for(entra, sidecar, ann):
    path, forced = "/AuthorizationHeader/Graph", "optionsOverride.AcquireTokenOptions.ForceRefresh"
    tokens = [get(sidecar, path, ann).text for _ in range(3)]
    assert (len(set(tokens)), entra.count()) == (1, 1)
    assert get(sidecar, path, ann, **{forced: "true"}).text not in tokens
    assert get(sidecar, path, ann, **{forced: "false"}).text not in tokens, "it has the new one"
    assert entra.count() == 2


def test_unknown_names_and_broken_calls_are_problems(sidecar, ann):
    answer = get(sidecar, "/AuthorizationHeader/Grahp", ann)
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, PROBLEM)
    assert "No scopes found for the API 'Grahp'" in answer.json()["detail"]
    scope = {"optionsOverride.Scopes": "https://graph.microsoft.com/.default"}
    header_claims(get(sidecar, "/AuthorizationHeader/Grahp", ann, **scope))
    answer = post(sidecar, "/DownstreamApi/Grahp", ann, params=scope)
    assert (answer.status_code, answer.json()["title"]) == (500, "Internal Server Error")


def test_failures_are_made_to_order(entra, sidecar, ann):
    entra.fail_next(path="sidecar", status=401, body="")
    entra.fail_next(path="sidecar", status=401, error_codes=[65001])
    entra.fail_next(path="sidecar", status=503, body="<html>", retry_after=7)
    entra.fail_next(path="sidecar", disconnect=True)
    empty = get(sidecar, "/Validate", ann)
    assert (empty.content, empty.headers["WWW-Authenticate"]) == (
        b"",
        'Bearer error="invalid_token"',
    )
    assert "AADSTS65001" in get(sidecar, "/Validate", ann).json()["detail"]
    html = get(sidecar, "/Validate", ann)
    assert (html.text, html.headers["Retry-After"]) == ("<html>", "7")
    with pytest.raises(requests.ConnectionError):
        get(sidecar, "/Validate", ann)
    assert get(sidecar, "/Validate", ann).status_code == 200
    assert [each.status for each in entra.requests][-5:] == [401, 401, 503, None, 200]


def test_callers_of_other_machines_are_let_to_its_health_alone(sidecar, ann):
    sidecar.remote_callers = True
    refused = get(sidecar, "/Validate", ann)
    assert (refused.status_code, refused.content) == (403, b"")
    assert get(sidecar, "/healthz").text == "Healthy"
    sidecar.healthy = False
    assert get(sidecar, "/healthz").status_code == 503
    assert (sidecar.remote_callers, sidecar.healthy) == (True, False)


def test_it_may_end_and_begin_again_where_it_was(entra, sidecar):
    url = sidecar.url
    sidecar.close()
    sidecar.close()
    with pytest.raises(requests.ConnectionError):
        get(sidecar, "/healthz")
    sidecar.start().start()
    assert sidecar.url == url
    assert get(sidecar, "/healthz").status_code == 200
    assert str(sidecar.url.rpartition(":")[2]) in repr(sidecar)


def test_there_is_none_without_a_running_emulator():
    with pytest.raises(RuntimeError):
        EntraEmulator().sidecar()
