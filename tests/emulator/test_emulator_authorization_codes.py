"""Authorization codes: each is good once, for whoever asked for it, for ten minutes."""

from __future__ import annotations

import hashlib
import time
from base64 import urlsafe_b64encode

import jwt
import pytest
from emulator_clients import CALLBACK, ORDERS, claims_of, refused

ANN = "ann@contoso.com"
VERIFIER = "a-verifier-that-has-43-letters-or-some-more"
S256 = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def code(emulator, address):
    """A code that Ann's sign-in has given; with parameters of the request."""
    return lambda **parameters: emulator.authorize(address(**parameters), ANN)["code"]


def test_it_gives_tokens(emulator, http, app, code, redeem, call):
    answer = redeem(code(nonce="the nonce"), client_info="1").json()

    access, identity = claims_of(answer["access_token"]), claims_of(answer["id_token"])
    assert (access["aud"], access["scp"], access["azp"]) == ("api://orders", "read", app)
    assert (identity["aud"], identity["nonce"]) == (app, "the nonce")
    assert identity["preferred_username"] == ANN
    assert identity["oid"] == access["oid"] == emulator.add_user(ANN)
    assert identity["tid"] == emulator.environment()["AZURE_TENANT_ID"]
    assert "auth_time" not in identity
    assert {"refresh_token", "client_info"} <= set(answer)
    assert answer["scope"] == f"{ORDERS} openid profile"
    metadata = http.get(f"{emulator.authority()}/v2.0/.well-known/openid-configuration").json()
    key = jwt.PyJWKSet.from_dict(http.get(metadata["jwks_uri"]).json()).keys[0]
    jwt.decode(
        answer["id_token"], key, algorithms=["RS256"], audience=app, issuer=metadata["issuer"]
    )
    assert call(answer["access_token"]).status_code == 200


def test_what_was_not_asked_for_is_not_given(code, redeem):
    answer = redeem(code(scope=ORDERS)).json()

    assert not {"id_token", "refresh_token", "client_info"} & set(answer)


def test_the_id_token_tells_when_the_user_signed_in_if_that_was_asked(code, redeem):
    before = int(time.time())

    answer = redeem(code(max_age=60)).json()

    assert before <= claims_of(answer["id_token"])["auth_time"] <= time.time()


def test_at_common_the_users_own_tenant_signs_them_in(emulator, code, redeem):
    emulator.add_user("zoe@fabrikam.com", tenant="fabrikam.com")
    common = emulator.authority("common")

    answer = redeem(code(authority=common), authority=common).json()

    assert claims_of(answer["id_token"])["tid"] == emulator.environment()["AZURE_TENANT_ID"]


def test_a_token_of_another_resource_may_be_asked_for(emulator, code, redeem):
    answer = redeem(code(), scope="api://stock/count offline_access").json()
    assert claims_of(answer["access_token"])["aud"] == "api://stock"
    assert "id_token" in answer

    emulator.withdraw_consent(ANN, "api://stock/count")
    refused(redeem(code(), scope="api://stock/count"), 65001, "invalid_grant")


def test_it_is_good_once_and_whoever_shows_it_again_ends_what_it_gave(code, redeem, refresh):
    text = code()
    token = redeem(text).json()["refresh_token"]
    token = refresh(token).json()["refresh_token"]

    refused(redeem(text), 54005, "invalid_grant")

    refused(refresh(token), 70000, "invalid_grant")


def test_it_ends(emulator, code, redeem):
    assert emulator.code_lifetime == 600
    emulator.code_lifetime = 0
    refused(redeem(code()), 70008, "invalid_grant")
    emulator.code_lifetime = 600
    text = code()
    emulator.expire_codes()
    refused(redeem(text), 70008, "invalid_grant")


@pytest.mark.parametrize(
    ("fields", "number", "error", "status"),
    [
        ({"client_secret": None}, 7000218, "invalid_client", 401),
        ({"client_secret": "wrong"}, 7000215, "invalid_client", 401),
        ({"redirect_uri": "http://localhost:5001/signed-in"}, 500112, "invalid_client", 401),
        ({"redirect_uri": None}, 900144, "invalid_request", 400),
        ({"scope": f"{ORDERS} api://stock/count"}, 28000, "invalid_scope", 400),
        ({"code": None}, 900144, "invalid_request", 400),
        ({"code": "garbage"}, 9002313, "invalid_grant", 400),
    ],
)
def test_what_is_refused_does_not_use_it_up(code, redeem, fields, number, error, status):
    text = code()

    refused(redeem(**({"code": text} | fields)), number, error, status)

    assert redeem(text).status_code == 200


def test_it_is_for_its_app_and_tenant_alone(emulator, code, redeem):
    other = emulator.add_client(secret="other", redirect_uris=[CALLBACK])
    text = code()

    refused(redeem(text, client_id=other, client_secret="other"), 700007, "invalid_grant")
    there = emulator.authority("fabrikam.com")
    refused(redeem(text, authority=there), 700005, "invalid_grant")
    body = redeem(text, authority=emulator.b2c_authority()).json()
    assert body["error_description"].startswith("AADB2C90090: ")

    assert redeem(text).status_code == 200


@pytest.mark.parametrize(
    ("challenge", "method"), [(S256, "S256"), (VERIFIER, "plain"), (VERIFIER, None)]
)
def test_with_pkce_its_verifier_is_needed(code, redeem, challenge, method):
    text = code(code_challenge=challenge, code_challenge_method=method)

    refused(redeem(text), 50148, "invalid_grant")
    refused(redeem(text, code_verifier=VERIFIER[::-1]), 501481, "invalid_grant")
    refused(redeem(text, code_verifier="short"), 501481, "invalid_grant")

    assert redeem(text, code_verifier=VERIFIER).status_code == 200


def test_a_verifier_without_a_challenge_is_somebody_elses(code, redeem):
    refused(redeem(code(), code_verifier=VERIFIER), 501481, "invalid_grant")


def test_a_user_who_was_disabled_since_gets_nothing(emulator, code, redeem):
    text = code()
    emulator.disable_user(ANN)

    refused(redeem(text), 50057, "invalid_grant")


def test_a_policy_that_came_since_counts(emulator, code, redeem):
    text = code()
    emulator.require_mfa(ANN)

    assert "claims" in refused(redeem(text), 50076, "interaction_required")


def test_a_public_client_shows_no_secret(emulator, address, redeem, refresh, native):
    uri = "http://localhost:43210"
    url = address(
        client_id=native, redirect_uri=uri, code_challenge=S256, code_challenge_method="S256"
    )
    code = emulator.authorize(url, ANN)["code"]
    mine = {"client_id": native, "client_secret": None}
    asked = {"redirect_uri": uri, "code_verifier": VERIFIER}

    refused(redeem(code, **asked, **mine | {"client_secret": "x"}), 700025, "invalid_client", 401)
    token = redeem(code, **asked, **mine).json()["refresh_token"]

    refused(refresh(token, **mine | {"client_secret": "x"}), 700025, "invalid_client", 401)
    assert refresh(token, **mine).status_code == 200


def test_a_public_client_is_no_app_of_its_own(ask, native):
    refused(ask(client_id=native, client_secret=None), 7000216, "invalid_client", 401)
    refused(ask(client_id=native, client_secret="x"), 7000215, "invalid_client", 401)


def test_the_log_knows_whose_it_was_and_hides_it(emulator, code, redeem):
    text = code()
    redeem(text)

    assert emulator.requests[-1].username == ANN
    assert text not in repr(emulator.requests)
    emulator.fail_next(username=ANN, grant_type="authorization_code")
    assert redeem(code()).status_code == 500
