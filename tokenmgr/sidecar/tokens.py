"""Tokens as they come and go: what may be sent, what may be taken, and whose it is.

What a token says is read, and not verified: whoever it is for does that. Here it tells whether the
sidecar has done what it was asked, which it does not say by itself.
"""

from __future__ import annotations

from typing import Any

from .._runtime.secrecy import Hidden
from ..errors import BearerRefusedError, OverrideIgnoredError, SidecarError
from ..identity.addresses import is_guid
from ..identity.assertions import json_part, text_of
from .overrides import Wanted

__all__ = ["caller_of", "check_owner", "claims_of", "incoming", "taken_header", "token_of"]

#: The longest token that a caller may send, and the longest header that is taken from the sidecar.
_LONGEST_INCOMING, _LONGEST_HEADER = 16_384, 65_536
_SCHEMES = {"bearer": "Bearer", "pop": "PoP"}
_NAMES = ("upn", "preferred_username", "unique_name")


def incoming(given: Hidden) -> Hidden:
    """Takes a caller's token, with or without ``Bearer`` before it.

    Raises:
        BearerRefusedError: There is none, or it could not be sent as a header.
        ConfigurationError: It is no text.
    """
    if given.cell_contents is None or given.cell_contents == "":
        raise BearerRefusedError(
            "no token was sent: send an access token for this API, as Authorization: Bearer",
            error=None,
        )
    text = text_of(given)
    if not _is_visible(text) or len(text.cell_contents) > _LONGEST_INCOMING:
        raise BearerRefusedError("what was sent is no token: send an access token for this API")
    return text


def taken_header(given: Hidden) -> Hidden:
    """Takes the value of an ``Authorization`` header that the sidecar has given.

    Raises:
        SidecarError: It is none, or would end the header that it is put into.
    """
    whole = isinstance(given.cell_contents, str) and len(given.cell_contents) <= _LONGEST_HEADER
    parts = Hidden(given.cell_contents.split(" ") if whole else [])
    if len(parts.cell_contents) == 2 and _is_visible(Hidden(parts.cell_contents[1])):
        scheme = _SCHEMES.get(parts.cell_contents[0].lower())
        if scheme is not None:
            return Hidden(f"{scheme} {parts.cell_contents[1]}")
    raise SidecarError(
        "the sidecar's answer holds no authorization header that could be sent: check that it is "
        "the Microsoft Entra SDK for AgentID that answers there",
        status=200,
    )


def token_of(header: Hidden) -> Hidden:
    """Gives the token of a header that was taken."""
    return Hidden(header.cell_contents.partition(" ")[2])


def claims_of(token: Hidden) -> Hidden:
    """Reads what a token says: a dict; None where nobody but its reader can tell.

    Of a token that is bound to a key it is what the token inside of it says.
    """
    parts = Hidden(token.cell_contents.split("."))
    if len(parts.cell_contents) != 3:
        return Hidden(None)
    claims = Hidden(json_part(Hidden(parts.cell_contents[1])))
    inner = Hidden((claims.cell_contents or {}).get("at"))
    if isinstance(inner.cell_contents, str) and inner.cell_contents.count(".") == 2:
        return Hidden(json_part(Hidden(inner.cell_contents.split(".")[1])))
    return claims


def caller_of(token: Hidden) -> tuple[str, str] | None:
    """Says who a caller's token is of, by tenant and object id; None where it does not say."""
    claims = claims_of(token)
    tenant, user = (_word(claims, name) for name in ("tid", "oid"))
    return (tenant, user) if is_guid(tenant) and is_guid(user) else None


def check_owner(token: Hidden, wanted: Wanted) -> None:
    """Sees that a token is of whom it was asked for.

    Raises:
        OverrideIgnoredError: It is another's, or does not say whose.
    """
    claims = claims_of(token)
    if claims.cell_contents is None:
        if wanted == Wanted(caller=wanted.caller, has_no_user=wanted.has_no_user):
            return
        raise _ignored("does not say whose it is", wanted)
    problem = (
        _wrong_client(claims, wanted)
        or _wrong_user(claims, wanted)
        or _wrong_tenant(claims, wanted)
    )
    if problem:
        raise _ignored(problem, wanted)


def _wrong_client(claims: Hidden, wanted: Wanted) -> str:
    named = {_word(claims, "azp"), _word(claims, "appid")} - {""}
    if wanted.client_id and named != {wanted.client_id}:
        return "is not of the agent that was asked for" if wanted.is_agent else "is of another app"
    return ""


def _wrong_user(claims: Hidden, wanted: Wanted) -> str:
    of_user = _word(claims, "scp") != "" or _word(claims, "idtyp") == "user"
    if wanted.is_app or wanted.has_no_user:
        return "is of a user, and was to be of the app itself" if of_user else ""
    if wanted.is_user and not of_user:
        return "is of the app itself, and was to be of a user"
    if wanted.user_id and (not of_user or _word(claims, "oid") != wanted.user_id):
        return "is not of the agent's user who was asked for"
    if wanted.username:
        names = {_word(claims, name) for name in _NAMES} - {""}
        if not of_user or (names and wanted.username not in names):
            return "is not of the agent's user who was asked for"
    if wanted.caller is not None and of_user and not (wanted.user_id or wanted.username):
        found = _word(claims, "tid"), _word(claims, "oid")
        # In another tenant, where they are a guest, they are another object.
        if found[0] == wanted.caller[0] and found != wanted.caller:
            return "is not of the user on whose behalf it was asked for"
    return ""


def _wrong_tenant(claims: Hidden, wanted: Wanted) -> str:
    if wanted.tenant and _word(claims, "tid") != wanted.tenant:
        return "is not of the tenant that was asked for"
    return ""


def _ignored(problem: str, wanted: Wanted) -> OverrideIgnoredError:
    advice = (
        "have its operator set Sidecar__AllowOverrides__GetAuthorizationHeader and, for calls with "
        "as_app=True, Sidecar__AllowOverrides__GetAuthorizationHeaderUnauthenticated, and check "
        "the agent's ids"
    )
    if wanted.client_id and not wanted.is_agent:
        advice = "check client_id=, and which app the sidecar runs as"
    return OverrideIgnoredError(f"the token that the sidecar gave {problem}: {advice}", status=200)


def _word(claims: Hidden, name: str) -> str:
    """A claim that is a text, in lower case; empty where there is none."""
    value: Any = claims.cell_contents.get(name) if claims.cell_contents is not None else None
    return value.lower() if isinstance(value, str) else ""


def _is_visible(text: Hidden) -> bool:
    given: Hidden = text if isinstance(text.cell_contents, str) else Hidden("")
    visible = given.cell_contents.isascii() and given.cell_contents.isprintable()
    return visible and given.cell_contents != "" and " " not in given.cell_contents
