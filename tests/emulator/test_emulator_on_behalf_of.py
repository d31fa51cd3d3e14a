"""What the on-behalf-of grant gives, by MSAL and by hand."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode

import jwt
import pytest
from emulator_clients import ORDERS, claims_of

from tokenmgr.emulator import client_certificate

ANN = "ann@contoso.com"
GRAPH_USER = "https://graph.microsoft.com/User.Read"


@pytest.fixture
def ann(emulator):
    """Ann's access token for the app's own API."""
    return emulator.sign_in(ANN)


def client_info_of(answer):
    text = answer["client_info"]
    return json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def test_signing_in_gives_an_access_token_for_the_apps_own_api(emulator, http):
    token = emulator.sign_in(ANN, scopes=["read", "write"])

    metadata = http.get(f"{emulator.authority()}/v2.0/.well-known/openid-configuration").json()
    keys = jwt.PyJWKSet.from_dict(http.get(metadata["jwks_uri"]).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"], audience=emulator.client_id)
    assert claims["iss"] == metadata["issuer"]
    assert claims["tid"] == emulator.environment()["AZURE_TENANT_ID"]
    assert (claims["ver"], claims["scp"]) == ("2.0", "read write")
    assert claims["preferred_username"] == ANN
    assert claims["oid"] == emulator.add_user(ANN)
    assert claims["azp"] != emulator.client_id
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["nbf"] == claims["iat"]
    assert {"uti", "sub", "sid", "name", "azpacr"} <= set(claims)


def test_an_api_may_want_tokens_of_version_1(emulator):
    claims = claims_of(emulator.sign_in(ANN, version="1.0"))

    assert claims["aud"] == f"api://{emulator.client_id}"
    assert claims["iss"] == f"{emulator.url}/{claims['tid']}/"
    assert (claims["ver"], claims["upn"], claims["unique_name"]) == ("1.0", ANN, ANN)
    assert "appid" in claims
    assert not {"azp", "preferred_username"} & set(claims)


def test_an_assertion_may_be_for_another_app_or_live_for_another_time(emulator):
    other = emulator.add_client()

    claims = claims_of(emulator.sign_in(ANN, client_id=other, lifetime=60))

    assert claims["aud"] == other
    assert claims["exp"] - claims["iat"] == 60


def test_a_user_is_the_same_one_in_any_case_and_has_an_id_for_each_tenant(emulator):
    here, again = claims_of(emulator.sign_in(ANN)), claims_of(emulator.sign_in(ANN.upper()))
    there = claims_of(emulator.sign_in(ANN, tenant="fabrikam.com"))
    other = claims_of(emulator.sign_in("bob@contoso.com"))

    assert here["oid"] == again["oid"]
    assert len({here["oid"], there["oid"], other["oid"]}) == 3
    assert here["tid"] != there["tid"]
    assert here["sid"] != again["sid"]


def test_a_user_signs_in_at_their_home_unless_told_otherwise(emulator):
    emulator.add_user("zoe@fabrikam.com", tenant="fabrikam.com")

    claims = claims_of(emulator.sign_in("zoe@fabrikam.com"))

    assert claims["iss"] == f"{emulator.url}/{claims['tid']}/v2.0"
    assert claims["tid"] != emulator.environment()["AZURE_TENANT_ID"]


def test_msal_exchanges_an_assertion(emulator, msal_app, ann):
    app = msal_app(client_capabilities=["CP1"])

    answer = app.acquire_token_on_behalf_of(ann, [ORDERS])

    claims = claims_of(answer["access_token"])
    assert (claims["aud"], claims["scp"], claims["azp"]) == (
        "api://orders",
        "read",
        emulator.client_id,
    )
    assert claims["preferred_username"] == ANN
    assert claims["xms_cc"] == ["CP1"]
    assert answer["id_token_claims"]["preferred_username"] == ANN
    (account,) = app.get_accounts()
    assert account["username"] == ANN
    assert account["home_account_id"] == f"{claims['oid']}.{claims['tid']}"
    assert answer["refresh_token"]


def test_msal_goes_on_with_the_refresh_token(msal_app, ann):
    app = msal_app()
    app.acquire_token_on_behalf_of(ann, [ORDERS])
    (account,) = app.get_accounts()

    answer = app.acquire_token_silent_with_error(["api://stock/count"], account)

    assert claims_of(answer["access_token"])["scp"] == "count"


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_the_token_is_of_the_assertions_user(emulator, on_behalf_of, version):
    assertion = emulator.sign_in(ANN, version=version)

    answer = on_behalf_of(assertion).json()

    before, after = claims_of(assertion), claims_of(answer["access_token"])
    assert [after[name] for name in ("oid", "tid", "sid")] == [
        before[name] for name in ("oid", "tid", "sid")
    ]
    assert after["iss"] == f"{emulator.url}/{after['tid']}/v2.0"
    assert after["uti"] != before["uti"]
    # Another subject for each audience.
    assert after["sub"] != before["sub"]


def test_the_answer_has_the_members_of_entras(emulator, on_behalf_of, ann):
    emulator.token_lifetime = 600
    emulator.refresh_in = 300

    answer = on_behalf_of(ann).json()

    assert answer["token_type"] == "Bearer"
    assert (answer["expires_in"], answer["ext_expires_in"], answer["refresh_in"]) == (600, 600, 300)
    assert answer["scope"] == f"{ORDERS} openid profile"
    claims = claims_of(answer["access_token"])
    assert claims["exp"] - claims["iat"] == 600
    assert "xms_cc" not in claims


def test_what_is_not_asked_for_is_not_in_the_answer(on_behalf_of, ann):
    answer = on_behalf_of(ann, scope=ORDERS, client_info=None).json()

    assert set(answer) == {"token_type", "scope", "expires_in", "ext_expires_in", "access_token"}


def test_the_id_token_is_for_the_client(emulator, on_behalf_of, ann):
    claims = claims_of(on_behalf_of(ann).json()["id_token"])

    assert claims["aud"] == emulator.client_id
    assert claims["iss"] == f"{emulator.url}/{claims['tid']}/v2.0"
    assert claims["oid"] == claims_of(ann)["oid"]
    assert (claims["preferred_username"], claims["ver"]) == (ANN, "2.0")
    assert claims["exp"] > claims["iat"]


def test_the_id_token_names_nobody_without_the_profile(on_behalf_of, ann):
    claims = claims_of(on_behalf_of(ann, scope=f"{ORDERS} openid").json()["id_token"])

    assert claims["sub"]
    assert not {"oid", "name", "preferred_username"} & set(claims)


def test_the_client_info_names_the_account_at_its_home(emulator, on_behalf_of):
    home = emulator.add_user(ANN)
    guest = emulator.sign_in(ANN, tenant="fabrikam.com")

    answer = on_behalf_of(guest, emulator.authority("fabrikam.com")).json()

    assert client_info_of(answer) == {
        "uid": home,
        "utid": emulator.environment()["AZURE_TENANT_ID"],
    }
    assert claims_of(answer["access_token"])["oid"] == claims_of(guest)["oid"] != home


def test_microsoft_graph_gets_a_users_token_of_version_1(emulator, on_behalf_of, ann):
    answer = on_behalf_of(ann, scope=f"{GRAPH_USER} Mail.Read openid offline_access").json()

    claims = claims_of(answer["access_token"])
    assert claims["aud"] == "https://graph.microsoft.com"
    assert claims["iss"] == f"{emulator.url}/{claims['tid']}/"
    assert claims["scp"] == "openid User.Read Mail.Read"
    assert (claims["ver"], claims["upn"], claims["idtyp"]) == ("1.0", ANN, "user")
    assert (claims["appid"], claims["amr"]) == (emulator.client_id, ["pwd"])
    assert answer["scope"] == f"{GRAPH_USER} Mail.Read openid"


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("User.Read", "User.Read"),
        (GRAPH_USER, GRAPH_USER),
        ("api://orders/User.Read", "api://orders/User.Read"),
        ("https://graph.microsoft.com/.default", GRAPH_USER),
    ],
)
def test_the_answer_names_each_scope_as_it_was_asked_for(on_behalf_of, ann, asked, granted):
    assert on_behalf_of(ann, scope=asked).json()["scope"] == granted


@pytest.mark.parametrize(
    ("scope", "permissions"),
    [
        ("https://graph.microsoft.com/.default", "User.Read"),
        ("api://orders/.default", "user_impersonation"),
    ],
)
def test_the_default_scope_gives_what_every_app_is_consented_to(
    on_behalf_of, ann, scope, permissions
):
    answer = on_behalf_of(ann, scope=scope).json()

    assert claims_of(answer["access_token"])["scp"] == permissions


def test_capabilities_are_in_the_token_as_they_were_declared(on_behalf_of, ann):
    claims = json.dumps({"access_token": {"xms_cc": {"values": ["CP1", "CP9"]}}})

    answer = on_behalf_of(ann, claims=claims).json()

    assert claims_of(answer["access_token"])["xms_cc"] == ["CP1", "CP9"]


def test_a_client_may_prove_itself_by_its_certificate(emulator, msal_app, ann):
    certificate = client_certificate()
    emulator.add_certificate(certificate.certificate_pem)
    credential = {
        "private_key": certificate.private_key_pem,
        "thumbprint": certificate.thumbprint,
    }

    answer = msal_app(credential=credential).acquire_token_on_behalf_of(ann, [ORDERS])

    assert claims_of(answer["access_token"])["preferred_username"] == ANN


def test_where_no_tenant_is_named_a_member_gets_a_token_of_their_own(emulator, msal_app):
    assertion = emulator.sign_in("zoe@fabrikam.com", tenant="fabrikam.com")

    for placeholder in ("common", "organizations"):
        app = msal_app(emulator.authority(placeholder))
        answer = app.acquire_token_on_behalf_of(assertion, [ORDERS])
        assert claims_of(answer["access_token"])["tid"] == claims_of(assertion)["tid"]


def test_where_no_tenant_is_named_a_guest_gets_one_of_the_wrong_tenant(emulator, on_behalf_of):
    home = emulator.environment()["AZURE_TENANT_ID"]
    emulator.add_user(ANN)
    guest = emulator.sign_in(ANN, tenant="fabrikam.com")

    at_common = on_behalf_of(guest, emulator.authority("common")).json()
    at_tenant = on_behalf_of(guest, emulator.authority("fabrikam.com")).json()

    assert claims_of(at_common["access_token"])["tid"] == home
    assert claims_of(at_tenant["access_token"])["tid"] == claims_of(guest)["tid"] != home


def test_external_id_exchanges_too(emulator, on_behalf_of):
    assertion = emulator.sign_in("kim@tailwind.com", tenant="tailwind.onmicrosoft.com")

    answer = on_behalf_of(assertion, emulator.ciam_authority("tailwind"))

    assert answer.status_code == 200


def test_an_assertion_may_be_exchanged_as_often_as_one_likes(on_behalf_of, ann):
    first, second = (on_behalf_of(ann).json() for _ in range(2))

    assert first["access_token"] != second["access_token"]
    assert first["refresh_token"] != second["refresh_token"]
