"""Where users are sent back to: which addresses are an app's, and how an answer gets there.

https://learn.microsoft.com/entra/identity-platform/reply-url.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

__all__ = ["RESPONSE_MODES", "Redirect", "is_registered"]

#: How the answer may travel.
RESPONSE_MODES = ("query", "fragment", "form_post")

#: The names of this machine for which any port is as good as the one that is registered.
_LOOPBACK = frozenset({"localhost", "127.0.0.1"})


def is_registered(registered: str, requested: str) -> bool:
    """Whether an address is the one that is registered, by each of its letters.

    On this machine the port may be another one (RFC 8252, section 7.3).
    """
    if registered == requested:
        return True
    one, other = urlsplit(registered), urlsplit(requested)
    return (
        one.hostname in _LOOPBACK
        and one.username is None is other.username
        and (one.scheme, one.hostname, one.path, one.query, one.fragment)
        == (other.scheme, other.hostname, other.path, other.query, other.fragment)
    )


@dataclass(frozen=True)
class Redirect:
    """An answer of the authorization endpoint, on its way to the app.

    Attributes:
        uri: The app's address.
        mode: One of :data:`RESPONSE_MODES`.
        parameters: What the answer says.
    """

    uri: str
    mode: str
    parameters: Mapping[str, str] = field(repr=False)

    @property
    def location(self) -> str:
        """The address with the answer in it, for the modes that have it there."""
        address = urlsplit(self.uri)
        # Entra gives an address without a path the path that browsers would.
        address = address._replace(path=address.path or "/")
        answer = urlencode(self.parameters)
        if not answer:
            return address.geturl()
        if self.mode == "fragment":
            return address._replace(fragment=answer).geturl()
        query = f"{address.query}&{answer}" if address.query else answer
        return address._replace(query=query).geturl()
