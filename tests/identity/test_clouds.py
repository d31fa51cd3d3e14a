"""The table of clouds: what it says, and that everything that asks about clouds asks it."""

from __future__ import annotations

import pytest
from msal import authority as msal_authority

from tokenmgr.errors import AuthorityError, ConfigurationError
from tokenmgr.http.hosts import HostBinding
from tokenmgr.identity.authority import Authority
from tokenmgr.identity.clouds import B2C_DOMAINS, CIAM_DOMAIN, CLOUDS, INITIAL_DOMAINS, cloud_of


def test_a_host_belongs_to_one_cloud_and_so_does_a_domain():
    hosts = [host for cloud in CLOUDS for host in (cloud.host, *cloud.aliases)]
    assert len(set(hosts)) == len(hosts)
    assert len(set(INITIAL_DOMAINS)) == len(INITIAL_DOMAINS)
    assert len(set(B2C_DOMAINS)) == len(B2C_DOMAINS)


def test_every_host_leads_to_its_cloud_and_a_foreign_one_to_none():
    for cloud in CLOUDS:
        assert {cloud_of(host) for host in (cloud.host, *cloud.aliases)} == {cloud}
    assert cloud_of("login.private.example") is None
    assert cloud_of("evil-login.microsoftonline.com") is None


def test_b2c_and_ciam_hosts_are_those_that_msal_knows():
    known = {f".{host}" for host in msal_authority.WELL_KNOWN_B2C_HOSTS}
    assert {*B2C_DOMAINS, CIAM_DOMAIN} == known


def test_each_cloud_has_its_own_exchange_audience():
    audiences = {cloud.name: cloud.exchange_audience for cloud in CLOUDS}
    assert audiences["public"] == "api://AzureADTokenExchange"
    assert audiences["usgovernment"] == "api://AzureADTokenExchangeUSGov"
    assert audiences["china"] == "api://AzureADTokenExchangeChina"
    told = [audience for audience in audiences.values() if audience]
    assert len(set(told)) == len(told)


@pytest.mark.parametrize("cloud", CLOUDS, ids=lambda cloud: cloud.name)
def test_a_cloud_is_named_in_an_authority(cloud):
    assert Authority.entra("contoso.com", cloud=cloud.name).host == cloud.host


@pytest.mark.parametrize("domain", INITIAL_DOMAINS)
def test_a_directorys_first_domain_is_a_b2c_tenant_and_no_server(domain):
    tenant = f"contoso{domain}"
    custom = Authority.parse(f"https://login.contoso.com/{tenant}/susi")
    assert (custom.kind, custom.tenant) == ("b2c", tenant)
    assert Authority.b2c(tenant, "susi", host="login.contoso.com") == custom
    with pytest.raises(ConfigurationError, match="no host follows"):
        HostBinding.of([f"https://{tenant}/api/.default"])


@pytest.mark.parametrize(
    ("tenant", "host"),
    [
        ("contoso", "contoso.b2clogin.com"),
        ("contoso.onmicrosoft.us", "contoso.b2clogin.us"),
        ("Contoso.OnMicrosoft.US", "contoso.b2clogin.us"),
        ("contoso.partner.onmschina.cn", "contoso.b2clogin.cn"),
    ],
)
def test_a_b2c_tenants_host_is_in_its_own_cloud(tenant, host):
    authority = Authority.b2c(tenant, "susi")
    assert authority.host == host
    assert Authority.parse(authority.url) == authority


@pytest.mark.parametrize(
    "host", [host for cloud in CLOUDS for host in (cloud.host, *cloud.aliases)]
)
def test_what_is_below_a_tenant_at_a_clouds_host_is_no_policy(host):
    with pytest.raises(AuthorityError, match="more than a tenant"):
        Authority.parse(f"https://{host}/contoso.onmicrosoft.com/saml2")
