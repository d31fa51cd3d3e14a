"""Sign-ins elsewhere: B2C's user flows, External ID, and providers that are not Microsoft's."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode

import pytest
from emulator_clients import CALLBACK, ORDERS, claims_of

ANN = "ann@contoso.com"
API = "https://contoso.onmicrosoft.com/api/read"


@pytest.fixture
def flow(emulator):
    return emulator.b2c_authority()


@pytest.fixture
def granted(emulator, address, redeem, flow):
    """What B2C's user flow gives."""
    url = address(authority=flow, scope=f"{API} openid offline_access", nonce="n")
    code = emulator.authorize(url, ANN)["code"]
    return redeem(code, authority=flow, client_info="1").json()


def refused_by_b2c(answer, code, error):
    body = answer.json()
    assert (body["error"], body["error_description"].split(":")[0]) == (error, f"AADB2C{code}")
    assert "error_codes" not in body


def decoded(text):
    return json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def test_a_user_flow_gives_b2cs_tokens(emulator, app, granted):
    access, identity = claims_of(granted["access_token"]), claims_of(granted["id_token"])
    for claims in (access, identity):
        assert claims["tfp"] == claims["acr"] == "B2C_1_signin"
        assert claims["iss"] == f"{emulator.url}/{claims['tid']}/v2.0/"
        assert claims["ver"] == "1.0"
        assert claims["emails"] == [ANN]
        assert "preferred_username" not in claims
    assert (access["scp"], access["azp"]) == ("read", app)
    assert (identity["aud"], identity["nonce"]) == (app, "n")
    assert "auth_time" in identity
    assert {"not_before", "expires_on", "resource", "profile_info"} <= set(granted)
    assert granted["refresh_token_expires_in"] == 90 * 86_400
    account = decoded(granted["client_info"])
    assert account == {"uid": f"{identity['oid']}-b2c_1_signin", "utid": identity["tid"]}


def test_a_user_flow_that_names_no_api_gives_no_access_token(emulator, app, address, redeem, flow):
    url = address(authority=flow, scope="openid offline_access")
    answer = redeem(emulator.authorize(url, ANN)["code"], authority=flow).json()
    assert "id_token" in answer
    assert not {"access_token", "expires_in"} & set(answer)

    url = address(authority=flow, scope=f"{app} openid")
    answer = redeem(emulator.authorize(url, ANN)["code"], authority=flow).json()
    assert claims_of(answer["access_token"])["aud"] == app


def test_a_refresh_token_is_of_its_user_flow(emulator, granted, refresh, flow):
    other = emulator.b2c_authority(policy="B2C_1_edit")
    refused_by_b2c(refresh(granted["refresh_token"], authority=other), 90088, "invalid_grant")
    assert refresh(granted["refresh_token"]).json()["error_codes"] == [9002313]
    answer = refresh(granted["refresh_token"], authority=flow).json()
    assert claims_of(answer["access_token"])["tfp"] == "B2C_1_signin"

    refused_by_b2c(refresh(granted["refresh_token"], authority=flow), 90129, "invalid_grant")


def test_a_code_is_of_its_user_flow(emulator, address, redeem, flow):
    code = emulator.authorize(address(authority=flow, scope=API), ANN)["code"]
    other = emulator.b2c_authority(policy="B2C_1_edit")

    refused_by_b2c(redeem(code, authority=other), 90088, "invalid_grant")
    refused_by_b2c(redeem(code, authority=flow, client_secret="x"), 90081, "invalid_client")
    refused_by_b2c(redeem(code, authority=flow, client_secret=None), 90079, "invalid_client")
    refused_by_b2c(redeem(code, authority=flow, code_verifier="x" * 43), 90183, "invalid_grant")
    assert redeem(code, authority=flow).status_code == 200
    refused_by_b2c(redeem(code, authority=flow), 90080, "invalid_grant")


@pytest.mark.parametrize(
    ("parameters", "code", "error"),
    [
        ({"prompt": "none"}, 90077, "interaction_required"),
        ({"response_type": "token"}, 90013, "unsupported_response_type"),
        ({"scope": "User.Read"}, 90055, "invalid_scope"),
        ({"scope": f"{API} https://contoso.onmicrosoft.com/more/read"}, 90146, "invalid_scope"),
    ],
)
def test_b2c_tells_the_app_in_its_own_words(browser, address, flow, parameters, code, error):
    landed = browser.open(address(**({"authority": flow, "scope": API} | parameters)))

    assert landed.query["error"] == error
    assert landed.query["error_description"].startswith(f"AADB2C{code}: ")
    assert "error_uri" not in landed.query


def test_b2c_tells_the_user_in_its_own_words(browser, address, flow):
    page = browser.open(address(authority=flow, redirect_uri="https://evil.example/"))

    assert "AADB2C90006: " in page.text


