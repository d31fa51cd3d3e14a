"""Sign-ins at AD FS, whose users are in no tenant, and whose answers say less than Entra's."""

from __future__ import annotations

import pytest
from emulator_clients import CALLBACK, ORDERS, claims_of, refused

ANN = "ann@corp.contoso.com"


@pytest.fixture
def adfs(emulator):
    emulator.add_user(ANN, tenant="adfs")
    return emulator.adfs_authority()


@pytest.fixture
def ask(emulator, http, adfs):
    """Asks AD FS for tokens."""
    mine = {"client_id": emulator.client_id, "client_secret": emulator.client_secret}

    def ask_with(**fields):
        return http.post(f"{adfs}/oauth2/token", data=mine | {"client_info": "1"} | fields)

    return ask_with


@pytest.fixture
def redeem(ask):
    def ask_with(code, **fields):
        return ask(grant_type="authorization_code", code=code, redirect_uri=CALLBACK, **fields)

    return ask_with


def test_it_gives_its_own_tokens_and_no_client_info(emulator, address, adfs, redeem, app):
    arrived = emulator.authorize(address(adfs, nonce="n", client_info="1"), ANN)
    assert set(arrived) == {"code", "state"}

    answer = redeem(arrived["code"]).json()

    assert "client_info" not in answer
    assert (answer["resource"], answer["refresh_token_expires_in"]) == ("api://orders", 90 * 86_400)
    access, identity = claims_of(answer["access_token"]), claims_of(answer["id_token"])
    for claims, audience in ((access, "api://orders"), (identity, app)):
        assert (claims["iss"], claims["aud"]) == (adfs, audience)
        assert (claims["upn"], claims["unique_name"]) == (ANN, "CORP\\ann")
        assert not {"oid", "tid", "preferred_username", "name"} & set(claims)
    assert (access["scp"], access["appid"], access["ver"]) == ("read", app, "1.0")
    assert (identity["nonce"], "auth_time" in identity) == ("n", True)
    assert access["sub"] != identity["sub"]


def test_msal_signs_a_user_in(emulator, adfs, msal_app, app):
    client = msal_app(adfs)
    flow = client.initiate_auth_code_flow(
        [ORDERS], redirect_uri=CALLBACK, response_mode="form_post"
    )
    arrived = emulator.authorize(flow["auth_uri"], ANN)

    answer = client.acquire_token_by_auth_code_flow(flow, dict(arrived))

    assert answer["id_token_claims"]["upn"] == ANN
    (account,) = client.get_accounts()
    assert account["username"] == ANN
    assert client.acquire_token_silent([ORDERS], account, force_refresh=True)["access_token"]


def test_a_refresh_token_goes_on_and_no_other_is_given(emulator, address, adfs, redeem, ask):
    granted = redeem(emulator.authorize(address(adfs), ANN)["code"]).json()
    seen = set()
    for scope in (None, "api://stock/count openid"):
        more = {} if scope is None else {"scope": scope}
        answer = ask(grant_type="refresh_token", refresh_token=granted["refresh_token"], **more)
        assert "refresh_token" not in answer.json()
        assert "refresh_token_expires_in" not in answer.json()
        seen.add(answer.json()["resource"])
    assert seen == {"api://orders", "api://stock"}


def test_without_a_resource_it_is_who_the_user_is(emulator, address, adfs, redeem):
    arrived = emulator.authorize(address(adfs, scope="openid"), ANN)
    answer = redeem(arrived["code"]).json()
    assert answer["resource"] == claims_of(answer["access_token"])["aud"]
    assert answer["resource"] == "urn:microsoft:userinfo"
    assert "refresh_token" in answer


def test_it_takes_one_resource_and_two_kinds_of_prompt(emulator, browser, address, adfs):
    for parameters in ({"prompt": "consent"}, {"prompt": "select_account"}):
        assert browser.open(address(adfs, **parameters)).query["error"] == "invalid_request"
    both = {"scope": f"{ORDERS} api://stock/count"}
    assert browser.open(address(adfs, **both)).query["error"] == "invalid_scope"
    silent = browser.open(address(adfs, prompt="none"))
    assert silent.query["error"] == "interaction_required"


def test_nobody_else_may_sign_in_and_nobody_is_asked_to_consent(emulator, address, adfs):
    emulator.add_user("bob@contoso.com")
    with pytest.raises(PermissionError, match="AADSTS50034"):
        emulator.authorize(address(adfs), "bob@contoso.com")
    assert "code" in emulator.authorize(address(adfs), ANN)


def test_what_entra_gave_is_nothing_to_it(emulator, address, app, redeem):
    code = emulator.authorize(address(), "ann@contoso.com")["code"]
    refused(redeem(code), 9002313, "invalid_grant")
