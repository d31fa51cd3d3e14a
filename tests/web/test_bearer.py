"""Incoming bearers: whose are taken, of every kind of authority, and who calls."""

from __future__ import annotations

import dataclasses
import json
import pickle
from contextlib import suppress
from importlib import metadata

import pytest
from forgeries import ANN, FORGERIES, Forger, joserfc_takes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.version import Version
from reporting import told_at_every_line, told_of
from support import FakeClock

from tokenmgr import (
    Authority,
    BearerRefusedError,
    ConfigurationError,
    ManagedIdentity,
    ServiceUnavailableError,
    TokenManagerError,
    TokenRegistry,
)
from tokenmgr.emulator.authorities import tenant_guid
from tokenmgr.web.bearer import BearerValidator, Caller

HOME = tenant_guid("contoso.onmicrosoft.com")
FABRIKAM, WOODGROVE = tenant_guid("fabrikam.com"), tenant_guid("woodgrove.com")


def registry(entra, authority=None, **settings):
    """An API's registry, which calls no other."""
    return TokenRegistry(
        client_id=settings.pop("client_id", entra.client_id),
        authority=authority or entra.authority(),
        verify=entra.ca_file,
        **settings,
    )


def validator(entra, authority=None, **settings):
    return BearerValidator(registry(entra, authority), **settings)


def app_token(entra, authority=None, *, api=None, client=None, uri="api://{}", **app):
    """The token that an app gets for an API, by its own credentials."""
    client = client or entra.add_client(secret="s3cret", **app)
    tokens = TokenRegistry(
        client_id=client,
        credential="s3cret",
        authority=authority or entra.authority(),
        verify=entra.ca_file,
    )
    with tokens:
        return tokens.get_access_token(f"{uri.format(api or entra.client_id)}/.default")


def asked(entra, kind="keys"):
    return sum(request.kind == kind for request in entra.requests)


def refused(validator, authorization):
    with pytest.raises(BearerRefusedError) as caught:
        validator.validate(authorization)
    return caught.value


# Who calls


def test_a_users_token_says_who_calls_by_way_of_which_app(entra):
    object_id = entra.add_user(ANN)
    token = entra.sign_in(ANN, scopes=["Orders.Read", "Orders.Write"])

    caller = validator(entra).validate(f"Bearer {token}")

    assert (caller.tenant, caller.object_id, caller.is_app) == (HOME, object_id, False)
    assert caller.scopes == {"Orders.Read", "Orders.Write"}
    assert caller.roles == frozenset()
    assert caller.client_id == caller.claims["azp"]
    assert caller.subject == caller.claims["sub"]
    assert caller.claims["preferred_username"] == ANN
    assert caller.assertion.cell_contents == token


@pytest.mark.parametrize("optional_claims", [(), ("idtyp",)])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_an_apps_token_says_so_and_which_roles_it_has(entra, version, optional_claims):
    entra.add_client(entra.client_id, accepted_version=version, optional_claims=optional_claims)
    client = entra.add_client(secret="s3cret", roles=["Orders.Read.All"])

    caller = validator(entra).validate(f"Bearer {app_token(entra, client=client)}")

    assert caller.is_app
    assert (caller.roles, caller.scopes) == ({"Orders.Read.All"}, frozenset())
    assert (caller.client_id, caller.tenant) == (client, HOME)
    assert caller.claims["ver"] == version
    assert ("idtyp" in caller.claims) == bool(optional_claims)


def test_a_caller_shows_neither_claims_nor_token_and_does_not_travel(entra):
    token = entra.sign_in(ANN)
    caller = validator(entra).validate(f"Bearer {token}")

    assert ANN not in repr(caller)
    assert token not in repr(caller)
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(caller)
    with pytest.raises(dataclasses.FrozenInstanceError):
        caller.is_app = True
    with pytest.raises(TypeError):
        caller.claims["scp"] = "everything"
    assert {caller} == {dataclasses.replace(caller)}


