"""Microsoft's clouds: the hosts of each, and the names that belong to it.

This is the only table of them. What it says comes from Microsoft Learn ("National clouds",
"Microsoft Graph national cloud deployments", "Workload identity federation", "Set redirect URLs
to b2clogin.com") and, where that is silent, from the tables of MSAL for Python and MSAL.NET.
"""

from __future__ import annotations

from .._runtime.values import Value
from ..errors import ConfigurationError

__all__ = [
    "B2C_DOMAINS",
    "CIAM_DOMAIN",
    "CLOUDS",
    "INITIAL_DOMAINS",
    "PERSONAL_TENANT",
    "Cloud",
    "checked_region",
    "cloud_of",
    "exchange_scope_at",
    "is_region",
]

#: The tenant of all personal Microsoft accounts, which is no organisation's ("ID token claims
#: reference" on Microsoft Learn, ``tid``).
PERSONAL_TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"

#: What the names of regions are made of, and how long one may be.
_OF_REGIONS, _LONGEST_REGION = frozenset("abcdefghijklmnopqrstuvwxyz0123456789"), 63


class Cloud(Value):
    """One cloud. All domains begin with a dot, and all names are in lower case."""

    #: What a program calls it.
    name: str
    #: Where its tokens are asked for.
    host: str
    #: Other hosts of the same service. A token is the same, whichever of them was asked.
    aliases: tuple[str, ...] = ()
    #: The domains that its directories start with.
    initial_domains: tuple[str, ...] = ()
    #: Below which each tenant of Azure AD B2C has a host of its own.
    b2c_domain: str | None = None
    #: The hosts of Microsoft Graph; the first is the one for everybody.
    graph_hosts: tuple[str, ...] = ()
    #: The audience of a token that is exchanged for another (workload identity federation, agents).
    exchange_audience: str | None = None

    @property
    def hosts(self) -> frozenset[str]:
        """Its host, and the aliases."""
        return frozenset((self.host, *self.aliases))


CLOUDS = (
    Cloud(
        "public",
        "login.microsoftonline.com",
        aliases=("login.windows.net", "login.microsoft.com", "sts.windows.net"),
        initial_domains=(".onmicrosoft.com",),
        b2c_domain=".b2clogin.com",
        graph_hosts=("graph.microsoft.com",),
        exchange_audience="api://AzureADTokenExchange",
    ),
    Cloud(
        "usgovernment",
        "login.microsoftonline.us",
        aliases=("login.usgovcloudapi.net",),
        initial_domains=(".onmicrosoft.us",),
        b2c_domain=".b2clogin.us",
        graph_hosts=("graph.microsoft.us", "dod-graph.microsoft.us"),
        exchange_audience="api://AzureADTokenExchangeUSGov",
    ),
    Cloud(
        "china",
        "login.partner.microsoftonline.cn",
        aliases=("login.chinacloudapi.cn",),
        initial_domains=(".partner.onmschina.cn",),
        b2c_domain=".b2clogin.cn",
        graph_hosts=("microsoftgraph.chinacloudapi.cn",),
        exchange_audience="api://AzureADTokenExchangeChina",
    ),
    # Bleu, Delos and Singapore's, which MSAL calls AZURE_GOV_FR, _DE and _SG.
    Cloud(
        "gov-fr",
        "login.sovcloud-identity.fr",
        initial_domains=(".onsovcloud.fr",),
        graph_hosts=("graph.svc.sovcloud.fr",),
        exchange_audience="api://AzureADTokenExchangeFrance",
    ),
    Cloud(
        "gov-de",
        "login.sovcloud-identity.de",
        initial_domains=(".onsovcloud.de",),
        graph_hosts=("graph.svc.sovcloud.de",),
        exchange_audience="api://AzureADTokenExchangeGermany",
    ),
    Cloud("gov-sg", "login.sovcloud-identity.sg", graph_hosts=("graph.svc.sovcloud.sg",)),
)

#: The domains that directories start with, in whichever cloud.
INITIAL_DOMAINS = tuple(domain for cloud in CLOUDS for domain in cloud.initial_domains)
#: Those of B2C's hosts, in whichever cloud; the last one's was closed in 2021, and MSAL knows it.
B2C_DOMAINS = (*(cloud.b2c_domain for cloud in CLOUDS if cloud.b2c_domain), ".b2clogin.de")
#: That of the hosts of Microsoft Entra External ID (CIAM), which is in the public cloud alone.
CIAM_DOMAIN = ".ciamlogin.com"

_BY_HOST = {host: cloud for cloud in CLOUDS for host in cloud.hosts}


def cloud_of(host: str) -> Cloud | None:
    """Gives the cloud that a host belongs to; None when it is none of these.

    Args:
        host: Its name in lower case, without a port.
    """
    return _BY_HOST.get(host)


def exchange_scope_at(host: str) -> str:
    """Gives the scope of a token that is exchanged for another; the public cloud's for other hosts.

    Args:
        host: Whom it is asked of, in lower case, without a port.

    Raises:
        ConfigurationError: Microsoft names none for this cloud.
    """
    cloud = cloud_of(host) or CLOUDS[0]
    if cloud.exchange_audience is None:
        raise ConfigurationError(
            f"Microsoft names no audience for the exchange of tokens in the cloud of {host}: there "
            "are no agents there yet"
        )
    return f"{cloud.exchange_audience}/.default"


def is_region(text: str) -> bool:
    """Whether it can be the name of a region, and so a part of a host's."""
    return 0 < len(text) <= _LONGEST_REGION and _OF_REGIONS.issuperset(text)


def checked_region(name: str, what: str) -> str:
    """Gives the name of a region as it is.

    Args:
        name: The name.
        what: The setting or variable that says so.

    Raises:
        ConfigurationError: It is none.
    """
    if not is_region(name):
        raise ConfigurationError(
            f"{what} is {name[:_LONGEST_REGION]!r}, which is no region's name: it has small "
            "letters and digits alone, such as 'westus3'"
        )
    return name
