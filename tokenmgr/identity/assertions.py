"""A user's token, as a web API is given it, to be exchanged on that user's behalf.

What it says is read, and not verified: the service does that when it is exchanged. Until then
nothing is believed of it but what makes it useless, its end, and whom to ask, its tenant.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import string
import sys
from collections.abc import Iterable
from itertools import chain
from typing import Any

from .._runtime.secrecy import Hidden, Unpicklable
from ..errors import ConfigurationError, InteractionRequiredError
from .addresses import is_guid

__all__ = ["UserAssertion", "is_deep", "json_part", "text_of"]

_MOST_BYTES = 16 * 1024
#: What is later, in seconds since 1970, is taken for that: some thousand years from now.
_LATEST = 1e11
#: So many objects and lists may be in one another: each takes the stack of whoever copies them.
_DEEPEST = 32
_PREFIX = "bearer "
#: The claims that name a person: those of Microsoft Entra, then those of any issuer (RFC 7519).
_WHO = (("tid", "oid"), ("iss", "sub"))
#: What a JWT is written with (RFC 7515, section 7.1), with the padding that some leave on.
_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-_=.")
_WHAT = "pass the access token that the caller sent to this API, and answer 401 where it is none"


class UserAssertion(Unpicklable):
    """An assertion that may be exchanged. Its repr shows nothing of it.

    Args:
        text: The token (RFC 7519), hidden; see :func:`text_of`.

    Raises:
        InteractionRequiredError: It is no JWT, or larger than 16 KiB: whoever calls has to send
            another one.
    """

    __slots__ = ("_text", "expires_at", "tenant")

    def __init__(self, text: Hidden) -> None:
        if len(text.cell_contents) > _MOST_BYTES:
            raise InteractionRequiredError(
                f"the assertion is larger than {_MOST_BYTES // 1024} KiB: {_WHAT}"
            )
        claims = _claims(text)
        expires_at = _seconds(claims.cell_contents.get("exp"))
        if expires_at is None:
            raise InteractionRequiredError(f"the assertion does not say when it expires: {_WHAT}")
        self._text = text
        #: When it expires, in seconds since 1970.
        self.expires_at: float = expires_at
        #: The GUID of the tenant that it says it is from; None when it says none.
        self.tenant: str | None = None
        tenant = claims.cell_contents.get("tid")
        if isinstance(tenant, str) and is_guid(tenant.lower()):
            self.tenant = sys.intern(tenant.lower())  # which many users have in common

    def text(self) -> str:
        """Gives the token."""
        text: str = self._text.cell_contents
        return text

    def claims(self) -> Hidden:
        """Gives what it says, a dict: true where the service has exchanged it."""
        return _claims(self._text)

    def digest(self, kind: str, client_id: str) -> str:
        """Tells it from all others, by every bit of it, and tells nobody what it is.

        Args:
            kind: That of the authority which exchanges it.
            client_id: The app's that does.
        """
        key = f"tokenmgr user, 1\n{kind}\n{client_id}".encode()
        return _digest(key, self._text)

    def user(self, kind: str, client_id: str) -> str:
        """Tells its user from all others, and tells nobody who that is.

        It is what the assertion says, and true where the service has exchanged it. One that names
        nobody is its own user.

        Args:
            kind: That of the authority which exchanges it.
            client_id: The app's that does.
        """
        claims = _claims(self._text)
        for names in _WHO:
            if all(isinstance(claims.cell_contents.get(name), str) for name in names):
                told = Hidden([*names, *(claims.cell_contents[name] for name in names)])
                key = f"tokenmgr session user, 1\n{kind}\n{client_id}".encode()
                return _digest(key, Hidden(json.dumps(told.cell_contents)))
        return self.digest(kind, client_id)

    def check_time(self, now: float) -> None:
        """Refuses to exchange it once it has expired.

        Args:
            now: The wall clock.

        Raises:
            InteractionRequiredError: It has.
        """
        if now >= self.expires_at:
            raise InteractionRequiredError(
                "the user's token has expired: answer the caller with 401, so that a new one is "
                "sent, and pass that"
            )


def text_of(given: Hidden) -> Hidden:
    """Gives the token of what a caller sent, without ``Bearer`` and one space or more behind it.

    See RFC 6750, section 2.1.

    Raises:
        ConfigurationError: It is no text.
    """
    if not isinstance(given.cell_contents, str):
        raise ConfigurationError(f"an assertion is a string: {_WHAT}")
    if given.cell_contents[: len(_PREFIX)].lower() == _PREFIX:
        return Hidden(given.cell_contents[len(_PREFIX) :].lstrip(" "))
    return given


def _digest(key: bytes, text: Hidden) -> str:
    made = hmac.new(key, text.cell_contents.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(made).decode().rstrip("=")


def _claims(text: Hidden) -> Hidden:
    parts = Hidden(text.cell_contents.split("."))
    whole = len(parts.cell_contents) == 3 and _CHARACTERS.issuperset(text.cell_contents)
    if whole and parts.cell_contents[2] and json_part(Hidden(parts.cell_contents[0])) is not None:
        claims = Hidden(json_part(Hidden(parts.cell_contents[1])))
        if claims.cell_contents is not None:
            return claims
    raise InteractionRequiredError(f"the assertion is no JWT: {_WHAT}")


def json_part(part: Hidden) -> dict[str, Any] | None:
    """Reads a part of a JWT; None where it is none."""
    padding = "=" * (-len(part.cell_contents) % 4)
    try:
        content = Hidden(base64.b64decode(part.cell_contents + padding, b"-_", validate=True))
        said = Hidden(json.loads(content.cell_contents))
    except (ValueError, RecursionError):
        return None
    if not isinstance(said.cell_contents, dict) or is_deep(Hidden([said.cell_contents])):
        return None
    return said.cell_contents


def is_deep(level: Hidden) -> bool:
    """Whether more is in one another than can be copied and written from wherever that is."""
    for _ in range(_DEEPEST):
        level = Hidden(list(chain.from_iterable(map(_inside, level.cell_contents))))
        if not level.cell_contents:
            return False
    return True


def _inside(value: object) -> Iterable[object]:
    value, given = None, Hidden(value)
    if isinstance(given.cell_contents, dict):
        return list(given.cell_contents.values())
    return given.cell_contents if isinstance(given.cell_contents, list) else ()


def _seconds(value: object) -> float | None:
    """Reads a time (NumericDate, RFC 7519, section 2); None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    seconds = float(max(-_LATEST, min(value, _LATEST)))
    return seconds if value == value else None  # which NaN is not