@pytest.mark.parametrize(
    "header", ["Bearer {}", "bearer {}", "BEARER   {}", "  Bearer {}\t", ["Bearer {}"]]
)
def test_the_header_is_taken_as_rfc_6750_and_servers_write_it(entra, header):
    token, api = entra.sign_in(ANN), validator(entra)
    sent = [each.format(token) for each in header] if isinstance(header, list) else header
    assert api.validate(sent if isinstance(sent, list) else sent.format(token)).scopes


async def test_the_same_from_an_event_loop(entra):
    api = validator(entra)
    caller = await api.avalidate([f"Bearer {entra.sign_in(ANN)}"])
    assert caller.claims["preferred_username"] == ANN
    with pytest.raises(BearerRefusedError):
        await api.avalidate([])


# Whose


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("tenant", ["contoso.onmicrosoft.com", HOME])
def test_both_versions_of_a_tenants_tokens_are_taken(entra, tenant, version):
    api = validator(entra, entra.authority(tenant))
    for _ in range(3):
        caller = api.validate(f"Bearer {entra.sign_in(ANN, version=version)}")
        assert caller.claims["ver"] == version
    # The metadata, and that of version 1.0 where there was such a token; the keys.
    assert (asked(entra, "discovery"), asked(entra)) == (2 if version == "1.0" else 1, 1)


def test_a_token_of_version_1_is_taken_at_once_where_one_of_version_2_came_before(entra):
    api = validator(entra)
    for version in ("2.0", "1.0", "2.0", "1.0"):
        assert api.validate(f"Bearer {entra.sign_in(ANN, version=version)}").tenant == HOME


@pytest.mark.parametrize("alias", ["common", "organizations"])
def test_what_stands_for_every_tenant_needs_a_list_of_them(entra, alias):
    authority = entra.authority(alias)
    with pytest.raises(ConfigurationError, match="tenants="):
        validator(entra, authority)

    api = validator(entra, authority, tenants=[FABRIKAM.upper()])

    for version in ("2.0", "1.0"):
        token = entra.sign_in("eve@fabrikam.com", tenant=FABRIKAM, version=version)
        assert api.validate(f"Bearer {token}").tenant == FABRIKAM
        other = entra.sign_in(ANN, version=version)
        assert "another authority, tenant" in str(refused(api, f"Bearer {other}"))


def test_an_api_of_one_tenant_may_let_in_others(entra):
    api = validator(entra, tenants=[HOME, FABRIKAM])

    for version in ("2.0", "1.0"):
        for tenant, user in ((HOME, ANN), (FABRIKAM, "eve@fabrikam.com")):
            token = entra.sign_in(user, tenant=tenant, version=version)
            assert api.validate(f"Bearer {token}").tenant == tenant
        token = entra.sign_in("dan@woodgrove.com", tenant=WOODGROVE, version=version)
        assert refused(api, f"Bearer {token}").status == 401
    token = app_token(entra, entra.authority(FABRIKAM), roles=["Orders.Read.All"])
    assert api.validate(f"Bearer {token}").is_app


def test_a_credential_that_gives_tokens_by_itself_names_no_api():
    with pytest.raises(ConfigurationError, match=r"names no app.*client_id= and authority="):
        BearerValidator(TokenRegistry(credential=ManagedIdentity()))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_an_app_without_a_role_is_let_in_on_purpose_alone(entra, version):
    entra.add_client(entra.client_id, accepted_version=version)
    bearer = f"Bearer {app_token(entra, roles=[])}"
    why = refused(validator(entra), bearer)
    assert (why.status, why.error) == (403, "insufficient_scope")
    assert "app role" in str(why)
    assert validator(entra, apps_without_roles=True).validate(bearer).is_app


