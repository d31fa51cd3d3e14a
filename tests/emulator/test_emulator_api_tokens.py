"""Tokens for an API, as its registration has them, and the keys that they are signed with."""

from __future__ import annotations

import jwt
import pytest

from tokenmgr.emulator.authorities import tenant_guid

HOME = tenant_guid("contoso.onmicrosoft.com")


def claims_of(token):
    return jwt.decode(token, options={"verify_signature": False})


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("optional", [(), ("idtyp",)])
def test_an_api_says_which_tokens_it_takes(emulator, ask, version, optional):
    api = emulator.add_client(accepted_version=version, optional_claims=optional)

    claims = claims_of(ask(scope=f"api://{api}/.default").json()["access_token"])

    v1 = version == "1.0"
    assert claims["ver"] == version
    assert claims["aud"] == (f"api://{api}" if v1 else api)
    assert claims["iss"] == f"{emulator.url}/{HOME}/{'' if v1 else 'v2.0'}"
    assert (claims.get("appid"), claims.get("azp")) == (
        (emulator.client_id, None) if v1 else (None, emulator.client_id)
    )
    assert claims.get("idtyp") == ("app" if optional else None)
    assert claims["sub"] == claims["oid"]


@pytest.mark.parametrize("tenant", ["contoso.onmicrosoft.com", "common"])
def test_version_1_has_metadata_of_its_own(emulator, http, tenant):
    legacy = http.get(f"{emulator.url}/{tenant}/.well-known/openid-configuration").json()
    newer = http.get(f"{emulator.url}/{tenant}/v2.0/.well-known/openid-configuration").json()

    named = "{tenantid}" if tenant == "common" else HOME
    assert legacy["issuer"] == f"{emulator.url}/{named}/"
    assert newer["issuer"] == f"{emulator.url}/{named}/v2.0"
    assert http.get(legacy["jwks_uri"]).json() == http.get(newer["jwks_uri"]).json()
    keys = http.get(newer["jwks_uri"]).json()["keys"]
    assert {each["issuer"] for each in keys} == {newer["issuer"]}


@pytest.mark.parametrize("keep", [True, False])
def test_keys_roll(emulator, http, call, keep):
    before = emulator.sign_in("ann@contoso.com")
    emulator.protect_api(audience=emulator.client_id)
    emulator.roll_keys(keep=keep)
    after = emulator.sign_in("ann@contoso.com")

    published = http.get(f"{emulator.url}/{HOME}/discovery/v2.0/keys").json()["keys"]
    names = [jwt.get_unverified_header(each)["kid"] for each in (after, before)]
    assert [each["kid"] for each in published] == names[: 1 + keep]
    assert call(after).status_code == 200
    assert call(before).status_code == (200 if keep else 401)


def test_an_app_of_b2c_has_its_roles_as_scopes(emulator, ask):
    app = emulator.add_client(secret="s3cret", roles=["read", "write"])
    answer = ask(
        authority=emulator.b2c_authority(),
        client_id=app,
        client_secret="s3cret",
        scope=f"https://contoso.onmicrosoft.com/{emulator.client_id}/.default",
    ).json()
    claims = claims_of(answer["access_token"])
    assert (claims["aud"], claims["scp"]) == (emulator.client_id, "read write")
    assert not {"roles", "idtyp"} & claims.keys()


@pytest.mark.parametrize("policy", [None, "B2C_1_in"])
def test_an_id_token_is_for_the_app_that_a_user_signs_in_to(emulator, policy):
    claims = claims_of(emulator.id_token("ann@contoso.com", client_id="an app", policy=policy))
    assert claims["aud"] == "an app"
    assert not {"scp", "azp", "appid"} & claims.keys()
    assert claims.get("tfp") == policy
