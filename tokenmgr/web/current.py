"""The current caller, for helpers deep inside of a web API, whichever framework it is made with.

What is current is so for one request: in its own code, in the tasks that this starts, in the
threads that the framework or ``asyncio.to_thread()`` start for it, and in its background tasks. A
thread of the program's own starts with nothing: run its function in ``contextvars.copy_context()``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar, cast

from .._runtime.secrecy import Unpicklable
from ..errors import ConfigurationError
from ..manager import AccessTokenManager
from ..registry import TokenRegistry
from ..token import AccessToken, normalize_scopes
from ._api import Call, under_way
from ._marks import Needs, mark_needs, needs
from .caller import Caller

__all__ = ["CallersManager", "caller", "on_behalf_of", "registry", "require", "required"]

P = ParamSpec("P")
T = TypeVar("T")


def _call() -> Call:
    call = under_way.get()
    if call is None:
        raise ConfigurationError(
            "there is no call under way here that tokenmgr knows of: call init_app(app) of the "
            "framework's module in tokenmgr.web (with Django name its middleware, or decorate the "
            "view with required()), and ask in the course of a request; a thread of your own is to "
            "run in contextvars.copy_context()"
        )
    return call


def caller() -> Caller:
    """Gives whoever has sent the request that is under way.

    Raises:
        BearerRefusedError: The route is anonymous, and nobody who is accepted has called.
        ConfigurationError: No request is under way.
    """
    return _call().caller


def require(scopes: str | Iterable[str] = (), roles: str | Iterable[str] = ()) -> Caller:
    """Gives the current caller, who has one of the scopes, or of the roles.

    The rule is that of :meth:`BearerValidator.check() <tokenmgr.web.bearer.BearerValidator.check>`.

    Args:
        scopes: Delegated permissions, such as ``"Orders.Read"``.
        roles: App roles, such as ``"Orders.Read.All"``.

    Raises:
        BearerRefusedError: The caller has none of them (403); or as :func:`caller`.
        ConfigurationError: No request is under way, or it is no text that was given.
    """
    return meet(needs(scopes, roles))


def meet(needed: Needs) -> Caller:
    """Does as :func:`require`, for what was looked at before."""
    call = _call()
    if needed.scopes or needed.roles:
        call.api.validator.check(call.caller, scopes=needed.scopes, roles=needed.roles)
    return call.caller


def required(
    scopes: str | Iterable[str] = (), roles: str | Iterable[str] = ()
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorates a view, sync or async, which only some callers may see: those of :func:`require`.

    Args:
        scopes: Delegated permissions, such as ``"Orders.Read"``.
        roles: App roles, such as ``"Orders.Read.All"``.

    Raises:
        ConfigurationError: The view is anonymous, or it is no text that was given.
    """
    needed = needs(scopes, roles)

    def decorate(view: Callable[P, T]) -> Callable[P, T]:
        if inspect.iscoroutinefunction(view):

            @functools.wraps(view)
            async def checked(*args: P.args, **kwargs: P.kwargs) -> Any:
                meet(needed)
                return await view(*args, **kwargs)
        else:

            @functools.wraps(view)
            def checked(*args: P.args, **kwargs: P.kwargs) -> Any:
                meet(needed)
                return view(*args, **kwargs)

        mark_needs(checked, needed)
        return cast("Callable[P, T]", checked)

    return decorate


def on_behalf_of(*scopes: str | Iterable[str]) -> AccessTokenManager:
    """Gives the manager of the current caller's token for another API.

    It is this caller's for good: ask again in the next request.

    Args:
        *scopes: What the token is for, such as ``https://graph.microsoft.com/User.Read``.

    Raises:
        BearerRefusedError: An app has called by itself (403); or as :func:`caller`.
        TokenManagerError: As :meth:`TokenRegistry.on_behalf_of()
            <tokenmgr.TokenRegistry.on_behalf_of>` has it.
    """
    call = _call()
    return call.api.on_behalf_of(call.caller, *scopes)


def registry() -> TokenRegistry:
    """Gives the registry of the API whose request is under way.

    Raises:
        ConfigurationError: No request is under way, or the registry cannot be made.
    """
    return _call().api.registry


class CallersManager(Unpicklable):
    """Gives the token of whoever is the current caller, each time anew.

    It is for a client that the whole program has, and that asks for a token with each request, as
    every ``BearerAuth`` of ``tokenmgr.http`` does. A client that keeps tokens would hand one
    caller's to the next: azure-core's do, and its credentials (``tokenmgr.http.azure``) refuse it.

    Example:
        >>> import httpx
        >>> from tokenmgr.http.httpx import BearerAuth
        >>> from tokenmgr.web.current import CallersManager
        >>> graph = CallersManager("https://graph.microsoft.com/User.Read")
        >>> client = httpx.AsyncClient(auth=BearerAuth(graph))

    Args:
        *scopes: What the tokens are for.

    Raises:
        InvalidScopeError: A scope is none.
        ConfigurationError: There is none.

    What its methods raise is what :func:`on_behalf_of` does, and the same method of
    :class:`~tokenmgr.AccessTokenManager`.
    """

    def __init__(self, *scopes: str | Iterable[str]) -> None:
        self._scopes = normalize_scopes(scopes)

    def __repr__(self) -> str:
        return f"<CallersManager of {' '.join(self._scopes)}>"

    # It has no key, by which it would be taken for the manager of one token.

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes of its tokens, sorted."""
        return self._scopes

    def get_access_token(
        self, *, min_ttl: float | None = None, timeout: float | None = None
    ) -> str:
        """Gives the current caller's token: the text that goes behind ``Bearer``."""
        return self.get_token(min_ttl=min_ttl, timeout=timeout).secret

    async def aget_access_token(
        self, *, min_ttl: float | None = None, timeout: float | None = None
    ) -> str:
        """Does as :meth:`get_access_token`, and never blocks the event loop."""
        return (await self.aget_token(min_ttl=min_ttl, timeout=timeout)).secret

    def get_token(
        self,
        *,
        min_ttl: float | None = None,
        timeout: float | None = None,
        claims: str | None = None,
    ) -> AccessToken:
        """Gives the current caller's token, with its times."""
        return on_behalf_of(*self._scopes).get_token(
            min_ttl=min_ttl, timeout=timeout, claims=claims
        )

    async def aget_token(
        self,
        *,
        min_ttl: float | None = None,
        timeout: float | None = None,
        claims: str | None = None,
    ) -> AccessToken:
        """Does as :meth:`get_token`, and never blocks the event loop."""
        manager = on_behalf_of(*self._scopes)
        return await manager.aget_token(min_ttl=min_ttl, timeout=timeout, claims=claims)

    def headers(self) -> dict[str, str]:
        """Gives ``{"Authorization": "Bearer …"}`` with the current caller's token."""
        return on_behalf_of(*self._scopes).headers()

    async def aheaders(self) -> dict[str, str]:
        """Does as :meth:`headers`, and never blocks the event loop."""
        return await on_behalf_of(*self._scopes).aheaders()

    def invalidate(self, token: str | AccessToken) -> None:
        """Drops a token of the current caller's that a resource refused."""
        on_behalf_of(*self._scopes).invalidate(token)
