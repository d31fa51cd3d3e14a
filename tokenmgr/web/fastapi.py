"""Protects an API that is made with FastAPI: ``init_app(app)``.

What :mod:`tokenmgr.web.starlette` says of requests, mounted applications, websockets and the
lifespan is so here too: every route needs a bearer that is accepted, unless it is
:func:`anonymous`, and whatever router it is included by. FastAPI's own pages (``/docs``,
``/redoc``, ``/openapi.json``) stay open, as browsers have no bearer to show there:
``FastAPI(openapi_url=None)`` has none of them. Where routes of an included router are of a class
that has ``matches()`` of its own, nobody can tell beforehand which route answers: they need a
bearer though they are anonymous, and so do the routes behind them.

A path operation asks for who has called, and for tokens on their behalf, by annotations, and the
OpenAPI document has them::

    @app.get("/orders")
    async def orders(
        caller: Annotated[Caller, Required(scopes=["Orders.Read"])],
        graph: Annotated[AccessTokenManager, OnBehalfOf("https://graph.microsoft.com/User.Read")],
    ): ...

``dependencies=[Required(roles=["Orders.Read.All"])]`` does so for a route, a router or the
application. Of several such marks each has to be met. FastAPI's own ``Security(dependency,
scopes=[…])`` works as well: where one of these is below it, the caller needs every one of its
scopes.
"""

# Without "from __future__ import annotations": FastAPI reads the annotations of __call__ below, and
# finds no module to look up their words in.

from collections.abc import Iterable
from typing import Annotated, Any

try:
    from fastapi import FastAPI, Security, routing
    from fastapi.openapi.models import HTTPBearer as _Scheme
    from fastapi.security import SecurityScopes
    from fastapi.security.base import SecurityBase
    from starlette.routing import Match
except ImportError as _missing:
    raise ImportError(
        "tokenmgr.web.fastapi needs FastAPI: pip install 'tokenmgr[fastapi]'", name=_missing.name
    ) from _missing

from ..manager import AccessTokenManager
from ..token import normalize_scopes
from ._api import Api, RegistryGiven, current_call
from ._marks import Needs, anonymous, is_anonymous, needs
from .caller import Caller
from .current import caller, on_behalf_of, registry, require, required
from .starlette import protect, ready

__all__ = [
    "Caller",
    "CurrentCaller",
    "OnBehalfOf",
    "Required",
    "anonymous",
    "caller",
    "init_app",
    "on_behalf_of",
    "ready",
    "registry",
    "require",
    "required",
]

#: What the scheme is called in the OpenAPI document.
_NAME = "EntraBearer"


def init_app(
    app: FastAPI,
    registry: RegistryGiven = None,
    *,
    audience: str | Iterable[str] | None = None,
    tenants: Iterable[str] | None = None,
    leeway: float = 60.0,
    apps_without_roles: bool = False,
) -> None:
    """Protects an application: from now on its routes need a bearer, if they are not anonymous.

    Routes may come before and after it.

    Args:
        app: The application, before its first request.
        registry: As for :func:`tokenmgr.web.starlette.init_app`, and so is what follows.
        audience: For whom bearers have to be.
        tenants: Whose callers are let in.
        leeway: Seconds by which clocks may differ.
        apps_without_roles: Whether apps are let in that have no app role of this API.

    Raises:
        ConfigurationError: As there.
    """
    api = Api(
        registry,
        audience=audience,
        tenants=tenants,
        leeway=leeway,
        apps_without_roles=apps_without_roles,
    )
    protect(app, api, _told)
    _open_pages(app)
    _document(app)


# Dependencies


class _Shown(str):
    """A scope that a dependency of ours shows, equal to any other of its name.

    So it is told from those that are asked for above it, among which FastAPI lists it.
    """

    __slots__ = ()


class _Bearer(SecurityBase):
    """Gives the caller, and shows in the OpenAPI document.

    Args:
        needed: What the caller needs.
        shown: What it is shown with; that is the same if left out.
    """

    def __init__(self, needed: Needs | None = None, shown: tuple[str, ...] | None = None) -> None:
        self.model = _Scheme(bearerFormat="JWT")
        self.scheme_name = _NAME
        self._needed = needed or needs((), ())
        self.shown = (*self._needed.scopes, *self._needed.roles) if shown is None else shown

    async def __call__(self, asked: SecurityScopes) -> Any:
        # What is asked for by dependencies above, in FastAPI's own way: all of it is needed, though
        # one of our own may be of the same name, of which any other would do.
        for scope in asked.scopes:
            if not isinstance(scope, _Shown):
                require([scope])
        return self._give(current_call().meet(self._needed))

    def _give(self, caller: Caller) -> Any:
        return caller


