"""What answers hold that are HTTP 200: checked for being what was asked for."""

from __future__ import annotations

from collections.abc import Mapping

from .._runtime.secrecy import Hidden
from ..errors import SidecarError
from .answers import Received, failure_of, json_of
from .overrides import Wanted
from .results import DownstreamResponse, ValidatedToken
from .tokens import check_owner, claims_of, taken_header, token_of

__all__ = ["downstream_response", "header", "validated"]

#: What no answer about a token may say otherwise than the token itself.
_WHO = ("iss", "sub", "tid", "oid", "aud", "azp", "appid")
_WHO_ANSWERS = "check that it is the Microsoft Entra SDK for AgentID that answers there"


def header(answer: Received, wanted: Wanted) -> str:
    """Reads an authorization header, whose token is of whom it was asked for.

    Raises:
        OverrideIgnoredError: It is of somebody else.
        TokenManagerError: There is none.
    """
    given = taken_header(_member(_success(answer), "authorizationHeader"))
    check_owner(token_of(given), wanted)
    return str(given.cell_contents)


def downstream_response(answer: Received) -> DownstreamResponse:
    """Reads what a downstream API has answered.

    Raises:
        TokenManagerError: It was not called, or the answer is none.
    """
    said = _success(answer)
    status = _member(said, "statusCode").cell_contents
    headers, content = _texts(_member(said, "headers")), _member(said, "content")
    whole = isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 599
    if not whole or headers is None or not isinstance(content.cell_contents, (str, type(None))):
        raise SidecarError(
            f"the sidecar's answer is none of a downstream API: {_WHO_ANSWERS}",
            status=answer.status,
        )
    return DownstreamResponse(status, headers, content)


def validated(answer: Received, bearer: Hidden) -> ValidatedToken:
    """Reads what a caller's token says, once it is accepted.

    Raises:
        TokenManagerError: It is not, or the answer is about another token.
    """
    said = _success(answer)
    claims, protocol = _member(said, "claims"), _member(said, "protocol")
    known = isinstance(protocol.cell_contents, str) and protocol.cell_contents.isprintable()
    if not known or not isinstance(claims.cell_contents, dict) or not _is_of(claims, bearer):
        raise SidecarError(
            f"the sidecar's answer is not about the token that it was asked about: {_WHO_ANSWERS}",
            status=answer.status,
        )
    return ValidatedToken(protocol=protocol.cell_contents[:32], claims=claims.cell_contents)


def _success(answer: Received) -> Hidden:
    if answer.status != 200:
        raise failure_of(answer)
    return json_of(answer)


def _member(said: Hidden, name: str) -> Hidden:
    return Hidden(said.cell_contents.get(name))


def _is_of(claims: Hidden, bearer: Hidden) -> bool:
    """Whether claims are a token's, as far as anybody but its reader can tell."""
    own = claims_of(bearer)
    if own.cell_contents is None:
        return True
    return all(own.cell_contents.get(name) == claims.cell_contents.get(name) for name in _WHO)


def _texts(headers: Hidden) -> Mapping[str, str] | None:
    """Headers, each with its values in a row; None where they are none."""
    given = Hidden({} if headers.cell_contents is None else headers.cell_contents)
    found: Hidden = Hidden({})
    if not isinstance(given.cell_contents, dict):
        return None
    for name in given.cell_contents:
        values = Hidden(given.cell_contents[name])
        whole = isinstance(values.cell_contents, list)
        if not whole or not all(isinstance(each, str) for each in values.cell_contents):
            return None
        joined = Hidden(", ".join(values.cell_contents))
        if not name.isprintable() or not joined.cell_contents.isprintable():
            return None
        found.cell_contents[name] = joined.cell_contents
    texts: Mapping[str, str] = found.cell_contents
    return texts