def test_b2c_asks_for_no_consent_and_hears_of_one_who_cancels(emulator, browser, address, flow):
    browser.open(address(authority=flow, scope=API))
    landed = browser.press("cancel")
    assert landed.query["error_description"].startswith("AADB2C90091: ")

    emulator.withdraw_consent(ANN)
    browser.open(address(authority=flow, scope=API))
    landed = browser.sign_in(emulator, ANN)
    assert landed.query["error"] == "unauthorized_client"
    assert landed.query["error_description"].startswith("AADB2C90205: ")


def test_passwords_have_a_user_flow_of_their_own(emulator, ask, native, flow):
    asked = {
        "grant_type": "password",
        "client_id": native,
        "client_secret": None,
        "username": ANN,
        "password": emulator.password(ANN),
        "scope": f"{API} openid",
    }
    refused_by_b2c(ask(authority=flow, **asked), 90224, "unauthorized_client")
    ropc = emulator.b2c_authority(policy="B2C_1_ROPC")

    assert claims_of(ask(authority=ropc, **asked).json()["access_token"])["tfp"] == "B2C_1_ROPC"
    refused_by_b2c(ask(authority=ropc, **asked | {"password": "x"}), 90225, "access_denied")
    refused_by_b2c(ask(authority=ropc, **asked | {"client_secret": "x"}), 90084, "invalid_client")


def test_b2c_has_no_devices(emulator, http, flow):
    metadata = http.get(f"{flow}/v2.0/.well-known/openid-configuration").json()
    assert "device_authorization_endpoint" not in metadata
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    answer = http.post(metadata["token_endpoint"], data={"grant_type": grant})
    refused_by_b2c(answer, 90086, "unsupported_grant_type")


def test_external_id_signs_its_users_in_as_entra_does(emulator, address, redeem):
    authority = emulator.ciam_authority("shop")
    emulator.add_user("zoe@shop.example", tenant="shop.onmicrosoft.com")

    code = emulator.authorize(address(authority=authority), "zoe@shop.example")["code"]
    claims = claims_of(redeem(code, authority=authority).json()["id_token"])

    assert claims["iss"] == f"{emulator.url}/{claims['tid']}/v2.0"
    with pytest.raises(PermissionError, match="AADSTS50020"):
        emulator.authorize(address(authority=authority), ANN)


@pytest.fixture
def provider(emulator):
    emulator.add_user("zoe@provider.example", tenant="default")
    return emulator.oidc_authority()


def test_another_provider_answers_with_less(emulator, http, address, provider):
    url = address(authority=provider, scope="openid profile offline_access orders:read", nonce="n")
    code = emulator.authorize(f"{url}&client_info=1", "zoe@provider.example")
    assert "client_info" not in code
    mine = {"client_id": emulator.client_id, "client_secret": emulator.client_secret}
    asked = {"grant_type": "authorization_code", "redirect_uri": CALLBACK, "client_info": "1"}
    token_endpoint = f"{provider}/token"

    answer = http.post(token_endpoint, data={**mine, **asked, "code": code["code"]}).json()

    assert "client_info" not in answer
    assert answer["access_token"].count(".") == 0
    assert answer["scope"] == "orders:read openid profile"
    claims = claims_of(answer["id_token"])
    assert set(claims) == {"aud", "exp", "iat", "iss", "name", "nbf", "nonce", "sub"}
    assert claims["iss"] == provider
    again = {"grant_type": "refresh_token", "refresh_token": answer["refresh_token"]}
    assert http.post(token_endpoint, data={**mine, **again}).status_code == 200


def test_what_entra_gave_is_nothing_to_another_provider(emulator, http, address, redeem, provider):
    token = redeem(emulator.authorize(address(), ANN)["code"]).json()["refresh_token"]
    mine = {"client_id": emulator.client_id, "client_secret": emulator.client_secret}

    form = {**mine, "grant_type": "refresh_token", "refresh_token": token}
    assert http.post(f"{provider}/token", data=form).json()["error"] == "invalid_grant"


def test_a_device_at_another_provider(emulator, http, native, provider):
    device = http.post(
        f"{provider}/devicecode", data={"client_id": native, "scope": "openid orders:read"}
    ).json()
    emulator.enter_device_code(device["user_code"], "zoe@provider.example")
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "client_id": native,
        "device_code": device["device_code"],
    }

    assert "id_token" in http.post(f"{provider}/token", data=form).json()


def test_no_user_flow_acts_on_behalf_of_a_user(emulator, on_behalf_of, flow, granted):
    refused_by_b2c(
        on_behalf_of(granted["access_token"], authority=flow, scope=ORDERS),
        90086,
        "unsupported_grant_type",
    )
