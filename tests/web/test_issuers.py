"""Issuers as Microsoft's services name them, in each cloud, and whose tokens are taken then."""

from __future__ import annotations

import pytest

from tokenmgr import Authority
from tokenmgr._runtime.secrecy import Hidden
from tokenmgr.entra.signing_keys import Metadata, older_issuers, read_metadata
from tokenmgr.errors import AuthorityError
from tokenmgr.web._claims import is_app, is_id_token
from tokenmgr.web._issuers import Issuers

ONE, OTHER = "11111111-2222-3333-4444-555555555555", "99999999-8888-7777-6666-555555555555"
PERSONAL = "9188040d-6c67-4c5b-b112-36a304b66dad"
PUBLIC = "https://login.microsoftonline.com/{}/v2.0"
OLDER = "https://sts.windows.net/{}/"
ANY = "{tenantid}"


@pytest.mark.parametrize(
    ("authority", "tenants", "published", "issuer", "tenant", "taken"),
    [
        (Authority.entra(ONE), None, PUBLIC.format(ONE), PUBLIC.format(ONE), ONE, True),
        (Authority.entra("contoso.com"), None, PUBLIC.format(ONE), PUBLIC.format(ONE), ONE, True),
        (Authority.entra(ONE), None, PUBLIC.format(ONE), PUBLIC.format(OTHER), OTHER, False),
        (Authority.entra(ONE), None, PUBLIC.format(ONE), PUBLIC.format(ONE), OTHER, False),
        (Authority.entra(ONE), None, PUBLIC.format(ONE), PUBLIC.format(ONE), None, False),
        (Authority.entra(ONE), None, OLDER.format(ONE), OLDER.format(ONE), ONE, True),
        (Authority.entra(ONE), None, OLDER.format(ONE), OLDER.format(ONE)[:-1], ONE, False),
        (Authority.entra("common"), [ONE], PUBLIC.format(ANY), PUBLIC.format(ONE), ONE, True),
        (Authority.entra("common"), [ONE], OLDER.format(ANY), OLDER.format(ONE), ONE, True),
        (Authority.entra("common"), [ONE], PUBLIC.format(ANY), PUBLIC.format(OTHER), OTHER, False),
        (Authority.entra("common"), [ONE], PUBLIC.format(ANY), PUBLIC.format(OTHER), ONE, False),
        (Authority.entra("common"), [ONE], PUBLIC.format(ANY), PUBLIC.format(ANY), ANY, False),
        (Authority.entra("common"), "*", PUBLIC.format(ANY), PUBLIC.format(OTHER), OTHER, True),
        (Authority.entra("common"), "*", PUBLIC.format(ANY), PUBLIC.format(ONE), PERSONAL, False),
        (
            Authority.entra("organizations"),
            "*",
            PUBLIC.format(ANY),
            PUBLIC.format(PERSONAL),
            PERSONAL,
            False,
        ),
        (
            Authority.entra("consumers"),
            None,
            PUBLIC.format(PERSONAL),
            PUBLIC.format(PERSONAL),
            PERSONAL,
            True,
        ),
        (
            Authority.entra(ONE, cloud="usgovernment"),
            None,
            f"https://login.microsoftonline.us/{ONE}/v2.0",
            f"https://login.microsoftonline.us/{ONE}/v2.0",
            ONE,
            True,
        ),
        (
            Authority.entra(ONE, cloud="usgovernment"),
            None,
            f"https://login.microsoftonline.us/{ONE}/v2.0",
            PUBLIC.format(ONE),
            ONE,
            False,
        ),
        (
            Authority.entra(ONE, cloud="china"),
            [OTHER],
            "https://login.partner.microsoftonline.cn/{tenantid}/v2.0",
            f"https://login.partner.microsoftonline.cn/{OTHER}/v2.0",
            OTHER,
            True,
        ),
        (
            Authority.ciam("contoso"),
            None,
            f"https://{ONE}.ciamlogin.com/{ONE}/v2.0",
            f"https://{ONE}.ciamlogin.com/{ONE}/v2.0",
            ONE,
            True,
        ),
        (
            Authority.b2c("contoso", "B2C_1_in"),
            None,
            f"https://contoso.b2clogin.com/{ONE}/v2.0/",
            f"https://contoso.b2clogin.com/{ONE}/v2.0/",
            None,
            True,
        ),
        (
            Authority.b2c("contoso", "B2C_1_in"),
            None,
            f"https://contoso.b2clogin.com/tfp/{ONE}/b2c_1_in/v2.0/",
            f"https://contoso.b2clogin.com/tfp/{ONE}/b2c_1_other/v2.0/",
            ONE,
            False,
        ),
        (
            Authority.adfs("https://adfs.contoso.com/adfs"),
            None,
            "http://adfs.contoso.com/adfs/services/trust",
            "http://adfs.contoso.com/adfs/services/trust",
            None,
            True,
        ),
        (
            Authority.oidc("https://idp.contoso.com/realms/main"),
            None,
            "https://idp.contoso.com/realms/main",
            "https://idp.contoso.com/realms/other",
            None,
            False,
        ),
    ],
)
def test_whose_tokens_are_taken(authority, tenants, published, issuer, tenant, taken):
    claims = {"iss": issuer} | ({} if tenant is None else {"tid": tenant})
    assert Issuers(authority, tenants).are_of(Hidden(claims), [published], None) is taken


