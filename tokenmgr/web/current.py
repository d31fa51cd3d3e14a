"""The current caller, for helpers deep inside of a web API, whichever framework it is made with.

What is current is so for one request: in its own code, in the tasks that this starts, in the
threads that the framework or ``asyncio.to_thread()`` start for it, and in its background tasks. A
thread of the program's own starts with nothing: run its function in ``contextvars.copy_context()``.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import ConfigurationError
from ..manager import AccessTokenManager
from ..registry import TokenRegistry
from ._api import Call, under_way
from .caller import Caller

__all__ = ["caller", "on_behalf_of", "registry", "required"]


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


def required(*, scopes: Iterable[str] = (), roles: Iterable[str] = ()) -> Caller:
    """Gives the current caller, who has one of the scopes, or of the roles.

    The rule is that of :meth:`BearerValidator.check() <tokenmgr.web.bearer.BearerValidator.check>`.

    Args:
        scopes: Delegated permissions, such as ``"Orders.Read"``.
        roles: App roles, such as ``"Orders.Read.All"``.

    Raises:
        BearerRefusedError: The caller has none of them (403); or as :func:`caller`.
        ConfigurationError: No request is under way.
    """
    call = _call()
    call.api.validator.check(call.caller, scopes=scopes, roles=roles)
    return call.caller


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
