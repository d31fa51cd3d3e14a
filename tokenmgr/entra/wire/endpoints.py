"""Where an authority's metadata may lead: that is where the app's credential goes."""

from __future__ import annotations

import re

from ...errors import AuthorityError
from ...identity.addresses import is_guid, split_url
from ...identity.authority import Authority
from ...identity.clouds import CIAM_DOMAIN, CLOUDS, Cloud, cloud_of

__all__ = ["check_endpoint"]


def check_endpoint(authority: Authority, url: str, *, regional: str | None = None) -> None:
    """Refuses an address that is none of the authority's.

    Microsoft's authorities have all of theirs at their own host, or at the hosts of their cloud.
    Of a generic provider's nothing is known, but that they take TLS.

    Args:
        authority: Whom the program named.
        url: What its metadata names, or MSAL asks.
        regional: The host of the region where the app asks for its own tokens; None without one.

    Raises:
        AuthorityError: It is another's, or not to be reached over TLS.
    """
    host = _host(authority, url)
    if authority.kind == "oidc" or host == regional or host in _own(authority):
        return
    label, domain, rest = host.partition(CIAM_DOMAIN)
    if authority.kind == "ciam" and domain and not rest and is_guid(label):
        return  # a tenant's second name
    raise AuthorityError(
        f"the metadata of {authority.host} names {host}, which is neither that host nor one of its "
        "cloud's, and the app's credential is not sent there: find out who answers in its place; "
        "if the other host is right, set the authority that is there"
    )


def _own(authority: Authority) -> set[str]:
    cloud = _cloud(authority)
    return {authority.host} if cloud is None else {authority.host, *cloud.hosts}


def _cloud(authority: Authority) -> Cloud | None:
    """The cloud that an authority of Microsoft's is in; None for hosts of somebody's own."""
    if authority.kind == "adfs":
        return None
    if authority.host.endswith(CIAM_DOMAIN):
        return CLOUDS[0]
    of_b2c = (c for c in CLOUDS if c.b2c_domain and authority.host.endswith(c.b2c_domain))
    return cloud_of(authority.host) or next(of_b2c, None)


def _host(authority: Authority, url: str) -> str:
    """The host of an address, with its port; whatever could be read in two ways is none."""
    scheme, _, rest = url.partition("://")
    try:
        return split_url(f"{scheme}://{re.split('[/?#]', rest, maxsplit=1)[0]}")[0]
    except AuthorityError:
        plain = scheme.lower() != "https"
    what = "an address without https" if plain else "what is no address"
    raise AuthorityError(
        f"the metadata of {authority.host} names {what}: it cannot be trusted with the app's "
        "credential"
    )