@pytest.mark.parametrize(
    ("alias", "personal"), [("common", True), ("organizations", False), (HOME, False)]
)
def test_every_organisation_is_let_in_on_purpose(entra, alias, personal):
    api = validator(entra, entra.authority(alias), tenants="*")
    assert api.validate(f"Bearer {entra.sign_in('eve@fabrikam.com', tenant=FABRIKAM)}")

    entra.add_user("kim@outlook.com", account="personal")
    token = f"Bearer {entra.sign_in('kim@outlook.com')}"
    if personal:
        assert api.validate(token)
    else:
        assert refused(api, token).status == 401


@pytest.mark.parametrize("tenants", [[], "", ["contoso.com"], [None], ["*", HOME], [7], "common"])
def test_tenants_are_guids(entra, tenants):
    with pytest.raises(ConfigurationError, match="GUID"):
        validator(entra, tenants=tenants)


def test_a_user_flow_of_b2c_takes_its_own_tokens_alone(entra):
    api = validator(entra, entra.b2c_authority(policy="B2C_1_signin"))
    tenant = "contoso.onmicrosoft.com"

    token = entra.sign_in(ANN, tenant=tenant, policy="B2C_1_signin")
    caller = api.validate(f"Bearer {token}")
    assert (caller.scopes, caller.is_app) == ({"access_as_user"}, False)

    other = entra.sign_in(ANN, tenant=tenant, policy="B2C_1_other")
    assert "user flow" in str(refused(api, f"Bearer {other}"))
    id_token = entra.id_token(ANN, tenant=tenant, policy="B2C_1_signin")
    assert "an ID token" in str(refused(api, f"Bearer {id_token}"))
    assert refused(api, f"Bearer {entra.sign_in(ANN)}").status == 401


def test_an_app_of_b2c(entra):
    authority = entra.b2c_authority()
    token = app_token(
        entra, authority, uri="https://contoso.onmicrosoft.com/{}", roles=["Orders.Read.All"]
    )
    caller = validator(entra, authority).validate(f"Bearer {token}")
    # B2C has the app's roles where a user's scopes are, and so the two cannot be told apart.
    assert (caller.is_app, caller.scopes) == (False, {"Orders.Read.All"})


def test_an_external_tenant(entra):
    # The emulator's has no host of its own, and so it is told as an Entra tenant is.
    api = validator(entra, entra.ciam_authority("woodgrove"))
    token = entra.sign_in("dan@gmail.com", tenant="woodgrove.onmicrosoft.com")
    assert api.validate(f"Bearer {token}").tenant == tenant_guid("woodgrove.onmicrosoft.com")
    assert refused(api, f"Bearer {entra.sign_in(ANN)}").status == 401


def test_ad_fs_issues_access_tokens_under_another_name(entra):
    authority = Authority.adfs(entra.adfs_authority())
    token = app_token(entra, authority, uri="api://{}", api="orders")
    api = validator(entra, authority, audience="api://orders")
    caller = api.validate(f"Bearer {token}")
    assert caller.claims["iss"].endswith("/adfs/services/trust")
    assert caller.is_app


def test_another_provider_of_openid_connect(entra):
    authority = Authority.oidc(entra.oidc_authority("main"))
    api = validator(entra, authority, audience="api://orders")
    caller = api.validate(f"Bearer {app_token(entra, authority, api='orders')}")
    assert caller.claims["iss"] == authority.url

    other = Authority.oidc(entra.oidc_authority("other"))
    token = app_token(entra, other, api="orders")
    assert refused(api, f"Bearer {token}").status == 401


@pytest.mark.parametrize("kind", ["adfs", "oidc", "b2c"])
def test_what_has_no_tenants_takes_no_list_of_them(entra, kind):
    authority = {
        "adfs": entra.adfs_authority(),
        "oidc": Authority.oidc(entra.oidc_authority()),
        "b2c": entra.b2c_authority(),
    }[kind]
    with pytest.raises(ConfigurationError, match=f"'{kind}'"):
        validator(entra, authority, tenants=[HOME])


