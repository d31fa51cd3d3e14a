"""What Microsoft documents of its clouds, and nobody has to be asked for."""

from __future__ import annotations

from ...identity.addresses import is_guid
from ...identity.authority import Authority
from ...identity.clouds import cloud_of

__all__ = ["documented_issuer", "documented_metadata"]


def documented_metadata(authority: Authority) -> dict[str, str] | None:
    """The OpenID metadata of a tenant in one of Microsoft's clouds, as far as MSAL reads it.

    Sources: "OAuth 2.0 and OpenID Connect protocols on the Microsoft identity platform" and the
    grants' own pages on Microsoft Learn. Under an alias of a cloud, its own host is asked for the
    tokens, as MSAL.NET has it (``preferred_network`` of the instance metadata).

    Returns:
        None where the authority has to be asked for it.
    """
    cloud = cloud_of(authority.host) if authority.kind == "entra" else None
    if cloud is None:
        return None
    tenant = f"https://{cloud.host}/{authority.tenant}"
    return {
        # With the tenant as it was named: its GUID is known to the service alone.
        "issuer": f"{tenant}/v2.0",
        "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
        "token_endpoint": f"{tenant}/oauth2/v2.0/token",
        "device_authorization_endpoint": f"{tenant}/oauth2/v2.0/devicecode",
    }


def documented_issuer(authority: Authority, metadata: dict[str, str]) -> str:
    """Gives the issuer of a tenant's id tokens; ``{tenantid}`` where the service alone knows it.

    Args:
        authority: The tenant.
        metadata: Its :func:`documented_metadata`.
    """
    tenant = authority.tenant or ""
    if is_guid(tenant):
        return metadata["issuer"]
    return metadata["issuer"].replace(f"/{tenant}/", "/{tenantid}/")
