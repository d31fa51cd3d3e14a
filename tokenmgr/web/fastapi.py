"""Protects an API that is made with FastAPI: ``init_app(app)``.

What :mod:`tokenmgr.web.starlette` says of requests, mounted applications, websockets and the
lifespan is so here too: every route needs a bearer that is accepted, unless it is
:func:`anonymous`, and whatever router it is included by. FastAPI's own pages (``/docs``,
``/redoc``, ``/openapi.json``) stay open, as browsers have no bearer to show there:
``FastAPI(openapi_url=None)`` has none of them.

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
except ImportError as _missing:
    raise ImportError(
        "tokenmgr.web.fastapi needs FastAPI: pip install 'tokenmgr[fastapi]'", name=_missing.name
    ) from _missing

from ..manager import AccessTokenManager
from ..token import normalize_scopes
from ._api import Api, RegistryGiven
from ._marks import Needs, anonymous, is_anonymous, needs
from .caller import Caller
from .current import caller, meet, on_behalf_of, registry, require, required
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
) -> None:
    """Protects an application: from now on its routes need a bearer, if they are not anonymous.

    Routes may come before and after it.

    Args:
        app: The application, before its first request.
        registry: As for :func:`tokenmgr.web.starlette.init_app`, and so is what follows.
        audience: For whom bearers have to be.
        tenants: Whose callers are let in.
        leeway: Seconds by which clocks may differ.

    Raises:
        ConfigurationError: As there.
    """
    protect(app, Api(registry, audience=audience, tenants=tenants, leeway=leeway), _routes)
    _open_pages(app)
    _document(app)


# Dependencies


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
        # What is asked for by dependencies above, in FastAPI's own way: all of it is needed.
        for scope in asked.scopes:
            if scope not in self.shown:
                require([scope])
        return self._give(meet(self._needed))

    def _give(self, caller: Caller) -> Any:
        return caller


class _OnBehalf(_Bearer):
    """Gives the manager of a token of the caller's."""

    def __init__(self, scopes: tuple[str, ...]) -> None:
        super().__init__(shown=scopes)

    def _give(self, caller: Caller) -> AccessTokenManager:  # noqa: ARG002 - it is the current one
        return on_behalf_of(*self.shown)


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
    needed = _Bearer(needs(scopes, roles))
    return Security(needed, scopes=list(needed.shown))


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
    needed = _OnBehalf(scopes)
    return Security(needed, scopes=list(needed.shown))


# The application's routes and its document


def _routes(app: FastAPI) -> Iterable[Any]:
    """All routes, those of included routers among them, in their order."""
    # Newer versions keep included routers as they are, and have this to look into them.
    flattened = getattr(routing, "iter_route_contexts", iter)
    found: Iterable[Any] = flattened(app.routes)
    return found


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