@pytest.mark.parametrize(
    ("issuer", "taken"), [("{}/v2.0", True), ("{{tenantid}}/v2.0", True), ("other/v2.0", False)]
)
def test_a_key_that_signs_for_one_issuer_signs_for_no_other(entra, monkeypatch, issuer, taken):
    named = f"{entra.url}/{issuer.format(HOME)}"
    published = entra._state.signer.public_keys
    monkeypatch.setattr(entra._state.signer, "public_keys", lambda _: published(named))
    api = validator(entra)
    if taken:
        assert api.validate(f"Bearer {entra.sign_in(ANN)}")
    else:
        assert refused(api, f"Bearer {entra.sign_in(ANN)}").status == 401


# For whom


def test_the_audience_is_the_api_by_its_id_or_its_uri(entra):
    api = validator(entra)
    for audience in (entra.client_id, f"api://{entra.client_id}"):
        assert api.validate(f"Bearer {Forger(entra).token(aud=audience)}")
    capitals = BearerValidator(registry(entra, client_id=entra.client_id.upper()))
    assert capitals.validate(f"Bearer {entra.sign_in(ANN)}")


def test_an_audience_that_is_named_is_the_only_one(entra):
    api = validator(entra, audience="https://orders.contoso.com")
    assert api.validate(f"Bearer {Forger(entra).token(aud='https://orders.contoso.com')}")
    assert "another API" in str(refused(api, f"Bearer {entra.sign_in(ANN)}"))
    several = validator(entra, audience=["api://a", "api://b"])
    assert several.validate(f"Bearer {Forger(entra).token(aud='api://b')}")


@pytest.mark.parametrize("audience", ["", [], [""], [None], [7]])
def test_an_audience_is_a_text(entra, audience):
    with pytest.raises(ConfigurationError, match="audience="):
        validator(entra, audience=audience)


@pytest.mark.parametrize("leeway", [-1, float("nan"), float("inf"), 3_600, "60", True, None])
def test_a_leeway_is_short(entra, leeway):
    with pytest.raises(ConfigurationError, match="leeway="):
        validator(entra, leeway=leeway)


def test_clocks_may_differ_by_the_leeway(entra):
    forger = Forger(entra)
    late, early = forger.token(exp=forger.now - 30), forger.token(nbf=forger.now + 30)
    lenient, strict = validator(entra), validator(entra, leeway=0)
    for token in (late, early):
        assert lenient.validate(f"Bearer {token}")
        assert refused(strict, f"Bearer {token}").error == "invalid_token"


def test_it_is_made_of_a_registry():
    with pytest.raises(ConfigurationError, match="TokenRegistry"):
        BearerValidator("https://login.microsoftonline.com/common")


# What it may do


@pytest.mark.parametrize(
    ("said", "scopes", "roles"),
    [
        ({"scp": "a  b ", "roles": ["c d", ""]}, {"a", "b"}, {"c d"}),
        ({"scp": ["a b", "c"], "roles": "Help Admin"}, {"a b", "c"}, {"Help Admin"}),
        ({"scp": "a\u00a0b\tc"}, {"a\u00a0b\tc"}, set()),
        ({"scp": "a", "scope": "b"}, {"a"}, set()),
    ],
)
def test_what_a_caller_has_is_read_to_the_letter(entra, said, scopes, roles):
    caller = validator(entra).validate(f"Bearer {Forger(entra).token(**said)}")
    assert (caller.scopes, caller.roles) == (scopes, roles)


def test_a_role_with_a_space_is_one(entra):
    api = validator(entra)
    for has, needs, passes in (
        ("Admin", ["Help Admin"], False),
        ("Help Admin", ["Help Admin"], True),
        ("Help Admin", "Admin", False),
        ("Admin", "Help Admin", True),  # a text with spaces holds several
    ):
        caller = api.validate(f"Bearer {Forger(entra).token(roles=has)}")
        refused_here = False
        try:
            api.check(caller, roles=needs)
        except BearerRefusedError:
            refused_here = True
        assert refused_here != passes, (has, needs)


