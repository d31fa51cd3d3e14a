"""What a caller is told whose bearer is not accepted: why, and what to do next.

Each message becomes an ``error_description`` (RFC 6750, section 3), and so has neither quotes nor
backslashes, nor anything of the token.
"""

from __future__ import annotations

import jwt

from .._runtime.secrecy import Hidden
from ..errors import BearerRefusedError
from ..identity.authority import AuthorityKind
from ._claims import is_for_graph, is_id_token

__all__ = ["named_refusal", "refusal", "refusal_of", "unknown_key", "wrong_issuer"]

_ANOTHER = "ask the authority for an access token of this API, and send that"
_GRAPH = f"the token is one for Microsoft Graph, which this API is not: {_ANOTHER}"
_FOR_NO_API = (
    "the token is an ID token, which tells the app that asked for it who has signed in, and is for "
    "no API: send the access token"
)
_BOUND = (
    "the token is bound to a key that its owner has to show, and this API takes bearers alone: ask "
    "the authority for a token of the type Bearer"
)
_READABLE = f"the bearer is no access token that can be read: {_ANOTHER}"
#: By the kind of what is wrong; of several that fit, the first.
_WHY: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "the token has expired: send a new one"),
    (
        jwt.ImmatureSignatureError,
        "the token is not valid yet: send it later, and see to the clocks of both machines",
    ),
    (jwt.InvalidAudienceError, f"the token is for another API: {_ANOTHER}"),
    (jwt.InvalidSignatureError, f"the token was not signed by the authority: {_ANOTHER}"),
    (
        jwt.InvalidAlgorithmError,
        f"the token is signed in a way in which the authority signs none: {_ANOTHER}",
    ),
    (
        jwt.MissingRequiredClaimError,
        f"the token lacks its issuer, its audience or its end: {_ANOTHER}",
    ),
)


def refusal(why: str, *, error: str | None = "invalid_token") -> BearerRefusedError:
    """Makes the error of a bearer that is not accepted."""
    return BearerRefusedError(why, error=error)


def refusal_of(kind: type[Exception], said: Hidden, authority: AuthorityKind) -> BearerRefusedError:
    """Makes the error that stands for one of PyJWT's.

    Args:
        kind: The kind of that.
        said: What the token says, a dict, true or not.
        authority: The kind of the authority.
    """
    if issubclass(kind, jwt.InvalidSignatureError) and is_for_graph(said):
        return refusal(_GRAPH)
    named = None
    if issubclass(kind, jwt.InvalidAudienceError):
        named = named_refusal(said, authority)
    if named is not None:
        return named
    return refusal(next((why for each, why in _WHY if issubclass(kind, each)), _READABLE))


def named_refusal(said: Hidden, authority: AuthorityKind) -> BearerRefusedError | None:
    """Makes the error of a token that is no access token of any API's; None for any other."""
    if is_for_graph(said):
        return refusal(_GRAPH)
    if is_id_token(said, authority):
        return refusal(_FOR_NO_API)
    # Nothing here proves that the caller has the key (RFC 7800, section 3.1).
    return refusal(_BOUND) if "cnf" in said.cell_contents else None


def unknown_key(said: Hidden) -> BearerRefusedError:
    """Makes the error of a token whose key the authority does not have.

    Args:
        said: What the token says, a dict, true or not.
    """
    if is_for_graph(said):
        return refusal(_GRAPH)
    return refusal(f"the token is signed with a key that the authority does not have: {_ANOTHER}")


def wrong_issuer() -> BearerRefusedError:
    """Makes the error of a token of another authority, tenant or user flow."""
    return refusal(
        "the token was issued by another authority, tenant or user flow than this API takes "
        f"callers of: {_ANOTHER}"
    )