class _OnBehalf(_Bearer):
    """Gives the manager of a token of the caller's."""

    def __init__(self, scopes: tuple[str, ...]) -> None:
        super().__init__(shown=scopes)

    def _give(self, caller: Caller) -> AccessTokenManager:  # noqa: ARG002 - it is the current one
        return on_behalf_of(*self.shown)


def _asked_for(needed: _Bearer) -> Any:
    # Not cached: FastAPI would take what was found without the scopes above it, where all of those
    # are among its own.
    return Security(needed, scopes=[_Shown(each) for each in needed.shown], use_cache=False)


#: Whoever has called: ``def orders(caller: CurrentCaller)``.
CurrentCaller = Annotated[Caller, Security(_Bearer())]


def Required(  # noqa: N802 - spelled as Depends
    scopes: str | Iterable[str] = (), roles: str | Iterable[str] = ()
) -> Any:
    """Asks for a caller who has one of the scopes, or of the roles: a dependency.

    The rule is that of :meth:`BearerValidator.check() <tokenmgr.web.bearer.BearerValidator.check>`.
    Who does not meet it is answered with 403.

    Args:
        scopes: Delegated permissions, such as ``"Orders.Read"``.
        roles: App roles, such as ``"Orders.Read.All"``.
    """
    return _asked_for(_Bearer(needs(scopes, roles)))


def OnBehalfOf(*scopes: str) -> Any:  # noqa: N802 - spelled as Depends
    """Asks for the manager of a token for another API, of the caller's: a dependency.

    It is an :class:`~tokenmgr.AccessTokenManager`, which asks Entra when it is asked for a token.
    An app that calls by itself is answered with 403.

    Args:
        *scopes: What the token is for, such as ``https://graph.microsoft.com/User.Read``.

    Raises:
        InvalidScopeError: A scope is none.
        ConfigurationError: There is none.
    """
    normalize_scopes(scopes)
    return _asked_for(_OnBehalf(scopes))


# The application's routes and its document


def _routes(app: FastAPI) -> Iterable[Any]:
    """All routes, those of included routers among them, in their order."""
    return _flattened(app.routes)


def _flattened(routes: Iterable[Any]) -> Iterable[Any]:
    # Newer versions keep included routers as they are, and have this to look into them.
    found: Iterable[Any] = getattr(routing, "iter_route_contexts", iter)(routes)
    return found


def _told(app: FastAPI) -> Iterable[Any]:
    """The same, as far as can be told which of them will answer."""
    for route in app.routes:
        for each in _flattened([route]):
            included = getattr(each, "original_route", route)
            own = isinstance(included, routing.APIRoute) and included is not route
            # A class of the program's that decides by itself what it matches: FastAPI asks it when
            # it is included too, and nobody else can.
            odd = own and type(included).matches is not routing.APIRoute.matches
            yield _Untold if odd else each


class _Untold:
    """Stands for a route of which nobody can tell whether it is the one that answers."""

    @staticmethod
    def matches(_: object) -> tuple[Match, dict[str, Any]]:
        return Match.FULL, {}


def _open_pages(app: FastAPI) -> None:
    """Marks FastAPI's own pages as anonymous."""
    for route in app.routes:
        endpoint = getattr(route, "endpoint", None)
        if getattr(endpoint, "__module__", None) == FastAPI.__module__:
            anonymous(endpoint)


def _document(app: FastAPI) -> None:
    """Has the OpenAPI document say that all operations need a bearer, but for anonymous ones."""
    own = app.openapi

    def openapi() -> dict[str, Any]:
        document = own()  # the same object each time
        document["security"] = [{_NAME: []}]
        scheme = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        document.setdefault("components", {}).setdefault("securitySchemes", {})[_NAME] = scheme
        for route in _routes(app):
            if is_anonymous(getattr(route, "endpoint", None)):
                operations = document["paths"].get(route.path_format, {})
                for method in route.methods or ():
                    operations.get(method.lower(), {}).setdefault("security", [])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents
