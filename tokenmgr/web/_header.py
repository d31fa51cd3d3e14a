"""The Authorization header of a request: the bearer in it, if it is one (RFC 6750, section 2.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .._runtime.secrecy import Hidden
from ._refusals import refusal

__all__ = ["MOST_BYTES", "bearer_in"]

#: Bytes of a header's value, with all in it. What is longer is not looked at.
MOST_BYTES = 16 * 1024
#: What a JWT is written with (RFC 7515, section 7.1).
_WRITTEN = re.compile(r"[A-Za-z0-9_.-]+").fullmatch
_TEXTS = (str, bytes, bytearray)
_SEND = "send Authorization: Bearer, and an access token of this API behind it"


def bearer_in(given: Hidden) -> Hidden:
    """Gives the token that a request has brought, a text that has the shape of a JWT.

    Args:
        given: The header's value, or those of all that there are, or None.

    Raises:
        BearerRefusedError: There is none, or more than one, or what is no token.
    """
    value = _only_one(given)
    if len(value.cell_contents) > MOST_BYTES:
        raise refusal(f"the Authorization header is larger than {MOST_BYTES // 1024} KiB: {_SEND}")
    scheme, _, token = map(Hidden, value.cell_contents.strip(" \t").partition(" "))
    if scheme.cell_contents.lower() != "bearer":
        raise refusal(f"no bearer was sent: {_SEND}", error=None)
    token = Hidden(token.cell_contents.strip(" \t"))
    if not token.cell_contents:
        raise refusal(f"there is no token behind Bearer: {_SEND}")
    if not _WRITTEN(token.cell_contents):
        raise refusal(f"what is behind Bearer has characters that no token has: {_SEND}")
    _check_shape(token)
    return token


def _only_one(given: Hidden) -> Hidden:
    single = given
    if isinstance(given.cell_contents, Sequence) and not isinstance(given.cell_contents, _TEXTS):
        if len(given.cell_contents) > 1:
            raise refusal(f"there is more than one Authorization header: {_SEND}")
        single = Hidden(given.cell_contents[0] if given.cell_contents else None)
    if single.cell_contents is None:
        raise refusal(f"no bearer was sent: {_SEND}", error=None)
    if not isinstance(single.cell_contents, str):
        raise refusal(f"the Authorization header is no text: {_SEND}")
    return single


def _check_shape(token: Hidden) -> None:
    parts = token.cell_contents.count(".") + 1
    if parts == 1:
        raise refusal(
            "the token is opaque, no JWT that this API could read: ask the authority for an access "
            "token with a scope of this API"
        )
    if parts == 5:
        raise refusal(
            "the token is encrypted: have the authority sign the tokens of this API, and encrypt "
            "none"
        )
    if parts != 3:
        raise refusal(f"what is behind Bearer is no JWT: {_SEND}")
