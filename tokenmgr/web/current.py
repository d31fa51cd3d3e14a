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

from ..errors import ConfigurationError
from ..manager import AccessTokenManager
from ..registry import TokenRegistry
from ._api import Call, under_way
from ._marks import mark_needs, needs
from .caller import Caller

__all__ = ["caller", "on_behalf_of", "registry", "require", "required"]

P = ParamSpec("P")
T = TypeVar("T")


def _call() -> Call:
    call = under_way.get()
    if call is None:
        raise ConfigurationError(
            "there is no call under way here: call init_app(app) of the framework's module in "
            "tokenmgr.web, and ask in the course of a request; a thread of your own is to run in "
            "contextvars.copy_context()"
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
    call = _call()
    needed = needs(scopes, roles)
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
                require(*needed)
                return await view(*args, **kwargs)
        else:

            @functools.wraps(view)
            def checked(*args: P.args, **kwargs: P.kwargs) -> Any:
                require(*needed)
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
