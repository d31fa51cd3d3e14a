"""Api: what every framework's module is made of. No framework in it.

For each request a module asks the API who has called (:meth:`Api.receive`), has that be the call
that is under way (:data:`under_way`), lets the request through if the call has a caller or the
route is anonymous, and answers what is raised as :func:`~tokenmgr.web._answers.answer_to` says.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from .._runtime.forks import renew_in_child
from .._runtime.secrecy import Hidden, Unpicklable
from ..errors import BearerRefusedError, ConfigurationError, TokenManagerError
from ..manager import AccessTokenManager
from ..registry import TokenRegistry, client_of
from ._accepted import Accepted
from ._marks import Needs
from .bearer import BearerValidator
from .caller import Caller

__all__ = ["Api", "Call", "RegistryGiven", "current_call", "elsewhere", "under_way"]

_logger = logging.getLogger("tokenmgr")

#: What a module's ``init_app`` takes for a registry; see :class:`Api`.
RegistryGiven = TokenRegistry | Callable[[], TokenRegistry] | None


class Call:
    """A request that is under way: which API it is of, and who has sent it.

    Args:
        api: The API.
        caller: Who has called; None where nobody was accepted.
        refusal: Why not.
    """

    __slots__ = ("_caller", "api", "refusal")

    def __init__(
        self, api: Api, caller: Caller | None = None, refusal: TokenManagerError | None = None
    ) -> None:
        self.api: Api = api
        self._caller: Caller | None = caller
        self.refusal: TokenManagerError | None = refusal

    @property
    def caller(self) -> Caller:
        """Who has called.

        Raises:
            TokenManagerError: Nobody was accepted: mostly a
                :class:`~tokenmgr.errors.BearerRefusedError`.
        """
        if self._caller is None:
            raise self.refusal or ConfigurationError("this call has no caller")
        return self._caller

    def meet(self, needed: Needs) -> Caller:
        """Gives the caller, who has what is needed.

        Raises:
            TokenManagerError: As :attr:`caller`; or the caller has not: 403.
        """
        caller = self.caller
        if needed.scopes or needed.roles:
            self.api.validator.check(caller, scopes=needed.scopes, roles=needed.roles)
        return caller


#: The call that is under way in this task or thread; None outside of requests. A module sets it
#: before a request's own code runs, and sets it back after; tasks and threads that start meanwhile
#: take it along.
under_way: ContextVar[Call | None] = ContextVar("tokenmgr.call", default=None)
#: Find it where a framework has a context of its own, which a thread may be given instead.
elsewhere: set[Callable[[], Call | None]] = set()


def current_call() -> Call:
    """Gives the call that is under way.

    Raises:
        ConfigurationError: There is none.
    """
    call = under_way.get() or next(filter(None, (find() for find in elsewhere)), None)
    if call is None:
        raise ConfigurationError(
            "there is no call under way here that tokenmgr knows of: call init_app(app) of the "
            "framework's module in tokenmgr.web (with Django name its middleware, or decorate the "
            "view with required()), and ask in the course of a request; a thread of your own is to "
            "run in contextvars.copy_context()"
        )
    return call


class _Opened(NamedTuple):
    registry: TokenRegistry
    validator: BearerValidator
    accepted: Accepted


class Api(Unpicklable):
    """A web API: its registry, what validates its callers' bearers, and whether it is ready.

    There is one for each application of a framework. Making one does nothing: the registry is made
    by :meth:`open`, or by the first request, once in each process. What a process has when it forks
    serves in the children too.

    Args:
        registry: A registry, which stays open when the application ends, as it is the program's;
            or what makes one, and is closed with the application; left out, that is
            :meth:`TokenRegistry.from_env() <tokenmgr.TokenRegistry.from_env>`.
        audience: As for :class:`~tokenmgr.web.bearer.BearerValidator`, and so is what follows.
        tenants: Whose callers are let in.
        leeway: Seconds by which clocks may differ.

    Raises:
        ConfigurationError: ``registry`` is none of these.
    """

    _opened: _Opened | None = None

    def __init__(
        self,
        registry: RegistryGiven = None,
        *,
        audience: str | Iterable[str] | None = None,
        tenants: Iterable[str] | None = None,
        leeway: float = 60.0,
        apps_without_roles: bool = False,
    ) -> None:
        if not (registry is None or isinstance(registry, TokenRegistry) or callable(registry)):
            raise ConfigurationError(
                "registry= is a TokenRegistry, or a callable that makes one, such as "
                f"TokenRegistry.from_env, and no {type(registry).__name__}"
            )
        self._given = TokenRegistry.from_env if registry is None else registry
        self._settings: dict[str, Any] = {
            "audience": audience,
            "tenants": tenants,
            "leeway": leeway,
            "apps_without_roles": apps_without_roles,
        }
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Makes its lock anew in the child."""
        #: Guards the making of the registry, which asks nobody.
        self._lock = threading.RLock()

    # For as long as the application lives

    @property
    def registry(self) -> TokenRegistry:
        """Its registry, which is made now if it is not there yet.

        Raises:
            TokenManagerError: It cannot be made.
        """
        return (self._opened or self.open()).registry

    @property
    def validator(self) -> BearerValidator:
        """What validates its callers' bearers. Raises what :attr:`registry` does."""
        return (self._opened or self.open()).validator

    def open(self) -> _Opened:
        """Makes the registry, unless it is there. Nobody is asked, so an event loop may call it.

        Raises:
            TokenManagerError: It cannot be made: a setting is missing, or cannot be right.
        """
        with self._lock:
            if self._opened is None:
                given = self._given
                registry = given if isinstance(given, TokenRegistry) else given()
                if not isinstance(registry, TokenRegistry):
                    raise ConfigurationError(
                        f"what was given as registry= has made a {type(registry).__name__}, and no "
                        "TokenRegistry: have it return one"
                    )
                validator = BearerValidator(registry, **self._settings)
                accepted = Accepted(client_of(registry)[1].clock)
                self._opened = _Opened(registry, validator, accepted)
            return self._opened

    def close(self) -> None:
        """Closes the registry, if it was made here. Who asks for it next has another one made."""
        registry = self._let_go()
        if registry is not None:
            registry.close()

    async def aclose(self) -> None:
        """Does as :meth:`close`, and never blocks the event loop."""
        registry = self._let_go()
        if registry is not None:
            await registry.aclose()

    def _let_go(self) -> TokenRegistry | None:
        """Forgets what is open; gives the registry, where it is to be closed."""
        with self._lock:
            opened, self._opened = self._opened, None
        return None if opened is None or opened.registry is self._given else opened.registry

    # For each request

    def receive(self, authorization: Sequence[str] | str | None) -> Call:
        """Says whose call a request is. The authority may be asked for its keys, and waited for.

        Args:
            authorization: The values of all ``Authorization`` headers of the request.

        Returns:
            The call, with its caller, or with why there is none, for the route to be told by
            ``call.caller``, unless it is anonymous.
        """
        authorization, given = None, Hidden(authorization)
        try:
            opened, digest, known = self._look(given)
            caller = known or opened.validator.validate(given.cell_contents)
        except TokenManagerError as error:
            return Call(self, None, error.with_traceback(None))
        if known is None:
            opened.accepted.keep(digest, caller)
        return Call(self, caller)

    async def areceive(self, authorization: Sequence[str] | str | None) -> Call:
        """Does as :meth:`receive`, and never blocks the event loop."""
        authorization, given = None, Hidden(authorization)
        try:
            opened, digest, known = self._look(given)
            caller = known or await opened.validator.avalidate(given.cell_contents)
        except TokenManagerError as error:
            return Call(self, None, error.with_traceback(None))
        if known is None:
            opened.accepted.keep(digest, caller)
        return Call(self, caller)

    def _look(self, given: Hidden) -> tuple[_Opened, bytes | None, Caller | None]:
        """Gives what is open, and what is known of a bearer that was accepted before."""
        opened = self._opened or self.open()
        digest = opened.accepted.digest(given.cell_contents)
        return opened, digest, opened.accepted.find(digest)

    def on_behalf_of(self, caller: Caller, *scopes: str | Iterable[str]) -> AccessTokenManager:
        """Gives the manager of a token of the caller's, for another API.

        Args:
            caller: Who has called this one.
            *scopes: What the token is for, such as ``https://graph.microsoft.com/User.Read``.

        Raises:
            BearerRefusedError: An app has called by itself: 403.
            TokenManagerError: As :meth:`TokenRegistry.on_behalf_of()
                <tokenmgr.TokenRegistry.on_behalf_of>` has it.
        """
        if caller.is_app:
            raise BearerRefusedError(
                "this is done on behalf of a user, and the bearer is an app's own: send one that "
                "the app has for a user",
                status=403,
                error="insufficient_scope",
            )
        return self.registry.on_behalf_of(caller.assertion.cell_contents, *scopes)

    # For probes

    def ready(self) -> tuple[int, dict[str, str]]:
        """Says whether this process can serve, as an HTTP status and a body. Nobody is asked.

        Returns:
            200 or 503; see :meth:`TokenRegistry.health() <tokenmgr.TokenRegistry.health>`.
        """
        try:
            is_ready = self.registry.health().ready
        except TokenManagerError as error:
            is_ready = False
            _logger.warning("the API is not ready: %s", error)
        return (200, {"status": "ready"}) if is_ready else (503, {"status": "not ready"})
