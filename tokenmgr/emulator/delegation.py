"""A user who lets an app act for them, and what the tokens say of the two.

https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference and
https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from .authorities import GRAPH_PREFIX, Authority, AuthorityKind
from .users import Session, User

__all__ = ["Delegation"]


@dataclass(frozen=True)
class Delegation:
    """A user who is signed in, and the app that acts for them.

    Attributes:
        user: The user.
        session: The sign-in that it goes back to.
        authority: The tenant, which the user has an object in.
        client_id: The app.
    """

    user: User
    session: Session
    authority: Authority
    client_id: str

    @property
    def object_id(self) -> str:
        """The user's ``oid`` in the tenant."""
        return self.user.object_id(self.authority.tenant_id) or ""

    def access_claims(
        self,
        audience: str,
        permissions: Sequence[str],
        *,
        version: str | None = None,
        capabilities: Sequence[str] = (),
    ) -> dict[str, object]:
        """The claims of an access token, but for its times.

        Args:
            audience: Whom it is for.
            permissions: What it allows: its ``scp``.
            version: ``1.0`` or ``2.0``, as the audience wants them. Left out: 1.0 for Microsoft
                Graph, 2.0 for everything else.
            capabilities: What the client can do, such as ``CP1``.
        """
        claims = self._identity(audience) | {"aud": audience, "scp": " ".join(permissions)}
        if self.authority.kind is AuthorityKind.B2C:
            return self._b2c_identity() | {
                "aud": audience,
                "scp": claims["scp"],
                "azp": self.client_id,
            }
        if self.authority.kind is AuthorityKind.ADFS:
            more = {"ver": "1.0", "appid": self.client_id, "scp": claims["scp"]}
            return self._adfs_identity(audience) | more
        if capabilities:
            claims["xms_cc"] = list(capabilities)
        if (version or _version_of(audience)) == "1.0":
            return claims | self._legacy_claims()
        return claims | {
            "ver": "2.0",
            "iss": self.authority.issuer,
            "azp": self.client_id,
            "azpacr": "1",
            "preferred_username": self.user.username,
        }

    def id_claims(self, *, profile: bool) -> dict[str, object]:
        """The claims of an ID token, but for its times; ``profile`` as that scope was asked for."""
        identity = self._identity(self.client_id)
        if self.authority.kind is AuthorityKind.B2C:
            auth_time = int(self.session.started_at)
            return self._b2c_identity() | {"aud": self.client_id, "auth_time": auth_time}
        if self.authority.kind is AuthorityKind.OIDC:
            claims = {name: identity[name] for name in ("sub", "name")[: 1 + profile]}
            return claims | {"iss": self.authority.issuer, "aud": self.client_id}
        if self.authority.kind is AuthorityKind.ADFS:
            return self._adfs_identity(self.client_id)
        if not profile:
            identity = {name: identity[name] for name in ("sub", "tid", "sid")}
        else:
            identity["preferred_username"] = self.user.username
        return identity | {"ver": "2.0", "iss": self.authority.issuer, "aud": self.client_id}

    def client_info(self) -> str | None:
        """Whom MSAL takes the account to be: the user in their home tenant.

        In B2C it is another account for each user flow. AD FS and other providers know nothing of
        this.
        """
        if self.authority.kind in (AuthorityKind.ADFS, AuthorityKind.OIDC):
            return None
        home = self.user.home_tenant_id
        info = {"uid": self.user.object_id(home) or "", "utid": home}
        if self.authority.kind is AuthorityKind.B2C:
            policy = (self.authority.policy or "").lower()
            info = {"uid": f"{self.object_id}-{policy}", "utid": self.authority.tenant_id}
        return urlsafe_b64encode(json.dumps(info).encode()).rstrip(b"=").decode()

    def _identity(self, audience: str) -> dict[str, object]:
        digest = hashlib.sha256(f"{audience}/{self.object_id}".encode()).digest()
        return {
            "name": self.user.username.partition("@")[0].title(),
            "oid": self.object_id,
            "sid": self.session.session_id,
            # Another one for each audience, so that two of them cannot compare notes.
            "sub": urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "tid": self.authority.tenant_id,
        }

    def _b2c_identity(self) -> dict[str, object]:
        """https://learn.microsoft.com/azure/active-directory-b2c/tokens-overview#claims."""
        return {
            "ver": "1.0",
            "iss": self.authority.issuer,
            "sub": self.object_id,
            "oid": self.object_id,
            "tid": self.authority.tenant_id,
            "name": self._identity("")["name"],
            "emails": [self.user.username],
            "tfp": self.authority.policy,
            "acr": self.authority.policy,
        }

    def _adfs_identity(self, audience: str) -> dict[str, object]:
        """https://learn.microsoft.com/openspecs/windows_protocols/ms-oidce (section 2.2.3.1)."""
        name, _, domain = self.user.username.partition("@")
        return {
            "iss": self.authority.issuer,
            "aud": audience,
            "sub": self._identity(audience)["sub"],
            "upn": self.user.username,
            "unique_name": f"{domain.partition('.')[0].upper()}\\{name}",
            "sid": self.session.session_id,
            "auth_time": int(self.session.started_at),
        }

    def _legacy_claims(self) -> dict[str, object]:
        return {
            "ver": "1.0",
            "iss": self.authority.legacy_issuer,
            "acr": "1",
            "amr": ["pwd", "mfa"] if self.session.mfa else ["pwd"],
            "appid": self.client_id,
            "appidacr": "1",
            "idtyp": "user",
            "unique_name": self.user.username,
            "upn": self.user.username,
        }


def _version_of(audience: str) -> str:
    # Microsoft Graph takes tokens of version 1.0, whichever endpoint they come from.
    return "1.0" if audience.startswith(GRAPH_PREFIX) else "2.0"
