"""What the claims of a token are made of, and what they say of who calls.

See "Access token claims reference" on Microsoft Learn, and RFC 9068.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import jwt

from .._runtime.secrecy import Hidden
from ..identity.authority import AuthorityKind
from ..identity.clouds import CLOUDS

__all__ = ["app_of", "check_types", "is_app", "is_for_graph", "is_id_token", "names_in"]

#: Claims that are times, and those that are texts, where they are there.
_TIMES = ("exp", "nbf", "iat")
_TEXTS = ("iss", "sub", "tid", "oid", "azp", "appid", "client_id", "idtyp", "ver", "tfp", "acr")
#: Those that are texts or lists of them.
_NAMES = ("aud", "scp", "scope", "roles")
#: Seconds since 1970 that are no time any more: some thousand years from now.
_LATEST = 1e11
#: The audiences of Microsoft Graph's tokens, in each cloud.
_GRAPH = frozenset(
    {
        "00000003-0000-0000-c000-000000000000",
        *(f"https://{host}{end}" for c in CLOUDS for host in c.graph_hosts for end in ("", "/")),
    }
)


def check_types(claims: Hidden) -> None:
    """Refuses claims that are none of what they have to be.

    Raises:
        DecodeError: One is not.
    """
    said = claims.cell_contents
    times = all(_is_time(said[name]) for name in _TIMES if name in said)
    texts = all(isinstance(said[name], str) for name in _TEXTS if name in said)
    if not times or not texts or not all(_are_names(said[n]) for n in _NAMES if n in said):
        raise jwt.DecodeError("a claim is of another type")


def _is_time(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -_LATEST <= value <= _LATEST and math.isfinite(value)


def _are_names(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(each, str) for each in value)
    return isinstance(value, str)


def names_in(claims: Hidden, *names: str) -> frozenset[str]:
    """Gives the names in the first of these claims that is there.

    A text has scopes with spaces between them, and with nothing else (RFC 6749, section 3.3). Of
    roles it is a single one, as AD FS and others write a claim that has one value: who has the
    role "Help Admin" is no "Admin".
    """
    said = claims.cell_contents
    value: Any = next((said[name] for name in names if said.get(name) is not None), [])
    if isinstance(value, str):
        value = [value] if "roles" in names else value.split(" ")
    return frozenset(value) - {""}


def app_of(claims: Hidden) -> str | None:
    """Says which app has asked for a token; None where that is not said."""
    return _first(claims, ("azp", "appid", "client_id", "cid"))


def is_app(claims: Hidden, kind: AuthorityKind) -> bool:
    """Whether a token is of an app by itself, without a user.

    Microsoft says so in ``idtyp``, which an API's registration has to ask for. Without it, a token
    without scopes is an app's whose subject is the app: its object, or its client id. Azure AD B2C
    writes an app's roles where a user's scopes are, and does not tell the two apart.

    Args:
        claims: What it says.
        kind: That of the authority.
    """
    said = claims.cell_contents
    if kind != "oidc" and "idtyp" in said:
        return bool(said["idtyp"] == "app")
    if kind != "oidc" and "scp" in said:
        return False
    subject, app = said.get("sub"), app_of(claims)
    if kind == "adfs" and subject is None:
        return app is not None
    return subject is not None and subject in (said.get("oid") if kind != "oidc" else None, app)


def is_for_graph(claims: Hidden) -> bool:
    """Whether a token is one for Microsoft Graph, which nobody else can verify."""
    audience = claims.cell_contents.get("aud")
    return isinstance(audience, str) and audience in _GRAPH


def is_id_token(claims: Hidden, kind: AuthorityKind) -> bool:
    """Whether a token says who has signed in, and is no access token.

    Its audience is the app that the user has signed in to, which may be that of the API.

    Args:
        claims: What it says.
        kind: That of the authority.
    """
    said = claims.cell_contents
    # The hashes of OpenID Connect Core, section 3.3.2.11; and what Keycloak calls it.
    if "at_hash" in said or "c_hash" in said or said.get("typ") == "ID":
        return True
    if kind == "oidc":
        named = any(name in said for name in ("scp", "scope", "client_id", "cid", "roles"))
        return not named and ("azp" not in said or "nonce" in said)
    # Microsoft's access tokens say which app has asked for them, and its id tokens do not.
    return app_of(claims) is None or not (is_app(claims, kind) or "scp" in said)


def _first(claims: Hidden, names: Iterable[str]) -> str | None:
    found: list[Any] = [claims.cell_contents.get(name) for name in names]
    return next((each for each in found if isinstance(each, str) and each), None)
