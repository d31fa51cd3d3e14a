"""Failures and the log by user, and what the protected API asks of their tokens."""

from __future__ import annotations

import base64
import json

import pytest
from emulator_clients import OBO, ORDERS, ask_for_token, claims_of

ANN, BOB = "ann@contoso.com", "bob@contoso.com"
GRAPH = "https://graph.microsoft.com/User.Read"


def test_a_failure_may_hit_one_user_alone(emulator, ask, on_behalf_of):
    ann, bob = emulator.sign_in(ANN), emulator.sign_in(BOB)
    emulator.fail_next(2, status=429, retry_after=30, username="Ann@Contoso.com")

    assert ask().status_code == 200
    assert on_behalf_of(bob).status_code == 200
    throttled = on_behalf_of(ann)
    assert (throttled.status_code, throttled.headers["Retry-After"]) == (429, "30")
    assert [on_behalf_of(ann).status_code for _ in range(2)] == [429, 200]


def test_a_failure_finds_its_user_by_their_refresh_token(emulator, on_behalf_of, refresh):
    ann = on_behalf_of(emulator.sign_in(ANN)).json()["refresh_token"]
    bob = on_behalf_of(emulator.sign_in(BOB)).json()["refresh_token"]
    emulator.fail_next(grant_type="refresh_token", username=ANN)

    assert refresh(bob).status_code == 200
    assert refresh(ann).status_code == 500


def test_a_failure_finds_its_user_at_the_protected_api(emulator, on_behalf_of, call):
    ann, bob = (
        on_behalf_of(emulator.sign_in(name), scope=GRAPH).json()["access_token"]
        for name in (ANN, BOB)
    )
    emulator.fail_next(status=429, username=ANN, path="graph")

    assert call(bob).status_code == 200
    assert [call(ann).status_code for _ in range(2)] == [429, 200]


def test_the_log_knows_whom_a_request_was_for(emulator, ask, on_behalf_of, refresh, call):
    granted = on_behalf_of(emulator.sign_in(ANN)).json()
    on_behalf_of(emulator.sign_in(BOB), requested_token_use="nothing")
    on_behalf_of("gar.bage")
    on_behalf_of("a.W10.b")
    refresh(granted["refresh_token"])
    ask()
    call(granted["access_token"])

    names = [each.username for each in emulator.requests]
    assert names == [ANN, BOB, None, None, ANN, None, ANN]
    assert emulator.count(username="ANN@contoso.com") == 2
    assert emulator.count(OBO, username=ANN) == 1
    assert emulator.count(username="nobody@contoso.com") == 0
    emulator.wait_for_requests(2, username=ANN)
    with pytest.raises(TimeoutError, match="1 of 2"):
        emulator.wait_for_requests(2, timeout=0.01, username=BOB)


def test_the_log_hides_assertions_and_refresh_tokens(emulator, on_behalf_of, refresh):
    assertion = emulator.sign_in(ANN)
    refresh_token = on_behalf_of(assertion).json()["refresh_token"]
    refresh(refresh_token)

    shown = repr(emulator.requests)
    assert assertion not in shown
    assert refresh_token not in shown


def test_the_protected_api_tells_whose_token_it_was_called_with(emulator, on_behalf_of, call):
    token = on_behalf_of(emulator.sign_in(ANN), scope=GRAPH).json()["access_token"]

    answer = call(token).json()

    assert answer["oid"] == emulator.add_user(ANN)
    assert answer["scp"] == "User.Read"
    assert answer["appid"] == emulator.client_id


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_the_protected_api_refuses_what_is_for_a_registered_app(emulator, call, version):
    """So an API that passes its caller's token on is found out."""
    answer = call(emulator.sign_in(ANN, version=version))

    assert answer.status_code == 401
    assert "Invalid audience" in answer.json()["error"]["message"]
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_the_protected_api_takes_it_once_it_is_that_apps_api(emulator, call):
    emulator.protect_api(audience=emulator.client_id, scopes=["access_as_user"])

    assert call(emulator.sign_in(ANN)).status_code == 200


def test_the_protected_api_refuses_id_tokens(emulator, on_behalf_of, call):
    emulator.protect_api(audience=emulator.client_id)

    assert call(on_behalf_of(emulator.sign_in(ANN)).json()["id_token"]).status_code == 401


def test_the_protected_api_may_be_for_one_audience(emulator, ask, on_behalf_of, call):
    emulator.protect_api(audience="api://orders")
    ann = emulator.sign_in(ANN)

    assert call(on_behalf_of(ann, scope=ORDERS).json()["access_token"]).status_code == 200
    assert call(on_behalf_of(ann, scope=GRAPH).json()["access_token"]).status_code == 401
    assert call(ask().json()["access_token"]).status_code == 401


def test_the_protected_api_may_want_scopes_of_users(emulator, ask, on_behalf_of, call):
    emulator.protect_api(scopes=["read", "write"])
    ann = emulator.sign_in(ANN)

    reader = call(on_behalf_of(ann, scope=ORDERS).json()["access_token"])
    other = call(on_behalf_of(ann, scope="api://orders/count").json()["access_token"])
    app = call(ask().json()["access_token"])

    assert (reader.status_code, other.status_code, app.status_code) == (200, 403, 403)
    assert other.json()["error"]["code"] == "Authorization_RequestDenied"


def test_the_protected_api_may_want_roles_of_apps(emulator, ask, on_behalf_of, call):
    emulator.protect_api(scopes=["read"], roles=["Orders.Read.All"])
    reader = emulator.add_client(secret="s3cret", roles=["Orders.Read.All"])

    allowed = ask(client_id=reader, client_secret="s3cret").json()["access_token"]
    user = on_behalf_of(emulator.sign_in(ANN), scope=ORDERS).json()["access_token"]

    assert call(allowed).status_code == 200
    assert call(ask().json()["access_token"]).status_code == 403
    assert call(user).status_code == 200


def test_a_role_does_not_serve_a_user_nor_a_scope_an_app(emulator, on_behalf_of, call):
    emulator.protect_api(roles=["read"])

    token = on_behalf_of(emulator.sign_in(ANN), scope=ORDERS).json()["access_token"]

    assert call(token).status_code == 403


def test_access_tokens_outlive_the_sign_in_as_they_do_in_life(emulator, on_behalf_of, call):
    token = on_behalf_of(emulator.sign_in(ANN), scope=GRAPH).json()["access_token"]
    emulator.revoke(ANN)

    assert call(token).status_code == 200


@pytest.mark.parametrize("capabilities", [(), ("CP1",)])
def test_a_revoked_token_is_challenged_where_the_client_answers_challenges(
    emulator, http, capabilities
):
    claims = {"claims": json.dumps({"access_token": {"xms_cc": {"values": list(capabilities)}}})}
    token = ask_for_token(http, emulator, **claims).json()["access_token"]
    assert claims_of(token).get("xms_cc", []) == list(capabilities)
    emulator.revoke_tokens()
    answer = http.get(f"{emulator.url}/graph/v1.0/me", headers={"Authorization": f"Bearer {token}"})
    challenge = answer.headers["WWW-Authenticate"]
    assert answer.status_code == 401
    assert ('error="insufficient_claims"' in challenge) == bool(capabilities)
    assert ('error="invalid_token"' in challenge) != bool(capabilities)
    if capabilities:
        wanted = base64.b64decode(challenge.partition('claims="')[2].rstrip('"'))
        assert json.loads(wanted)["access_token"]["nbf"]["essential"] is True