@pytest.mark.parametrize(
    ("key_issuer", "taken"),
    [
        (None, True),
        (PUBLIC.format(ANY), True),
        (PUBLIC.format(ONE), True),
        (PUBLIC.format(PERSONAL), False),
        ("", False),
    ],
)
@pytest.mark.parametrize("issuer", [PUBLIC, OLDER])
def test_a_key_of_one_tenant_alone_signs_for_no_other(issuer, key_issuer, taken):
    claims = Hidden({"iss": issuer.format(ONE), "tid": ONE})
    issuers = Issuers(Authority.entra("common"), [ONE])
    assert issuers.are_of(claims, [issuer.format(ANY)], key_issuer) is taken


@pytest.mark.parametrize(
    ("authority", "address"),
    [
        (Authority.entra("contoso.com"), "https://login.microsoftonline.com/contoso.com/v2.0"),
        (
            Authority.b2c("contoso", "B2C_1_in"),
            "https://contoso.b2clogin.com/contoso.onmicrosoft.com/b2c_1_in/v2.0",
        ),
        (Authority.ciam("contoso"), "https://contoso.ciamlogin.com/contoso.onmicrosoft.com/v2.0"),
        (Authority.adfs("https://adfs.contoso.com"), "https://adfs.contoso.com/adfs"),
        (Authority.oidc("https://idp.contoso.com/main"), "https://idp.contoso.com/main"),
    ],
)
def test_where_each_kind_is_asked(authority, address):
    asked = []

    class Exchange:
        def read(self, url):
            asked.append(url)
            return {
                "issuer": "https://issuer",
                "access_token_issuer": "http://trust",
                "jwks_uri": "https://keys",
                "id_token_signing_alg_values_supported": ["RS256", 7],
            }

    issuers = ("https://issuer",) + (("http://trust",) if authority.kind == "adfs" else ())
    assert read_metadata(Exchange(), authority) == Metadata(issuers, "https://keys", ("RS256",))
    assert asked == [f"{address}/.well-known/openid-configuration"]
    versioned = authority.kind in ("entra", "ciam")
    assert older_issuers(Exchange(), authority) == (("https://issuer",) if versioned else ())
    without = [each.removesuffix("/v2.0") for each in [address]] if versioned else []
    assert asked[1:] == [f"{each}/.well-known/openid-configuration" for each in without]


def test_where_there_is_no_version_1_there_is_none():
    class Exchange:
        def read(self, url):
            raise AuthorityError("404")

    assert older_issuers(Exchange(), Authority.entra("contoso.com")) == ()


#: As documented, or as the providers write them; whether each is an app's, and an id token.
SAID = {
    "a user's, 2.0": ("entra", {"azp": "a", "scp": "s", "sub": "x", "oid": "o"}, False, False),
    "a user's, 1.0": ("entra", {"appid": "a", "scp": "s", "sub": "x", "oid": "o"}, False, False),
    "an app's": ("entra", {"azp": "a", "sub": "o", "oid": "o"}, True, False),
    "an app's, said so": (
        "entra",
        {"azp": "a", "sub": "x", "oid": "o", "idtyp": "app"},
        True,
        False,
    ),
    "a user's, said so": (
        "entra",
        {"azp": "a", "sub": "o", "oid": "o", "idtyp": "user"},
        False,
        True,
    ),
    "an id token": ("entra", {"sub": "x", "oid": "o", "nonce": "n"}, False, True),
    "an id token with a hash": ("entra", {"azp": "a", "scp": "s", "at_hash": "h"}, False, True),
    "B2C's user": ("b2c", {"azp": "a", "scp": "s", "sub": "o", "oid": "o"}, False, False),
    "B2C's id token": ("b2c", {"sub": "o", "oid": "o", "auth_time": 1}, False, True),
    "AD FS's user": ("adfs", {"appid": "a", "scp": "s", "sub": "x"}, False, False),
    "AD FS's app": ("adfs", {"appid": "a", "apptype": "Confidential"}, True, False),
    "AD FS's id token": ("adfs", {"sub": "x", "upn": "u"}, False, True),
    "Keycloak's": ("oidc", {"azp": "a", "typ": "Bearer", "scope": "s", "sub": "x"}, False, False),
    "Keycloak's id token": ("oidc", {"azp": "a", "typ": "ID", "sub": "x"}, False, True),
    "Auth0's": ("oidc", {"azp": "a", "scope": "s", "sub": "x"}, False, False),
    "Auth0's app": ("oidc", {"azp": "a", "gty": "client-credentials", "sub": "a@c"}, False, False),
    "Auth0's id token": ("oidc", {"sub": "x", "nonce": "n"}, False, True),
    "Okta's": ("oidc", {"cid": "a", "scp": ["s"], "sub": "x"}, False, False),
    "Okta's id token": ("oidc", {"sub": "x", "at_hash": "h", "nonce": "n"}, False, True),
    "RFC 9068's app": ("oidc", {"client_id": "a", "sub": "a", "scope": "s"}, True, False),
}


@pytest.mark.parametrize("name", SAID)
def test_what_a_token_is(name):
    kind, claims, app, id_token = SAID[name]
    assert is_id_token(Hidden(claims), kind) is id_token
    if not id_token:
        assert is_app(Hidden(claims), kind) is app
