"""The settings, the failures made to order, the waits, the log, and the protected API."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest
import requests
from emulator_clients import ask_for_token, trusting

from tokenmgr.emulator import EntraEmulator

GRAPH = "https://graph.microsoft.com/.default"


def test_the_lifetime_and_the_suggested_renewal_are_settings(emulator, ask):
    emulator.token_lifetime = 90
    emulator.refresh_in = 45

    answer = ask().json()

    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert (answer["expires_in"], answer["refresh_in"]) == (90, 45)
    assert claims["exp"] - claims["iat"] == 90


def test_the_latency_delays_token_requests_alone(emulator, ask, http):
    emulator.latency = 300
    # Would time out if it were delayed as well.
    http.get(f"{emulator.authority()}/v2.0/.well-known/openid-configuration", timeout=60)

    emulator.latency = 0.2
    started = time.monotonic()
    ask()

    assert time.monotonic() - started >= 0.2


def test_closing_does_not_wait_for_the_latency():
    with EntraEmulator(latency=300) as emulator:
        pool = ThreadPoolExecutor(1)
        waiting = pool.submit(_ask_once, emulator)
        emulator.wait_for_requests(1)
        started = time.monotonic()
    pool.shutdown()

    assert time.monotonic() - started < 10
    assert waiting.result() == 200


def _ask_once(emulator):
    with trusting(emulator) as session:
        return ask_for_token(session, emulator).status_code


def test_as_many_requests_fail_as_were_asked_to(emulator, ask):
    emulator.fail_next(2, status=503, retry_after=7)

    first, second, third = ask(), ask(), ask()

    assert [each.status_code for each in (first, second, third)] == [503, 503, 200]
    assert first.headers["Retry-After"] == "7"


def test_a_failure_may_carry_a_date_an_error_and_its_numbers(emulator, ask):
    date = "Fri, 31 Dec 1999 23:59:59 GMT"
    emulator.fail_next(
        status=429, retry_after=date, error="temporarily_unavailable", error_codes=[90033]
    )

    answer = ask()

    assert answer.headers["Retry-After"] == date
    assert answer.json()["error"] == "temporarily_unavailable"
    assert answer.json()["error_codes"] == [90033]
    assert answer.json()["error_description"].startswith("AADSTS90033: ")


def test_a_failure_may_be_broken_json(emulator, ask):
    emulator.fail_next(status=200, body='{"access_token": "eyJ')

    answer = ask()

    assert answer.status_code == 200
    with pytest.raises(requests.exceptions.JSONDecodeError):
        answer.json()


def test_a_failure_may_cut_the_connection(emulator, ask):
    emulator.fail_next(disconnect=True)

    with pytest.raises(requests.exceptions.ConnectionError):
        ask()
    assert emulator.requests[-1].status is None
    assert ask().status_code == 200


def test_a_failure_waits_for_the_request_that_it_is_meant_for(emulator, ask, http, call):
    discovery = f"{emulator.authority()}/v2.0/.well-known/openid-configuration"
    emulator.fail_next(scope="api://orders/.default")
    emulator.fail_next(grant_type="refresh_token")
    emulator.fail_next(path="discovery", status=502)
    emulator.fail_next(path="graph", status=504)

    token = ask().json()["access_token"]

    assert ask(scope="api://orders/.default").status_code == 500
    assert ask(grant_type="refresh_token").status_code == 500
    assert [http.get(discovery).status_code for _ in range(2)] == [502, 200]
    assert [call(token).status_code for _ in range(2)] == [504, 200]


def test_a_failure_of_a_path_that_there_is_not_is_refused(emulator):
    with pytest.raises(ValueError, match="discovery"):
        emulator.fail_next(path="tokens")


def test_recovering_cancels_the_failures(emulator, ask):
    emulator.fail_next(100)
    emulator.recover()

    assert ask().status_code == 200


def test_fifty_requests_are_held_and_released_together(emulator):
    with ThreadPoolExecutor(50) as pool:
        with emulator.paused():
            answers = [pool.submit(_ask_once, emulator) for _ in range(50)]
            emulator.wait_for_requests(50, timeout=30)
            assert not any(answer.done() for answer in answers)
        assert {answer.result() for answer in answers} == {200}


def test_waiting_for_requests_that_do_not_come_says_how_many_did(emulator, ask):
    ask()

    with pytest.raises(TimeoutError, match="1 of 2 token requests"):
        emulator.wait_for_requests(2, timeout=0.01)


def test_two_hundred_connections_are_served_at_once(emulator):
    with ThreadPoolExecutor(200) as pool:
        with emulator.paused():
            answers = [pool.submit(_ask_once, emulator) for _ in range(200)]
            emulator.wait_for_requests(200, timeout=60)
        assert [answer.result() for answer in answers] == [200] * 200


def test_every_request_is_in_the_log_in_order(emulator, ask, http):
    http.get(f"{emulator.authority()}/v2.0/.well-known/openid-configuration")
    ask(client_secret="wrong")
    ask(scope="api://orders/.default")

    kinds = [(each.kind, each.method, each.status) for each in emulator.requests]
    assert kinds == [("discovery", "GET", 200), ("token", "POST", 401), ("token", "POST", 200)]
    last = emulator.requests[-1]
    assert last.path == "/contoso.onmicrosoft.com/oauth2/v2.0/token"
    assert (last.tenant, last.client_id) == ("contoso.onmicrosoft.com", emulator.client_id)
    assert (last.grant_type, last.scope) == ("client_credentials", "api://orders/.default")
    assert last.headers["user-agent"].startswith("python-requests/")
    assert abs(last.at - time.time()) < 60


def test_requests_are_counted_by_grant_and_scope(emulator, ask):
    ask()
    ask(client_secret="wrong")
    ask(scope="api://orders/.default")

    assert emulator.count() == 3
    assert emulator.count("client_credentials", GRAPH) == 2
    assert emulator.count(scope="api://orders/.default") == 1
    assert emulator.count("refresh_token") == 0
    emulator.clear()
    assert (emulator.count(), emulator.requests) == (0, ())


def test_the_log_tells_secrets_only_when_asked(emulator, ask, call):
    call(ask(assertion="the-assertion", password="the-password").json()["access_token"])
    token_request, api_call = emulator.requests

    assert token_request.form["client_secret"] == emulator.client_secret
    assert api_call.headers["Authorization"].startswith("Bearer ey")
    shown = repr(emulator.requests)
    for secret in (emulator.client_secret, "the-assertion", "the-password", "Bearer ey"):
        assert secret not in shown
    assert emulator.client_id in shown


def test_the_protected_api_tells_whose_token_it_was_called_with(emulator, ask, call):
    token = ask().json()["access_token"]

    answer = call(token, "users/ann")

    claims = jwt.decode(token, options={"verify_signature": False})
    assert answer.json()["value"] == [{"id": "users/ann"}]
    assert answer.json()["appid"] == emulator.client_id
    assert [answer.json()[name] for name in ("aud", "tid", "uti")] == [
        claims[name] for name in ("aud", "tid", "uti")
    ]
    assert emulator.api_calls == 1


def test_the_protected_api_says_what_body_arrived(emulator, ask, http):
    url = f"{emulator.url}/graph/v1.0/messages"
    headers = {"Authorization": f"Bearer {ask().json()['access_token']}"}

    json_body = http.post(url, headers=headers, json={"to": "ann"}).json()["body"]
    big_body = http.post(url, headers=headers, data=b"x" * 3_000_000).json()["body"]

    assert json_body == {"size": 13, "json": {"to": "ann"}}
    assert big_body == {"size": 3_000_000, "json": None}


def test_the_protected_api_wants_a_token(emulator, ask, call):
    good = ask().json()["access_token"]
    forged = jwt.encode(
        jwt.decode(good, options={"verify_signature": False}), "k" * 32, algorithm="HS256"
    )

    for answer in (call(None), call("garbage"), call(forged), call(good[:-8] + "AAAAAAAA")):
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        assert answer.json()["error"]["code"] == "InvalidAuthenticationToken"
    assert emulator.api_calls == 0


def test_the_protected_api_refuses_an_expired_token(emulator, ask, call):
    emulator.token_lifetime = -1

    answer = call(ask().json()["access_token"])

    assert answer.status_code == 401
    assert "expired" in answer.json()["error"]["message"]


def test_the_protected_api_refuses_the_token_of_another_emulator(call):
    with EntraEmulator() as other, trusting(other) as session:
        token = ask_for_token(session, other).json()["access_token"]

    assert call(token).status_code == 401


def test_revoking_stops_the_tokens_that_were_issued_so_far(emulator, ask, call):
    old = ask().json()["access_token"]
    emulator.revoke_tokens()
    new = ask().json()["access_token"]

    assert call(old).status_code == 401
    assert "revoked" in call(old).json()["error"]["message"]
    assert call(new).status_code == 200


def test_settings_may_change_while_requests_are_under_way(emulator):
    stop = threading.Event()

    def turn():
        while not stop.is_set():
            emulator.token_lifetime = 60
            emulator.rotate_secret("same")
            assert emulator.count() >= 0

    turning = threading.Thread(target=turn)
    emulator.rotate_secret("same")
    turning.start()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: _ask_once(emulator), range(24)))
    stop.set()
    turning.join()

    assert answers == [200] * 24
