"""A bearer for ``httpx``, for its sync and its async clients.

Source of what it follows: https://www.python-httpx.org/advanced/authentication/, section *Custom
authentication schemes*.
"""

from __future__ import annotations

from types import ModuleType
from typing import ClassVar

try:
    import httpx
except ImportError as _missing:
    raise ImportError(
        "tokenmgr.http.httpx needs httpx: pip install 'tokenmgr[httpx]'", name=_missing.name
    ) from _missing

from ._httpx_flow import BearerFlow

__all__ = ["BearerAuth"]


class BearerAuth(BearerFlow, httpx.Auth):
    """Puts a manager's token on every request: ``httpx.Client(auth=BearerAuth(manager))``.

    The same one serves ``httpx.AsyncClient``, from any event loop, and any number of clients.
    httpx2's clients take that of ``tokenmgr.http.httpx2`` only.

    Where the API answers 401, that very token is dropped and the request is repeated once with a
    new one; where it challenges for claims, with a token of these claims. The first answer is then
    in ``response.history``, without its body; a second one is returned as it is. The first one is
    returned as it is

    * where the body cannot be sent again: a generator, or a file that does not seek;
    * where no new token is to be had: the caller learns what the API said of its request, and the
      next request raises what the token service says;
    * where the new token is the refused one, or its challenge cannot be read.

    A client's own ``response`` hook comes before any auth: one that raises for a 401, as with
    ``raise_for_status()``, hides it from the auth, and the token stays. Raise after the call.

    A redirect to another host carries no token, not even to a host that it is bound to. Plain http
    to this machine, as in development, must not go through a proxy, which could read the token.

    Example:
        >>> import httpx
        >>> from tokenmgr import AccessTokenManager
        >>> from tokenmgr.http.httpx import BearerAuth
        >>> graph = AccessTokenManager.from_secret(
        ...     "contoso.onmicrosoft.com",
        ...     "11111111-2222-3333-4444-555555555555",
        ...     "the secret's value",
        ...     "https://graph.microsoft.com/.default",
        ... )
        >>> client = httpx.Client(auth=BearerAuth(graph))

    Args, and what they raise, are those of :class:`~tokenmgr.http.bearer.Bearer`.
    """

    _library: ClassVar[ModuleType] = httpx
