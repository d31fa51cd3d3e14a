"""Whose tokens an API takes: issuers as the authority names them, and tenants as the program does.

The keys of Microsoft's clouds sign the tokens of all tenants there. So it is the issuer alone that
tells one tenant's from another's.
"""

from __future__ import annotations

from collections.abc import Iterable

from .._runtime.secrecy import Hidden
from ..errors import ConfigurationError
from ..identity.addresses import is_guid
from ..identity.authority import Authority, neighbour
from ..identity.clouds import PERSONAL_TENANT
from ._keys import Known

__all__ = ["Issuers"]

_TENANT = "{tenantid}"
#: What lets every organisation in.
_EVERY = "*"
_HELP = (
    'give tenants= the GUIDs of the tenants whose callers are let in, or "*" for every organisation'
)


class Issuers:
    """Whose tokens are taken.

    Args:
        authority: The registry's.
        tenants: What the program says; see :class:`.bearer.BearerValidator`.

    Raises:
        ConfigurationError: It does not say what it has to, or what cannot be.
    """

    def __init__(self, authority: Authority, tenants: Iterable[str] | None) -> None:
        #: Whose metadata tells who issues the tokens, and by which keys.
        self.authority: Authority = authority
        #: Which tenants are let in; None for the authority's.
        self._tenants: frozenset[str] | None = _checked(authority, tenants)
        self._every = self._tenants == frozenset({_EVERY})
        # "common" is for personal accounts too, as it says itself.
        self._personal = authority.tenant in ("common", "consumers")
        if self._tenants is not None and not authority.is_multi_tenant_alias:
            self.authority = neighbour(authority, "organizations")

    def are_of(self, claims: Hidden, issuers: Iterable[str], key_issuer: str | None) -> bool:
        """Whether a token is one of these issuers', and of a tenant that is let in.

        Args:
            claims: What it says.
            issuers: Who issues the authority's tokens.
            key_issuer: For whom alone its key signs; None where that is not said.
        """
        issuer, tenant = claims.cell_contents["iss"], claims.cell_contents.get("tid")
        if self.authority.kind in ("entra", "ciam"):
            if not isinstance(tenant, str) or not is_guid(tenant) or not self._lets_in(tenant):
                return False
            if f"/{tenant}/" not in issuer:
                return False
            issuers = [each.replace(_TENANT, tenant) for each in issuers]
            if key_issuer is not None:
                return issuer in issuers and self._signs_for(key_issuer, tenant)
        return issuer in issuers

    def _signs_for(self, key_issuer: str, tenant: str) -> bool:
        # Whichever version a token has, its key's issuer is named as that of version 2.0.
        return _TENANT in key_issuer or f"/{tenant}/" in key_issuer

    def _lets_in(self, tenant: str) -> bool:
        if self._tenants is None:
            return True
        if self._every:
            return self._personal or tenant != PERSONAL_TENANT
        return tenant in self._tenants

    def is_older(self, claims: Hidden, known: Known) -> bool:
        """Whether a token has another issuer than those known, as one of version 1.0 has.

        Args:
            claims: What it says, and a key of the authority's has signed.
            known: What is known of the authority.
        """
        of_entra = self.authority.kind in ("entra", "ciam")
        return of_entra and known.older is None and claims.cell_contents.get("ver") == "1.0"


def _checked(authority: Authority, tenants: Iterable[str] | None) -> frozenset[str] | None:
    if tenants is None:
        if authority.is_multi_tenant_alias and authority.tenant != "consumers":
            raise ConfigurationError(
                f"the authority {authority} stands for every tenant there is, and so anybody's "
                f"users would be let in: {_HELP}"
            )
        return None
    if authority.kind != "entra":
        raise ConfigurationError(
            f"an authority of kind {authority.kind!r} is one tenant, or none: leave tenants= out"
        )
    given = [tenants] if isinstance(tenants, str) else list(tenants)
    named = frozenset(each.lower() if isinstance(each, str) else "" for each in given)
    if named != {_EVERY} and not (named and all(map(is_guid, named))):
        raise ConfigurationError(f"tenants= has what is no tenant's GUID, or nothing: {_HELP}")
    return named
