"""The authority: what is accepted, what it becomes, and what is refused without a request."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msal.authority import WELL_KNOWN_AUTHORITY_HOSTS, canonicalize

from tokenmgr.errors import AuthorityError
from tokenmgr.identity.authority import Authority
from tokenmgr.identity.clouds import CLOUDS

GUID = "11111111-aaaa-3333-4444-555555555555"
B2C = "https://contoso.b2clogin.com/contoso.onmicrosoft.com/b2c_1_susi"
CIAM = "https://contoso.ciamlogin.com/contoso.onmicrosoft.com"
ENTRA = "https://login.microsoftonline.com/contoso.onmicrosoft.com"


# ── Constructors ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("tenant", "cloud", "url"),
    [
        (GUID, "public", f"https://login.microsoftonline.com/{GUID}"),
        (GUID.upper(), "public", f"https://login.microsoftonline.com/{GUID}"),
        ("Contoso.COM", "usgovernment", "https://login.microsoftonline.us/contoso.com"),
        ("contoso.com", "china", "https://login.partner.microsoftonline.cn/contoso.com"),
        ("contoso.com", "gov-fr", "https://login.sovcloud-identity.fr/contoso.com"),
        ("contoso.com", "gov-de", "https://login.sovcloud-identity.de/contoso.com"),
        ("contoso.com", "gov-sg", "https://login.sovcloud-identity.sg/contoso.com"),
        ("contoso.com", "https://127.0.0.1:8443", "https://127.0.0.1:8443/contoso.com"),
        ("contoso.com", "https://[::1]:8443/", "https://[::1]:8443/contoso.com"),
        ("contoso.com", "Login.Private.Cloud", "https://login.private.cloud/contoso.com"),
        ("contoso.com", "localhost:8443", "https://localhost:8443/contoso.com"),
        ("contoso.com", "https://emulator", "https://emulator/contoso.com"),
        ("Common", "public", "https://login.microsoftonline.com/common"),
    ],
)
def test_an_entra_authority_is_a_host_and_a_tenant(tenant: str, cloud: str, url: str) -> None:
    authority = Authority.entra(tenant, cloud=cloud)
    assert (str(authority), authority.kind) == (url, "entra")
    assert (authority.tenant, authority.policy) == (tenant.lower(), None)


def test_every_named_cloud_is_a_host_that_msal_knows() -> None:
    assert set().union(*(cloud.hosts for cloud in CLOUDS)) <= WELL_KNOWN_AUTHORITY_HOSTS


@pytest.mark.parametrize(
    "tenant",
    ["", "contoso", "a b.com", "a/b.com", ENTRA, "127.0.0.1", "v2.0", "-a.com", "a..com", "a.com?",
     f"{{{GUID}}}", "a.com\n", "é.com", "x@contoso.com", "a" * 64 + ".com", "a.b" * 90, None, 7],
)  # fmt: skip
def test_what_is_no_tenant_is_refused(tenant: Any) -> None:
    with pytest.raises(AuthorityError, match="tenant"):
        Authority.entra(tenant)


@pytest.mark.parametrize("tenant", ["contoso", "a/b.com", ENTRA])
def test_the_refusal_says_what_a_tenant_looks_like(tenant: str) -> None:
    with pytest.raises(AuthorityError, match=r"GUID .* contoso\.onmicrosoft\.com"):
        Authority.entra(tenant)


@pytest.mark.parametrize(
    ("cloud", "message"),
    [
        ("germany", "one of public, usgovernment, china"),
        ("", "empty"),
        (None, "NoneType"),
        (["public"], "list"),
        ("http://login.private.cloud", "not https"),
        ("login.private.cloud/contoso", "has a path"),
        ("contoso.b2clogin.com", "policy"),
        ("contoso.ciamlogin.com", r"Authority\.ciam"),
    ],
)
def test_what_is_no_cloud_is_refused(cloud: Any, message: str) -> None:
    with pytest.raises(AuthorityError, match=message):
        Authority.entra("contoso.com", cloud=cloud)


@pytest.mark.parametrize("name", ["contoso", "Contoso.onmicrosoft.com"])
@pytest.mark.parametrize("policy", ["B2C_1_susi", "b2c_1_SUSI"])
def test_a_b2c_authority_is_one_whatever_its_spelling(name: str, policy: str) -> None:
    authority = Authority.b2c(name, policy)
    assert (str(authority), authority.kind) == (B2C, "b2c")
    assert (authority.tenant, authority.policy) == ("contoso.onmicrosoft.com", "b2c_1_susi")


@pytest.mark.parametrize(
    ("name", "host", "url"),
    [
        ("contoso", "login.contoso.com", "https://login.contoso.com/contoso.onmicrosoft.com/susi"),
        ("contoso", "https://[::1]:99", "https://[::1]:99/contoso.onmicrosoft.com/susi"),
        (GUID, "login.contoso.com:8443", f"https://login.contoso.com:8443/{GUID}/susi"),
        (
            "contoso.partner.onmschina.cn",
            "contoso.b2clogin.cn",
            "https://contoso.b2clogin.cn/contoso.partner.onmschina.cn/susi",
        ),
    ],
)
def test_a_b2c_authority_may_have_its_own_host(name: str, host: str, url: str) -> None:
    assert str(Authority.b2c(name, "susi", host=host)) == url


@pytest.mark.parametrize(
    ("name", "policy", "host", "message"),
    [
        ("contoso", "", None, "policy is empty"),
        ("contoso", "a/b", None, "policy is not one"),
        ("contoso", "v2.0", None, "policy is not one"),
        ("contoso", None, None, "NoneType"),
        ("", "susi", None, "empty"),
        ("contoso.com", "susi", None, "give contoso or contoso.onmicrosoft.com"),
        ("https://contoso.b2clogin.com", "susi", None, "give contoso"),
        (GUID, "susi", None, "host="),
        ("contoso", "susi", "login.contoso.com/path", "has a path"),
        ("contoso", "susi", "http://login.contoso.com", "not https"),
        ("contoso", "susi", "contoso.ciamlogin.com", "CIAM"),
        ("contoso", "susi", "login.microsoftonline.com", "more than a tenant"),
    ],
)
def test_what_is_no_b2c_authority_is_refused(
    name: Any, policy: Any, host: Any, message: str
) -> None:
    with pytest.raises(AuthorityError, match=message):
        Authority.b2c(name, policy, host=host)


@pytest.mark.parametrize(
    "name", ["contoso", "Contoso", "contoso.onmicrosoft.com", "contoso.ciamlogin.com"]
)
def test_a_ciam_authority_is_one_whatever_its_spelling(name: str) -> None:
    authority = Authority.ciam(name)
    assert (str(authority), authority.kind) == (CIAM, "ciam")
    assert authority.tenant == "contoso.onmicrosoft.com"


def test_a_ciam_host_that_is_a_guid_has_that_tenant() -> None:
    assert Authority.ciam(GUID).tenant == GUID


@pytest.mark.parametrize("name", ["", "contoso.com", "https://contoso.ciamlogin.com", "a b", None])
def test_what_is_no_ciam_name_is_refused(name: Any) -> None:
    with pytest.raises(AuthorityError, match="CIAM"):
        Authority.ciam(name)


@pytest.mark.parametrize("tail", ["", "/", "/adfs", "/ADFS/", "/adfs/oauth2/token"])
def test_an_adfs_authority_ends_in_adfs(tail: str) -> None:
    authority = Authority.adfs(f"https://Fs.contoso.com{tail}")
    assert (str(authority), authority.kind) == ("https://fs.contoso.com/adfs", "adfs")
    assert authority.tenant is None


@pytest.mark.parametrize("tail", ["/contoso.com", "/adfs/ls", "/oauth2/token"])
def test_an_adfs_authority_has_no_other_path(tail: str) -> None:
    with pytest.raises(AuthorityError, match="/adfs"):
        Authority.adfs(f"https://fs.contoso.com{tail}")


@pytest.mark.parametrize(
    ("given_url", "url"),
    [
        ("https://IDP.example.com/realms/Main/", "https://idp.example.com/realms/Main"),
        ("https://idp.example.com:9/a/.well-known/openid-configuration", "https://idp.example.com:9/a"),
        ("https://idp.example.com/my%20realm", "https://idp.example.com/my%20realm"),
    ],
)  # fmt: skip
def test_a_generic_provider_keeps_its_path(given_url: str, url: str) -> None:
    authority = Authority.oidc(given_url)
    assert (str(authority), authority.kind, authority.tenant) == (url, "oidc", None)


@pytest.mark.parametrize("tail", ["", "/", "/.well-known/openid-configuration"])
def test_a_generic_provider_needs_a_path_as_msal_asks(tail: str) -> None:
    with pytest.raises(AuthorityError, match="MSAL asks for at least one segment"):
        Authority.oidc(f"https://idp.example.com{tail}")


# ── Parsing ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "kind", "url"),
    [
        (ENTRA, "entra", ENTRA),
        ("HTTPS://Login.MicrosoftOnline.com:443/Contoso.OnMicrosoft.com//", "entra", ENTRA),
        (f"{ENTRA}/v2.0", "entra", ENTRA),
        (f"{ENTRA}/v2.0/.well-known/openid-configuration", "entra", ENTRA),
        (f"{ENTRA}/.well-known/openid-configuration", "entra", ENTRA),
        (f"{ENTRA}/oauth2/v2.0/token", "entra", ENTRA),
        (f"{ENTRA}/oauth2/v2.0/authorize", "entra", ENTRA),
        (f"{ENTRA}/oauth2/token", "entra", ENTRA),
        ("https://127.0.0.1:8443/common/", "entra", "https://127.0.0.1:8443/common"),
        (f"https://[0:0::1]/{GUID}", "entra", f"https://[::1]/{GUID}"),
        (B2C.upper().replace("HTTPS", "https"), "b2c", B2C),
        (f"{B2C}/v2.0/.well-known/openid-configuration", "b2c", B2C),
        (f"{B2C}/oauth2/v2.0/token", "b2c", B2C),
        ("https://contoso.b2clogin.com/tfp/contoso.onmicrosoft.com/B2C_1_susi", "b2c", B2C),
        (f"https://x.b2clogin.us/{GUID}/Susi", "b2c", f"https://x.b2clogin.us/{GUID}/susi"),
        ("https://a.io/contoso.com/B2C_1A_x", "b2c", "https://a.io/contoso.com/b2c_1a_x"),
        (f"https://a.io/{GUID}/susi", "b2c", f"https://a.io/{GUID}/susi"),
        ("https://a.io/x.onmicrosoft.com/susi", "b2c", "https://a.io/x.onmicrosoft.com/susi"),
        (f"{ENTRA}/B2C_1_susi", "b2c", f"{ENTRA}/b2c_1_susi"),
        ("https://contoso.ciamlogin.com", "ciam", CIAM),
        ("https://contoso.ciamlogin.com/", "ciam", CIAM),
        (f"{CIAM}/v2.0/", "ciam", CIAM),
        (f"https://x.ciamlogin.com/{GUID}", "ciam", f"https://x.ciamlogin.com/{GUID}"),
        ("https://fs.contoso.com/ADFS", "adfs", "https://fs.contoso.com/adfs"),
    ],
)
def test_a_url_tells_its_kind(value: str, kind: str, url: str) -> None:
    authority = Authority.parse(value)
    assert (authority.kind, authority.url) == (kind, url)


@pytest.mark.parametrize("path", ["realms/main", "a/b/c"])
def test_a_url_like_nothing_of_microsofts_is_a_generic_provider(path: str) -> None:
    url = f"https://idp.example.com/{path}"
    assert Authority.parse(url) == Authority.oidc(url)


def test_an_authority_is_parsed_to_itself() -> None:
    authority = Authority.oidc("https://idp.example.com/realms/main")
    assert Authority.parse(authority) is authority


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("contoso.onmicrosoft.com", r"Authority\.entra\("),
        (GUID, r"Authority\.entra\("),
        ("login.microsoftonline.com/contoso.com", "https://"),
        ("http://login.microsoftonline.com/contoso.com", "secret"),
        ("ftp://login.microsoftonline.com/contoso.com", "https"),
        ("https:///contoso.com", "no host"),
        ("https://:8443/contoso.com", "no host"),
        ("https://login.microsoftonline.com", "no tenant"),
        ("https://login.microsoftonline.com/tfp/", "no tenant"),
        ("https://login.microsoftonline.com/contoso", "a tenant is a GUID"),
        (f"{ENTRA}?p=b2c_1_susi", "query"),
        (f"{ENTRA}#top", "fragment"),
        (f"{ENTRA}?", "query"),
        (f" {ENTRA}", "space"),
        (f"{ENTRA}\n", "control character"),
        ("https://login.microsoftonline.com\\@evil.example/contoso.com", "backslash"),
        ("https://löginmicrosoft.com/contoso.com", "ASCII"),
        ("https://under_score.com/contoso.com", "host"),
        ("https://a..b/contoso.com", "host"),
        ("https://-a.com/contoso.com", "host"),
        ("https://a.com./contoso.com", "host"),
        ("https://a%2eb.com/contoso.com", "host"),
        (f"https://{'a.' * 130}com/contoso.com", "host"),
        ("https://[::g]/contoso.com", "host"),
        ("https://[1:2]/contoso.com", "IPv6"),
        ("https://x[::1]y:80/contoso.com", "host"),
        ("https://a.com:/contoso.com", "port"),
        ("https://a.com:0/contoso.com", "1 to 65535"),
        ("https://a.com:65536/contoso.com", "1 to 65535"),
        ("https://a.com:+80/contoso.com", "port"),
        ("https://a.com//contoso.com", "empty or invalid"),
        ("https://a.com/../contoso.com", "empty or invalid"),
        ("https://a.com/%2e%2E/contoso.com", "empty or invalid"),
        ("https://a.com/b%2fc", "empty or invalid"),
        ("https://a.com/b%0ac", "empty or invalid"),
        ("https://a.com/b%zz", "empty or invalid"),
        ("https://a.com/b<c", "empty or invalid"),
        ("https://contoso.b2clogin.com/contoso.onmicrosoft.com", "no policy"),
        ("https://contoso.b2clogin.com/", "no policy"),
        (f"{B2C}/extra", "more than /tenant/policy"),
        (f"{CIAM}/extra", "more than a tenant"),
        (f"{ENTRA}/saml2", "more than a tenant"),
        ("", "empty"),
        (None, "NoneType"),
        (ENTRA.encode(), "bytes"),
    ],
)
def test_what_is_no_authority_is_refused(value: Any, message: str) -> None:
    with pytest.raises(AuthorityError, match=message):
        Authority.parse(value)


@pytest.mark.parametrize(
    "value",
    [
        "https://user:hunter2@login.microsoftonline.com/contoso.com",
        "https://hunter2@[::1/contoso.com",
        "https://login.microsoftonline.com:hunter2/contoso.com",
        "http://user:hunter2@login.microsoftonline.com/contoso.com",
        "user:hunter2@login.microsoftonline.com",
        "https://user:hunter2/x@login.microsoftonline.com/contoso.com",
        f"{ENTRA}?client_secret=hunter2",
    ],
)
@pytest.mark.parametrize(
    "make",
    [
        Authority.parse,
        Authority.adfs,
        Authority.oidc,
        Authority.entra,
        Authority.ciam,
        lambda value: Authority.entra("contoso.com", cloud=value),
        lambda value: Authority.b2c("contoso", "susi", host=value),
        lambda value: Authority.b2c("contoso", value),
        lambda value: Authority(value, "entra"),
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(make: Any, value: str) -> None:
    with pytest.raises(AuthorityError) as caught:
        make(value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


# ── The value ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("http://a.com/contoso.com", "entra", "https"),
        (f"{ENTRA}/", "entra", r"Authority\.parse"),
        ("https://IDP.example.com/main", "oidc", r"Authority\.parse|canonical"),
        (ENTRA, "b2c", "entra"),
        (ENTRA, "kerberos", "entra"),
    ],
)
def test_an_authority_made_by_hand_is_checked_too(url: str, kind: Any, message: str) -> None:
    with pytest.raises(AuthorityError, match=message):
        Authority(url, kind)


def test_equal_authorities_are_one_key() -> None:
    spellings = [CIAM, "https://contoso.ciamlogin.com/", "https://Contoso.ciamlogin.com"]
    assert {Authority.parse(spelling) for spelling in spellings} == {Authority.ciam("contoso")}


def test_the_same_address_of_another_kind_is_another_authority() -> None:
    assert Authority.oidc(ENTRA) != Authority.parse(ENTRA)


def test_an_authority_cannot_be_changed_and_survives_a_pickle() -> None:
    authority = Authority.parse(B2C)
    with pytest.raises(AttributeError):
        authority.url = ENTRA  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(authority)) == authority


@pytest.mark.parametrize(
    ("url", "host"),
    [
        (ENTRA, "login.microsoftonline.com"),
        ("https://127.0.0.1:8443/common", "127.0.0.1:8443"),
        ("https://127.0.0.1:0443/common", "127.0.0.1"),
        ("https://[::1]:8443/common", "[::1]:8443"),
    ],
)
def test_the_host_has_its_port_where_it_is_not_443(url: str, host: str) -> None:
    assert Authority.parse(url).host == host


@pytest.mark.parametrize("alias", ["common", "organizations", "Consumers"])
def test_an_alias_stands_for_many_tenants(alias: str) -> None:
    assert Authority.entra(alias).is_multi_tenant_alias
    assert not Authority.oidc(f"https://idp.example.com/{alias}").is_multi_tenant_alias


@pytest.mark.parametrize("tenant", [GUID, "common.onmicrosoft.com"])
def test_a_tenant_is_no_alias(tenant: str) -> None:
    assert not Authority.entra(tenant).is_multi_tenant_alias


# ── Properties ──────────────────────────────────────────────────────────────────────────────

labels = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,10}[A-Za-z0-9])?", fullmatch=True)
guids = st.uuids().map(str)
domains = st.builds("{}.{}".format, labels, st.sampled_from(["com", "onmicrosoft.com", "co.uk"]))
tenants = st.one_of(guids, domains, st.sampled_from(["common", "organizations", "consumers"]))
ports = st.one_of(st.just(""), st.integers(1, 65535).map(":{}".format))
addresses = st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map("[{}]".format))
hosts = st.builds("{}{}".format, st.one_of(domains, addresses), ports)
policies = st.from_regex(r"(B2C_1A?_)?[A-Za-z0-9_-]{1,20}", fullmatch=True)
paths = st.from_regex(
    r"[A-Za-z0-9_-]{1,9}(/[A-Za-z0-9._~!$&'()*+,;=:@-]*[a-z]){0,3}/?", fullmatch=True
)

authorities = st.one_of(
    st.builds(
        Authority.entra,
        tenants,
        cloud=st.one_of(st.sampled_from([cloud.name for cloud in CLOUDS]), hosts),
    ),
    st.builds(Authority.b2c, labels, policies, host=st.one_of(st.none(), hosts)),
    st.builds(Authority.b2c, guids, policies, host=hosts),
    st.builds(Authority.ciam, labels),
    st.builds(Authority.adfs, hosts.map("https://{}".format)),
)
providers = st.builds(Authority.oidc, st.builds("https://{}/{}".format, hosts, paths))


@given(authorities)
def test_an_authority_is_parsed_back_from_its_url(authority: Authority) -> None:
    assert Authority.parse(str(authority)) == authority
    assert Authority(authority.url, authority.kind) == authority


@given(authorities)
def test_case_makes_no_second_authority(authority: Authority) -> None:
    assert hash(Authority.parse(str(authority).upper())) == hash(authority)


@given(providers)
def test_a_generic_provider_is_made_again_from_its_url(authority: Authority) -> None:
    assert Authority.oidc(str(authority)) == authority


@given(st.one_of(authorities, providers))
def test_msal_reads_the_same_host_and_tenant(authority: Authority) -> None:
    parsed, host, tenant = canonicalize(str(authority))
    assert authority.host.startswith((host, f"[{host}]"))
    assert parsed.netloc == authority.host
    assert authority.kind in ("adfs", "oidc") or tenant == authority.tenant


pieces = st.sampled_from(
    ["https://", "http://", "/", "//", "\\", "@", ":", "[", "]", "?", "#", "..", "%2f", "tfp",
     "adfs", "b2c_1", "a.com", GUID, ".b2clogin.com", ".ciamlogin.com", "v2.0", "1", "é", " ",
     "\t", "\x00"]
)  # fmt: skip
urls = st.lists(pieces, max_size=8).map("".join)


@given(st.one_of(st.text(), urls, urls.map("https://a".__add__)))
def test_any_text_is_an_https_authority_or_an_authority_error(text: str) -> None:
    for make in (Authority.parse, Authority.adfs, Authority.oidc, Authority.ciam, Authority.entra):
        try:
            authority = make(text)
        except AuthorityError:
            continue
        assert str(authority).startswith(f"https://{authority.host}/")
        assert not set(str(authority)) & set("?#\\ \t\x00")
