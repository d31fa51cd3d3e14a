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

    What happens at a 401, a challenge and a redirect: see :class:`~tokenmgr.http.bearer.Bearer`.
    A refused answer is then in ``response.history``, without its body.

    A client's own ``response`` hook comes before any auth: one that raises for a 401, as with
    ``raise_for_status()``, hides it from the auth, and the token stays. Raise after the call.

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

    Its arguments, and what they raise, are those of ``Bearer``.
    """

    _library: ClassVar[ModuleType] = httpx