def test_a_user_who_is_not_named_is_not_taken_for_the_app_that_calls(entra):
    token = Forger(entra).token(sub=None)
    assert validator(entra).validate(f"Bearer {token}").subject == ""


@pytest.mark.parametrize(
    ("scopes", "roles", "needs", "passes"),
    [
        (["a"], [], {}, True),
        (["a"], [], {"scopes": ["a", "b"]}, True),
        (["a"], [], {"scopes": ["b"]}, False),
        (["a"], [], {"scopes": ["a"], "roles": ["r"]}, True),
        (["b"], ["r"], {"scopes": ["a"], "roles": ["r"]}, False),
        (["a"], ["r"], {"roles": ["r"]}, True),
        (["a"], [], {"roles": ["a"]}, False),
        (["aa"], [], {"scopes": "a"}, False),
        (["a", "b"], [], {"scopes": "c b"}, True),
        (None, [], {}, True),
        (None, ["r"], {"scopes": ["a"], "roles": ["q", "r"]}, True),
        (None, ["q"], {"scopes": ["a"], "roles": ["r"]}, False),
        (None, ["a"], {"scopes": ["a"]}, False),
        (None, [], {"roles": ["r"]}, False),
    ],
)
def test_a_user_passes_by_scopes_and_an_app_by_roles(forged_at, scopes, roles, needs, passes):
    entra, api, forger = forged_at
    if scopes is None:
        token = app_token(entra, roles=roles or ["other"])
        entra.clear()
    else:
        token = forger.token(scp=" ".join(scopes), roles=roles)
    caller = api.validate(f"Bearer {token}")
    if passes:
        api.check(caller, **needs)
        return
    with pytest.raises(BearerRefusedError) as caught:
        api.check(caller, **needs)
    assert (caught.value.status, caught.value.error) == (403, "insufficient_scope")
    named = needs.get("scopes", ())
    assert caught.value.scopes == tuple(sorted(named))


def test_what_is_needed_is_named_by_texts(entra):
    api = validator(entra)
    caller = api.validate(f"Bearer {entra.sign_in(ANN)}")
    for bad in ([""], [None], [7]):
        with pytest.raises(ConfigurationError):
            api.check(caller, scopes=bad)


# Forgeries


@pytest.fixture(scope="module")
def forged_at():
    """An emulator, an API that knows its keys, and that API's forger; one for the whole table."""
    from tokenmgr.emulator import EntraEmulator

    with EntraEmulator() as entra:
        # Its clock stands still, and it is closed: what it knows is all that there is.
        with registry(entra, clock=FakeClock()) as tokens:
            api = BearerValidator(tokens)
            api.validate(f"Bearer {entra.sign_in(ANN, version='1.0')}")
        entra.clear()
        yield entra, api, Forger(entra)


@pytest.mark.parametrize("name", FORGERIES)
async def test_no_forgery_passes_and_none_costs_a_request(forged_at, name):
    entra, api, forger = forged_at
    forged = forger.forge(name)

    error = refused(api, forged.authorization)

    assert (error.status, error.error) == (forged.status, forged.error)
    assert forged.says in str(error)
    assert not set('"\\') & set(str(error)), "it becomes part of a header"
    assert str(error).isascii()
    for part in "".join(forged.authorization).split("."):
        assert len(part) < 20 or part not in str(error)
    assert entra.requests == ()
    with pytest.raises(BearerRefusedError) as caught:
        await api.avalidate(forged.authorization)
    assert str(caught.value) == str(error)


