"""Metadata that name a host of somebody else's get no credential, whoever has poisoned them."""

from __future__ import annotations

import pytest
from entra_calls import failure, fetch
from support import SCOPE

from tokenmgr import Authority, AuthorityError
from tokenmgr.entra.wire.connection import Connection
from tokenmgr.entra.wire.endpoints import check_endpoint

GUID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
PRIVATE = Authority.entra("contoso.com", cloud="login.private.example")
PUBLIC = Authority.entra("contoso.com")
CHINA = Authority.entra("contoso.com", cloud="china")
B2C = Authority.b2c("contoso", "b2c_1_signin")
B2C_US = Authority.b2c("contoso.onmicrosoft.us", "b2c_1_signin")
OWN_DOMAIN = Authority.b2c("contoso", "b2c_1_signin", host="login.contoso.com")
CIAM = Authority.ciam("contoso")
ADFS = Authority.adfs("https://fs.contoso.com")
OIDC = Authority.oidc("https://idp.contoso.com/main")

OURS = [
    (PRIVATE, "https://login.private.example/contoso.com/token"),
    (PRIVATE, "https://LOGIN.private.example:443/contoso.com/token"),
    (Authority.entra("contoso.com", cloud="127.0.0.1:8443"), "https://127.0.0.1:8443/token"),
    (PUBLIC, "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token"),
    (PUBLIC, "https://login.windows.net/contoso.com/oauth2/v2.0/token"),
    (CHINA, "https://login.chinacloudapi.cn/contoso.com/oauth2/v2.0/token"),
    (B2C, "https://contoso.b2clogin.com/contoso.onmicrosoft.com/oauth2/v2.0/token?p=b2c_1_signin"),
    (B2C, "https://login.microsoftonline.com/contoso.onmicrosoft.com/b2c_1_signin/token"),
    (B2C_US, "https://login.microsoftonline.us/contoso.onmicrosoft.us/b2c_1_signin/token"),
    (OWN_DOMAIN, "https://login.contoso.com/contoso.onmicrosoft.com/b2c_1_signin/token"),
    (CIAM, "https://contoso.ciamlogin.com/token"),
    (CIAM, f"https://{GUID}.ciamlogin.com/{GUID}/oauth2/v2.0/token"),
    (CIAM, f"https://login.microsoftonline.com/{GUID}/oauth2/v2.0/token"),
    (ADFS, "https://fs.contoso.com/adfs/oauth2/token/"),
    (OIDC, "https://elsewhere.example/token"),
]

NOT_OURS = [
    (PRIVATE, "https://evil.example/contoso.com/token"),
    (PRIVATE, "https://login.private.example:8443/contoso.com/token"),
    (PRIVATE, "https://login.private.example.evil.example/token"),
    (PRIVATE, "https://westeurope.login.private.example/token"),
    (PUBLIC, "https://login.microsoftonline.us/contoso.com/token"),
    (PUBLIC, "https://evil.login.microsoftonline.com/contoso.com/token"),
    (B2C, "https://evil.b2clogin.com/contoso.onmicrosoft.com/token"),
    (B2C, "https://login.microsoftonline.us/contoso.onmicrosoft.com/token"),
    (OWN_DOMAIN, "https://login.microsoftonline.com/contoso.onmicrosoft.com/token"),
    (CIAM, "https://evil.ciamlogin.com/token"),
    (CIAM, f"https://{GUID}.ciamlogin.com.evil.example/token"),
    (CIAM, f"https://{GUID}.evil.ciamlogin.com/token"),
    (ADFS, "https://login.microsoftonline.com/adfs/oauth2/token"),
    (Authority.adfs("https://login.microsoftonline.com"), "https://login.windows.net/token"),
]

NO_ADDRESS = [
    "https://login.private.example@evil.example/token",
    "https://evil.example\\@login.private.example/token",
    "https://login.private.example\t.evil.example/token",
    "https://",
    "//login.private.example/token",
    "https:login.private.example/token",
    "login.private.example/token",
    "https://login.private.example:0/token",
    "https://\u217cogin.private.example/token",
]


@pytest.mark.parametrize(("authority", "url"), OURS, ids=str)
def test_an_authoritys_own_hosts_and_those_of_its_cloud_are_trusted(authority, url):
    check_endpoint(authority, url)


@pytest.mark.parametrize(("authority", "url"), NOT_OURS, ids=str)
def test_any_other_is_refused_and_both_are_named(authority, url):
    with pytest.raises(AuthorityError) as caught:
        check_endpoint(authority, url)

    assert f"metadata of {authority.host} names {url.split('/')[2]}" in str(caught.value)
    assert not caught.value.retryable


@pytest.mark.parametrize("url", NO_ADDRESS)
@pytest.mark.parametrize("authority", [PRIVATE, OIDC], ids=str)
def test_what_could_be_read_in_two_ways_is_refused(authority, url):
    with pytest.raises(AuthorityError, match=f"metadata of {authority.host} names"):
        check_endpoint(authority, url)


@pytest.mark.parametrize("authority", [PRIVATE, OIDC, ADFS], ids=str)
def test_no_address_without_tls_is_trusted(authority):
    with pytest.raises(AuthorityError, match="without https"):
        check_endpoint(authority, f"http://{authority.host}/token")


def test_the_host_of_the_apps_region_is_trusted_and_no_other_ones():
    host = "westeurope.login.microsoft.com"
    url = f"https://{host}/contoso.com/oauth2/v2.0/token"

    check_endpoint(PUBLIC, url, regional=host)

    for regional in (None, "westus.login.microsoft.com"):
        with pytest.raises(AuthorityError):
            check_endpoint(PUBLIC, url, regional=regional)


@pytest.mark.parametrize("authority", [PRIVATE, B2C, CIAM, ADFS], ids=lambda each: each.kind)
@pytest.mark.parametrize(
    "name", ["token_endpoint", "authorization_endpoint", "device_authorization_endpoint"]
)
def test_poisoned_metadata_send_the_secret_nowhere(rough, registry, proxy, authority, name):
    proxy.leads_to = rough.server_address  # for all hosts, with a certificate for each
    own = Authority.parse(_known(authority))
    rough.stand_in_for(own)
    rough.metadata[name] = "https://evil.example/token"
    tokens = registry(authority=own, proxies={"https": proxy.url})

    raised = failure(tokens, AuthorityError, match=rf"{own.host} names evil\.example")

    assert rough.posts == 0
    assert set(proxy.tunnels) == {f"{own.host}:443"}
    assert not raised.retryable
    rough.stand_in_for(own)
    assert fetch(tokens) == "a-token", "nothing of it was remembered"


def _known(authority):
    """One of its kind at a host that the rough server has a certificate for."""
    return authority.url.replace("fs.contoso.com", "login.private.example")


def test_a_generic_provider_may_name_another_host(rough, registry, proxy):
    proxy.leads_to = rough.server_address
    authority = Authority.oidc("https://login.private.example/main")
    rough.stand_in_for(authority)
    rough.metadata |= {"issuer": authority.url, "token_endpoint": "https://evil.example/token"}

    assert fetch(registry(authority=authority, proxies={"https": proxy.url}), SCOPE) == "a-token"
    assert proxy.tunnels[-1] == "evil.example:443"


def test_nothing_is_posted_to_anybody_else(rough):
    connection = Connection(verify=rough.ca_file)

    with pytest.raises(AuthorityError, match=r"evil\.example"):
        connection.exchange(PRIVATE).post("https://evil.example/token", data={})

    connection.close()
