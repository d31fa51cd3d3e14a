"""The authorities that the emulator serves: their kinds, and their addresses.

Each kind has its own paths and its own idea of an issuer; everything else in the emulator asks the
authority and does not care which kind it is.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import Enum

__all__ = [
    "DEFAULT_TENANT",
    "GRAPH_PREFIX",
    "PLACEHOLDER_TENANTS",
    "STORAGE",
    "Authority",
    "AuthorityKind",
    "tenant_guid",
]

#: The tenant that is meant where none is named.
DEFAULT_TENANT = "contoso.onmicrosoft.com"

#: How the resource begins that is Microsoft Graph, in any cloud.
GRAPH_PREFIX = "https://graph."

#: The resource that is Azure Storage.
STORAGE = "https://storage.azure.com"

#: Path segments that stand for many tenants, and so for none that an app could sign in to.
PLACEHOLDER_TENANTS = frozenset({"common", "organizations", "consumers"})

_UNKNOWN_PREFIX = "nonexistent"


class AuthorityKind(Enum):
    """What an authority imitates."""

    ENTRA = "entra"
    B2C = "b2c"
    ADFS = "adfs"
    OIDC = "oidc"


def tenant_guid(tenant: str) -> str:
    """The GUID of a tenant that is named by its domain or by that GUID. Always the same one."""
    try:
        return str(uuid.UUID(tenant))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, tenant.lower()))


@dataclass(frozen=True)
class Authority:
    """One authority: a tenant of Entra, a policy of B2C, an ADFS or an OpenID provider.

    Attributes:
        kind: What it imitates.
        base_url: The emulator's own address, without a slash at its end.
        tenant: The tenant as the caller's path has it; empty for ADFS.
        policy: The user flow of a B2C tenant, None for every other kind.
    """

    kind: AuthorityKind
    base_url: str
    tenant: str
    policy: str | None = None

    @property
    def tenant_id(self) -> str:
        """The tenant's GUID."""
        return tenant_guid(self.tenant or self.kind.value)

    @property
    def realm(self) -> str:
        """Within which a refresh token is good: all of Entra, one user flow, one provider."""
        if self.kind is AuthorityKind.ENTRA:
            return ""
        return f"{self.kind.value}/{self.tenant_id}/{(self.policy or '').lower()}"

    @property
    def exists(self) -> bool:
        """Whether there is such a tenant: not when its name begins with ``nonexistent``."""
        return not self.tenant.lower().startswith(_UNKNOWN_PREFIX)

    @property
    def url(self) -> str:
        """The URL that a client names as its authority."""
        if self.kind is AuthorityKind.ADFS:
            return f"{self.base_url}/adfs"
        if self.kind is AuthorityKind.OIDC:
            return f"{self.base_url}/oidc/{self.tenant}"
        policy = f"/{self.policy}" if self.policy else ""
        return f"{self.base_url}/{self.tenant}{policy}"

    @property
    def issuer(self) -> str:
        """The ``iss`` of its tokens, which its metadata promises too."""
        if self.kind is AuthorityKind.B2C:
            # B2C's issuer ends with a slash and does not tell the policy unless asked to:
            # https://learn.microsoft.com/azure/active-directory-b2c/tokens-overview
            return f"{self.base_url}/{self.tenant_id}/v2.0/"
        if self.kind is AuthorityKind.ENTRA:
            tenant = "{tenantid}" if self.tenant in PLACEHOLDER_TENANTS else self.tenant_id
            return f"{self.base_url}/{tenant}/v2.0"
        return self.url

    @property
    def legacy_issuer(self) -> str:
        """The ``iss`` of the version 1.0 tokens, which Entra has from ``sts.windows.net``."""
        tenant = "{tenantid}" if self.tenant in PLACEHOLDER_TENANTS else self.tenant_id
        return f"{self.base_url}/{tenant}/"

    @property
    def access_token_issuer(self) -> str:
        """The ``iss`` of its access tokens, where they are AD FS's: they have another than ids."""
        return f"{self.url}/services/trust" if self.kind is AuthorityKind.ADFS else self.issuer

    @property
    def token_endpoint(self) -> str:
        """Where tokens are asked for."""
        return self._endpoint("token")

    @property
    def keys_endpoint(self) -> str:
        """Where the public keys of its tokens are (RFC 7517)."""
        if self.kind is AuthorityKind.ADFS:
            return f"{self.url}/discovery/keys"
        if self.kind is AuthorityKind.OIDC:
            return f"{self.url}/keys"
        return f"{self.url}/discovery/v2.0/keys"

    @property
    def device_endpoint(self) -> str | None:
        """Where devices ask for codes; None where they cannot."""
        has_it = self.kind in (AuthorityKind.ENTRA, AuthorityKind.OIDC)
        return self._endpoint("devicecode") if has_it else None

    def metadata(self) -> dict[str, object]:
        """Its OpenID configuration (OpenID Connect Discovery 1.0, section 3)."""
        metadata: dict[str, object] = {
            "issuer": self.issuer,
            "token_endpoint": self.token_endpoint,
            "authorization_endpoint": self._endpoint("authorize"),
            "end_session_endpoint": self._endpoint("logout"),
            "jwks_uri": self.keys_endpoint,
            "token_endpoint_auth_methods_supported": [
                "client_secret_post",
                "private_key_jwt",
                "client_secret_basic",
            ],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
        }
        if self.kind is AuthorityKind.ADFS:
            metadata["access_token_issuer"] = self.access_token_issuer
        if self.device_endpoint is not None:
            metadata["device_authorization_endpoint"] = self.device_endpoint
        return metadata

    def legacy_metadata(self) -> dict[str, object]:
        """The OpenID configuration of Entra's version 1.0."""
        return self.metadata() | {
            "issuer": self.legacy_issuer,
            "jwks_uri": f"{self.url}/discovery/keys",
            "token_endpoint": f"{self.url}/oauth2/token",
            "authorization_endpoint": f"{self.url}/oauth2/authorize",
        }

    def _endpoint(self, name: str) -> str:
        if self.kind is AuthorityKind.ADFS:
            return f"{self.url}/oauth2/{name}"
        if self.kind is AuthorityKind.OIDC:
            return f"{self.url}/{name}"
        return f"{self.url}/oauth2/v2.0/{name}"
