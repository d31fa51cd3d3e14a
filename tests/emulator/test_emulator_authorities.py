"""MSAL gets tokens of every kind of authority, and PyJWT verifies them by the published keys."""

from __future__ import annotations

import jwt
import pytest

GRAPH = "https://graph.microsoft.com/.default"


def verified(http, authority_metadata, token, audience):
    metadata = http.get(authority_metadata).json()
    keys = jwt.PyJWKSet.from_dict(http.get(metadata["jwks_uri"]).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"], audience=audience)
    return metadata, claims


def test_msal_gets_a_token_of_an_entra_tenant(emulator, http, msal_app):
    answer = msal_app().acquire_token_for_client(["api://orders/.default"])

    metadata, claims = verified(
        http,
        f"{emulator.authority()}/v2.0/.well-known/openid-configuration",
        answer["access_token"],
        "api://orders",
    )
    assert claims["iss"] == metadata["issuer"] == f"{emulator.url}/{claims['tid']}/v2.0"
    assert claims["azp"] == emulator.client_id
    assert (claims["ver"], claims["idtyp"]) == ("2.0", "app")
    assert claims["exp"] - claims["iat"] == answer["expires_in"] == 3600


def test_microsoft_graph_gets_tokens_of_version_1(emulator, http, msal_app):
    answer = msal_app().acquire_token_for_client([GRAPH])

    _, claims = verified(
        http,
        f"{emulator.authority()}/v2.0/.well-known/openid-configuration",
        answer["access_token"],
        "https://graph.microsoft.com",
    )
    assert (claims["ver"], claims["appid"]) == ("1.0", emulator.client_id)
    assert "azp" not in claims


def test_a_tenant_has_one_guid_by_whatever_name(emulator, http):
    by_domain = http.get(f"{emulator.authority()}/v2.0/.well-known/openid-configuration").json()
    tenant_id = emulator.environment()["AZURE_TENANT_ID"]
    by_guid = http.get(
        f"{emulator.authority(tenant_id)}/v2.0/.well-known/openid-configuration"
    ).json()
    other = http.get(
        f"{emulator.authority('fabrikam.com')}/v2.0/.well-known/openid-configuration"
    ).json()

    assert by_domain["issuer"] == by_guid["issuer"] == f"{emulator.url}/{tenant_id}/v2.0"
    assert other["issuer"] != by_domain["issuer"]


def test_msal_gets_a_token_of_a_b2c_policy(emulator, http, msal_app):
    authority = emulator.b2c_authority("contoso", "B2C_1_signin")
    scope = "https://contoso.onmicrosoft.com/orders/.default"

    answer = msal_app(authority).acquire_token_for_client([scope])

    metadata, claims = verified(
        http,
        f"{authority}/v2.0/.well-known/openid-configuration",
        answer["access_token"],
        "https://contoso.onmicrosoft.com/orders",
    )
    assert claims["tfp"] == claims["acr"] == "B2C_1_signin"
    assert claims["azp"] == emulator.client_id
    assert claims["iss"] == metadata["issuer"]


def test_two_policies_of_a_tenant_give_different_tokens(emulator, msal_app):
    scope = "https://contoso.onmicrosoft.com/orders/.default"
    policies = []
    for policy in ("B2C_1_one", "B2C_1_two"):
        app = msal_app(emulator.b2c_authority("contoso", policy))
        token = app.acquire_token_for_client([scope])["access_token"]
        policies.append(jwt.decode(token, options={"verify_signature": False})["tfp"])

    assert policies == ["B2C_1_one", "B2C_1_two"]


def test_msal_gets_a_token_of_adfs(emulator, http, msal_app):
    answer = msal_app(emulator.adfs_authority()).acquire_token_for_client(["api://orders/.default"])

    _, claims = verified(
        http,
        f"{emulator.url}/adfs/.well-known/openid-configuration",
        answer["access_token"],
        "api://orders",
    )
    assert claims["iss"] == f"{emulator.url}/adfs/services/trust"


def test_msal_gets_a_token_of_an_openid_provider(emulator, http, msal_app):
    authority = emulator.oidc_authority("acme")

    answer = msal_app(oidc_authority=authority).acquire_token_for_client(["api://orders/.default"])

    metadata, claims = verified(
        http,
        f"{authority}/.well-known/openid-configuration",
        answer["access_token"],
        "api://orders",
    )
    assert claims["iss"] == metadata["issuer"] == authority == f"{emulator.url}/oidc/acme"


def test_a_tenant_that_begins_with_nonexistent_is_unknown(emulator, http, ask, msal_app):
    authority = emulator.authority("nonexistent.onmicrosoft.com")

    discovery = http.get(f"{authority}/v2.0/.well-known/openid-configuration")
    token = ask(authority)

    for refusal in (discovery, token):
        assert refusal.status_code == 400
        assert refusal.json()["error"] == "invalid_tenant"
        assert refusal.json()["error_codes"] == [90002]
    with pytest.raises(ValueError, match="double check your tenant"):
        msal_app(authority).acquire_token_for_client([GRAPH])


def test_every_token_is_another_one(ask):
    first, second = (
        jwt.decode(ask().json()["access_token"], options={"verify_signature": False})
        for _ in range(2)
    )

    assert first["uti"] != second["uti"]


def test_whatever_else_is_asked_is_404_in_json(emulator, http):
    answer = http.get(f"{emulator.url}/no/such/thing/here/at/all")

    assert answer.status_code == 404
    assert answer.json()["error"] == "not_found"