@pytest.mark.skipif(
    Version(metadata.version("joserfc")) < Version("1.8"), reason="it takes times that are none"
)
@pytest.mark.parametrize("name", FORGERIES)
def test_joserfcs_verdict_stands_beside_ours(forged_at, name):
    entra, _, forger = forged_at
    forged = forger.forge(name)
    if len(forged.authorization) != 1 or forged.error is None or forged.by_joserfc is None:
        return  # it reads no headers
    token = forged.authorization[0].removeprefix("Bearer ")
    assert joserfc_takes(entra, token) == forged.by_joserfc


def test_what_we_both_take(forged_at):
    entra, api, forger = forged_at
    for token in (entra.sign_in(ANN), forger.token(), forger.with_claim('"a": [[{"b": 1.5}]]')):
        assert joserfc_takes(entra, token)
        assert api.validate(f"Bearer {token}")


PIECES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["Bearer ", "bearer", " ", ".", "..", "=", "e30", "eyJhbGciOiJub25lIn0", ","]),
)
JSONS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.one_of(st.none(), st.text(), st.lists(st.lists(PIECES).map("".join), max_size=3)))
def test_whatever_is_sent_is_refused_or_a_caller(forged_at, values):
    _, api, _ = forged_at
    with pytest.raises(BearerRefusedError):
        api.validate(values)


@given(
    header=st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "jku", "x5c", "b64", "zip"]), JSONS
    )
)
def test_whatever_the_header_says_it_is_refused(forged_at, header):
    _, api, forger = forged_at
    token = forger.raw(json.dumps(forger.header() | header), "e30")
    with pytest.raises(BearerRefusedError):
        api.validate(f"Bearer {token}")


@given(
    changes=st.dictionaries(
        st.sampled_from(
            [
                *("exp", "nbf", "iat", "aud", "iss", "tid", "sub", "oid", "scp", "roles", "azp"),
                *("idtyp", "ver", "jti", "nonce", "name", "acr", "typ"),
            ]
        ),
        JSONS,
        min_size=1,
    )
)
def test_whatever_the_authority_signs_gives_a_caller_or_a_refusal(forged_at, changes):
    _, api, forger = forged_at
    token = forger.with_payload(json.dumps(forger.claims() | changes))
    caller = None
    with suppress(BearerRefusedError):
        caller = api.validate(f"Bearer {token}")
    if caller is not None:
        assert isinstance(caller, Caller)
        assert caller.tenant == HOME
        repr(caller), hash(caller), json.dumps(dict(caller.claims)).encode()


# Secrecy


@pytest.mark.traces
@pytest.mark.parametrize("name", ["good", "expired", "another's key", "another kid", "alg none"])
def test_no_error_tells_the_token(forged_at, name):
    entra, api, forger = forged_at
    good = f"Bearer {entra.sign_in(ANN)}"
    sent = [good] if name == "good" else forger.forge(name).authorization
    # The signature: where that is not told, nothing is of use.
    token = sent[0].removeprefix("Bearer ")
    secrets = (token, token.rpartition(".")[2] or token.split(".")[1])

    def work():
        api.validate(sent)

    if name != "good":
        assert told_of(refused(api, sent), secrets) == []
    assert told_at_every_line(work, secrets, within=("web",)) == []


def test_what_no_authority_answers_is_told_as_such(entra):
    api = validator(entra)
    token = f"Bearer {entra.sign_in(ANN)}"
    entra.fail_next(10, path="discovery", status=503)
    with pytest.raises(ServiceUnavailableError):
        api.validate(token)


def test_a_closed_registry_says_so(entra):
    tokens = registry(entra)
    api = BearerValidator(tokens)
    tokens.close()
    with pytest.raises(ConfigurationError, match="closed"):
        api.validate(f"Bearer {entra.sign_in(ANN)}")


def test_a_tenant_that_is_not_there_is_an_error_of_the_authority(entra):
    api = validator(entra, entra.authority("nonexistent.com"))
    with pytest.raises(TokenManagerError) as caught:
        api.validate(f"Bearer {entra.sign_in(ANN)}")
    assert not isinstance(caught.value, BearerRefusedError)
