"""Client assertions: a signed JWT in place of a secret, verified for real (RFC 7523).

Three kinds are taken. The app's own, signed with a certificate that is registered for it:
https://learn.microsoft.com/entra/identity-platform/certificate-credentials. And one of another
issuer that the app trusts:
https://learn.microsoft.com/entra/workload-id/workload-identity-federation. And what proves an
agent: see :mod:`.agents`.
"""

from __future__ import annotations

import json
import time
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import InvalidClaimError, JoseError
from joserfc.jwk import Key

from .agents import authenticate_agent
from .authorities import Authority
from .clients import Client, RegisteredCertificate
from .errors import EntraError
from .state import State

__all__ = ["ASSERTION_TYPE", "authenticate_assertion"]

#: RFC 7523, section 2.2.
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

_ALGORITHMS = ["RS256", "PS256", "ES256", "RS384", "PS384", "RS512", "PS512"]
#: Seconds. MSAL's times have fractions, and joserfc's clock has none.
_LEEWAY = 1


class _LongHeaders(jws.JWSRegistry):
    """joserfc's limits, with room in the header for a chain of certificates (``x5c``)."""

    max_header_length = 64 * 1024


_REGISTRY = _LongHeaders(algorithms=_ALGORITHMS)


def authenticate_assertion(
    state: State, authority: Authority, *, client_id: str | None, assertion: str
) -> Client:
    """The client that ``assertion`` proves.

    Args:
        state: Who may be proven, and by what.
        authority: Where the assertion was shown, and so what its audience has to be.
        client_id: What the request itself says, if it does.
        assertion: The signed JWT.

    Raises:
        EntraError: It proves nobody; the number says why.
    """
    header, claims = _read_unverified(assertion)
    name = client_id or str(claims.get("sub", ""))
    client = state.clients.find(name)
    if client is None or not client.is_at(authority.tenant_id):
        raise EntraError(700016, client_id=name, tenant=authority.tenant)
    if str(claims.get("iss", "")).lower() == client.client_id.lower():
        _verify_own(client, authority, header, assertion)
    elif client.blueprint_id is not None:
        authenticate_agent(state.signer, authority, client, assertion)
    else:
        _verify_federated(client, claims, assertion)
    return client


def _read_unverified(assertion: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What the assertion says of itself, which is where the key to verify it with is found."""
    try:
        parsed = jws.extract_compact(assertion.encode(), registry=_REGISTRY)
        claims = json.loads(parsed.payload)
    except (JoseError, ValueError):
        raise EntraError(50027) from None
    if not isinstance(claims, dict):
        raise EntraError(50027)
    return parsed.headers(), claims


def _verify_own(
    client: Client, authority: Authority, header: Mapping[str, Any], assertion: str
) -> None:
    certificate = _named_certificate(client, header)
    if certificate is None:
        thumbprint = header.get("x5t#S256") or header.get("x5t") or ""
        raise EntraError(
            700027,
            detail="Reason - The key was not found. Thumbprint of key used by client: "
            f"'{thumbprint}'. Please visit the Azure portal to check the configured keys.",
        )
    claims = _verified_claims(certificate.key, assertion)
    if certificate.ends_at <= time.time():
        raise EntraError(
            700027,
            detail="Reason - The key used is expired. Thumbprint of key used by client: "
            f"'{certificate.x5t}'.",
        )
    if claims.get("sub") != claims.get("iss"):
        raise EntraError(700021)
    _check_validity(claims)
    audiences = [authority.token_endpoint, authority.issuer, authority.url]
    if not _names_audience(claims, audiences):
        raise EntraError(700023)


def _named_certificate(client: Client, header: Mapping[str, Any]) -> RegisteredCertificate | None:
    leaf = _leaf(header)
    # MSAL leaves the padding on, which RFC 7515, section 2, takes off; Entra accepts both.
    x5t, x5t_s256 = (str(header.get(name, "")).rstrip("=") for name in ("x5t", "x5t#S256"))
    for certificate in client.certificates:
        if x5t_s256 == certificate.x5t_s256 or x5t == certificate.x5t or leaf == certificate.der:
            return certificate
    return None


def _leaf(header: Mapping[str, Any]) -> bytes | None:
    """The certificate that signed, where the header has it (RFC 7515, section 4.1.6)."""
    chain = header.get("x5c")
    if not chain:
        return None
    try:
        return b64decode(chain[0])
    except ValueError:
        raise EntraError(50027) from None


def _verify_federated(client: Client, claims: Mapping[str, Any], assertion: str) -> None:
    if claims.get("sub") == client.client_id and client.certificates:
        raise EntraError(700021)
    of_issuer = [c for c in client.federated if c.issuer == claims.get("iss")]
    if not of_issuer:
        raise EntraError(700211, issuer=str(claims.get("iss", "")))
    of_subject = [c for c in of_issuer if c.subject == claims.get("sub")]
    if not of_subject:
        raise EntraError(700213, subject=str(claims.get("sub", "")))
    credential = of_subject[0]
    verified = _verified_claims(credential.key(), assertion)
    _check_validity(verified)
    if not _names_audience(verified, [credential.audience]):
        raise EntraError(700212, audience=str(verified.get("aud", "")))


def _verified_claims(key: Key, assertion: str) -> dict[str, Any]:
    try:
        return jwt.decode(assertion, key, registry=_REGISTRY).claims
    except (JoseError, ValueError):
        # A key of the wrong kind for the algorithm is a ValueError: as little of a proof.
        raise EntraError(
            700027, detail="Reason - The provided signature value did not match the expected one."
        ) from None


def _check_validity(claims: dict[str, Any]) -> None:
    registry = jwt.JWTClaimsRegistry(leeway=_LEEWAY, exp={"essential": True})
    try:
        registry.validate(claims)
    except InvalidClaimError as error:
        raise EntraError(700024, detail=f"The claim '{error.claim}' is not valid.") from None
    except JoseError as error:
        raise EntraError(700024, detail=str(error.description)) from None


def _names_audience(claims: Mapping[str, Any], audiences: list[str]) -> bool:
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    return any(each in audiences for each in named)
