"""The emulator's signing key, and the tokens that it signs."""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

from .authorities import GRAPH_PREFIX, STORAGE, Authority, AuthorityKind
from .clients import Client
from .requested_claims import CHALLENGEABLE, newer_than

__all__ = ["InvalidAccessTokenError", "RevokedAccessTokenError", "TokenSigner"]

_ALGORITHM = "RS256"


class InvalidAccessTokenError(Exception):
    """An access token that the protected API does not accept. The message holds no secret."""


class RevokedAccessTokenError(InvalidAccessTokenError):
    """An access token that would be good, had it not been revoked.

    Attributes:
        demanded: The claims that a new one has to be asked for with, as JSON; None for a client
            that has not said that it answers such challenges.
    """

    demanded: str | None = None


class TokenSigner:
    """Signs tokens as Entra does, and checks those that come back."""

    def __init__(self) -> None:
        self._key = _new_key()
        self._lock = threading.Lock()  # guards what follows
        #: What has been signed with before, and is published still.
        self._former: tuple[RSAKey, ...] = ()
        self._live: set[str] = set()
        self._revoked_at = 0

    def public_keys(self, issuer: str | None = None) -> dict[str, object]:
        """The key set that ``jwks_uri`` answers with (RFC 7517).

        Args:
            issuer: Whose tokens they sign, as Entra says of each of its keys.
        """
        more: dict[str, object] = {"use": "sig", "alg": _ALGORITHM}
        if issuer is not None:
            more["issuer"] = issuer
        return {"keys": [{**key.as_dict(private=False), **more} for key in self._keys()]}

    def roll(self, *, keep: bool) -> None:
        """Sign with a new key from now on, and publish the one before it still, or no more."""
        with self._lock:
            self._former = (self._key, *self._former) if keep else ()
            self._key = _new_key()

    def _keys(self) -> tuple[RSAKey, ...]:
        with self._lock:
            return (self._key, *self._former)

    def app_token(
        self,
        authority: Authority,
        *,
        client_id: str,
        resource: str,
        roles: Sequence[str],
        lifetime: float,
        capabilities: Sequence[str] = (),
        api: Client | None = None,
        more: Mapping[str, object] | None = None,
    ) -> str:
        """An access token for an app that acts as itself; ``more`` is what it says otherwise.

        ``api`` is the registration of the resource, where it has one: that says which version of
        token it takes, and what else is to be in it.

        The claims are those of
        https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference.
        """
        object_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{authority.tenant_id}/{client_id}"))
        claims: dict[str, object] = {
            "aud": resource,
            "iss": authority.access_token_issuer,
            "tid": authority.tenant_id,
            "oid": object_id,
            "sub": object_id,
            "roles": list(roles),
        }
        if authority.kind is AuthorityKind.B2C:
            # https://learn.microsoft.com/azure/active-directory-b2c/client-credentials-grant-flow
            del claims["roles"]
            claims["scp"] = " ".join(roles)
        if authority.kind is AuthorityKind.ENTRA and (
            api is None or "idtyp" in api.optional_claims
        ):
            claims["idtyp"] = "app"
        if capabilities:
            claims["xms_cc"] = list(capabilities)
        claims |= _claims_of_kind(authority, client_id=client_id, resource=resource, api=api)
        return self.access_token(claims | dict(more or {}), lifetime=lifetime)

    def access_token(self, claims: Mapping[str, object], *, lifetime: float) -> str:
        """An access token with these claims, which lives for so many seconds from now on."""
        uti = secrets.token_urlsafe(16)
        token = self.sign({**claims, "uti": uti}, lifetime=lifetime)
        with self._lock:
            self._live.add(uti)
        return token

    def sign(self, claims: Mapping[str, object], *, lifetime: float) -> str:
        """A token with these claims, which is for its reader only: the protected API refuses it."""
        now = time.time()
        times = {"iat": int(now), "nbf": int(now), "exp": int(now + lifetime)}
        header = {"alg": _ALGORITHM, "typ": "JWT", "kid": self._key.kid}
        token: str = jwt.encode(header, {**claims, **times}, self._key, algorithms=[_ALGORITHM])
        return token

    def key_of(self, header: Mapping[str, object]) -> RSAKey | None:
        """The key that a token's header names, None when it is none of ours."""
        return next((key for key in self._keys() if header.get("kid") == key.kid), None)

    def verify(self, token: str, *, base_url: str) -> Mapping[str, Any]:
        """The claims of an access token that is good now.

        Args:
            token: The access token.
            base_url: What every issuer's name begins with.

        Raises:
            InvalidAccessTokenError: The signature, the issuer or the lifetime is not right, or
                the token was revoked.
        """
        try:
            keys = KeySet([*self._keys()])
            claims: dict[str, Any] = jwt.decode(token, keys, algorithms=[_ALGORITHM]).claims
        except (JoseError, ValueError) as error:
            raise InvalidAccessTokenError("Access token validation failure.") from error
        if not str(claims.get("iss", "")).startswith(f"{base_url}/"):
            raise InvalidAccessTokenError("Access token validation failure. Invalid issuer.")
        if claims["exp"] <= time.time():
            raise InvalidAccessTokenError("Lifetime validation failed, the token is expired.")
        with self._lock:
            live, revoked_at = claims.get("uti") in self._live, self._revoked_at
        if not live:
            revoked = RevokedAccessTokenError("Access token has been revoked.")
            if CHALLENGEABLE in claims.get("xms_cc", ()):
                revoked.demanded = newer_than(revoked_at)
            raise revoked
        return claims

    def revoke_all(self) -> None:
        """Let the protected API refuse every access token that was issued up to now."""
        with self._lock:
            self._live.clear()
            self._revoked_at = int(time.time())


def _new_key() -> RSAKey:
    return RSAKey.generate_key(2048, auto_kid=True)


def _claims_of_kind(
    authority: Authority, *, client_id: str, resource: str, api: Client | None
) -> dict[str, object]:
    """The claims that tell the kinds of authority apart."""
    if authority.kind is AuthorityKind.B2C:
        # B2C's access tokens say 1.0 and yet name the app in azp:
        # https://learn.microsoft.com/azure/active-directory-b2c/tokens-overview#claims
        of_flow = {"tfp": authority.policy, "acr": authority.policy}
        audience = resource if api is None else api.client_id
        return {"ver": "1.0", "azp": client_id, "aud": audience, **of_flow}
    if authority.kind is AuthorityKind.ADFS:
        return {"ver": "1.0", "appid": client_id, "apptype": "Confidential"}
    if authority.kind is AuthorityKind.OIDC:
        return {"client_id": client_id, "azp": client_id}
    if api is not None and api.accepted_version == "2.0":
        return {"ver": "2.0", "azp": client_id, "azpacr": "1", "aud": api.client_id}
    if api is not None or resource.startswith(GRAPH_PREFIX):
        # Microsoft Graph takes tokens of version 1.0, whichever endpoint they come from.
        return {"ver": "1.0", "appid": client_id, "appidacr": "1", "iss": authority.legacy_issuer}
    if resource == STORAGE:
        # So does Azure Storage, and Azurite, which stands for it, looks at who has issued them.
        issuer = f"https://sts.windows.net/{authority.tenant_id}/"
        return {"ver": "1.0", "appid": client_id, "appidacr": "1", "iss": issuer}
    return {"ver": "2.0", "azp": client_id, "azpacr": "1"}
