"""The examples that call Graph on behalf of their callers: three routes in each framework."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from programs import serving

from tokenmgr.emulator import EntraEmulator

ANN = "ann@contoso.com"
GUNICORN = ("gunicorn", "--chdir", "examples", "--preload")
#: How each is served.
SERVERS = {
    "fastapi": ("uvicorn", "--app-dir", "examples", "on_behalf_of_fastapi:app"),
    "flask": (*GUNICORN, "on_behalf_of_flask:app"),
    "django": (*GUNICORN, "on_behalf_of_django:application"),
}
MESSAGE = {"to": "bob@contoso.com", "subject": "Lunch?", "body": "At twelve."}


class Api:
    """An example that is served, in front of the emulator's Graph."""

    def __init__(self, url: str, entra: EntraEmulator) -> None:
        self._url = url
        self.entra = entra

    def ask(
        self, path: str, bearer: str | None, method: str = "GET", json: object = None
    ) -> requests.Response:
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        url = f"{self._url}{path}"
        return requests.request(method, url, headers=headers, json=json, timeout=30)


@pytest.fixture(params=list(SERVERS))
def api(request: pytest.FixtureRequest, entra: EntraEmulator) -> Iterator[Api]:
    entra.protect_api(
        audience="https://graph.microsoft.com", scopes=["User.Read", "Mail.Read", "Mail.Send"]
    )
    with serving(
        *SERVERS[request.param],
        GRAPH_URL=f"{entra.url}/graph/v1.0",
        **entra.environment(),
    ) as served:
        yield Api(served.url, entra)


def test_a_caller_s_profile_and_mail_are_read_and_sent_for_them(api):
    ann = api.entra.sign_in(ANN)
    for _ in range(2):
        profile = api.ask("/profile", ann).json()
        assert profile["id"] == profile["graph"]["oid"] == api.entra.add_user(ANN)
        assert "User.Read" in profile["graph"]["scp"]
        assert "Mail.Read" in api.ask("/messages", ann).json()["scp"]
        assert api.ask("/send", ann, "POST", MESSAGE).status_code == 202
    calls = [(each.method, each.path) for each in api.entra.requests if each.kind == "graph"]
    me = "/graph/v1.0/me"
    assert calls == 2 * [("GET", me), ("GET", f"{me}/messages"), ("POST", f"{me}/sendMail")]
    assert api.entra.count(username=ANN) == 3  # for three scopes


def test_who_may_not_call_it_is_told_so_and_graph_is_not_asked(api):
    for bearer, status in (
        (None, 401),
        ("opaque", 401),
        (api.entra.sign_in(ANN, lifetime=-3600), 401),
        (api.entra.sign_in(ANN, scopes=["another"]), 403),
    ):
        for path, method in (("/profile", "GET"), ("/messages", "GET"), ("/send", "POST")):
            answer = api.ask(path, bearer, method, MESSAGE if method == "POST" else None)
            assert answer.status_code == status
            assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert (api.entra.count(), api.entra.api_calls) == (0, 0)
    assert api.ask("/ready", None).json() == {"status": "ready"}


def test_a_caller_is_told_what_entra_wants_and_when_to_come_back(api):
    ann = api.entra.sign_in(ANN)
    api.entra.require_mfa(ANN)
    challenge = api.ask("/profile", ann).headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer error="insufficient_claims", claims="')
    bob = api.entra.sign_in("bob@contoso.com")
    api.entra.withdraw_consent("bob@contoso.com")
    assert api.ask("/messages", bob).status_code == 403
    eve = api.entra.sign_in("eve@contoso.com")
    api.entra.fail_next(9, status=429, retry_after=30, username="eve@contoso.com")
    answer = api.ask("/send", eve, "POST", MESSAGE)
    assert answer.status_code == 503
    assert 25 <= int(answer.headers["Retry-After"]) <= 35


def test_what_is_no_message_is_the_caller_s_fault_and_what_graph_does_is_not(api):
    ann = api.entra.sign_in(ANN)
    for wrong in ({}, {"to": "bob@contoso.com"}, ["to", "subject", "body"]):
        assert api.ask("/send", ann, "POST", wrong).status_code in (400, 422)
    assert api.entra.count() == 0
    api.entra.fail_next(path="graph", status=500)
    answer = api.ask("/messages", ann)
    assert (answer.status_code, answer.json()["detail"]) == (502, "Microsoft Graph has not done it")
