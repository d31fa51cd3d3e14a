"""BearerValidator: whether a bearer that a caller has sent is one for this API, and whose it is.

Everything is decided by the configuration and by what the authority's own metadata says, and
nothing by the token's header: that names the key, one of the authority's, and no other place where
keys might be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .._runtime.secrecy import Unpicklable
from ..registry import TokenRegistry
from .caller import Caller

__all__ = ["BearerValidator", "Caller"]


class BearerValidator(Unpicklable):
    """Validates the bearers that callers send to one API (RFC 6750, RFC 8725).

    Making one asks nobody: the authority is asked for its keys with the first token. It is safe to
    share between threads and event loops, and goes over a fork.

    Example:
        >>> from tokenmgr import TokenRegistry
        >>> from tokenmgr.web.bearer import BearerValidator
        >>> registry = TokenRegistry(
        ...     client_id="11111111-2222-3333-4444-555555555555",
        ...     authority="https://login.microsoftonline.com/contoso.onmicrosoft.com",
        ... )
        >>> validator = BearerValidator(registry)

    Args:
        registry: Has the authority whose tokens are taken, the API's own client id, and the way
            there (``verify=``, ``proxies=``, ``timeout=``). An API that calls no other needs no
            credential in it.
        audience: For whom the tokens have to be, any one of these; left out, the client id and
            ``api://{client id}``.
        tenants: The GUIDs of the tenants whose callers are let in. Left out, those of the
            authority are. ``common`` and ``organizations`` stand for every tenant, and need it;
            ``"*"`` lets every one in on purpose.
        leeway: Seconds by which the authority's clock and this one may differ.

    Raises:
        ConfigurationError: A setting is missing or cannot be right.
    """

    def __init__(
        self,
        registry: TokenRegistry,
        *,
        audience: str | Iterable[str] | None = None,
        tenants: Iterable[str] | None = None,
        leeway: float = 60.0,
    ) -> None:
        raise NotImplementedError

    def validate(self, authorization: Sequence[str] | str | None) -> Caller:
        """Says whose bearer it is, once it has passed every check.

        It waits where the authority's keys are not known yet, or no more, for as long as the
        registry's ``timeout=`` at most: from an event loop call :meth:`avalidate`.

        Args:
            authorization: The value of the ``Authorization`` header, or those of all of them, as
                more than one is refused; None where there is none.

        Raises:
            BearerRefusedError: There is none, or it is not accepted: ``status`` is 401 or 403.
            ServiceUnavailableError: No keys of the authority can be had: it cannot be told.
            AuthorityError: The authority has no metadata, or no keys, that could be used.
            ConfigurationError: The registry is closed.
        """
        raise NotImplementedError

    async def avalidate(self, authorization: Sequence[str] | str | None) -> Caller:
        """Does as :meth:`validate`, from any event loop, and never blocks it."""
        raise NotImplementedError

    def check(
        self, caller: Caller, *, scopes: Iterable[str] = (), roles: Iterable[str] = ()
    ) -> None:
        """Refuses a caller who may not do what it asks for.

        A user passes with any one of the scopes, which is what the app may do for the user. Where
        no scopes are given but roles, a user needs one of these. An app that calls by itself has
        no scopes: it passes with any one of the roles, and where scopes alone are given, not at
        all. Where neither is given, everybody passes. See "Verify scopes and app roles in protected
        web API" on Microsoft Learn.

        Args:
            caller: Who calls.
            scopes: Delegated permissions, as the token has them in ``scp``, such as
                ``"Orders.Read"``.
            roles: App roles, such as ``"Orders.Read.All"``.

        Raises:
            BearerRefusedError: ``status`` is 403, ``error`` is ``insufficient_scope``.
        """
        raise NotImplementedError
