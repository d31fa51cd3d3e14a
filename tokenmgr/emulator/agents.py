"""Agent identities: whose child one is, and the tokens that prove it.

https://learn.microsoft.com/entra/agent-id/agent-oauth-protocols. The claims are those of tokens
that were published: the subject of what a blueprint gets for an agent (T1), whom it is for, and the
parent that an agent's token names. What Entra answers to who is no child is documented nowhere: it
is taken for what it answers to every assertion that no federated credential fits.
"""

from __future__ import annotations

import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError

from ..identity.clouds import CLOUDS
from .authorities import Authority
from .clients import Client
from .errors import EntraError
from .tokens import TokenSigner

__all__ = ["EXCHANGE_APP", "authenticate_agent", "claims_for", "is_exchange", "own_token"]

#: The app whose tokens are exchanged for others, by its id.
EXCHANGE_APP = "fb60f99c-7a34-4190-8149-302f77469936"
_NAMES = frozenset(str(cloud.exchange_audience).lower() for cloud in CLOUDS)


def is_exchange(resource: str) -> bool:
    """Whether a token for this resource is one that is exchanged, in whichever cloud."""
    return resource.lower() in _NAMES


def claims_for(
    authority: Authority, client: Client, *, resource: str, path: str | None
) -> dict[str, object]:
    """What an app's own token says besides, or otherwise.

    Args:
        authority: Where it is asked for.
        client: The app.
        resource: What it is for.
        path: Whom else it proves: its ``fmi_path``.
    """
    claims: dict[str, object] = {}
    if is_exchange(resource):
        claims["aud"] = EXCHANGE_APP
    if path is not None:
        claims["sub"] = _subject(authority, client.client_id, path)
    if client.blueprint_id is not None:
        claims["xms_par_app_azp"] = client.blueprint_id
    return claims


def authenticate_agent(
    signer: TokenSigner, authority: Authority, agent: Client, assertion: str
) -> None:
    """See that an assertion is one that the agent's blueprint was given for it, at this tenant.

    Raises:
        EntraError: It is not; the number says why.
    """
    claims = own_token(signer, assertion)
    if claims is None:
        raise EntraError(700027, detail="Reason - The key was not found.")
    if claims.get("iss") != authority.issuer:
        raise EntraError(700211, issuer=str(claims.get("iss", "")))
    if claims.get("sub") != _subject(authority, agent.blueprint_id or "", agent.client_id):
        raise EntraError(700213, subject=str(claims.get("sub", "")))
    if claims.get("aud") != EXCHANGE_APP:
        raise EntraError(700212, audience=str(claims.get("aud", "")))
    if not claims.get("nbf", 0) <= time.time() < claims.get("exp", 0):
        raise EntraError(700024, detail="The claim 'exp' is not valid.")


def own_token(signer: TokenSigner, token: str) -> Mapping[str, Any] | None:
    """The claims of a token that was signed here, whenever it ends; None for any other."""
    try:
        key = signer.key_of(jws.extract_compact(token.encode()).headers())
        return None if key is None else jwt.decode(token, key).claims
    except (JoseError, ValueError):
        return None


def _subject(authority: Authority, client_id: str, path: str) -> str:
    return f"/eid1/c/pub/t/{_short(authority.tenant_id)}/a/{_short(client_id)}/{path.lower()}"


def _short(name: str) -> str:
    """A GUID as it stands in such a subject."""
    try:
        guid = uuid.UUID(name)
    except ValueError:
        guid = uuid.uuid5(uuid.NAMESPACE_URL, name)
    return urlsafe_b64encode(guid.bytes_le).rstrip(b"=").decode()
